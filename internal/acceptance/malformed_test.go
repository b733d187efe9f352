package acceptance_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// A fence is a virtual service whose rules deny paths that begin with /admin
// and the host admin.example.com. Its server notes what it gets, and its script
// what it sees.
type fence struct {
	*site
	pool *lbpool.Pool
	recs *records

	mu   sync.Mutex
	seen []string
}

func newFence(t *testing.T, p protocol) *fence {
	g := &fence{recs: newRecords()}
	g.pool = poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.seen = append(g.seen, r.Method+" "+r.RequestURI+" "+r.Host)
	})
	_, g.site = serve(t, p, limpet.Config{
		Pools: []*lbpool.Pool{g.pool}, OnComplete: g.recs.add,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "admin path", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}}, Action: policy.Respond{Status: 403}},
			{Name: "admin host", Match: policy.Match{Host: &policy.TextMatch{Op: policy.Equals, Values: []string{"admin.example.com"}}}, Action: policy.Respond{Status: 403}},
		}},
		Scripts: []limpet.Script{onRequest(t, "sees", `avi.vs.log(avi.http.method() .. " " .. avi.http.get_path(false) .. " " .. avi.http.get_header("host"))`)},
	})
	return g
}

// taken is what the server got since the last time.
func (g *fence) taken() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := g.seen
	g.seen = nil
	return seen
}

// check compares what became of a request with what should: the client's
// status, and what the server got, if it got anything.
func (g *fence) check(t *testing.T, what string, status, want int, forwarded string) {
	t.Helper()
	if status != want {
		t.Errorf("%s: status %d, want %d", what, status, want)
	}
	var expected []string
	if forwarded != "" {
		expected = []string{forwarded}
	}
	if diff := cmp.Diff(expected, g.taken()); diff != "" {
		t.Errorf("%s: the server got, - want + got\n%s", what, diff)
	}
	if s := g.pool.Servers()[0]; s.Stats().Failures != 0 {
		t.Fatalf("%s: %d failures of the server", what, s.Stats().Failures)
	}
}

// A target that is no path was judged as "/" and forwarded as it was: `GET
// http:admin/x` went past the rule for /admin to a server that takes targets
// without a slash, and the log had no path. A method that is none was sent,
// failed, and counted against the server. Hosts of HTTP/2 were not checked at
// all, and a percent-encoded host went past rules.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	type request struct{ method, target, host string }
	const ok, refused, denied = 200, 400, 403
	tests := []struct {
		request
		status    int
		forwarded string
		http2     int // the status over HTTP/2 if it is another one, or -1 where it cannot be sent
	}{
		{request{"GET", "/x", "a"}, ok, "GET /x a", 0},
		{request{"GET", "/x?y=/z", "a:80"}, ok, "GET /x?y=/z a:80", 0},
		{request{"M-SEARCH", "/x", "a"}, ok, "M-SEARCH /x a", 0},
		{request{"get", "/x", "a"}, ok, "get /x a", 0},
		{request{"GET", "//evil/x", "a"}, ok, "GET //evil/x a", 0},
		{request{"GET", "/admin/x", "a"}, denied, "", 0},

		// Targets
		{request{"GET", "http:admin/x", "a"}, refused, "", 0},
		{request{"GET", "x:admin/x", "a"}, refused, "", 0},
		{request{"GET", "http:/admin/x", "a"}, refused, "", 0},
		{request{"GET", "http:///admin/x", "a"}, refused, "", 0},
		{request{"GET", "http:", "a"}, refused, "", 0},
		{request{"GET", "http://", "a"}, refused, "", 0},
		{request{"GET", "https:admin", "a"}, refused, "", 0},
		{request{"GET", "mailto:admin@x", "a"}, refused, "", 0},
		{request{"GET", "ftp://b/admin", "a"}, refused, "", 0},
		{request{"GET", "ws://b/x", "a"}, refused, "", 0},
		{request{"GET", "admin/x", "a"}, refused, "", 0},
		{request{"GET", "?x", "a"}, refused, "", 0},
		{request{"GET", "*", "a"}, refused, "", 0},
		{request{"GET", "/x#/admin", "a"}, refused, "", 0},
		{request{"GET", "/x?y#z", "a"}, refused, "", 0},
		{request{"OPTIONS", "*", "a"}, ok, "OPTIONS * a", 0},
		{request{"OPTIONS", "*?x", "a"}, refused, "", 0},
		{request{"OPTIONS", "/*", "a"}, ok, "OPTIONS /* a", 0},
		{request{"GET", "http://b/x", "a"}, ok, "GET /x b", refused},
		{request{"GET", "HTTPS://b/x", "a"}, ok, "GET /x b", refused},
		{request{"GET", "http://b", "a"}, ok, "GET / b", refused},
		{request{"GET", "http://b?x", "a"}, ok, "GET /?x b", refused},
		{request{"OPTIONS", "http://b", "a"}, ok, "OPTIONS * b", refused},
		{request{"OPTIONS", "http://b/", "a"}, ok, "OPTIONS / b", refused},
		{request{"GET", "http://b/admin", "a"}, denied, "", refused},
		{request{"GET", "http://admin.example.com/x", "a"}, denied, "", refused},
		{request{"GET", "http://u@b/x", "a"}, refused, "", 0},
		{request{"GET", "http://u:p@b/x", "a"}, refused, "", 0},
		{request{"GET", "http://b:x/x", "a"}, refused, "", 0},
		{request{"GET", "http://%61dmin.example.com/x", "a"}, refused, "", 0},
		{request{"CONNECT", "/x", "a"}, refused, "", -1},
		{request{"CONNECT", "http://b/x", "b"}, refused, "", -1},
		{request{"CONNECT", "a:443", "a:443"}, 501, "", -1},

		// Methods, which net/http checks in HTTP/1
		{request{"G T", "/x", "a"}, refused, "", 0},
		{request{"GE:T", "/x", "a"}, refused, "", 0},
		{request{"G\tT", "/x", "a"}, refused, "", 0},
		{request{"GÉT", "/x", "a"}, refused, "", 0},
		{request{"GET/x", "/x", "a"}, refused, "", 0},

		// Hosts
		{request{"GET", "/x", "admin.example.com"}, denied, "", 0},
		{request{"GET", "/x", "ADMIN.example.com:80"}, denied, "", 0},
		{request{"GET", "/x", "admin.example.com."}, denied, "", 0},
		{request{"GET", "/x", "admin%2eexample.com"}, refused, "", 0},
		{request{"GET", "/x", "%61dmin.example.com"}, refused, "", 0},
		{request{"GET", "/x", "admin.example.com.."}, refused, "", 0},
		{request{"GET", "/x", "admin..example.com"}, refused, "", 0},
		{request{"GET", "/x", ".admin.example.com"}, refused, "", 0},
		{request{"GET", "/x", "a b"}, refused, "", 0},
		{request{"GET", "/x", "a/b"}, refused, "", 0},
		{request{"GET", "/x", `a"b`}, refused, "", 0},
		{request{"GET", "/x", "a,b"}, refused, "", 0},
		{request{"GET", "/x", "u@b"}, refused, "", 0},
		{request{"GET", "/x", "a?b"}, refused, "", 0},
		{request{"GET", "/x", "a#b"}, refused, "", 0},
		{request{"GET", "/x", `a\b`}, refused, "", 0},
		{request{"GET", "/x", "[::1"}, refused, "", 0},
		{request{"GET", "/x", "::1"}, refused, "", 0},
		{request{"GET", "/x", "a:b:c"}, refused, "", 0},
		{request{"GET", "/x", "a:b"}, refused, "", 0},
		{request{"GET", "/x", "a:80:80"}, refused, "", 0},
		{request{"GET", "/x", "a:99999"}, refused, "", 0},
		{request{"GET", "/x", "bücher"}, refused, "", 0},
		{request{"GET", "/x", "a\xff"}, refused, "", 0},
		{request{"GET", "/x", ""}, refused, "", 0},
		{request{"GET", "/x", "[::1]:80"}, ok, "GET /x [::1]:80", 0},
		{request{"GET", "/x", "a_b.c~d"}, ok, "GET /x a_b.c~d", 0},
	}
	t.Run("HTTP1", func(t *testing.T) {
		g := newFence(t, http1)
		for _, test := range tests {
			what := fmt.Sprintf("%q", test.request)
			c := g.dial(t, "")
			res, err := http.ReadResponse(send(t, c, test.method+" "+test.target+" HTTP/1.1\nHost: "+test.host+"\nConnection: close\n\n"), nil)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			_, _ = io.Copy(io.Discard, res.Body)
			c.Close()
			g.check(t, what, res.StatusCode, test.status, test.forwarded)
		}
	})
	for _, p := range []protocol{http2TLS, h2c} {
		t.Run(string(p), func(t *testing.T) {
			g := newFence(t, p)
			h := g.dialHTTP2(t)
			for _, test := range tests {
				what := fmt.Sprintf("%q", test.request)
				want, forwarded := test.status, test.forwarded
				if test.http2 != 0 {
					want, forwarded = test.http2, ""
				}
				if want < 0 {
					continue
				}
				a := h.ask(":method", test.method, ":scheme", "https", ":authority", test.host, ":path", test.target)
				status := 0
				fmt.Sscan(a.status, &status)
				if a.reset && status == 0 { // by net/http, which refuses some of it itself
					status = refused
					g.check(t, what, status, want, forwarded)
					h = g.dialHTTP2(t)
					continue
				}
				g.check(t, what, status, want, forwarded)
			}
		})
	}
}

// The record of a request that is refused shows what was refused, without a
// query and without a user with a password, which are secrets.
func TestMalformedRecord(t *testing.T) {
	t.Run("HTTP1", func(t *testing.T) {
		g := newFence(t, http1)
		for _, test := range []struct{ request, path, host, err string }{
			{"GET http:admin/x?token=secret HTTP/1.1\nHost: a\n\n", "http:admin/x", "a", `malformed request: target "http:admin/x" is no path`},
			{"GET /x?token=secret#y HTTP/1.1\nHost: a\n\n", "/x", "a", `malformed request: target "/x" has a blank, a control character or #`},
			{"GET /x HTTP/1.1\nHost: a%2eb\n\n", "/x", "a%2eb", `malformed request: host "a%2eb"`},
			{"GET http://u:secret@b/x HTTP/1.1\nHost: a\n\n", "/x", "b", "malformed request: target with a user"},
			{"GET http://u:secret@b/x#y HTTP/1.1\nHost: a\n\n", "/x%23y", "b", `malformed request: target "REDACTED@b/x" has a blank, a control character or #`},
			{"GET http:u:secret@b/x HTTP/1.1\nHost: a\n\n", "REDACTED@b/x", "a", `malformed request: target "REDACTED@b/x" is no path`},
			{"GET /@x#y HTTP/1.1\nHost: a\n\n", "/@x%23y", "a", `malformed request: target "/@x" has a blank, a control character or #`},
		} {
			c := g.dial(t, "")
			if res, err := http.ReadResponse(send(t, c, test.request), nil); err != nil || res.StatusCode != 400 || !res.Close {
				t.Error(res, err)
			}
			c.Close()
			rec := g.recs.next(t)
			if rec.Path != test.path || rec.Host != test.host || rec.Error == nil || rec.Error.Error() != test.err || rec.Status != 400 || rec.Tried != 0 || len(rec.Log) > 0 {
				t.Errorf("%q: record of %q at %q: %v, log %q", test.request, rec.Path, rec.Host, rec.Error, rec.Log)
			}
		}
	})
	t.Run("HTTP2", func(t *testing.T) {
		g := newFence(t, h2c)
		for _, test := range []struct{ authority, host, path string }{
			{"u:secret@b", "", "/x"}, {"b", "u:secret@b", "/x"}, {"u:secret@b", "u:secret@b", "/x"}, {"b", "", "http://u:secret@b/x"}, {"b", "", "http:u:secret@b/x"},
		} {
			fields := []string{":method", "GET", ":scheme", "https", ":authority", test.authority, ":path", test.path}
			if test.host != "" {
				fields = append(fields, "host", test.host)
			}
			if a := g.dialHTTP2(t).ask(fields...); a.status != "400" {
				if !a.reset { // by net/http
					t.Errorf("%q: status %s", test, a.status)
				}
				continue
			}
			if rec := g.recs.next(t); rec.Error == nil || strings.Contains(fmt.Sprintf("%+v %v", rec, rec.Error), "secret") {
				t.Errorf("%q: record of %q at %q: %v", test, rec.Path, rec.Host, rec.Error)
			}
		}
	})
}

// The connection of a client whose path had a control character stayed open,
// unlike that of any other malformed request. A path into which a script had
// put one was blamed on the client.
func TestControlCharacterInPath(t *testing.T) {
	recs := newRecords()
	_, s := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, startServers(t, 1)...)}, OnComplete: recs.add,
		Scripts: []limpet.Script{onRequest(t, "sets", `local path = avi.http.get_header("X-Path") if path then avi.http.set_path(path) end`)},
	})
	for _, test := range []struct {
		path, set string
		status    int
		closed    bool
		err       string
	}{
		{"/a%00b", "", 400, true, "malformed request: path with a control character"},
		{"/a%00b", "/x", 200, false, ""},
		{"/a%00b", "/x%0a", 400, true, "malformed request: path with a control character"},
		{"/a", "/a%00b", 500, false, "not sent, after the edits of policies and scripts: malformed request: path with a control character"},
		{"/a", "/a%7f", 500, false, "not sent, after the edits of policies and scripts: malformed request: path with a control character"},
	} {
		c := s.dial(t, "")
		request := "GET " + test.path + " HTTP/1.1\nHost: a\n"
		if test.set != "" {
			request += "X-Path: " + test.set + "\n"
		}
		res, err := http.ReadResponse(send(t, c, request+"\n"), nil)
		if err != nil || res.StatusCode != test.status || res.Close != test.closed {
			t.Errorf("%q, set to %q: %v, %v", test.path, test.set, res, err)
		}
		c.Close()
		got := ""
		if rec := recs.next(t); rec.Error != nil {
			got = rec.Error.Error()
		}
		if got != test.err {
			t.Errorf("%q, set to %q: error %q", test.path, test.set, got)
		}
	}
}

// Over HTTP/2 a header host may stand beside the authority. If they differ, one
// of two programs reads the other one.
func TestHostBesideAuthority(t *testing.T) {
	g := newFence(t, h2c)
	h := g.dialHTTP2(t)
	for _, test := range []struct {
		authority, host string
		status          int
	}{{"a", "a", 200}, {"a", "A", 200}, {"a", "admin.example.com", 400}, {"admin.example.com", "a", 400}, {"", "a", 200}, {"", "admin.example.com", 403}, {"", "a b", 400}} {
		fields := []string{":method", "GET", ":scheme", "https", ":path", "/x", "host", test.host}
		if test.authority != "" {
			fields = append([]string{":authority", test.authority}, fields...)
		}
		a := h.ask(fields...)
		forwarded := ""
		if test.status == 200 {
			forwarded = "GET /x a"
		}
		status := 0
		fmt.Sscan(a.status, &status)
		g.check(t, fmt.Sprintf("%q beside %q", test.host, test.authority), status, test.status, forwarded)
	}
}

// A blank in a query of HTTP/2 would end the target in the request line that
// the server gets.
func TestBlankInTarget(t *testing.T) {
	g := newFence(t, h2c)
	h := g.dialHTTP2(t)
	for _, path := range []string{"/x?a HTTP/1.1", "/x? b", "/x y", "/x?\ty", "/ HTTP/1.1"} {
		if a := h.ask(":method", "GET", ":scheme", "https", ":authority", "a", ":path", path); a.status != "400" {
			if !a.reset { // by net/http
				t.Errorf("%q: %q", path, a.status)
			}
			h = g.dialHTTP2(t)
		}
		if got := g.taken(); len(got) > 0 {
			t.Errorf("%q: the server got %q", path, got)
		}
	}
}

// HTTP/1.0 knows no chunks, and net/http does not tell that they were sent.
// What comes behind is no request on the same connection.
func TestHTTP10BodyWithoutLength(t *testing.T) {
	g := newFence(t, http1)
	r := send(t, g.dial(t, ""), "POST /x HTTP/1.0\nHost: a\nConnection: keep-alive\nTransfer-Encoding: chunked\n\nGET /behind HTTP/1.0\nHost: a\n\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 200 || !res.Close {
		t.Fatal(res, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("a second answer: %q", rest)
	}
	if got := g.taken(); len(got) != 1 {
		t.Errorf("the server got %q", got)
	}
}

// What a script makes of a request is judged before a server is chosen: no
// server is blamed for a host that is none.
func TestUnsendableEdits(t *testing.T) {
	for _, event := range []string{"-- HTTP_REQ\n", "-- HTTP_LB_DONE\n"} {
		for _, edit := range []string{`avi.http.replace_header("Host", "a b")`, `avi.http.replace_header("Host", "a%2eb")`, `avi.http.replace_header("Host", "")`} {
			var asked int
			pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { asked++ })
			recs := newRecords()
			_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Scripts: []limpet.Script{compile(t, "edits", event+edit)}, OnComplete: recs.add})
			status, _ := get(t, site.client(t), site.URL)
			rec := recs.next(t)
			if empty := strings.Contains(edit, `""`); !empty && (status != 500 || asked != 0 || rec.Error == nil) {
				t.Errorf("%s%s: status %d, asked %d times, %v", event, edit, status, asked, rec.Error)
			}
			if n := pool.Servers()[0].Stats().Failures; n != 0 {
				t.Errorf("%s%s: %d failures", event, edit, n)
			}
		}
	}
}

// What a script of LB_DONE has made of a request holds for each server that is
// tried: the header that it sets in place of the client's, and those it
// removes. The second server got what the client had sent, the secret included.
func TestLBDoneHoldsForEachServer(t *testing.T) {
	const script = `-- HTTP_LB_DONE
avi.http.replace_header("X-User", "checked")
avi.http.remove_header("X-Secret")
avi.http.replace_header("Host", "inner.example.com")
avi.vs.log("chosen")
`
	got := make(chan *http.Request, 1)
	alive := startServer(t, "127.0.1.2:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r.Clone(context.Background()) }))
	for _, first := range []string{"cannot be connected to", "closes the connection"} {
		dead := deadAddr(t, "127.0.1.1:0")
		if first == "closes the connection" {
			dead = rawServer(t, func(c *net.TCPConn, r *bufio.Reader) { _, _ = r.ReadString('\n') }).Servers()[0].Addr().String()
		}
		pool := newPool(t, lbpool.Config{
			Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: dead}, {Address: alive}}, Algorithm: lbpool.RoundRobin(),
			Reselect: lbpool.Reselect{Retries: 2, Broken: true},
		})
		recs := newRecords()
		_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Scripts: []limpet.Script{compile(t, "edits", script)}, OnComplete: recs.add})
		for range 2 {
			r := newRequest(t, "GET", site.URL+"/x", nil)
			r.Header.Set("X-User", "forged")
			r.Header.Set("X-Secret", "secret")
			if res, body := fetch(t, site.client(t), r); res.StatusCode != 200 {
				t.Fatalf("%s: %s: %s, %+v", first, res.Status, body, recs.next(t))
			}
			out := testwait.Receive(t, got, "the request")
			if out.Header.Get("X-User") != "checked" || out.Header.Get("X-Secret") != "" || out.Host != "inner.example.com" {
				t.Errorf("%s: the server got host %s with %v", first, out.Host, out.Header)
			}
			rec := recs.next(t)
			if len(rec.Log) != 1 {
				t.Errorf("%s: log %q", first, rec.Log)
			}
		}
	}
}

// Over HTTP/2 a request says by a flag that it ends. A length that says
// otherwise, or nothing, was shown to rules and scripts, and the server got
// another one: a rule that lets no bodies pass, say, judged a length that no
// server saw.
func TestLengthsOverHTTP2(t *testing.T) {
	g := newFence(t, h2c)
	for _, test := range []struct {
		lengths []string
		body    string
		ok      bool
	}{
		{[]string{"0"}, "", true}, {[]string{"00"}, "", true}, {[]string{"3"}, "abc", true}, {[]string{"003"}, "abc", true}, {[]string{"3", "3"}, "abc", true},
		{[]string{"3"}, "", false}, {[]string{""}, "", false}, {[]string{"x"}, "", false}, {[]string{"-1"}, "", false}, {[]string{"+0"}, "", false}, {[]string{"0, 0"}, "", false},
		{[]string{"0", "3"}, "", false}, {[]string{"3", "0"}, "", false}, {[]string{"3", "4"}, "abc", false}, {[]string{"4", "3"}, "abc", false}, {[]string{"x"}, "abc", false},
		{[]string{""}, "abc", false}, {[]string{"18446744073709551619"}, "abc", false},
	} {
		h := g.dialHTTP2(t)
		_ = h.SetDeadline(time.Now().Add(testwait.Limit))
		fields := []string{":method", "POST", ":scheme", "https", ":authority", "a", ":path", "/x"}
		for _, length := range test.lengths {
			fields = append(fields, "content-length", length)
		}
		stream := h.request(test.body == "", fields...)
		if test.body != "" {
			h.frame(frameData, flagEndStream, stream, []byte(test.body))
		}
		a := h.answer(stream)
		h.Close()
		what := fmt.Sprintf("lengths %q with body %q", test.lengths, test.body)
		want := []string(nil)
		if test.ok {
			want = []string{"POST /x a"}
		}
		if (a.status == "200") != test.ok || !test.ok && a.status != "400" && !a.reset {
			t.Errorf("%s: status %q", what, a.status)
		}
		if diff := cmp.Diff(want, g.taken()); diff != "" {
			t.Errorf("%s: the server got, - want + got\n%s", what, diff)
		}
	}
}

// A path with NUL that a rule refused was answered with 400 like any malformed
// request, but the connection was kept for the next one.
func TestNULInPathCloses(t *testing.T) {
	_, s := serve(t, http1, limpet.Config{
		Pools:    []*lbpool.Pool{poolFor(t, func(http.ResponseWriter, *http.Request) {})},
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "r", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}}, Action: policy.Respond{Status: 403}}}},
	})
	c := s.dial(t, "")
	r := send(t, c, "GET /a%00b HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\nHost: h\n\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	if rest, _ := io.ReadAll(r); res.StatusCode != 400 || !res.Close || len(rest) > 0 {
		t.Errorf("status %d, close %v, and then %q", res.StatusCode, res.Close, rest)
	}
}
