package lua51

import (
	"math"

	lua "github.com/yuin/gopher-lua"
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

// modulo turns a%b into a call: the VM's result is not always a-floor(a/b)*b.
func (w *Walker) modulo(e *ast.ArithmeticOpExpr) ast.Expr {
	operands := []operand{w.operand(e.Lhs), w.operand(e.Rhs)}
	e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	if !w.rewriting {
		return e
	}
	return w.operator(e, moduloName, arithOp, []ast.Expr{single(e.Lhs), e.Rhs}, operands...)
}

// modulo is what a%b becomes.
func modulo(c Call) int {
	x, okX := c.Arg(1).(lua.LNumber)
	y, okY := c.Arg(2).(lua.LNumber)
	if okX && okY {
		return c.RetNumber(luaMod(float64(x), float64(y)))
	}
	return c.arithmetic("__mod", luaMod)
}

func luaMod(x, y float64) float64 { return x - math.Floor(x/y)*y }
