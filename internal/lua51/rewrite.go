package lua51

import (
	"slices"
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

// Between parsing and code generation the syntax tree of a script is
// rewritten, for isolation and for speed:
//
//   - A global variable of the script becomes an element of a table that
//     belongs to one transaction and one script. Each name has a slot, the
//     same in all parts of the script. There is no other global
//     environment, so nothing can leak through it.
//   - A predefined name (print, string.find) that the script
//     never assigns becomes an import: a value handed to the script once per
//     Lua state, so that using it costs no look-up. Constants become
//     literals.
//   - The operators .., # and % become calls: the first checks the size of its
//     result, the others are repairs.
//   - Operations that can fail get the names of their operands; see sites.go.
//   - Code that the VM gets wrong is put in a way that it gets right: each of
//     the files repair_*.go is about one of its faults.
//
// The code
//
//	server = os.lookup(client)
//
// is compiled as
//
//	local lookup = ...
//	return function(globals)
//		globals[1] = lookup(globals[2])
//	end
//
// with names for lookup and globals that no script can spell.

const (
	globalsName = "(globals)" // the parameter that holds the transaction's globals
	// maxDepth bounds the depth of the syntax tree. Lua limits how deep
	// source may nest, but not the length of chains such as a+a+a…, which
	// make deep trees, too, and take the VM's compiler quadratic time.
	maxDepth = 1000
	maxPath  = 5 // parts of the longest predefined name
)

// globals are the global variables of a script.
type globals struct {
	names    []string       // by slot, which counts from 1
	slots    map[string]int // the reverse
	assigned map[string]bool
	prefill  []prefill // slots that do not start as nil

	overloaded map[string]bool // operators whose metamethods the script names
}

// A prefill gives a slot the value of a predefined name that the script
// assigns to. If the name is that of a library into which the script stores
// functions of its own, the transaction gets its own copy of the library.
type prefill struct {
	slot int
	sym  *Symbol
}

func (g *globals) slot(name string) int {
	if i, ok := g.slots[name]; ok {
		return i
	}
	g.names = append(g.names, name)
	g.slots[name] = len(g.names)
	return len(g.names)
}

// findGlobals gives each global variable of the trees its slot.
func (c *compiler) findGlobals(trees []*Tree) (*globals, *CompileError) {
	g := &globals{slots: map[string]int{}, assigned: map[string]bool{}, overloaded: map[string]bool{}}
	w := &Walker{compiler: c, globals: g}
	c.inspector.Begin(w, nil)
	// All assignments must be known before uses are judged.
	for range 2 {
		for _, t := range trees {
			w.block(t.stmts)
		}
		w.usesKnown = true
	}
	if w.fault != nil {
		return nil, w.fault
	}
	for i, name := range g.names {
		if sym := c.library.symbols[name]; sym != nil {
			g.prefill = append(g.prefill, prefill{slot: i + 1, sym: sym})
		}
	}
	return g, nil
}

// rewrite turns the statements of a tree into those of the function that
// lua.Compile is given. The walker has the values it imports, and its sites.
func (c *compiler) rewrite(t *Tree, g *globals) (body []ast.Stmt, w *Walker, fault *CompileError) {
	stmts := t.stmts
	first, last := 1, 1
	if n := len(stmts); n > 0 {
		first = stmts[0].Line()
		last = max(first, stmts[n-1].Line(), stmts[n-1].LastLine())
	}
	w = &Walker{compiler: c, globals: g, usesKnown: true, rewriting: true}
	c.inspector.Begin(w, t.tag)
	w.block(stmts)
	if w.fault != nil {
		return nil, nil, w.fault
	}
	main := &ast.FunctionExpr{ParList: &ast.ParList{Names: []string{globalsName}, HasVargs: w.mainVararg}, Stmts: stmts}
	main.SetLine(first)
	main.SetLastLine(last)
	ret := &ast.ReturnStmt{Exprs: []ast.Expr{main}}
	ret.SetLine(first)
	body = []ast.Stmt{ret}
	if len(w.imports) > 0 {
		local := &ast.LocalAssignStmt{Exprs: []ast.Expr{&ast.Comma3Expr{}}}
		local.SetLine(first)
		for _, sym := range w.imports {
			local.Names = append(local.Names, importName(sym))
		}
		body = []ast.Stmt{local, ret}
	}
	return body, w, nil
}

func importName(sym *Symbol) string { return "(" + sym.Name + ")" }

// maxImports is how many values one program can import: the VM has 200
// registers for locals. Further names are looked up when they are used.
const maxImports = 150

// A Walker goes through a syntax tree, and knows the local variables of each
// point. It runs three times over a script: to find what is assigned, to
// find what is used, and to rewrite.
type Walker struct {
	compiler  *compiler
	globals   *globals
	usesKnown bool // assignments have been found; find uses
	rewriting bool

	locals     []variable          // in scope, innermost last
	enclosing  []*ast.FunctionExpr // the functions around this point, innermost last
	mainVararg bool                // the main chunk uses "..."
	imports    []*Symbol
	sites      sites
	depth      int
	fault      *CompileError
}

// A variable is a local variable of the script.
type variable struct {
	name  string
	funcs int // the depth of the function it belongs to
}

// variable returns the local variable that a name means here, or nil.
func (w *Walker) variable(name string) *variable {
	for i := len(w.locals) - 1; i >= 0; i-- {
		if w.locals[i].name == name {
			return &w.locals[i]
		}
	}
	return nil
}

func (w *Walker) isLocal(name string) bool { return w.variable(name) != nil }

func (w *Walker) declare(names ...string) {
	for _, name := range names {
		w.locals = append(w.locals, variable{name, len(w.enclosing)})
	}
}

// enter counts the depth of the tree; leave must follow.
func (w *Walker) enter(n ast.PositionHolder) bool {
	w.depth++
	if w.depth > maxDepth && w.fault == nil {
		w.fault = &CompileError{Line: position(n.Line()).line(), Message: "expression or statement too complex"}
	}
	return w.fault == nil
}

func (w *Walker) leave() { w.depth-- }

func (w *Walker) block(stmts []ast.Stmt) {
	mark := len(w.locals)
	w.stmts(stmts)
	w.locals = w.locals[:mark]
}

func (w *Walker) stmts(stmts []ast.Stmt) {
	for i, s := range stmts {
		stmts[i] = w.stmt(s)
	}
}

// stmt rewrites a statement, or returns one that takes its place.
func (w *Walker) stmt(s ast.Stmt) ast.Stmt {
	defer w.leave()
	if !w.enter(s) {
		return s
	}
	switch s := s.(type) {
	case *ast.AssignStmt:
		later := w.rewriting && (w.mayOverlap(s) || w.mayChoose(s))
		names := make([]string, len(s.Lhs))
		for i, lhs := range s.Lhs {
			if id, ok := lhs.(*ast.IdentExpr); ok {
				names[i] = id.Value
			}
		}
		w.noteAll(names, s.Rhs)
		w.exprs(s.Rhs)
		for i, lhs := range s.Lhs {
			s.Lhs[i] = w.target(lhs)
		}
		if later || w.rewriting && w.mayLose(s) {
			return assignLater(s)
		}
	case *ast.LocalAssignStmt:
		w.noteAll(s.Names, s.Exprs)
		if isLocalFunction(s) {
			w.declare(s.Names...)
			w.exprs(s.Exprs)
			return s
		}
		if w.rewriting {
			separateFunction(s)
		}
		w.exprs(s.Exprs)
		w.declare(s.Names...)
	case *ast.FuncCallStmt:
		s.Expr = w.expr(s.Expr)
	case *ast.DoBlockStmt:
		w.block(s.Stmts)
	case *ast.WhileStmt:
		s.Stmts = w.loopBody(s.Stmts)
		s.Condition = w.expr(s.Condition)
		w.block(s.Stmts)
	case *ast.RepeatStmt:
		mark := len(w.locals)
		s.Stmts = w.loopBody(s.Stmts)
		w.stmts(s.Stmts)
		s.Condition = w.expr(s.Condition)
		w.locals = w.locals[:mark]
	case *ast.IfStmt:
		w.compiler.inspector.Condition(s.Condition)
		s.Condition = w.expr(s.Condition)
		w.block(s.Then)
		w.block(s.Else)
	case *ast.NumberForStmt:
		w.mark(s, boundsOp)
		s.Init, s.Limit = w.bound(s.Init), w.bound(s.Limit)
		if s.Step != nil {
			s.Step = w.bound(s.Step)
		}
		mark := len(w.locals)
		w.compiler.inspector.Assign(s.Name, nil)
		w.declare(s.Name)
		w.stmts(s.Stmts)
		w.locals = w.locals[:mark]
	case *ast.GenericForStmt:
		w.mark(s, forOp, operand{"local", "(for generator)"})
		s.Stmts = w.loopBody(s.Stmts)
		w.exprs(s.Exprs)
		mark := len(w.locals)
		w.noteAll(s.Names, nil)
		w.declare(s.Names...)
		w.stmts(s.Stmts)
		w.locals = w.locals[:mark]
		if w.rewriting && !(len(s.Exprs) == 1 && isMulti(s.Exprs[0])) {
			return iterateOver(s)
		}
	case *ast.FuncDefStmt:
		if s.Name.Func == nil { // function a.b:c() is function a.b.c(self)
			key := at(s.Name.Receiver, &ast.StringExpr{Value: spelled(s.Name.Method)})
			s.Name.Func = at(s.Name.Receiver, &ast.AttrGetExpr{Object: s.Name.Receiver, Key: key})
			s.Name.Receiver = nil
			s.Func.ParList.Names = append([]string{"self"}, s.Func.ParList.Names...)
		}
		if id, ok := s.Name.Func.(*ast.IdentExpr); ok {
			w.compiler.inspector.Assign(id.Value, s.Func)
		}
		s.Name.Func = w.target(s.Name.Func)
		w.function(s.Func)
	case *ast.ReturnStmt:
		w.exprs(s.Exprs)
	}
	return s
}

func isConstant(e ast.Expr) bool {
	switch e.(type) {
	case *ast.NumberExpr, *ast.StringExpr, *ast.TrueExpr, *ast.FalseExpr, *ast.NilExpr:
		return true
	}
	return false
}

// isMulti reports whether an expression can have several values.
func isMulti(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		return !e.AdjustRet
	case *ast.Comma3Expr:
		return !e.AdjustRet
	}
	return false
}

// text notes a string or the name of a field.
func (w *Walker) text(s string) {
	w.globals.noteMetamethod(s)
	w.compiler.inspector.Text(s)
}

// noteAll tells the inspector of an assignment of several values.
func (w *Walker) noteAll(names []string, values []ast.Expr) {
	for i, name := range names {
		if i < len(values) {
			w.compiler.inspector.Assign(name, values[i])
		} else {
			w.compiler.inspector.Assign(name, nil)
		}
	}
}

// target handles what stands left of an assignment.
func (w *Walker) target(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.IdentExpr:
		if w.isLocal(e.Value) {
			return e
		}
		w.globals.assigned[e.Value] = true
		return w.global(e, e.Value)
	case *ast.AttrGetExpr:
		w.modifies(e.Object)
		w.mark(e, indexOp, w.operand(e.Object))
		e.Object, e.Key = w.expr(e.Object), w.expr(e.Key)
	}
	return e
}

// modifies notes that a script stores into the table that e names, if that
// is a predefined library: the transaction then gets a copy of it.
func (w *Walker) modifies(e ast.Expr) {
	if id, ok := e.(*ast.IdentExpr); ok && !w.isLocal(id.Value) && copyableLibraries[id.Value] {
		w.globals.assigned[id.Value] = true
	}
}

func (w *Walker) exprs(list []ast.Expr) {
	for i, e := range list {
		list[i] = w.expr(e)
	}
}

func (w *Walker) expr(e ast.Expr) ast.Expr {
	defer w.leave()
	if !w.enter(e) {
		return e
	}
	switch e := e.(type) {
	case *ast.NumberExpr:
		w.numeral(e)
	case *ast.StringExpr:
		w.text(e.Value)
		e.Value = spelled(e.Value)
	case *ast.Comma3Expr:
		if len(w.enclosing) == 0 {
			w.mainVararg = true
		}
	case *ast.IdentExpr:
		if !w.isLocal(e.Value) {
			return w.name(e, e.Value)
		}
	case *ast.AttrGetExpr:
		if key, ok := e.Key.(*ast.StringExpr); ok {
			w.text(key.Value)
		}
		if path, ok := w.path(e, maxPath); ok {
			w.compiler.inspector.Field(e, path)
			if w.compiler.library.symbols[path] != nil {
				return w.name(e, path)
			}
		}
		w.mark(e, indexOp, w.operand(e.Object))
		e.Object, e.Key = w.expr(e.Object), w.expr(e.Key)
	case *ast.TableExpr:
		w.constructor(e)
	case *ast.FuncCallExpr:
		w.compiler.inspector.Call(e)
		if e.Func != nil {
			w.mark(e, callOp, w.operand(e.Func))
			e.Func = w.expr(e.Func)
		} else {
			e.Method = spelled(e.Method)
			w.mark(e, callOp, operand{"method", e.Method}, w.operand(e.Receiver))
			e.Receiver = w.expr(e.Receiver)
		}
		w.exprs(e.Args)
	case *ast.LogicalOpExpr:
		e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	case *ast.RelationalOpExpr:
		return w.comparison(e)
	case *ast.ArithmeticOpExpr:
		return w.arith(e)
	case *ast.StringConcatOpExpr:
		return w.concat(e)
	case *ast.UnaryMinusOpExpr:
		return w.negation(e)
	case *ast.UnaryNotOpExpr:
		e.Expr = w.expr(e.Expr)
	case *ast.UnaryLenOpExpr:
		return w.length(e)
	case *ast.FunctionExpr:
		w.function(e)
	}
	return e
}

func (w *Walker) function(f *ast.FunctionExpr) {
	mark := len(w.locals)
	w.enclosing = append(w.enclosing, f)
	w.noteAll(f.ParList.Names, nil)
	w.declare(f.ParList.Names...)
	if f.ParList.HasVargs {
		w.declare("arg") // as Lua 5.1 has it, in functions but not in the main chunk
	}
	w.stmts(f.Stmts)
	w.enclosing = w.enclosing[:len(w.enclosing)-1]
	w.locals = w.locals[:mark]
}

// Path spells a chain of constant fields of a global, if e is one.
func (w *Walker) Path(e ast.Expr) (string, bool) { return w.path(e, maxPath) }

// path spells a chain of constant fields of a global, such as "avi.vs.log".
// A path through a name that the script assigns to is not predefined, nor is
// one of more than the given number of parts.
func (w *Walker) path(e ast.Expr, parts int) (string, bool) {
	switch e := e.(type) {
	case *ast.IdentExpr:
		return e.Value, !w.isLocal(e.Value) && !w.globals.assigned[e.Value]
	case *ast.AttrGetExpr:
		key, ok := e.Key.(*ast.StringExpr)
		if !ok || parts == 1 {
			return "", false
		}
		prefix, ok := w.path(e.Object, parts-1)
		return prefix + "." + key.Value, ok
	}
	return "", false
}

// name handles the use of a global variable or of a predefined name.
func (w *Walker) name(e ast.Expr, name string) ast.Expr {
	if !w.usesKnown {
		return e
	}
	sym := w.compiler.library.symbols[name]
	switch {
	case sym == nil, w.globals.assigned[name], sym.Kind == Variable:
		return w.global(e, name)
	case !w.rewriting:
		return e
	case sym.Kind == Constant:
		return at(e, &ast.StringExpr{Value: sym.Text})
	}
	return w.imported(e, sym)
}

// global replaces a global variable by its slot.
func (w *Walker) global(e ast.Expr, name string) ast.Expr {
	slot := w.globals.slot(name)
	if !w.rewriting {
		return e
	}
	key := at(e, &ast.NumberExpr{Value: strconv.Itoa(slot)})
	return at(e, &ast.AttrGetExpr{Object: at(e, &ast.IdentExpr{Value: globalsName}), Key: key})
}

// imported replaces a predefined name by the local that holds its value, or,
// when the locals are used up, by a look-up in the table that has it.
func (w *Walker) imported(e ast.Expr, sym *Symbol) ast.Expr {
	if !slices.Contains(w.imports, sym) {
		if len(w.imports) >= maxImports && sym.parent != nil {
			object := w.imported(e, sym.parent)
			return at(e, &ast.AttrGetExpr{Object: object, Key: at(e, &ast.StringExpr{Value: sym.Field()})})
		}
		w.imports = append(w.imports, sym)
	}
	return at(e, &ast.IdentExpr{Value: importName(sym)})
}

// concat turns a chain a..b..c, which associates to the right, into one call.
func (w *Walker) concat(e *ast.StringConcatOpExpr) ast.Expr {
	var pieces []ast.Expr
	rest := ast.Expr(e)
	for {
		op, ok := rest.(*ast.StringConcatOpExpr)
		if !ok {
			break
		}
		pieces = append(pieces, op.Lhs)
		rest = op.Rhs
	}
	pieces = append(pieces, rest)
	if !w.rewriting {
		w.exprs(pieces)
		return e
	}
	operands := make([]operand, len(pieces))
	for i, p := range pieces {
		operands[i] = w.operand(p)
	}
	w.exprs(pieces)
	return w.operator(e, concatName, concatOp, pieces, operands...)
}

// operator makes the call that stands for an operator.
func (w *Walker) operator(e ast.Expr, name string, op operation, args []ast.Expr, operands ...operand) ast.Expr {
	args[len(args)-1] = single(args[len(args)-1])
	call := at(e, &ast.FuncCallExpr{AdjustRet: true, Args: args})
	call.Func = w.imported(e, w.compiler.library.symbols[name])
	w.mark(call, op, operands...)
	return call
}

// single keeps the last argument of a call from giving several values.
func single(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = true
	case *ast.Comma3Expr:
		e.AdjustRet = true
	}
	return e
}

// at gives a new node the lines of the one it replaces.
func at[N ast.PositionHolder](old ast.PositionHolder, e N) N {
	e.SetLine(position(old.Line()).line())
	e.SetLastLine(old.LastLine())
	return e
}
