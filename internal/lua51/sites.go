package lua51

import (
	"math"
	"strconv"
	"sync"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"

	"github.com/limpetlb/limpet/internal/luastr"
)

// Lua names the culprit when an operation fails: "attempt to call field
// 'drop' (a nil value)". The VM does not, but it knows the line of each
// instruction, and takes any number for a line. So the compiler gives it
// positions: the line, and above it the number of a site, an operation that can
// fail with the names of its operands. Code that shows lines (messages,
// tracebacks, the log) takes positions apart again. An int of 32 bits has no
// room for sites; messages then come without names.

// A position is what the VM takes for a line.
type position int

const (
	lineBits = 24
	maxLine  = 1<<lineBits - 1
	maxSite  = 1<<(strconv.IntSize-1-lineBits) - 1
)

func (p position) line() int { return int(p) & maxLine }

// sites are the operations of a program that can fail, by number less one.
type sites []site

type site struct {
	op       operation
	operands []operand
}

type operation uint8

const (
	otherOp  operation = iota
	callOp             // operands: the callee; for a method, also the object
	indexOp            // the table
	arithOp            // left and right
	negateOp           // the operand
	lengthOp           // the operand
	concatOp           // all pieces of a chain
	forOp              // of a generic loop: the generator
	boundsOp           // of a numeric loop: none
)

// An operand is how a script came by a value: kind is "local", "upvalue",
// "global", "field" or "method", or empty if there is no name.
type operand struct{ kind, name string }

// at returns the site of a position, or one without names.
func (s sites) at(p position) site {
	if i := int(p) >> lineBits; i > 0 && i <= len(s) {
		return s[i-1]
	}
	return site{}
}

func (s site) operand(i int) operand {
	if i < len(s.operands) {
		return s.operands[i]
	}
	return operand{}
}

// describe names the operand, and says what it is instead of what it should
// be.
func (o operand) describe(typ string) string {
	if o.kind == "" {
		return "a " + typ + " value"
	}
	return o.kind + " '" + spelled(o.name) + "' (a " + typ + " value)"
}

// mark makes an expression or statement a site.
func (w *Walker) mark(n ast.PositionHolder, op operation, operands ...operand) {
	if !w.rewriting || len(w.sites) >= maxSite {
		return
	}
	w.sites = append(w.sites, site{op, operands})
	n.SetLine(len(w.sites)<<lineBits | position(n.Line()).line())
}

// operand finds what an expression is called in messages. It must be asked
// before the expression is rewritten.
func (w *Walker) operand(e ast.Expr) operand {
	switch e := e.(type) {
	case *ast.IdentExpr:
		switch v := w.variable(e.Value); {
		case v == nil:
			return operand{"global", e.Value}
		case v.funcs == len(w.enclosing):
			return operand{"local", e.Value}
		default:
			return operand{"upvalue", e.Value}
		}
	case *ast.AttrGetExpr:
		return operand{"field", fieldName(e.Key)}
	case *ast.LogicalOpExpr:
		// Lua computes nothing whose result is known.
		if known, truth := truthOf(e.Lhs); known && truth == (e.Operator == "and") {
			return w.operand(e.Rhs)
		}
	}
	return operand{}
}

// fieldName returns what a key is called in messages.
func fieldName(key ast.Expr) string {
	switch e := key.(type) {
	case *ast.StringExpr:
		return cText(e.Value)
	case *ast.LogicalOpExpr:
		if known, truth := truthOf(e.Lhs); known && truth == (e.Operator == "and") {
			return fieldName(e.Rhs)
		}
	}
	return "?"
}

// truthOf reports whether an expression is a constant, and one that is true.
func truthOf(e ast.Expr) (known, truth bool) {
	switch e.(type) {
	case *ast.NilExpr, *ast.FalseExpr:
		return true, false
	case *ast.StringExpr, *ast.TrueExpr:
		return true, true
	}
	return isFolded(e), true
}

// isFolded reports whether Lua computes an expression when it compiles it.
func isFolded(e ast.Expr) bool {
	_, ok := folded(e)
	return ok
}

// folded returns the number that Lua computes when it compiles an expression.
// It leaves divisions by zero, and what is not a number, to the script.
func folded(e ast.Expr) (v float64, ok bool) {
	switch e := e.(type) {
	case *ast.NumberExpr:
		return luastr.ParseNumber(e.Value)
	case *ast.UnaryMinusOpExpr:
		v, ok = folded(e.Expr)
		return -v, ok
	case *ast.ArithmeticOpExpr:
		x, okX := folded(e.Lhs)
		y, okY := folded(e.Rhs)
		if !okX || !okY {
			return 0, false
		}
		unknown := false
		switch e.Operator {
		case addName:
			v = x + y
		case subtractName:
			v = x - y
		case multiplyName:
			v = x * y
		case divideName:
			v, unknown = x/y, y == 0
		case moduloName:
			v, unknown = luaMod(x, y), y == 0
		case powerName:
			v = math.Pow(x, y)
		}
		return v, !unknown && v == v
	}
	return 0, false
}

// An origin is where a function of a script comes from.
type origin struct {
	sites   sites
	program *Program

	once  sync.Once
	lines map[int]bool // that hold code; see hasCode
}

func (o *origin) hasCode(line int) bool {
	o.once.Do(func() {
		o.lines = map[int]bool{}
		for _, n := range o.program.Lines() {
			o.lines[n] = true
		}
	})
	return o.lines[line]
}

// attach makes the origin known to all functions of a program, as a constant
// that no instruction refers to: functions outlive runs, and may be called
// by other scripts of the transaction.
func (o *origin) attach(p *lua.FunctionProto) {
	o.attachValue(p, &lua.LUserData{Value: o, Metatable: lua.LNil})
}

func (o *origin) attachValue(p *lua.FunctionProto, u *lua.LUserData) {
	p.Constants = append(p.Constants, u)
	for _, inner := range p.FunctionPrototypes {
		o.attachValue(inner, u)
	}
}

var unknownOrigin = &origin{}

// originOf returns the origin of a function.
func originOf(p *lua.FunctionProto) *origin {
	if n := len(p.Constants); n > 0 {
		if u, ok := p.Constants[n-1].(*lua.LUserData); ok {
			if o, ok := u.Value.(*origin); ok {
				return o
			}
		}
	}
	return unknownOrigin
}
