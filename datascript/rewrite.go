package datascript

import (
	"slices"
	"strconv"

	"github.com/yuin/gopher-lua/ast"

	"github.com/limpetlb/limpet/internal/luastr"
)

// Between parsing and code generation the syntax tree of a script is
// rewritten, for isolation and for speed:
//
//   - A global variable of the script becomes an element of a table that
//     belongs to one transaction and one script. Each name has a slot, the
//     same in all events of the script. There is no other global
//     environment, so nothing can leak through it.
//   - A predefined name (print, string.find, avi.vs.log) that the script
//     never assigns becomes an import: a value handed to the script once per
//     Lua state, so that using it costs no look-up. Constants become
//     literals.
//   - The operator .. becomes a call that checks the size of its result.
//   - Numerals are read as Lua 5.1 reads them; to the VM, 010 is eight.
//
// The event's code
//
//	server = avi.vs.table_lookup(client)
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
	maxPath  = 4 // parts of the longest predefined name
)

// globals are the global variables of a script.
type globals struct {
	names    []string       // by slot, which counts from 1
	slots    map[string]int // the reverse
	assigned map[string]bool
	prefill  []prefill // slots that do not start as nil
}

// A prefill gives a slot the value of a predefined name that the script
// assigns to. If the name is that of a library into which the script stores
// functions of its own, the transaction gets its own copy of the library.
type prefill struct {
	slot int
	sym  *symbol
}

func (g *globals) slot(name string) int {
	if i, ok := g.slots[name]; ok {
		return i
	}
	g.names = append(g.names, name)
	g.slots[name] = len(g.names)
	return len(g.names)
}

// findGlobals gives each global variable of the chunks its slot.
func findGlobals(chunks [][]ast.Stmt) (*globals, *CompileError) {
	g := &globals{slots: map[string]int{}, assigned: map[string]bool{}}
	w := &walker{globals: g}
	// What is assigned in any event must be known before uses are judged.
	for range 2 {
		for _, stmts := range chunks {
			w.block(stmts)
		}
		w.usesKnown = true
	}
	if w.fault != nil {
		return nil, w.fault
	}
	for i, name := range g.names {
		if sym := symbols[name]; sym != nil {
			g.prefill = append(g.prefill, prefill{slot: i + 1, sym: sym})
		}
	}
	return g, nil
}

// rewrite turns the statements of one event into those of the function that
// lua.Compile is given, and lists the values it imports.
func rewrite(stmts []ast.Stmt, g *globals) ([]ast.Stmt, []*symbol, *CompileError) {
	w := &walker{globals: g, usesKnown: true, rewriting: true}
	w.block(stmts)
	if w.fault != nil {
		return nil, nil, w.fault
	}
	line := 1
	if len(stmts) > 0 {
		line = stmts[0].Line()
	}
	main := &ast.FunctionExpr{ParList: &ast.ParList{Names: []string{globalsName}, HasVargs: w.mainVararg}, Stmts: stmts}
	main.SetLine(line)
	main.SetLastLine(line)
	if n := len(stmts); n > 0 {
		main.SetLastLine(max(line, stmts[n-1].Line(), stmts[n-1].LastLine()))
	}
	ret := &ast.ReturnStmt{Exprs: []ast.Expr{main}}
	ret.SetLine(line)
	body := []ast.Stmt{ret}
	if len(w.imports) > 0 {
		local := &ast.LocalAssignStmt{Exprs: []ast.Expr{&ast.Comma3Expr{}}}
		local.SetLine(line)
		for _, sym := range w.imports {
			local.Names = append(local.Names, importName(sym))
		}
		body = []ast.Stmt{local, ret}
	}
	return body, w.imports, nil
}

func importName(sym *symbol) string { return "(" + sym.name + ")" }

// maxImports is how many values one event can import: the VM has 200
// registers for locals. Further names are looked up when they are used.
const maxImports = 150

// A walker goes through a syntax tree with the local variables of each point
// at hand. It runs three times over a script: to find what is assigned, to
// find what is used, and to rewrite.
type walker struct {
	globals   *globals
	usesKnown bool // assignments have been found; find uses
	rewriting bool

	locals     []string // in scope, innermost last
	funcs      int      // nested functions around this point
	mainVararg bool     // the main chunk uses "..."
	imports    []*symbol
	depth      int
	fault      *CompileError
}

func (w *walker) isLocal(name string) bool { return slices.Contains(w.locals, name) }

func (w *walker) declare(names ...string) { w.locals = append(w.locals, names...) }

// enter counts the depth of the tree; leave must follow.
func (w *walker) enter(n ast.PositionHolder) bool {
	w.depth++
	if w.depth > maxDepth && w.fault == nil {
		w.fault = &CompileError{Line: n.Line(), Message: "expression or statement too complex"}
	}
	return w.fault == nil
}

func (w *walker) leave() { w.depth-- }

func (w *walker) block(stmts []ast.Stmt) {
	mark := len(w.locals)
	w.stmts(stmts)
	w.locals = w.locals[:mark]
}

func (w *walker) stmts(stmts []ast.Stmt) {
	for _, s := range stmts {
		w.stmt(s)
	}
}

func (w *walker) stmt(s ast.Stmt) {
	defer w.leave()
	if !w.enter(s) {
		return
	}
	switch s := s.(type) {
	case *ast.AssignStmt:
		w.exprs(s.Rhs)
		for i, lhs := range s.Lhs {
			s.Lhs[i] = w.target(lhs)
		}
	case *ast.LocalAssignStmt:
		// The VM lets a lone function see its own name, for "local
		// function"; the tree does not tell the two forms apart.
		if len(s.Names) == 1 && len(s.Exprs) == 1 {
			if _, ok := s.Exprs[0].(*ast.FunctionExpr); ok {
				w.declare(s.Names...)
				w.exprs(s.Exprs)
				return
			}
		}
		w.exprs(s.Exprs)
		w.declare(s.Names...)
	case *ast.FuncCallStmt:
		s.Expr = w.expr(s.Expr)
	case *ast.DoBlockStmt:
		w.block(s.Stmts)
	case *ast.WhileStmt:
		s.Condition = w.expr(s.Condition)
		w.block(s.Stmts)
	case *ast.RepeatStmt:
		mark := len(w.locals)
		w.stmts(s.Stmts)
		s.Condition = w.expr(s.Condition)
		w.locals = w.locals[:mark]
	case *ast.IfStmt:
		s.Condition = w.expr(s.Condition)
		w.block(s.Then)
		w.block(s.Else)
	case *ast.NumberForStmt:
		s.Init, s.Limit = w.expr(s.Init), w.expr(s.Limit)
		if s.Step != nil {
			s.Step = w.expr(s.Step)
		}
		mark := len(w.locals)
		w.declare(s.Name)
		w.stmts(s.Stmts)
		w.locals = w.locals[:mark]
	case *ast.GenericForStmt:
		w.exprs(s.Exprs)
		mark := len(w.locals)
		w.declare(s.Names...)
		w.stmts(s.Stmts)
		w.locals = w.locals[:mark]
	case *ast.FuncDefStmt:
		if s.Name.Func != nil {
			s.Name.Func = w.target(s.Name.Func)
			w.function(s.Func, false)
		} else {
			w.modifies(s.Name.Receiver)
			s.Name.Receiver = w.expr(s.Name.Receiver)
			w.function(s.Func, true)
		}
	case *ast.ReturnStmt:
		w.exprs(s.Exprs)
	}
}

// target handles what stands left of an assignment.
func (w *walker) target(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.IdentExpr:
		if w.isLocal(e.Value) {
			return e
		}
		w.globals.assigned[e.Value] = true
		return w.global(e, e.Value)
	case *ast.AttrGetExpr:
		w.modifies(e.Object)
		e.Object, e.Key = w.expr(e.Object), w.expr(e.Key)
	}
	return e
}

// modifies notes that a script stores into the table that e names, if that
// is a predefined library: the transaction then gets a copy of it.
func (w *walker) modifies(e ast.Expr) {
	if id, ok := e.(*ast.IdentExpr); ok && !w.isLocal(id.Value) && copyableLibraries[id.Value] {
		w.globals.assigned[id.Value] = true
	}
}

func (w *walker) exprs(list []ast.Expr) {
	for i, e := range list {
		list[i] = w.expr(e)
	}
}

func (w *walker) expr(e ast.Expr) ast.Expr {
	defer w.leave()
	if !w.enter(e) {
		return e
	}
	switch e := e.(type) {
	case *ast.NumberExpr:
		if f, ok := luastr.ParseNumber(e.Value); ok && w.rewriting {
			e.Value = strconv.FormatFloat(f, 'g', -1, 64)
		}
	case *ast.Comma3Expr:
		if w.funcs == 0 {
			w.mainVararg = true
		}
	case *ast.IdentExpr:
		if !w.isLocal(e.Value) {
			return w.name(e, e.Value)
		}
	case *ast.AttrGetExpr:
		if path, ok := w.path(e, maxPath); ok && symbols[path] != nil {
			return w.name(e, path)
		}
		e.Object, e.Key = w.expr(e.Object), w.expr(e.Key)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			if f.Key != nil {
				f.Key = w.expr(f.Key)
			}
			f.Value = w.expr(f.Value)
		}
	case *ast.FuncCallExpr:
		if e.Func != nil {
			e.Func = w.expr(e.Func)
		} else {
			e.Receiver = w.expr(e.Receiver)
		}
		w.exprs(e.Args)
	case *ast.LogicalOpExpr:
		e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	case *ast.RelationalOpExpr:
		e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	case *ast.ArithmeticOpExpr:
		e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	case *ast.StringConcatOpExpr:
		return w.concat(e)
	case *ast.UnaryMinusOpExpr:
		e.Expr = w.expr(e.Expr)
	case *ast.UnaryNotOpExpr:
		e.Expr = w.expr(e.Expr)
	case *ast.UnaryLenOpExpr:
		e.Expr = w.expr(e.Expr)
	case *ast.FunctionExpr:
		w.function(e, false)
	}
	return e
}

func (w *walker) function(f *ast.FunctionExpr, method bool) {
	mark := len(w.locals)
	if method {
		w.declare("self")
	}
	w.declare(f.ParList.Names...)
	if f.ParList.HasVargs {
		w.declare("arg") // as Lua 5.1 has it, in functions but not in the main chunk
	}
	w.funcs++
	w.stmts(f.Stmts)
	w.funcs--
	w.locals = w.locals[:mark]
}

// path spells a chain of constant fields of a global, such as "avi.vs.log".
// A path through a name that the script assigns to is not predefined, nor is
// one of more than the given number of parts.
func (w *walker) path(e ast.Expr, parts int) (string, bool) {
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
func (w *walker) name(e ast.Expr, name string) ast.Expr {
	if !w.usesKnown {
		return e
	}
	sym := symbols[name]
	switch {
	case sym == nil, w.globals.assigned[name], sym.kind == perTransaction:
		return w.global(e, name)
	case !w.rewriting:
		return e
	case sym.kind == constant:
		return at(e, &ast.StringExpr{Value: sym.text})
	}
	return w.imported(e, sym)
}

// global replaces a global variable by its slot.
func (w *walker) global(e ast.Expr, name string) ast.Expr {
	slot := w.globals.slot(name)
	if !w.rewriting {
		return e
	}
	key := at(e, &ast.NumberExpr{Value: strconv.Itoa(slot)})
	return at(e, &ast.AttrGetExpr{Object: at(e, &ast.IdentExpr{Value: globalsName}), Key: key})
}

// imported replaces a predefined name by the local that holds its value, or,
// when the locals are used up, by a look-up in the table that has it.
func (w *walker) imported(e ast.Expr, sym *symbol) ast.Expr {
	if !slices.Contains(w.imports, sym) {
		if len(w.imports) >= maxImports && sym.parent != nil {
			object := w.imported(e, sym.parent)
			return at(e, &ast.AttrGetExpr{Object: object, Key: at(e, &ast.StringExpr{Value: sym.field()})})
		}
		w.imports = append(w.imports, sym)
	}
	return at(e, &ast.IdentExpr{Value: importName(sym)})
}

// concat turns a chain a..b..c, which associates to the right, into one call.
func (w *walker) concat(e *ast.StringConcatOpExpr) ast.Expr {
	call := &ast.FuncCallExpr{AdjustRet: true}
	rest := ast.Expr(e)
	for {
		op, ok := rest.(*ast.StringConcatOpExpr)
		if !ok {
			break
		}
		op.Lhs = w.expr(op.Lhs)
		call.Args = append(call.Args, op.Lhs)
		if next, ok := op.Rhs.(*ast.StringConcatOpExpr); ok {
			rest = next
			continue
		}
		op.Rhs = w.expr(op.Rhs)
		rest = op.Rhs
		break
	}
	if !w.rewriting {
		return e
	}
	call.Args = append(call.Args, single(rest))
	call.Func = w.imported(e, symbols[concatName])
	return at(e, call)
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

// at gives a new expression the place of the one it replaces.
func at[E ast.Expr](old ast.Expr, e E) E {
	e.SetLine(old.Line())
	e.SetLastLine(old.LastLine())
	return e
}
