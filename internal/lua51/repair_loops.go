package lua51

import (
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
		return beginsConstant(s.Condition)
	case *ast.WhileStmt:
		return beginsConstant(s.Condition)
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
