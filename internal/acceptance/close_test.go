package acceptance_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

func TestScriptCloses(t *testing.T) {
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "from the server") })
	for _, test := range []struct {
		name, script string
		ending       ending
		answer       bool // is sent before the connection is closed
	}{
		{"FIN", `avi.http.close_conn()`, fin, false},
		{"FIN by the other name", `avi.vs.close_conn(false)`, fin, false},
		{"RST", `avi.http.close_conn(true)`, reset, false},
		{"response, then FIN", `avi.http.response(403, {}, "no") avi.http.close_conn()`, fin, true},
		{"response, then RST", `avi.http.response(403, {}, "no") avi.http.close_conn(true)`, reset, true},
	} {
		for _, event := range []string{"HTTP_REQ", "HTTP_RESP"} {
			for _, p := range []protocol{http1, http1TLS} {
				t.Run(test.name+"/"+event+"/"+string(p), func(t *testing.T) {
					recs := newRecords()
					vs := newVirtualService(t, limpet.Config{
						Pools:      []*lbpool.Pool{pool},
						Policies:   limpet.Policies{NetworkSecurity: []policy.NetworkRule{{Name: "all", Action: policy.ActionAllow}}},
						Scripts:    []limpet.Script{compile(t, "closing", "-- "+event+"\n"+test.script)},
						OnComplete: recs.add,
					})
					ln := listen(t, "")
					if event == "HTTP_REQ" { // the ending is the same through the listener
						ln = vs.Listener(ln)
					}
					site := startSite(t, p, ln, vs)
					raw := site.dial(t, "")
					conn := raw
					if p.tls() {
						conn = site.secure(t, raw)
					}
					r := send(t, conn, "GET /path HTTP/1.1\nHost: example.com\n\n")
					if test.answer {
						res, err := http.ReadResponse(r, nil)
						if err != nil {
							t.Fatal(err)
						}
						body, err := io.ReadAll(res.Body)
						if res.StatusCode != 403 || string(body) != "no" || err != nil || res.Close != (test.ending == fin) {
							t.Errorf("answer: %s %q %v, close %v", res.Status, body, err, res.Close)
						}
					}
					if rest, end := endOf(t, r); end != test.ending || rest != "" {
						t.Errorf("%q, then %s; want %s", rest, end, test.ending)
					}
					raw.Close()

					rec := recs.next(t)
					status, significant := 0, []limpet.Significance{limpet.ScriptClosed}
					if test.answer {
						status, significant = 403, []limpet.Significance{limpet.ScriptRefused, limpet.ScriptClosed, limpet.Status4xx}
					}
					if !rec.Closed || rec.Hijacked || rec.Status != status || !slices.Equal(rec.Significant, significant) {
						t.Errorf("record: closed %v, hijacked %v, status %d, significant %v", rec.Closed, rec.Hijacked, rec.Status, rec.Significant)
					}
					if rec.Server.IsValid() != (event == "HTTP_RESP") {
						t.Errorf("server %v", rec.Server)
					}
				})
			}
		}
	}
}

// A client that has not sent its whole request sees FIN nevertheless.
func TestCloseWithUnreadBody(t *testing.T) {
	_, site := serve(t, http1, limpet.Config{Scripts: []limpet.Script{onRequest(t, "closing", `avi.http.close_conn()`)}})
	c := site.dial(t, "")
	r := send(t, c, "POST / HTTP/1.1\nHost: example.com\nContent-Length: 50000\n\n"+strings.Repeat("x", 50_000))
	if rest, end := endOf(t, r); end != fin || rest != "" {
		t.Errorf("%q, then %s", rest, end)
	}
}

// TestCloseHTTP2 closes streams beside one that lives on.
func TestCloseHTTP2(t *testing.T) {
	for _, p := range []protocol{http2TLS, h2c} {
		t.Run(string(p), func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{OnComplete: recs.add, Scripts: []limpet.Script{compile(t, "closing", `-- HTTP_REQ
local path = avi.http.get_path()
if path == "/fin" then avi.http.close_conn() end
if path == "/rst" then avi.http.close_conn(true) end
if path == "/answer" then avi.http.response(403, {}, "no") avi.http.close_conn() end

-- HTTP_RESP
if avi.http.get_path() == "/late" then avi.http.close_conn() end
`)}})
			release := make(chan struct{})
			site := startSite(t, p, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/long" {
					io.WriteString(w, "first,")
					_ = http.NewResponseController(w).Flush()
					testwait.Receive(t, release, "the end of the other streams")
					io.WriteString(w, "last")
				}
			})))
			c := site.client(t)

			var conns []net.Conn
			traced := func(path string) *http.Request {
				r := newRequest(t, "GET", site.URL+path, nil)
				return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
					GotConn: func(info httptrace.GotConnInfo) { conns = append(conns, info.Conn) },
				}))
			}
			long, err := c.Do(traced("/long"))
			if err != nil {
				t.Fatal(err)
			}
			defer long.Body.Close()
			for _, path := range []string{"/fin", "/rst", "/late"} {
				_, _, err := try(c, traced(path))
				if err == nil || !strings.Contains(err.Error(), "stream error") {
					t.Errorf("%s: %v, want the stream reset", path, err)
				}
				rec := recs.next(t)
				if !rec.Closed || rec.Status != 0 || !slices.Equal(rec.Significant, []limpet.Significance{limpet.ScriptClosed}) {
					t.Errorf("%s: record %+v", path, rec)
				}
			}
			if res, body := fetch(t, c, traced("/answer")); res.StatusCode != 403 || body != "no" {
				t.Errorf("answer: %s %q", res.Status, body)
			}
			if res, _ := fetch(t, c, traced("/short")); res.StatusCode != 200 {
				t.Error(res.Status)
			}
			close(release)
			if body, err := io.ReadAll(long.Body); string(body) != "first,last" || err != nil {
				t.Errorf("the long stream: %q, %v", body, err)
			}
			for _, conn := range conns {
				if conn != conns[0] {
					t.Error("a stream was closed with its connection")
				}
			}
		})
	}
}

// denying is a policy against one client.
func denying(client string) []policy.NetworkRule {
	return []policy.NetworkRule{{
		Name: "no " + client, Action: policy.ActionReset,
		Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Addrs: []netip.Addr{netip.MustParseAddr(client)}}},
	}}
}

// wantReset connects from a local address, finds that the connection is reset
// before anything was sent, and returns where it came from.
func (s *site) wantReset(t *testing.T, local string) netip.AddrPort {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: testwait.Limit}
	c, err := d.DialContext(t.Context(), "tcp", s.Addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return netip.AddrPort{} // so early that the connection was never seen to stand
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testwait.Limit))
	if rest, end := endOf(t, c); end != reset || rest != "" {
		t.Errorf("%q, then %s", rest, end)
	}
	return c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// TestListenerDenies lets the virtual service's listener judge connections:
// those that are denied are reset before anything is read.
func TestListenerDenies(t *testing.T) {
	for _, p := range []protocol{http1, http1TLS, http2TLS} {
		t.Run(string(p), func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{Policies: limpet.Policies{NetworkSecurity: denying("127.0.0.66")}, OnComplete: recs.add})
			hello := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
			site := startSite(t, p, vs.Listener(listen(t, "")), hello)

			for range 3 {
				local := site.wantReset(t, "127.0.0.66")
				rec := recs.next(t)
				if !rec.Connection || !rec.Closed || rec.NetworkRule != "no 127.0.0.66" ||
					local.IsValid() && rec.Client != local || rec.Client.Addr().String() != "127.0.0.66" || rec.Source != rec.Client || rec.Local.String() != site.Addr ||
					!slices.Equal(rec.Significant, []limpet.Significance{limpet.PolicyDrop}) || rec.Method != "" || rec.Status != 0 {
					t.Errorf("record: %+v", rec)
				}
			}
			if res, body := fetch(t, site.client(t), newRequest(t, "GET", site.URL, nil)); body != "hello" || res.ProtoMajor != p.major() {
				t.Errorf("%s %q", res.Proto, body)
			}
			if rec := recs.next(t); rec.Connection || rec.Status != 200 || rec.NetworkRule != "" || len(rec.Significant) > 0 {
				t.Errorf("record: %+v", rec)
			}
			if st := vs.Stats(); st.PolicyDrops != 3 || st.Requests != 1 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}

// A connection is judged once. Rules that come later are for connections that
// come later.
func TestJudgedConnectionsStay(t *testing.T) {
	recs := newRecords()
	cfg := limpet.Config{
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{Name: "all", Action: policy.ActionAllow}}}, OnComplete: recs.add,
	}
	vs := newVirtualService(t, cfg)
	hello := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	for _, p := range []protocol{http1, http1TLS, http2TLS} {
		t.Run(string(p), func(t *testing.T) {
			if err := vs.Update(cfg); err != nil {
				t.Fatal(err)
			}
			site := startSite(t, p, vs.Listener(listen(t, "")), hello)
			c := site.client(t)
			fetch(t, c, newRequest(t, "GET", site.URL, nil))
			first := recs.next(t)

			harsh := cfg
			harsh.NetworkSecurity = denying("127.0.0.1")
			if err := vs.Update(harsh); err != nil {
				t.Fatal(err)
			}
			if _, body := fetch(t, c, newRequest(t, "GET", site.URL, nil)); body != "hello" {
				t.Errorf("%q", body)
			}
			if rec := recs.next(t); rec.Source != first.Source {
				t.Error("the connection was not kept")
			}
			site.wantReset(t, "127.0.0.1")
			if rec := recs.next(t); !rec.Connection {
				t.Errorf("record: %+v", rec)
			}
		})
	}
}

// Without the listener, the first request of a connection is reset, or each
// request that comes after the rule.
func TestNetworkSecurityWithoutListener(t *testing.T) {
	recs := newRecords()
	cfg := limpet.Config{Policies: limpet.Policies{NetworkSecurity: denying("127.0.0.66")}, OnComplete: recs.add}
	vs := newVirtualService(t, cfg)
	hello := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	site := startSite(t, http1, listen(t, ""), hello)
	const request = "GET /x HTTP/1.1\nHost: example.com\n\n"

	r := send(t, site.dial(t, "127.0.0.66"), request)
	if rest, end := endOf(t, r); end != reset || rest != "" {
		t.Errorf("%q, then %s", rest, end)
	}
	rec := recs.next(t)
	if rec.Connection || rec.NetworkRule != "no 127.0.0.66" || rec.Path != "/x" || !rec.Closed || rec.Status != 0 ||
		!slices.Equal(rec.Significant, []limpet.Significance{limpet.PolicyDrop}) {
		t.Errorf("record: %+v", rec)
	}

	conn := site.dial(t, "127.0.0.77")
	r = send(t, conn, request)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	} else {
		io.Copy(io.Discard, res.Body)
	}
	recs.next(t)
	cfg.NetworkSecurity = denying("127.0.0.77")
	if err := vs.Update(cfg); err != nil {
		t.Fatal(err)
	}
	send(t, conn, request)
	if rest, end := endOf(t, r); end != reset || rest != "" {
		t.Errorf("%q, then %s", rest, end)
	}
	recs.next(t)
	if st := vs.Stats(); st.PolicyDrops != 2 || st.Requests != 3 {
		t.Errorf("stats: %+v", st)
	}
}

// A group that a rule names is asked for each connection, and a connection
// that cannot be judged is denied.
func TestNetworkSecurityFails(t *testing.T) {
	recs := newRecords()
	groups := newGroups(t, "Blacklist", "127.0.0.66")
	vs := newVirtualService(t, limpet.Config{
		IPGroups: groups, OnComplete: recs.add,
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
			Name: "blacklist", Action: policy.ActionReset,
			Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
		}}},
	})
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs)
	site.wantReset(t, "127.0.0.66")
	if rec := recs.next(t); rec.NetworkRule != "blacklist" || rec.Error != nil {
		t.Errorf("record: %+v", rec)
	}
	groups.Remove("Blacklist")
	site.wantReset(t, "127.0.0.77") // cannot be judged
	var fault *policy.RuleError
	if rec := recs.next(t); !errors.As(rec.Error, &fault) || fault.Rule != "blacklist" {
		t.Errorf("record: %+v", rec)
	}
}

func TestHTTPSecurity(t *testing.T) {
	path := func(values ...string) policy.Match {
		return policy.Match{Path: &policy.PathMatch{Op: policy.Equals, Values: values}}
	}
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		OnComplete: recs.add,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "allow", Match: path("/open"), Action: policy.Allow{}},
			{Name: "teapot", Match: path("/teapot"), Action: policy.Respond{Status: 418, ContentType: "text/x-tea", Body: []byte("tea")}},
			{Name: "ok", Match: path("/ok"), Action: policy.Respond{Status: 200, Body: []byte("fine")}},
			{Name: "secure", Match: path("/secure"), Action: policy.RedirectToHTTPS{Port: 8443}},
			{Name: "fin", Match: path("/fin"), Action: policy.Close{}},
			{Name: "rst", Match: path("/rst"), Action: policy.Close{Reset: true}},
		}},
		// The script sees only what the policy has let pass.
		Scripts: []limpet.Script{onRequest(t, "witness", `avi.vs.log("passed")`)},
	})
	site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	})))

	for _, test := range []struct {
		path, rule string
		status     int
		body       string
		ending     ending
		dropped    bool
	}{
		{path: "/", status: 200, body: "hello"},
		{path: "/open", rule: "allow", status: 200, body: "hello"},
		{path: "/teapot", rule: "teapot", status: 418, body: "tea", dropped: true},
		{path: "/ok", rule: "ok", status: 200, body: "fine"},
		{path: "/secure?a=b", rule: "secure", status: 302, body: "302 Found\n"},
		{path: "/fin", rule: "fin", ending: fin, dropped: true},
		{path: "/rst", rule: "rst", ending: reset, dropped: true},
	} {
		t.Run(strings.Trim(test.path, "/"), func(t *testing.T) {
			conn := site.dial(t, "")
			r := send(t, conn, "GET "+test.path+" HTTP/1.1\nHost: example.com:80\n\n")
			if test.ending != "" {
				if rest, end := endOf(t, r); end != test.ending || rest != "" {
					t.Errorf("%q, then %s", rest, end)
				}
				conn.Close()
			} else {
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if res.StatusCode != test.status || string(body) != test.body || err != nil {
					t.Errorf("%s %q %v", res.Status, body, err)
				}
				if test.rule == "secure" && res.Header.Get("Location") != "https://example.com:8443/secure?a=b" {
					t.Errorf("location %q", res.Header.Get("Location"))
				}
				if test.rule == "teapot" && res.Header.Get("Content-Type") != "text/x-tea" {
					t.Errorf("content type %q", res.Header.Get("Content-Type"))
				}
			}
			rec := recs.next(t)
			if rec.SecurityRule != test.rule || rec.Status != test.status || rec.Closed != (test.ending != "") ||
				slices.Contains(rec.Significant, limpet.PolicyDrop) != test.dropped {
				t.Errorf("record: %+v", rec)
			}
			if passed := test.rule == "" || test.rule == "allow"; passed != (len(rec.Log) == 1) {
				t.Errorf("log %q", rec.Log)
			}
		})
	}
	if st := vs.Stats(); st.PolicyDrops != 3 || st.Requests != 7 {
		t.Errorf("stats: %+v", st)
	}
}

// A flood of denied connections must not become a flood of the log.
func TestDenialLogIsThrottled(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Policies: limpet.Policies{NetworkSecurity: denying("127.0.0.66")}, OnComplete: recs.add,
		Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil)),
	})
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs)
	const n = 60
	start := time.Now()
	for range n {
		site.wantReset(t, "127.0.0.66")
	}
	recs.take(t, n)
	mu.Lock()
	defer mu.Unlock()
	lines := strings.Count(out.String(), "connection denied")
	most := int(time.Since(start)/time.Second) + 2
	if lines < 1 || lines > most {
		t.Errorf("%d lines for %d connections, want 1 to %d", lines, n, most)
	}
	if got := vs.Stats().PolicyDrops; got != n {
		t.Errorf("%d drops counted, want %d", got, n)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}
