package transparency

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
)

// headerCases are about what passes of headers.
var headerCases = []testCase{
	{"end-to-end headers", either, every, endToEnd},
	{"hop-by-hop request headers", proxy, only1, hopByHopRequest},
	{"hop-by-hop request trailers", proxy, only1, hopByHopRequestTrailers},
	{"hop-by-hop response headers", proxy, both, func(p *probe) {
		for _, version := range []string{"1.1", "1.0"} {
			hopByHopResponse(p, version, "Connection: X-Own\nConnection: x-more\n")
		}
		hopByHopResponse(p, "1.0", "Connection: close, X-Own, x-more\n")
	}},
	{"hop-by-hop response headers of a server that closes", proxy, both, func(p *probe) {
		for _, connection := range []string{
			"Connection: close, X-Own\nConnection: x-more\n",
			"connection: x-own\nX-Between: 1\nCONNECTION: X-More,Close\n",
			"X-Long: " + strings.Repeat("long ", 2000) + "\nConnection: X-Own, close, X-More\n",
			"Connection: close, " + strings.Repeat("x-nothing, ", 1000) + "X-Own, X-More\n",
		} {
			hopByHopResponse(p, "1.1", connection)
		}
	}},
	{"hop-by-hop trailers", proxy, both, hopByHopTrailers},
	{"hop-by-hop headers of early hints", proxy, both, hopByHopHints},
	{"hop-by-hop headers of an upgrade", proxy, only1, hopByHopUpgrade},
}

// Headers that are for the other end arrive there, each value as it was, and
// none is made up.
func endToEnd(p *probe) {
	sent := http.Header{
		"X-Empty": {""}, "X-Twice": {"1", "2", "1"}, "X_underscore": {"1"}, "X-Long": {strings.Repeat("long ", 1000) + "!"},
		"X-Comma": {"a, b", "c,d"}, "X-Latin": {"caf\xe9"}, "X-Utf8": {"café"}, "Authorization": {"Basic Og=="},
		"Cookie": {"a=1; b=2"}, "Cache-Control": {"no-cache"}, "If-None-Match": {`"1", W/"2"`}, "Via": {"1.0 other"},
		"Max-Forwards": {"3"}, "From": {"a@example.com"}, "Pragma": {"no-cache"}, "Accept": {"*/*"},
	}
	answered := http.Header{
		"X-Empty": {""}, "Set-Cookie": {"a=1", "b=2", "a=3"}, "X-Long": sent["X-Long"], "X-Latin": {"caf\xe9"},
		"Date": {"Thu, 01 Jan 1970 00:00:00 GMT"}, "Server": {"origin"}, "Via": {"1.1 origin"}, "Vary": {"a", "b"},
		"Content-Type": {"text/x-own"}, "Location": {"/relative?a=b#c"}, "Etag": {`W/"1"`}, "Www-Authenticate": {"Basic", "Bearer"},
		"Strict-Transport-Security": {"max-age=1"},
	}
	var got http.Header
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		maps.Copy(w.Header(), answered)
		w.WriteHeader(299)
		_, _ = w.Write([]byte("body"))
	})
	r := s.request("GET", "/", nil)
	r.Header = sent.Clone()
	r.Header["User-Agent"] = []string{""} // sends none
	res, _ := s.fetch(r)
	p.compare("request", got, sent, "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded")
	p.compare("response", res.Header, answered, "Content-Length")
	if res.StatusCode != 299 {
		p.errorf("%s", res.Status)
	}
}

// compare checks that got has what want has, and no more but those headers that
// may be there.
func (p *probe) compare(what string, got, want http.Header, may ...string) {
	for name, values := range want {
		if !slices.Equal(got[name], values) {
			p.errorf("%s: %s is %q, want %q", what, name, got[name], values)
		}
	}
	for name, values := range got {
		if _, ok := want[name]; !ok && !slices.Contains(may, name) {
			p.errorf("%s: %s: %q came from nowhere", what, name, values)
		}
	}
}

// A server gets no header that is about the connection of the client, by its
// name or because Connection names it.
func hopByHopRequest(p *probe) {
	var got http.Header
	s := p.start(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	for _, test := range []struct {
		header string   // of the request
		absent []string // for the server
		kept   []string
	}{
		{"X-Own: 1", nil, []string{"X-Own"}},
		{"Connection: keep-alive\nKeep-Alive: timeout=5", []string{"Connection", "Keep-Alive"}, nil},
		{"Connection: close\nX-Own: 1", []string{"Connection"}, []string{"X-Own"}},
		{"Connection: X-Own\nX-Own: 1\nX-Other: 1", []string{"Connection", "X-Own"}, []string{"X-Other"}},
		{"Connection: x-own, x-other\nX-Own: 1\nX-Other: 1", []string{"Connection", "X-Own", "X-Other"}, nil},
		{"Connection: x-own\nConnection: x-other\nX-Own: 1\nX-Other: 1", []string{"Connection", "X-Own", "X-Other"}, nil},
		{"Connection: ,, x-own ,\nX-Own: 1\nX-Other: 1", []string{"Connection", "X-Own"}, []string{"X-Other"}},
		{"Connection: close, x-own\nX-Own: 1\nX-Own: 2", []string{"Connection", "X-Own"}, nil},
		{"Connection: connection\nX-Own: 1", []string{"Connection"}, []string{"X-Own"}},
		{"Connection: \nX-Own: 1", []string{"Connection"}, []string{"X-Own"}},
		{"Proxy-Connection: keep-alive\nX-Own: 1", []string{"Proxy-Connection"}, []string{"X-Own"}},
		{"Proxy-Authorization: Basic Og==\nX-Own: 1", []string{"Proxy-Authorization"}, []string{"X-Own"}},
		{"Proxy-Authenticate: Basic\nX-Own: 1", []string{"Proxy-Authenticate"}, []string{"X-Own"}},
		{"Te: gzip, deflate\nX-Own: 1", []string{"Te"}, []string{"X-Own"}},
		{"Upgrade: h2c\nX-Own: 1", []string{"Upgrade"}, []string{"X-Own"}}, // without "Connection: upgrade"
		{"Trailer: X-Sum\nX-Own: 1", []string{"Trailer"}, []string{"X-Own"}},
	} {
		c := s.dial()
		c.send(fmt.Sprintf("GET / HTTP/1.1\nHost: example.com\nUser-Agent: -\n%s\n\n", test.header))
		if res := c.response(nil); res.StatusCode != http.StatusOK {
			p.errorf("%q: %s", test.header, res.Status)
		}
		for _, name := range test.absent {
			if values, ok := got[name]; ok {
				p.errorf("%q: the server has got %s: %q", test.header, name, values)
			}
		}
		for _, name := range test.kept {
			if _, ok := got[name]; !ok {
				p.errorf("%q: the server has not got %s", test.header, name)
			}
		}
		c.Close()
	}
}

// The same applies to trailers. What is announced opens the way for the rest.
func hopByHopRequestTrailers(p *probe) {
	var announced, got http.Header
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		announced = r.Trailer.Clone()
		_, _ = io.Copy(w, r.Body)
		got = r.Trailer.Clone()
	})
	for _, names := range []string{"X-Sum", "X-Sum, X-Own"} {
		c := s.dial()
		c.send("POST / HTTP/1.1\nHost: example.com\nConnection: x-own\nTrailer: " + names + "\nTransfer-Encoding: chunked\n\n" +
			"4\nbody\n0\nX-Own: 1\nX-Sum: 2\nConnection: close\nKeep-Alive: timeout=5\nTransfer-Encoding: chunked\nContent-Length: 9\n\n")
		res := c.response(nil)
		if body, err := io.ReadAll(res.Body); string(body) != "body" || err != nil {
			p.errorf("%s: %s %q, %v", names, res.Status, body, err)
		}
		if want := (http.Header{"X-Sum": nil}); !maps.EqualFunc(announced, want, slices.Equal) {
			p.errorf("%s: the server was told of the trailer %v, want %v", names, announced, want)
		}
		if want := (http.Header{"X-Sum": {"2"}}); !maps.EqualFunc(got, want, slices.Equal) {
			p.errorf("%s: the server has got the trailer %v, want %v", names, got, want)
		}
		c.Close()
	}
}

// A client gets no header that is about the connection of the server, however
// the server's bytes are cut.
func hopByHopResponse(p *probe, version, connection string) {
	answer := lines("HTTP/" + version + " 200 OK\n" + connection + "X-Own: 1\nX-More: 1\nKeep-Alive: timeout=5\n" +
		"Proxy-Authenticate: Basic\nProxy-Connection: close\nUpgrade: h2c\nX-Kept: 1\nContent-Length: 2\n\nok")
	for _, size := range []int{len(answer), 7} {
		s := p.startRaw(func(c net.Conn) {
			if readRequest(c) {
				for part := range slices.Chunk(answer, size) {
					_, _ = c.Write(part)
				}
			}
		})
		res, body := s.get("/")
		for _, name := range []string{"X-Own", "X-More", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Upgrade"} {
			if values, ok := res.Header[name]; ok {
				p.errorf("HTTP/%s, %.60q in pieces of %d bytes: the client has got %s: %q", version, connection, size, name, values)
			}
		}
		if body != "ok" || res.Header.Get("X-Kept") != "1" {
			p.errorf("HTTP/%s, %.60q in pieces of %d bytes: %q %v", version, connection, size, body, res.Header)
		}
	}
}

// What Connection names stays behind in the trailer, too (RFC 9110, section
// 7.6.1), announced or not, and so does what is about the connection, or the
// body's length, by its name.
func hopByHopTrailers(p *probe) {
	for _, announced := range []string{"", "Trailer: X-Sum, X-Own\n", "Trailer: X-Own\n"} {
		s := p.startRaw(answering("Connection: x-own\n" + announced + "Transfer-Encoding: chunked\n\n2\nok\n0\nX-Own: 1\nX-Sum: 2\n" +
			"Connection: close\nKeep-Alive: timeout=5\nTransfer-Encoding: chunked\nContent-Length: 9\n\n"))
		res, body := s.get("/")
		if want := (http.Header{"X-Sum": {"2"}}); body != "ok" || !maps.EqualFunc(res.Trailer, want, slices.Equal) {
			p.errorf("%q: the client has got %q with the trailer %v, want %v", announced, body, res.Trailer, want)
		}
	}
}

// Informational responses are responses, too.
func hopByHopHints(p *probe) {
	s := p.startRaw(func(c net.Conn) {
		if readRequest(c) {
			_, _ = c.Write(lines("HTTP/1.1 103 Early Hints\nConnection: X-Own\nX-Own: 1\nKeep-Alive: timeout=5\nLink: </a>\n\n" +
				"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"))
		}
	})
	var hints []textproto.MIMEHeader
	r := s.request("GET", "/", nil)
	s.fetch(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { hints = append(hints, h); return nil },
	})))
	if len(hints) != 1 {
		p.fatalf("%d informational responses", len(hints))
	}
	for _, name := range []string{"Connection", "X-Own", "Keep-Alive"} {
		if values, ok := hints[0][name]; ok {
			p.errorf("the client has got %s: %q", name, values)
		}
	}
	if hints[0].Get("Link") != "</a>" {
		p.errorf("the hints are %v", hints[0])
	}
}

// Of what the server of an upgraded connection says about the connection, only
// the upgrade itself passes.
func hopByHopUpgrade(p *probe) {
	s := p.startRaw(func(c net.Conn) {
		if readRequest(c) {
			_, _ = c.Write(lines("HTTP/1.1 101 Switching Protocols\nConnection: x-own, Upgrade\nUpgrade: echo\nX-Own: 1\nX-Kept: 1\n" +
				"Keep-Alive: timeout=5\n\n"))
		}
	})
	c := s.dial()
	c.send(upgradeRequest)
	p.compare("response", c.response(nil).Header, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}, "X-Kept": {"1"}})
}

// answering is a server that answers one request on each connection with status
// 200 and this, whose line breaks may be bare.
func answering(rest string) func(net.Conn) {
	text := lines("HTTP/1.1 200 OK\n" + rest)
	return func(c net.Conn) {
		if readRequest(c) {
			_, _ = c.Write(text)
		}
	}
}

// lines is text with its bare line breaks as HTTP has them.
func lines(text string) []byte { return []byte(strings.ReplaceAll(text, "\n", "\r\n")) }
