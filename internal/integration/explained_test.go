package integration

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A difference is a kind of request that nginx and HAProxy refuse and limpet
// lets pass.
type difference struct {
	what, why string
	is        func(*trial) bool
}

// explained are all the differences that there are, in the order in which they
// are looked at. Each must occur.
var explained = []difference{
	{
		"chunks that turn out malformed", "the head is sent on while the body comes, as is right for uploads; the server sees that the body is cut off, and the client gets 400",
		func(x *trial) bool { return !x.whole && strings.Contains(x.mutant.raw, "chunked") },
	},
	{
		"a body in HTTP/2 that is not as long as its length says", "what is amiss is seen when the body has come; the server gets no more than the length, and if less, it sees that the body is cut off",
		func(x *trial) bool {
			length, ok := x.mutant.value("content-length")
			n, err := strconv.Atoi(length)
			return x.mutant.body && ok && err == nil && n != len(x.mutant.data) && (!x.whole || n < len(x.mutant.data))
		},
	},
	{
		"a trailer in HTTP/2 with fields that belong in heads", "net/http drops the fields of trailers that were not announced; no server gets them",
		func(x *trial) bool {
			return slices.ContainsFunc(x.mutant.trailer, func(f field) bool {
				return slices.Contains([]string{"content-length", "transfer-encoding", "host", "connection", "te"}, f.Name)
			})
		},
	},
	{
		"a malformed trailer in HTTP/2", "as with chunks: the server sees that the body is cut off, unless it has got as much as its length says",
		func(x *trial) bool {
			_, length := x.mutant.value("content-length")
			return x.mutant.trailer != nil && (!x.whole || length)
		},
	},
	{
		"HTTP/1.0 with Transfer-Encoding", "net/http does not tell that there was one; the connection is closed after the answer",
		func(x *trial) bool {
			return strings.Contains(x.mutant.raw, " HTTP/1.0\r\n") && strings.Contains(x.mutant.raw, "Transfer-Encoding")
		},
	},
	{
		"two oddities, of which nginx refuses one and HAProxy the other", "one of them at least forwards each alone, as limpet does",
		func(x *trial) bool { return nginxAlone(x.mutant) && haproxyAlone(x.mutant) },
	},
}

// value is what a field of HTTP/2 says, and whether it is there.
func (m *mutant) value(name string) (value string, ok bool) {
	for _, f := range m.fields {
		if f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

// nginxAlone reports whether nginx refuses what HAProxy and limpet forward:
// methods with other signs than capitals, "_" and "-", and TRACE; folded lines;
// a length that is given twice, beside chunks, or behind a tab, as
// Transfer-Encoding may be; a path that leaves the root; an absolute target
// without a path or with a "_" in its host, and a malformed field Host beside
// an absolute target; a field host beside :authority, and all trailers, in
// HTTP/2.
func nginxAlone(m *mutant) bool {
	line, _, _ := strings.Cut(m.raw, "\r\n")
	method := m.method()
	_, authority := m.value(":authority")
	_, host := m.value("host")
	return !capitals.MatchString(method) || method == "TRACE" || folded.MatchString(m.raw) || strings.Count(m.raw, "Content-Length:") > 1 ||
		strings.Contains(line, "://") && (strings.Contains(m.raw, "..") || noName.MatchString(m.raw)) || strangeHost.MatchString(line) || authority && host ||
		strings.Contains(line, " /../") || strings.Contains(m.raw, "Content-Length: \t") || strings.Contains(m.raw, "Transfer-Encoding:\t") ||
		strings.Contains(m.raw, "Content-Length:") && strings.Contains(m.raw, "Transfer-Encoding:") || m.trailer != nil
}

// haproxyAlone reports whether HAProxy refuses what nginx and limpet forward:
// an absolute target with another host than the field Host has; 8-bit bytes in
// targets; the method PRI; an empty field TE in HTTP/2; a blank in the name of
// a trailer's field, which net/http drops; WebSockets without a key; and more
// than 100 fields.
func haproxyAlone(m *mutant) bool {
	line, _, _ := strings.Cut(m.raw, "\r\n")
	te, ok := m.value("te")
	return strings.Contains(line, "://") || strings.ContainsFunc(line, func(c rune) bool { return c >= 0x80 }) || strings.Count(m.raw, "\n") > 100 ||
		strings.Contains(m.raw, "\r\n0\r\nX : 1\r\n") || strings.Contains(m.raw, "Upgrade: websocket") || m.method() == "PRI" || ok && te == ""
}

// method is the method of a request.
func (m *mutant) method() string {
	if method, ok := m.value(":method"); ok {
		return method
	}
	method, _, _ := strings.Cut(m.raw, " ")
	return method
}

var (
	capitals    = regexp.MustCompile(`^[A-Z_-]+$`)
	noName      = regexp.MustCompile(`\nHost: (:[^\r\n]*)?\r`)
	strangeHost = regexp.MustCompile(`://[^/? ]*_`)
	folded      = regexp.MustCompile(`\r?\n[ \t]+[^ \t\r\n]`)
)
