package lua51

import "github.com/yuin/gopher-lua/ast"

// An Inspector looks at the syntax of a script while it is compiled, such as to
// warn of what compiles and means nothing. The compiler goes through all trees
// three times: to find what is assigned, to find what is used, and to rewrite
// them. The methods are called for a node before those within it are gone
// through, and before it is changed. They must not change anything.
type Inspector interface {
	// Begin is called once before the first two walks, with a nil tag, and
	// then for each tree, when it is rewritten, with the tag of its source.
	Begin(w *Walker, tag any)
	// Assign is called for a variable, global or local, that gets a value.
	// value is nil if that is not a single expression.
	Assign(name string, value ast.Expr)
	// Condition is called for the condition of an if statement.
	Condition(e ast.Expr)
	// Call is called for each call.
	Call(e *ast.FuncCallExpr)
	// Field is called for a field whose path is that of a predefined name, or
	// could be.
	Field(e *ast.AttrGetExpr, path string)
	// Text is called for each string, and each name of a field.
	Text(s string)
}

// UsesKnown reports whether all assignments have been found.
func (w *Walker) UsesKnown() bool { return w.usesKnown }

// Rewriting reports whether this is the last walk.
func (w *Walker) Rewriting() bool { return w.rewriting }

// InFunction reports whether the walk is within a function of the script's.
func (w *Walker) InFunction() bool { return len(w.enclosing) > 0 }

// Enclosing returns the functions of the script's that the walk is within, the
// outermost first. The slice is valid until the walk goes on.
func (w *Walker) Enclosing() []*ast.FunctionExpr { return w.enclosing }

// Line returns the line of a node.
func (w *Walker) Line(n ast.PositionHolder) int { return position(n.Line()).line() }

// IsMulti reports whether an expression can have several values.
func IsMulti(e ast.Expr) bool { return isMulti(e) }

// indifferent inspects nothing.
type indifferent struct{}

func (indifferent) Begin(*Walker, any)             {}
func (indifferent) Assign(string, ast.Expr)        {}
func (indifferent) Condition(ast.Expr)             {}
func (indifferent) Call(*ast.FuncCallExpr)         {}
func (indifferent) Field(*ast.AttrGetExpr, string) {}
func (indifferent) Text(string)                    {}
