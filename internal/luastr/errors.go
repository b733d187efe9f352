package luastr

import (
	"errors"
	"fmt"
)

// Conditions a caller branches on with errors.Is.
var (
	// ErrSteps reports that the step budget ran out during a pattern operation.
	ErrSteps = errors.New("pattern step limit exceeded")
	// ErrTooComplex reports a pattern whose items nest deeper than MaxDepth.
	ErrTooComplex = errors.New("pattern too complex")
	// ErrTooLarge is what every *SizeError matches.
	ErrTooLarge = errors.New("resulting string too large")
	// ErrSliceTooLong reports that string.byte would return too many values.
	ErrSliceTooLong = errors.New("string slice too long")
)

// SizeError reports a result that would have been longer than its limit.
// Nothing of the result has been built beyond the limit. errors.Is(err,
// ErrTooLarge) is true.
type SizeError struct {
	Limit int // bytes
}

// Error names the limit.
func (e *SizeError) Error() string {
	return fmt.Sprintf("%v (limit %d bytes)", ErrTooLarge, e.Limit)
}

// Is makes errors.Is(err, ErrTooLarge) true.
func (e *SizeError) Is(target error) bool { return target == ErrTooLarge }

// PatternError is a malformed pattern or a misused capture, in the words of Lua
// 5.1.
type PatternError string

// Error returns the message.
func (e PatternError) Error() string { return string(e) }

// FormatError is a malformed directive of string.format, in the words of Lua
// 5.1.
type FormatError string

// Error returns the message.
func (e FormatError) Error() string { return string(e) }

// ArgumentError names an argument of a string function that cannot be used, in
// the words of Lua 5.1: `bad argument #2 to 'format' (no value)`.
type ArgumentError struct {
	Function string // without the library's name: "format"
	Argument int    // counted from 1, as in the script's call
	Reason   string // without the parentheses
}

// Error returns the message in the shape of Lua's.
func (e *ArgumentError) Error() string {
	return fmt.Sprintf("bad argument #%d to '%s' (%s)", e.Argument, e.Function, e.Reason)
}

// byteLimit gives a limit of zero or less its documented meaning.
func byteLimit(limit int) int {
	if limit <= 0 {
		return DefaultMaxBytes
	}
	return limit
}
