package archtest

import (
	"fmt"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// Surface returns the exported surface of a package, one line for each
// constant, variable, function, type, method and field, sorted. A change of a
// type, of a constant's value, or of the order of arguments is a change of a
// line.
func Surface(p *Package) []string {
	s := surface{pkg: p.Types}
	scope := p.Types.Scope()
	for _, name := range scope.Names() {
		if object := scope.Lookup(name); object.Exported() {
			s.object(object)
		}
	}
	slices.Sort(s.lines)
	return slices.Compact(s.lines)
}

// surface collects the lines of one package.
type surface struct {
	pkg   *types.Package
	lines []string
}

func (s *surface) add(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// typ writes a type with full import paths, except for the names of the package
// itself.
func (s *surface) typ(t types.Type) string { return types.TypeString(t, types.RelativeTo(s.pkg)) }

// signature writes the parameters and results of a function.
func (s *surface) signature(t types.Type) string { return strings.TrimPrefix(s.typ(t), "func") }

func (s *surface) object(object types.Object) {
	name := object.Name()
	switch object := object.(type) {
	case *types.Const:
		s.add("const %s %s = %s", name, s.typ(object.Type()), object.Val().ExactString())
	case *types.Var:
		s.add("var %s %s", name, s.typ(object.Type()))
	case *types.Func:
		s.add("func %s%s", name, s.signature(object.Type()))
	case *types.TypeName:
		if object.IsAlias() {
			s.add("type %s = %s", name, s.typ(types.Unalias(object.Type())))
			return
		}
		s.named(object.Type().(*types.Named))
	}
}

// named adds a defined type with its fields and methods, promoted ones
// included.
func (s *surface) named(t *types.Named) {
	name := t.Obj().Name()
	switch under := t.Underlying().(type) {
	case *types.Struct:
		s.add("type %s struct", s.declared(t))
		s.fields(name, under)
	case *types.Interface:
		s.add("type %s interface", s.declared(t))
		s.interfaceMembers(name, under)
		return
	default:
		s.add("type %s %s", s.declared(t), s.typ(under))
	}

	values := types.NewMethodSet(t)
	pointers := types.NewMethodSet(types.NewPointer(t))
	for selection := range pointers.Methods() {
		method := selection.Obj()
		if !method.Exported() {
			continue
		}
		receiver := "*" + name
		if values.Lookup(method.Pkg(), method.Name()) != nil {
			receiver = name
		}
		s.add("method (%s) %s%s", receiver, method.Name(), s.signature(selection.Type()))
	}
}

// declared writes the name of a type with its type parameters and their
// constraints.
func (s *surface) declared(t *types.Named) string {
	if t.TypeParams().Len() == 0 {
		return t.Obj().Name()
	}
	var params []string
	for param := range t.TypeParams().TypeParams() {
		params = append(params, param.Obj().Name()+" "+s.typ(param.Constraint()))
	}
	return t.Obj().Name() + "[" + strings.Join(params, ", ") + "]"
}

// fields adds the exported fields of a struct, and those that an embedded
// unexported struct lends it.
func (s *surface) fields(name string, t *types.Struct) {
	for field := range t.Fields() {
		switch {
		case field.Embedded() && field.Exported():
			s.add("field %s embeds %s", name, s.typ(field.Type()))
		case field.Embedded():
			if inner, ok := deref(field.Type()).Underlying().(*types.Struct); ok {
				s.fields(name, inner)
			}
		case field.Exported():
			s.add("field %s.%s %s", name, field.Name(), s.typ(field.Type()))
		}
	}
}

// interfaceMembers adds what an interface asks for. That it asks for unexported
// methods is part of its surface, since no other package can implement it then.
func (s *surface) interfaceMembers(name string, t *types.Interface) {
	for method := range t.Methods() {
		if token.IsExported(method.Name()) {
			s.add("method (%s) %s%s", name, method.Name(), s.signature(method.Type()))
		} else {
			s.add("method (%s) unexported", name)
		}
	}
	for embedded := range t.EmbeddedTypes() {
		if _, ok := embedded.Underlying().(*types.Interface); !ok {
			s.add("type %s interface of %s", name, s.typ(embedded))
		}
	}
}

// deref returns what t points to, or t.
func deref(t types.Type) types.Type {
	if pointer, ok := types.Unalias(t).(*types.Pointer); ok {
		return pointer.Elem()
	}
	return t
}
