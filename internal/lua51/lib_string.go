package lua51

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
var stringEntries = []Entry{
	{Name: "byte", Call: stringByte},
	{Name: "char", Call: stringChar},
	{Name: "find", Call: stringFind},
	{Name: "format", Call: stringFormat},
	{Name: "gfind", Call: stringGmatch},
	{Name: "gmatch", Call: stringGmatch},
	{Name: "gsub", Call: stringGsub},
	{Name: "len", Call: func(c Call) int { return c.RetNumber(float64(len(c.Part(1)))) }},
	{Name: "lower", Call: stringLower},
	{Name: "match", Call: stringMatch},
	{Name: "rep", Call: stringRep},
	{Name: "reverse", Call: stringReverse},
	{Name: "sub", Call: stringSub},
	{Name: "upper", Call: stringUpper},

	{Name: "beginswith", Call: func(c Call) int { return c.RetBool(strings.HasPrefix(c.Str(1), c.Str(2))) }},
	{Name: "contains", Call: stringContains},
	{Name: "endswith", Call: func(c Call) int { return c.RetBool(strings.HasSuffix(c.Str(1), c.Str(2))) }},
	{Name: "split", Call: stringSplit},
}

// stringContains is a search for text, never for a pattern.
func stringContains(c Call) int {
	return c.RetBool(strings.Contains(c.Str(1), c.Str(2)))
}

// split(s [, separator]) returns an array of the parts between separators
// (","), which are plain text; empty parts are kept.
func stringSplit(c Call) int {
	s, sep := c.Str(1), c.OptStr(2, ",")
	if sep == "" {
		c.ArgError(2, "separator is empty")
	}
	n := strings.Count(s, sep) + 1
	c.Spend(4 * n)
	c.Hold(tableBytes + elementBytes*n)
	c.check()
	t := c.L.CreateTable(n, 0)
	for i := 1; ; i++ {
		part, rest, more := strings.Cut(s, sep)
		c.Hold(stringBytes + len(part))
		t.RawSetInt(i, lua.LString(strings.Clone(part)))
		if !more {
			return c.Ret(t)
		}
		s = rest
	}
}

func stringLower(c Call) int {
	s := c.Str(1)
	c.Spend(len(s) >> 6)
	return c.RetString(luastr.Lower(s))
}

func stringReverse(c Call) int {
	s := c.Str(1)
	c.Hold(len(s)) // for a moment
	return c.RetString(luastr.Reverse(s))
}

func stringUpper(c Call) int {
	s := c.Str(1)
	c.Spend(len(s) >> 6)
	return c.RetString(luastr.Upper(s))
}

func stringRep(c Call) int {
	s, err := luastr.Rep(c.Str(1), int64(c.cInt(2)), c.engine.limits.StringBytes)
	c.must(err)
	c.Allow(len(s))
	return c.RetString(s)
}

func stringSub(c Call) int {
	s := c.Part(1)
	return c.retPiece(s, luastr.Sub(s, c.int64(2), c.optInt64(3, -1)))
}

// retPiece returns a part of a string. It copies a small part of a large
// string, which the part would keep alive without being counted.
func (c Call) retPiece(s, piece string) int {
	if len(piece) > 1 && len(s) > 64+4*len(piece) {
		c.Read(len(piece))
		piece = strings.Clone(piece)
	}
	return c.RetString(piece)
}

func stringByte(c Call) int {
	subject := c.Part(1)
	i := c.optInt64(2, 1)
	s, err := luastr.Bytes(subject, i, c.optInt64(3, i), maxUnpack)
	c.must(err)
	c.Work(len(s))
	for j := range len(s) {
		c.L.Push(lua.LNumber(s[j]))
	}
	return len(s)
}

func stringChar(c Call) int {
	b := make([]byte, c.Count())
	for i := range b {
		n := c.cInt(i + 1)
		if n < 0 || n > 255 {
			c.ArgError(i+1, "invalid value")
		}
		b[i] = byte(n)
	}
	return c.RetString(string(b))
}

// must raises what the string functions report.
func (c Call) must(err error) {
	switch {
	case err == nil:
	case errors.Is(err, luastr.ErrTooLarge):
		c.TooLarge()
	case errors.Is(err, luastr.ErrSteps) && c.patternSteps <= 0:
		c.halt(&BudgetError{"pattern steps", maxPatternSteps})
		c.check()
	case errors.Is(err, luastr.ErrSteps):
		c.Fail("pattern too complex")
	default:
		if ae, ok := errors.AsType[*luastr.ArgumentError](err); ok {
			c.ArgError(ae.Argument, "%s", ae.Reason)
		}
		c.Fail("%s", err.Error())
	}
}

// maxPatternSteps is what all pattern matching of one run may take, some 20
// milliseconds. A single match gets a share that grows with its subject, so
// that work on long text is possible but a pattern that explodes ends soon.
const maxPatternSteps = 3_000_000

// match runs a pattern operation within the budget.
func (c Call) match(m *luastr.Matcher, subject, pattern string, op func() error) {
	share := min(luastr.DefaultSteps+8*len(subject), c.patternSteps)
	left := share
	m.Init(subject, pattern, &left)
	err := op()
	c.patternSteps -= share - left
	c.must(err)
	c.Spend((share - left) >> 5)
}

func stringFind(c Call) int {
	subject, pattern := c.Part(1), c.Str(2)
	init := luastr.Offset(c.optInt64(3, 1), len(subject))
	if lua.LVAsBool(c.Arg(4)) {
		c.Spend(len(subject) >> 8)
		start, end := luastr.FindPlain(subject, pattern, init)
		if start < 0 {
			return c.Ret(lua.LNil)
		}
		c.RetNumber(float64(start + 1))
		c.RetNumber(float64(end))
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
		return c.Ret(lua.LNil)
	}
	c.RetNumber(float64(start + 1))
	c.RetNumber(float64(end))
	return 2 + c.pushCaptures(m, subject, m.NumCaptures())
}

func stringMatch(c Call) int {
	subject, pattern := c.Part(1), c.Str(2)
	init := luastr.Offset(c.optInt64(3, 1), len(subject))
	m := c.matcher()
	defer c.free(m)
	var start int
	c.match(m, subject, pattern, func() (err error) {
		start, _, err = m.Match(init)
		return err
	})
	if start < 0 {
		return c.Ret(lua.LNil)
	}
	return c.pushCaptures(m, subject, max(m.NumCaptures(), 1))
}

// pushCaptures pushes the first n captures of the last match in a subject.
func (c Call) pushCaptures(m *luastr.Matcher, subject string, n int) int {
	for i := range n {
		s, pos, isPosition, err := m.Capture(i)
		c.must(err)
		if isPosition {
			c.RetNumber(float64(pos))
		} else {
			c.retPiece(subject, s)
		}
	}
	return n
}

// matcher returns a matcher; free gives it back. Matching may nest, through
// a function that gsub calls.
func (c Call) matcher() *luastr.Matcher {
	st := c.state
	if n := len(st.matchers); n > 0 {
		m := st.matchers[n-1]
		st.matchers = st.matchers[:n-1]
		return m
	}
	return new(luastr.Matcher)
}

func (c Call) free(m *luastr.Matcher) {
	m.Init("", "", nil) // let go of the strings
	c.state.matchers = append(c.state.matchers, m)
}

// stringGmatch returns an iterator. It is a function of its own per call, and
// bound to no state: it may live in a variable until a later event.
func stringGmatch(c Call) int {
	subject, pattern := c.Part(1), c.Str(2)
	m := new(luastr.Matcher)
	size := functionBytes + int(unsafe.Sizeof(*m)) + len(subject) + len(pattern)
	c.Hold(size)
	c.variables.opaque += size
	started := false
	left := 0
	step := &Symbol{Name: "gmatch iterator"}
	step.call = func(c Call) int {
		share := min(luastr.DefaultSteps+8*len(subject), c.patternSteps)
		left = share
		if !started {
			m.Init(subject, pattern, &left)
			started = true
		}
		start, _, err := m.Next()
		c.patternSteps -= share - left
		c.must(err)
		c.Spend((share - left) >> 5)
		if start < 0 {
			return 0
		}
		return c.pushCaptures(m, subject, max(m.NumCaptures(), 1))
	}
	return c.Ret(c.L.NewFunction(step.invoker()))
}

// stringGsub takes a string, a table or a function as the replacement.
func stringGsub(c Call) int {
	subject, pattern := c.Str(1), c.Str(2)
	repl := c.Arg(3)
	limit := luastr.AllMatches
	if c.Arg(4) != lua.LNil {
		limit = c.cInt(4)
	}
	maxBytes := c.engine.limits.StringBytes
	var op func(m *luastr.Matcher) (string, int, error)
	switch repl := repl.(type) {
	case lua.LString, lua.LNumber:
		with, _ := Text(repl)
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
		c.ArgError(3, "string/function/table expected")
	}
	m := c.matcher()
	defer c.free(m)
	var result string
	var count int
	c.match(m, subject, pattern, func() (err error) {
		result, count, err = op(m)
		return err
	})
	c.RetString(result)
	c.RetNumber(float64(count))
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
	s, ok := Text(v)
	if !ok {
		return "", false, fmt.Errorf("invalid replacement value (a %s)", v.Type())
	}
	return s, false, nil
}

func stringFormat(c Call) int {
	s, err := luastr.Format(c.Str(1), formatArgs{c}, c.engine.limits.StringBytes)
	c.must(err)
	c.Allow(len(s))
	return c.RetString(s)
}

// formatArgs shows the arguments of string.format to the formatter, which asks
// for each once; a directive can take some 20 microseconds.
type formatArgs struct{ c Call }

func (a formatArgs) Len() int { return a.c.Count() - 1 }

func (a formatArgs) Number(i int) (float64, error) {
	a.c.Spend(100)
	return a.c.Num(i + 2), nil
}

func (a formatArgs) String(i int) (string, error) {
	a.c.Spend(10)
	return a.c.Str(i + 2), nil
}
