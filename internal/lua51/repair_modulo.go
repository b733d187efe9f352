package lua51

import (
	"math"

	"github.com/yuin/gopher-lua/ast"

	"github.com/limpetlb/limpet/internal/luastr"
)

var moduloRepair = repair{
	file:    "repair_modulo.go",
	fault:   "The remainder is not always a-floor(a/b)*b.",
	program: "print(2 % 0.4 < 0.1)",
	wrong:   "false",
	right:   "true",
}

// isWhole reports whether an expression is a whole number other than zero, as
// the divisor of most remainders is. The VM's own remainder is right then,
// unless the dividend is so large that Lua's is not.
func isWhole(e ast.Expr) bool {
	n, ok := e.(*ast.NumberExpr)
	if !ok {
		return false
	}
	f, ok := luastr.ParseNumber(n.Value)
	return ok && f != 0 && f <= 1<<53 && f == math.Trunc(f)
}

// luaMod is %.
func luaMod(x, y float64) float64 { return x - math.Floor(x/y)*y }
