package lua51

import "github.com/yuin/gopher-lua/ast"

var choiceRepair = repair{
	file:    "repair_choice.go",
	fault:   "An assignment of what \"and\" or \"or\" chooses leaves a local variable as it was if the first operand is chosen.",
	program: "local t, b = {}, 1 b = t.x and 2 print(b)",
	wrong:   "1",
	right:   "nil",
}

// mayChoose reports whether an assignment stores into a local variable of the
// function what "and" or "or" chooses. It then goes through a variable of its
// own; see assignLater.
func (w *Walker) mayChoose(s *ast.AssignStmt) bool {
	for i, lhs := range s.Lhs[:min(len(s.Lhs), len(s.Rhs))] {
		id, isVariable := lhs.(*ast.IdentExpr)
		if _, ok := s.Rhs[i].(*ast.LogicalOpExpr); ok && isVariable && w.operand(id).kind == "local" {
			return true
		}
	}
	return false
}
