package lua51

import (
	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
)

var boundsRepair = repair{
	file:    "repair_bounds.go",
	fault:   "Bounds of numeric loops must be numbers: numerals in strings are refused.",
	program: "for i = '1', '2' do print(i) end",
	wrong:   "error: for statement init must be a number",
	right:   "1; 2",
}

// bound makes numbers of a loop's bounds that may be strings.
func (w *Walker) bound(e ast.Expr) ast.Expr {
	mayBeString := true
	switch e := e.(type) {
	case *ast.NumberExpr, *ast.UnaryLenOpExpr, *ast.NilExpr:
		mayBeString = false
	case *ast.UnaryMinusOpExpr:
		mayBeString = w.globals.overloaded[negateName]
	case *ast.ArithmeticOpExpr:
		mayBeString = w.globals.overloaded[e.Operator]
	}
	e = w.expr(e)
	if !mayBeString {
		return e
	}
	if !w.rewriting {
		return e
	}
	return w.operator(e, boundName, otherOp, []ast.Expr{e})
}

// bound reads a bound of a numeric loop: Lua takes numerals in strings, the VM
// takes numbers only.
func bound(c Call) int {
	v := c.Arg(1)
	if s, ok := v.(lua.LString); ok {
		if f, ok := c.Number(s); ok {
			return c.RetNumber(f)
		}
	}
	return c.Ret(v)
}
