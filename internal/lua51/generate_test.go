package lua51

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A generator writes small Lua programs at random: most fail sooner or later,
// and the point is that they fail in the same way everywhere. The variables
// are: q and r, arrays without holes; t and u, records; s, a string; f, a
// function; a to e and g to k, anything, some of them global and some local; v
// and w, in some programs, objects with metatables: w can be called, and v has
// the one of u.
type generator struct {
	*rand.Rand
	b     strings.Builder
	depth int
	names []string // local variables in scope that may be anything
}

// program returns a program of some statements.
func (g *generator) program() string {
	g.b.Reset()
	g.names = []string{"a", "b", "c"}
	g.b.WriteString("local q, r = {1, 2, 3}, {'x', 'y', 10, '20'} local t, u = {x = 1, y = 'z', f = function(...) return ... end}, {}\n")
	g.b.WriteString("local s = " + g.pick(stringLiterals...) + " local function f(x, y, ...) " + g.pick("return x", "return y, x, ...", "return x.y", "return x + y", "return ...", "y = x return y .. x", "return select('#', ...)", "error(x)") + " end\n")
	g.b.WriteString("local a, b, c = " + g.literal() + ", " + g.literal() + "\n")
	if g.one(4) {
		g.b.WriteString("function t:m(x) return self.x " + g.pick("+", "..", "==", "<") + " x end\n")
	}
	if g.one(6) {
		g.b.WriteString("setmetatable(u, {" + g.pick("__index = t", "__index = function(t, k) return k end", "__newindex = t", "__call = f", "__add = f", "__concat = function(a, b) return 'cat' end",
			"__eq = function() return true end", "__lt = function() return true end", "__le = f", "__unm = f", "__tostring = function() return 'U' end", "__tostring = f", "__metatable = 1", "__len = f", "__index = 5", "__call = 5") + "})\n")
	}
	if g.one(3) {
		g.metatable()
	}
	for range 2 + g.IntN(5) {
		g.statement()
		switch g.IntN(40) {
		case 0:
			g.line("%s", g.pick("-- a comment", "--[[ a comment ]]", "--[==[ a comment\n]] of two lines ]==]", "--", "--[[]] --"))
		case 1:
			g.line("do local goto = %s print(goto) end", g.expr())
		}
	}
	if g.one(10) {
		g.line("return %s", g.args(3))
	}
	return g.b.String()
}

// metatable gives u and v metamethods of all kinds, and some that cannot be
// called.
func (g *generator) metatable() {
	g.line("local w = setmetatable({}, {__call = %s})", g.pick("f", "print", "5", "t", "t.f", "function(self, x, y) return y end", "function(self, ...) return ... end", "function(self, x, y) return x.x end", "function() error('w', 2) end", "nil"))
	g.line("local m = {} setmetatable(u, m) local v = setmetatable({x = 2}, m)")
	for range 1 + g.IntN(5) {
		event := g.pick("__add", "__sub", "__mul", "__div", "__mod", "__pow", "__unm", "__concat", "__eq", "__lt", "__le", "__index", "__newindex", "__call", "__tostring", "__metatable", "__len")
		g.line("m.%s = %s", event, g.pick("f", "f", "w", "w", "t.f", "5", "'x'", "t", "nil", "false", "print", "rawequal", "tostring", "error", "function(x, y) return "+g.expr()+" end",
			"function(x, y) error('m', 2) end", "function(x, y) error(x, 1) end", "function(...) return select('#', ...) end", "function(x, y) print(type(x), type(y)) return true end", "function(x, y) return y.x.z end", "function(x, y) return x end"))
	}
	if g.one(2) {
		op := g.pick("+", "-", "*", "/", "^", "%", "..", "==", "~=", "<", "<=", ">", ">=")
		g.line("print(pcall(function() return %s %s %s end))", g.pick("u", "v", "w", "1", "'2'", "nil", "s"), op, g.pick("u", "v", "w", "1", "'2'", "nil", "s"))
	}
}

func (g *generator) one(in int) bool { return g.IntN(in) == 0 }

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

var (
	stringLiterals = []string{`""`, `"x"`, `"abc"`, `"10"`, `"0x10"`, `" 5 "`, `"1e2"`, `"-3.5"`, `"a,b"`, `"hello world"`, `"%d"`, `"\1\255"`, `'%a+'`, `[[long]]`, `"010"`, `"\065\n\\"`, `'q"'`, `[==[a]]b]==]`, `"\t z"`, `"\t\0z"`, `"\t\0z"`}
	numberLiterals = []string{"0", "1", "2", "3", "-1", "0.5", "10", "1e15", "1e16", "123456789", "2^53", "1e100", "0x1F", "1e-5", "3.0", "1e14", "100000000000000", "-2.5", "7", "255", "0xA", ".5", "5.", "3e-2", "1E+2"}
)

func (g *generator) literal() string {
	switch g.IntN(9) {
	case 0, 1, 2:
		return g.pick(numberLiterals...)
	case 3, 4:
		return g.pick(stringLiterals...)
	case 5:
		return "nil"
	case 6:
		return g.pick("true", "false")
	case 7:
		return g.pick("{}", "{1, 2}", "{x = 1}")
	default:
		return g.pick("f", "t", "q", "print", "string.rep", "s")
	}
}

func (g *generator) variable() string {
	switch g.IntN(10) {
	case 0, 1, 2, 3, 4:
		return g.names[g.IntN(len(g.names))]
	case 5, 6:
		return g.pick("g", "h", "i", "j", "k") // global, unless a loop declares it
	case 7:
		return "t." + g.pick("x", "y", "z", "f", "m")
	case 8:
		return g.pick("u.x", "u.y", "u.x", "u.y", "u", "v", "w", "v.x")
	default:
		return "s"
	}
}

// expr writes an expression without side effects on arrays.
func (g *generator) expr() string {
	if g.depth++; g.depth > 4 {
		defer func() { g.depth-- }()
		if g.one(2) {
			return g.literal()
		}
		return g.variable()
	}
	defer func() { g.depth-- }()
	switch g.IntN(27) {
	case 24:
		return g.pick("-", "not ", "#") + g.operand()
	case 25:
		return g.operand() + " % " + g.operand()
	case 26:
		switch g.IntN(8) {
		case 0:
			return "(" + g.operand() + " " + g.pick("and", "or") + " " + g.operand() + ")(" + g.args(2) + ")"
		case 1:
			return "(" + g.operand() + " " + g.pick("and", "or") + " " + g.operand() + ")" + g.pick(".x", "[1]", ".x.y", ":len()")
		case 2:
			return g.pick("f", "t.f", "s.rep", "tostring", "a") + g.pick("'x'", "{"+g.args(2)+"}", " [[long]]")
		case 3:
			return g.pick("t:f", "t:m", "s:rep", "s:upper", "u:x", "v:y") + g.pick("'2'", "{"+g.args(2)+"}", "()")
		case 4:
			return "(" + g.pick("'%d-%s'", "'x'", "s") + ")." + g.pick("x", "len", "format")
		case 5:
			return "#{" + g.args(3) + "}"
		case 6:
			return "(function(x, ...) local y = x return function(z) " + g.pick("y = z return x, y", "x, y = y, z return x, y, z", "return y and x or z") + " end end)(" + g.args(2) + ")(" + g.args(2) + ")"
		default:
			if g.one(8) {
				return "..."
			}
			return "(f(" + g.args(3) + "))"
		}
	case 0, 1, 2:
		return g.literal()
	case 3, 4, 5, 6:
		return g.variable()
	case 7, 8:
		if g.one(6) {
			return g.pick("5", "-5", "5.5", "'7'", "nil", "s", "#q", "true", "t") + " % " + g.pick("3", "-3", "'2'", "nil", "0.5", "t", "0", "false", "s")
		}
		return g.operand() + " " + g.pick("+", "-", "*", "/", "^") + " " + g.operand()
	case 9:
		return g.operand() + " .. " + g.operand()
	case 10:
		return g.operand() + " " + g.pick("==", "~=", "<", ">", "<=", ">=") + " " + g.operand()
	case 11:
		return g.operand() + " " + g.pick("and", "or") + " " + g.operand()
	case 12:
		return g.pick("-", "not ", "#") + g.pick("s", "q", "t.x", "t.z", "a", "5", "nil", "'abc'", "(1)", "s.len", "h")
	case 13:
		return "(" + g.expr() + ")"
	case 14:
		return g.pick("t", "u", "q", "s", "a", "b", "g") + "[" + g.expr() + "]"
	case 15:
		return g.pick("f", "t.f", "u.f", "u", "a", "h", "t:m", "s:x", "t.x.y", "q[1]") + "(" + g.args(3) + ")"
	case 16, 17:
		return g.stringCall()
	case 18:
		return g.tableCall()
	case 19:
		return g.mathCall()
	case 20, 21:
		return g.baseCall()
	case 22:
		return "(function(" + g.pick("", "a", "x, y", "...", "x, ...") + ") " + g.pick("return ", "local b = ") + g.expr() + " end)(" + g.args(2) + ")"
	default:
		return "{" + g.args(2) + "}"
	}
}

func (g *generator) operand() string {
	e := g.expr()
	if strings.ContainsAny(e, " -#") && !strings.HasPrefix(e, "(") {
		return "(" + e + ")"
	}
	return e
}

func (g *generator) args(most int) string {
	list := make([]string, g.IntN(most+1))
	for i := range list {
		list[i] = g.expr()
	}
	return strings.Join(list, ", ")
}

// small is an expression that is a small number, mostly.
func (g *generator) small() string {
	if g.one(5) {
		return g.expr()
	}
	return g.pick("0", "1", "2", "3", "-1", "-2", "5", "'2'", "1.5", "nil", "20")
}

func (g *generator) text() string {
	if g.one(4) {
		return g.expr()
	}
	return g.pick("s", "s", `"hello world"`, `"a=1, b=2"`, `"x"`, `""`, "123", `("ab"):rep(3)`)
}

func (g *generator) pattern() string {
	return g.pick(`"%a+"`, `"(%w+)=(%w+)"`, `"."`, `"l+"`, `"^h"`, `"o$"`, `"[^ ]"`, `"()"`, `"%d*"`, `"x"`, `"(.-) "`, `"%"`, `"["`, `"(l)%1"`, `"%bhw"`, `""`, `"%f[%a]%a"`, `".\0l"`, `"l\0"`, "s")
}

func (g *generator) stringCall() string {
	name := g.pick("byte", "char", "find", "format", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper", "gmatch")
	var args []string
	switch name {
	case "byte", "sub":
		args = []string{g.text(), g.small(), g.small()}
	case "char":
		args = []string{g.pick("97", "'97'", "nil", "t", "-1", "256", "65.9"), g.pick("65", "255", "256", "-1", "'66'")}
	case "find", "match":
		args = []string{g.text(), g.pattern(), g.small()}
	case "gmatch":
		args = []string{g.text(), g.pattern()}
	case "gsub":
		args = []string{g.text(), g.pattern(), g.pick(`"%0%0"`, `"-"`, `"%1"`, "t", "f", "{a = 1, l = 'L'}", "function(x) return x and x .. '.' end", "5", "nil", "true"), g.small()}
	case "format":
		args = []string{g.pick(`"%d"`, `"%5.2f"`, `"%s %s"`, `"%q"`, `"%x"`, `"%g"`, `"%-5s|"`, `"%05d"`, `"%i%%"`, `"%e"`, `"%y"`, `"%"`, `"%.3s"`, `"%+d"`, `"%o"`, `"%u"`, `"%#x"`), g.expr(), g.expr()}
	case "rep":
		args = []string{g.text(), g.pick("0", "3", "'2'", "nil", "{}", "-1", "2.7", "true", "20")}
	default:
		args = []string{g.text()}
	}
	args = args[:len(args)-g.IntN(min(2, len(args))+1)]
	if len(args) > 0 && g.one(3) {
		return "(" + args[0] + "):" + name + "(" + strings.Join(args[1:], ", ") + ")"
	}
	return "string." + name + "(" + strings.Join(args, ", ") + ")"
}

func (g *generator) tableCall() string {
	if g.one(6) {
		call := g.pick("rawget(o, 1)", "rawget(o, 'x')", "select('#', next(o))", "table.getn(o)", "table.maxn(o)", "unpack(o)", "table.concat(o)", "#(o)", "select(2, ipairs(o))", "rawequal(o, u)")
		return strings.Replace(call, "(o", "("+g.object(), 1)
	}
	return g.pick("table.concat(q)", "table.concat(q, '-')", "table.concat(r, ', ', 2)", "table.concat(q, "+g.expr()+")", "table.concat(q, '', "+g.small()+", "+g.small()+")",
		"table.getn(q)", "table.maxn(q)", "table.concat({1, "+g.pick("'x'", "{}", "true", "2.5")+", 3})", "unpack(q)", "unpack(q, "+g.small()+")", "unpack(r, "+g.small()+", "+g.small()+")", "table.maxn({x = 1, 5, [10] = "+g.pick(numberLiterals...)+"})", "table.concat()", "table.getn("+g.expr()+")")
}

// object is a table that may have metamethods.
func (g *generator) object() string { return g.pick("u", "v", "w", "t") }

func (g *generator) mathCall() string {
	name := g.pick("abs", "ceil", "floor", "fmod", "max", "min", "modf", "sqrt", "pow", "mod", "frexp", "ldexp", "deg")
	args := g.args(2)
	if g.one(2) {
		args = g.pick(numberLiterals...) + ", " + g.pick(numberLiterals...)
	}
	return "math." + name + "(" + args + ")"
}

func (g *generator) baseCall() string {
	name := g.pick("tostring", "tonumber", "type", "select", "rawequal", "rawget", "getmetatable", "assert", "next", "pcall", "tonumber", "ipairs", "setmetatable", "rawset")
	switch name {
	case "select":
		return "select(" + g.pick("'#'", "1", "2", "-1", "0", "-5", "'2'", "{}", "5") + ", " + g.expr() + ", " + g.expr() + ")"
	case "pcall":
		return "pcall(" + g.pick("f", "error", "string.rep", "t.x", "t.f", "pcall", "tostring", "function() return "+g.expr()+" end") + ", " + g.expr() + ")"
	case "tonumber":
		return "tonumber(" + g.expr() + g.pick("", "", ", 16", ", 2", ", 36", ", 37") + ")"
	case "rawset":
		return "rawset(u, " + g.expr() + ", 1)"
	case "setmetatable":
		return "setmetatable(" + g.pick("{}", "u", "s", "nil") + ", " + g.pick("{}", "nil", "1", "t") + ")"
	case "getmetatable":
		return "getmetatable(" + g.pick("t", "u", "{}", "nil", "1", "f", "") + ")"
	case "next":
		return "next(" + g.pick("{}", "{1}", "{x = 1}", "nil", "q", "s") + g.pick("", ", 1", ", nil", ", 'zz'") + ")"
	case "ipairs":
		return "select(3, ipairs(" + g.pick("q", "{}", "nil", "s", "") + "))"
	}
	return name + "(" + g.args(2) + ")"
}

func (g *generator) line(format string, args ...any) {
	fmt.Fprintf(&g.b, format+"\n", args...)
}

func (g *generator) block(n int) {
	scope := len(g.names)
	g.depth++
	for range 1 + g.IntN(n) {
		g.statement()
	}
	g.depth--
	g.names = g.names[:scope]
}

func (g *generator) statement() {
	if g.depth > 3 {
		g.line("print(%s)", g.args(2))
		return
	}
	switch g.IntN(29) {
	case 27, 28:
		g.assignments()
		return
	case 24, 25:
		g.nested()
		return
	case 26:
		g.changes(g.object())
		return
	case 22:
		g.line("do local w = %s print(table.maxn(w), w[1], w[2], w[49], w[50], w[51], w[100], w[101], w.x, w.y, w[-1000]) end", g.constructor())
		return
	case 23:
		n := g.length()
		var list []string
		for range n {
			list = append(list, g.item())
		}
		first := strings.Join(slices.Concat(list, []string{g.last()}), ", ")
		g.line("print(select('#', %s), (select(%d, %s, 1)))", first, 1+g.IntN(n+1), strings.Join(slices.Concat(list, []string{g.last()}), ", "))
		return
	case 0, 1, 2, 3, 4, 5:
		g.line("print(%s)", g.args(3))
	case 6:
		name := g.pick("a", "b", "c", "d", "e")
		g.line("local %s = %s", name, g.expr())
		g.names = append(g.names, name)
	case 7, 8:
		g.line("%s = %s", g.pick("a", "b", "g", "h", "t.x", "t.z", "u.x", "a.x", "b[1]", "c.x.y", "t[a]", "u[b]"), g.expr())
	case 9:
		g.line("%s, %s = %s, %s", g.pick("a", "b", "t.x"), g.pick("c", "g", "u.y"), g.expr(), g.expr())
	case 10:
		g.line("if %s then", g.expr())
		g.block(2)
		if g.one(2) {
			g.line("else")
			g.block(2)
		}
		g.line("end")
	case 11:
		name := g.pick("i", "j", "k")
		g.line("for %s = %s, %s%s do", name, g.pick("1", "3", "'1'", "0", "{}", "-1", "1.5", "u.zz"), g.pick("3", "1", "'2'", "#q", "nil", "2.5", "-2", "'x'"), g.pick("", "", "", ", -1", ", 2", ", '1'", ", true", ", 0.5"))
		g.loop(name)
	case 12:
		g.line("for i, j in %s do", g.pick("ipairs(q)", "ipairs(r)", "pairs(q)", "next, q", "ipairs(t)", "ipairs()", "a", "nil", "ipairs(c)", `("a b"):gmatch("%a")`, "f, 1, 2"))
		g.loop("i", "j")
	case 13:
		g.line("local n = 0 while n < 3 and %s do n = n + 1", g.expr())
		g.loop("n")
	case 14:
		g.line("local m = 0 repeat m = m + 1 local z = %s", g.expr())
		g.names = append(g.names, "z")
		g.block(1)
		g.names = g.names[:len(g.names)-1]
		g.line("until m > 2 or %s", g.pick("z", "z == m", "true", g.expr()))
	case 15:
		g.line("print(pcall(function(...)")
		g.block(2)
		g.line("return %s end, %s))", g.args(2), g.expr())
	case 16:
		g.line("print(xpcall(function() %s end, %s))", g.pick("return "+g.expr(), "error("+g.expr()+")", "local x = "+g.expr()), g.pick("function(e) return e end", "function(e) return 'handled ' .. tostring(e) end", "f", "nil", "tostring", "function(e) return e.x end"))
	case 17:
		g.line("print(pcall(error, %s, %s))", g.expr(), g.pick("0", "1", "2"))
	case 18:
		g.line("%s", g.pick("table.insert(q, 4)", "table.insert(q, 1, 9)", "print(table.remove(q))", "print(table.remove(q, 1))", "table.sort(q)", "table.sort(r)", "table.sort(q, function(x, y) return x > y end)",
			"table.sort(q, f)", "table.insert(q, "+g.pick("1", "2", "'1'", "#q", "#q + 1", "nil", "{}", "1.5")+", 5)", "table.insert(q)", "print(table.remove(q, "+g.small()+"))", "q[#q + 1] = 7", "table.sort({3, 1, 2}, function(x, y) return true end)", "print(table.concat(q, ','))", "table.sort(q, nil)", "table.insert(t.x, 1)", "table.insert(a, b)"))
	case 19:
		name := g.pick("d", "e")
		g.line("local %sfunction %s(x) %s end", "", name, g.pick("return x and "+name, "return "+g.expr(), "error(x, 2)", "return x.y.z", "if x then return "+name+"() end return "+g.expr()))
		g.names = append(g.names, name)
		g.line("print(%s(%s))", name, g.args(1))
	case 20:
		g.line("local e = function(x, ...) return %s end print(e(%s))", g.pick("e", "arg", "..., x", "x()", "(...)", g.expr()), g.args(2))
		g.names = append(g.names, "e")
	default:
		g.line("do local x, y = %s", g.pick("", "f(1, 2), ", "a, ")+g.expr())
		g.names = append(g.names, "x", "y")
		g.block(2)
		g.names = g.names[:len(g.names)-2]
		g.line("end")
	}
}

// assignments writes a function that assigns to its parameters, in whatever
// position they stand, and to other variables, and a call of it.
func (g *generator) assignments() {
	params := []string{"x", "y", "z"}
	g.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	params = params[:1+g.IntN(3)]
	results := strings.Join(params, ", ")
	vararg := g.one(3)
	list := results
	if vararg {
		list += ", ..."
	}
	scope := len(g.names)
	g.names = append(g.names, params...)
	head := g.pick("local function e(", "function h(", "function t:m(", "local e = function(")
	g.line("%s%s) local l, m = %s", head, list, g.pick("x", "1", "y, z", "'l', 'm'", "#s"))
	value := func() string {
		v := g.pick(append(params, "l", "m", "s", "a", "q")...)
		switch g.IntN(12) {
		case 0, 1, 2:
			return v + " .. " + g.pick("'y'", "l", "x", "1", "s", "#s", g.operand())
		case 3:
			return "#" + v
		case 4:
			return "(" + g.pick("tostring", "f", "type", "t.f", v) + "(" + v + g.pick("", ", l", ", "+g.expr()) + "))"
		case 5:
			return "(" + v + ":" + g.pick("sub(1, 1)", "upper()", "rep(2)", "x()", "len()") + ")"
		case 6:
			return g.pick("f", "tostring", "t.f", "select") + "(" + g.pick(v, "1, "+v, v+" .. l", "#"+v) + ")"
		case 7:
			if vararg {
				return g.pick("(...)", "...", "select('#', ...)", "(select(1, ...))")
			}
			return v + ":" + g.pick("sub(1, 1)", "upper()", "rep(2)", "byte(1, -1)")
		case 8:
			return g.pick("not ", "-", "#") + g.pick("(f(", "(tostring(", "(t.f(") + v + "))"
		case 9:
			return g.operand() + " " + g.pick("%", "%", "+", "==", "~=", "<", "and", "or", "..") + " " + g.pick(v, "2")
		case 10:
			return "(" + v + " .. 'a') .. #" + g.pick("l", "s", "x", v)
		}
		return g.expr()
	}
	for range 1 + g.IntN(4) {
		target := func() string {
			return g.pick(append(params, params[len(params)-1], params[len(params)-1], "l", "m", "a", "b", "g", "h", "t.x", "u.y", "t[l]")...)
		}
		assign := target() + " = " + value()
		switch g.IntN(8) {
		case 0:
			assign = target() + ", u.x = " + value() + g.pick("", ", "+value())
		case 1:
			assign += ", " + value()
		case 2:
			assign = "t.z, " + assign
		case 3:
			assign = "local function k() " + assign + " return " + results + " end " + g.pick("k()", "print(k())")
		}
		g.line(g.pick("%s", "%s", "if x then %s end", "for i = 1, 2 do %s end", "do local i, j, k = l, m, x %s print(i, j, k) end", "while true do %s break end"), assign)
	}
	g.names = g.names[:scope]
	g.line("return %s, l, m end", results)
	call := map[string]string{"local function e(": "e, ", "function h(": "h, ", "function t:m(": "t.m, t, ", "local e = function(": "e, "}[head]
	// Caught, so that the program goes on.
	g.line("print(pcall(%s%s))", call, g.pick("'q', 'r', 7, 'v', 'w'", "'q', 2, 'r'", "1, 'x'", "'x', t, 'y', f", "t, 'y', q, 5"))
}

// changes writes a statement that looks at all of an object, or changes it
// behind the back of its metamethods.
func (g *generator) changes(object string) {
	switch g.IntN(4) {
	case 0:
		g.line("rawset(%s, %s, %s)", object, g.pick("1", "2", "'x'", "s", g.expr()), g.expr())
	case 1:
		g.line("do local n = 0 for i, j in %s do n = n + 1 end print(n) end", g.pick("pairs("+object+")", "ipairs("+object+")", "next, "+object))
	case 2:
		g.line("print(pcall(table.%s))", g.pick("insert, "+object+", "+g.expr(), "insert, "+object+", 1, "+g.expr(), "remove, "+object, "remove, "+object+", 1", "sort, "+object, "sort, "+object+", "+g.variable()))
	default:
		g.line("print(getmetatable(%s) == m, pcall(setmetatable, %[1]s, %s))", object, g.pick("m", "nil", "{}", "getmetatable(u)"))
	}
}

// nested writes a statement with blocks or functions in it.
func (g *generator) nested() {
	switch g.IntN(12) {
	case 0:
		g.line("local n = 0 while true do n = n + 1 if n > %s then break end", g.pick("2", "3", g.small()))
		g.line("if n > 5 then break end")
		g.loop("n")
	case 1:
		g.line("local n = %s local function inc(x) n = n %s (x or 1) return n end print(inc(), inc(%s), n)", g.pick("0", "'1'", g.expr()), g.pick("+", "-", "..", "*"), g.expr())
	case 2:
		g.line("local fs = {} for i = 1, 3 do local k = %s fs[i] = function(x) k = x or k return i, k end end", g.expr())
		g.line("print(fs[1](%s), fs[1](), fs[2]())", g.expr())
	case 3:
		g.line("local function rec(n, ...) if n == 0 then return ... end return %s end print(rec(3, %s))", g.pick("rec(n - 1, n, ...)", "rec(n - 1, ..., n)", "(rec(n - 1, ...))", "1, rec(n - 1, ...)", "n .. rec(n - 1, ...)", "rec(n - 1) or n"), g.expr())
	case 4:
		g.line("function u%s(x, ...)", g.pick(".x", ".y", ":x", ":y"))
		g.names = append(g.names, "x")
		g.block(2)
		g.names = g.names[:len(g.names)-1]
		g.line("return %s end", g.pick("x", "...", "self", "x, ...", g.expr()))
		g.line("print(%s(%s))", g.pick("u.x", "u:x", "u.y", "u:y"), g.args(2))
	case 5:
		g.line("%s, %s, %s = %s", g.pick("a", "b", "t.x", "g"), g.pick("c", "g", "u.y", "t[a]"), g.pick("a", "b", "u[b]", "t.z", "h"), g.pick(g.expr()+", "+g.expr()+", "+g.expr(), g.expr()+", f(1, 2)", "f(1, 2, 3)", "c, a, b"))
	case 6:
		g.line("local o = 0 repeat o = o + 1 local z, y = o, function() return z end until %s", g.pick("z > 1", "o > 2 or y and z", "o == 3 or not z"))
	case 7:
		g.line("if %s then", g.expr())
		g.block(1)
		g.line("elseif %s then", g.expr())
		g.block(1)
		g.line("%send", g.pick("", "else print(1) "))
	case 8:
		g.line("print(pcall(function() local ok, e = pcall(error, %s) error(e, %s) end));", g.expr(), g.pick("0", "1", "2", "3"))
	case 9:
		g.line("print(select('#', table.%s(%s, %s)))", g.pick("foreach", "foreachi"), g.pick("q", "{}", "{x = 1}", "nil", "s"), g.pick("print", "f", "function(k, v) return "+g.expr()+" end", "t"))
	case 10:
		g.line("do local arg, self = %s; (%s)(%s) end", g.expr(), g.pick("f", "print", "function(...) print(arg, self, ...) end", "function(x, ...) print(type(arg), x) end"), g.args(2))
	default:
		g.line("for i = %s, %s do local j = i; %s = function() i = i + 1 return i, j end if %s then break end end", g.pick("1", "0.5", "'1'", "-1"), g.pick("2", "3", "#q", "2.5"), g.pick("g", "h", "t.x"), g.expr())
		g.line("print(%s())", g.pick("g", "h", "t.x"))
	}
}

// length is a number of elements, arguments or values: a few, or one where the
// VM has another way for more.
func (g *generator) length() int {
	if g.one(2) {
		return g.IntN(5)
	}
	return []int{49, 50, 51, 99, 100, 101, 148}[g.IntN(7)]
}

// item is a short expression, and last one that may have several values.
func (g *generator) item() string {
	return g.pick("1", "2", "s", "a", "#q", "f(1)", "(f(1, 2, 3))", "nil", "'x'", "t.x", "tostring(5)", "{}", "a == b", "not b", "function() end", "q[1]", "-1", "s .. s")
}

func (g *generator) last() string {
	return g.pick("f(1, 2, 3)", "(f(1, 2, 3))", "unpack(q)", "(unpack(q))", "t.f(1, nil)", "t:f()", "s:byte(1, -1)", g.item(), g.item())
}

// constructor is one of a table, of any length and with all kinds of fields.
func (g *generator) constructor() string {
	var b strings.Builder
	b.WriteByte('{')
	n := g.length()
	keys := g.IntN(4)
	for i := 0; i < n || keys > 0; i++ {
		if keys > 0 && (i >= n || g.one(8) || i%50 == 0 && i > 0 && g.one(2)) {
			keys--
			i--
			b.WriteString(g.pick("x = ", "y = ", "['x'] = ", "[-1000] = ", "[s] = ") + g.pick(g.item(), g.last(), g.last()) + g.pick(", ", "; "))
			continue
		}
		b.WriteString(g.item() + g.pick(", ", "; "))
	}
	switch g.IntN(4) {
	case 0:
		b.WriteString(g.last())
	case 1:
		b.WriteString("y = " + g.last())
	case 2:
		if n < 5 {
			b.WriteString("{" + g.last() + "}")
		}
	}
	b.WriteByte('}')
	return b.String()
}

func (g *generator) loop(names ...string) {
	scope := len(g.names)
	g.names = append(g.names, names...)
	g.block(2)
	if g.one(4) {
		g.line("do break end")
	}
	g.names = g.names[:scope]
	g.line("end")
}
