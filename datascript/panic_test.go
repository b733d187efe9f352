package datascript

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// functionNames are all functions that scripts can call.
func functionNames() []string {
	var names []string
	for name, s := range symbols {
		if s.call != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// isOperator reports whether a function is one that stands for an operator, and
// has no name that a script could spell.
func isOperator(name string) bool { return name[0] < 'a' || name[0] > 'z' }

// A panic in any function of the API, at whatever place a script calls it,
// fails the script and nothing else: no pcall survives it, the host learns
// what it was, and the state that saw it is thrown away.
func TestPanicInEveryFunction(t *testing.T) {
	e := newEngine(t, Env{})
	for i, name := range slices.Sorted(maps.Keys(functions)) {
		s := functions[name]
		original := s.call
		source := "local f = " + name + " local function try() return pcall(f, 'x', 1) end try() avi.vs.log('on')"
		for _, ev := range []Event{HTTPReq, HTTPReqData, HTTPResp, HTTPRespData, RespFailed} {
			if !s.events.has(ev) {
				continue
			}
			s.call = func(call) int {
				var none []int
				return none[len(none)] // a fault such as we could make
			}
			x := newExchange()
			x.respond(200, "10.1.1.1:80")
			before := e.Stats()
			err := runAt(t, e, ev, x, source)
			s.call = original
			var pe *PanicError
			var re *RuntimeError
			if !errors.As(err, &pe) || !errors.As(err, &re) {
				t.Errorf("%s: %v, want a PanicError", name, err)
				continue
			}
			if !strings.Contains(pe.Error(), "index out of range") || len(pe.Stack) == 0 {
				t.Errorf("%s: the host is not told what happened: %v", name, pe)
			}
			if seen := re.Message + re.Traceback; revealing.MatchString(seen) || strings.Contains(seen, "out of range") || !strings.Contains(seen, "internal error") {
				t.Errorf("%s: scripts and logs could see %s", name, seen)
			}
			if len(x.logs) > 0 {
				t.Errorf("%s: the script went on", name)
			}
			if after := e.Stats(); after.Discarded != before.Discarded+1 || after.Failures != before.Failures+1 {
				t.Errorf("%s: before %+v, after %+v", name, before, after)
			}
		}
		if i%10 == 0 {
			if x, err := runRequest(t, e, `avi.vs.log(("on" .. 1):upper())`); err != nil || x.logged()[0] != "ON1" {
				t.Errorf("after %s: %v, %v", name, x.logs, err)
			}
		}
	}
}
