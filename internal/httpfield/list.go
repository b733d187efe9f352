package httpfield

import (
	"iter"
	"strings"
)

// Elements yields the elements of a field that is a comma-separated list, such
// as Connection, without the blanks around them. Empty elements are left out.
func Elements(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for element := range strings.SplitSeq(line, ",") {
				if element = trim(element); element != "" && !yield(element) {
					return
				}
			}
		}
	}
}

// HasToken reports whether a field that is a comma-separated list of tokens has
// this one, in any letter case.
func HasToken(lines []string, token string) bool {
	for _, line := range lines {
		for line != "" {
			var element string
			element, line, _ = strings.Cut(line, ",")
			if strings.EqualFold(trim(element), token) {
				return true
			}
		}
	}
	return false
}

// IsHopByHop reports whether a field of this canonical name is for the next
// recipient only (RFC 9110, section 7.6.1), whatever the field Connection says.
func IsHopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// IsFraming reports whether a field of this canonical name says where a message
// ends, or what is done with its connection (RFC 9110, section 7.6.1; RFC 9112,
// section 6). Rules and scripts must not set such a field: they could smuggle
// messages. Unlike IsHopByHop, it includes the length, and leaves out the
// fields with credentials for proxies.
func IsFraming(name string) bool {
	switch name {
	case "Content-Length":
		return true
	case "Proxy-Authenticate", "Proxy-Authorization":
		return false
	}
	return IsHopByHop(name)
}

// trim removes blanks as net/http does: the ends of lines, too, which no field
// that was received has.
func trim(s string) string { return strings.Trim(s, " \t\r\n") }
