package luastr

import (
	"math"
	"strconv"
	"strings"
)

// FormatNumber returns f as tostring and the concatenation operator print it:
// 14 significant digits, "1e+15" for large integers, "inf" and "-inf". Unlike
// C's printf, NaN is "nan" whatever its sign bit, which differs between
// processors.
func FormatNumber(f float64) string {
	var buf [24]byte
	return string(AppendNumber(buf[:0], f))
}

// AppendNumber appends f as FormatNumber prints it.
func AppendNumber(dst []byte, f float64) []byte {
	switch {
	case f != f:
		return append(dst, "nan"...)
	case f > math.MaxFloat64:
		return append(dst, "inf"...)
	case f < -math.MaxFloat64:
		return append(dst, "-inf"...)
	case math.Abs(f) < 1e14 && f == math.Trunc(f) && (f != 0 || !math.Signbit(f)):
		return strconv.AppendInt(dst, int64(f), 10)
	}
	return strconv.AppendFloat(dst, f, 'g', 14, 64)
}

// ParseNumber reads s as tonumber and arithmetic on strings do: an optional
// sign and a decimal or 0x-prefixed hexadecimal number, with fraction and
// exponent as C's strtod takes them (an exponent of a hexadecimal number
// follows "p"), white space around it. A number too large is an infinity, but
// unlike strtod the words "inf" and "nan" are refused.
func ParseNumber(s string) (f float64, ok bool) {
	s = trimSpace(s)
	digits := trimSign(s)
	if len(digits) > 1 && digits[0] == '0' && digits[1]|0x20 == 'x' {
		return parseHex(s, digits[2:])
	}
	n, rest := mantissa(digits, &escapes['d'])
	if n == 0 || !exponent(rest, 'e') {
		return 0, false
	}
	f, _ = strconv.ParseFloat(s, 64) // the only possible error is overflow
	return f, true
}

// parseHex reads the hexadecimal number s, whose digits come after the prefix.
func parseHex(s, digits string) (float64, bool) {
	n, rest := mantissa(digits, &escapes['x'])
	if n == 0 || !exponent(rest, 'p') {
		return 0, false
	}
	if n == len(digits) && n <= 16 {
		u, _ := strconv.ParseUint(digits, 16, 64)
		if s[0] == '-' {
			return -float64(u), true
		}
		return float64(u), true
	}
	if rest == "" {
		s += "p0" // strconv insists on an exponent
	}
	f, _ := strconv.ParseFloat(s, 64)
	return f, true
}

// mantissa skips digits with at most one point among them and returns how many
// digits there are.
func mantissa(s string, digits *byteSet) (n int, rest string) {
	i, point := 0, false
	for i < len(s) {
		switch {
		case digits.has(s[i]):
			n++
		case s[i] == '.' && !point:
			point = true
		default:
			return n, s[i:]
		}
		i++
	}
	return n, ""
}

// exponent reports whether s is nothing or a complete exponent. mark is in
// lower case.
func exponent(s string, mark byte) bool {
	if s == "" {
		return true
	}
	if s[0]|0x20 != mark {
		return false
	}
	s = trimSign(s[1:])
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func trimSign(s string) string {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		return s[1:]
	}
	return s
}

func trimSpace(s string) string { return strings.Trim(s, " \t\n\v\f\r") }

// ParseNumberBase reads s as tonumber does with a base from 2 to 36: white
// space around, an optional sign, for base 16 an optional 0x, then letters and
// digits. Base 10 reads what ParseNumber reads. As with Lua 5.1's unsigned long
// of 64 bits, a number too large gives 2^64, and a minus sign subtracts from
// 2^64. The error is an *ArgumentError about the base.
func ParseNumberBase(s string, base int) (f float64, ok bool, err error) {
	if base == 10 {
		f, ok = ParseNumber(s)
		return f, ok, nil
	}
	if base < 2 || base > 36 {
		return 0, false, &ArgumentError{Function: "tonumber", Argument: 2, Reason: "base out of range"}
	}
	s = trimSpace(s)
	digits := trimSign(s)
	if base == 16 && len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' {
		digits = digits[2:]
	}
	if digits == "" {
		return 0, false, nil
	}
	var u uint64
	overflow := false
	for i := range len(digits) {
		d := digitValue(digits[i])
		if d >= base {
			return 0, false, nil
		}
		if u > (math.MaxUint64-uint64(d))/uint64(base) {
			overflow = true
		}
		u = u*uint64(base) + uint64(d)
	}
	switch {
	case overflow:
		u = math.MaxUint64
	case s[0] == '-':
		u = -u
	}
	return float64(u), true, nil
}

// digitValue returns 36 for what is not a digit.
func digitValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'z':
		return int(c|0x20-'a') + 10
	}
	return 36
}

// ToInt64 cuts off the fraction of f, as Lua 5.1 on amd64 does wherever it
// wants an integer. NaN, infinities and numbers outside the range give
// math.MinInt64, on every processor.
func ToInt64(f float64) int64 {
	if f >= -1<<63 && f < 1<<63 {
		return int64(f)
	}
	return math.MinInt64
}

// toUint64 converts for %o, %u, %x and %X, as C on amd64 does: negative numbers
// wrap around, and what does not fit gives 0 or 2^63, on every processor.
func toUint64(f float64) uint64 {
	if f >= 1<<63 {
		return uint64(ToInt64(f-1<<63)) ^ 1<<63
	}
	return uint64(ToInt64(f))
}
