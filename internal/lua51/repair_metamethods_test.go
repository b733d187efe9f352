package lua51

import (
	"fmt"
	"slices"
	"strings"
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
		{"position of depth", "f()", at + "stack overflow", "C stack overflow", true},
		{"depth caught", "f()", at + "false\t" + at + "stack overflow", at + "false\tC stack overflow", true},
		{"other line of depth", "f()", `[string "My Script"]:2: x` + "\t" + at + "stack overflow", at + "x\t" + at + "C stack overflow", false},
		{"depth here alone", "f()", at + "stack overflow", at + "attempt to call a nil value", false},
		{"depth in Lua alone", "f()", at + "attempt to call a nil value", at + "C stack overflow", false},
		{"depth again", "f()", at + "false\t" + at + "stack overflow", at + "false\terror in error handling", true},
		{"handler in Lua alone", "f()", at + "false\tx", at + "false\terror in error handling", false},
		{"a position that is missing", "f()", "stack overflow", at + "stack overflow", false},

		{"no name of a chosen value", "(a or b)()", at + "attempt to call a nil value", at + "attempt to call global 'b' (a nil value)", true},
		{"no name of a chosen function", "(a and s.len)()", at + "bad argument #1 to '?' (string expected, got no value)", at + "bad argument #1 to 'len' (string expected, got no value)", true},
		{"no name of any other function", "s.len()", at + "bad argument #1 to '?' (string expected, got no value)", at + "bad argument #1 to 'len' (string expected, got no value)", false},
		{"another argument of a chosen function", "(a and s.len)()", at + "bad argument #2 to '?' (string expected, got no value)", at + "bad argument #1 to 'len' (string expected, got no value)", false},
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

		{"a power", "print(2 ^ 3)", at + "9", at + "8", false},
		{"a power that is off by little", "print(2 ^ 0.5)", at + "1.4142135623732", at + "1.4142135623731", false},
		{"the sum of a power", "print(1 + 1e100 ^ -2.5)", at + "2", at + "1", false},
		{"a remainder", "print(5 % 3)", at + "1", at + "2", false},
		{"the remainder of a large number", "print(2^53 % 2)", at + "1", at + "0", false},
		{"the text of a value", "print(tostring({}))", at + "x", at + "table", false},
		{"a length that has to do with no address", "print(tostring({}), #tostring(1))", at + "table\t2", at + "table\t1", false},
		{"a word that is not a numeral", "print(pcall(function() return 'info' + 1 end))", at + "true\t1", at + "false", false},
		{"a word that nothing reads", "print('inf' .. 1)", at + "inf", at + "inf1", false},
		{"the length of an array", "print(#{1, 2, 3})", at + "2", at + "3", false},
		{"text of a value that is not a number", "print(#tostring(-(0/0)))", at + "4", at + "3", false},
		{"text of a zero that has no sign", "print((1 - 1) .. 1)", at + "01", at + "-01", false},
		{"text of a zero that has one", "print(-1 % 1 .. '')", at + "1", at + "2", false},
		{"element of a full array", "print(table.remove({1, 2}), unpack({3, 4}))", at + "1\t3\t4", at + "2\t3\t4", false},
		{"length of a full array", "local t = {} print(#{t.x, unpack({1, 2})})", at + "3", at + "2", false},
		{"a zero byte elsewhere", `print(("a\0b"):find("\0b"), ("a\0b"):find("\0.", 1, true))`, at + "2\tnil", at + "2\t3\tnil", false},
		{"as many lines, without recursion", "print(1) print(1)", at + "1", at + "1", false},
	}
	c := newComparison(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := c.explain(t, tt.source, outcome{Failed: true, Error: tt.here}, outcome{Failed: true, Error: tt.lua})
			if got := name != ""; got != tt.want {
				t.Errorf("explained %q, want %t", name, tt.want)
			}
		})
	}
}

// deepestDiffer is a program whose deepest calls print other lines in Lua,
// where a call from C fails when one from Lua still has room.
const deepestDiffer = "local function f() print(pcall(type, 1))\nprint(pcall(function() print(pcall(type, 1))\nf() end)) end\nf()"

// The depth of calls explains how often lines are printed, and which of them
// show that calls nest too deeply, but no other line.
func TestRecursionIsNarrow(t *testing.T) {
	c := newComparison(t)
	c.oracle.feed(deepestDiffer)
	lua, here := normal(c.oracle.read(t)), normal(runHere(t, c.engine, deepestDiffer))
	isDeep := func(line string) bool { return strings.Contains(line, "stack overflow") }
	for _, tt := range []struct {
		name string
		want bool
		edit func([]string) []string
	}{
		{"as it is", true, func(l []string) []string { return l }},
		{"a line more often", true, func(l []string) []string { return append(l, l[0]) }},
		{"another line", false, func(l []string) []string { return append(l, "x") }},
		{"a line less", false, func(l []string) []string {
			first := l[0]
			return slices.DeleteFunc(l, func(line string) bool { return line == first })
		}},
		{"no depth", false, func(l []string) []string { return slices.DeleteFunc(l, isDeep) }},
		{"another error", false, func(l []string) []string {
			return append(slices.DeleteFunc(l, isDeep), "false\tattempt to call a nil value")
		}},
	} {
		edited := lua
		edited.Printed = tt.edit(slices.Clone(lua.Printed))
		if name := c.explain(t, deepestDiffer, here, edited); (name != "") != tt.want {
			t.Errorf("%s: explained %q, want %t", tt.name, name, tt.want)
		}
	}
}

// Each documented difference that random programs show is there, and is
// recognised.
func TestDifferencesAreReal(t *testing.T) {
	c := newComparison(t)
	for _, tt := range []struct{ want, source string }{
		{"depth", "local o = setmetatable({}, {__index = function(t, k) return t[k .. 'x'] end}) print(pcall(function() return o.x end))"},
		{"name", "local b = 's' local x = ((k or 0xA) and b)()"},
		{"name", "local s = 's' local x = ((k or 0xA) and (s).len)()"},
		{"name", "g = {1, 2, k} for i in nil do end"},
		{"line", "local function f() return print(1) end\nf()"},
		{"recursion", "local function f() print(1) f() end f()"},
		{"recursion", "local o = setmetatable({}, {__add = function(x, y) print(y) return x + y end}) print(pcall(function() return o + 1 end))"},
		{"recursion", deepestDiffer},
		{"remainder", "print(1e16 % 3)"},
		{"power", "print(math.pow(1e100, -2.5))"},
		{"power", "print(1e100 ^ -2.5)"},
		{"power", "print(math.floor(('1e100') ^ (-2.5) * 1e300))"},
		{"numeral", "print(('%5.1f'):format(1e999) + 1, tonumber(' -Infinity '), ('nan'):rep(2))"},
		{"numeral", "for i = 'inf', 1 do end print('NaN(_1)' / 2, -'+INF', math.floor('-inf'), select('#', unpack({1, 2}, 1, 'nan')))"},
		{"sign of NaN", "print(#tostring(0/0), tonumber(0/0, 36)) print(string.len(-5 % 0) + #((0/0) .. ''), ('%s'):rep(2, 1))"},
		{"sign of NaN", "print(#('%5.2f|%%|%d|%-6g|%s|%07.1e'):format(0/0, 1, 0/0, 0/0, 0/0))"},
		{"border", "print(#{nil, 5, nil}, table.getn{nil, 2, nil, 4, nil})"},
		{"border", "local t = {} t[3] = 1 print(#t)"},
		{"border", "local t = {x = 1} t[2] = 1 print(pcall(table.remove, t))"},
		{"border", "local t = {x = 1} t[2] = 1 table.insert(t, 5) table.insert(t, 1, 6) print(t[1], t[2], t[3])"},
		{"border", "local t = {x = 1} t[2] = 1 print(unpack(t)) print(pcall(table.concat, t)) print(pcall(table.sort, t), pcall(table.foreachi, t, print))"},
		{"numeral", "print('inf' ^ 3, '-inf' ^ 3, 'nan' ^ 2)"},
		{"sign of zero", "local n = 0 print(-(5 % 0.5) .. 1)"},
		{"sign of zero", "local z = 0 z = z * -1 print(1 / z, #tostring(z), z .. 1)"},
		{"zero byte", `local t = {} print(#{2, t.x, t.x, unpack({1, 2})}, ("x"):find(".\0l"))`},
		{"zero byte", `print(("a\0b"):match(".\0b"), ("a\0b"):find("\0b"), ("a\0b"):gsub(".\0", "-"))`},
		{"zero byte", `print(("%s %d%% %5.1s %q %s"):format("a\0b", 5, "\0", "x\0", ("\0"):rep(100)))`},
		{"address", "print(#tostring({}) == #'table')"},
		{"address, power", "print(#tostring({}) == #'table', 1e100 ^ -2.5)"},
		{"numeral, power, zero byte", `print('inf' + 1, 1e100 ^ -2.5, ("ab"):match(".\0."))`},
	} {
		c.oracle.feed(tt.source)
		lua, here := normal(c.oracle.read(t)), normal(runHere(t, c.engine, tt.source))
		if here.equal(lua) {
			t.Errorf("%s: no difference", tt.source)
		} else if name := c.explain(t, tt.source, here, lua); name != tt.want {
			again, _ := c.adjusted.run(t, tt.source, way{})
			t.Errorf("%s: explained %q, want %q\n    here %.200q %q\n  lua5.1 %.200q %q\nadjusted %.200q %q", tt.source, name, tt.want, here.Printed, here.Error, lua.Printed, lua.Error, again.Printed, again.Error)
		}
	}
}
