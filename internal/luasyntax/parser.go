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
		c.function.free = c.active()
	}
	c.leave()
}

func (c *checker) block() {
	first := len(c.variables)
	c.chunk()
	c.closeBlock(first)
}

func (c *checker) closeBlock(first int) {
	c.closeScope(first)
	c.function.free = c.active()
}

// statement reports whether it must be the last of its block.
func (c *checker) statement() (last bool) {
	line := c.line
	switch c.current.kind {
	case keywordIf:
		c.ifStatement(line)
	case keywordWhile:
		c.next()
		c.condition()
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

func (c *checker) condition() {
	e := c.expression()
	c.goIfTrue(&e)
}

func (c *checker) ifStatement(line int) {
	for more := true; more; more = c.current.kind == keywordElseif {
		c.next()
		c.condition()
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
	c.condition()
	c.closeBlock(first)
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
	c.closeBlock(first)
}

// hiddenLoopVariables hold the state of a loop; a script cannot name them.
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
	c.loopBound()
	c.expect(',')
	c.loopBound()
	if c.accepts(',') {
		c.loopBound()
	} else {
		c.constant(c.symbols.ofNumber(1))
		c.takeRegisters(1)
	}
	c.forBody(1)
}

func (c *checker) loopBound() {
	e := c.expression()
	c.toNext(&e)
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
	last, values := c.expressionList()
	c.adjust(hiddenLoopVariables, values, &last)
	c.needRegisters(3) // for the call of the iterator
	c.forBody(names)
}

func (c *checker) forBody(names int) {
	c.bring(hiddenLoopVariables)
	c.expect(keywordDo)
	first := len(c.variables)
	c.bring(names)
	c.takeRegisters(names)
	c.block()
	c.closeBlock(first)
}

func (c *checker) functionStatement(line int) {
	c.next()
	to := c.variable()
	for c.current.kind == '.' {
		c.field(&to)
	}
	isMethod := c.current.kind == ':'
	if isMethod {
		c.field(&to)
	}
	body := c.body(isMethod, line)
	c.assign(&to, &body)
}

func (c *checker) localFunction() {
	c.declare(c.name())
	to := expression{kind: local, register: c.function.free}
	c.takeRegisters(1)
	c.bring(1) // before the body, which may call it
	body := c.body(false, c.line)
	c.assign(&to, &body)
}

func (c *checker) localStatement() {
	var last expression
	names, values := 0, 0
	for more := true; more; more = c.accepts(',') {
		c.declare(c.name())
		names++
	}
	if c.accepts('=') {
		last, values = c.expressionList()
	}
	c.adjust(names, values, &last)
	c.bring(names)
}

// adjust fits the values of a list to variables.
func (c *checker) adjust(variables, values int, last *expression) {
	missing := variables - values
	if last.isMultiple() {
		c.multiple(last)
		// One result is in a register already.
	} else if last.kind != nothing {
		c.toNext(last)
	}
	if missing > 0 {
		c.takeRegisters(missing)
	}
}

func (c *checker) returnStatement() {
	c.next()
	if endsBlock(c.current.kind) || c.current.kind == ';' {
		return
	}
	last, values := c.expressionList()
	switch {
	case last.isMultiple():
		c.multiple(&last)
	case values == 1:
		c.toAny(&last)
	default:
		c.toNext(&last)
	}
}

// expressionStatement reads a call or an assignment.
func (c *checker) expressionStatement() {
	e := c.primary()
	if e.kind != call {
		c.assignment(e)
	}
}

// assignment reads an assignment whose first target has been read.
//
// A local variable that the statement assigns and also uses as a table or key
// is copied first: in "t[i], i = 1, 2" the index is the old i. The copy stays
// in a register until the statement ends.
func (c *checker) assignment(target expression) {
	var used [maxRegisters]bool // as a table or key, and not copied
	targets := 1
	for ; ; targets++ {
		if !target.isAssignable() {
			c.failHere("syntax error")
		}
		if !c.accepts(',') {
			break
		}
		if target.kind == indexed {
			used[target.register] = true
			if target.key != constantOperand {
				used[target.key] = true
			}
		}
		target = c.primary()
		if target.kind == local && used[target.register] {
			used[target.register] = false
			c.takeRegisters(1)
		}
		// luac handles the targets by recursion and so counts them as levels.
		if limit := c.limits.Depth - c.levels; targets > limit {
			c.failLimit(c.function, limit, "variables in assignment")
		}
	}
	c.expect('=')
	last, values := c.expressionList()
	if values != targets {
		c.adjust(targets, values, &last)
	} else {
		c.single(&last)
		c.assign(&target, &last)
	}
	// To store the other values, which are in registers, takes no more of them.
}

// expressionList leaves all expressions but the last in registers.
func (c *checker) expressionList() (last expression, values int) {
	last = c.expression()
	for values = 1; c.accepts(','); values++ {
		c.toNext(&last)
		last = c.expression()
	}
	return last, values
}

func (c *checker) expression() expression { return c.operation(0) }

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
func (c *checker) operation(minimum int) (e expression) {
	c.enter()
	switch operator := c.current.kind; operator {
	case keywordNot, '-', '#':
		c.next()
		e = c.operation(unaryBinding)
		c.prefix(operator, &e)
	default:
		e = c.operand()
	}
	for {
		operator := c.current.kind
		b, ok := bindingOf(operator)
		if !ok || b.left <= minimum {
			break
		}
		c.next()
		c.infix(operator, &e)
		right := c.operation(b.right)
		c.postfix(operator, &e, &right)
	}
	c.leave()
	return e
}

func (c *checker) operand() (e expression) {
	switch c.current.kind {
	case number:
		e = expression{kind: numeral, value: c.current.number}
	case text:
		return c.string()
	case keywordNil:
		e.kind = nilValue
	case keywordTrue:
		e.kind = trueValue
	case keywordFalse:
		e.kind = falseValue
	case ellipsis:
		if !c.function.variadic {
			c.failHere("cannot use '...' outside a vararg function")
		}
		e.kind = varargs
	case '{':
		return c.constructor()
	case keywordFunction:
		c.next()
		return c.body(false, c.line)
	default:
		return c.primary()
	}
	c.next()
	return e
}

func (c *checker) string() expression {
	e := expression{kind: stringConstant, register: c.constant(c.current.symbol)}
	c.next()
	return e
}

func (c *checker) variable() expression { return c.resolve(c.name()) }

// primary reads a variable or expression in parentheses and all fields,
// indexes and calls that follow it.
func (c *checker) primary() (e expression) {
	switch c.current.kind {
	case '(':
		line := c.line
		c.next()
		e = c.expression()
		c.expectClosing(')', '(', line)
		c.discharge(&e)
	case name:
		e = c.variable()
	default:
		c.failHere("unexpected symbol")
	}
	for {
		switch c.current.kind {
		case '.':
			c.field(&e)
		case '[':
			c.toAny(&e)
			key := c.bracketedKey()
			c.index(&e, &key)
		case ':':
			c.next()
			key := c.fieldName()
			c.method(&e, &key)
			c.arguments(&e)
		case '(', text, '{':
			c.toNext(&e)
			c.arguments(&e)
		default:
			return e
		}
	}
}

func (c *checker) fieldName() expression {
	return expression{kind: stringConstant, register: c.constant(c.name())}
}

// field reads "." or ":" and a name.
func (c *checker) field(e *expression) {
	c.toAny(e)
	c.next()
	key := c.fieldName()
	c.index(e, &key)
}

func (c *checker) bracketedKey() expression {
	c.next()
	key := c.expression()
	c.toValue(&key)
	c.expect(']')
	return key
}

func (c *checker) arguments(e *expression) {
	base := e.register
	line := c.line
	var last expression
	switch c.current.kind {
	case '(':
		if line != c.lastLine {
			c.failHere("ambiguous syntax (function call x new statement)")
		}
		c.next()
		if c.current.kind != ')' {
			last, _ = c.expressionList()
			c.multiple(&last)
		}
		c.expectClosing(')', '(', line)
	case '{':
		last = c.constructor()
	case text:
		last = c.string()
	default:
		c.failHere("function arguments expected")
	}
	if last.kind != nothing && !last.isMultiple() {
		c.toNext(&last)
	}
	*e = expression{kind: call, register: base}
	c.function.free = base + 1
}

// itemsPerFlush is how many items of a constructor wait in registers before
// one instruction stores them.
const itemsPerFlush = 50

func (c *checker) constructor() expression {
	line := c.line
	e := expression{kind: relocatable}
	c.toNext(&e)
	table := e.register
	c.expect('{')
	var item expression // read, not yet in a register
	waiting := 0
	for c.current.kind != '}' {
		if item.kind != nothing {
			c.toNext(&item)
			item.kind = nothing
			if waiting == itemsPerFlush {
				c.function.free = table + 1
				waiting = 0
			}
		}
		if c.current.kind == '[' || c.current.kind == name && c.lookAhead() == '=' {
			c.keyedItem()
		} else {
			item = c.expression()
			waiting++
		}
		if !c.accepts(',') && !c.accepts(';') {
			break
		}
	}
	c.expectClosing('}', '{', line)
	if waiting == 0 {
		return e
	}
	if item.isMultiple() {
		c.multiple(&item)
	} else if item.kind != nothing {
		c.toNext(&item)
	}
	c.function.free = table + 1
	return e
}

func (c *checker) keyedItem() {
	free := c.function.free
	var key expression
	if c.current.kind == name {
		key = c.fieldName()
	} else {
		key = c.bracketedKey()
	}
	c.expect('=')
	c.toOperand(&key)
	value := c.expression()
	c.toOperand(&value)
	c.function.free = free
}

// body reads the parameters and the statements of a function.
func (c *checker) body(isMethod bool, line int) expression {
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
	return expression{kind: relocatable}
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
	c.takeRegisters(c.active())
}
