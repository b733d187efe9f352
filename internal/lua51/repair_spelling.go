package lua51

import (
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/luastr"
)

var gotoRepair = repair{
	file:    "repair_spelling.go",
	fault:   "The name goto is a keyword, as in Lua 5.2.",
	program: "goto = 1 print(goto)",
	wrong:   "error: syntax error",
	right:   "1",
}

var exponentRepair = repair{
	file:    "repair_spelling.go",
	fault:   "Hexadecimal numerals have no exponents.",
	program: "print(0x1p4)",
	wrong:   "error: syntax error",
	right:   "16",
}

// gotoName is what stands for the name goto, which is an ordinary one in Lua
// 5.1 and a reserved word for the VM's parser. The rewriter turns it back where
// scripts can see it.
const gotoName = "goto_is_a_name"

func spelled(name string) string {
	if name == gotoName {
		return "goto"
	}
	return name
}

// respell puts what Lua 5.1 reads and the VM's parser does not in another way:
// the name goto, and hexadecimal numbers with an exponent. The source is valid
// Lua 5.1.
func respell(source string) string {
	if !strings.Contains(source, "goto") && !strings.Contains(strings.ToLower(source), "0x") {
		return source
	}
	var b strings.Builder
	for i := 0; i < len(source); {
		n := next(source[i:])
		token := source[i : i+n]
		switch c := source[i]; {
		case c >= '0' && c <= '9' || c == '.':
			if strings.ContainsAny(token, "pP") {
				if f, ok := luastr.ParseNumber(token); ok {
					token = strconv.FormatFloat(f, 'g', -1, 64)
				}
			}
		case token == "goto":
			token = gotoName
		}
		b.WriteString(token)
		i += n
	}
	return b.String()
}

// next returns the length of the token, comment or character that a valid
// source begins with.
func next(s string) int {
	isWord := func(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' }
	switch c := s[0]; {
	case strings.HasPrefix(s, "--"):
		if n := longBracket(s[2:]); n > 0 {
			return 2 + n
		}
		if n := strings.IndexAny(s, "\n\r"); n >= 0 {
			return n
		}
		return len(s)
	case c == '[':
		return max(longBracket(s), 1)
	case c == '"', c == '\'':
		for i := 1; i < len(s); i++ {
			if s[i] == '\\' {
				i++
			} else if s[i] == c {
				return i + 1
			}
		}
		return len(s)
	case c >= '0' && c <= '9', c == '.' && len(s) > 1 && s[1] >= '0' && s[1] <= '9':
		i := 1
		for i < len(s) && (isWord(s[i]) || s[i] == '.' || (s[i] == '+' || s[i] == '-') && s[i-1]|0x20 == 'e' && !isHexNumeral(s)) {
			i++
		}
		return i
	case c == '.':
		return len(s) - len(strings.TrimLeft(s, "."))
	case isWord(c):
		i := 1
		for i < len(s) && isWord(s[i]) {
			i++
		}
		return i
	}
	return 1
}

func isHexNumeral(s string) bool { return len(s) > 1 && s[0] == '0' && s[1]|0x20 == 'x' }

// longBracket returns the length of a long string that s begins with, or 0.
func longBracket(s string) int {
	if s == "" || s[0] != '[' {
		return 0
	}
	level := len(s[1:]) - len(strings.TrimLeft(s[1:], "="))
	if 1+level >= len(s) || s[1+level] != '[' {
		return 0
	}
	end := "]" + strings.Repeat("=", level) + "]"
	if n := strings.Index(s[2+level:], end); n >= 0 {
		return 2 + level + n + len(end)
	}
	return len(s)
}
