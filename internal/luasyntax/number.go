package luasyntax

import (
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

func isDigit(c int) bool { return '0' <= c && c <= '9' }

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

// isWord reports whether c may stand in a name, in the C locale.
func isWord(c int) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || isDigit(c) || c == '_'
}

// parseNumber returns the value of what the lexer took for a number, as C's
// strtod reads it: a decimal with an optional fraction and exponent, or a
// hexadecimal integer with an optional binary exponent (0x1p4 is 16). It reads
// up to a zero byte, as C does.
func parseNumber(s string) (float64, bool) {
	s, _, _ = strings.Cut(s, "\x00")
	if len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' {
		rest := skip(s[2:], isHexDigit)
		if len(rest) == len(s)-2 {
			return 0, false
		}
		if rest == "" {
			s += "p0"
		} else if rest[0]|0x20 != 'p' || rest[1:] == "" || skip(rest[1:], isDecimal) != "" {
			return 0, false
		}
	} else {
		rest := skip(s, isDecimal)
		digits := len(s) - len(rest)
		if strings.HasPrefix(rest, ".") {
			fraction := rest[1:]
			rest = skip(fraction, isDecimal)
			digits += len(fraction) - len(rest)
		}
		if digits == 0 {
			return 0, false
		}
		if rest != "" {
			if rest[0]|0x20 != 'e' {
				return 0, false
			}
			rest = rest[1:]
			if rest != "" && (rest[0] == '+' || rest[0] == '-') {
				rest = rest[1:]
			}
			if rest == "" || skip(rest, isDecimal) != "" {
				return 0, false
			}
		}
	}
	// What remains to go wrong is a value out of range, which is infinite or
	// zero here as in C.
	value, _ := strconv.ParseFloat(s, 64)
	return value, true
}

func isDecimal(c byte) bool { return isDigit(int(c)) }

// skip returns s from the first byte on that is not in the class.
func skip(s string, class func(byte) bool) string {
	for i := range len(s) {
		if !class(s[i]) {
			return s[i:]
		}
	}
	return ""
}
