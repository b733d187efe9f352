package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/http2/hpack"
)

type field = hpack.HeaderField

// A mutant is a request with a few oddities.
type mutant struct {
	odd []string // the oddities, each "kind: what"

	raw string // HTTP/1, on the wire; empty for HTTP/2

	fields  []field // HTTP/2: the head
	data    []byte  // HTTP/2: the body, if body
	body    bool
	trailer []field // HTTP/2: the trailer, if there is one
}

// String shows what a mutant sends.
func (m *mutant) String() string {
	if m.raw != "" {
		return fmt.Sprintf("%q", m.raw)
	}
	var b strings.Builder
	for _, f := range m.fields {
		fmt.Fprintf(&b, "%q: %q, ", f.Name, f.Value)
	}
	if m.body {
		fmt.Fprintf(&b, "body %q", m.data)
	}
	for _, f := range m.trailer {
		fmt.Fprintf(&b, ", trailer %q: %q", f.Name, f.Value)
	}
	return b.String()
}

// Parts of mutants that two programs might read in two ways. In framings and
// trailers a line break is one of CR and LF.
var (
	oddMethods = []string{
		"HEAD", "OPTIONS", "CONNECT", "TRACE", "get", "Get", "G T", "GE:T", "G\tT", "GÉT", "", "M-SEARCH", "PRI", "GET/1", "\"GET\"", "GET\x00", "GET\x0b", "GET,POST", "G(E)T", "PATCH", "DELETE",
		"SEARCH", "_", "-", "GET\r", " GET", "GET ", "{}", "G|T", "G^T", "1", strings.Repeat("A", 300),
	}
	oddTargets = []string{
		"/", "/admin", "/admin/x", "//admin", "///", "/./admin", "/x/../admin", "/../admin", "/%61dmin", "/%2561dmin", "/%2fadmin", "/x%2f..%2fadmin", "/x/%2e%2e/admin", "/admin;x", "/ADMIN",
		"/\\admin", "/..\\admin", "/a b", "/a\tb", "/a%00b", "/a%0d%0ab", "/a%0ab", "/a%", "/a%2", "/a%zz", "/a|b", "/a^b%2Fc", "/a\"b", "/a<b>", "/a{b}", "/a`b", "/ü", "/\xff", "/%ff", "/%c0%af", "/a?b",
		"/a?b#c", "/a#/admin", "/a?b c", "/a?%zz", "/a?\xff", "/a?\"", "/?/../admin", "*", "*?x", "/*", "", "admin", "admin/x", "?admin", "#", "http:admin/x", "x:admin/x", "http:/admin", "http://",
		"http:///admin", "http://admin.example.com/x", "http://b/admin", "http://b/x", "https://b/x?y", "HTTP://b", "http://b?x", "http://u@b/admin", "http://u:p@b/x", "http://b:99999/x", "http://b:/x",
		"http://[::1/x", "http://[::1]/x", "http://b\\admin/x", "http://%61dmin.example.com/", "ftp://b/x", "ws://b/x", "urn:x", "mailto:a@b", "//", "/x HTTP/1.1", "b:443", "admin.example.com:443",
		":443", ":", "/x?http://b/admin", "/a/%2e%2e/admin", "/a\x00b", "/a\x7fb", "/a\x0bb", "/a\rb", "/a\nb", "/x\u2028", "/:x", "/@", "/;", "/a,b", "/~", "/" + strings.Repeat("a", 5000),
	}
	oddHosts = []string{
		"a:80", "admin.example.com", "ADMIN.example.com.", "admin.example.com:80", "admin%2eexample.com", "%61dmin.example.com", "admin.example.com..", "a b", "a/b", `a"b`, "a,b", "a@admin.example.com",
		"a#b", "a?b", `a\b`, "[::1]", "[::1", "[::1]:80", "::1", "a:b", "a:b:c", "a:99999", "a:", ":80", "", "ü", "a\x00", "a\tb", "{a}", "a;b", ".a", "a.", "..", "xn--a", "a_b", "127.1", "0x7f.1", "[::1%25x]",
		"[v1.a]", "[]", "a\x7f", "a'b", "a!", "a=b", "a<b", "a|b", "a^b", "a`b", "-a", "a:0", "a:080", "a:+80", "http://a", strings.Repeat("a", 300),
	}
	oddFields = []string{
		"Host: admin.example.com", "Host: a", "HOST: b", "host: b", "Host : b", "Host\t: b", "\tHost: b", " Host: b", "Host\x00: b", "Host", "Host:", "X-Forwarded-For: forged", "X_Forwarded_For: forged",
		"X-Real-IP: forged", "Forwarded: for=forged", "X-Forwarded-Host: forged", "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-HTTP-Method-Override: DELETE", "Proxy: forged",
		"Connection: X-Forwarded-For", "Connection: close, X-Seen", "Connection: Host", "Connection: Content-Length", "Connection: X-Id", "Connection: \x00", "Connection: keep-alive", "Connection: close",
		"Connection: Upgrade\nUpgrade: x", "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13",
		"Upgrade: x", "TE: trailers", "TE: chunked", "TE: gzip, trailers", "Trailer: X-Real-IP", "Trailer: Content-Length", "Trailer: Host", "Expect: 100-continue", "Expect: 200-ok", "Expect: 100-CONTINUE",
		"X-Seen: forged", "X-Id: forged", "X-Id: forged\nX-Id: forged", "x_id: forged", "X A: 1", "X-A : 1", "X-A\t: 1", "X-A: \x00", "X-A: a\rb", "X-A: a\x0bb", "X-A: a\x7fb", "X-A: ü", "X-A: \xff", " folded: 1", "\tfolded: 1",
		"X-A: 1\n folded", "X-A:\n folded", "X-A: 1\n\tTransfer-Encoding: chunked", "X\x00A: 1", "Xü: 1", "X\xff: 1", "X(A): 1", "X/A: 1", "X\"A: 1", "X:A: 1", ": 1", ":path: /admin", ":", "X-A", "X-A:", "=", "Keep-Alive: 1",
		"Proxy-Connection: close", "Proxy-Authorization: x", "HTTP2-Settings: x", "Range: bytes=0-", "Range: bytes=0-0,1-1", "Cookie: a=b; a=c", "Cookie: a=\x7f", "Via: 1.1 a", "Max-Forwards: 0", "Content-Encoding: gzip",
		"Content-Type: a\x00b", "Accept-Encoding: \x80", "Transfer-Encoding: identity", "Transfer-Encoding:", "Content-Length: 0", "Content-Length: 00", "Content_Length: 5", "Transfer_Encoding: chunked",
		strings.Repeat("X-Many: 1\n", 120) + "X-Many: 1", "X-Long: " + strings.Repeat("x", 6000),
	}
	oddFramings = []struct{ framing, body string }{
		{"Content-Length: 0", ""}, {"Content-Length: +3", "abc"}, {"Content-Length: -3", "abc"}, {"Content-Length: 3, 3", "abc"}, {"Content-Length: 3\nContent-Length: 4", "abc"}, {"Content-Length: 3\nContent-Length: 3", "abc"},
		{"Content-Length: 4\nContent-Length: 3", "abc"}, {"Content-Length : 3", "abc"}, {"Content-Length\t: 3", "abc"}, {"Content_Length: 3", "abc"}, {"Content-Length: 0x3", "abc"}, {"Content-Length: 3.0", "abc"},
		{"Content-Length: 3e0", "abc"}, {"Content-Length: 1_0", "abcdefghij"}, {"Content-Length: 003", "abc"}, {"Content-Length:", ""}, {"Content-Length: 3 3", "abc"}, {"Content-Length: 3;", "abc"}, {"Content-Length: \x0b3", "abc"},
		{"Content-Length: 3\x00", "abc"}, {"Content-Length: 18446744073709551619", "abc"}, {"Content-Length: 99999999999999999999999", "abc"}, {"Content-Length:\n 3", "abc"}, {"Content-Length: 3\r\r", "abc"}, {"Content-Length: \"3\"", "abc"},
		{"Content-Length: 3,", "abc"}, {"Content-Length: ,3", "abc"}, {"Content-Length: ٣", "abc"}, {"Content-Length: 30", "POST /hidden HTTP/1.1\r\nHost: a"},
		{"Transfer-Encoding: chunked", "3\nabc\n0\nX-Real-IP: forged\nX-Seen: forged\n\n"}, {"Transfer-Encoding: chunked", "3;a=b\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "3;a=\"b;c\"\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "3 ;a\nabc\n0\n\n"},
		{"Transfer-Encoding: chunked", "3;\x00\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "3;\x0aabc\n0\n\n"}, {"Transfer-Encoding: chunked", "3;a\rb\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "x\n"}, {"Transfer-Encoding: chunked", "2\nabc\n0\n\n"},
		{"Transfer-Encoding: chunked", "-1\n"}, {"Transfer-Encoding: chunked", "+3\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "0x3\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "3 \nabc\n0\n\n"}, {"Transfer-Encoding: chunked", " 3\nabc\n0\n\n"},
		{"Transfer-Encoding: chunked", "3\x0aabc\x0a0\x0a\x0a"}, {"Transfer-Encoding: chunked", "3\rabc\r0\r\r"}, {"Transfer-Encoding: chunked", "00000000000000003\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "10000000000000003\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "ffffffffffffffff\nabc\n0\n\n"},
		{"Transfer-Encoding: chunked", "3\nabc0\n\n"}, {"Transfer-Encoding: chunked", "3\nabcXX0\n\n"}, {"Transfer-Encoding: chunked", "\n3\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "3\nabc\n0\n"}, {"Transfer-Encoding: chunked", "3\nabc\n000\n\n"},
		{"Transfer-Encoding: chunked", "3\nabc\n0;x\n\n"}, {"Transfer-Encoding: chunked", "3\nabc\n0\nX: 1\n folded\n\n"}, {"Transfer-Encoding: chunked", "3\nabc\n0\nX : 1\n\n"}, {"Transfer-Encoding: chunked", "3\nabc\n0\nX\n\n"}, {"Transfer-Encoding: chunked", "3\nabc\n0\n: 1\n\n"},
		{"Transfer-Encoding: chunked", "3\nabc\n0\nX: \x00\n\n"}, {"Transfer-Encoding: chunked", "3\nabc\n0\nX: a\rb\n\n"}, {"Transfer-Encoding: chunked", "0\nContent-Length: 5\nHost: b\n\n"}, {"Transfer-Encoding: chunked", "0\nTransfer-Encoding: chunked\n\n"},
		{"Transfer-Encoding: gzip, chunked", "0\n\n"}, {"Transfer-Encoding: chunked\nContent-Length: 5", "0\n\n"}, {"Content-Length: 5\nTransfer-Encoding: chunked", "0\n\n"}, {"Content-Length: 0\nTransfer-Encoding: chunked", "3\nabc\n0\n\n"},
		{"Content-Length: 3\nTransfer-Encoding: identity", "abc"}, {"Transfer-Encoding: xchunked", "0\n\n"}, {"Transfer-Encoding : chunked", "0\n\n"}, {"Transfer-Encoding: identity", ""}, {"Transfer-Encoding:\tchunked", "0\n\n"},
		{"Transfer-Encoding: chunked, chunked", "0\n\n"}, {"Transfer-Encoding: chunked\nTransfer-Encoding: chunked", "0\n\n"}, {"Transfer-Encoding: chunked\nTransfer-Encoding: identity", "0\n\n"}, {"Transfer-Encoding: \x0bchunked", "0\n\n"},
		{"Transfer-Encoding: \"chunked\"", "0\n\n"}, {"Transfer-Encoding: CHUNKED", "0\n\n"}, {"Transfer-Encoding: chunked;q=1", "0\n\n"}, {"Transfer-Encoding:\n chunked", "0\n\n"}, {"Transfer-Encoding: chunked\x00", "0\n\n"},
		{"Transfer-Encoding: ,chunked", "0\n\n"}, {"Transfer-Encoding: chunked,", "0\n\n"}, {"Transfer-Encoding: chunked ", "0\n\n"}, {"Transfer-Encoding: chunked\r\r", "0\n\n"}, {"Transfer-Encoding: \nTransfer-Encoding: chunked", "0\n\n"},
	}
	oddVersions = []string{
		"HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/01.1", "HTTP/1.01", "http/1.1", "HTTP/1", "HTTP/1.", "HTTP/1.1 ", "HTTP/1.1\t", "HTTP /1.1", "HTTP/ 1.1", "HTTP/1,1", "XTTP/1.1", "", "HTTP/1.1 HTTP/1.1",
		"HTTPS/1.1", "HTTP/1.1\r", "HTTP/10.1", "HTTP/1.10", "HTTP/-1.1", "HTTP/1.1\x00", "HTTP/3.0",
	}
	// What may be amiss in a head of HTTP/2: "name\x00value" fields that are
	// put at the end.
	oddPseudo = []string{
		":method\x00GET", ":method\x00POST", ":path\x00/admin", ":path\x00/x", ":authority\x00b", ":authority\x00admin.example.com", ":scheme\x00http", ":scheme\x00ftp", ":status\x00200", ":protocol\x00websocket", ":x\x001", ":\x001",
		"host\x00a", "host\x00b", "host\x00admin.example.com", "host\x00a b", "host\x00", "host\x00a\x00", "Host\x00b", "HOST\x00a", "transfer-encoding\x00chunked", "transfer-encoding\x00identity", "connection\x00close", "connection\x00keep-alive",
		"connection\x00x-seen", "keep-alive\x001", "proxy-connection\x00close", "upgrade\x00h2c", "te\x00trailers", "te\x00gzip", "te\x00trailers, gzip", "te\x00", "content-length\x000", "content-length\x003", "content-length\x00+3", "content-length\x005",
		"content-length\x00x", "content-length\x00", "content-length\x003, 3", "content-length\x00-1", "Content-Length\x003", "X-A\x001", "x a\x001", "x-a \x001", " x-a\x001", "x\x01a\x001", "x-a\x00a\rb", "x-a\x00a\nb", "x-a\x00a\r\nx-b: 1", "x-a\x00\x01",
		"x-a\x00 1", "x-a\x001 ", "x-a\x00\t", "x-a\x00ü", "x-a\x00\xff", "xü\x001", "x:a\x001", "\x001", "x(a\x001", "x-a\r\nx-b\x001", "cookie\x00a=b", "cookie\x00a=b; c=d", "expect\x00100-continue", "expect\x00x", "trailer\x00content-length",
		"x-forwarded-for\x00forged", "x_forwarded_for\x00forged", "x-id\x00forged", "x-seen\x00forged", "x_id\x00forged", "http2-settings\x00x", "proxy\x00x", "x-a\x00" + strings.Repeat("x", 6000),
	}
	oddTrailers = []string{
		"x-real-ip\x00forged", "x-a\x001", ":path\x00/admin", ":status\x00200", ":method\x00GET", "content-length\x005", "transfer-encoding\x00chunked", "host\x00b", "connection\x00close", "X-A\x001", "x a\x001", "x-a\x00a\nb", "x-a\x00\x01", "\x001",
		"te\x00trailers", "trailer\x00x", "authorization\x00x", "x-seen\x00forged", "x-id\x00forged",
	}
)

func pickOdd(r *rand.Rand, list []string) string { return list[r.IntN(len(list))] }

// twist changes, adds, removes or repeats a byte.
func twist(r *rand.Rand, s string) string {
	if s == "" {
		return string([]byte{byte(r.IntN(256))})
	}
	const telling = "\r\n\t \x00\x0b\x0c\x7f:;,/?#%&=@[]\\\"'\x80\xff+-._0123456789Aa"
	c := telling[r.IntN(len(telling))]
	if r.IntN(3) == 0 {
		c = byte(r.IntN(256))
	}
	i := r.IntN(len(s))
	switch r.IntN(4) {
	case 0:
		return s[:i] + string([]byte{c}) + s[i+1:]
	case 1:
		return s[:i] + string([]byte{c}) + s[i:]
	case 2:
		return s[:i] + s[i+1:]
	}
	return s[:i] + s[i:i+1] + s[i:]
}

// oddities is how many oddities a mutant has: mostly one, so that what becomes
// of it has one reason.
func oddities(r *rand.Rand) int {
	switch n := r.IntN(20); {
	case n == 0:
		return 0
	case n < 13:
		return 1
	case n < 18:
		return 2
	}
	return 3
}

// mutate makes up request n of a search.
func mutate(seed uint64, n int) *mutant {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	if n%2 == 1 {
		return mutateHTTP2(r)
	}
	return mutateHTTP1(r)
}

func mutateHTTP1(r *rand.Rand) *mutant {
	m := new(mutant)
	method, target, host, version, framing, body := "GET", "/x", "Host: a", "HTTP/1.1", "", ""
	if r.IntN(2) == 0 {
		method = "POST"
		framing, body = "Content-Length: 3", "abc"
		if r.IntN(2) == 0 {
			framing, body = "Transfer-Encoding: chunked", "3\nabc\n0\n\n"
		}
	}
	var fields []string
	ends, twisted := "\r\n", ""
	odd := func(kind, what string) string {
		m.odd = append(m.odd, kind+": "+what)
		return what
	}
	for range oddities(r) {
		switch r.IntN(12) {
		case 0:
			method = odd("method", pickOdd(r, oddMethods))
		case 1, 2:
			target = odd("target", pickOdd(r, oddTargets))
			if r.IntN(4) == 0 {
				target = odd("target", twist(r, target))
			}
		case 3, 4:
			value := pickOdd(r, oddHosts)
			if r.IntN(4) == 0 {
				value = twist(r, value)
			}
			host = odd("host", "Host: "+value)
			if r.IntN(20) == 0 {
				host = odd("host", "")
			}
		case 5, 6:
			fields = append(fields, odd("field", pickOdd(r, oddFields)))
		case 7, 8:
			f := oddFramings[r.IntN(len(oddFramings))]
			framing, body = odd("framing", f.framing), f.body
			if body != "" {
				odd("body", body)
			}
			if r.IntN(4) != 0 && method == "GET" {
				method = "POST"
			}
		case 9:
			version = odd("version", pickOdd(r, oddVersions))
		case 10:
			if body != "" && r.IntN(2) == 0 {
				body = odd("body", twist(r, body))
			} else if r.IntN(2) == 0 {
				ends = odd("line ends", []string{"\n", "\r", "\r\r\n", "\n\r", " \r\n", "\x00\r\n"}[r.IntN(6)])
			} else {
				fields = append(fields, odd("field", twist(r, "X-A: 1")))
			}
		case 11:
			twisted = "yes"
		}
	}
	head := method + " " + target + " " + version
	end := "\r\n"
	if ends != "\r\n" && r.IntN(2) == 0 {
		end = ends // of the request line, too
	}
	head += end
	lines := []string{host}
	if i := r.IntN(2); i == 0 || len(fields) == 0 || !strings.HasPrefix(host, "Host: a") {
		lines = append(lines, fields...)
	} else {
		lines = append(append([]string(nil), fields...), host)
	}
	lines = append(lines, framing)
	for _, line := range lines {
		if line != "" {
			head += strings.ReplaceAll(line, "\n", "\r\n") + ends
		}
	}
	if twisted != "" {
		before := head
		head = twist(r, head)
		odd("byte", fmt.Sprintf("%q", before))
	}
	m.raw = head + "\r\n" + strings.ReplaceAll(body, "\n", "\r\n")
	return m
}

func mutateHTTP2(r *rand.Rand) *mutant {
	m := new(mutant)
	method, path, authority, scheme := "GET", "/x", "a", "http"
	m.body = r.IntN(2) == 0
	if m.body {
		method = "POST"
		m.data = []byte("abc")
	}
	odd := func(kind, what string) string {
		m.odd = append(m.odd, kind+": "+strings.ReplaceAll(what, "\x00", ": "))
		return what
	}
	parse := func(s string) field {
		name, value, _ := strings.Cut(s, "\x00")
		return field{Name: name, Value: value, Sensitive: true}
	}
	var more []field
	without, shuffled, twisted := "", false, false
	for range oddities(r) {
		switch r.IntN(12) {
		case 0:
			method = odd("method", pickOdd(r, oddMethods))
		case 1, 2:
			path = odd("target", pickOdd(r, oddTargets))
			if r.IntN(4) == 0 {
				path = odd("target", twist(r, path))
			}
		case 3, 4:
			authority = odd("host", pickOdd(r, oddHosts))
			if r.IntN(4) == 0 {
				authority = odd("host", twist(r, authority))
			}
		case 5, 6, 7:
			more = append(more, parse(odd("pseudo", pickOdd(r, oddPseudo))))
		case 8:
			f := pickOdd(r, oddFields)
			name, value, _ := strings.Cut(f, ": ")
			more = append(more, parse(odd("field", strings.ToLower(name)+"\x00"+value)))
		case 9:
			m.body = true
			m.trailer = append(m.trailer, parse(odd("trailer", pickOdd(r, oddTrailers))))
		case 10:
			switch r.IntN(4) {
			case 0:
				without = odd("without", []string{":method", ":path", ":authority", ":scheme"}[r.IntN(4)])
			case 1:
				shuffled = true
				odd("order", "shuffled")
			case 2:
				scheme = odd("scheme", []string{"https", "", "HTTP", "ftp", "http:", "h ttp", "\x00"}[r.IntN(7)])
			case 3:
				more = append(more, parse("content-length\x00"+odd("length", []string{"3", "0", "2", "4", "03"}[r.IntN(5)])))
			}
		case 11:
			twisted = true
		}
	}
	for _, f := range []string{":method\x00" + method, ":scheme\x00" + scheme, ":authority\x00" + authority, ":path\x00" + path} {
		name, value, _ := strings.Cut(f, "\x00")
		if name != without {
			m.fields = append(m.fields, field{Name: name, Value: value, Sensitive: true})
		}
	}
	m.fields = append(m.fields, more...)
	if shuffled {
		r.Shuffle(len(m.fields), func(i, j int) { m.fields[i], m.fields[j] = m.fields[j], m.fields[i] })
	}
	if twisted && len(m.fields) > 0 {
		f := &m.fields[r.IntN(len(m.fields))]
		odd("byte", fmt.Sprintf("%q: %q", f.Name, f.Value))
		if r.IntN(3) == 0 {
			f.Name = twist(r, f.Name)
		} else {
			f.Value = twist(r, f.Value)
		}
	}
	return m
}
