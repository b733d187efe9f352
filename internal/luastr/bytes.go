package luastr

import "strings"

// FindPlain is string.find without patterns: the first place at or after byte
// offset init where subject[start:end] equals target, or start -1. init is
// clamped to the subject.
func FindPlain(subject, target string, init int) (start, end int) {
	init = max(0, min(init, len(subject)))
	i := strings.Index(subject[init:], target)
	if i < 0 {
		return -1, -1
	}
	return init + i, init + i + len(target)
}

// Lower returns s with the letters A to Z in lower case and every other byte as
// it is.
func Lower(s string) string { return mapCase(s, 'A', 'Z') }

// Upper returns s with the letters a to z in upper case and every other byte as
// it is.
func Upper(s string) string { return mapCase(s, 'a', 'z') }

// mapCase toggles the case of the letters from first to last. It returns s
// itself when there are none.
func mapCase(s string, first, last byte) string {
	for i := range len(s) {
		if c := s[i]; first <= c && c <= last {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if c := b[j]; first <= c && c <= last {
					b[j] = c ^ 0x20
				}
			}
			return string(b)
		}
	}
	return s
}

// Rep returns n copies of s, or "" when n is 0 or less. maxBytes limits the
// result; 0 or less means DefaultMaxBytes. A longer one gives a *SizeError.
// Unlike Lua 5.1, which cuts n to 32 bits, every n means what it says.
func Rep(s string, n int64, maxBytes int) (string, error) {
	if n <= 0 || s == "" {
		return "", nil
	}
	maxBytes = byteLimit(maxBytes)
	if n > int64(maxBytes/len(s)) {
		return "", &SizeError{Limit: maxBytes}
	}
	return strings.Repeat(s, int(n)), nil
}

// Reverse returns the bytes of s in reverse order.
func Reverse(s string) string {
	b := make([]byte, len(s))
	for i := range len(s) {
		b[len(s)-1-i] = s[i]
	}
	return string(b)
}

// Sub is string.sub: the bytes from i to j, both counted from 1, or from the
// end when negative (-1, the default of j in Lua, is the last byte). Positions
// outside are clamped; an empty range gives "".
func Sub(s string, i, j int64) string {
	start, end := Range(i, j, len(s))
	return s[start:end]
}

// Bytes is string.byte: the part of s whose bytes are the results, for
// positions counted as for Sub (in Lua i is 1 by default, and j is i).
// maxValues limits their number; 0 or less means DefaultMaxValues. More give
// ErrSliceTooLong.
func Bytes(s string, i, j int64, maxValues int) (string, error) {
	if maxValues <= 0 {
		maxValues = DefaultMaxValues
	}
	part := Sub(s, i, j)
	if len(part) > maxValues {
		return "", ErrSliceTooLong
	}
	return part, nil
}

// AppendChar is string.char for one argument: it appends the byte with the
// given code. argument is the argument's number, counted from 1, for the
// *ArgumentError that tells of a code outside 0 to 255. The code is truncated
// to an integer first.
func AppendChar(dst []byte, code float64, argument int) ([]byte, error) {
	c := ToInt64(code)
	if c < 0 || c > 255 {
		return dst, &ArgumentError{Function: "char", Argument: argument, Reason: "invalid value"}
	}
	return append(dst, byte(c)), nil
}

// Range turns the positions i to j of a string of n bytes, counted as for Sub,
// into offsets for slicing: 0 <= start <= end <= n.
func Range(i, j int64, n int) (start, end int) {
	first := max(relative(i, n), 1) - 1
	last := min(relative(j, n), int64(n))
	if first >= last {
		return 0, 0
	}
	return int(first), int(last)
}

// Offset turns the starting position init of string.find and string.match,
// counted from 1, or from the end when negative, into an offset from 0 to n for
// a string of n bytes.
func Offset(init int64, n int) int {
	return int(min(max(relative(init, n)-1, 0), int64(n)))
}

// relative counts a negative position from the end; positions before the string
// give 0.
func relative(i int64, n int) int64 {
	if i < 0 {
		i += int64(n) + 1
	}
	return max(i, 0)
}
