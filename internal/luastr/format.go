package luastr

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
)

// FormatArgs gives Format the arguments that follow the format string, counted
// from 0. Its methods are asked for what a directive needs and convert as Lua
// does (a number in a string is a number, a number is a string); Format returns
// their errors as they are.
//
// Format asks once for each directive, so an implementation that watches a
// clock or a budget bounds Format's time as well: the dearest directives (%.99e
// of a number near zero) take tens of microseconds each.
type FormatArgs interface {
	// Len returns the number of arguments.
	Len() int
	// Number returns argument i as a number.
	Number(i int) (float64, error)
	// String returns argument i as a string.
	String(i int) (string, error)
}

// Format is string.format with the directives of Lua 5.1 (%c %d %i %o %u %x %X
// %e %E %f %g %G %q %s %%) as C's printf prints them in the C locale on a
// 64-bit machine, with NaN always "nan".
//
// maxBytes limits the result; 0 or less means DefaultMaxBytes. Errors are
// *SizeError, FormatError, *ArgumentError for an argument that is missing, and
// those of args.
//
// Unlike Lua 5.1, which cuts an item at its first zero byte, %s and %c keep
// zero bytes.
func Format(format string, args FormatArgs, maxBytes int) (string, error) {
	f := formatter{max: byteLimit(maxBytes)}
	f.buf = make([]byte, 0, min(f.max, len(format)+32))
	next := 0
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			break
		}
		if !f.fits(i + 1) {
			return "", &SizeError{Limit: f.max}
		}
		f.buf = append(f.buf, format[:i]...)
		format = format[i+1:]
		if format != "" && format[0] == '%' {
			f.buf = append(f.buf, '%')
			format = format[1:]
			continue
		}
		if next == args.Len() {
			// The format string is argument 1.
			return "", &ArgumentError{Function: "format", Argument: next + 2, Reason: "no value"}
		}
		spec, n, err := parseSpec(format)
		if err != nil {
			return "", err
		}
		format = format[n:]
		if err := f.item(spec, args, next); err != nil {
			return "", err
		}
		next++
	}
	if !f.fits(len(format)) {
		return "", &SizeError{Limit: f.max}
	}
	f.buf = append(f.buf, format...)
	return string(f.buf), nil
}

var (
	errRepeatedFlags error = FormatError("invalid format (repeated flags)")
	errSpecTooLong   error = FormatError("invalid format (width or precision too long)")
)

// spec is one directive.
type spec struct {
	minus, plus, space, sharp, zero bool

	width     int
	precision int // -1 when there is none
	verb      byte
}

// parseSpec reads a directive after its percent sign and returns its length.
func parseSpec(s string) (sp spec, n int, err error) {
	i := 0
flags:
	for ; i < len(s); i++ {
		switch s[i] {
		case '-':
			sp.minus = true
		case '+':
			sp.plus = true
		case ' ':
			sp.space = true
		case '#':
			sp.sharp = true
		case '0':
			sp.zero = true
		default:
			break flags
		}
	}
	if i > len("-+ #0") {
		return sp, 0, errRepeatedFlags
	}
	number := func() (v int) {
		for range 2 {
			if i < len(s) && isDigit(s[i]) {
				v = v*10 + int(s[i]-'0')
				i++
			}
		}
		return v
	}
	sp.width = number()
	sp.precision = -1
	if i < len(s) && s[i] == '.' {
		i++
		sp.precision = number()
	}
	if i < len(s) && isDigit(s[i]) {
		return sp, 0, errSpecTooLong
	}
	if i == len(s) || s[i] == 0 {
		return sp, 0, FormatError("invalid option '%' to 'format'")
	}
	sp.verb = s[i]
	switch sp.verb {
	case 'c', 'd', 'i', 'o', 'u', 'x', 'X', 'e', 'E', 'f', 'g', 'G', 'q', 's':
		return sp, i + 1, nil
	}
	return sp, 0, FormatError("invalid option '%" + s[i:i+1] + "' to 'format'")
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// formatter builds the result.
type formatter struct {
	buf []byte
	max int
}

// fits reports whether n more bytes stay within the limit.
func (f *formatter) fits(n int) bool { return n <= f.max-len(f.buf) }

// item appends argument i as sp says.
func (f *formatter) item(sp spec, args FormatArgs, i int) error {
	start := len(f.buf)
	switch sp.verb {
	case 's', 'q':
		s, err := args.String(i)
		if err != nil {
			return err
		}
		if sp.verb == 's' {
			if sp.precision >= 0 && len(s) > sp.precision {
				s = s[:sp.precision]
			}
			if !f.fits(max(len(s), sp.width)) {
				return &SizeError{Limit: f.max}
			}
			f.pad(sp, s)
			return nil
		}
		if !f.fits(quotedLen(s)) {
			return &SizeError{Limit: f.max}
		}
		f.quote(s)
		return nil
	}
	v, err := args.Number(i)
	if err != nil {
		return err
	}
	switch sp.verb {
	case 'c':
		c := ToInt64(v)
		if c != int64(int32(c)) {
			c = 0 // the low byte of what C's conversion gives
		}
		f.pad(sp, string([]byte{byte(c)}))
	case 'd', 'i':
		n := ToInt64(v)
		u := uint64(n)
		if n < 0 {
			u = -u
		}
		f.integer(sp, u, 10, sp.sign(n < 0), "")
	case 'u':
		f.integer(sp, toUint64(v), 10, "", "")
	case 'o':
		f.integer(sp, toUint64(v), 8, "", "")
	case 'x':
		f.integer(sp, toUint64(v), 16, "", "0x")
	case 'X':
		f.integer(sp, toUint64(v), 16, "", "0X")
	default:
		f.float(sp, v)
	}
	if !f.fits(0) {
		f.buf = f.buf[:start]
		return &SizeError{Limit: f.max}
	}
	return nil
}

// sign returns what stands before a number.
func (sp *spec) sign(negative bool) string {
	switch {
	case negative:
		return "-"
	case sp.plus:
		return "+"
	case sp.space:
		return " "
	}
	return ""
}

func (f *formatter) fill(c byte, n int) {
	for range n {
		f.buf = append(f.buf, c)
	}
}

// pad appends s in a field of the width asked for, with blanks.
func (f *formatter) pad(sp spec, s string) {
	if !sp.minus {
		f.fill(' ', sp.width-len(s))
	}
	f.buf = append(f.buf, s...)
	if sp.minus {
		f.fill(' ', sp.width-len(s))
	}
}

// number appends a prefix (sign, 0x) and digits in a field of the width asked
// for. zeros are the zeros that the precision demands between the two; the
// field's own zeros are allowed only where the zero flag counts.
func (f *formatter) number(sp spec, prefix string, zeros int, digits []byte, zeroFill bool) {
	blanks := sp.width - len(prefix) - zeros - len(digits)
	switch {
	case sp.minus:
	case zeroFill:
		zeros += max(blanks, 0)
	default:
		f.fill(' ', blanks)
	}
	f.buf = append(f.buf, prefix...)
	f.fill('0', zeros)
	f.buf = append(f.buf, digits...)
	if sp.minus {
		f.fill(' ', blanks)
	}
}

// integer appends u. sharp is the prefix, if any, that the # flag gives to a
// number other than 0.
func (f *formatter) integer(sp spec, u uint64, base int, sign, sharp string) {
	var buf [24]byte
	digits := strconv.AppendUint(buf[:0], u, base)
	if sp.verb == 'X' {
		upper(digits)
	}
	if u == 0 && sp.precision == 0 {
		digits = digits[:0]
	}
	zeros := max(sp.precision-len(digits), 0)
	if sp.sharp {
		switch {
		case sp.verb == 'o' && zeros == 0 && (len(digits) == 0 || digits[0] != '0'):
			zeros = 1
		case sharp != "" && u != 0:
			sign = sharp
		}
	}
	f.number(sp, sign, zeros, digits, sp.zero && sp.precision < 0)
}

// float appends v for the verbs e, E, f, g and G.
func (f *formatter) float(sp spec, v float64) {
	var buf [512]byte
	var digits []byte
	zeroFill := sp.zero
	switch {
	case v != v:
		digits, zeroFill = append(buf[:0], "nan"...), false
	case math.IsInf(v, 0):
		digits, zeroFill = append(buf[:0], "inf"...), false
	default:
		digits = appendFloat(buf[:0], math.Abs(v), sp)
	}
	if sp.verb == 'E' || sp.verb == 'G' {
		upper(digits)
	}
	f.number(sp, sp.sign(v == v && math.Signbit(v)), 0, digits, zeroFill)
}

// appendFloat appends a finite v that is not negative to dst, which is empty.
func appendFloat(dst []byte, v float64, sp spec) []byte {
	precision := sp.precision
	if precision < 0 {
		precision = 6
	}
	verb := sp.verb | 0x20
	if verb == 'g' {
		precision = max(precision, 1)
		if !sp.sharp {
			return strconv.AppendFloat(dst, v, 'g', precision, 64)
		}
		// With the # flag, zeros at the end stay. The exponent decides on the
		// form, as it is after rounding.
		digits := strconv.AppendFloat(dst, v, 'e', precision-1, 64)
		mark := bytes.IndexByte(digits, 'e')
		exponent, _ := strconv.Atoi(string(digits[mark+1:]))
		if exponent < -4 || exponent >= precision {
			return addPoint(digits)
		}
		verb, precision = 'f', precision-1-exponent
		dst = digits[:0]
	}
	dst = strconv.AppendFloat(dst, v, verb, precision, 64)
	if sp.sharp {
		return addPoint(dst)
	}
	return dst
}

// addPoint adds a decimal point to a number that has none.
func addPoint(digits []byte) []byte {
	if bytes.IndexByte(digits, '.') >= 0 {
		return digits
	}
	mark := bytes.IndexByte(digits, 'e')
	if mark < 0 {
		mark = len(digits)
	}
	return slices.Insert(digits, mark, '.')
}

func upper(b []byte) {
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 0x20
		}
	}
}

// quote appends s as a Lua string literal that reads back as s.
func (f *formatter) quote(s string) {
	f.buf = append(f.buf, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			f.buf = append(f.buf, '\\', c)
		case '\r':
			f.buf = append(f.buf, `\r`...)
		case 0:
			f.buf = append(f.buf, `\000`...)
		default:
			f.buf = append(f.buf, c)
		}
	}
	f.buf = append(f.buf, '"')
}

// quotedLen returns the length of what quote appends.
func quotedLen(s string) int {
	n := 2 + len(s)
	for i := range len(s) {
		switch s[i] {
		case '"', '\\', '\n', '\r':
			n++
		case 0:
			n += 3
		}
	}
	return n
}
