package lua51

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A stack overflow is an error as any other, at any depth.
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

// An operator that is a call here needs no level of its own: "..", # and % were
// where the stack overflowed, and not the call that follows them. A function of
// the library does need one, as in Lua.
func TestStackOverflowIsNoOperators(t *testing.T) {
	ref, e := startOracle(t), newComparableEngine(t)
	for _, first := range []string{
		"local x = 'a' .. n .. s", "local x = #s", "local x = n % 0.5", "for i = n, s do break end",
		"local x, y = n + 1, '__add'", "local x, y = n - 1, '__sub'", "local x, y = n * 2, '__mul'", "local x, y = n / 2, '__div'", "local x, y = n ^ 2, '__pow'", "local x, y = -n, '__unm'",
		"local x, y = n == s, '__eq'", "local x, y = n < 1, '__lt'", "local x, y = n <= 1, '__le'", "local x, y = n > 1, '__lt'", "local x, y = n >= 1, '__le'",
		"t[1] = n", "t[20000] = n", "t = {}", "local x = function() return n end",
		"local x = tostring(n)", "local x = s:upper()", "for i in ipairs(t) do end", "local x = ('x' .. s):rep(2)", "local x = (function() return 1 end)()",
	} {
		for _, call := range []string{"f(%s)", "print(pcall(f, %s))", "print(xpcall(function() f(%s) end, function(e) return 'handled ' .. e end))"} {
			source := "local t = {}\nlocal function f(n, s)\n" + first + "\nreturn 1 + f(n + 1, s)\nend\n" + strings.Replace(call, "%s", "1, '7'", 1)
			if got, want := runHere(t, e, source), ref.run(t, source); !got.equal(want) {
				t.Errorf("%s\n   here %q %q\nlua5.1 %q %q", source, got.Printed, got.Error, want.Printed, want.Error)
			}
		}
	}
}

// An error handler is called for errors at any depth: for one at the last level
// there was no level left, and xpcall gave "error in error handling".
func TestHandlerAtAnyDepth(t *testing.T) {
	for _, fails := range []string{"return nil .. 'x'", "local x return x.y", "error('x')", "error({})", "return n:rep()"} {
		x, err := newHost(Limits{}).run(t, `
			local function f(n) if n == 0 then `+fails+` end return 1 + f(n - 1) end
			local own, full = 0, 0
			for depth = 150, 210 do
				local ok, e = xpcall(function() return f(depth) end, function(e) return {e} end)
				assert(not ok and type(e) == 'table', e)
				if type(e[1]) == 'string' and e[1]:endswith('stack overflow') then full = full + 1 else own = own + 1 end
			end
			log(own > 40 and full > 10)`)
		if err != nil || x.logged()[0] != "true" {
			t.Errorf("%s: %q, %v", fails, x.logs, err)
		}
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
