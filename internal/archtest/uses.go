package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"
)

// useRule forbids the use of a name. Where a use is right all the same, a comment on its line or the line above says so:
//
//	//archtest:allow RULE the reason why it is right here
//
// A comment that allows nothing, or gives no reason, is a finding too.
type useRule struct {
	rule   string // its name in such a comment
	pkg    string // import path
	name   string // of pkg: a function, variable or type, or Type.Field or Type.Method
	where  place
	unless func(use) bool // nil: any use is forbidden
	reason string
}

// place is the kind of file that a rule is for.
type place uint8

const (
	code    place = iota // all but tests
	library              // all but tests and commands
	tests                // tests only
)

// useRules are the names that must not be used.
var useRules = []useRule{
	{rule: "director", pkg: "net/http/httputil", name: "ReverseProxy.Director", where: code,
		reason: "the headers it sets are lost when the client names them in Connection; use Rewrite"},
	{rule: "setmx", pkg: "github.com/yuin/gopher-lua", name: "LState.SetMx", where: code,
		reason: "it watches the memory of the whole process and exits it; scripts are bounded one by one"},
	{rule: "raiseerror", pkg: "github.com/yuin/gopher-lua", name: "LState.RaiseError", where: code, unless: hasFormat,
		reason: "a text alone is taken as a format, so a script's % signs are garbled; pass \"%s\" and the text"},
	{rule: "defaulttransport", pkg: "net/http", name: "DefaultTransport", where: library,
		reason: "it belongs to the program, and keeps two idle connections a server; take or build a transport"},
	{rule: "defaultclient", pkg: "net/http", name: "DefaultClient", where: library,
		reason: "it has no time-out and uses DefaultTransport; take or build a client"},
	{rule: "floatduration", pkg: "time", name: "Duration", where: code, unless: convertsNoFloat,
		reason: "a float out of range becomes a different number on each architecture; check the range and allow it here"},
	{rule: "sleep", pkg: "time", name: "Sleep", where: tests, unless: inBubble,
		reason: "a test that waits in real time is slow and fails on a busy machine; use testing/synctest"},
}

// use is one use of a name.
type use struct {
	path []ast.Node  // from the file down to the identifier
	info *types.Info // nil in tests
	file *File
}

// call returns the call whose function the used name is, or nil.
func (u use) call() *ast.CallExpr {
	fun := u.path[len(u.path)-1]
	for i := len(u.path) - 2; i >= 0; i-- {
		switch n := u.path[i].(type) {
		case *ast.SelectorExpr, *ast.ParenExpr:
			fun = n
		case *ast.CallExpr:
			if n.Fun == fun {
				return n
			}
			return nil
		default:
			return nil
		}
	}
	return nil
}

// hasFormat reports whether the use is a call whose first argument is constant or followed by others.
func hasFormat(u use) bool {
	call := u.call()
	return call != nil && (len(call.Args) != 1 || u.info.Types[call.Args[0]].Value != nil)
}

// convertsNoFloat reports whether the use is anything but the conversion of a float that is known only at run time.
func convertsNoFloat(u use) bool {
	call := u.call()
	if call == nil || len(call.Args) != 1 {
		return true
	}
	arg := u.info.Types[call.Args[0]]
	if arg.Value != nil || arg.Type == nil {
		return true
	}
	basic, ok := arg.Type.Underlying().(*types.Basic)
	return !ok || basic.Info()&types.IsFloat == 0
}

// inBubble reports whether the use is inside a function literal given to synctest.Test, where time is virtual.
func inBubble(u use) bool {
	for _, n := range u.path {
		if call, ok := n.(*ast.CallExpr); ok && isQualified(u.file, call.Fun, "testing/synctest", "Test") {
			return true
		}
	}
	return false
}

// CheckUses finds uses of the names that useRules forbids, and comments that allow what nobody does.
func CheckUses(m *Module) []Finding {
	var found []Finding
	forbidden := make(map[types.Object]useRule)
	for _, rule := range useRules {
		object, err := m.object(rule)
		if err != nil {
			found = append(found, Finding{Text: err.Error()})
		} else if object != nil && rule.where != tests {
			forbidden[object] = rule
		}
	}
	for _, p := range m.Packages {
		for _, f := range p.Files {
			found = append(found, m.checkUses(f, p.Info, func(id *ast.Ident, _ ast.Node) (useRule, bool) {
				rule, ok := forbidden[origin(p.Info.Uses[id])]
				return rule, ok && (rule.where != library || p.Name != "main")
			})...)
		}
		for _, f := range p.Tests {
			found = append(found, m.checkUses(f, nil, func(id *ast.Ident, parent ast.Node) (useRule, bool) {
				for _, rule := range useRules {
					selector, ok := parent.(*ast.SelectorExpr)
					if ok && selector.Sel == id && rule.where == tests && isQualified(f, selector, rule.pkg, rule.name) {
						return rule, true
					}
				}
				return useRule{}, false
			})...)
		}
	}
	return found
}

// checkUses checks one file. The function lookup returns the rule that forbids an identifier.
func (m *Module) checkUses(f *File, info *types.Info, lookup func(id *ast.Ident, parent ast.Node) (useRule, bool)) []Finding {
	allowed, found := m.allowances(f)
	var path []ast.Node
	ast.Inspect(f.File, func(n ast.Node) bool {
		if n == nil {
			path = path[:len(path)-1]
			return true
		}
		path = append(path, n)
		id, ok := n.(*ast.Ident)
		if !ok || len(path) < 2 {
			return true
		}
		rule, ok := lookup(id, path[len(path)-2])
		if !ok || rule.unless != nil && rule.unless(use{path, info, f}) {
			return true
		}
		line := m.fset.Position(id.Pos()).Line
		for _, a := range allowed {
			if a.rule == rule.rule && (a.line == line || a.line == line-1) {
				a.used = true
				return true
			}
		}
		found = append(found, m.finding(id.Pos(), "must not use %s.%s: %s", rule.pkg, rule.name, rule.reason))
		return true
	})
	for _, a := range allowed {
		if !a.used {
			found = append(found, m.finding(a.pos, "allows %q, which is not used here", a.rule))
		}
	}
	return found
}

// allowance is a comment that allows a use.
type allowance struct {
	pos  token.Pos
	line int
	rule string
	used bool
}

// allowances returns the well-formed allowances of a file, and findings for the others.
func (m *Module) allowances(f *File) ([]*allowance, []Finding) {
	var allowed []*allowance
	var found []Finding
	for _, group := range f.Comments {
		for _, comment := range group.List {
			text, ok := strings.CutPrefix(comment.Text, "//archtest:allow")
			if !ok {
				continue
			}
			fields := strings.Fields(text)
			if len(fields) < 2 {
				found = append(found, m.finding(comment.Pos(), "needs a rule and a reason: //archtest:allow RULE REASON"))
				continue
			}
			allowed = append(allowed, &allowance{pos: comment.Pos(), line: m.fset.Position(comment.Pos()).Line, rule: fields[0]})
		}
	}
	return allowed, found
}

// object returns what a rule forbids, or nil if nothing in the module depends on its package. A name that its package does not
// have is an error, so that a rule cannot outlive what it forbids.
func (m *Module) object(rule useRule) (types.Object, error) {
	if m.exports[rule.pkg] == "" {
		return nil, nil
	}
	pkg, err := m.imports.Import(rule.pkg)
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", rule.rule, err)
	}
	name, member, hasMember := strings.Cut(rule.name, ".")
	object := pkg.Scope().Lookup(name)
	if object != nil && hasMember {
		object, _, _ = types.LookupFieldOrMethod(object.Type(), true, pkg, member)
	}
	if object == nil {
		return nil, fmt.Errorf("rule %s: %s has no %s", rule.rule, rule.pkg, rule.name)
	}
	return object, nil
}

// origin returns the generic declaration that object is an instance of, or object.
func origin(object types.Object) types.Object {
	switch object := object.(type) {
	case *types.Func:
		return object.Origin()
	case *types.Var:
		return object.Origin()
	}
	return object
}

// isQualified reports whether expr is name, qualified by the package that f imports from path.
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
