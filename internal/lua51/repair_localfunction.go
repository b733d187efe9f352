package lua51

import (
	"github.com/yuin/gopher-lua/ast"
)

var localFunctionRepair = repair{
	file:    "repair_localfunction.go",
	fault:   `The function in "local f = function" sees the new f, as if it were "local function f".`,
	program: "f = 1 local f = function() return f end print(type(f()))",
	wrong:   "function",
	right:   "number",
}

// loneFunction reports whether a statement is "local f = function" or "local
// function f".
func loneFunction(s *ast.LocalAssignStmt) bool {
	if len(s.Names) != 1 || len(s.Exprs) != 1 {
		return false
	}
	_, ok := s.Exprs[0].(*ast.FunctionExpr)
	return ok
}

// isLocalFunction tells the second form, which the parser gives a last line.
func isLocalFunction(s *ast.LocalAssignStmt) bool { return loneFunction(s) && s.LastLine() != 0 }

// separateFunction adds a further value to "local f = function", so that the VM
// does not take it for "local function f".
func separateFunction(s *ast.LocalAssignStmt) {
	if loneFunction(s) {
		s.Exprs = append(s.Exprs, at(s.Exprs[0], &ast.NilExpr{}))
	}
}
