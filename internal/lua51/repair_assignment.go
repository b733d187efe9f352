package lua51

import (
	"slices"
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

var assignmentRepair = repair{
	file:    "repair_assignment.go",
	fault:   "An assignment of several values stores the first before it computes the second.",
	program: "local a, b = 1, 2 a, b = b, a print(a, b)",
	wrong:   "2 2",
	right:   "2 1",
}

var upvalueRepair = repair{
	file:    "repair_assignment.go",
	fault:   "An assignment of several values, of which a field gets a local variable, gives a wrong value to a variable of an outer function.",
	program: "local u, t = 1, {} local function f(x) u, t.k = 5, x print(u, t.k) end f(7)",
	wrong:   "k 7",
	right:   "5 7",
}

// mayOverlap reports whether an assignment has several values, and stores into
// local variables of the function, or into a variable of an outer one and
// something else. The VM stores the first value before it computes the second,
// and fails at "a, b = b, a" and "a = b, f(a)"; and it stores
// another value into u at "u, t.k = 5, a" if u is of an outer function.
func (w *Walker) mayOverlap(s *ast.AssignStmt) bool {
	if len(s.Rhs) == 1 || !slices.ContainsFunc(s.Rhs, func(e ast.Expr) bool { return !isConstant(e) }) {
		return false
	}
	kinds := map[string]bool{}
	for _, lhs := range s.Lhs {
		kinds[w.operand(lhs).kind] = true
	}
	return kinds["local"] || kinds["upvalue"] && len(kinds) > 1
}

// assignLater turns a, t[k] = x, y into
//
//	do
//		local object, key = t, k
//		local v1, v2 = x, y
//		object[key] = v2
//		a = v1
//	end
func assignLater(s *ast.AssignStmt) ast.Stmt {
	targets := at(s, &ast.LocalAssignStmt{})
	hold := func(e ast.Expr) ast.Expr {
		name := "(target " + strconv.Itoa(len(targets.Names)+1) + ")"
		targets.Names, targets.Exprs = append(targets.Names, name), append(targets.Exprs, e)
		return at(e, &ast.IdentExpr{Value: name})
	}
	values := at(s, &ast.LocalAssignStmt{Exprs: s.Rhs})
	var stores []ast.Stmt
	for i, lhs := range s.Lhs {
		if e, ok := lhs.(*ast.AttrGetExpr); ok {
			e.Object = hold(e.Object)
			if !isConstant(e.Key) {
				e.Key = hold(e.Key)
			}
		}
		name := "(value " + strconv.Itoa(i+1) + ")"
		values.Names = append(values.Names, name)
		store := &ast.AssignStmt{Lhs: []ast.Expr{lhs}, Rhs: []ast.Expr{at(lhs, &ast.IdentExpr{Value: name})}}
		stores = append(stores, at(s, store))
	}
	slices.Reverse(stores)
	block := at(s, &ast.DoBlockStmt{})
	if len(targets.Names) > 0 {
		block.Stmts = append(block.Stmts, targets)
	}
	block.Stmts = append(append(block.Stmts, values), stores...)
	return block
}
