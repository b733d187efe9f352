package lua51

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Metamethods may be anything that can be called, and what cannot be called
// fails as in Lua: a table with __call as __add was "attempt to perform
// arithmetic", as __lt "attempt to compare", as __eq it was ignored, and so
// was a number. Objects on either side, with the same metatable or another.
func TestMetamethods(t *testing.T) {
	ref := startOracle(t)
	e := newComparableEngine(t)
	programs := 0
	for event, operations := range map[string][]string{
		"__add":      {"x + y"},
		"__sub":      {"x - y"},
		"__mul":      {"x * y"},
		"__div":      {"x / y"},
		"__mod":      {"x % y", "x % 7", "7 % x"},
		"__pow":      {"x ^ y"},
		"__unm":      {"-x", "-(-x)"},
		"__concat":   {"x .. y", "x .. 1 .. y"},
		"__eq":       {"x == y", "x ~= y", "not (x == y)", "(x == y or x ~= y) and 5"},
		"__lt":       {"x < y", "x > y", "x <= y", "x >= y", "table.sort{x or 0, y or 0, x or 0}"},
		"__le":       {"x <= y", "x >= y", "x < y"},
		"__call":     {"(x(y))", "x:k(y)", "pcall(x, y)"},
		"__index":    {"x.k", "x[y]", "(x:k(y))"},
		"__newindex": {"rawset(x, 'k', nil), (function() x.k = y end)()", "(function() x[nil] = y end)()", "(function() x[0/0] = y end)()"},
		"__tostring": {"tostring(x)"},
		"__len":      {"#x"},
	} {
		for _, method := range []string{
			"function(...) print(select('#', ...), type(...), type(select(2, ...))) return 'r' end", "function() end", "function(a, b) return b, a end",
			"function() error('raised', 2) end", "function(a) error('raised', 3) end", "function(a, b) return rawequal(a, nil).k end",
			"setmetatable({}, {__call = function(self, ...) print(select('#', ...)) return 'c' end})",
			"setmetatable({}, {__call = function() error('raised', 2) end})",
			"setmetatable({}, {__call = setmetatable({}, {__call = print})})",
			"rawequal", "string.rep", "error", "select", "print", "{}", "5", "'s'", "true", "false",
		} {
			source := fmt.Sprintf("local m = {} m.%s = %s\nlocal o, p, q = setmetatable({}, m), setmetatable({}, m), setmetatable({}, {%s = m.%[1]s})\n", event, method, event, event)
			source += "local function try(f, x, y) print(pcall(f, x, y)) end\n"
			for _, op := range operations {
				source += "local function f(x, y) return " + op + " end\n"
				for _, operands := range []string{"o, p", "o, o", "o, q", "o, 1", "1, o", "o, '2'", "'2', o", "o, nil", "nil, o", "o, {}", "{}, o", "'a', 'b'", "3, '4'"} {
					source += "try(f, " + operands + ")\n"
				}
			}
			programs++
			want, got := normal(ref.run(t, source)), normal(runHere(t, e, source))
			if diff := cmp.Diff(want, got); diff != "" && differ(nil, got, want) != "depth" {
				t.Errorf("%s = %s (-lua5.1 +here):\n%s\n%s", event, method, diff, source)
			}
		}
	}
	t.Logf("%d programs", programs)
}

// The differences that the search for differences lets pass are those that are
// documented, and no others that look like them.
func TestDifferencesAreNarrow(t *testing.T) {
	const at = `[string "My Script"]:1: `
	tests := []struct {
		name, source, here, lua string
		want                    bool
	}{
		{"text of depth", "f()", at + "stack overflow", at + "C stack overflow", true},
		{"place of depth", "f()", at + "stack overflow", "C stack overflow", true},
		{"depth caught", "f()", at + "false\t" + at + "stack overflow", at + "false\tC stack overflow", true},
		{"other line of depth", "f()", `[string "My Script"]:2: x` + "\t" + at + "stack overflow", at + "x\t" + at + "C stack overflow", false},
		{"depth here alone", "f()", at + "stack overflow", at + "attempt to call a nil value", false},
		{"depth in Lua alone", "f()", at + "attempt to call a nil value", at + "C stack overflow", false},
		{"a place that is missing", "f()", "stack overflow", at + "stack overflow", false},

		{"no name of a chosen value", "(a or b)()", at + "attempt to call a nil value", at + "attempt to call global 'b' (a nil value)", true},
		{"no name of any other value", "b()", at + "attempt to call a nil value", at + "attempt to call global 'b' (a nil value)", false},
		{"another name", "(a or b)()", at + "attempt to call local 'a' (a nil value)", at + "attempt to call global 'b' (a nil value)", false},
		{"a name that Lua lacks", "(a or b)()", at + "attempt to call local 'a' (a nil value)", at + "attempt to call a nil value", false},
		{"another type", "(a or b)()", at + "attempt to call a table value", at + "attempt to call global 'b' (a nil value)", false},
		{"another operation", "(a or b)()", at + "attempt to index a nil value", at + "attempt to call global 'b' (a nil value)", false},
		{"a generator", "for i in nil do end", at + "attempt to call a nil value", at + "attempt to call global 'k' (a nil value)", true},
		{"a word that only looks like an operator", "land()", at + "attempt to call a nil value", at + "attempt to call global 'land' (a nil value)", false},

		{"line of a print at the end", "return print(1)\nf()", at + "1", `[string "My Script"]:2: 1`, true},
		{"line of a print elsewhere", "print(1)\nreturn f()", at + "1", `[string "My Script"]:2: 1`, false},
		{"another text", "return print(1)\nf()", at + "1", `[string "My Script"]:2: 2`, false},

		{"last digit of a power", "print(x ^ y)", at + "9.9999999999999e-251", at + "1e-250", true},
		{"many digits of a power", "print(x ^ y)", at + "1.0001", at + "1", false},
		{"last digit of a product", "print(x * y)", at + "9.9999999999999e-251", at + "1e-250", false},
		{"more than digits", "print(x ^ y)", at + "9.9999999999999e-251 x", at + "1e-250", false},
		{"line of a power", "print(x ^ y)", `[string "My Script"]:2: 1`, at + "1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lua, here := outcome{Failed: true, Error: tt.lua}, outcome{Failed: true, Error: tt.here}
			name := explain(tt.source, here, lua, func() outcome { return lua }, func() outcome { return here })
			if got := name != ""; got != tt.want {
				t.Errorf("explained %q, want %t", name, tt.want)
			}
		})
	}
}

// Each documented difference that random programs show is there, and is
// recognised.
func TestDifferencesAreReal(t *testing.T) {
	ref := startOracle(t)
	e := newComparableEngine(t)
	for _, tt := range []struct{ want, source string }{
		{"depth", "local o = setmetatable({}, {__index = function(t, k) return t[k .. 'x'] end}) print(pcall(function() return o.x end))"},
		{"name", "local b = 's' local x = ((k or 0xA) and b)()"},
		{"name", "g = {1, 2, k} for i in nil do end"},
		{"line", "local function f() return print(1) end\nf()"},
		{"remainder", "print(1e16 % 3)"},
		{"power", "print(math.pow(1e100, -2.5))"},
		{"address", "print(#tostring({}) == #'table')"},
		{"address, power", "print(#tostring({}) == #'table', 1e100 ^ -2.5)"},
	} {
		lua, here := normal(ref.run(t, tt.source)), normal(runHere(t, e, tt.source))
		if here.equal(lua) {
			t.Errorf("%s: no difference", tt.source)
		} else if name := explain(tt.source, here, lua, func() outcome { return normal(ref.runPlain(t, tt.source)) }, func() outcome { return runExact(t, e, tt.source) }); name != tt.want {
			t.Errorf("%s: explained %q, want %q\n  here %+v\nlua5.1 %+v", tt.source, name, tt.want, here, lua)
		}
	}
}
