package clientaddr

import "strings"

// list takes the elements off a comma-separated header, from one end: either by
// last or by first. It never looks at more than budget bytes, and last never at
// a byte left of the element it returns, except for the comma.
type list struct {
	lines  []string // the one at that end is being read, if it has been begun
	begun  bool
	rest   string // what is left of that line
	budget int
	quoted bool // commas inside quoted strings do not separate
}

// done reports whether all elements were taken.
func (l *list) done() bool { return len(l.lines) == 0 }

// last takes the last element and returns it; it may be empty. A Reason other
// than 0 says why there is none.
func (l *list) last() (string, Reason) {
	if l.done() {
		return "", AllTrusted
	}
	if !l.begun {
		l.rest, l.begun = l.lines[len(l.lines)-1], true
	}
	window := l.rest[max(0, len(l.rest)-l.budget):]
	comma := strings.LastIndexByte(window, ',')
	if l.quoted {
		comma = lastUnquotedComma(window)
	}
	if comma < 0 && len(window) < len(l.rest) {
		return "", TooLong
	}
	element := window[comma+1:]
	if comma < 0 {
		l.lines, l.begun = l.lines[:len(l.lines)-1], false
	} else {
		l.rest = l.rest[:len(l.rest)-len(element)-1]
	}
	l.budget -= min(len(element)+1, l.budget)
	return element, 0
}

// first takes the first element, as last does the last.
func (l *list) first() (string, Reason) {
	if l.done() {
		return "", AllTrusted
	}
	if !l.begun {
		l.rest, l.begun = l.lines[0], true
	}
	window := l.rest[:min(len(l.rest), l.budget)]
	comma := strings.IndexByte(window, ',')
	if l.quoted {
		comma = firstUnquotedComma(window)
	}
	if comma < 0 && len(window) < len(l.rest) {
		return "", TooLong
	}
	element := window
	if comma < 0 {
		l.lines, l.begun = l.lines[1:], false
	} else {
		element, l.rest = window[:comma], l.rest[comma+1:]
	}
	l.budget -= min(len(element)+1, l.budget)
	return element, 0
}

// at returns the element, trimmed, at an index, from 1 at the left or from -1
// at the right, or if there are fewer the last in that direction, and how many
// it took. A Reason other than 0 says why there is none.
func (l *list) at(index int) (element string, taken int, end Reason) {
	if l.done() {
		return "", 0, NoHeader
	}
	for taken < max(index, -index) && !l.done() {
		if index > 0 {
			element, end = l.first()
		} else {
			element, end = l.last()
		}
		if end != 0 {
			return "", taken, end
		}
		taken++
	}
	return trim(element), taken, 0
}

// trim removes the white space around an element.
func trim(element string) string { return strings.Trim(element, " \t") }

// firstUnquotedComma returns the index of the first comma outside quoted
// strings, or -1. An unfinished quoted string ends with s.
func firstUnquotedComma(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ',':
			if !quoted {
				return i
			}
		case '"':
			quoted = !quoted
		case '\\':
			if quoted {
				i++
			}
		}
	}
	return -1
}

// lastUnquotedComma returns the index of the last comma outside quoted strings,
// or -1.
//
// Going backwards is what makes this safe: whatever is left of the comma, an
// unfinished quoted string for example, was there before the element was
// appended and must not change how it is read. The price is that a quotation
// mark inside a quoted string is known only by the backslashes to its left.
func lastUnquotedComma(s string) int {
	if comma := strings.LastIndexByte(s, ','); strings.IndexByte(s[comma+1:], '"') < 0 {
		return comma // the usual case, several times as fast
	}
	quoted := false
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case ',':
			if !quoted {
				return i
			}
		case '"':
			if quoted {
				backslash := i
				for backslash > 0 && s[backslash-1] == '\\' {
					backslash--
				}
				if (i-backslash)%2 == 1 { // escaped; the backslashes need no second look
					i = backslash
					continue
				}
			}
			quoted = !quoted
		}
	}
	return -1
}
