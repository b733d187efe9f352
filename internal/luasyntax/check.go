package luasyntax

// Limits bounds the work and the recursion of one [Check].
// In every field zero or a negative number means the default.
type Limits struct {
	// Bytes is the longest source accepted. Default 65536.
	Bytes int

	// Depth is the number of nested blocks, functions, constructors and
	// operators that may be open at once, counted as luac counts them: the
	// call of the compiler is one level, each block and each subexpression is
	// one more. Default 200. It also bounds the recursion of Check itself.
	Depth int

	// Locals is the number of local variables a function may have in scope at
	// once, hidden loop variables included. Default 200.
	Locals int

	// Upvalues is the number of variables of enclosing functions that one
	// function may use. Default 60.
	Upvalues int

	// Constants is the number of different constants in the text of one
	// function, and the number of its inner functions. Default 262143.
	Constants int
}

func (o Limits) withDefaults() Limits {
	fill := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	fill(&o.Bytes, 64<<10)
	fill(&o.Depth, 200)
	fill(&o.Locals, 200)
	fill(&o.Upvalues, 60)
	fill(&o.Constants, 1<<18-1)
	return o
}

// Error is the first fault of a source.
type Error struct {
	// Line is the line the checker had read up to when it found the fault, in
	// the numbering that began with the line given to [Check].
	Line int

	// Near is the token at fault as luac prints it, without quotes: the text of
	// a name, number or string, a symbol, "char(7)" for a control character or
	// "<eof>" for the end of the source. A string's escapes are decoded and a
	// zero byte ends the text. Empty when the fault has no token, as with
	// limits.
	Near string

	// Message says what is wrong, for example "'then' expected" or
	// "'end' expected (to close 'if' at line 3)".
	Message string
}

// Error returns what luac prints after the name of the chunk:
// "LINE: MESSAGE near 'NEAR'", or "LINE: MESSAGE" when Near is empty.
func (e *Error) Error() string {
	text := itoa(e.Line) + ": " + e.Message
	if e.Near != "" {
		text += " near '" + e.Near + "'"
	}
	return text
}

// Check reports the first syntax fault of source as an [*Error], or nil.
// The first line of source has the number line. A source longer than o.Bytes
// is refused unread, with the number of its first line.
//
// Check takes time linear in len(source), keeps no reference to source after
// it returns nil, and may be called by many goroutines at once.
func Check(source string, line int, o Limits) (err error) {
	o = o.withDefaults()
	if len(source) > o.Bytes {
		return &Error{Line: line, Message: "chunk has more than " + itoa(o.Bytes) + " bytes"}
	}
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case *Error:
			err = fault
		default:
			panic(fault)
		}
	}()
	c := checker{
		lexer:  lexer{source: source, line: line, symbols: newSymbolTable(len(source))},
		limits: o,
		levels: 1, // luac itself
	}
	c.source()
	return nil
}
