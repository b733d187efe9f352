package lua51

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/testrace"
)

// parameterSamples assign what operators, calls and calls in parentheses give.
var parameterSamples = []string{
	`local function f(x) x = x .. "y" return x end print(f("q"))`,
	`local function f(x) x = "q" .. "y" return x end print(f("q"))`,
	`local function f(x) x = #x return x end print(f("abc"))`,
	`local function f(x) x = (tostring(x)) return x end print(f(5))`,
	`local function f(x) x = (x:sub(1, 1)) return x end print(f("abc"))`,
	`local function f(a, x) x = a .. x return a, x end print(f("q", "r"))`,
	`local function f(x, a) x = x .. a return x, a end print(f("q", "r"))`,
	`local function f(x, ...) x = x .. (...) return x, ... end print(f("q", "r", "s"))`,
	`local function f(x, ...) x = x .. arg[1] return x, arg.n end print(f("q", "r", "s"))`,
	`local function f(x, ...) if x then x = x .. select('#', ...) end return x end print(f("q", "r", "s"))`,
	`function g(x) x = x .. "y" return x end print(g("q"))`,
	`local t = {} function t:m(x) x = x .. #self return x end function t:n() self = (tostring(5)) return self end print(t:m("q"), t:n())`,
	`local function f(x) local a, b = 1, 2 x = (tostring(x)) return x, a, b end print(f(5))`,
	`local function f(x) local a, b, c, d = 1, 2, 3, 4 x = x .. a .. b .. c return x, a, b, c, d end print(f(5))`,
	`local function f(x) for i = 1, 3 do x = x .. i end while #x < 9 do x = x .. "w" end repeat x = x .. "r" until #x > 12 return x end print(f("q"))`,
	`local function f(x) for _, v in ipairs{1, 2} do local a = v x = (x .. a) .. #x end return x end print(f("q"))`,
	`local function f(x) local function g() x = x .. "u" return #x end x = x .. g() return x, g() end print(f("q"))`,
	`local function f(x) x = not (tostring(x)) return x end print(f(5))`,
	`local function f(x) x = x % 3 return x end print(f(5))`,
	`local function f(x) x = x .. "a" == "qa" return x end print(f("q"))`,
	`local function f(a, x) x, a = x .. "y", 1 return a, x end print(f("q", "r"))`,
	`local function f(a, x) x, a = (tostring(x)) return a, x end print(f("q", "r"))`,
	`local function f(a, x) x, a = x .. a return a, x end print(f("q", "r"))`,
	`local function f(a, x) x = tostring(x), 1 return a, x end print(f("q", "r"))`,
	`local function f(a, x) x = x .. "y", print(x) return a, x end print(f("q", "r"))`,
	`local t = {} local function f(k, x, ...) x, t[k .. "z"] = (...) return x, next(t) end print(f("q", "r", 7, 8))`,
	`local t = {} local function f(k, x, ...) x, t[k .. "z"], t[x] = ..., 5 return x, t.qz, t.r end print(f("q", "r", 7, 8))`,
	`local function f(a, b, ...) local c, d = 3, 4 a = (...) return a, b, c, d end print(f(1, 2, 5, 6))`,
	`local function f(a, x) a = x, x .. a x = 5, tostring(x) return a, x end print(f("q", "r"))`,
	`local u, t = 1, {} local function f(x) u, t.k = 5, x return u, t.k end print(f(7)) local function g(x) t.k, u, h = x .. "y", x return t.k, u, h end print(g(7))`,
	`local u = setmetatable({}, {__add = function(x, y) return 1, 2 end, __eq = function(x, y) return 1 end, __lt = function() return 1 end, __unm = function(x) x = x ~= x return x end, __mod = function(x, y) y = x == x return y end, __concat = function(x, y) y = #y return y end, __call = function(u, x) x = x .. "c" return x end})
	local function f(x) x = x + 1 return x end local function g(x) x = x < u return x end local function h(x) x = -x return x end local function i(x) x = x % 2 return x end local function j(x) x = u .. x return x end local function k(x) x = u(x) .. x return x end
	print(f(u), g(u), h(u), i(u), j("abc"), k("q"))`,
}

// The result of .., # or a call in parentheses was lost when it was assigned to
// the last parameter of a function: "x = x .. 'y'" failed, or was an internal
// error.
func TestParameters(t *testing.T) {
	ref := startOracle(t)
	e := newComparableEngine(t)
	for _, source := range parameterSamples {
		want, got := normal(ref.run(t, source)), normal(runHere(t, e, source))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-lua5.1 +here):\n%s", source, diff)
		}
	}
}

// All kinds of values are assigned to all kinds of targets, in functions whose
// parameters stand in all positions, and with others: with -full, to all pairs
// of targets. "x = (...)" lost the local variables behind x, and
// "u, t.k = 5, x" gave u, of an outer function, another value.
func TestAssignments(t *testing.T) {
	ref := startOracle(t)
	e := newComparableEngine(t)
	values := []string{
		"x .. 'y'", "'q' .. 'y'", "#x", "(two(x, y))", "two(x, y)", "(x:upper())", "x:upper()", "(...)", "...", "not (two(x))", "not x", "-z", "(-#x)", "z % 4", "#x % 4", "z + 1",
		"(x .. 'a') .. #x", "x .. y == y", "x < y", "o + x", "o == p", "o ~= p", "o < p", "-o", "o .. x", "o(x)", "(o(x))", "o.k", "(o.k)", "x and y", "x .. y and #y", "(two(x) or y)", "nil", "5", "x", "{two(x, y)}",
		"function() x = x .. 'in' return x end", "(function(x) x = x .. 'in' return x, 1 end)(x)", "two((two(y, x)), #x)", "tostring(#y) .. x",
	}
	targets := []string{"x", "y", "z", "l", "m", "up", "g", "t.k", "t[x]", "t[#t + 1]", "t[x .. y]"}
	parameters := []string{"x, y, z", "y, z, x", "z, x, y", "x, y, z, ...", "y, z, x, ...", "z, x, y, ..."}
	const show = " show(x, y, z, l, m, up, g, t.k, t[1], t.a, t.b, t.ab, t.ba, t.bc, t.cb) "
	frames := []string{"%s", "if x then %s end", "for i = 1, 2 do %s end", "do local a, b, c = x, y, z %s x = a end", "local function h() return x, y, z, l end %s show(h())"}
	const prelude = `local two, up = function(...) return ... end, 'up' g = 'g'
		local function show(...) local s = '' for i = 1, select('#', ...) do local v = select(i, ...)
			if type(v) == 'function' then v = v() elseif type(v) == 'table' and rawget(v, 1) ~= nil then v = v[1] .. ',' .. tostring(v[2]) elseif type(v) == 'table' then v = 'table' end s = s .. tostring(v) .. ' ' end print(s) end
		local mt = {__index = function(o, k) k = k .. 'i' return k, 1 end, __call = function(o, a) a = a .. 'c' return a, 1 end}
		for _, n in ipairs{'__add', '__eq', '__lt', '__unm', '__concat'} do mt[n] = function(a, b) b = n .. n return b, 1 end end
		local o, p, t = setmetatable({}, mt), setmetatable({}, mt), {}
	`
	programs := 0
	check := func(t *testing.T, statement string, step int) {
		for i, params := range parameters {
			frame := frames[(step+i)%len(frames)]
			if !strings.Contains(params, "...") && (strings.Contains(statement, "...")) {
				continue
			}
			names := strings.Split(params, ", ")
			args := map[string]string{"x": "'a'", "y": "'b'", "z": "7", "...": "'v', 'w'"}
			var given []string
			for _, n := range names {
				given = append(given, args[n])
			}
			local := "local l, m = 'l', 'm' "
			if (step+i)%2 == 0 {
				local = "" // l and m are global
			}
			source := prelude + "function f(" + params + ") " + local + fmt.Sprintf(frame, statement) + show + "return #x, x .. y end print(pcall(f, " + strings.Join(given, ", ") + "))"
			programs++
			want, got := normal(ref.run(t, source)), normal(runHere(t, e, source))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-lua5.1 +here):\n%s", source, diff)
			}
		}
	}
	step := 0
	for _, target := range targets {
		for _, value := range values {
			step++
			if testrace.Enabled && step%7 != 0 || testing.Short() && step%59 != 0 {
				continue
			}
			for f := range frames {
				check(t, target+" = "+value, step+f)
			}
			for i, other := range targets {
				if !*full && (step+i)%4 != 0 {
					continue
				}
				more := values[(step+i*11)%len(values)]
				list := []string{target + ", " + other + " = " + value, other + ", " + target + " = " + more + ", " + value, target + " = " + value + ", " + more,
					target + ", " + other + " = " + value + ", " + more, target + ", " + other + ", l = " + value + ", " + more, target + ", " + other + " = " + value + ", " + more + ", " + value}
				if target == other {
					list = list[2:3] // of equal targets, which is assigned last is not defined
				}
				check(t, list[(step/3+i)%len(list)], step+i)
			}
		}
	}
	t.Logf("%d programs", programs)
}

// "s = s .. x" in a loop takes as many instructions wherever s is a parameter,
// and no more than the call and a move.
func TestParameterInstructions(t *testing.T) {
	e := newHost(Limits{})
	for _, tt := range []struct {
		source string
		want   int
	}{
		{"local function f(x) local s = x for i = 1, 9 do s = s .. x end return s end", 13},
		{"local function f(s, x) for i = 1, 9 do s = s .. x end return s end", 12},
		{"local function f(x, s) for i = 1, 9 do s = s .. x end return s end", 12},
		{"local function f(x, s) for i = 1, 9 do s = #x end return s end", 11},
	} {
		s, err := e.compile(tt.source)
		if err != nil {
			t.Fatal(err)
		}
		f := s.Programs()[0].proto.FunctionPrototypes[0].FunctionPrototypes[0]
		calls := slices.IndexFunc(f.Code, func(inst uint32) bool { return int(inst>>26) == lua.OP_CALL })
		if got := len(f.Code); got != tt.want || calls < 0 {
			t.Errorf("%s: %d instructions, want %d", tt.source, got, tt.want)
		}
	}
}
