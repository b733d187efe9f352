package clientaddr

import "strings"

// list takes the elements off a comma-separated header, the last one first. It never looks at more than budget bytes,
// and never at a byte left of the element it returns, except for the comma.
type list struct {
	lines  []string // the last one is being read, if it has been begun
	begun  bool
	rest   string // what is left of that line
	budget int
	quoted bool // commas inside quoted strings do not separate
}

// done reports whether all elements were taken.
func (l *list) done() bool { return len(l.lines) == 0 }

// last takes the last element and returns it without the white space around it; it may be empty. A Reason other than 0 says
// why there is none.
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
	return strings.Trim(element, " \t"), 0
}

// lastUnquotedComma returns the index of the last comma outside quoted strings, or -1.
//
// Going backwards is what makes this safe: whatever is left of the comma, an unfinished quoted string for example, was
// there before the element was appended and must not change how it is read. The price is that a quotation mark inside a
// quoted string is known only by the backslashes to its left.
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
