package datascript

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/luastr"
)

// Lua's string library, byte-wise as in the C locale, and the additions of
// the API. All of it can be called as methods of strings.
var stringEntries = []entry{
	{name: "byte", call: stringByte},
	{name: "char", call: stringChar},
	{name: "find", call: stringFind},
	{name: "format", call: stringFormat},
	{name: "gfind", call: stringGmatch},
	{name: "gmatch", call: stringGmatch},
	{name: "gsub", call: stringGsub},
	{name: "len", call: func(c call) int { return c.retNumber(float64(len(c.part(1)))) }},
	{name: "lower", call: stringLower},
	{name: "match", call: stringMatch},
	{name: "rep", call: stringRep},
	{name: "reverse", call: stringReverse},
	{name: "sub", call: stringSub},
	{name: "upper", call: stringUpper},

	{name: "beginswith", call: func(c call) int { return c.retBool(strings.HasPrefix(c.str(1), c.str(2))) }},
	{name: "contains", call: stringContains},
	{name: "endswith", call: func(c call) int { return c.retBool(strings.HasSuffix(c.str(1), c.str(2))) }},
	{name: "split", call: stringSplit},
}

// stringMetatable makes strings have methods, and numerals in strings be
// read as Lua 5.1 reads them.
func (st *state) stringMetatable() *lua.LTable {
	mt := st.L.CreateTable(0, 12)
	mt.RawSetString("__index", st.members(symbols["string"]))
	mt.RawSetString("__metatable", lua.LString("string"))
	// Lua's strings have no such metamethods; the VM asks for them because it
	// does not read numerals itself as Lua does.
	for event, operators := range metamethods {
		if len(operators) == 1 {
			mt.RawSetString(event, st.value(symbols[operators[0]]))
		}
	}
	return mt
}

// stringContains is a search for text, never for a pattern.
func stringContains(c call) int {
	return c.retBool(strings.Contains(c.str(1), c.str(2)))
}

// split(s [, separator]) returns an array of the parts between separators
// (","), which are plain text; empty parts are kept.
func stringSplit(c call) int {
	s, sep := c.str(1), c.optStr(2, ",")
	if sep == "" {
		c.argError(2, "separator is empty")
	}
	n := strings.Count(s, sep) + 1
	c.spend(4 * n)
	c.hold(tableBytes + elementBytes*n)
	c.check()
	t := c.L.CreateTable(n, 0)
	for i := 1; ; i++ {
		part, rest, more := strings.Cut(s, sep)
		c.hold(stringBytes + len(part))
		t.RawSetInt(i, lua.LString(strings.Clone(part)))
		if !more {
			return c.ret(t)
		}
		s = rest
	}
}

func stringLower(c call) int {
	s := c.str(1)
	c.spend(len(s) >> 6)
	return c.retString(luastr.Lower(s))
}

func stringReverse(c call) int {
	s := c.str(1)
	c.hold(len(s)) // for a moment
	return c.retString(luastr.Reverse(s))
}

func stringUpper(c call) int {
	s := c.str(1)
	c.spend(len(s) >> 6)
	return c.retString(luastr.Upper(s))
}

func stringRep(c call) int {
	s, err := luastr.Rep(c.str(1), int64(c.cInt(2)), c.engine.limits.StringBytes)
	c.must(err)
	c.allow(len(s))
	return c.retString(s)
}

func stringSub(c call) int {
	s := c.part(1)
	return c.retPiece(s, luastr.Sub(s, c.int64(2), c.optInt64(3, -1)))
}

// retPiece returns a part of a string. A small one must not keep a large string
// alive, of which nobody would know.
func (c call) retPiece(s, piece string) int {
	if len(piece) > 1 && len(s) > 64+4*len(piece) {
		c.read(len(piece))
		piece = strings.Clone(piece)
	}
	return c.retString(piece)
}

func stringByte(c call) int {
	subject := c.part(1)
	i := c.optInt64(2, 1)
	s, err := luastr.Bytes(subject, i, c.optInt64(3, i), maxUnpack)
	c.must(err)
	c.work(len(s))
	for j := range len(s) {
		c.L.Push(lua.LNumber(s[j]))
	}
	return len(s)
}

func stringChar(c call) int {
	b := make([]byte, c.count())
	for i := range b {
		n := c.cInt(i + 1)
		if n < 0 || n > 255 {
			c.argError(i+1, "invalid value")
		}
		b[i] = byte(n)
	}
	return c.retString(string(b))
}

// must raises what the string functions report.
func (c call) must(err error) {
	switch {
	case err == nil:
	case errors.Is(err, luastr.ErrTooLarge):
		c.tooLarge()
	case errors.Is(err, luastr.ErrSteps) && c.patternSteps <= 0:
		c.halt(&BudgetError{"pattern steps", maxPatternSteps})
		c.check()
	case errors.Is(err, luastr.ErrSteps):
		c.fail("pattern too complex")
	default:
		var ae *luastr.ArgumentError
		if errors.As(err, &ae) {
			c.argError(ae.Argument, "%s", ae.Reason)
		}
		c.fail("%s", err.Error())
	}
}

// maxPatternSteps is what all pattern matching of one run may take, some 20
// milliseconds. A single match gets a share that grows with its subject, so
// that work on long text is possible but a pattern that explodes ends soon.
const maxPatternSteps = 3_000_000

// match runs a pattern operation within the budget.
func (c call) match(m *luastr.Matcher, subject, pattern string, op func() error) {
	share := min(luastr.DefaultSteps+8*len(subject), c.patternSteps)
	left := share
	m.Init(subject, pattern, &left)
	err := op()
	c.patternSteps -= share - left
	c.must(err)
	c.spend((share - left) >> 5)
}

func stringFind(c call) int {
	subject, pattern := c.part(1), c.str(2)
	init := luastr.Offset(c.optInt64(3, 1), len(subject))
	if lua.LVAsBool(c.arg(4)) {
		c.spend(len(subject) >> 8)
		start, end := luastr.FindPlain(subject, pattern, init)
		if start < 0 {
			return c.ret(lua.LNil)
		}
		c.retNumber(float64(start + 1))
		c.retNumber(float64(end))
		return 2
	}
	m := c.matcher()
	defer c.free(m)
	var start, end int
	c.match(m, subject, pattern, func() (err error) {
		start, end, err = m.Find(init)
		return err
	})
	if start < 0 {
		return c.ret(lua.LNil)
	}
	c.retNumber(float64(start + 1))
	c.retNumber(float64(end))
	return 2 + c.pushCaptures(m, subject, m.NumCaptures())
}

func stringMatch(c call) int {
	subject, pattern := c.part(1), c.str(2)
	init := luastr.Offset(c.optInt64(3, 1), len(subject))
	m := c.matcher()
	defer c.free(m)
	var start int
	c.match(m, subject, pattern, func() (err error) {
		start, _, err = m.Match(init)
		return err
	})
	if start < 0 {
		return c.ret(lua.LNil)
	}
	return c.pushCaptures(m, subject, max(m.NumCaptures(), 1))
}

// pushCaptures pushes the first n captures of the last match in a subject.
func (c call) pushCaptures(m *luastr.Matcher, subject string, n int) int {
	for i := range n {
		s, pos, isPosition, err := m.Capture(i)
		c.must(err)
		if isPosition {
			c.retNumber(float64(pos))
		} else {
			c.retPiece(subject, s)
		}
	}
	return n
}

// matcher returns a matcher; free gives it back. Matching may nest, through
// a function that gsub calls.
func (c call) matcher() *luastr.Matcher {
	st := c.state
	if n := len(st.matchers); n > 0 {
		m := st.matchers[n-1]
		st.matchers = st.matchers[:n-1]
		return m
	}
	return new(luastr.Matcher)
}

func (c call) free(m *luastr.Matcher) {
	m.Init("", "", nil) // let go of the strings
	c.state.matchers = append(c.state.matchers, m)
}

// stringGmatch returns an iterator. It is a function of its own per call, and
// bound to no state: it may live in a variable until a later event.
func stringGmatch(c call) int {
	subject, pattern := c.part(1), c.str(2)
	m := new(luastr.Matcher)
	size := functionBytes + int(unsafe.Sizeof(*m)) + len(subject) + len(pattern)
	c.hold(size)
	c.vars().opaque += size
	started := false
	left := 0
	step := &symbol{name: "gmatch iterator", events: anyEvent}
	step.call = func(c call) int {
		share := min(luastr.DefaultSteps+8*len(subject), c.patternSteps)
		left = share
		if !started {
			m.Init(subject, pattern, &left)
			started = true
		}
		start, _, err := m.Next()
		c.patternSteps -= share - left
		c.must(err)
		c.spend((share - left) >> 5)
		if start < 0 {
			return 0
		}
		return c.pushCaptures(m, subject, max(m.NumCaptures(), 1))
	}
	return c.ret(c.L.NewFunction(step.invoke))
}

// stringGsub takes a string, a table or a function as the replacement.
func stringGsub(c call) int {
	subject, pattern := c.str(1), c.str(2)
	repl := c.arg(3)
	limit := luastr.AllMatches
	if c.arg(4) != lua.LNil {
		limit = c.cInt(4)
	}
	maxBytes := c.engine.limits.StringBytes
	var op func(m *luastr.Matcher) (string, int, error)
	switch repl := repl.(type) {
	case lua.LString, lua.LNumber:
		with, _ := text(repl)
		op = func(m *luastr.Matcher) (string, int, error) { return m.Gsub(with, limit, maxBytes) }
	case *lua.LTable:
		op = func(m *luastr.Matcher) (string, int, error) {
			return m.GsubFunc(limit, maxBytes, func(m *luastr.Matcher) (string, bool, error) {
				key, err := captureValue(m, 0)
				if err != nil {
					return "", false, err
				}
				return replacement(c.L.GetTable(repl, key))
			})
		}
	case *lua.LFunction:
		op = func(m *luastr.Matcher) (string, int, error) {
			return m.GsubFunc(limit, maxBytes, func(m *luastr.Matcher) (string, bool, error) {
				n := max(m.NumCaptures(), 1)
				c.L.Push(repl)
				c.pushCaptures(m, subject, n)
				c.L.Call(n, 1)
				v := c.L.Get(-1)
				c.L.Pop(1)
				return replacement(v)
			})
		}
	default:
		c.argError(3, "string/function/table expected")
	}
	m := c.matcher()
	defer c.free(m)
	var result string
	var count int
	c.match(m, subject, pattern, func() (err error) {
		result, count, err = op(m)
		return err
	})
	c.retString(result)
	c.retNumber(float64(count))
	return 2
}

func captureValue(m *luastr.Matcher, i int) (lua.LValue, error) {
	s, pos, isPosition, err := m.Capture(i)
	if isPosition {
		return lua.LNumber(pos), err
	}
	return lua.LString(s), err
}

// replacement reads what a table or function gave for a match.
func replacement(v lua.LValue) (s string, keep bool, err error) {
	if !lua.LVAsBool(v) {
		return "", true, nil
	}
	s, ok := text(v)
	if !ok {
		return "", false, fmt.Errorf("invalid replacement value (a %s)", v.Type())
	}
	return s, false, nil
}

func stringFormat(c call) int {
	s, err := luastr.Format(c.str(1), formatArgs{c}, c.engine.limits.StringBytes)
	c.must(err)
	c.allow(len(s))
	return c.retString(s)
}

// formatArgs shows the arguments of string.format to the formatter, which asks
// for each once; a directive can take some 20 microseconds.
type formatArgs struct{ c call }

func (a formatArgs) Len() int { return a.c.count() - 1 }

func (a formatArgs) Number(i int) (float64, error) {
	a.c.spend(100)
	return a.c.num(i + 2), nil
}

func (a formatArgs) String(i int) (string, error) {
	a.c.spend(10)
	return a.c.str(i + 2), nil
}
