package acceptance_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// Requests that nobody in good faith would send are made up at random, from
// parts that two programs might read in two ways. The oracle: rules, scripts,
// the log and the server have seen the same method, host and path, or the
// server has seen nothing; what the client has made up about other clients has
// not got through; the server was never blamed; and each answer has a status
// that there is.

// A mutant is a request in parts. Over HTTP/1, its framing and its body are
// written as they are.
type mutant struct {
	method, target, host string
	fields               []string // "name: value"
	framing, body        string
	odd                  int // what is odd about its pseudo-headers of HTTP/2
}

// Parts of mutants. Half of the time, a part is harmless.
var (
	mutantMethods = []string{"GET", "POST", "HEAD", "OPTIONS", "CONNECT", "TRACE", "get", "G T", "GE:T", "G\tT", "GÉT", "", "M-SEARCH", "PRI", "GET/1", "\"GET\""}
	mutantPaths   = []string{
		"/", "/x", "/admin", "/admin/x", "//admin", "/./admin", "/x/../admin", "/%61dmin", "/%2561dmin", "/%2fadmin", "/x%2f..%2fadmin", "/admin;x", "/ADMIN",
		"/\\admin", "/a b", "/a\tb", "/a%00b", "/a%0d%0ab", "/a%", "/a%zz", "/a|b", "/a^b%2Fc", "/a%2Fb|c%2Bd", "/x%2f\"admin", "/ü", "/%ff", "/a?b", "/a?b#c", "/a#/admin", "/a?b c", "*", "", "admin",
		"admin/x", "?admin", "http:admin/x", "x:admin/x", "http://", "http:///admin", "http://admin.example.com/x", "http://b/admin", "https://b/x?y", "HTTP://b", "http://u@b/admin",
		"http://b:99999/x", "http://[::1/x", "http://[::1]/x", "//", "/x HTTP/1.1", "b:443", "admin.example.com:443", ":443", "/x?http://b/admin", "/%c0%af", "/a/%2e%2e/admin",
	}
	mutantHosts = []string{
		"a", "a:80", "admin.example.com", "ADMIN.example.com.", "admin.example.com:80", "admin%2eexample.com", "%61dmin.example.com", "admin.example.com..", "a b", "a/b", `a"b`,
		"a,b", "a@admin.example.com", "a#b", "a?b", `a\b`, "[::1]", "[::1", "[::1]:80", "::1", "a:b", "a:b:c", "a:99999", "", "ü", "a\x00", "a\tb", "{a}", "a;b", ".a", "xn--a",
	}
	mutantFields = []string{
		"X-A: 1", "Host: admin.example.com", "host: b", "X-Forwarded-For: forged", "X_Forwarded_For: forged", "X-Forwarded_For: forged", "X-Real-IP: forged", "Forwarded: for=forged",
		"X-Forwarded-Host: forged", "X-Original-URL: /forged", "X-Rewrite-URL: /forged", "Proxy: forged", "Connection: X-Forwarded-For", "Connection: close, X-Seen", "Connection: Host",
		"Connection: Upgrade", "Upgrade: x", "TE: trailers", "Trailer: X-Real-IP", "Expect: 100-continue", "Expect: 200-ok", "X-Seen: forged", "X-Id: forged", "X A: 1", "X-A : 1",
		"X-A: \x00", "X-A: a\rb", "X-A: ü", " folded: 1", "X\x00A: 1", ": 1", "X-A", "Content-Length: x", "Keep-Alive: 1", "Proxy-Connection: close", "Http2-Settings: x", "Range: bytes=0-",
	}
	mutantFramings = []struct{ framing, body string }{
		{"Content-Length: 0", ""}, {"Content-Length: 3", "abc"}, {"Content-Length: +3", "abc"}, {"Content-Length: 3, 3", "abc"}, {"Content-Length: 3\nContent-Length: 4", "abc"},
		{"Content-Length: 3\nContent-Length: 3", "abc"}, {"Content-Length : 3", "abc"}, {"Content_Length: 3", "abc"}, {"Content-Length: 0x3", "abc"}, {"Content-Length:", ""},
		{"Transfer-Encoding: chunked", "3\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "3\nabc\n0\nX-Real-IP: forged\nX-Seen: forged\n\n"}, {"Transfer-Encoding: chunked", "3;a=b\nabc\n0\n\n"},
		{"Transfer-Encoding: chunked", "x\n"}, {"Transfer-Encoding: chunked", "2\nabc\n0\n\n"}, {"Transfer-Encoding: chunked", "-1\n"}, {"Transfer-Encoding: gzip, chunked", "0\n\n"},
		{"Transfer-Encoding: chunked\nContent-Length: 5", "0\n\n"}, {"Transfer-Encoding: xchunked", "0\n\n"}, {"Transfer-Encoding : chunked", "0\n\n"}, {"Transfer-Encoding: identity", ""},
		{"Transfer-Encoding: chunked", "0\nContent-Length: 5\nHost: b\n\n"}, {"Transfer-Encoding:\tchunked", "0\n\n"}, {"Transfer-Encoding: chunked, chunked", "0\n\n"},
	}
)

// newMutant makes up a request.
func newMutant(r *rand.Rand) mutant {
	pick := func(list []string, share float64) string {
		s := list[0]
		if r.Float64() < share {
			s = list[r.IntN(len(list))]
		}
		if r.Float64() < share/20 && s != "" { // one byte is another
			b := []byte(s)
			b[r.IntN(len(b))] = byte(r.IntN(256))
			s = string(b)
		}
		return s
	}
	m := mutant{method: pick(mutantMethods, 0.3), target: pick(mutantPaths, 0.7), host: pick(mutantHosts, 0.4)}
	if r.IntN(4) == 0 && strings.HasPrefix(m.target, "/") {
		m.target += mutantPaths[r.IntN(len(mutantPaths))]
	}
	m.odd = r.IntN(80)
	for range r.IntN(3) {
		m.fields = append(m.fields, pick(mutantFields, 1))
	}
	if r.IntN(3) == 0 {
		f := mutantFramings[r.IntN(len(mutantFramings))]
		m.framing, m.body = f.framing, f.body
		if m.method == "GET" {
			m.method = "POST"
		}
	}
	return m
}

// http1 is the mutant on the wire. Line breaks within it are its own.
func (m mutant) http1() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", m.method, m.target, m.host)
	for _, f := range m.fields {
		b.WriteString(f + "\r\n")
	}
	if m.framing != "" {
		b.WriteString(strings.ReplaceAll(m.framing, "\n", "\r\n") + "\r\n")
	}
	b.WriteString("\r\n" + strings.ReplaceAll(m.body, "\n", "\r\n"))
	return b.String()
}

// A seen request is what the server got.
type seenRequest struct{ method, target, host, script string }

// A mutationRig takes mutants through a virtual service to a server that notes
// what it gets.
type mutationRig struct {
	t     testing.TB
	pool  *lbpool.Pool
	http1 *site
	http2 *site
	recs  *records

	mu     sync.Mutex
	seen   map[string]seenRequest // by the transaction's name
	faults []string
}

func newMutationRig(t testing.TB) *mutationRig {
	m := &mutationRig{t: t, recs: &records{added: make(chan struct{}, 1_000_000)}, seen: map[string]seenRequest{}}
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(m.note))
	m.pool = newPool(t, lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: server}}, Passive: lbpool.Passive{Disabled: true}})
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{m.pool}, OnComplete: m.recs.add,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "admin path", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}}, Action: policy.Respond{Status: 403}},
			{Name: "admin host", Match: policy.Match{Host: &policy.TextMatch{Op: policy.Equals, Values: []string{"admin.example.com"}}}, Action: policy.Respond{Status: 403}},
		}},
		// All that the script sees, in digits, so that nothing of it is read in
		// another way on its way.
		Scripts: []limpet.Script{onRequest(t, "sees", `
local function digits(s) return (string.gsub(s, ".", function(c) return string.format("%02x", string.byte(c)) end)) end
avi.http.replace_header("X-Id", avi.http.get_request_id())
avi.http.replace_header("X-Seen", digits(avi.http.method() .. " " .. avi.http.get_path(false) .. " " .. (avi.http.get_header("host") or "")))`)},
	})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second)) // a body without an end is not waited for
		vs.ServeHTTP(w, r)
	})
	m.http1, m.http2 = startSite(t, http1, listen(t, ""), h), startSite(t, h2c, listen(t, ""), h)
	return m
}

func (m *mutationRig) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// note is the server.
func (m *mutationRig) note(w http.ResponseWriter, r *http.Request) {
	script, _ := hex.DecodeString(r.Header.Get("X-Seen"))
	seen := seenRequest{r.Method, r.RequestURI, r.Host, string(script)}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if decoded, err := url.PathUnescape(path); err != nil || strings.HasPrefix(decoded, "/admin") {
		m.fault("the server got the path %q past the rule (%v)", r.RequestURI, err)
	}
	if host, _, _ := strings.Cut(strings.ToLower(r.Host), ":"); strings.TrimRight(host, ".") == "admin.example.com" || strings.Contains(host, "%") {
		m.fault("the server got the host %q past the rule", r.Host)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	for _, h := range []http.Header{r.Header, r.Trailer} {
		for name, values := range h {
			plain := http.CanonicalHeaderKey(strings.Map(func(c rune) rune {
				if c < 0x80 && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
					return '-'
				}
				return c
			}, name)) // as servers may read it
			switch plain {
			case "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url", "Proxy":
				if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "forged") }) {
					m.fault("the server got %s: %q", name, values)
				}
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	id := r.Header.Get("X-Id")
	if _, twice := m.seen[id]; twice || len(r.Header["X-Id"]) != 1 {
		m.faults = append(m.faults, fmt.Sprintf("the server got a request twice, or one that was not judged: %q", seen))
	}
	m.seen[id] = seen
	w.Header().Set("X-Served", "1")
}

// overHTTP1 sends a mutant, and a harmless request behind it.
func (m *mutationRig) overHTTP1(t testing.TB, request string) {
	c := m.http1.dial(t, "")
	defer c.Close()
	if _, err := io.WriteString(c, request+"GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n"); err != nil {
		return
	}
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: "GET"})
		if err != nil {
			return // a HEAD's answer seems to lack its body
		}
		if res.StatusCode < 100 || res.StatusCode == 499 || res.StatusCode > 505 {
			m.fault("%q: status %d", request, res.StatusCode)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return
		}
	}
}

// overHTTP2 sends a mutant on a connection, and returns that or a new one.
func (m *mutationRig) overHTTP2(t testing.TB, h *rawHTTP2, u mutant) *rawHTTP2 {
	fields := []string{":method", u.method, ":scheme", "http", ":path", u.target}
	if u.host != "" {
		fields = append(fields, ":authority", u.host)
	}
	for _, f := range u.fields {
		name, value, _ := strings.Cut(f, ": ")
		fields = append(fields, strings.ToLower(name), value)
	}
	switch u.odd {
	case 1:
		fields = append(fields, ":path", "/admin")
	case 2:
		fields = append([]string{":path", "/"}, fields...)
	case 3:
		fields = append(fields, ":authority", "b")
	case 4:
		fields[3] = "ftp"
	case 5:
		fields = append(fields, ":protocol", "websocket")
	case 6:
		fields = fields[2:]
	case 7:
		fields = append([]string{"x-early", "1"}, fields...)
	case 8:
		fields = append(fields, ":status", "200")
	case 9:
		fields = append(fields, "X-UPPER", "1")
	case 10:
		fields = append(fields, "transfer-encoding", "chunked")
	case 11:
		fields = append(fields, "content-length", "5")
	case 12:
		fields = append(fields, "host", "admin.example.com")
	}
	_ = h.SetDeadline(time.Now().Add(testwait.Limit))
	end := u.framing == ""
	stream := h.request(end, fields...)
	if !end {
		h.frame(frameData, 0, stream, []byte(u.body))
		h.frame(frameHeaders, flagEndStream|flagEndHeaders, stream, h.encode("x-real-ip", "forged", "x-kept", "1"))
	}
	a := h.answer(stream)
	if a.status == "499" || a.status != "" && len(a.status) != 3 {
		m.fault("%+v over HTTP/2: status %s", u, a.status)
	}
	if a.status == "" { // net/http has ended the stream or the connection
		h.Close()
		return m.http2.dialHTTP2(t)
	}
	return h
}

// check compares what the log says with what the server and the script have
// seen. It is for when all is over.
func (m *mutationRig) check(t testing.TB) (forwarded, kept int) {
	t.Helper()
	m.http1.stop()
	m.http2.stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, rec := range m.recs.list {
		if rec.Tried == 0 {
			kept++
			continue
		}
		forwarded++
		seen, ok := m.seen[rec.RequestID]
		if !ok {
			if rec.Status != 400 && rec.Status != 408 && rec.Status != 499 && rec.Status != 417 || rec.ServerStatus == 400 {
				m.faults = append(m.faults, fmt.Sprintf("forwarded, and not seen by the server's handler: %s %q %q, status %d, of the server %d, %v", rec.Method, rec.Path, rec.Host, rec.Status, rec.ServerStatus, rec.Error))
			}
			continue
		}
		path, _, _ := strings.Cut(seen.target, "?")
		logged := seenRequest{rec.Method, rec.Path, rec.Host, rec.Method + " " + rec.Path + " " + rec.Host}
		got := seenRequest{seen.method, path, seen.host, seen.script}
		if diff := cmp.Diff(logged, got, cmp.AllowUnexported(seenRequest{})); diff != "" {
			m.faults = append(m.faults, fmt.Sprintf("- as logged, + as seen by the server and the script\n%s", diff))
		}
	}
	if n := m.pool.Servers()[0].Stats().Failures; n > 0 {
		m.faults = append(m.faults, fmt.Sprintf("%d failures of the server", n))
	}
	if len(m.faults) > 0 {
		slices.Sort(m.faults)
		m.faults = slices.Compact(m.faults)
		t.Errorf("%d kinds of faults, among them\n%s", len(m.faults), strings.Join(m.faults[:min(len(m.faults), 10)], "\n"))
	}
	return forwarded, kept
}

// mutants is how many requests TestMutants makes up for each version of HTTP.
const mutants = 5_000

// Whatever a client sends, there is one reading of it.
func TestMutants(t *testing.T) {
	t.Parallel()
	n := mutants
	if testrace.Enabled {
		n /= 10
	}
	if testing.Short() {
		n /= 10
	}
	m := newMutationRig(t)
	r := rand.New(rand.NewPCG(1, 2))
	h := m.http2.dialHTTP2(t)
	for range n {
		u := newMutant(r)
		m.overHTTP1(t, u.http1())
		h = m.overHTTP2(t, h, newMutant(r))
	}
	h.Close()
	forwarded, kept := m.check(t)
	t.Logf("%d requests forwarded, %d answered without a server, the rest by net/http", forwarded, kept)
	if forwarded < n/3 || kept < n/10 {
		t.Errorf("%d requests forwarded, %d answered without a server: the mutants are too wild, or too tame", forwarded, kept)
	}
}

// FuzzRequests looks for requests that are read in two ways.
func FuzzRequests(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		u := newMutant(r)
		f.Add(u.method, u.target, u.host, strings.Join(u.fields, "\r\n"), u.framing, u.body)
	}
	m := newMutationRig(f)
	f.Cleanup(func() { m.check(f) })
	f.Fuzz(func(t *testing.T, method, target, host, fields, framing, body string) {
		if len(method)+len(target)+len(host)+len(fields)+len(framing)+len(body) > 4<<10 {
			return
		}
		u := mutant{method: method, target: target, host: host, framing: framing, body: body}
		if fields != "" {
			u.fields = strings.Split(fields, "\r\n")
		}
		m.overHTTP1(t, u.http1())
		m.overHTTP2(t, m.http2.dialHTTP2(t), u).Close()
		m.mu.Lock()
		faults := m.faults
		m.faults = nil
		m.mu.Unlock()
		for _, fault := range faults {
			t.Error(fault)
		}
		if n := m.pool.Servers()[0].Stats().Failures; n > 0 {
			t.Fatalf("%d failures of the server", n)
		}
	})
}
