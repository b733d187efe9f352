// Package httpfield has the grammar of what stands in the head of an HTTP
// message: methods, names and values of fields, authorities and request
// targets; and how the fields are read that more than one package reads: lists
// of tokens and cookies.
//
// Where the standards leave room that two programs use in two ways, it takes
// the narrow side.
package httpfield

import (
	"net/netip"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// IsToken reports whether s is a token (RFC 9110, section 5.6.2), as methods
// and names of fields are.
func IsToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

// IsTokenByte reports whether c may stand in a token.
func IsTokenByte(c byte) bool { return httpguts.IsTokenRune(rune(c)) }

// IsValue reports whether s may stand in the value of a field (RFC 9110,
// section 5.5): it has no control characters but the tab.
func IsValue(s string) bool { return httpguts.ValidHeaderFieldValue(s) }

// IsTarget reports whether s may stand in a request line as a part of its
// target: it has no blanks, no control characters and no "#". Bytes above 0x7f
// are left to whoever reads them.
func IsTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// IsAuthority reports whether s is a host, with a port or without, as the field
// Host and the authority of a target have it (RFC 9110, section 7.2): a name of
// letters, digits, "-", ".", "_" and "~" whose labels are not empty but for one
// dot at the end, or an IPv6 address in brackets. Unlike RFC 3986, it allows
// neither percent-encoding, which one program decodes and another does not, nor
// the delimiters "!$&'()*+,;=", nor names beyond ASCII, nor a user.
func IsAuthority(s string) bool {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		port, ok := strings.CutPrefix(s[end+1:], ":")
		return ok && isPort(port) || s[end+1:] == ""
	}
	host, port, ok := strings.Cut(s, ":")
	if ok && !isPort(port) {
		return false
	}
	label := false // the label under way has a byte
	for i := range len(host) {
		switch c := host[i]; {
		case c == '.':
			if !label {
				return false
			}
			label = false
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '~':
			label = true
		default:
			return false
		}
	}
	return host != ""
}

// isPort reports whether s is a port, which may be empty (RFC 3986, section
// 3.2.3).
func isPort(s string) bool {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || i > 4 {
			return false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n <= 65535
}
