package acceptance_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// A fate is what becomes of a path, when a security rule denies what begins
// with /admin.
type fate int

const (
	served fate = iota
	denied      // some server takes it for /admin
	bad         // 400
)

// paths are targets as a client can write them.
var paths = []struct {
	path string
	fate fate
}{
	{"/", served}, {"/public", served}, {"/public/", served}, {"/a/b/c", served}, {"/adm", served},
	{"/admin", denied}, {"/admin/", denied}, {"/admin/x", denied}, {"/administration", denied}, {"/admin?x", denied},
	// Case.
	{"/ADMIN", denied}, {"/Admin/x", denied}, {"/%41dmin", denied}, {"/aDmIn", denied},
	// Escapes that need not be.
	{"/%61dmin", denied}, {"/%61%64%6d%69%6e", denied}, {"/%61%64%6D%69%6E", denied}, {"/admi%6e/x", denied}, {"/public/%61dmin", served},
	// Escapes of escapes: decoded once.
	{"/%2561dmin", served}, {"/%252e%252e/admin", served}, {"/public%252fadmin", served}, {"/%25%36%31dmin", served},
	// Dot segments.
	{"/./admin", denied}, {"/public/../admin", denied}, {"/public/./../admin", denied}, {"/../admin", denied}, {"/../../admin", denied},
	{"/a/b/../../admin", denied}, {"/a/../b/../admin", denied}, {"/admin/../public", denied}, {"/admin/.", denied}, {"/admin/..", denied},
	{"/.../admin", served}, {"/public/..admin", served}, {"/public/.admin", served}, {"/public/a..b", served}, {"/public/..", served},
	// Dot segments in escapes.
	{"/%2e/admin", denied}, {"/%2e%2e/admin", denied}, {"/public/%2e%2e/admin", denied}, {"/public/.%2e/admin", denied},
	{"/public/%2E./admin", denied}, {"/public/%2e%2E/%61dmin", denied},
	// Slashes in escapes.
	{"/%2fadmin", denied}, {"/%2Fadmin", denied}, {"/admin%2fx", denied}, {"/public%2f..%2fadmin", denied}, {"/public/..%2fadmin", denied},
	{"/public/%2e%2e%2fadmin", denied}, {"/public%2Fadmin", served},
	// Empty segments.
	{"//admin", denied}, {"///admin", denied}, {"/.//admin", denied}, {"//public//admin", served}, {"/public//../admin", denied},
	{"//public/..//admin", denied}, {"/public//", served}, {"//evil.example/admin", served},
	// Backslashes.
	{"/%5cadmin", denied}, {"/%5Cadmin", denied}, {"/\\admin", denied}, {"/public%5c..%5cadmin", denied}, {"/public\\..\\admin", denied},
	{"/public/..%5cadmin", denied}, {"/public%5cadmin", served},
	// Parameters of segments.
	{"/admin;x=y", denied}, {"/;x/admin", denied}, {"/admin;/x", denied}, {"/public;/../admin", denied}, {"/public/..;/admin", denied},
	{"/public/..;x=y/admin", denied}, {"/.;/admin", denied}, {"/admin%3bx", denied}, {"/public;admin", served},
	// Control characters.
	{"/admin%00", bad}, {"/public%00/admin", bad}, {"/%00", bad}, {"/public%0a", bad}, {"/public%0d%0aX:%20y", bad}, {"/public%7f", bad},
	{"/public%09", bad}, {"/public%01/admin", bad}, {"/public%1f", bad},
	// UTF-8: overlong, cut off, and as it should be. Nobody decodes overlong
	// forms any more; the bytes go on as they are.
	{"/%c0%afadmin", served}, {"/%c0%ae%c0%ae/admin", served}, {"/public/%c0%ae%c0%ae/admin", served}, {"/%e0%80%afadmin", served},
	{"/%c1%a1dmin", served}, {"/%ff", served}, {"/caf%e9", served}, {"/caf%c3%a9", served}, {"/%ef%bc%8fadmin", served}, {"/%e2%80%ae", served},
	// Escapes that are none.
	{"/%", bad}, {"/%6", bad}, {"/%zz", bad}, {"/%u0061dmin", bad}, {"/admin%", bad},
	// Other characters.
	{"/a%20b", served}, {"/a+b", served}, {"/a:b@c", served}, {"/~a", served}, {"/a%23b", served}, {"/a%3fb", served}, {"/a|b", served},
	{"/a\"b", served}, {"/a<b>", served}, {"/[a]", served}, {"/a^b`{c}", served}, {"/*", served}, {"/a,b='c'", served},
}

// A rule, a script and the server see the same path, and the rule denies it if
// any server might take it for what is denied.
func TestPaths(t *testing.T) {
	t.Parallel()
	const script = `-- HTTP_REQ
avi.http.add_header("X-Path", avi.http.get_path())
avi.http.add_header("X-Raw-Path", avi.http.get_path(false))
avi.http.add_header("X-Raw-Uri", avi.http.get_uri(false))
`
	start := func(t *testing.T, server, script string, deny bool) (*records, *site) {
		recs := newRecords()
		cfg := limpet.Config{
			Pools:   []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: server})},
			Scripts: []limpet.Script{compile(t, "paths", script)}, OnComplete: recs.add,
		}
		if deny {
			cfg.HTTPSecurity = []policy.SecurityRule{{
				Name: "admin", Action: policy.Respond{Status: 403},
				Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}},
			}}
		}
		_, s := serve(t, http1, cfg)
		return recs, s
	}
	// ask sends a path as it stands.
	ask := func(t *testing.T, s *site, path string) int {
		c := s.dial(t, "")
		defer c.Close()
		res, err := http.ReadResponse(send(t, c, "GET "+path+" HTTP/1.1\nHost: a\n\n"), nil)
		if err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		return res.StatusCode
	}

	t.Run("Go", func(t *testing.T) {
		var seen *http.Request
		server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = r }))
		recs, ruled := start(t, server, script, true)
		_, free := start(t, server, script, false)
		_, bare := start(t, server, "-- HTTP_REQ\n", false)
		for _, test := range paths {
			seen = nil
			asked := ruled
			if test.fate == bad {
				asked = bare // for the script cannot put such paths into headers
			}
			status := ask(t, asked, test.path)
			if want := map[fate]int{served: 200, denied: 403, bad: 400}[test.fate]; status != want {
				t.Errorf("%q: status %d, want %d", test.path, status, want)
			}
			if (seen != nil) != (test.fate == served) {
				t.Errorf("%q: the server was asked: %v", test.path, seen != nil)
			}
			if test.fate == bad {
				continue
			}
			// Without the rule, too, the script sees what the server sees.
			seen = nil
			if status := ask(t, free, test.path); status != 200 || seen == nil {
				t.Errorf("%q without a rule: status %d", test.path, status)
				continue
			}
			sent, _, _ := strings.Cut(seen.RequestURI, "?")
			decoded, err := url.PathUnescape(sent)
			if err != nil {
				t.Errorf("%q: the server was sent %q", test.path, sent)
			}
			for name, want := range map[string]string{"X-Path": decoded, "X-Raw-Path": sent, "X-Raw-Uri": seen.RequestURI} {
				if got := seen.Header.Get(name); got != want {
					t.Errorf("%q: the script sees %s %q, the server %q", test.path, name, got, want)
				}
			}
			original, _, _ := strings.Cut(test.path, "?")
			if was, err := url.PathUnescape(original); err != nil || was != decoded {
				t.Errorf("%q: the server reads %q, the client has written %q", test.path, decoded, was)
			}
			if unchanged := !strings.ContainsAny(original, "\\|\"<>^`{}"); unchanged && sent != original {
				t.Errorf("%q: the server was sent %q", test.path, sent)
			}
			// Whatever a server makes of it, the rule has thought of it.
			if test.fate == served && slices.ContainsFunc(readings(decoded), func(s string) bool { return strings.HasPrefix(strings.ToLower(s), "/admin") }) {
				t.Errorf("%q: some server would take it for /admin", test.path)
			}
		}
		for _, rec := range recs.take(t, len(recs.list)) {
			if rec.Status == 403 && rec.SecurityRule != "admin" {
				t.Errorf("%s: denied by %q", rec.Path, rec.SecurityRule)
			}
		}
	})

	// A server that merges slashes, resolves dot segments and decodes before it
	// decides.
	t.Run("nginx", func(t *testing.T) {
		addr, _ := startNginx(t, `location ~* ^/admin { return 418; } location / { return 200 "ok"; }`)
		_, ruled := start(t, addr, script, true)
		_, free := start(t, addr, script, false)
		reached := 0
		for _, test := range paths {
			if test.fate == bad {
				continue
			}
			if status := ask(t, ruled, test.path); status == 418 {
				t.Errorf("%q slips past the rule", test.path)
			}
			if ask(t, free, test.path) == 418 {
				reached++
			}
		}
		if reached < 20 {
			t.Errorf("only %d paths are /admin for nginx: what has this shown?", reached)
		}
	})
}

// readings are what servers might make of a decoded path.
func readings(decoded string) []string {
	list := []string{decoded}
	for _, change := range []func(string) string{
		func(s string) string { return strings.ReplaceAll(s, `\`, "/") },
		func(s string) string {
			segments := strings.Split(s, "/")
			for i := range segments {
				segments[i], _, _ = strings.Cut(segments[i], ";")
			}
			return strings.Join(segments, "/")
		},
		path.Clean,
	} {
		for _, s := range list {
			list = append(list, change(s))
		}
	}
	return list
}

// A request has one Host, unless it is one of HTTP/1.0.
func TestHostHeader(t *testing.T) {
	_, s := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })}})
	for request, want := range map[string]int{
		"GET / HTTP/1.1\nHost: a\n\n":          200,
		"GET / HTTP/1.1\n\n":                   400,
		"GET / HTTP/1.1\nHost: a\nHost: b\n\n": 400,
		"GET / HTTP/1.1\nHost: a b\n\n":        400,
		"GET / HTTP/1.0\n\n":                   200,
	} {
		c := s.dial(t, "")
		res, err := http.ReadResponse(send(t, c, request), nil)
		if err != nil || res.StatusCode != want {
			t.Errorf("%q: %v, %v, want %d", request, res, err, want)
		}
		c.Close()
	}
}

// A request of HTTP/1.0 without a host had none for rules, scripts and the log,
// while the server was told its own address as the host: they have to judge
// what the server gets. It is the address that the client has connected to. An
// edit that leaves no host is refused.
func TestNoHost(t *testing.T) {
	recs := newRecords()
	type seen struct{ script, server, forwarded, log string }
	var got seen
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		got.script, got.server, got.forwarded = r.Header.Get("X-Seen"), r.Host, r.Header.Get("X-Forwarded-Host")
	})
	ln := listen(t, "")
	addr := ln.Addr().String()
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{pool}, OnComplete: recs.add,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name: "only here", Match: policy.Match{Host: &policy.TextMatch{Op: policy.DoesNotEqual, Values: []string{addr, "a"}}}, Action: policy.Respond{Status: 403},
		}}},
		Scripts: []limpet.Script{onRequest(t, "sees", `avi.http.add_header("X-Seen", avi.http.get_header("host"))
if avi.http.get_path() == "/none" then avi.http.replace_header("host", "") end`)},
	})
	s := startSite(t, http1, ln, vs)
	for _, test := range []struct {
		name, request string
		status        int
		host          string
	}{
		{"HTTP/1.0 without a host", "GET / HTTP/1.0\n\n", 200, addr},
		{"HTTP/1.0 with an empty host", "GET / HTTP/1.0\nHost:\n\n", 200, addr},
		{"HTTP/1.0 with a host", "GET / HTTP/1.0\nHost: a\n\n", 200, "a"},
		{"HTTP/1.0 with a host that is denied", "GET / HTTP/1.0\nHost: b\n\n", 403, "b"},
		{"HTTP/1.0 with the host in the target", "GET http://a/ HTTP/1.0\n\n", 200, "a"},
		{"HTTP/1.1 with an empty host", "GET / HTTP/1.1\nHost:\n\n", 400, ""},
		{"a script that takes the host away", "GET /none HTTP/1.1\nHost: a\n\n", 500, "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got = seen{}
			res, err := http.ReadResponse(send(t, s.dial(t, ""), test.request), nil)
			if err != nil || res.StatusCode != test.status {
				t.Fatalf("%v, %v, want status %d", res, err, test.status)
			}
			got.log = recs.next(t).Host
			want := seen{log: test.host}
			if test.status == 200 {
				want = seen{test.host, test.host, test.host, test.host}
			}
			if got != want {
				t.Errorf("seen %+v, want %+v", got, want)
			}
		})
	}
	for name, local := range map[string]net.Addr{
		"localhost":          &net.UnixAddr{Name: "/x", Net: "unix"},
		"192.0.2.1":          &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80},
		"192.0.2.1:443":      &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443},
		"[2001:db8::1]:8080": &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 8080},
		"[fe80::1]":          &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 80, Zone: "eth0"},
	} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, local), "GET", "/", nil)
		r.Host, r.Proto, r.ProtoMinor = "", "HTTP/1.0", 0
		vs.ServeHTTP(httptest.NewRecorder(), r)
		if host := recs.next(t).Host; host != name {
			t.Errorf("connected to %s: host %q, want %q", local, host, name)
		}
	}
}

// What a proxy must not forward it refuses, after the scripts have had their
// say.
func TestRefused(t *testing.T) {
	recs := newRecords()
	_, s := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{poolOf(t, startServers(t, 1)...)}, OnComplete: recs.add})
	for _, test := range []struct {
		request string
		status  int
	}{
		{"CONNECT b:443 HTTP/1.1\nHost: b:443\n\n", 501},
		{"GET /a%00b HTTP/1.1\nHost: a\n\n", 400},
		{"GET /a?%00 HTTP/1.1\nHost: a\n\n", 200},
	} {
		c := s.dial(t, "")
		res, err := http.ReadResponse(send(t, c, test.request), nil)
		if err != nil || res.StatusCode != test.status {
			t.Errorf("%q: %v, %v", test.request, res, err)
		}
		if rec := recs.next(t); rec.Status != test.status || (rec.Tried > 0) != (test.status == 200) {
			t.Errorf("%q: record %s", test.request, fmt.Sprint(rec))
		}
	}
}
