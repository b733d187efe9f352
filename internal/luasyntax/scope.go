package luasyntax

import "slices"

// Names are resolved as the compiler does it, because the limits on locals,
// upvalues and constants depend on what each name stands for. A
// search through the variables in scope for every name would take quadratic
// time, so each symbol knows its innermost variable, which knows the one it
// hides. In the same way each symbol knows its constant in the function that
// saw it last, and that function puts back what it replaced when it ends.

// symbolID is the identity of a name, string or number within one source. The
// same characters have the same identity as a name and as a string.
type symbolID int32

const (
	symbolHidden symbolID = iota // of variables without a name; never looked up

	firstKeyword // the keywords, in the order of their kinds
	firstName    = firstKeyword + symbolID(keywordWhile-keywordAnd) + 1
)

type symbol struct {
	variable int       // innermost in scope, an index into checker.variables, or -1
	constant *function // the innermost that has it as a constant
}

type symbolTable struct {
	list    []symbol
	strings map[string]symbolID
	numbers map[float64]symbolID
}

func newSymbolTable(sourceBytes int) symbolTable {
	t := symbolTable{
		list:    make([]symbol, firstKeyword, int(firstName)+sourceBytes/16),
		strings: make(map[string]symbolID, int(firstName)+sourceBytes/32),
		numbers: make(map[float64]symbolID),
	}
	for i := range t.list {
		t.list[i].variable = -1
	}
	for k := keywordAnd; k <= keywordWhile; k++ {
		t.ofString(k.spelling())
	}
	return t
}

func (t *symbolTable) ofString(s string) symbolID {
	id, ok := t.strings[s]
	if !ok {
		id = t.add()
		t.strings[s] = id
	}
	return id
}

// ofNumber never sees NaN: no source spells it.
func (t *symbolTable) ofNumber(n float64) symbolID {
	id, ok := t.numbers[n]
	if !ok {
		id = t.add()
		t.numbers[n] = id
	}
	return id
}

func (t *symbolTable) add() symbolID {
	t.list = append(t.list, symbol{variable: -1})
	return symbolID(len(t.list) - 1)
}

// variable is a local variable in scope.
type variable struct {
	symbol symbolID
	hidden int // the variable of that name it hides, or -1
}

// function is a function whose end has not been read.
type function struct {
	parent   *function // nil for the main function
	line     int       // of its beginning
	variadic bool
	loops    int // open loops

	first    int        // index of its first variable in checker.variables
	declared []symbolID // variables that come into scope later
	locals   int        // variables ever declared
	upvalues []int      // indexes into checker.variables

	constants []replacedConstant
	functions int // inner functions
}

type replacedConstant struct {
	symbol symbolID
	before *function
}

func (c *checker) openFunction(line int) {
	c.function = &function{parent: c.function, line: line, first: len(c.variables)}
}

func (c *checker) closeFunction() {
	f := c.function
	c.closeScope(f.first)
	for _, r := range f.constants {
		c.symbols.list[r.symbol].constant = r.before
	}
	c.function = f.parent
}

// active returns the number of variables of the current function in scope.
func (c *checker) active() int { return len(c.variables) - c.function.first }

// maxDebugLocals is how many variables the debug information of a function of
// Lua 5.1 can describe.
const maxDebugLocals = 1<<15 - 1

// declare announces a variable that bring will put into scope.
func (c *checker) declare(id symbolID) {
	f := c.function
	if c.active()+len(f.declared)+1 > c.limits.Locals {
		c.failLimit(f, c.limits.Locals, "local variables")
	}
	if f.locals == maxDebugLocals {
		c.fail("too many local variables")
	}
	f.locals++
	f.declared = append(f.declared, id)
}

// bring puts the first n declared variables into scope.
func (c *checker) bring(n int) {
	f := c.function
	for _, id := range f.declared[:n] {
		s := &c.symbols.list[id]
		c.variables = append(c.variables, variable{id, s.variable})
		if id != symbolHidden {
			s.variable = len(c.variables) - 1
		}
	}
	f.declared = slices.Delete(f.declared, 0, n)
}

// closeScope ends the variables from index first on.
func (c *checker) closeScope(first int) {
	for i := len(c.variables) - 1; i >= first; i-- {
		v := c.variables[i]
		c.symbols.list[v.symbol].variable = v.hidden
	}
	c.variables = c.variables[:first]
}

// resolve finds the variable that a name stands for.
func (c *checker) resolve(id symbolID) {
	switch v := c.symbols.list[id].variable; {
	case v < 0:
		c.constant(id)
	case v < c.function.first:
		c.capture(c.function, v)
	}
}

// capture makes v an upvalue of f and of the functions between them, the
// outermost first.
func (c *checker) capture(f *function, v int) {
	if slices.Contains(f.upvalues, v) {
		return
	}
	if v < f.parent.first {
		c.capture(f.parent, v)
	}
	if len(f.upvalues)+1 > c.limits.Upvalues {
		c.failLimit(f, c.limits.Upvalues, "upvalues")
	}
	f.upvalues = append(f.upvalues, v)
}

// constant counts a symbol among the constants of the current function.
func (c *checker) constant(id symbolID) {
	f := c.function
	k := &c.symbols.list[id].constant
	if *k != f {
		if len(f.constants) >= c.limits.Constants {
			c.fail("constant table overflow")
		}
		f.constants = append(f.constants, replacedConstant{id, *k})
		*k = f
	}
}

func (c *checker) failLimit(f *function, limit int, what string) {
	where := "main function"
	if f.parent != nil {
		where = "function at line " + itoa(f.line)
	}
	c.fail(where + " has more than " + itoa(limit) + " " + what)
}
