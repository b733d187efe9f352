package lua51

import (
	"errors"
	"strings"
	"testing"
)

// operators are scripts that use the functions which have no names.
var operators = map[string]string{
	concatName:       "return tostring('x') .. 'x'",
	lengthName:       "return #tostring('x')",
	moduloName:       "return 7 % tostring('7')",
	addName:          "local m = '__add' return 1 + tostring('7')",
	subtractName:     "local m = '__sub' return 1 - tostring('7')",
	multiplyName:     "local m = '__mul' return 1 * tostring('7')",
	divideName:       "local m = '__div' return 1 / tostring('7')",
	powerName:        "local m = '__pow' return 1 ^ tostring('7')",
	negateName:       "local m = '__unm' return -tostring('7')",
	equalName:        "local m = '__eq' return 1 == tostring('7')",
	lessName:         "local m = '__lt' return 1 < tostring('7')",
	lessEqualName:    "local m = '__le' return 1 <= tostring('7')",
	greaterName:      "local m = '__lt' return 1 > tostring('7')",
	greaterEqualName: "local m = '__le' return 1 >= tostring('7')",
	boundName:        "for i = tostring('7'), 1 do end",
	ipairsStep:       "for _ in ipairs({1}) do end",
}

// A panic in any function, wherever a script calls it, fails the script and
// nothing else: no pcall survives it, the host learns what it was,
// and the state that saw it is not healthy.
func TestPanicInEveryFunction(t *testing.T) {
	e := newHost(Limits{})
	for i, name := range e.library.Names() {
		s := e.library.Lookup(name)
		if !s.IsFunction() {
			continue
		}
		original := s.call
		source := "local f = " + name + " local function try() return pcall(f, 'x', 1) end try() log('on')"
		if operator, ok := operators[name]; ok {
			source = operator
		}
		s.call = func(Call) int {
			var none []int
			return none[len(none)] // a fault such as we could make
		}
		before := e.discarded.Load()
		x, err := e.run(t, source)
		s.call = original
		var pe *PanicError
		var f *Failure
		if !errors.As(err, &pe) || !errors.As(err, &f) {
			t.Errorf("%s: %v, want a PanicError", name, err)
			continue
		}
		if !strings.Contains(pe.Error(), "index out of range") || len(pe.Stack) == 0 {
			t.Errorf("%s: the host does not learn what happened: %v", name, pe)
		}
		if seen := f.Message + f.Traceback; revealing.MatchString(seen) || strings.Contains(seen, "out of range") || !strings.Contains(seen, "internal error") {
			t.Errorf("%s: scripts and logs could see %s", name, seen)
		}
		if len(x.logs) > 0 {
			t.Errorf("%s: the script went on", name)
		}
		if e.discarded.Load() != before+1 {
			t.Errorf("%s: the state was not thrown away", name)
		}
		if i%10 == 0 {
			if x, err := e.run(t, `log(("on" .. 1):upper())`); err != nil || x.logged()[0] != "ON1" {
				t.Errorf("after %s: %v, %v", name, x.logs, err)
			}
		}
	}
}
