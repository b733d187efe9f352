package luastr_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/limpetlb/limpet/internal/luastr"
)

func ExampleMatcher_Match() {
	var m luastr.Matcher
	m.Init("Cookie: session=42; theme=dark", "(%w+)=(%w+)", nil)
	start, end, err := m.Match(0)
	if err != nil || start < 0 {
		return
	}
	name, _, _, _ := m.Capture(0)
	value, _, _, _ := m.Capture(1)
	fmt.Println(start, end, name, value)
	// Output: 8 18 session 42
}

func ExampleMatcher_Next() {
	budget := luastr.DefaultSteps // shared by everything a script run does
	var m luastr.Matcher
	m.Init("10.1.2.3", "%d+", &budget)
	for {
		start, _, err := m.Next()
		if err != nil || start < 0 {
			break
		}
		number, _, _, _ := m.Capture(0)
		fmt.Println(number)
	}
	// Output:
	// 10
	// 1
	// 2
	// 3
}

func ExampleMatcher_Gsub() {
	var m luastr.Matcher
	m.Init("key=value", "(%w+)=(%w+)", nil)
	fmt.Println(m.Gsub("%2=%1", luastr.AllMatches, 0))
	// Output: value=key 1 <nil>
}

func ExampleMatcher_GsubFunc() {
	entities := map[string]string{"<": "&lt;", ">": "&gt;", "&": "&amp;"}
	var m luastr.Matcher
	m.Init("<b> & \"</b>\"", `[<>&"]`, nil)
	text, count, err := m.GsubFunc(luastr.AllMatches, 0, func(m *luastr.Matcher) (string, bool, error) {
		c, _, _, err := m.Capture(0)
		entity, found := entities[c]
		return entity, !found, err
	})
	fmt.Println(text, count, err)
	// Output: &lt;b&gt; &amp; "&lt;/b&gt;" 7 <nil>
}

// A hostile pattern ends with an error, not with the process.
func ExampleErrSteps() {
	budget := 10_000
	var m luastr.Matcher
	m.Init(strings.Repeat("a", 40), strings.Repeat("a?", 40)+strings.Repeat("a", 40)+"b", &budget)
	_, _, err := m.Match(0)
	fmt.Println(errors.Is(err, luastr.ErrSteps), budget)
	// Output: true 0
}

// values are arguments that need no conversion.
type values []any

func (v values) Len() int { return len(v) }

func (v values) Number(i int) (float64, error) {
	if f, ok := v[i].(float64); ok {
		return f, nil
	}
	return 0, &luastr.ArgumentError{Function: "format", Argument: i + 2, Reason: "number expected"}
}

func (v values) String(i int) (string, error) {
	if s, ok := v[i].(string); ok {
		return s, nil
	}
	return "", &luastr.ArgumentError{Function: "format", Argument: i + 2, Reason: "string expected"}
}

func ExampleFormat() {
	text, err := luastr.Format("%-8s|%5.1f|%#x", values{"name", 3.14159, 255.0}, 0)
	fmt.Println(text, err)
	_, err = luastr.Format("%d", values{"name"}, 0)
	fmt.Println(err)
	// Output:
	// name    |  3.1|0xff <nil>
	// bad argument #2 to 'format' (number expected)
}

func ExampleParseNumber() {
	for _, s := range []string{"010", " 5e-07 ", "0x10", "nan"} {
		f, ok := luastr.ParseNumber(s)
		fmt.Println(luastr.FormatNumber(f), ok)
	}
	// Output:
	// 10 true
	// 5e-07 true
	// 16 true
	// 0 false
}

func ExampleRep() {
	_, err := luastr.Rep("a", 1e11, 1<<20)
	fmt.Println(err)
	// Output: resulting string too large (limit 1048576 bytes)
}

func ExampleSub() {
	fmt.Println(luastr.Sub("hello", 2, -2))
	// Output: ell
}
