package luasyntax_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/luasyntax"
	"github.com/limpetlb/limpet/internal/testrace"
)

// registerForms are statements in which "$" takes registers, or "@" fifty fewer,
// and then some part needs a few more. Each stands for a rule of where values are kept.
var registerForms = []string{
	// Operands: variables stay where they are, constants need no register.
	"g($ v0)", "g($ v0 + v1)", "g($ v0 + 1)", "g($ v0 + g)", "g($ g + g)", "g($ v0 + nil)", "g($ v0 == true)",
	"g($ v0 == false)", "g($ v0 .. 's')", "g($ g .. v0 .. g .. v1)", "g($ (g .. v0) .. (g .. v1))", "g($ -v0 + -g)",
	"g($ #v0 + #'s')", "g($ v0 + -'s')", "g($ v0 ^ v1 ^ g)", "g($ v0 < g, g >= 'x')", "g($ 's' < 7)", "g($ (v0 + v1) * (g - 2))",
	// Folding: what it refuses needs a register.
	"g($ v0 + 1 / 0)", "g($ v0 + 1 % 0)", "g($ v0 + (1e999 - 1e999))", "g($ v0 + (-8) ^ .5)", "g($ v0 + 2 ^ 3 * 4 % 3)",
	"g($ v0 + 0 * 1e999)", "g($ v0 + 8 / 2 - 1)", "g($ v0 + -0, 0)", "g($ v0 + #'s')",
	// Jumps of "and", "or", "not" and comparisons.
	"g($ v0 and v1)", "g($ not v0 and v1)", "g($ not v0 or v1)", "g($ not g and v1)", "g($ v0 + (v1 and v2))",
	"g($ v0 + (not (v1 and nil) and 1))", "g($ v0 + (not (v1 or 1) or 1))", "g($ v0 + (nil or 1))", "g($ v0 + (1 and 1))",
	"g($ v0 + (true and 1))", "g($ v0 + (false or 1))", "g($ v0 + (false and 1))", "g($ v0 + (nil and 1))", "g($ 's' and v0)",
	"g($ v0 < v1 and v1 < v2)", "g($ v0 < v1 or v1)", "g($ not (v0 < v1))", "g($ not (v0 < v1) and v1)", "g($ (v0 or v1) == (v1 and v2))",
	"g($ -(v0 and 1))", "g($ #(v0 or 's'))", "g($ (v0 and v1).x)", "g($ (v0 or v1)[v2 and 1])", "g($ not 1, not nil, not 's', not true)",
	"g($ v0 == (not nil))", "g($ v0 == (not 1))", "g($ v0 and v1 .. v2 or v1)", "g($ v0 + (v1 and (v2 or 3)))",
	// Fields, methods and calls.
	"g($ v0.x)", "g($ v0.x.y)", "g($ v0[v1])", "g($ v0[g])", "g($ g[g])", "g($ v0[g[v1]])", "g($ v0.x + v1.y)", "g($ v0[nil], v0[true])",
	"g($ v0:m())", "g($ g:m(v0, g))", "g($ v0:m'x')", "g($ v0:m{})", "g($ v0.x:m():n(g))", "g($ g(g(g())))", "g($ (g()))", "g($ (...), ...)",
	"g($ ...)", "g($ g'x')", "g($ g{})", "g($ v0['x' .. v1]:m(v0))", "v0 = g($ v1).x", "g($ v0.x.y.z[v1].w)",
	// Constructors and functions.
	"g($ {})", "g($ {v0, v1})", "g($ {x = v0, y = g})", "g($ {[v0] = v1, [g] = g})", "g($ {v0, x = v1, g})", "g($ {g()})", "g($ {...})",
	"g($ {v0, ...})", "g($ {x = 1, ...})", "g($ {[1] = nil, [nil] = 2, [true] = false})", "g($ {{{v0}}})", "g($ function() end)",
	"g($ function(a, ...) return a end, 1)", "g($ {['a' .. v0] = #v0})", "g(@ {" + strings.Repeat("v0,", 51) + "})",
	"local a = {" + strings.Repeat("v0,", 50) + "x = g($ v0)}", "local a = {" + strings.Repeat("v0,", 49) + "g(@ v0)}",
	// Statements.
	"return $ v0", "return $ v0, g()", "return $ ...", "return v0, g($ v0)", "local a, b = $ v0", "local a, b, c, d = v0, g($ v0)", "local a, b = ..., g($ v0)",
	"v0, v1 = v1, g($ v0)", "v0.x, v0 = g($ v0), 1", "v0[v1], v1 = 1, g($ v0)", "v1[v0], v0 = 1, g($ v0)", "g.x, h[v0], v0 = g($ v0)",
	"v0.x, v1.y = g($ v0)", "v0[v1], v2 = 1, g($ v0)", "a, b = 1, g($ v0)", "a, b, c = 1, g($ v0)", "a = 1, 2, g($ v0)", "a, b = 1, 2, 3, g($ v0)", "v0, v0.x, v0 = 1, g($ v0)",
	"v0.x = g($ v0) + 1", "v0.x = v1 and g($ v0)", "if g($ v0) then elseif not g($ v1) and v0 then end", "while g($ v0) == nil do break end",
	"repeat local a until g($ a)", "for i = g($ v0), 2 do end", "for i = 1, g($ v0) do end", "for i = 1, 2, g($ v0) do end", "for i = 1.5, 2.5 do g($ v0 + 3.5) end",
	"for a, b in g($ v0) do end", "for a, b in v0, g($ v0) do g(a) end", "for a in 1, 2, 3, g($ v0) do end", "local function f() return f end g($ f)",
	"function v0.x.y() end g($ v0)", "function v0:m() return self end g($ v0 + 1)", "do local a, b end g($ v0)", "do local a g($ a + 1) end",
	"for i = 1, 2 do local a = function() return i, v0 end g($ a) end",
	// The constants of an inner function are its own.
	"local f = function() return 0.25, 1.25, 'z', nil == v0, g end g($ v0 + 0.25, v1 + 9.75)",
	"g($ v0 + 77, v0 + '77', v0.x, v0['x'], x, v0 + 77)", "g($ v0 == 'y', v0 == 'y', v0 == nil, v0 ~= nil)",
}

// TestRegistersAndConstantsSwept tries each form with every number of free
// registers and of constants around the limits.
func TestRegistersAndConstantsSwept(t *testing.T) {
	const locals = 150
	var prelude strings.Builder
	for i := range locals {
		fmt.Fprintf(&prelude, "local v%d;", i)
	}
	constantCounts := []int{0, 248, 250, 251, 252, 253, 254, 255, 256}
	if testrace.Enabled {
		constantCounts = []int{0, 255}
	}
	if testing.Short() {
		constantCounts = []int{0, 255}
	}
	var sources []string
	for _, form := range registerForms {
		outcomes := map[bool]int{}
		for _, constants := range constantCounts {
			var c strings.Builder
			for i := range constants {
				fmt.Fprintf(&c, "%d.25,", i)
			}
			for taken := 250 - locals - 8; taken <= 250-locals; taken++ {
				source := prelude.String() + "\ndo local c = {" + c.String() + "} end\n" +
					strings.NewReplacer("$", strings.Repeat("nil,", taken), "@", strings.Repeat("nil,", taken-50)).Replace(form)
				sources = append(sources, source)
				outcomes[verdict(source, luasyntax.Limits{}) == ""]++
			}
		}
		if outcomes[true] == 0 || outcomes[false] == 0 {
			t.Errorf("%s: accepted %d, refused %d: not at a limit", form, outcomes[true], outcomes[false])
		}
	}
	compare(t, sources)
}
