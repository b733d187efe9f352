package lua51

import (
	"github.com/yuin/gopher-lua/ast"
)

var genericForRepair = repair{
	file:    "repair_genericfor.go",
	fault:   "A generic loop with fewer than three values takes what it finds in the registers for those that are missing.",
	program: "for k in next, {10} do print(k) end print('end')",
	wrong:   "end",
	right:   "1; end",
}

// iterateOver turns "for k in x, y do" into
//
//	do
//		local f, s, v = x, y
//		for k in f, s, v do
//
// because the VM takes what it finds in the registers for what is missing.
func iterateOver(s *ast.GenericForStmt) ast.Stmt {
	names := []string{"(iterator)", "(state)", "(start)"}
	local := at(s, &ast.LocalAssignStmt{Names: names, Exprs: s.Exprs})
	local.SetLine(position(s.Line()).line())
	s.Exprs = make([]ast.Expr, len(names))
	for i, name := range names {
		s.Exprs[i] = at(local, &ast.IdentExpr{Value: name})
	}
	block := at(local, &ast.DoBlockStmt{Stmts: []ast.Stmt{local, s}})
	return block
}
