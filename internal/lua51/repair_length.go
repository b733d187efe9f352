package lua51

import (
	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
)

var lengthRepair = repair{
	file:    "repair_length.go",
	fault:   "The length of a table is what its __len returns, as in Lua 5.2.",
	program: "print(#setmetatable({1, 2}, {__len = function() return 42 end}))",
	wrong:   "42",
	right:   "2",
}

// length turns #v into a call, which counts arrays that are too long for the
// VM's own, and ignores __len, as Lua 5.1 does.
func (w *Walker) length(e *ast.UnaryLenOpExpr) ast.Expr {
	name := w.operand(e.Expr)
	e.Expr = w.expr(e.Expr)
	if !w.rewriting {
		return e
	}
	return w.operator(e, lengthName, lengthOp, []ast.Expr{e.Expr}, name)
}

// length is what #v becomes.
func length(c Call) int {
	switch v := c.Arg(1).(type) {
	case lua.LString:
		return c.RetNumber(float64(len(v)))
	case *lua.LTable:
		return c.RetNumber(float64(c.border(v)))
	}
	c.Fail("attempt to get length of %s", c.operand(0).describe(c.Arg(1).Type().String()))
	return 0
}

// border returns the length of an array, as Lua's # gives it. The VM looks for
// it from the end.
func (c Call) border(t *lua.LTable) int {
	n := t.Len()
	c.Work((len(arrayOf(t)) - n) >> 3)
	return n
}
