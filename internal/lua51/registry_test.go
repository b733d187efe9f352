package lua51

import (
	"errors"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// The VM panics where its registry or its stack is full, with all that its
// own recovery cannot do then. Calls of any depth, with any number of
// arguments, end in a result or in an ordinary error of the script.
func TestRegistryOverflow(t *testing.T) {
	runs := 6_000
	if testrace.Enabled {
		runs = 600
	}
	if testing.Short() {
		runs = 600
	}
	e := newHost(Limits{Time: time.Minute, Instructions: -1})
	// Each form nests as deep as depth says, and passes n arguments.
	forms := []string{
		"local function f(d, ...) if d > 0 then return 1 + f(d - 1, ...) end return select('#', ...) end return f(depth, unpack(t))",
		"local function f(d, ...) if d > 0 then return f(d - 1, ...) end return ... end return f(depth, unpack(t))",
		"local function f(d, ...) if d > 0 then return (select(2, pcall(f, d - 1, ...))) end return ... end return f(depth, unpack(t))",
		"local function f(d, ...) if d > 0 then return {f(d - 1, ...)} end return {...} end return f(depth, unpack(t))",
		"local function f(d, ...) local a, b, c = ... if d > 0 then local r = {pcall(f, d - 1, ...)} return unpack(r) end return string.char(...) end return f(depth, unpack(t))",
		"local mt = {} mt.__index = function(o, d) if d > 0 then return setmetatable({}, mt)[d - 1] end return select('#', unpack(t)) end return setmetatable({}, mt)[depth]",
	}
	n, depth := 0, 0
	e.library.Declare("", []Entry{{Name: "numbers", Call: func(c Call) int { return c.RetNumber(float64(n)) + c.RetNumber(float64(depth)) }}})
	scripts := make([]*Script, len(forms))
	for i, form := range forms {
		scripts[i] = e.mustCompile(t, `
			local n, depth = numbers()
			local t = setmetatable({}, {__index = function() return 1 end})
			local unpack = function(t) return unpack(t, 1, n) end
			`+form)
	}
	x := &record{}
	overflows, calls := 0, 0
	for i := range runs {
		// Both numbers take all of their values, in an order that mixes them.
		depth, n = i*31%210, 1+i*7919%40
		switch {
		case i%200 == 0: // any number, also more than unpack gives
			n = 1 + i*7919%70_000
		case i%20 == 0: // about as many as fill the registry
			n = (64<<10)/(depth+1) - 20 + n
		}
		calls += depth + 1
		err := e.exec(t.Context(), scripts[i%len(scripts)].Programs()[0], x)
		var re *Failure
		switch {
		case err == nil:
		case !errors.As(err, &re) || re.Cause != nil || revealing.MatchString(re.Message):
			t.Fatalf("form %d with %d arguments, %d deep: %v", i%len(scripts), n, depth, err)
		default:
			overflows++
		}
		x.vars.Reset()
	}
	t.Logf("%d calls in %d runs, of which %d ended with an error", calls, runs, overflows)
	if overflows == 0 || overflows == runs || calls < 100*runs {
		t.Errorf("%d of %d runs failed, with %d calls: the test does not come to the edge", overflows, runs, calls)
	}
	if f, d := e.failures.Load(), e.discarded.Load(); f != int64(overflows) || d < f {
		t.Errorf("%d runs failed, and %d states were thrown away", f, d)
	}
}
