package datascript

import (
	"cmp"
	"slices"

	"github.com/yuin/gopher-lua/ast"

	"github.com/limpetlb/limpet/internal/luastr"
)

// A Reference is the name of an object of the virtual service that a script
// passes to a function.
type Reference struct {
	// Kind is the kind of the object: "pool", "pool group", "IP group", "string
	// group", "rate limiter" or "key set". A pool group will do as a pool.
	Kind string
	// Name is the name of the object, as the script has it.
	Name string
	// Event is the event of the code.
	Event Event
	// Line is where the name is, or the variable that has it, counted from 1,
	// in the listing if there is one.
	Line int
}

// References returns the names of pools, groups, rate limiters and key sets in
// calls of functions of the API, by event and line: those without which the
// calls fail. It finds names that are constants, the choices of "and" and "or"
// among constants, and variables that are assigned once, to a constant. It
// leaves out calls by pcall and xpcall, with which a script may find out what
// there is, and calls within functions that are called so. The caller owns the
// slice.
func (s *Script) References() []Reference { return slices.Clone(s.references) }

// A nameArgument is an argument of a function that names an object.
type nameArgument struct {
	kind string
	at   int // counted from 0
}

// nameArguments are those of all functions that have one.
var nameArguments = map[string]nameArgument{
	"avi.pool.select":            {"pool", 0},
	"avi.pool.get_servers":       {"pool", 0},
	"avi.pool.get_server_status": {"pool", 0},
	"avi.poolgroup.select":       {"pool group", 0},
	"avi.vs.ratelimit.exceed":    {"rate limiter", 0},
	"avi.vs.rate.limit.exceed":   {"rate limiter", 0},
	"avi.jwt.verify":             {"key set", 1},
	"avi.ipgroup.contains":       {"IP group", 0},
	"avi.http.ipgroup.contains":  {"IP group", 0},
}

func init() {
	for _, e := range stringgroupEntries {
		for _, module := range []string{"avi.stringgroup.", "avi.http.stringgroup."} {
			nameArguments[module+e.name] = nameArgument{"string group", 0}
		}
	}
}

// protections are the functions of a script that pcall or xpcall calls: they
// may fail.
type protections struct {
	names     map[string]bool                // of variables that pcall is given
	named     map[string][]*ast.FunctionExpr // what variables have, by name
	functions map[*ast.FunctionExpr]bool
}

// name notes that a variable has a function.
func (p *protections) name(variable string, value ast.Expr) {
	if f, ok := value.(*ast.FunctionExpr); ok {
		if p.named == nil {
			p.named = map[string][]*ast.FunctionExpr{}
		}
		p.named[variable] = append(p.named[variable], f)
	}
}

// protect notes what pcall is given.
func (p *protections) protect(e ast.Expr) {
	if p.names == nil {
		p.names, p.functions = map[string]bool{}, map[*ast.FunctionExpr]bool{}
	}
	switch e := e.(type) {
	case *ast.IdentExpr:
		p.names[e.Value] = true
	case *ast.FunctionExpr:
		p.functions[e] = true
	}
}

// settle finds the functions that variables have, when all are known.
func (p *protections) settle() {
	for name := range p.names {
		for _, f := range p.named[name] {
			p.functions[f] = true
		}
	}
}

// refer notes the names of objects in a call of a function of the API.
func (w *doubts) refer(e *ast.FuncCallExpr, path string) {
	a, ok := nameArguments[path]
	if !ok || a.at >= len(e.Args) || slices.ContainsFunc(w.Enclosing(), func(f *ast.FunctionExpr) bool { return w.protections.functions[f] }) {
		return
	}
	w.eachName(e.Args[a.at], 0, func(name string, at ast.Expr) {
		line := cmp.Or(w.Line(at), w.Line(e))
		w.references = append(w.references, Reference{Kind: a.kind, Name: name, Event: w.event, Line: line})
	})
}

// maxAlternatives bounds how deep the choices of an expression are looked into.
const maxAlternatives = 100

// eachName calls f with each constant that an expression can be, and where it
// is.
func (w *doubts) eachName(e ast.Expr, depth int, f func(name string, at ast.Expr)) {
	if op, ok := e.(*ast.LogicalOpExpr); ok {
		if depth > maxAlternatives {
			return
		}
		if op.Operator == "or" {
			w.eachName(op.Lhs, depth+1, f)
		}
		w.eachName(op.Rhs, depth+1, f)
		return
	}
	switch text, kind := w.literal(e); kind {
	case "string":
		f(text, e)
	case "number":
		if n, ok := luastr.ParseNumber(text); ok {
			f(luastr.FormatNumber(n), e)
		}
	}
}

// sortReferences puts references in order, each once.
func sortReferences(list []Reference) []Reference {
	slices.SortStableFunc(list, func(a, b Reference) int {
		return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Line, b.Line))
	})
	return slices.Compact(list)
}
