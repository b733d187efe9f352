package luasyntax

import "math"

// Lua 5.1 generates code while it parses, into registers, and refuses a
// function that needs too many of them. To refuse the same functions at the
// same token, the checker tracks what the code generator would do to its
// register stack. No instruction is kept: of an expression it needs to know
// where its value is, or how it would get into a register.

// maxRegisters is one more than a function of Lua 5.1 can use.
const maxRegisters = 250

type expressionKind uint8

const (
	nothing expressionKind = iota
	nilValue
	trueValue
	falseValue
	stringConstant
	numeral // not yet in the table of constants
	local
	upvalue
	global
	indexed     // table in register, key in key
	comparison  // a conditional jump
	relocatable // the result of an instruction that may still choose its register
	fixed       // in register
	call        // a call that starts at register
	varargs
)

// constantOperand stands for a constant where a register is asked for: an
// instruction addresses the constants up to maxOperandConstant directly.
const (
	constantOperand    = -1
	maxOperandConstant = 255
)

type expression struct {
	kind     expressionKind
	isNot    bool // a relocatable that "not" made
	register int  // or, of a string constant, its index
	key      int  // a register or constantOperand
	value    float64

	// Whether "and" and "or" left jumps that make it true or false.
	jumpsTrue, jumpsFalse bool
}

func (e *expression) jumps() bool        { return e.jumpsTrue || e.jumpsFalse }
func (e *expression) isNumeral() bool    { return e.kind == numeral && !e.jumps() }
func (e *expression) isMultiple() bool   { return e.kind == call || e.kind == varargs }
func (e *expression) isAssignable() bool { return local <= e.kind && e.kind <= indexed }

func (e *expression) settle(register int) {
	e.kind, e.register = fixed, register
	e.jumpsTrue, e.jumpsFalse = false, false
}

// needRegisters fails unless n more registers can be taken.
func (c *checker) needRegisters(n int) {
	if c.function.free+n >= c.limits.Registers {
		c.failHere("function or expression too complex")
	}
}

func (c *checker) takeRegisters(n int) {
	c.needRegisters(n)
	c.function.free += n
}

// release frees a register unless it is a variable or no register at all.
func (c *checker) release(register int) {
	if register != constantOperand && register >= c.active() {
		c.function.free--
	}
}

func (c *checker) releaseExpression(e *expression) {
	if e.kind == fixed {
		c.release(e.register)
	}
}

// discharge turns a variable, call or ellipsis into its value.
func (c *checker) discharge(e *expression) {
	switch e.kind {
	case local:
		e.kind = fixed
	case indexed:
		c.release(e.key)
		c.release(e.register)
		e.kind, e.isNot = relocatable, false
	case global, upvalue:
		e.kind, e.isNot = relocatable, false
	default:
		c.single(e)
	}
}

// single cuts the results of a call or ellipsis to one.
func (c *checker) single(e *expression) {
	switch e.kind {
	case call:
		e.kind = fixed
	case varargs:
		e.kind, e.isNot = relocatable, false
	}
}

// multiple lets a call or ellipsis have any number of results.
func (c *checker) multiple(e *expression) {
	if e.kind == varargs {
		c.takeRegisters(1)
	}
}

// load puts the value of e into a register that is taken already. The value of
// a comparison is not there before its jumps have been settled.
func (c *checker) load(e *expression, register int) {
	c.discharge(e)
	switch e.kind {
	case nothing, comparison:
		return
	case numeral:
		c.constant(c.symbols.ofNumber(e.value))
	}
	e.kind, e.register = fixed, register
}

func (c *checker) loadAny(e *expression) {
	if e.kind != fixed {
		c.takeRegisters(1)
		c.load(e, c.function.free-1)
	}
}

func (c *checker) store(e *expression, register int) {
	c.load(e, register)
	e.settle(register)
}

// toNext puts the value of e into the next free register.
func (c *checker) toNext(e *expression) {
	c.discharge(e)
	c.releaseExpression(e)
	c.takeRegisters(1)
	c.store(e, c.function.free-1)
}

// toAny puts the value of e into some register and returns that.
func (c *checker) toAny(e *expression) int {
	c.discharge(e)
	if e.kind != fixed || e.jumps() {
		c.toNext(e)
	}
	return e.register
}

// toValue gets rid of what e is besides a value.
func (c *checker) toValue(e *expression) {
	if e.jumps() {
		c.toAny(e)
	} else {
		c.discharge(e)
	}
}

// toOperand makes e an operand, a constant where that can be addressed.
func (c *checker) toOperand(e *expression) int {
	c.toValue(e)
	id := symbolNil
	switch e.kind {
	case stringConstant:
		if e.register <= maxOperandConstant {
			return constantOperand
		}
		return c.toAny(e)
	case nilValue:
	case trueValue:
		id = symbolTrue
	case falseValue:
		id = symbolFalse
	case numeral:
	default:
		return c.toAny(e)
	}
	if len(c.function.constants) > maxOperandConstant {
		return c.toAny(e)
	}
	if e.kind == numeral {
		id = c.symbols.ofNumber(e.value)
	}
	e.kind, e.register = stringConstant, c.constant(id)
	return constantOperand
}

// assign stores e in a variable or table field.
func (c *checker) assign(to, e *expression) {
	switch to.kind {
	case local:
		c.releaseExpression(e)
		c.store(e, to.register)
		return
	case indexed:
		c.toOperand(e)
	default:
		c.toAny(e)
	}
	c.releaseExpression(e)
}

func (c *checker) index(table, key *expression) {
	table.key = c.toOperand(key)
	table.kind = indexed
}

// method replaces an object by a method of it and the object as an argument.
func (c *checker) method(object, key *expression) {
	c.toAny(object)
	c.releaseExpression(object)
	register := c.function.free
	c.takeRegisters(2)
	c.toOperand(key)
	c.releaseExpression(key)
	object.kind, object.register = fixed, register
}

// jump tests the value of e to jump over the right operand of "and" or "or".
func (c *checker) jump(e *expression) {
	if e.kind == relocatable && e.isNot {
		return // the jump takes the place of the instruction
	}
	c.loadAny(e)
	c.releaseExpression(e)
}

func (c *checker) goIfTrue(e *expression) {
	c.discharge(e)
	switch e.kind {
	case stringConstant, numeral, trueValue:
	case comparison:
		e.jumpsFalse = true
	default:
		c.jump(e)
		e.jumpsFalse = true
	}
	e.jumpsTrue = false
}

func (c *checker) goIfFalse(e *expression) {
	c.discharge(e)
	switch e.kind {
	case nilValue, falseValue:
	case comparison:
		e.jumpsTrue = true
	default:
		c.jump(e)
		e.jumpsTrue = true
	}
	e.jumpsFalse = false
}

func (c *checker) prefix(operator kind, e *expression) {
	switch operator {
	case keywordNot:
		c.negate(e)
	case '#':
		c.toAny(e)
		c.releaseExpression(e)
		e.kind, e.isNot = relocatable, false
	case '-':
		if e.isNumeral() {
			e.value = -e.value
			return
		}
		c.toAny(e)
		c.releaseExpression(e)
		e.kind, e.isNot = relocatable, false
	}
}

func (c *checker) negate(e *expression) {
	c.discharge(e)
	switch e.kind {
	case nilValue, falseValue:
		e.kind = trueValue
	case stringConstant, numeral, trueValue:
		e.kind = falseValue
	case relocatable, fixed:
		c.loadAny(e)
		c.releaseExpression(e)
		e.kind, e.isNot = relocatable, true
	}
	e.jumpsTrue, e.jumpsFalse = e.jumpsFalse, e.jumpsTrue
}

// infix prepares the left operand before the right one is read.
func (c *checker) infix(operator kind, left *expression) {
	switch operator {
	case keywordAnd:
		c.goIfTrue(left)
	case keywordOr:
		c.goIfFalse(left)
	case concatenation:
		c.toNext(left)
	case '+', '-', '*', '/', '%', '^':
		if !left.isNumeral() {
			c.toOperand(left)
		}
	default:
		c.toOperand(left)
	}
}

// postfix makes left the result of the operation.
func (c *checker) postfix(operator kind, left, right *expression) {
	switch operator {
	case keywordAnd:
		c.discharge(right)
		right.jumpsFalse = right.jumpsFalse || left.jumpsFalse
		*left = *right
	case keywordOr:
		c.discharge(right)
		right.jumpsTrue = right.jumpsTrue || left.jumpsTrue
		*left = *right
	case concatenation:
		c.toValue(right)
		c.toNext(right)
		c.operate(left, right)
	case '+', '-', '*', '/', '%', '^':
		if fold(operator, left, right) {
			return
		}
		c.operate(left, right)
	default:
		c.toOperand(left)
		c.toOperand(right)
		c.releaseExpression(right)
		c.releaseExpression(left)
		left.kind = comparison
	}
}

func (c *checker) operate(left, right *expression) {
	c.toOperand(right)
	c.toOperand(left)
	c.releaseExpression(right)
	c.releaseExpression(left)
	left.kind, left.isNot = relocatable, false
}

// fold computes an operation of two numerals, unless it would make a NaN.
func fold(operator kind, left, right *expression) bool {
	if !left.isNumeral() || !right.isNumeral() {
		return false
	}
	a, b := left.value, right.value
	switch operator {
	case '+':
		a += b
	case '-':
		a -= b
	case '*':
		a *= b
	case '/':
		if b == 0 {
			return false
		}
		a /= b
	case '%':
		if b == 0 {
			return false
		}
		a -= float64(math.Floor(a/b) * b)
	case '^':
		a = math.Pow(a, b)
	}
	if math.IsNaN(a) {
		return false
	}
	left.value = a
	return true
}
