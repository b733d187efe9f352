package transparency

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// headerCases are about what passes of headers.
var headerCases = []testCase{
	{"end-to-end headers", either, every, endToEnd},
	{"hop-by-hop request headers", proxy, only1, hopByHopRequest},
	{"hop-by-hop response headers", proxy, both, func(p *probe) { hopByHopResponse(p, "X-Own") }},
	{"hop-by-hop response headers of a server that closes", proxy, both, func(p *probe) { hopByHopResponse(p, "close, X-Own") }},
}

// Headers that are for the other end arrive there, each value as it was, and none is made up.
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

// compare checks that got has what want has, and no more but those headers that may be there.
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

// A server gets no header that is about the connection of the client, by its name or because Connection names it.
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

// A client gets no header that is about the connection of the server.
func hopByHopResponse(p *probe, connection string) {
	header := "Connection: " + connection + "\nConnection: x-more\nX-Own: 1\nX-More: 1\nKeep-Alive: timeout=5\n" +
		"Proxy-Authenticate: Basic\nProxy-Connection: close\nUpgrade: h2c\nX-Kept: 1\n"
	s := p.startRaw(answering(header + "Content-Length: 2\n\nok"))
	res, body := s.get("/")
	for _, name := range []string{"X-Own", "X-More", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Upgrade"} {
		if values, ok := res.Header[name]; ok {
			p.errorf("the client has got %s: %q", name, values)
		}
	}
	if body != "ok" || res.Header.Get("X-Kept") != "1" {
		p.errorf("%q %v", body, res.Header)
	}
}

// answering is a server that answers one request on each connection with status 200 and this, whose line breaks may be bare.
func answering(rest string) func(net.Conn) {
	text := []byte(strings.ReplaceAll("HTTP/1.1 200 OK\n"+rest, "\n", "\r\n"))
	return func(c net.Conn) {
		if readRequest(c) {
			_, _ = c.Write(text)
		}
	}
}
