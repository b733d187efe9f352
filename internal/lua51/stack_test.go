package lua51

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A stack overflow is an error as any other, at whatever depth it happens.
func TestStackOverflow(t *testing.T) {
	e := newHost(Limits{})
	for _, source := range []string{
		"local function f() return 1 + f() end f()",
		"local function f() local ok, e = pcall(f) if not ok then error(e, 0) end end f()",
		"local function f(...) return 1, f(..., ...) end f(1)",
		"local t = {} for i = 1, 7000 do t[i] = i end local function f(...) return 1, f(unpack(t)) end f(1)",
	} {
		_, err := e.run(t, source)
		var re *Failure
		if !errors.As(err, &re) || re.Cause != nil || !strings.HasSuffix(re.Message, `[string "My Script"]:1: stack overflow`) || re.Line != 1 {
			t.Errorf("%s: %+v", source, re)
		}
	}
	// 150 nested calls are no overflow.
	if _, err := e.run(t, "local function f(n) if n > 0 then return 1 + f(n - 1) end return 0 end assert(f(150) == 150)"); err != nil {
		t.Error(err)
	}
	// One that is caught leaves the script as it was.
	x, err := e.run(t, `
		local function f(n) local ok, e = pcall(function() return 1 + f(n + 1) end) return e end
		local e = f(1)
		log(type(e), " ", 1 + 1)`)
	if err != nil || len(x.logs) != 1 {
		t.Errorf("log %q, error %v", x.logs, err)
	}
}

// All arguments counts from 1 to 70,000 end in an error or a result, and no
// panic of the VM leaves the package.
func TestArgumentCounts(t *testing.T) {
	e := newHost(Limits{Time: time.Minute, Instructions: -1})
	n := 0
	e.library.Declare("", []Entry{{Name: "count", Call: func(c Call) int { return c.RetNumber(float64(n)) }}})
	s := e.mustCompile(t, `
		local n = count()
		local t = {}
		for i = 1, n do t[i] = i end
		local function f(...) return select("#", ...) end
		local function g(...) return f(0, ...) end
		pcall(unpack, t) pcall(string.char, unpack(t, 1, n % 8000))
		local ok, m = pcall(g, unpack(t, 1, n % 8000))
		return f(unpack(t))`)
	x := &record{}
	for n = 1; n <= 70_000; n += max(n/37, 1) {
		err := e.exec(t.Context(), s.Programs()[0], x)
		if (err != nil) != (n > maxUnpack) {
			t.Errorf("%d arguments: %v", n, err)
		}
		if pe, ok := errors.AsType[*PanicError](err); ok {
			t.Errorf("%d arguments: %v", n, pe)
		}
		x.vars.Reset()
	}
}
