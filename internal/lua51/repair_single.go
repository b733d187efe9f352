package lua51

import "github.com/yuin/gopher-lua/ast"

var singleCallRepair = repair{
	file:    "repair_single.go",
	fault:   "A call in parentheses that is assigned to the last parameter of a function uses the registers from the parameter on: arguments and other variables are lost.",
	program: "local function f(x) local a, b x = (type(x)) print(x) end f(5)",
	wrong:   "function",
	right:   "number",
}

var singleVarargRepair = repair{
	file:    "repair_single.go",
	fault:   `An assignment of "(...)" to a local variable loses the variables behind it.`,
	program: "local function f(...) local a, b a = (...) if b then print(1) else print(2) end end f(5)",
	wrong:   "1",
	right:   "2",
}

// mayLose reports whether an assignment stores into a local variable of the
// function the only value of "(...)" or of a call, as operators are that have
// become calls, and into other variables nil. The value then goes through a
// variable of its own; see assignLater. A value for a single target need not:
// if it is not distinguished from several values, the VM takes other registers
// for it, and as many instructions. About several values, see mayOverlap.
func (w *Walker) mayLose(s *ast.AssignStmt) bool {
	id, isVariable := s.Lhs[0].(*ast.IdentExpr)
	if len(s.Rhs) > 1 || !isVariable || w.operand(id).kind != "local" {
		return false
	}
	switch e := s.Rhs[0].(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = e.AdjustRet && len(s.Lhs) > 1
		return e.AdjustRet
	case *ast.Comma3Expr:
		e.AdjustRet = e.AdjustRet && len(s.Lhs) > 1
		return e.AdjustRet
	}
	return false
}
