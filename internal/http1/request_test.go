package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testwait"
)

// TestRequests compares what both transports send, byte by byte but for the
// order of the header fields.
func TestRequests(t *testing.T) {
	type edit func(*http.Request)
	header := func(name string, values ...string) edit { return func(r *http.Request) { r.Header[name] = values } }
	unknownLength := func(r *http.Request) { r.ContentLength = -1 }
	noAgent := header("User-Agent", "")
	for _, test := range []struct {
		name, method, path, body string
		edits                    []edit
		noKeepAlive              bool
		want                     string // part of what is sent
	}{
		{name: "GET", method: "GET", path: "/a?b=c", want: "GET /a?b=c HTTP/1.1"},
		{name: "no path", method: "GET", want: "GET / HTTP/1.1"},
		{name: "no method", method: "", path: "/", want: "GET / HTTP/1.1"},
		{name: "escaped path", method: "GET", path: "/a%2fb%20c;d", want: "GET /a%2fb%20c;d HTTP/1.1"},
		{name: "empty query", method: "GET", path: "/?", want: "GET /? HTTP/1.1"},
		{name: "opaque", method: "GET", edits: []edit{func(r *http.Request) { r.URL.Opaque = "/x%%y" }}, want: "GET /x%%y HTTP/1.1"},
		{name: "odd method", method: "M-SEARCH", path: "/", want: "M-SEARCH / HTTP/1.1"},
		{name: "HEAD", method: "HEAD", path: "/", want: "HEAD / HTTP/1.1"},
		{name: "OPTIONS *", method: "OPTIONS", edits: []edit{func(r *http.Request) { r.URL.Path = "*" }}, want: "OPTIONS * HTTP/1.1"},
		{name: "host", method: "GET", edits: []edit{func(r *http.Request) { r.Host = "Example.com:1" }}, want: "Host: Example.com:1"},
		{name: "host of letters beyond ASCII", method: "GET", edits: []edit{func(r *http.Request) { r.Host = "bücher.example" }}, want: "Host: xn--bcher-kva.example"},
		{name: "host with a zone", method: "GET", edits: []edit{func(r *http.Request) { r.Host = "[fe80::1%25en0]:80" }}, want: "Host: [fe80::1]:80"},
		{name: "encoded host", method: "GET", edits: []edit{func(r *http.Request) { r.Host = "%61.example" }}, want: "Host: %61.example"},
		{name: "own agent", method: "GET", edits: []edit{header("User-Agent", "me", "you")}, want: "User-Agent: me"},
		{name: "no agent", method: "GET", edits: []edit{noAgent}},
		{name: "several values", method: "GET", edits: []edit{header("Via", "1.1 a", "1.1 b")}, want: "Via: 1.1 b"},
		{name: "space around a value", method: "GET", edits: []edit{header("A", " \tb c\t ")}, want: "A: b c"},
		{name: "empty value", method: "GET", edits: []edit{header("A", "")}, want: "A: "},
		{name: "no value", method: "GET", edits: []edit{header("A")}},
		{name: "name as it is", method: "GET", edits: []edit{header("x-lower_case", "1")}, want: "x-lower_case: 1"},
		{name: "framing fields are not the header's", method: "GET", edits: []edit{
			header("Content-Length", "7"), header("Transfer-Encoding", "chunked"), header("Trailer", "A"), header("Host", "no"),
		}},
		{name: "close", method: "GET", edits: []edit{func(r *http.Request) { r.Close = true }}, want: "Connection: close"},
		{name: "close twice", method: "GET", edits: []edit{func(r *http.Request) { r.Close = true }, header("Connection", "x, Close")}, want: "Connection: x, Close"},
		{name: "no keep-alive", method: "GET", noKeepAlive: true, want: "Connection: close"},
		{name: "no keep-alive, upgrade", method: "GET", noKeepAlive: true, edits: []edit{header("Connection", "upgrade"), header("Upgrade", "x")}, want: "Connection: upgrade"},
		{name: "POST", method: "POST", body: "body", want: "Content-Length: 4"},
		{name: "POST of nothing", method: "POST", want: "Content-Length: 0"},
		{name: "PUT of nothing", method: "PUT", want: "Content-Length: 0"},
		{name: "PATCH of nothing", method: "PATCH", want: "Content-Length: 0"},
		{name: "DELETE of nothing", method: "DELETE"},
		{name: "POST with http.NoBody", method: "POST", edits: []edit{func(r *http.Request) { r.Body = http.NoBody }}, want: "Content-Length: 0"},
		{name: "GET with a body", method: "GET", body: "body", want: "Content-Length: 4"},
		{name: "GET with a body of unknown length", method: "GET", body: "body", edits: []edit{unknownLength}, want: "Transfer-Encoding: chunked"},
		{name: "GET with an empty body of unknown length", method: "GET", edits: []edit{unknownLength, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("")) }}},
		{name: "chunked", method: "POST", body: "body", edits: []edit{unknownLength}, want: "4"},
		{name: "chunked by wish", method: "POST", body: "body", edits: []edit{func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }}, want: "4"},
		{name: "identity", method: "POST", body: "body", edits: []edit{func(r *http.Request) { r.TransferEncoding = []string{"identity"} }}, want: "Content-Length: 4"},
		{name: "trailer", method: "POST", body: "body", edits: []edit{unknownLength, func(r *http.Request) {
			r.Trailer = http.Header{"X-B": {"2"}, "X-A": {"1", "3"}}
		}}, want: "Trailer: X-A,X-B"},
		{name: "trailer without chunks", method: "POST", body: "body", edits: []edit{func(r *http.Request) { r.Trailer = http.Header{"X-A": {"1"}} }}, want: "Content-Length: 4"},
		{name: "large", method: "POST", body: strings.Repeat("0123456789", 20_000), want: "Content-Length: 200000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent [2][]string
			for i, own := range []bool{false, true} {
				got := make(chan []string, 1)
				s := serve(t, func(c net.Conn, r *bufio.Reader) {
					lines, err := readHead(r)
					if err != nil {
						t.Error(err)
					}
					slices.Sort(lines[1:])
					if slices.Contains(lines, "Transfer-Encoding: chunked") {
						var names []string
						var body strings.Builder
						for size := -1; size != 0; {
							var err error
							if _, err = fmt.Fscanf(r, "%x\r\n", &size); err == nil {
								_, err = io.CopyN(&body, r, int64(size))
							}
							if err == nil && size > 0 {
								_, err = r.Discard(2)
							}
							if err != nil {
								t.Error(err)
								break
							}
						}
						if names, err = readHead(r); err != nil {
							t.Error(err)
						}
						slices.Sort(names)
						lines = append(append(lines, fmt.Sprint(body.Len()), body.String()), names...)
					} else {
						body, _ := io.ReadAll(io.LimitReader(r, int64(len(test.body))))
						lines = append(lines, string(body))
					}
					got <- lines
					io.WriteString(c, ok)
				})
				base := settings()
				base.DisableKeepAlives = test.noKeepAlive
				var body io.Reader
				if test.body != "" {
					body = io.NopCloser(strings.NewReader(test.body))
				}
				r := newRequest(t, test.method, s.url+test.path, body)
				r.Method = test.method
				r.ContentLength = int64(len(test.body))
				r.Host = "site.example"
				for _, e := range test.edits {
					e(r)
				}
				if resp, _, err := fetch(start(t, own, base), r); err != nil || resp.StatusCode != 200 {
					t.Fatal(resp, err)
				}
				sent[i] = testwait.Receive(t, got, "the request")
			}
			if diff := cmp.Diff(sent[0], sent[1]); diff != "" {
				t.Errorf("- standard + own:\n%s", diff)
			}
			if test.want != "" && !slices.Contains(sent[1], test.want) {
				t.Errorf("%q is not among %.300q", test.want, sent[1])
			}
		})
	}
}

// TestInvalidRequests must not leave a trace on the wire, least of all a second
// request.
func TestInvalidRequests(t *testing.T) {
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		s := serve(t, func(c net.Conn, r *bufio.Reader) {
			if b, _ := io.ReadAll(r); len(b) > 0 {
				t.Errorf("sent: %q", b)
			}
		})
		rt := start(nil)
		for name, edit := range map[string]func(*http.Request){
			"line break in a value":      func(r *http.Request) { r.Header["A"] = []string{"b\r\nC: d"} },
			"line feed in a value":       func(r *http.Request) { r.Header["A"] = []string{"b\nC: d"} },
			"NUL in a value":             func(r *http.Request) { r.Header["A"] = []string{"b\x00"} },
			"DEL in a value":             func(r *http.Request) { r.Header["A"] = []string{"b\x7f"} },
			"line break in a name":       func(r *http.Request) { r.Header["A\r\nB"] = []string{"c"} },
			"colon in a name":            func(r *http.Request) { r.Header["A:"] = []string{"c"} },
			"space in a name":            func(r *http.Request) { r.Header["A B"] = []string{"c"} },
			"no name":                    func(r *http.Request) { r.Header[""] = []string{"c"} },
			"line break in the agent":    func(r *http.Request) { r.Header["User-Agent"] = []string{"a\r\nB: c"} },
			"line break in a trailer":    func(r *http.Request) { r.Trailer = http.Header{"A": {"b\r\nc"}}; r.ContentLength = -1 },
			"framing field in a trailer": func(r *http.Request) { r.Trailer = http.Header{"Content-Length": {"1"}}; r.ContentLength = -1 },
			"space in the method":        func(r *http.Request) { r.Method = "GET / HTTP/1.1" },
			"line break in the query":    func(r *http.Request) { r.URL.RawQuery = "a\r\nb" },
			"line break in opaque":       func(r *http.Request) { r.URL.Opaque = "a\r\nb" },
			"NUL in the path":            func(r *http.Request) { r.URL.Opaque = "/a\x00" },
			"scheme":                     func(r *http.Request) { r.URL.Scheme = "gopher" },
			"no host":                    func(r *http.Request) { r.URL.Host = "" },
			"no URL":                     func(r *http.Request) { r.URL = nil },
			"no header":                  func(r *http.Request) { r.Header = nil },
			"length without a body":      func(r *http.Request) { r.Body, r.ContentLength = nil, 3 },
		} {
			t.Run(name, func(t *testing.T) {
				body := &trackedBody{Reader: strings.NewReader("")}
				r := newRequest(t, "POST", s.url, body)
				r.ContentLength = 4
				edit(r)
				hasBody := r.Body != nil
				if _, _, err := fetch(rt, r); err == nil {
					t.Error("no error")
				} else if strings.Contains(err.Error(), "C: d") {
					t.Errorf("the error tells the value: %v", err)
				}
				if _, closed := body.uses(); hasBody && closed != 1 {
					t.Errorf("the body was closed %d times", closed)
				}
			})
		}
	})
}

// TestRequestErrors tells requests that are to blame themselves from all other
// failures: clients could get servers ejected by requests that cannot be sent
// anywhere. Nothing is sent, over either transport, and no connection made.
func TestRequestErrors(t *testing.T) {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = []string{value} }
	}
	host := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	target := func(u url.URL) func(*http.Request) {
		return func(r *http.Request) { u.Scheme, u.Host = r.URL.Scheme, r.URL.Host; *r.URL = u }
	}
	for _, test := range []struct {
		name string
		edit func(*http.Request)
	}{
		{"method with a blank", func(r *http.Request) { r.Method = "G T" }},
		{"method with a line break", func(r *http.Request) { r.Method = "GET\r\nA:" }},
		{"method beyond ASCII", func(r *http.Request) { r.Method = "GÉT" }},
		{"no URL", func(r *http.Request) { r.URL = nil }},
		{"no host in the URL", func(r *http.Request) { r.URL.Host = "" }},
		{"no header", func(r *http.Request) { r.Header = nil }},
		{"length without a body", func(r *http.Request) { r.Body, r.ContentLength = nil, 3 }},
		{"negative length without a body", func(r *http.Request) { r.Body, r.ContentLength = nil, -1 }},
		{"NUL in a value", set("A", "b\x00")},
		{"DEL in a value", set("A", "b\x7f")},
		{"line break in a value", set("A", "b\r\nC: d")},
		{"line break in the agent", set("User-Agent", "b\r\nC: d")},
		{"colon in a name", set("A:", "b")},
		{"blank in a name", set("A ", "b")},
		{"name beyond ASCII", set("É", "b")},
		{"no name", set("", "b")},
		{"length in another spelling", set("content-length", "7")},
		{"coding in another spelling", set("TRANSFER-ENCODING", "chunked")},
		{"host in another spelling", set("host", "b")},
		{"framing field in the trailer", func(r *http.Request) { r.ContentLength, r.Trailer = -1, http.Header{"Content-Length": nil} }},
		{"blank in the trailer's name", func(r *http.Request) { r.ContentLength, r.Trailer = -1, http.Header{"A ": nil} }},
		{"host with a blank", host("a b")},
		{"host with a slash", host("a/b")},
		{"host with a quote", host(`a"b`)},
		{"host with a user", host("a@b")},
		{"host with two ports", host("a:1:2")},
		{"host with a port of letters", host("a:b")},
		{"host that is a port", host(":80")},
		{"unfinished address", host("[::1")},
		{"address and more", host("[::1]a")},
		{"bracket in a host", host("a]b")},
		{"host of a byte beyond UTF-8", host("a\xff")},
		{"line break in the query", target(url.URL{Path: "/", RawQuery: "a\r\nb"})},
		{"DEL in the query", target(url.URL{Path: "/", RawQuery: "\x7f"})},
		{"path without a slash", target(url.URL{Path: "a"})},
		{"asterisk and query", target(url.URL{Path: "*", RawQuery: "a"})},
		{"opaque without a slash", target(url.URL{Opaque: "admin/x"})},
		{"opaque with a blank", target(url.URL{Opaque: "/a b"})},
		{"opaque with a line break", target(url.URL{Opaque: "//host/a\r\nb"})},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := func() (*http.Request, *trackedBody) {
				body := &trackedBody{Reader: strings.NewReader("body")}
				r := newRequest(t, "POST", "http://127.0.0.1:9/", body)
				r.ContentLength = 4
				test.edit(r)
				return r, body
			}
			base := settings()
			base.DialContext = func(context.Context, string, string) (net.Conn, error) {
				t.Error("connecting")
				return nil, errors.New("no connections here")
			}
			for name, set := range map[string]func(*http.Transport){
				"own":      func(*http.Transport) {},
				"standard": func(base *http.Transport) { base.MaxConnsPerHost = 1 },
			} {
				base := base.Clone()
				set(base)
				r, body := request()
				_, _, err := fetch(start(t, true, base), r)
				if !errors.Is(err, ErrRequest) {
					t.Errorf("%s: error %v", name, err)
				}
				if err != nil && (strings.Contains(err.Error(), "C: d") || strings.ContainsAny(err.Error(), "\r\n\x00")) {
					t.Errorf("%s: the error tells the value: %q", name, err)
				}
				if n, closed := body.uses(); r.Body != nil && (n != 0 || closed != 1) {
					t.Errorf("%s: %d bytes of the body read, closed %d times", name, n, closed)
				}
			}
			r, body := request()
			if _, err := Prepare(r); !errors.Is(err, ErrRequest) {
				t.Errorf("prepared: %v", err)
			}
			if n, closed := body.uses(); n != 0 || closed != 0 {
				t.Errorf("prepared: %d bytes of the body read, closed %d times", n, closed)
			}
		})
	}
}

// TestRequestErrorsLate has faults that show up when all is sent but the end.
func TestRequestErrorsLate(t *testing.T) {
	s := serve(t, func(_ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	for name, edit := range map[string]func(*http.Request){
		"long body":  func(r *http.Request) { r.ContentLength = 3 },
		"short body": func(r *http.Request) { r.ContentLength = 5 },
		"trailer that the client has not announced": func(r *http.Request) {
			r.ContentLength, r.Trailer = -1, http.Header{}
			r.Body = &appending{r.Body, r.Trailer}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, "POST", s.url, strings.NewReader("body"))
			edit(r)
			if _, _, err := fetch(start(t, true, nil), r); !errors.Is(err, ErrRequest) {
				t.Errorf("error %v", err)
			}
		})
	}
	broken := errors.New("client is gone")
	r := newRequest(t, "POST", s.url, errorReader{broken})
	if _, _, err := fetch(start(t, true, nil), r); !errors.Is(err, broken) || errors.Is(err, ErrRequest) {
		t.Errorf("of a body that cannot be read: %v", err)
	}
}

// appending is a body with an invalid trailer.
type appending struct {
	io.ReadCloser
	trailer http.Header
}

func (b *appending) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.trailer["A "] = []string{"b"}
	}
	return n, err
}

// TestBodyLength checks that a server never takes a body for whole that is not.
func TestBodyLength(t *testing.T) {
	broken := errors.New("broken")
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		whole := make(chan bool, 1)
		s := serve(t, func(c net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err == nil {
				_, err = io.Copy(io.Discard, req.Body)
			}
			whole <- err == nil
		})
		for _, test := range []struct {
			name   string
			body   io.Reader
			length int64
			whole  bool
			is     error
		}{
			{"short", strings.NewReader("abc"), 4, false, nil},
			{"long", io.MultiReader(strings.NewReader("abcd"), strings.NewReader("e")), 4, true, nil},
			{"breaks", io.MultiReader(strings.NewReader("ab"), errorReader{broken}), 4, false, broken},
			{"breaks in chunks", io.MultiReader(strings.NewReader("ab"), errorReader{broken}), -1, false, broken},
			{"breaks at once", errorReader{broken}, -1, false, broken},
		} {
			t.Run(test.name, func(t *testing.T) {
				body := &trackedBody{Reader: test.body}
				r := newRequest(t, "POST", s.url, body)
				r.ContentLength = test.length
				_, _, err := fetch(start(nil), r)
				if err == nil || test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("error %v, want %v", err, test.is)
				}
				if got := testwait.Receive(t, whole, "the server"); got != test.whole {
					t.Errorf("the server took the body for whole: %v", got)
				}
				if _, closed := body.uses(); closed != 1 {
					t.Errorf("the body was closed %d times", closed)
				}
			})
		}
	})
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// TestSpelling sends fields in the spelling in which they are registered. There
// are servers of WebSocket and SOAP that compare names letter by letter, and do
// not know the fields of a request in Go's spelling.
func TestSpelling(t *testing.T) {
	sent := make(chan []string, 1)
	s := serve(t, func(c net.Conn, r *bufio.Reader) {
		lines, _ := readHead(r)
		sent <- lines
		io.WriteString(c, ok)
	})
	r := newRequest(t, "GET", s.url, nil)
	names := []string{
		"Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Accept",
		"SOAPAction", "TE", "DNT", "ETag", "WWW-Authenticate", "Content-MD5", "MIME-Version", "DAV",
		"Accept", "X-Sec-Websocket-Key", "x-as-it-is",
	}
	for _, name := range names {
		if name == "x-as-it-is" {
			r.Header[name] = []string{"1"}
		} else {
			r.Header.Set(name, "1")
		}
	}
	wantOK(t, start(t, true, nil), r)
	lines := testwait.Receive(t, sent, "the request")
	for _, name := range names {
		if !slices.Contains(lines, name+": 1") {
			t.Errorf("no %s in %q", name, lines)
		}
	}
	for _, name := range names[:13] {
		if canonical := http.CanonicalHeaderKey(name); canonical == name || Spelling(canonical) != name {
			t.Errorf("%s is written as %s", canonical, Spelling(canonical))
		}
	}
}

// FuzzHead looks for a request of which a server sees another method, host,
// path or field than the rules have, or something behind it; and for an error
// that does not say that the request is to blame.
func FuzzHead(f *testing.F) {
	f.Add("GET", "/a%2Fb|c?d", "site.example", "A", "b")
	f.Add("G T", "/", "site.example", "A", "b")                              // no token
	f.Add("GET", "/ HTTP/1.1\r\n\r\nGET /b", "site.example", "A", "b")       // a request behind it
	f.Add("GET", "/", "site.example\r\nB: c", "A", "b")                      // a field behind the host
	f.Add("POST", "/", "[::1]:80", "Content-Length", "7")                    // which is not for the header to say
	f.Add("POST", "/", "a:80", "transfer-encoding", "chunked")               // nor this
	f.Add("OPTIONS", "*", "a", "Sec-Websocket-Key", "x")                     // another spelling
	f.Add("CONNECT", "/", "a:1:2", "Connection", "close, Transfer-Encoding") // no host
	f.Fuzz(func(t *testing.T, method, target, host, name, value string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Opaque != "" {
			u = &url.URL{Path: target}
		}
		u.Scheme, u.Host = "http", "server.example"
		r := &http.Request{Method: method, URL: u, Host: host, Header: http.Header{name: {value}}}
		var h head
		if err := h.build(r, false); err != nil {
			if !errors.Is(err, ErrRequest) {
				t.Errorf("error %v", err)
			}
			return
		}
		rest := bufio.NewReader(strings.NewReader(string(h.bytes)))
		got, err := http.ReadRequest(rest)
		if err != nil {
			t.Fatalf("%q: %v", h.bytes, err)
		}
		if _, err := rest.Peek(1); err == nil && got.ContentLength == 0 {
			t.Errorf("%q: there is something behind it", h.bytes)
		}
		if method == "" {
			method = "GET"
		}
		if host == "" {
			host = "server.example"
		}
		path := u.Path
		if path == "" {
			path = "/"
		}
		if method == "CONNECT" && u.Path == "" {
			path = ""
		}
		if got.Method != method || got.URL.Path != path || !h.left && got.Host != host {
			t.Errorf("%q: %s, host %q, path %q", h.bytes, got.Method, got.Host, got.URL.Path)
		}
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			if len(got.TransferEncoding) > 0 || got.ContentLength > 0 || got.Trailer != nil {
				t.Errorf("%q: the header frames it", h.bytes)
			}
		case "User-Agent", "Pragma": // which can be left out, and which the parser adds to
		default:
			if values := got.Header.Values(name); len(values) != 1 || values[0] != strings.Trim(value, " \t") {
				t.Errorf("%q: %s is %q, want %q", h.bytes, name, values, value)
			}
		}
	})
}
