// Package oneline makes text safe to print as a part of one line of a log or
// a report: it can neither begin another line nor command a terminal.
package oneline

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape replaces characters that end a line, control a terminal or change
// the direction of text by escapes as Go writes them: \n, \r, \x1b, \u2028. The
// tab and everything else stay as they are, bytes that are not UTF-8 included
// unless they are control characters of ISO 8859. A text without such
// characters is returned as it is.
func Escape(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c >= 0x7f {
			return escape(s, i)
		}
	}
	return s
}

// escape is Escape for a text whose first i bytes are harmless.
func escape(s string, i int) string {
	var b strings.Builder
	done := 0 // up to where b has the text
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			r = rune(s[i])
			if r > 0x9f {
				r = 'x' // as harmless as any
			}
		}
		if controls(r) {
			b.WriteString(s[done:i])
			switch {
			case r == '\n':
				b.WriteString(`\n`)
			case r == '\r':
				b.WriteString(`\r`)
			case r == 0:
				b.WriteString(`\0`)
			case size == 1:
				fmt.Fprintf(&b, `\x%02x`, r)
			default:
				fmt.Fprintf(&b, `\u%04x`, r)
			}
			done = i + size
		}
		i += size
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

func controls(r rune) bool {
	return r != '\t' && unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || unicode.Is(unicode.Bidi_Control, r)
}
