package lua51

import (
	"fmt"
	"strings"
	"testing"
)

// Malformed patterns and odd indexes end with Lua's words, and never with
// those of the Go runtime.
func TestMalformedPatterns(t *testing.T) {
	patterns := []string{
		"%", "[", "[%", "[a-", "[^", "[]", "[^]", "(", ")", "(()", "())", "%b", "%bx", "%f", "%fa", "%1", "(%1)", "%0", "%9", "a%", "[[:alpha:]", "[a-%", "[%a-z]",
		"^", "^*", "*", "**", "+?", "-", "()", "(()())", "\x00", "[\x00-\xff]*", "%z", "%g", "%q", "%", "$", "$a", "a$b", strings.Repeat("(", 40), strings.Repeat("()", 33), strings.Repeat("a?", 500),
	}
	indexes := []string{"nil", "0", "1", "-1", "99", "-99", "2^31", "-2^31", "2^53", "1e308", "-1e308", "0/0", "1/0", "-1/0", "1.5", `"2"`}
	e := newHost(Limits{})
	calls := 0
	for _, p := range patterns {
		q := quoteLua(p)
		var sources []string
		for _, i := range indexes {
			sources = append(sources, fmt.Sprintf("s:find(%s, %s)", q, i), fmt.Sprintf("s:find(%s, %s, true)", q, i), fmt.Sprintf("s:match(%s, %s)", q, i), fmt.Sprintf("s:gsub(%s, 'x', %s)", q, i))
		}
		for _, replacement := range []string{`"%"`, `"%1"`, `"%9"`, `"%0%0"`, `"%x"`, "{}", "{a = 1}", "{a = {}}", "print", "function() return {} end", "function() return 1e308 end", "7"} {
			sources = append(sources, fmt.Sprintf("s:gsub(%s, %s)", q, replacement))
		}
		sources = append(sources, fmt.Sprintf("(function() for a, b in s:gmatch(%s) do return a, b end end)()", q))
		for _, source := range sources {
			calls++
			x, err := e.run(t, "local s = 'a b(c)\\0%%d' log("+source+")")
			seen := strings.Join(x.logs, "\n") + fmt.Sprint(err)
			if found := revealing.FindString(seen); found != "" {
				t.Errorf("%s: reveals %q in %s", source, found, seen)
			}
		}
	}
	t.Logf("%d calls", calls)
}
