package archtest

import (
	"go/ast"
	"go/doc"
	"go/token"
)

// CheckPackageComments finds packages that do not have exactly one package comment.
func CheckPackageComments(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		if len(p.Files) == 0 {
			continue
		}
		var commented []*File
		for _, f := range p.Files {
			if f.Doc != nil {
				commented = append(commented, f)
			}
		}
		if len(commented) == 0 {
			found = append(found, packageFinding(p, "has no package comment"))
			continue
		}
		for _, f := range commented[1:] {
			found = append(found, m.finding(f.Doc.Pos(), "second package comment; the first is in %s", commented[0].Name))
		}
	}
	return found
}

// CheckExamples finds public packages without a runnable Example: one whose output is compared.
func CheckExamples(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		if !p.IsPublic() || len(p.Files) == 0 {
			continue
		}
		var tests []*ast.File
		for _, f := range p.Tests {
			tests = append(tests, f.File)
		}
		runnable := 0
		for _, example := range doc.Examples(tests...) {
			if example.Output != "" || example.EmptyOutput {
				runnable++
			}
		}
		if runnable == 0 {
			found = append(found, packageFinding(p, "has no Example with an output comment"))
		}
	}
	return found
}

// CheckDocs finds exported names without a doc comment: constants, variables, functions, types, methods of exported types,
// fields of exported structs and methods of exported interfaces. The comment of a group does not count for the names in it,
// since nobody would notice that a new one has none. A comment at the end of the line counts. Embedded fields are documented
// by their types. Commands export nothing.
func CheckDocs(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		if p.Name == "main" {
			continue
		}
		for _, f := range p.Files {
			v := docVisitor{m: m}
			for _, decl := range f.Decls {
				v.decl(decl)
			}
			found = append(found, v.found...)
		}
	}
	return found
}

// docVisitor collects the undocumented names of one file.
type docVisitor struct {
	m     *Module
	found []Finding
}

func (v *docVisitor) decl(decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if receiver := receiverName(decl); receiver == "" {
			v.names("", []*ast.Ident{decl.Name}, decl.Doc)
		} else if ast.IsExported(receiver) {
			v.names(receiver+".", []*ast.Ident{decl.Name}, decl.Doc)
		}
	case *ast.GenDecl:
		var single *ast.CommentGroup // of a declaration without parentheses
		if decl.Lparen == token.NoPos {
			single = decl.Doc
		}
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				v.names("", spec.Names, single, spec.Doc, spec.Comment)
			case *ast.TypeSpec:
				v.names("", []*ast.Ident{spec.Name}, single, spec.Doc, spec.Comment)
				if spec.Name.IsExported() {
					v.members(spec.Name.Name+".", spec.Type)
				}
			}
		}
	}
}

// members visits the fields and methods in a type expression, those of unnamed structs in it included.
func (v *docVisitor) members(prefix string, expr ast.Expr) {
	ast.Inspect(expr, func(n ast.Node) bool {
		var members *ast.FieldList
		switch n := n.(type) {
		case *ast.StructType:
			members = n.Fields
		case *ast.InterfaceType:
			members = n.Methods
		case *ast.FuncType: // parameters are documented by the function
			return false
		default:
			return true
		}
		for _, field := range members.List {
			v.names(prefix, field.Names, field.Doc, field.Comment)
			for _, name := range field.Names {
				if name.IsExported() {
					v.members(prefix+name.Name+".", field.Type)
				}
			}
		}
		return false
	})
}

// names records the exported ones of names, unless one of the comments says something.
func (v *docVisitor) names(prefix string, names []*ast.Ident, comments ...*ast.CommentGroup) {
	for _, comment := range comments {
		if comment.Text() != "" {
			return
		}
	}
	for _, name := range names {
		if name.IsExported() {
			v.found = append(v.found, v.m.finding(name.Pos(), "%s%s has no doc comment", prefix, name.Name))
		}
	}
}

// receiverName returns the name of the type that fn is a method of, or "".
func receiverName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return ""
	}
	expr := fn.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.ParenExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}
