package httpfield

import (
	"iter"
	"strings"
)

// A Cookie is a name and a value as the fields Cookie and Set-Cookie have them.
// They are read as browsers read them (RFC 6265bis, section 5), not as servers
// should write them: a value may have quotes, blanks and braces.
type Cookie struct {
	Name, Value string // without the blanks around them; the value still with its quotes
	HasValue    bool   // there is a "=": without one, some programs take the text for a name, others for a value
}

// Cookies yields what stands between the semicolons of a line of the field
// Cookie, as text and as ParseCookie reads it. Empty texts are not left out.
func Cookies(line string) iter.Seq2[string, Cookie] {
	return func(yield func(string, Cookie) bool) {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			if !yield(pair, ParseCookie(pair)) {
				return
			}
		}
	}
}

// ParseCookie reads a name and a value, with "=" between them and blanks
// anywhere around them. A text without "=" is a name.
func ParseCookie(pair string) Cookie {
	name, value, ok := strings.Cut(pair, "=")
	return Cookie{trim(name), trim(value), ok}
}

// ParseSetCookie reads a line of the field Set-Cookie. The attributes are what
// follows the first semicolon.
func ParseSetCookie(line string) (c Cookie, attributes string) {
	pair, attributes, _ := strings.Cut(line, ";")
	return ParseCookie(pair), attributes
}

// Unquoted returns the value without the quotes around it, which some servers
// write and others do not.
func (c Cookie) Unquoted() string {
	if n := len(c.Value); n > 1 && c.Value[0] == '"' && c.Value[n-1] == '"' {
		return c.Value[1 : n-1]
	}
	return c.Value
}
