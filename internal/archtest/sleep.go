package archtest

import (
	"go/ast"
	"strconv"
	"strings"
)

// CheckSleep finds time.Sleep in tests, except in function literals given to
// synctest.Test, where time is virtual. A test that waits in real time is slow,
// and fails on a busy machine. No linter knows where time is virtual.
func CheckSleep(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		for _, f := range p.Tests {
			ast.Inspect(f.File, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					return !isQualified(f, n.Fun, "testing/synctest", "Test")
				case *ast.SelectorExpr:
					if isQualified(f, n, "time", "Sleep") {
						found = append(found, m.finding(n.Pos(), "must not use time.Sleep in real time; use testing/synctest"))
					}
				}
				return true
			})
		}
	}
	return found
}

// isQualified reports whether expr is name, qualified by the package that f
// imports from path.
func isQualified(f *File, expr ast.Expr, path, name string) bool {
	selector, ok := expr.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	qualifier, ok := selector.X.(*ast.Ident)
	if !ok {
		return false
	}
	for _, spec := range f.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err != nil || imported != path {
			continue
		}
		local := path[strings.LastIndexByte(path, '/')+1:]
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if qualifier.Name == local {
			return true
		}
	}
	return false
}
