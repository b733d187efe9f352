package clientaddr

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/limpetlb/limpet/internal/httpfield"
)

// parseXForwardedFor parses one element of an X-Forwarded-For header: an
// address, bare or as a node of RFC 7239, with or without quotation marks
// around it. An IPv6 address without brackets has no port. A Reason other than
// 0 says why there is no address.
func parseXForwardedFor(element string) (netip.AddrPort, Reason) {
	if n := len(element); n >= 2 && element[0] == '"' && element[n-1] == '"' {
		element = element[1 : n-1]
	}
	if strings.Count(element, ":") > 1 && element[0] != '[' {
		addr, ok := parseIPv6(element)
		return addrPort(addr, 0, ok)
	}
	return parseNode(element)
}

// parseForwarded parses one element of a Forwarded header (RFC 7239 section 4)
// and returns the node of its "for" parameter. Every parameter must be well
// formed and "for" must occur once, or a hop could be read in two ways; but the
// values may contain characters that the RFC wants quoted, such as the colon in
// for=192.0.2.1:80, since proxies do send them.
func parseForwarded(element string) (netip.AddrPort, Reason) {
	var node netip.AddrPort
	fault := HopHidden // until a "for" is seen
	seen := false
	for rest := strings.TrimLeft(element, " \t;"); rest != ""; rest = strings.TrimLeft(rest, " \t;") {
		name, value, tail, ok := cutParameter(rest)
		if !ok {
			return netip.AddrPort{}, HopMalformed
		}
		if strings.EqualFold(name, "for") {
			if seen {
				return netip.AddrPort{}, HopMalformed
			}
			seen = true
			node, fault = parseNode(value)
		}
		rest = tail
	}
	return node, fault
}

// protoOf returns the value of the "proto" parameter of an element of a
// Forwarded header, or "" if there is not exactly one or the element is
// malformed.
func protoOf(element string) (proto string) {
	for rest := strings.TrimLeft(element, " \t;"); rest != ""; rest = strings.TrimLeft(rest, " \t;") {
		name, value, tail, ok := cutParameter(rest)
		isProto := strings.EqualFold(name, "proto")
		if !ok || isProto && proto != "" {
			return ""
		}
		if isProto {
			proto = value
		}
		rest = tail
	}
	return proto
}

// cutParameter cuts the first name=value off s. The value is without its
// quotation marks. The tail is empty or begins with the semicolon that ends the
// parameter.
func cutParameter(s string) (name, value, tail string, ok bool) {
	equals := strings.IndexByte(s, '=')
	if equals <= 0 || !httpfield.IsToken(s[:equals]) {
		return "", "", "", false
	}
	name, s = s[:equals], s[equals+1:]

	if strings.HasPrefix(s, `"`) {
		value, tail, ok = cutQuoted(s)
	} else {
		end := strings.IndexByte(s, ';')
		if end < 0 {
			end = len(s)
		}
		value, tail = strings.TrimRight(s[:end], " \t"), s[end:]
		ok = value != "" && !strings.ContainsAny(value, " \t\",=")
	}
	tail = strings.TrimLeft(tail, " \t")
	return name, value, tail, ok && (tail == "" || tail[0] == ';')
}

// cutQuoted cuts the quoted string (RFC 9110 section 5.6.4) off the beginning
// of s, which starts with its opening mark.
func cutQuoted(s string) (value, tail string, ok bool) {
	escaped := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			value = s[1:i]
			if escaped {
				value = unescape(value)
			}
			return value, s[i+1:], true
		}
	}
	return "", "", false
}

// unescape removes the backslashes of the quoted pairs in s.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseNode parses a node of RFC 7239 section 6: an IPv4 address, an IPv6
// address in brackets, "unknown" or an obfuscated identifier, each with an
// optional port. An obfuscated port counts as none.
func parseNode(s string) (netip.AddrPort, Reason) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return netip.AddrPort{}, HopMalformed
		}
		addr, ok := parseIPv6(s[1:end])
		port, portOK := parsePort(s[end+1:])
		return addrPort(addr, port, ok && portOK)
	}

	name, tail := s, ""
	if colon := strings.IndexByte(s, ':'); colon >= 0 {
		name, tail = s[:colon], s[colon:]
	}
	port, ok := parsePort(tail)
	if ok && (strings.EqualFold(name, "unknown") || isObfuscated(name)) {
		return netip.AddrPort{}, HopHidden
	}
	if !ok || name == "" {
		return netip.AddrPort{}, HopMalformed
	}
	addr, err := netip.ParseAddr(name)
	return addrPort(addr, port, err == nil) // name has no colon, so this is IPv4
}

// parseIPv6 parses an IPv6 address and drops its zone.
func parseIPv6(s string) (netip.Addr, bool) {
	s, zone, hasZone := strings.Cut(s, "%")
	if hasZone && !isZone(zone) || !strings.Contains(s, ":") {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(s)
	return addr, err == nil
}

// parsePort parses what follows a node's name: nothing, or a colon and a port.
func parsePort(s string) (uint16, bool) {
	if s == "" {
		return 0, true
	}
	digits := s[1:]
	if s[0] != ':' || digits == "" {
		return 0, false
	}
	if isObfuscated(digits) {
		return 0, true
	}
	if len(digits) > 5 {
		return 0, false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	return uint16(port), err == nil
}

// addrPort is the result of a parse that found addr and port if ok.
func addrPort(addr netip.Addr, port uint16, ok bool) (netip.AddrPort, Reason) {
	if !ok {
		return netip.AddrPort{}, HopMalformed
	}
	return netip.AddrPortFrom(Normalize(addr), port), 0
}

// isObfuscated reports whether s is an obfuscated identifier or port (RFC 7239
// section 6.3).
func isObfuscated(s string) bool {
	return len(s) > 1 && s[0] == '_' && onlyAlphanumericOr(s, "._-")
}

// isZone reports whether s is a zone identifier as RFC 6874 writes it.
func isZone(s string) bool { return s != "" && onlyAlphanumericOr(s, "._-~%") }

// onlyAlphanumericOr reports whether s consists of ASCII letters, digits and
// the characters of more.
func onlyAlphanumericOr(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte(more, c) >= 0 {
			continue
		}
		return false
	}
	return true
}
