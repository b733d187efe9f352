package luasyntax

import "strings"

// kind is the kind of a token. A symbol of one character is its own kind.
type kind int16

const (
	keywordAnd kind = iota + 256
	keywordBreak
	keywordDo
	keywordElse
	keywordElseif
	keywordEnd
	keywordFalse
	keywordFor
	keywordFunction
	keywordIf
	keywordIn
	keywordLocal
	keywordNil
	keywordNot
	keywordOr
	keywordRepeat
	keywordReturn
	keywordThen
	keywordTrue
	keywordUntil
	keywordWhile
	concatenation
	ellipsis
	equal
	greaterOrEqual
	lessOrEqual
	notEqual
	number
	name
	endOfSource
	text
)

var spellings = [...]string{
	"and", "break", "do", "else", "elseif", "end", "false", "for", "function",
	"if", "in", "local", "nil", "not", "or", "repeat", "return", "then",
	"true", "until", "while",
	"..", "...", "==", ">=", "<=", "~=", "<number>", "<name>", "<eof>", "<string>",
}

// spelling returns a kind as luac prints it when it is expected, and when it
// is found unless the token has a text of its own.
func (k kind) spelling() string {
	switch {
	case k >= keywordAnd:
		return spellings[k-keywordAnd]
	case k < ' ' || k == 127:
		return "char(" + itoa(int(k)) + ")"
	default:
		return string([]byte{byte(k)})
	}
}

// A token is a lexical element. A number has its value; a name or string has
// the identity of its value, which for a string is decoded.
type token struct {
	kind       kind
	start, end int // in the source, of names, numbers and strings
	symbol     symbolID
	value      string
	number     float64
}

// lexer splits a source into tokens. Faults leave it as a panic with an *Error.
type lexer struct {
	source  string
	pos     int
	scratch []byte

	line     int   // of pos
	lastLine int   // line of pos when the token before current had been read
	current  token // what the parser looks at
	ahead    token // valid if hasAhead
	hasAhead bool

	symbols symbolTable
}

// next makes the following token the current one.
func (l *lexer) next() {
	l.lastLine = l.line
	if l.hasAhead {
		l.current, l.hasAhead = l.ahead, false
		return
	}
	l.scan(&l.current)
}

// lookAhead returns the kind of the token after the current one. It moves the
// line too, so that from here on faults have the line of the token ahead.
func (l *lexer) lookAhead() kind {
	l.scan(&l.ahead)
	l.hasAhead = true
	return l.ahead.kind
}

// fail reports a fault without a token.
func (l *lexer) fail(message string) { l.failNear(message, "") }

// failHere reports a fault at the current token. luac keeps that token in a C
// string and knows a token with the code zero as none.
func (l *lexer) failHere(message string) {
	t := &l.current
	switch t.kind {
	case 0:
		l.fail(message)
	case name, number:
		l.failNear(message, l.source[t.start:t.end])
	case text:
		opening := 1
		if l.source[t.start] == '[' {
			opening = strings.IndexByte(l.source[t.start+1:], '[') + 2
		}
		l.failNear(message, l.source[t.start:t.start+opening]+t.value+l.source[t.end-opening:t.end])
	default:
		l.failNear(message, t.kind.spelling())
	}
}

func (l *lexer) failNear(message, near string) {
	near, _, _ = strings.Cut(near, "\x00")
	// The clone lets go of the source.
	panic(&Error{Line: l.line, Near: strings.Clone(near), Message: message})
}

// noByte is what peek returns at the end of the source.
const noByte = -1

func (l *lexer) peek() int {
	if l.pos < len(l.source) {
		return int(l.source[l.pos])
	}
	return noByte
}

// accept skips a byte that is a, b or zero. Lua 5.1 looks the byte up in a C
// string, and the zero that ends the string is found there as well.
func (l *lexer) accept(a, b int) bool {
	c := l.peek()
	if c != a && c != b && c != 0 {
		return false
	}
	l.pos++
	return true
}

// newline skips a line feed, a carriage return or a pair of both.
func (l *lexer) newline() {
	first := l.source[l.pos]
	l.pos++
	if c := l.peek(); (c == '\n' || c == '\r') && c != int(first) {
		l.pos++
	}
	l.line++
}

func (l *lexer) scan(t *token) {
	for {
		start := l.pos
		c := l.peek()
		switch c {
		case noByte:
			t.kind = endOfSource
			return
		case '\n', '\r':
			l.newline()
			continue
		case ' ', '\t', '\v', '\f':
			l.pos++
			continue
		case '-':
			l.pos++
			if l.peek() != '-' {
				t.kind = '-'
				return
			}
			l.pos++
			l.skipComment()
			continue
		case '[':
			level, closed := l.longBracket()
			if closed {
				l.scanLongString(t, start, level)
				return
			}
			if level > 0 {
				l.failNear("invalid long string delimiter", l.source[start:l.pos])
			}
			t.kind = '['
			return
		case '=':
			l.scanWithEqual(t, '=', equal)
			return
		case '<':
			l.scanWithEqual(t, '<', lessOrEqual)
			return
		case '>':
			l.scanWithEqual(t, '>', greaterOrEqual)
			return
		case '~':
			l.scanWithEqual(t, '~', notEqual)
			return
		case '"', '\'':
			l.scanString(t, c)
			return
		case '.':
			l.pos++
			switch {
			case l.accept('.', '.'):
				t.kind = concatenation
				if l.accept('.', '.') {
					t.kind = ellipsis
				}
			case isDigit(l.peek()):
				l.scanNumber(t, start)
			default:
				t.kind = '.'
			}
			return
		}
		switch {
		case isDigit(c):
			l.scanNumber(t, start)
		case isWord(c):
			l.scanName(t)
		default:
			l.pos++
			t.kind = kind(c)
		}
		return
	}
}

func (l *lexer) scanWithEqual(t *token, alone, withEqual kind) {
	l.pos++
	t.kind = alone
	if l.peek() == '=' {
		l.pos++
		t.kind = withEqual
	}
}

func (l *lexer) scanName(t *token) {
	start := l.pos
	for isWord(l.peek()) {
		l.pos++
	}
	id := l.symbols.ofString(l.source[start:l.pos])
	if id < firstName {
		t.kind = keywordAnd + kind(id-firstKeyword)
		return
	}
	t.kind, t.start, t.end, t.symbol = name, start, l.pos, id
}

// scanNumber takes all that could belong to a number and judges it afterwards:
// "3x" is one malformed number, not a number and a name.
func (l *lexer) scanNumber(t *token, start int) {
	for isDigit(l.peek()) || l.peek() == '.' {
		l.pos++
	}
	if l.accept('e', 'E') {
		l.accept('+', '-')
	}
	for isWord(l.peek()) {
		l.pos++
	}
	value, ok := parseNumber(l.source[start:l.pos])
	if !ok {
		l.failNear("malformed number", l.source[start:l.pos])
	}
	t.kind, t.start, t.end, t.number = number, start, l.pos, value
}

// scanString reads a string in quotes. l.scratch has what was decoded before
// plain, where the part begins that is taken as it is.
func (l *lexer) scanString(t *token, quote int) {
	start := l.pos
	l.pos++
	plain := l.pos
	l.scratch = l.scratch[:0]
	read := func() string { // opening quote and content so far
		return l.source[start:start+1] + string(l.scratch) + l.source[plain:l.pos]
	}
	for {
		c := l.peek()
		switch c {
		case quote:
			l.setString(t, start, l.decoded(plain, l.pos), l.pos+1)
			return
		case noByte:
			l.failNear("unfinished string", endOfSource.spelling())
		case '\n', '\r':
			l.failNear("unfinished string", read())
		case '\\':
			l.scratch = append(l.scratch, l.source[plain:l.pos]...)
			l.pos++
			plain = l.pos
			switch c := l.peek(); {
			case c == noByte:
			case c == '\n' || c == '\r':
				l.scratch = append(l.scratch, '\n')
				l.newline()
			case isDigit(c):
				value := 0
				for range 3 {
					if c = l.peek(); !isDigit(c) {
						break
					}
					value = 10*value + c - '0'
					l.pos++
				}
				plain = l.pos
				if value > 255 {
					l.failNear("escape sequence too large", read())
				}
				l.scratch = append(l.scratch, byte(value))
			default:
				l.scratch = append(l.scratch, unescape(byte(c)))
				l.pos++
			}
			plain = l.pos
		default:
			l.pos++
		}
	}
}

func unescape(c byte) byte {
	switch c {
	case 'a':
		return '\a'
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	}
	return c
}

// decoded returns l.scratch and the source from plain to end.
func (l *lexer) decoded(plain, end int) string {
	if len(l.scratch) == 0 {
		return l.source[plain:end]
	}
	l.scratch = append(l.scratch, l.source[plain:end]...)
	return string(l.scratch)
}

func (l *lexer) setString(t *token, start int, value string, end int) {
	l.pos = end
	t.kind, t.start, t.end, t.value = text, start, end, value
	t.symbol = l.symbols.ofString(value)
}

// longBracket skips "[", any number of "=" and reports that number, and
// whether a second "[" follows; the same with "]".
func (l *lexer) longBracket() (level int, closed bool) {
	bracket := l.peek()
	l.pos++
	first := l.pos
	for l.peek() == '=' {
		l.pos++
	}
	return l.pos - first, l.peek() == bracket
}

func (l *lexer) scanLongString(t *token, start, level int) {
	value := l.readLong(level, "unfinished long string")
	l.setString(t, start, value, l.pos)
}

// skipComment stands behind the two dashes.
func (l *lexer) skipComment() {
	if l.peek() == '[' {
		if level, closed := l.longBracket(); closed {
			l.readLong(level, "unfinished long comment")
			return
		}
	}
	rest := l.source[l.pos:]
	if end := strings.IndexAny(rest, "\n\r"); end >= 0 {
		l.pos += end
	} else {
		l.pos = len(l.source)
	}
}

// readLong stands at the second bracket and reads up to the closing ones. Each
// line break counts as one line feed; one right after the opening is dropped.
func (l *lexer) readLong(level int, unfinished string) string {
	l.pos++
	if c := l.peek(); c == '\n' || c == '\r' {
		l.newline()
	}
	plain := l.pos
	l.scratch = l.scratch[:0]
	for {
		switch l.peek() {
		case noByte:
			l.failNear(unfinished, endOfSource.spelling())
		case '[':
			// Lua 5.0 nested these brackets, so 5.1 refuses what changed its
			// meaning.
			if inner, closed := l.longBracket(); closed && inner == level {
				l.pos++
				if level == 0 {
					l.failNear("nesting of [[...]] is deprecated", "[")
				}
			}
		case ']':
			end := l.pos
			if inner, closed := l.longBracket(); closed && inner == level {
				l.pos++
				return l.decoded(plain, end)
			}
		case '\n', '\r':
			l.scratch = append(l.scratch, l.source[plain:l.pos]...)
			l.scratch = append(l.scratch, '\n')
			l.newline()
			plain = l.pos
		default:
			l.pos++
		}
	}
}
