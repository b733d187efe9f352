package luasyntax_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// A generator writes random programs that need nearly as many locals, upvalues
// or levels as Lua 5.1 has.
type generator struct {
	*rand.Rand
	strings.Builder
	locals int // v0, v1, …
}

func (g *generator) pick(words ...string) string { return words[g.IntN(len(words))] }

func (g *generator) variable() string {
	if g.locals > 0 && g.IntN(2) == 0 {
		return fmt.Sprintf("v%d", g.IntN(g.locals))
	}
	return g.pick("g", "h", "u", "w")
}

func (g *generator) list(n int, item func() string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = item()
	}
	return strings.Join(items, ",")
}

func (g *generator) expression(depth int) string {
	if depth <= 0 {
		return g.pick("nil", "true", "false", "1", "0", "2.5", "0x10", `"s"`, "...", g.variable(), g.variable(), g.variable(),
			fmt.Sprint(g.IntN(1000)), fmt.Sprintf("%q", g.variable()))
	}
	sub := func() string { return g.expression(depth - 1 - g.IntN(2)) }
	switch g.IntN(12) {
	case 0, 1, 2:
		return sub() + g.pick(" + ", " - ", "*", "/", "%", "^", "..", "..", "==", "~=", "<", "<=", ">", ">=") + sub()
	case 3, 4:
		return sub() + g.pick(" and ", " or ") + sub()
	case 5:
		return g.pick("not ", "- ", "# ") + sub()
	case 6, 7:
		return "(" + sub() + ")"
	case 8:
		return g.suffixed(depth)
	case 9:
		return "{" + g.list(g.IntN(4), func() string {
			return g.pick("", "", "x=", "["+sub()+"]=") + sub()
		}) + "}"
	case 10:
		return "function(" + g.pick("", "a", "a,b", "...", "a,...") + ") return " + strings.ReplaceAll(sub(), "...", "nil") + " end"
	default:
		return g.suffixed(depth)
	}
}

// suffixed returns a call or a variable.
func (g *generator) suffixed(depth int) string {
	s := g.variable()
	for range 1 + g.IntN(2) {
		switch g.IntN(5) {
		case 0:
			s += "." + g.pick("x", "y", "z")
		case 1:
			s += "[" + g.expression(depth-1) + "]"
		case 2:
			s += ":m(" + g.list(g.IntN(3), func() string { return g.expression(depth - 1) }) + ")"
		case 3:
			s += "(" + g.list(g.IntN(3), func() string { return g.expression(depth - 1) }) + ")"
		case 4:
			s += g.pick(`"s"`, "{}", "{"+g.expression(depth-1)+"}")
		}
	}
	return s
}

func (g *generator) target(depth int) string {
	switch g.IntN(4) {
	case 0:
		return g.variable() + ".x"
	case 1:
		return g.variable() + "[" + g.expression(depth-1) + "]"
	}
	return g.variable()
}

// statement needs registers from where the locals end. Most forms fill some
// first, so that about room of them are left for an expression.
func (g *generator) statement(room int) string {
	fill := max(248-g.locals-room, 0)
	e := func() string { return g.expression(1 + g.IntN(4)) }
	filler := func() string { return g.pick("1", "nil", "g", "v0") }
	switch g.IntN(14) {
	case 0, 1:
		return "g(" + g.list(fill+1, filler) + "," + e() + "," + e() + ")"
	case 2:
		return "x = " + strings.Repeat("g..", min(fill, 90)) + e()
	case 3:
		return "return " + g.list(fill+1, filler) + "," + e() + "," + e()
	case 4:
		return "local a = g{" + g.list(min(fill+1, 49), filler) + "," + e() + "}"
	case 5:
		return g.list(1+g.IntN(4), func() string { return g.target(2) }) + " = " + g.list(1+g.IntN(4), e)
	case 6:
		return "g(" + g.list(fill+1, filler) + ", function(" + g.pick("", "...") + ") return " +
			strings.ReplaceAll(e(), "...", "nil") + " end)"
	case 7:
		return "for i = " + e() + "," + e() + g.pick("", ", "+e()) + " do x = " + e() + " end"
	case 8:
		return "for " + g.list(1+g.IntN(6), func() string { return g.pick("a", "b") }) + " in " + g.list(1+g.IntN(4), e) + " do " + g.pick("x = "+e(), "break") + " end"
	case 9:
		return "if " + e() + " then x = " + e() + " elseif " + e() + " then end"
	case 10:
		return "repeat local a = " + e() + " until " + e()
	case 11:
		return "local a, b = " + g.list(1+g.IntN(3), e) + " local function f() return a, f end"
	case 12:
		return "function v0" + g.pick("", ".x", ".x.y", ":m", ".x:m") + "() return v0, v1 end"
	default:
		return "g(" + g.list(fill, filler) + ", g(" + e() + "," + e() + "))"
	}
}

func (g *generator) program() string {
	g.Reset()
	g.locals = 0
	if g.IntN(3) == 0 { // more constants than an operand can address
		g.WriteString("local v0 = {" + g.list(230+g.IntN(60), func() string { return fmt.Sprintf("%d.25", g.IntN(400)) }) + "}\n")
		g.locals = 1
	}
	wrap := g.IntN(4) == 0
	if wrap {
		g.WriteString("local v0, v1 = 1, 2; function f(...)\n")
	}
	want := g.pick("2", "150", "193", "196", "197", "198", "199", "200")
	var n int
	fmt.Sscan(want, &n)
	for ; g.locals < n; g.locals++ {
		fmt.Fprintf(g, "local v%d;", g.locals)
	}
	g.WriteString("\n" + g.statement(g.IntN(8)) + "\n")
	if wrap {
		g.WriteString("end")
	}
	return g.String()
}

func TestGeneratedProgramsAgreeWithReference(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(2, 51))}
	var sources []string
	for range mutants(t, 8_000) {
		sources = append(sources, g.program())
	}
	accepted := compare(t, sources)
	outcomes := map[string]int{"": len(accepted)}
	for _, s := range sources {
		v := verdict(s, referenceLimits)
		for _, m := range []string{"local variables", "syntax levels"} {
			if strings.Contains(v, m) {
				outcomes[m]++
			}
		}
	}
	checkVMAccepts(t, accepted[:min(len(accepted), 500)]) // it is slow
	t.Logf("%d sources: %v", len(sources), outcomes)
	if outcomes[""] < len(sources)/8 {
		t.Errorf("one-sided outcomes: %v", outcomes)
	}
}
