package luastr

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// The differential test: generated calls are run by this package and by the
// real Lua 5.1 interpreter, and every result and every error text must be
// equal, except where a known difference is listed below.

const luaMissing = "lua5.1 is not installed: apt-get install -y lua5.1"

// call is one call of a string function in a script. Arguments are string,
// float64, bool (true) or nil.
type call struct {
	name string
	args []any
}

func (c call) String() string {
	var b strings.Builder
	b.WriteString(c.name + "(")
	for i, a := range c.args {
		if i > 0 {
			b.WriteString(", ")
		}
		if s, ok := a.(string); ok {
			fmt.Fprintf(&b, "%q", s)
		} else {
			fmt.Fprint(&b, a)
		}
	}
	return b.String() + ")"
}

func encode(v any) string {
	switch v := v.(type) {
	case string:
		return "s" + hex.EncodeToString([]byte(v))
	case float64:
		switch {
		case v != v:
			return "nnan"
		case math.IsInf(v, 1):
			return "ninf"
		case math.IsInf(v, -1):
			return "n-inf"
		}
		return "n" + strconv.FormatFloat(v, 'g', 17, 64)
	case int:
		return encode(float64(v))
	case bool:
		if v {
			return "+"
		}
		return "0"
	case nil:
		return "-"
	}
	panic(fmt.Sprintf("no encoding for %T", v))
}

// readable turns a line of the protocol into something to look at.
func readable(line string) string {
	var out []string
	for word := range strings.FieldsSeq(line) {
		switch word[0] {
		case 's':
			b, _ := hex.DecodeString(word[1:])
			word = strconv.Quote(string(b))
		case '!':
			b, _ := hex.DecodeString(word[1:])
			word = "error " + strconv.Quote(string(b))
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

// knownDifferences are the calls in which this package does not follow the
// interpreter.
var knownDifferences = []struct {
	name, reason string
	covers       func(call) bool
}{
	{
		"zero byte in a pattern",
		"Lua 5.1 ends the pattern there, which its manual forbids to rely on and which " +
			"would let a client cut off the rest of a pattern built from its text",
		func(c call) bool {
			switch c.name {
			case "find", "match", "gmatch", "gsub", "gsubf", "gsubt":
				return strings.Contains(c.args[1].(string), "\x00")
			}
			return false
		},
	},
	{
		"percent sign at the end of a replacement",
		"Lua 5.1 reads on and adds the zero byte that ends its string; we add nothing",
		func(c call) bool {
			if c.name != "gsub" {
				return false
			}
			repl := c.args[2].(string)
			return (len(repl)-len(strings.TrimRight(repl, "%")))%2 == 1
		},
	},
	{
		"zero byte in a formatted item",
		"Lua 5.1 cuts the item at its first zero byte; a value must not get shorter by being logged",
		func(c call) bool {
			if c.name != "format" {
				return false
			}
			format := c.args[0].(string)
			for _, a := range c.args[1:] {
				f, number := a.(float64)
				if text, ok := a.(string); ok {
					if strings.Contains(text, "\x00") && strings.Contains(format, "s") {
						return true
					}
					f, number = ParseNumber(text)
				}
				n := ToInt64(f)
				if number && strings.Contains(format, "c") && (byte(n) == 0 || n != int64(int32(n))) {
					return true
				}
			}
			return false
		},
	},
	{
		"sign of NaN",
		"C prints the sign bit of NaN, which depends on the processor",
		func(c call) bool {
			if c.name != "format" && c.name != "tostring" {
				return false
			}
			for _, a := range c.args {
				if f, ok := a.(float64); ok && f != f {
					return true
				}
			}
			return false
		},
	},
	{
		"zeros after a carry",
		"C says that %#g keeps the zeros at the end; glibc loses them when rounding adds a digit in front of the point",
		func(c call) bool {
			if c.name != "format" {
				return false
			}
			for _, item := range regexp.MustCompile(`%[-+ 0]*#[-+ #0]*\d*(\.\d*)?[gG]`).FindAllStringSubmatch(c.args[0].(string), -1) {
				precision := 6
				if item[1] != "" {
					n, _ := strconv.Atoi(item[1][1:])
					precision = max(1, n)
				}
				for _, a := range c.args[1:] {
					f, number := a.(float64)
					if text, ok := a.(string); ok {
						f, number = ParseNumber(text)
					}
					exponent := func(digits int) string {
						_, e, _ := strings.Cut(strconv.FormatFloat(f, 'e', digits, 64), "e")
						return e
					}
					if number && exponent(precision-1) != exponent(-1) {
						return true
					}
				}
			}
			return false
		},
	},
	{
		"words for infinity and NaN",
		"C's strtod reads them as numbers, which lets text become a number that breaks comparisons",
		func(c call) bool {
			if c.name != "tonumber" && c.name != "format" {
				return false
			}
			for _, a := range c.args {
				s, _ := a.(string)
				s = strings.ToLower(strings.TrimLeft(s, " \t\n\v\f\r+-"))
				if strings.HasPrefix(s, "inf") || strings.HasPrefix(s, "nan") {
					return true
				}
			}
			return false
		},
	},
	{
		"zero byte in a number's text",
		"Lua 5.1 reads the number before it and does not see what follows",
		func(c call) bool {
			if c.name != "tonumber" && c.name != "format" {
				return false
			}
			for _, a := range c.args {
				if s, ok := a.(string); ok && strings.Contains(s, "\x00") && s[0] != '\x00' {
					return true
				}
			}
			return false
		},
	},
	{
		"integers beyond 32 bits",
		"Lua 5.1 cuts the count of string.rep, the limit of string.gsub and the codes of " +
			"string.char to 32 bits",
		func(c call) bool {
			switch c.name {
			case "rep", "gsub", "gsubf", "gsubt", "char":
				for _, a := range c.args {
					if f, ok := a.(float64); ok && !(math.Abs(f) < 1<<31) {
						return true
					}
				}
			}
			return false
		},
	},
}

// here runs a call with this package and returns the line the driver would
// write.
func here(c call) string {
	results, err := run(c)
	if err != nil {
		return "!" + hex.EncodeToString([]byte(err.Error()))
	}
	words := make([]string, len(results))
	for i, r := range results {
		words[i] = encode(r)
	}
	return strings.Join(words, " ")
}

// run does what a binding to Lua does.
func run(c call) ([]any, error) {
	str := func(i int) string { return c.args[i].(string) }
	integer := func(i int, otherwise int64) int64 {
		if i < len(c.args) {
			if f, ok := c.args[i].(float64); ok {
				return ToInt64(f)
			}
		}
		return otherwise
	}
	budget := 50_000_000
	var m Matcher
	captures := func(whole bool) (out []any, err error) {
		n := m.NumCaptures()
		if n == 0 && whole {
			n = 1
		}
		for i := range n {
			text, position, isPosition, err := m.Capture(i)
			if err != nil {
				return nil, err
			}
			if isPosition {
				out = append(out, position)
			} else {
				out = append(out, text)
			}
		}
		return out, nil
	}
	switch c.name {
	case "find", "match":
		init := Offset(integer(2, 1), len(str(0)))
		var start, end int
		var err error
		if len(c.args) > 3 && c.args[3] == true {
			start, end = FindPlain(str(0), str(1), init)
		} else {
			m.Init(str(0), str(1), &budget)
			if c.name == "find" {
				start, end, err = m.Find(init)
			} else {
				start, end, err = m.Match(init)
			}
		}
		if err != nil {
			return nil, err
		}
		if start < 0 {
			return []any{nil}, nil
		}
		caps, err := captures(c.name == "match")
		if c.name == "find" {
			caps = append([]any{start + 1, end}, caps...)
		}
		return caps, err
	case "gmatch":
		m.Init(str(0), str(1), &budget)
		var out []any
		for {
			start, _, err := m.Next()
			if start < 0 || err != nil {
				return out, err
			}
			caps, err := captures(true)
			if err != nil {
				return nil, err
			}
			out = append(append(out, caps...), true)
		}
	case "gsub", "gsubf", "gsubt":
		m.Init(str(0), str(1), &budget)
		at := 2
		if c.name == "gsub" {
			at = 3
		}
		limit := int(max(-1, min(integer(at, AllMatches), AllMatches)))
		var text string
		var n int
		var err error
		switch c.name {
		case "gsub":
			text, n, err = m.Gsub(str(2), limit, 1<<30)
		case "gsubf":
			text, n, err = m.GsubFunc(limit, 1<<30, func(m *Matcher) (string, bool, error) {
				caps, err := captures(true)
				if err != nil || caps[0] == "a" {
					return "", true, err
				}
				parts := make([]string, len(caps))
				for i, v := range caps {
					parts[i] = fmt.Sprint(v)
				}
				return "<" + strings.Join(parts, "|") + ">", false, nil
			})
		case "gsubt":
			text, n, err = m.GsubFunc(limit, 1<<30, func(m *Matcher) (string, bool, error) {
				text, position, isPosition, err := m.Capture(0)
				if isPosition {
					text = FormatNumber(float64(position))
				}
				return "[" + text + "]", text == "b", err
			})
		}
		return []any{text, n}, err
	case "format":
		s, err := Format(str(0), luaArgs(c.args[1:]), 0)
		return []any{s}, err
	case "lower":
		return []any{Lower(str(0))}, nil
	case "upper":
		return []any{Upper(str(0))}, nil
	case "reverse":
		return []any{Reverse(str(0))}, nil
	case "rep":
		s, err := Rep(str(0), integer(1, 0), 0)
		return []any{s}, err
	case "sub":
		return []any{Sub(str(0), integer(1, 1), integer(2, -1))}, nil
	case "byte":
		i := integer(1, 1)
		s, err := Bytes(str(0), i, integer(2, i), 0)
		var out []any
		for k := range len(s) {
			out = append(out, int(s[k]))
		}
		return out, err
	case "char":
		var out []byte
		for i, a := range c.args {
			var err error
			if out, err = AppendChar(out, a.(float64), i+1); err != nil {
				return nil, err
			}
		}
		return []any{string(out)}, nil
	case "tostring":
		return []any{FormatNumber(c.args[0].(float64))}, nil
	case "tonumber":
		base := integer(1, 10)
		f, ok, err := ParseNumberBase(str(0), int(base))
		if err != nil || !ok {
			return []any{nil}, err
		}
		return []any{f}, nil
	}
	panic("no function " + c.name)
}

// luaArgs are arguments of format with Lua's conversions and complaints.
type luaArgs []any

func (a luaArgs) Len() int { return len(a) }

func (a luaArgs) Number(i int) (float64, error) {
	switch v := a[i].(type) {
	case float64:
		return v, nil
	case string:
		if f, ok := ParseNumber(v); ok {
			return f, nil
		}
		return 0, &ArgumentError{"format", i + 2, "number expected, got string"}
	}
	return 0, &ArgumentError{"format", i + 2, "number expected, got nil"}
}

func (a luaArgs) String(i int) (string, error) {
	switch v := a[i].(type) {
	case float64:
		return FormatNumber(v), nil
	case string:
		return v, nil
	}
	return "", &ArgumentError{"format", i + 2, "string expected, got nil"}
}

// luaResults runs the calls in one interpreter and returns its lines.
func luaResults(t *testing.T, calls []call) []string {
	t.Helper()
	lua, err := exec.LookPath("lua5.1")
	if err != nil {
		if os.Getenv("CI") == "true" || os.Getenv("LIMPET_REQUIRE") != "" {
			t.Fatal(luaMissing)
		}
		t.Skip(luaMissing)
	}
	var in bytes.Buffer
	for _, c := range calls {
		in.WriteString(c.name)
		for _, a := range c.args {
			in.WriteString(" " + encode(a))
		}
		in.WriteByte('\n')
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, lua, "testdata/driver.lua")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = &in
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("lua5.1: %v\n%s", err, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != len(calls) {
		t.Fatalf("lua5.1 answered %d of %d calls\n%s", len(lines), len(calls), stderr.Bytes())
	}
	return lines
}

// compare reports every call whose results differ and returns how often each
// known difference was met.
func compare(t *testing.T, calls []call) (met map[string]int) {
	t.Helper()
	met = make(map[string]int)
	differences := 0
	for i, want := range luaResults(t, calls) {
		c := calls[i]
		// The interpreter does not know a name for a function called by pcall.
		if strings.HasPrefix(want, "!") {
			b, _ := hex.DecodeString(want[1:])
			want = "!" + hex.EncodeToString(bytes.Replace(b, []byte("to '?'"), []byte("to '"+c.name+"'"), 1))
		}
		got := here(c)
		if got == want {
			continue
		}
		name := ""
		for _, d := range knownDifferences {
			if d.covers(c) {
				name = d.name
				break
			}
		}
		if name != "" {
			met[name]++
			continue
		}
		if differences++; differences <= 20 {
			t.Errorf("%v\n got: %s\nlua: %s", c, readable(got), readable(want))
		}
	}
	if differences > 20 {
		t.Errorf("%d differences in all", differences)
	}
	return met
}

func TestAgainstLua(t *testing.T) {
	n := 200_000
	if s := os.Getenv("LIMPET_LUA_CASES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() || testrace.Enabled {
		n = 10_000
	}
	seed := rand.Uint64()
	if s := os.Getenv("LIMPET_LUA_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LIMPET_LUA_CASES=%d LIMPET_LUA_SEED=%d", n, seed)
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	calls := make([]call, n)
	for i := range calls {
		calls[i] = g.call()
	}
	met := compare(t, calls)
	for _, d := range knownDifferences {
		t.Logf("%6d x %s", met[d.name], d.name)
	}
}

// TestKnownDifferences keeps the list honest: each entry is there because of a
// call that does differ, and the results on our side are the ones we want.
func TestKnownDifferences(t *testing.T) {
	tests := []struct {
		difference string
		call       call
		want       []any
	}{
		{"zero byte in a pattern", call{"match", []any{"xa\x00bx", ".\x00b"}}, []any{"a\x00b"}},
		{"zero byte in a pattern", call{"gsub", []any{"ab", "\x00*", "-"}}, []any{"-a-b-", 3}},
		{"percent sign at the end of a replacement", call{"gsub", []any{"abc", "b", "x%%%"}}, []any{"ax%c", 1}},
		{"zero byte in a formatted item", call{"format", []any{"%s|%.3s|%c", "a\x00b", "\x00\x00\x00\x00", 0.0}}, []any{"a\x00b|\x00\x00\x00|\x00"}},
		{"sign of NaN", call{"tostring", []any{math.NaN()}}, []any{"nan"}},
		{"words for infinity and NaN", call{"tonumber", []any{" -infinity"}}, []any{nil}},
		{"words for infinity and NaN", call{"tonumber", []any{"nan"}}, []any{nil}},
		{"zero byte in a number's text", call{"tonumber", []any{"10\x00x"}}, []any{nil}},
		{"integers beyond 32 bits", call{"gsub", []any{"aaa", "a", "b", float64(1<<32 + 1)}}, []any{"bbb", 3}},
		{"integers beyond 32 bits", call{"rep", []any{"", float64(1<<32 + 1)}}, []any{""}},
	}
	for _, tt := range tests {
		t.Run(tt.call.String(), func(t *testing.T) {
			got, err := run(tt.call)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			for _, d := range knownDifferences {
				if d.name == tt.difference {
					if !d.covers(tt.call) {
						t.Errorf("the entry %q does not cover it", d.name)
					}
					return
				}
			}
			t.Errorf("no entry %q", tt.difference)
		})
	}
	if _, err := Rep("ab", 1<<32+1, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Rep beyond the limit: %v", err)
	}
}

// generator makes calls that are odd more often than not.
type generator struct{ *rand.Rand }

func (g generator) pick(s ...string) string { return s[g.IntN(len(s))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

// join makes a string of up to n pieces.
func (g generator) join(n int, piece func() string) string {
	var b strings.Builder
	for range g.IntN(n + 1) {
		b.WriteString(piece())
	}
	return b.String()
}

func (g generator) subject() string {
	switch g.IntN(8) {
	case 0:
		return g.pick("", "a", "  trim me  ", "k=v, key = value; x=1", "THE (quick) fox", "f(a(b)c)(d", "2026-11-22T10:00:00",
			"<b>bold</b> & \"quoted\"", "/path/to/file.txt?x=%41+b", "10.1.2.3:8080", "aaaaaaaaaaaaaaa", "\x00\x00", "a\nb\r\nc")
	case 1:
		return g.join(30, func() string { return string([]byte{byte(g.IntN(256))}) })
	case 2:
		return g.join(20, func() string { return g.pick("(", ")", "[", "]", "a", "%", "-", "^", "$", ".", "\x00") })
	default:
		return g.join(24, func() string {
			return g.pick("a", "b", "c", "a", "b", "A", "Z", "0", "9", " ", "x", "_", "-", ".", "=", "\t", "\xe9")
		})
	}
}

func (g generator) literal() string {
	if g.chance(2) {
		return "\x00"
	}
	return g.pick("a", "b", "c", "a", "b", "A", "0", "9", " ", "x", "f", "z", "_", "-", ",", "=", "]", "/", "\xe9", "\x7f")
}

func (g generator) class() string {
	return "%" + g.pick("a", "c", "d", "l", "p", "s", "u", "w", "x", "z", "A", "C", "D", "L", "P", "S", "U", "W", "X", "Z",
		".", "%", "-", "]", "[", "(", ")", "^", "$", "*", "g", "\xe9")
}

func (g generator) set() string {
	if g.chance(10) {
		return g.pick("[]]", "[^]]", "[a-]", "[-a]", "[^%w-_.~]", "[a-%%]", "[%a-z]", "[+--]", "[--/]", "[^^]", "[]-a]", "[z-a]", "[]", "[^]", "[a",
			"[%", "[a%", "[%]", "[a-%]", "[[]", "[[:alpha:]]", "[a-c-e]", "[%d%-]", "[^%s]", "[\x80-\xff]", "[%z]", "[^a-z%d]")
	}
	var b strings.Builder
	b.WriteByte('[')
	if g.chance(30) {
		b.WriteByte('^')
	}
	for range 1 + g.IntN(4) {
		switch g.IntN(5) {
		case 0:
			b.WriteString(g.class())
		case 1:
			b.WriteString(g.literal() + "-" + g.literal())
		default:
			b.WriteString(g.literal())
		}
	}
	if !g.chance(2) {
		b.WriteByte(']')
	}
	return b.String()
}

func (g generator) pattern() string {
	var b strings.Builder
	if g.chance(12) {
		b.WriteByte('^')
	}
	repeats, open := 0, 0
	for range g.IntN(7) {
		switch g.IntN(24) {
		case 0, 1:
			b.WriteByte('(')
			open++
		case 2, 3:
			if open > 0 || g.chance(5) {
				b.WriteByte(')')
				open--
			}
			continue
		case 4:
			b.WriteString("()")
			continue
		case 5:
			b.WriteString("%b" + g.pick("()", "ab", "[]", "xx", "a", "", "b\xe9"))
			continue
		case 6:
			b.WriteString("%f" + g.set())
			continue
		case 7:
			b.WriteString("%" + g.pick("1", "1", "1", "2", "3", "9", "0"))
			continue
		case 8:
			b.WriteString(g.pick("*", "+", "-", "?", "$", "^", "%", ".", "%b", "%f", "%fa"))
			continue
		case 9, 10, 11:
			b.WriteString(g.set())
		case 12, 13, 14:
			b.WriteString(g.class())
		case 15, 16:
			b.WriteByte('.')
		default:
			b.WriteString(g.literal())
		}
		// Few repetitions: the interpreter has no step limit.
		if repeats < 4 && g.chance(40) {
			repeats++
			b.WriteString(g.pick("*", "+", "-", "?"))
		}
	}
	for ; open > 0 && !g.chance(4); open-- {
		b.WriteByte(')')
	}
	if g.chance(12) {
		b.WriteByte('$')
	}
	return b.String()
}

func (g generator) replacement() string {
	return g.join(5, func() string {
		return g.pick("x", "y", "%0", "%1", "%1", "%2", "%3", "%%", "%a", "%.", "\x00", "long text ") + g.pick("", "", "", "", "", "", "", "", "", "", "", "%")
	})
}

func (g generator) index() float64 {
	switch g.IntN(12) {
	case 0:
		return g.number()
	case 1:
		return float64(g.IntN(9)-4) + 0.5
	default:
		return float64(g.IntN(60) - 30)
	}
}

func (g generator) number() float64 {
	switch g.IntN(12) {
	case 0:
		special := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, math.SmallestNonzeroFloat64,
			1 << 31, -1 << 31, 1<<31 - 1, 1 << 32, 1 << 53, 1<<53 + 2, 1 << 63, -1 << 63, 1<<63 - 1024, 1 << 64, 1<<64 - 2048, -1 << 64, 1 << 65, 1e14, 1e15,
			99999999999999, 999999999999999, 99999999999999.5, 0.1, 0.5, 1.5, 2.5, 1e-4, 1e-5, 0.00009999999, 123456789012345678}
		return special[g.IntN(len(special))]
	case 1, 2:
		return math.Float64frombits(g.Uint64())
	case 3, 4:
		return float64(int64(g.Uint64()) >> g.IntN(64))
	case 5, 6:
		return float64(g.IntN(2_000_000)-1_000_000) / []float64{1, 2, 4, 8, 10, 100, 1000, 1e6}[g.IntN(8)]
	case 7:
		return g.NormFloat64() * math.Pow(10, float64(g.IntN(40)-20))
	default:
		return float64(g.IntN(400) - 200)
	}
}

func (g generator) numeral() string {
	switch g.IntN(6) {
	case 0:
		return FormatNumber(g.number())
	case 1:
		return strconv.FormatFloat(g.number(), 'g', -1, 64)
	case 2:
		return g.pick("", " ", ".", "-", "+", "0x", "0X1F", "0xg", "1e", "1e+", "1e5", "2e2", "5e-07", "010", "5.", ".5", " 10 ", "\t\n\v\f\r7\v", "1 2", "1e400",
			"-1e400", "1e-400", "0x1p4", "0x.8", "0x1.8p-1", "0x1p", "0xp1", "0x.p1", "0x1.", "inf", "nan", "Infinity", "-nan", "nan(1)", "1_000", "1,5", "--1", "+-1", "1f",
			"0b1", "1e5.0", "1d5", "0x1P+3", "0x7fffffffffffffff", "0xffffffffffffffff", "0x10000000000000000", "9007199254740993", "0x20000000000001", "1\x00", "٣",
			"179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880")
	default:
		return g.pick("", "", " ", "\n") + g.pick("", "", "-", "+") + g.pick("", "", "", "0x") +
			g.join(20, func() string {
				return g.pick("0", "1", "2", "9", "7", "5", "4", "8", "3", "6", "a", "f", "E", ".", "e", "e-", "p", " ", "z")
			}) + g.pick("", "", " ")
	}
}

func (g generator) format() call {
	var b strings.Builder
	args := []any{""}
	for range 1 + g.IntN(3) {
		b.WriteString(g.pick("", "", "x ", "%%", "\x00"))
		b.WriteByte('%')
		b.WriteString(g.join(3, func() string { return g.pick("-", "+", " ", "#", "0") }))
		if g.chance(3) {
			b.WriteString(g.pick("------", "00000", "123", ".123", "1.", "5.5.5"))
		}
		if g.chance(50) {
			b.WriteString(strconv.Itoa(g.IntN(40)))
		}
		if g.chance(50) {
			b.WriteByte('.')
			if g.chance(80) {
				b.WriteString(strconv.Itoa(g.IntN(g.pick2(12, 100))))
			}
		}
		verb := g.pick("c", "d", "i", "o", "u", "x", "X", "e", "E", "f", "g", "G", "q", "s", "d", "s", "g", "f", "x")
		if g.chance(2) {
			verb = g.pick("a", "y", "n", "l", "h", "p", "\xff", "", "\n", "A", "F")
		}
		b.WriteString(verb)
		switch {
		case g.chance(2): // no argument
		case verb == "s" && g.chance(30) || verb == "q" && g.chance(10):
			args = append(args, g.number())
		case verb == "s" && g.chance(10):
			args = append(args, strings.Repeat(g.subject()+"x", 1+g.IntN(20)))
		case verb == "s" || verb == "q":
			args = append(args, g.subject())
		case verb == "c" && g.chance(80):
			args = append(args, float64(g.IntN(300)-20))
		case g.chance(5):
			args = append(args, g.numeral())
		default:
			args = append(args, g.number())
		}
	}
	args[0] = b.String()
	return call{"format", args}
}

func (g generator) pick2(a, b int) int {
	if g.chance(70) {
		return a
	}
	return b
}

func (g generator) call() call {
	switch g.IntN(20) {
	case 0, 1, 2, 3:
		c := call{g.pick("find", "find", "match"), []any{g.subject(), g.pattern()}}
		if g.chance(30) {
			c.args = append(c.args, g.index())
			if c.name == "find" && g.chance(20) {
				c.args = append(c.args, true)
			}
		}
		return c
	case 4, 5:
		return call{"match", []any{g.subject(), g.pattern()}}
	case 6, 7:
		return call{"gmatch", []any{g.subject(), g.pattern()}}
	case 8, 9:
		return call{"gsub", g.limited(g.subject(), g.pattern(), g.replacement())}
	case 10:
		return call{"gsubf", g.limited(g.subject(), g.pattern())}
	case 11:
		return call{"gsubt", g.limited(g.subject(), g.pattern())}
	case 12, 13, 14:
		return g.format()
	case 15:
		return call{g.pick("lower", "upper", "reverse"), []any{g.subject()}}
	case 16:
		return call{"rep", []any{g.subject(), float64(g.IntN(12) - 2)}}
	case 17:
		c := call{g.pick("sub", "sub", "byte"), []any{g.subject(), g.index()}}
		if g.chance(70) {
			c.args = append(c.args, g.index())
		}
		if g.chance(10) {
			c = call{"char", []any{float64(g.IntN(270) - 6), g.index()}}
		}
		return c
	case 18:
		c := call{"tonumber", []any{g.numeral()}}
		if g.chance(50) {
			c.args = append(c.args, float64(g.IntN(38)))
		}
		return c
	default:
		return call{"tostring", []any{g.number()}}
	}
}

func (g generator) limited(args ...any) []any {
	if g.chance(15) {
		args = append(args, g.index())
	}
	return args
}
