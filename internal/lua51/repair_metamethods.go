package lua51

import (
	"cmp"
	"math"
	"slices"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
)

var metamethodsRepair = repair{
	file:    "repair_metamethods.go",
	fault:   "A metamethod of arithmetic or comparison that is not a function is ignored, though it can be called.",
	program: "print(setmetatable({}, {__add = setmetatable({}, {__call = function() return 7 end})}) + 1)",
	wrong:   "error: cannot perform add operation between table and number",
	right:   "7",
}

// The VM calls a metamethod of an arithmetic operator or of a comparison only
// if it is a function, and ignores any other; Lua 5.1 calls a metamethod of any
// type. So in a script that spells the name of such a metamethod, the
// operators which it stands for become calls of functions that do as Lua does.
// Other scripts pay nothing for it.

// Names of functions that stand for operators; no script can spell them.
const (
	addName          = "+"
	subtractName     = "-"
	multiplyName     = "*"
	divideName       = "/"
	powerName        = "^"
	negateName       = "(-)"
	equalName        = "=="
	lessName         = "<"
	lessEqualName    = "<="
	greaterName      = ">"
	greaterEqualName = ">="
)

var operatorEntries = []Entry{
	{Name: addName, Call: arithmetic("__add", func(x, y float64) float64 { return x + y })},
	{Name: subtractName, Call: arithmetic("__sub", func(x, y float64) float64 { return x - y })},
	{Name: multiplyName, Call: arithmetic("__mul", func(x, y float64) float64 { return x * y })},
	{Name: divideName, Call: arithmetic("__div", func(x, y float64) float64 { return x / y })},
	{Name: powerName, Call: arithmetic("__pow", math.Pow)},
	{Name: moduloName, Call: arithmetic("__mod", luaMod)},
	{Name: negateName, Call: negate},
	{Name: equalName, Call: func(c Call) int { return c.RetBool(c.equal(c.Arg(1), c.Arg(2))) }},
	{Name: lessName, Call: func(c Call) int { return c.RetBool(c.less(c.Arg(1), c.Arg(2))) }},
	{Name: lessEqualName, Call: func(c Call) int { return c.RetBool(c.lessEqual(c.Arg(1), c.Arg(2))) }},
	{Name: greaterName, Call: func(c Call) int { return c.RetBool(c.less(c.Arg(2), c.Arg(1))) }},
	{Name: greaterEqualName, Call: func(c Call) int { return c.RetBool(c.lessEqual(c.Arg(2), c.Arg(1))) }},
}

// isOperator reports whether a function stands for an operator, which its name
// shows. Such a function has no level of its own in the stack of calls that
// scripts see.
func (s *Symbol) isOperator() bool { return s.Name[0] < 'A' || s.Name == powerName }

// metamethods are the operators by the names of the metamethods that replace
// them.
var metamethods = map[string][]string{
	"__add": {addName},
	"__sub": {subtractName},
	"__mul": {multiplyName},
	"__div": {divideName},
	"__mod": {moduloName},
	"__pow": {powerName},
	"__unm": {negateName},
	"__eq":  {equalName, "~="},
	"__lt":  {lessName, greaterName, lessEqualName, greaterEqualName},
	"__le":  {lessEqualName, greaterEqualName},
}

// noteMetamethod notes that a script spells the name of a metamethod.
func (g *globals) noteMetamethod(name string) {
	for _, operator := range metamethods[name] {
		g.overloaded[operator] = true
	}
}

// arith rewrites an operation of arithmetic.
func (w *Walker) arith(e *ast.ArithmeticOpExpr) ast.Expr {
	operands := []operand{w.operand(e.Lhs), w.operand(e.Rhs)}
	byCall := w.globals.overloaded[e.Operator] && !isFolded(e)
	if e.Operator == moduloName { // the VM's is not always a-floor(a/b)*b
		byCall = w.globals.overloaded[moduloName] || !isWhole(e.Rhs)
	}
	if !byCall {
		w.mark(e, arithOp, operands...)
	}
	e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	if !byCall || !w.rewriting {
		return e
	}
	return w.operator(e, e.Operator, arithOp, []ast.Expr{single(e.Lhs), e.Rhs}, operands...)
}

// negation rewrites -v.
func (w *Walker) negation(e *ast.UnaryMinusOpExpr) ast.Expr {
	name := w.operand(e.Expr)
	byCall := w.globals.overloaded[negateName] && !isFolded(e)
	if !byCall {
		w.mark(e, negateOp, name)
	}
	e.Expr = w.expr(e.Expr)
	if !byCall || !w.rewriting {
		return e
	}
	return w.operator(e, negateName, negateOp, []ast.Expr{e.Expr}, name)
}

// comparison rewrites a comparison.
func (w *Walker) comparison(e *ast.RelationalOpExpr) ast.Expr {
	e.Lhs, e.Rhs = w.expr(e.Lhs), w.expr(e.Rhs)
	if !w.rewriting || !w.globals.overloaded[e.Operator] {
		return e
	}
	args := []ast.Expr{single(e.Lhs), e.Rhs}
	if e.Operator == "~=" {
		return at(e, &ast.UnaryNotOpExpr{Expr: w.operator(e, equalName, otherOp, args)})
	}
	return w.operator(e, e.Operator, otherOp, args)
}

// arithmetic returns what an operator of arithmetic becomes.
func arithmetic(event string, op func(x, y float64) float64) func(Call) int {
	return func(c Call) int {
		x, okX := c.Arg(1).(lua.LNumber)
		y, okY := c.Arg(2).(lua.LNumber)
		if okX && okY {
			return c.RetNumber(op(float64(x), float64(y)))
		}
		return c.arithmetic(event, op, c.Arg(1), c.Arg(2))
	}
}

// negate is what -v becomes. Its metamethod is given v twice.
func negate(c Call) int {
	v := c.Arg(1)
	return c.arithmetic("__unm", func(x, _ float64) float64 { return -x }, v, v)
}

// arithmetic applies an operation to two operands: a numeral in a string is a
// number, else a metamethod has to do it.
func (c Call) arithmetic(event string, op func(x, y float64) float64, left, right lua.LValue) int {
	x, okX := c.Number(left)
	y, okY := c.Number(right)
	if okX && okY {
		return c.RetNumber(op(x, y))
	}
	for _, v := range [...]lua.LValue{left, right} {
		if v.Type() == lua.LTString {
			continue
		}
		if method := c.L.GetMetaField(v, event); method != lua.LNil {
			return c.Ret(c.callValue(method, left, right))
		}
	}
	culprit, which := left, 0
	if okX {
		culprit, which = right, 1
	}
	at, _ := failedAt(c.L, 1)
	c.raise(c.L, lua.LString(c.opPosition()+"attempt to perform arithmetic on "+at.operand(which).describe(culprit.Type().String())))
	return 0
}

// equal is ==.
func (c Call) equal(left, right lua.LValue) bool {
	switch x := left.(type) {
	case lua.LString:
		if y, ok := right.(lua.LString); ok {
			c.compares(len(x), len(y), 7)
		}
	case *lua.LTable:
		if _, ok := right.(*lua.LTable); !ok || left == right {
			return left == right
		}
		if method := c.comparer("__eq", left, right); method != lua.LNil {
			return lua.LVAsBool(c.callValue(method, left, right))
		}
		return false
	}
	return c.L.RawEqual(left, right)
}

// less is <.
func (c Call) less(left, right lua.LValue) bool {
	if n, ok := c.order(left, right); ok {
		return n < 0
	}
	method := c.comparer("__lt", left, right)
	if method == lua.LNil {
		c.cannotCompare(left, right)
	}
	return lua.LVAsBool(c.callValue(method, left, right))
}

// lessEqual is <=. Without __le, Lua asks whether right is not less.
func (c Call) lessEqual(left, right lua.LValue) bool {
	if n, ok := c.order(left, right); ok {
		return n <= 0
	}
	if method := c.comparer("__le", left, right); method != lua.LNil {
		return lua.LVAsBool(c.callValue(method, left, right))
	}
	method := c.comparer("__lt", right, left)
	if method == lua.LNil {
		c.cannotCompare(left, right)
	}
	return !lua.LVAsBool(c.callValue(method, right, left))
}

// order compares numbers or strings. For one that is not a number it returns
// more than equal.
func (c Call) order(left, right lua.LValue) (n int, ok bool) {
	switch x := left.(type) {
	case lua.LNumber:
		y, ok := right.(lua.LNumber)
		if x != x || y != y {
			return 1, ok
		}
		return cmp.Compare(x, y), ok
	case lua.LString:
		y, ok := right.(lua.LString)
		if ok {
			c.compares(len(x), len(y), 4)
		}
		return cmp.Compare(x, y), ok
	}
	return 0, false
}

// compares charges for comparing strings, 1<<shift bytes for an instruction.
func (c Call) compares(x, y, shift int) { c.Work(min(x, y) >> shift) }

// comparer returns the metamethod that two values of one type share, or nil.
func (c Call) comparer(event string, left, right lua.LValue) lua.LValue {
	if left.Type() != right.Type() {
		return lua.LNil
	}
	if method := c.L.GetMetaField(left, event); c.L.RawEqual(method, c.L.GetMetaField(right, event)) {
		return method
	}
	return lua.LNil
}

func (c Call) cannotCompare(left, right lua.LValue) {
	text := "attempt to compare " + left.Type().String() + " with " + right.Type().String()
	if left.Type() == right.Type() {
		text = "attempt to compare two " + left.Type().String() + " values"
	}
	c.raise(c.L, lua.LString(c.opPosition()+text))
}

// opPosition begins the message of an operation that fails: it is the script's
// if an operator has failed, and a function of the library has no lines.
func (c Call) opPosition() string {
	if c.Sym.isOperator() {
		return where(c.L, 1)
	}
	return ""
}

// visible returns the level that GetStack knows a level by, without those of
// functions that stand for operators, and the frame. The frame is nil if there
// is none or if it was lost to a tail call.
func visible(L *lua.LState, level int) (int, *vmFrame) {
	operators := L.Context().(*Run).state.operators
	f, left := *frameOf(L), level
	for left > 0 && f != nil {
		left--
		if !f.Fn.IsG {
			left -= f.TailCall
		}
		f = f.Parent
		for left >= 0 && f != nil && f.Fn.IsG && slices.Contains(operators, f.Fn) {
			level++
			f = f.Parent
		}
	}
	if left < 0 {
		f = nil
	}
	return level, f
}

// isCall reports whether the script's function at a level is at a call.
func isCall(L *lua.LState, level int) bool {
	_, f := visible(L, level)
	if f == nil || f.Fn.IsG {
		return false
	}
	switch int(f.Fn.Proto.Code[f.Pc-1] >> 26) {
	case lua.OP_CALL, lua.OP_TAILCALL, lua.OP_TFORLOOP:
		return true
	}
	return false
}
