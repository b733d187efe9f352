package lua51

import (
	"slices"

	"github.com/yuin/gopher-lua/ast"
)

var loopRepair = repair{
	file:    "repair_loops.go",
	fault:   "A jump back to an instruction that is a jump itself goes astray.",
	program: "local n = 0 while true do if nil and n then print(n) else n = n + 1 end if n > 4 then break end end print(n)",
	wrong:   "(endless)",
	right:   "5",
}

// loopBody puts a statement in front of a body that may begin with a jump. A
// jump back onto a jump goes astray in the VM.
func (w *Walker) loopBody(stmts []ast.Stmt) []ast.Stmt {
	if !w.rewriting || len(stmts) == 0 || !mayJump(stmts[0]) {
		return stmts
	}
	local := at(stmts[0], &ast.LocalAssignStmt{Names: []string{"(loop)"}, Exprs: []ast.Expr{at(stmts[0], &ast.NilExpr{})}})
	block := at(local, &ast.DoBlockStmt{Stmts: []ast.Stmt{local}})
	return append([]ast.Stmt{block}, stmts...)
}

// mayJump reports whether the first instruction of a statement may be a jump.
func mayJump(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.BreakStmt, *ast.DoBlockStmt, *ast.RepeatStmt:
		return true
	case *ast.IfStmt:
		return beginsConstant(s.Condition) || jumpsFirst(s.Condition)
	case *ast.WhileStmt:
		return beginsConstant(s.Condition) || jumpsFirst(s.Condition)
	case *ast.AssignStmt:
		return slices.ContainsFunc(s.Lhs, jumpsFirst) || slices.ContainsFunc(s.Rhs, jumpsFirst)
	case *ast.LocalAssignStmt:
		return slices.ContainsFunc(s.Exprs, jumpsFirst)
	case *ast.ReturnStmt:
		return slices.ContainsFunc(s.Exprs, jumpsFirst)
	case *ast.FuncCallStmt:
		return jumpsFirst(s.Expr)
	case *ast.NumberForStmt:
		return jumpsFirst(s.Init) || jumpsFirst(s.Limit)
	case *ast.GenericForStmt:
		return slices.ContainsFunc(s.Exprs, jumpsFirst)
	}
	return false
}

// jumpsFirst reports whether the first instruction of an expression may be a
// jump, as that of "true or x" is.
func jumpsFirst(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.LogicalOpExpr:
		return beginsConstant(e.Lhs) || jumpsFirst(e.Lhs)
	case *ast.AttrGetExpr:
		return jumpsFirst(e.Object) || jumpsFirst(e.Key)
	case *ast.FuncCallExpr:
		return jumpsFirst(e.Func) || jumpsFirst(e.Receiver)
	case *ast.ArithmeticOpExpr:
		return jumpsFirst(e.Lhs) || jumpsFirst(e.Rhs)
	case *ast.RelationalOpExpr:
		return jumpsFirst(e.Lhs) || jumpsFirst(e.Rhs)
	case *ast.UnaryMinusOpExpr:
		return jumpsFirst(e.Expr)
	case *ast.UnaryNotOpExpr:
		return jumpsFirst(e.Expr)
	}
	return false
}

// beginsConstant reports whether what is looked at first is a constant.
func beginsConstant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.LogicalOpExpr:
		return beginsConstant(e.Lhs)
	case *ast.UnaryNotOpExpr:
		return beginsConstant(e.Expr)
	}
	return isConstant(e)
}
