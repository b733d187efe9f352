package acceptance_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// An edited request is what a script makes of one. Parts that are empty are
// left alone.
type edited struct{ path, query, host, name, value string }

// An editRig has a script that edits requests as they tell it to, and a server
// that notes what it gets.
type editRig struct {
	pool   *lbpool.Pool
	site   *site
	client *http.Client
	recs   *records

	mu   sync.Mutex
	seen []*http.Request
	body []string
}

func newEditRig(t testing.TB) *editRig {
	g := &editRig{recs: &records{added: make(chan struct{}, 1_000_000)}}
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.seen, g.body = append(g.seen, r), append(g.body, string(body))
	}))
	g.pool = newPool(t, lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: server}}, Passive: lbpool.Passive{Disabled: true}})
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{g.pool}, OnComplete: g.recs.add,
		Scripts: []limpet.Script{onRequest(t, "edits", `
local function told(name)
	local digits = avi.http.get_header(name) or ""
	avi.http.remove_header(name)
	return (string.gsub(digits, "..", function(d) return string.char(tonumber(d, 16)) end))
end
local path, query, host, name, value = told("X-1"), told("X-2"), told("X-3"), told("X-4"), told("X-5")
if path ~= "" then avi.http.set_path(path) end
if query ~= "" then avi.http.set_query(query) end
if host ~= "" then avi.http.replace_header("Host", host) end
if name ~= "" then avi.http.add_header(name, value) end`)},
	})
	g.site = startSite(t, http1, listen(t, ""), vs)
	g.client = &http.Client{Transport: new(http.Transport), Timeout: testwait.Limit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(g.client.CloseIdleConnections)
	return g
}

// try sends a request that is to be edited, and returns what is amiss.
func (g *editRig) try(t testing.TB, e edited) (faults []string) {
	t.Helper()
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	r, err := http.NewRequestWithContext(t.Context(), "POST", g.site.URL+"/x?y", strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range []string{e.path, e.query, e.host, e.name, e.value} {
		r.Header.Set(fmt.Sprintf("X-%d", i+1), hex.EncodeToString([]byte(part)))
	}
	res, err := g.client.Do(r)
	if err != nil {
		t.Fatalf("%q: %v", e, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	select {
	case <-g.recs.added:
	case <-time.After(testwait.Limit):
		t.Fatalf("%q: no record", e)
	}
	g.recs.mu.Lock()
	rec := g.recs.list[len(g.recs.list)-1]
	g.recs.list = g.recs.list[:0]
	g.recs.mu.Unlock()
	g.mu.Lock()
	seen, body := g.seen, g.body
	g.seen, g.body = nil, nil
	g.mu.Unlock()

	if n := g.pool.Servers()[0].Stats().Failures; n > 0 {
		t.Fatalf("%q: the server was blamed %d times: %v", e, n, rec.Error)
	}
	if rec.Tried == 0 {
		if len(seen) > 0 || res.StatusCode < 400 {
			fault("status %d, not sent, and seen by the server: %d times", res.StatusCode, len(seen))
		}
		return faults
	}
	if len(seen) == 0 && rec.ServerStatus == http.StatusExpectationFailed {
		return faults // which net/http says without its handler
	}
	if len(seen) != 1 || len(body) != 1 {
		fault("the server's handler got %d requests, status %d, of the server %d, %v", len(seen), res.StatusCode, rec.ServerStatus, rec.Error)
		return faults
	}
	out := seen[0]
	if out.Method != "POST" || body[0] != "abc" {
		fault("the server got %s with the body %q", out.Method, body[0])
	}
	sent := rec.Path
	if rec.SentPath != "" {
		sent = rec.SentPath
	}
	path, query, _ := strings.Cut(out.RequestURI, "?")
	got, err := url.PathUnescape(path)
	want, wantErr := url.PathUnescape(sent)
	if err != nil || wantErr != nil || got != want {
		fault("the server got the path %q, the log has %q (%v, %v)", path, sent, err, wantErr)
	}
	if e.query == "" && query != "y" && !strings.Contains(e.path, "?") {
		fault("the server got the query %q", query)
	}
	if host := r.URL.Host; e.host == "" && out.Host != host && !strings.EqualFold(e.name, "host") || e.host != "" && !strings.EqualFold(e.name, "host") && out.Host != e.host {
		fault("the server got the host %q", out.Host)
	}
	if e.name != "" && !strings.EqualFold(e.name, "host") {
		for name, values := range out.Header {
			switch name {
			case textproto.CanonicalMIMEHeaderKey(strings.Trim(e.name, " \t")):
				if last := values[len(values)-1]; !slices.Equal(strings.Fields(last), strings.Fields(e.value)) && !strings.HasPrefix(name, "Content-") {
					fault("the server got %s: %q", name, values)
				}
			case "User-Agent", "Accept-Encoding", "Content-Length", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Connection":
			default:
				fault("the server got %s: %q, which nobody has set", name, values)
			}
		}
	}
	return faults
}

// FuzzEdits looks for edits of a script that make of a request what a server
// reads in another way, and for those that cannot be sent and are blamed on the
// server.
func FuzzEdits(f *testing.F) {
	for _, e := range []edited{
		{}, {path: "/a%2Fb|c"}, {path: "a b"}, {path: "//b/c"}, {path: "http://b/c"}, {path: "/a?b#c"}, {path: "/a\x00b\r\nc"}, {path: "*"}, {path: "/ü%"}, {query: "a=b c\r\nd"}, {query: "a#b"},
		{query: "\xff%zz"}, {host: "b"}, {host: "a b"}, {host: "b\r\nX: 1"}, {host: "[::1"}, {name: "X-A", value: "b"}, {name: "X-A", value: "b\r\nX-B: c"}, {name: "X A", value: "b"}, {name: "X:", value: ""},
		{name: "Content-Length", value: "1"}, {name: "content-length", value: "0"}, {name: "Transfer-Encoding", value: "chunked"}, {name: "Transfer_Encoding", value: "chunked"}, {name: "Connection", value: "Content-Length"},
		{name: "Expect", value: "100-continue"}, {name: "Host", value: "c"}, {name: "host", value: "c d"}, {name: "Upgrade", value: "x"}, {name: "Trailer", value: "Host"}, {name: "X-A", value: "\xff\x7f"}, {name: ":path", value: "/b"},
	} {
		f.Add(e.path, e.query, e.host, e.name, e.value)
	}
	g := newEditRig(f)
	f.Fuzz(func(t *testing.T, path, query, host, name, value string) {
		if len(path)+len(query)+len(host)+len(name)+len(value) > 2<<10 {
			return
		}
		e := edited{path, query, host, name, value}
		for _, fault := range g.try(t, e) {
			t.Errorf("%q: %s", e, fault)
		}
	})
}
