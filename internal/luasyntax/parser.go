package luasyntax

// checker is a recursive-descent recogniser: one method for each rule of the
// grammar, which reads the rule's tokens and fails at the first that does not
// fit. Every cycle of calls passes through enter.
type checker struct {
	lexer
	limits    Limits
	levels    int // open syntax levels
	function  *function
	variables []variable // in scope, outermost first
}

// enter opens a syntax level; the caller closes it.
func (c *checker) enter() {
	c.levels++
	if c.levels > c.limits.Depth {
		c.fail("chunk has too many syntax levels")
	}
}

func (c *checker) leave() { c.levels-- }

func (c *checker) accepts(k kind) bool {
	if c.current.kind != k {
		return false
	}
	c.next()
	return true
}

func (c *checker) check(k kind) {
	if c.current.kind != k {
		c.failHere("'" + k.spelling() + "' expected")
	}
}

func (c *checker) expect(k kind) {
	c.check(k)
	c.next()
}

// expectClosing expects the token that closes what opened at line.
func (c *checker) expectClosing(k, opened kind, line int) {
	if c.current.kind != k && line != c.line {
		c.failHere("'" + k.spelling() + "' expected (to close '" + opened.spelling() + "' at line " + itoa(line) + ")")
	}
	c.expect(k)
}

func (c *checker) name() symbolID {
	c.check(name)
	id := c.current.symbol
	c.next()
	return id
}

func (c *checker) source() {
	c.openFunction(0)
	c.function.variadic = true
	c.next()
	c.chunk()
	c.check(endOfSource)
	c.closeFunction()
}

func endsBlock(k kind) bool {
	switch k {
	case keywordElse, keywordElseif, keywordEnd, keywordUntil, endOfSource:
		return true
	}
	return false
}

func (c *checker) chunk() {
	c.enter()
	for last := false; !last && !endsBlock(c.current.kind); {
		last = c.statement()
		c.accepts(';')
	}
	c.leave()
}

func (c *checker) block() {
	first := len(c.variables)
	c.chunk()
	c.closeScope(first)
}

// statement reports whether it must be the last of its block.
func (c *checker) statement() (last bool) {
	line := c.line
	switch c.current.kind {
	case keywordIf:
		c.ifStatement(line)
	case keywordWhile:
		c.next()
		c.expression()
		c.expect(keywordDo)
		c.function.loops++
		c.block()
		c.function.loops--
		c.expectClosing(keywordEnd, keywordWhile, line)
	case keywordDo:
		c.next()
		c.block()
		c.expectClosing(keywordEnd, keywordDo, line)
	case keywordFor:
		c.function.loops++
		c.forStatement(line)
		c.function.loops--
	case keywordRepeat:
		c.function.loops++
		c.repeatStatement(line)
		c.function.loops--
	case keywordFunction:
		c.functionStatement(line)
	case keywordLocal:
		c.next()
		if c.accepts(keywordFunction) {
			c.localFunction()
		} else {
			c.localStatement()
		}
	case keywordReturn:
		c.returnStatement()
		return true
	case keywordBreak:
		c.next()
		if c.function.loops == 0 {
			c.failHere("no loop to break")
		}
		return true
	default:
		c.expressionStatement()
	}
	return false
}

func (c *checker) ifStatement(line int) {
	for more := true; more; more = c.current.kind == keywordElseif {
		c.next()
		c.expression()
		c.expect(keywordThen)
		c.block()
	}
	if c.accepts(keywordElse) {
		c.block()
	}
	c.expectClosing(keywordEnd, keywordIf, line)
}

// repeatStatement keeps the body's variables in scope for the condition.
func (c *checker) repeatStatement(line int) {
	first := len(c.variables)
	c.next()
	c.chunk()
	c.expectClosing(keywordUntil, keywordRepeat, line)
	c.expression()
	c.closeScope(first)
}

func (c *checker) forStatement(line int) {
	first := len(c.variables)
	c.next()
	variable := c.name()
	switch c.current.kind {
	case '=':
		c.numericFor(variable)
	case ',', keywordIn:
		c.genericFor(variable)
	default:
		c.failHere("'=' or 'in' expected")
	}
	c.expectClosing(keywordEnd, keywordFor, line)
	c.closeScope(first)
}

// hiddenLoopVariables are the state of a loop; a script cannot name them.
const hiddenLoopVariables = 3

func (c *checker) declareHidden() {
	for range hiddenLoopVariables {
		c.declare(symbolHidden)
	}
}

func (c *checker) numericFor(variable symbolID) {
	c.declareHidden()
	c.declare(variable)
	c.expect('=')
	c.expression()
	c.expect(',')
	c.expression()
	if c.accepts(',') {
		c.expression()
	} else {
		c.constant(c.symbols.ofNumber(1))
	}
	c.forBody(1)
}

func (c *checker) genericFor(variable symbolID) {
	c.declareHidden()
	c.declare(variable)
	names := 1
	for c.accepts(',') {
		c.declare(c.name())
		names++
	}
	c.expect(keywordIn)
	c.expressionList()
	c.forBody(names)
}

func (c *checker) forBody(names int) {
	c.bring(hiddenLoopVariables)
	c.expect(keywordDo)
	first := len(c.variables)
	c.bring(names)
	c.block()
	c.closeScope(first)
}

func (c *checker) functionStatement(line int) {
	c.next()
	c.resolve(c.name())
	for c.current.kind == '.' {
		c.field()
	}
	isMethod := c.current.kind == ':'
	if isMethod {
		c.field()
	}
	c.body(isMethod, line)
}

func (c *checker) localFunction() {
	c.declare(c.name())
	c.bring(1) // before the body, which may call it
	c.body(false, c.line)
}

func (c *checker) localStatement() {
	names := 0
	for more := true; more; more = c.accepts(',') {
		c.declare(c.name())
		names++
	}
	if c.accepts('=') {
		c.expressionList()
	}
	c.bring(names)
}

func (c *checker) returnStatement() {
	c.next()
	if endsBlock(c.current.kind) || c.current.kind == ';' {
		return
	}
	c.expressionList()
}

// expressionStatement reads a call or an assignment.
func (c *checker) expressionStatement() {
	if form := c.primary(); form != call {
		c.assignment(form)
	}
}

// assignment reads an assignment whose first target has been read.
func (c *checker) assignment(target form) {
	for targets := 1; ; targets++ {
		if target != assignable {
			c.failHere("syntax error")
		}
		if !c.accepts(',') {
			break
		}
		target = c.primary()
		// luac handles the targets by recursion and so counts them as levels.
		if limit := c.limits.Depth - c.levels; targets > limit {
			c.failLimit(c.function, limit, "variables in assignment")
		}
	}
	c.expect('=')
	c.expressionList()
}

func (c *checker) expressionList() {
	c.expression()
	for c.accepts(',') {
		c.expression()
	}
}

func (c *checker) expression() { c.operation(0) }

// binding is how tightly an operator binds to its left and right operand.
type binding struct{ left, right int }

// unaryBinding is between "*" and "^": -2^2 is -(2^2).
const unaryBinding = 8

func bindingOf(operator kind) (b binding, ok bool) {
	switch operator {
	case keywordOr:
		return binding{1, 1}, true
	case keywordAnd:
		return binding{2, 2}, true
	case '<', '>', lessOrEqual, greaterOrEqual, notEqual, equal:
		return binding{3, 3}, true
	case concatenation:
		return binding{5, 4}, true // to the right
	case '+', '-':
		return binding{6, 6}, true
	case '*', '/', '%':
		return binding{7, 7}, true
	case '^':
		return binding{10, 9}, true // to the right
	}
	return binding{}, false
}

// operation reads operands and the operators that bind tighter than minimum.
func (c *checker) operation(minimum int) {
	c.enter()
	switch c.current.kind {
	case keywordNot, '-', '#':
		c.next()
		c.operation(unaryBinding)
	default:
		c.operand()
	}
	for {
		b, ok := bindingOf(c.current.kind)
		if !ok || b.left <= minimum {
			break
		}
		c.next()
		c.operation(b.right)
	}
	c.leave()
}

func (c *checker) operand() {
	switch c.current.kind {
	case number:
		c.constant(c.symbols.ofNumber(c.current.number))
	case text:
		c.constant(c.current.symbol)
	case keywordNil, keywordTrue, keywordFalse:
	case ellipsis:
		if !c.function.variadic {
			c.failHere("cannot use '...' outside a vararg function")
		}
	case '{':
		c.constructor()
		return
	case keywordFunction:
		c.next()
		c.body(false, c.line)
		return
	default:
		c.primary()
		return
	}
	c.next()
}

// A form is what decides where an expression may stand.
type form uint8

const (
	plain      form = iota
	assignable      // a variable or an indexed value
	call
)

// primary reads a variable or expression in parentheses and all fields,
// indexes and calls that follow it.
func (c *checker) primary() (f form) {
	switch c.current.kind {
	case '(':
		line := c.line
		c.next()
		c.expression()
		c.expectClosing(')', '(', line)
	case name:
		c.resolve(c.name())
		f = assignable
	default:
		c.failHere("unexpected symbol")
	}
	for {
		switch c.current.kind {
		case '.':
			c.field()
			f = assignable
		case '[':
			c.bracketedKey()
			f = assignable
		case ':':
			c.field()
			c.arguments()
			f = call
		case '(', text, '{':
			c.arguments()
			f = call
		default:
			return f
		}
	}
}

// field reads "." or ":" and a name.
func (c *checker) field() {
	c.next()
	c.constant(c.name())
}

func (c *checker) bracketedKey() {
	c.next()
	c.expression()
	c.expect(']')
}

func (c *checker) arguments() {
	line := c.line
	switch c.current.kind {
	case '(':
		if line != c.lastLine {
			c.failHere("ambiguous syntax (function call x new statement)")
		}
		c.next()
		if c.current.kind != ')' {
			c.expressionList()
		}
		c.expectClosing(')', '(', line)
	case '{':
		c.constructor()
	case text:
		c.constant(c.current.symbol)
		c.next()
	default:
		c.failHere("function arguments expected")
	}
}

func (c *checker) constructor() {
	line := c.line
	c.expect('{')
	for c.current.kind != '}' {
		switch {
		case c.current.kind == '[':
			c.bracketedKey()
			c.expect('=')
		case c.current.kind == name && c.lookAhead() == '=':
			c.constant(c.name())
			c.expect('=')
		}
		c.expression()
		if !c.accepts(',') && !c.accepts(';') {
			break
		}
	}
	c.expectClosing('}', '{', line)
}

// body reads the parameters and the statements of a function.
func (c *checker) body(isMethod bool, line int) {
	c.openFunction(line)
	c.expect('(')
	if isMethod {
		c.declare(c.symbols.ofString("self"))
		c.bring(1)
	}
	c.parameters()
	c.expect(')')
	c.chunk()
	c.expectClosing(keywordEnd, keywordFunction, line)
	c.closeFunction()
	if c.function.functions == c.limits.Constants {
		c.fail("constant table overflow")
	}
	c.function.functions++
}

func (c *checker) parameters() {
	f := c.function
	if c.current.kind != ')' {
		for more := true; more; more = !f.variadic && c.accepts(',') {
			switch c.current.kind {
			case name:
				c.declare(c.name())
			case ellipsis:
				c.next()
				// 5.1 still passes the table of 5.0 as a hidden parameter.
				c.declare(c.symbols.ofString("arg"))
				f.variadic = true
			default:
				c.failHere("<name> or '...' expected")
			}
		}
	}
	c.bring(len(f.declared))
}
