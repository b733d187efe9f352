package archtest

import "go/ast"

// CheckDocs finds names without a doc comment where no linter looks: constants,
// variables and types in a group, fields of exported structs, and methods of
// exported interfaces. The comment of a group is not enough for the names in
// it, since nobody would notice that a new one has none. A comment at the end
// of the line is. Embedded fields are documented by their types. Commands
// export nothing.
func CheckDocs(m *Module) []Finding {
	var found []Finding
	for _, p := range m.Packages {
		if p.Name == "main" {
			continue
		}
		for _, f := range p.Files {
			v := docVisitor{m: m}
			for _, decl := range f.Decls {
				if decl, ok := decl.(*ast.GenDecl); ok {
					v.decl(decl)
				}
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

func (v *docVisitor) decl(decl *ast.GenDecl) {
	grouped := decl.Lparen.IsValid()
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			if grouped {
				v.names("", spec.Names, spec.Doc, spec.Comment)
			}
		case *ast.TypeSpec:
			if grouped {
				v.names("", []*ast.Ident{spec.Name}, spec.Doc, spec.Comment)
			}
			if spec.Name.IsExported() {
				v.members(spec.Name.Name+".", spec.Type)
			}
		}
	}
}

// members visits the fields and methods in a type expression, those of unnamed
// structs in it included.
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

// names records the exported ones of names, unless one of the comments says
// something.
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
