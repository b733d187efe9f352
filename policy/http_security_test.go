package policy

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func pathIs(p string) Match { return Match{Path: &PathMatch{Op: Equals, Values: []string{p}}} }

func TestActions(t *testing.T) {
	const text, html = "text/plain; charset=utf-8", "text/html; charset=utf-8"
	for _, c := range []struct {
		name    string
		action  SecurityAction
		verdict Verdict
		tx      fakeTx // what was done
	}{
		{"allow", Allow{}, Verdict{Action: ActionAllow}, fakeTx{}},
		{"close", Close{}, Verdict{Action: ActionClose, Ended: true, Dropped: true}, fakeTx{closed: true, calls: 1}},
		{"reset", Close{Reset: true}, Verdict{Action: ActionReset, Ended: true, Dropped: true}, fakeTx{closed: true, reset: true, calls: 1}},
		{"built-in page", Respond{Status: 403}, Verdict{Action: ActionRespond, Status: 403, Ended: true, Dropped: true},
			fakeTx{status: 403, header: http.Header{"Content-Type": {text}}, body: "403 Forbidden\n", calls: 1}},
		{"status without a name", Respond{Status: 599}, Verdict{Action: ActionRespond, Status: 599, Ended: true, Dropped: true},
			fakeTx{status: 599, header: http.Header{"Content-Type": {text}}, body: "599\n", calls: 1}},
		{"body", Respond{Status: 200, Body: []byte("<p>hi")}, Verdict{Action: ActionRespond, Status: 200, Ended: true},
			fakeTx{status: 200, header: http.Header{"Content-Type": {html}}, body: "<p>hi", calls: 1}},
		{"own type", Respond{Status: 404, ContentType: "application/json", Body: []byte("{}")}, Verdict{Action: ActionRespond, Status: 404, Ended: true, Dropped: true},
			fakeTx{status: 404, header: http.Header{"Content-Type": {"application/json"}}, body: "{}", calls: 1}},
		{"empty body", Respond{Status: 200, Body: []byte{}}, Verdict{Action: ActionRespond, Status: 200, Ended: true},
			fakeTx{status: 200, header: http.Header{"Content-Type": {html}}, calls: 1}},
		{"least status that drops", Respond{Status: 400, Body: []byte("x")}, Verdict{Action: ActionRespond, Status: 400, Ended: true, Dropped: true},
			fakeTx{status: 400, header: http.Header{"Content-Type": {html}}, body: "x", calls: 1}},
		{"greatest status that does not", Respond{Status: 399, Body: []byte("x")}, Verdict{Action: ActionRespond, Status: 399, Ended: true},
			fakeTx{status: 399, header: http.Header{"Content-Type": {html}}, body: "x", calls: 1}},
		{"no content", Respond{Status: 204}, Verdict{Action: ActionRespond, Status: 204, Ended: true},
			fakeTx{status: 204, header: http.Header{}, calls: 1}},
		{"redirect", RedirectToHTTPS{}, Verdict{Action: ActionRedirect, Status: 302, Ended: true},
			fakeTx{status: 302, header: http.Header{"Content-Type": {text}, "Location": {"https://example.com/x"}}, body: "302 Found\n", calls: 1}},
		{"redirect for good", RedirectToHTTPS{Status: 308}, Verdict{Action: ActionRedirect, Status: 308, Ended: true},
			fakeTx{status: 308, header: http.Header{"Content-Type": {text}, "Location": {"https://example.com/x"}}, body: "308 Permanent Redirect\n", calls: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustHTTPSecurity(t, Env{}, SecurityRule{Name: "other", Match: pathIs("/other"), Action: Close{}}, SecurityRule{Name: "r", Action: c.action, Log: true})
			tx := newTx("GET", "/x", host("example.com"))
			c.verdict.Rule, c.verdict.Index, c.verdict.Log = "r", 1, true
			if diff := cmp.Diff(c.verdict, p.Evaluate(tx)); diff != "" {
				t.Error(diff)
			}
			c.tx.client, c.tx.source, c.tx.local, c.tx.request = tx.client, tx.source, tx.local, tx.request
			if diff := cmp.Diff(c.tx, *tx, cmp.AllowUnexported(fakeTx{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
				cmp.Comparer(func(a, b *http.Request) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A reply's header belongs to the transaction: changing it changes no other
// reply.
func TestReplyHeaderIsFresh(t *testing.T) {
	p := mustHTTPSecurity(t, Env{}, SecurityRule{Name: "r", Action: Respond{Status: 403}})
	tx := newTx("GET", "/")
	p.Evaluate(tx)
	tx.header.Set("Content-Type", "x")
	p.Evaluate(tx)
	if got := tx.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Error(got)
	}
}

func TestFirstEnabledMatchDecides(t *testing.T) {
	p := mustHTTPSecurity(t, Env{},
		SecurityRule{Name: "disabled", Disabled: true, Action: Close{}},
		SecurityRule{Name: "and", Match: Match{Method: &MethodMatch{Methods: []string{"POST"}}, Path: &PathMatch{Op: BeginsWith, Values: []string{"/a"}}}, Action: Respond{Status: 405}},
		SecurityRule{Name: "allow", Match: pathIs("/a"), Action: Allow{}},
		SecurityRule{Name: "https", Match: pathIs("/b"), Action: RedirectToHTTPS{}},
		SecurityRule{Name: "rest", Match: Match{Path: &PathMatch{Op: DoesNotEqual, Values: []string{"/c"}}}, Action: Close{}},
	)
	for _, c := range []struct {
		tx   *fakeTx
		want string
	}{
		{newTx("GET", "/a"), "allow"},
		{newTx("POST", "/a"), "and"},
		{newTx("POST", "/b"), "https"},
		{newTx("GET", "/b", overTLS), "rest"},     // the loop guard skips the rule
		{newTx("GET", "/b", host("a b")), "rest"}, // and so does an unusable host
		{newTx("GET", "/b", host("")), "rest"},
		{newTx("GET", "/c"), ""},
	} {
		v := p.Evaluate(c.tx)
		if v.Rule != c.want || (v.Index == -1) != (c.want == "") || v.Ended != (c.want != "" && c.want != "allow") {
			t.Errorf("%s %s: %+v, want %q", c.tx.request.Method, c.tx.request.URL, v, c.want)
		}
	}
}

func TestNilAndEmptyPolicyAcceptAll(t *testing.T) {
	for name, p := range map[string]*HTTPSecurity{"nil": nil, "zero": {}, "no rules": mustHTTPSecurity(t, Env{})} {
		if v := p.Evaluate(newTx("GET", "/")); !cmp.Equal(v, Verdict{Index: -1}) || len(p.Stats()) != 0 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	for name, p := range map[string]*NetworkSecurity{"nil": nil, "zero": {}, "no rules": mustNetworkSecurity(t, Env{})} {
		if v := p.Evaluate(netip.AddrPort{}, netip.AddrPort{}); !cmp.Equal(v, Verdict{Index: -1}) || len(p.Stats()) != 0 {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestLocation(t *testing.T) {
	for _, c := range []struct {
		name, host, target string
		port               uint16
		want               string // empty: skipped
	}{
		{"plain", "example.com", "/", 0, "https://example.com/"},
		{"default port", "example.com", "/", 443, "https://example.com/"},
		{"own port", "example.com", "/", 8443, "https://example.com:8443/"},
		{"port replaced", "example.com:8080", "/", 8443, "https://example.com:8443/"},
		{"port dropped", "example.com:8080", "/", 0, "https://example.com/"},
		{"empty port", "example.com:", "/", 0, "https://example.com/"},
		{"IPv4", "192.0.2.1:80", "/", 0, "https://192.0.2.1/"},
		{"IPv6", "[2001:db8::1]:80", "/", 8443, "https://[2001:db8::1]:8443/"},
		{"IPv6 without port", "[::1]", "/", 0, "https://[::1]/"},
		{"path and query", "example.com", "/a%20b/c;d?x=1&y=%2f", 0, "https://example.com/a%20b/c;d?x=1&y=%2f"},
		{"encoded slash stays", "example.com", "/a%2fb", 0, "https://example.com/a%2fb"},
		{"empty query", "example.com", "/a?", 0, "https://example.com/a?"},
		{"second host in the path", "example.com", "//example.org/x", 0, "https://example.com//example.org/x"},
		{"absolute form", "example.com", "http://example.com/x?y", 0, "https://example.com/x?y"},
		{"absolute form without path", "example.com", "http://example.com", 0, "https://example.com/"},
		{"asterisk", "example.com", "*", 0, "https://example.com/"},
		{"hash in the query", "example.com", "/?a#b", 0, "https://example.com/?a%23b"},
		{"quotes and beyond ASCII", "example.com", "/\xc3\xa9\"?<\xff>", 0, "https://example.com/%C3%A9%22?%3C%FF%3E"},
		{"encoded line end stays encoded", "example.com", "/%0d%0aSet-Cookie:x?%0d%0a", 0, "https://example.com/%0d%0aSet-Cookie:x?%0d%0a"},
		{"no host", "", "/", 0, ""},
		{"only a port", ":80", "/", 0, ""},
		{"only dots", "..", "/", 0, ""},
		{"blank", "a b", "/", 0, ""},
		{"line end", "a\r\nX: y", "/", 0, ""},
		{"user", "user@example.com", "/", 0, ""},
		{"slash", "example.com/x", "/", 0, ""},
		{"beyond ASCII", "ex\u00e4mple.com", "/", 0, ""},
		{"percent", "ex%61mple.com", "/", 0, ""},
		{"port of letters", "example.com:http", "/", 0, ""},
		{"port of path", "example.com:80/x", "/", 0, ""},
		{"broken IPv6", "[2001:db8::1", "/", 0, ""},
		{"IPv6 with zone", "[fe80::1%25eth0]", "/", 0, ""},
		{"IPv4 in brackets", "[192.0.2.1]", "/", 0, ""},
		{"IPv6 without brackets", "2001:db8::1", "/", 0, ""},
		{"text behind IPv6", "[::1]80", "/", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := received(c.target)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = c.host
			got, ok := RedirectToHTTPS{Port: c.port}.location(r)
			if got != c.want || ok != (c.want != "") {
				t.Errorf("%q, %v, want %q", got, ok, c.want)
			}
		})
	}
	// What net/http would not have parsed does not get through either.
	r := &http.Request{Host: "h", URL: &url.URL{Path: "no slash\r\n", RawQuery: "a\r\nb\x00 c\x7f"}}
	if got, _ := (RedirectToHTTPS{}).location(r); got != "https://h/no%20slash%0D%0A?a%0D%0Ab%00%20c%7F" {
		t.Errorf("%q", got)
	}
	if got, _ := (RedirectToHTTPS{}).location(&http.Request{Host: "h"}); got != "https://h/" {
		t.Errorf("%q", got)
	}
}

// brokenGroups fails for one address, so that the probe at construction passes.
type brokenGroups struct{ panics bool }

var errDown = errors.New("geo database is closed")

func (b brokenGroups) Contains(_ string, addr netip.Addr) (bool, error) {
	switch {
	case addr != netip.MustParseAddr("192.0.2.66"):
		return false, nil
	case b.panics:
		panic("index out of range")
	}
	return true, errDown
}

func TestFailingService(t *testing.T) {
	ip := &IPMatch{Groups: []string{"Blacklist"}}
	for _, panics := range []bool{false, true} {
		for _, open := range []bool{false, true} {
			env := Env{IPGroups: brokenGroups{panics}, FailOpen: open}
			p := mustHTTPSecurity(t, env,
				SecurityRule{Name: "first", Match: pathIs("/x"), Action: Allow{}},
				SecurityRule{Name: "group", Match: Match{ClientIP: ip}, Action: Allow{}, Log: true},
				SecurityRule{Name: "rest", Action: Close{}})
			n := mustNetworkSecurity(t, env,
				NetworkRule{Name: "group", Match: NetworkMatch{ClientIP: ip}, Action: ActionAllow, Log: true},
				NetworkRule{Name: "rest", Action: ActionReset})

			tx := newTx("GET", "/", client("192.0.2.66"))
			got := p.Evaluate(tx)
			want := Verdict{Rule: "group", Index: 1, Log: true, Action: ActionFail, Status: 500, Ended: true, Dropped: true}
			if open {
				want = Verdict{Rule: "group", Index: 1, Log: true}
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Verdict{}, "Err")); diff != "" {
				t.Errorf("panics %v, open %v: %s", panics, open, diff)
			}
			if (tx.status == 500) == open || tx.calls > 1 || tx.closed {
				t.Errorf("panics %v, open %v: status %d, %d calls", panics, open, tx.status, tx.calls)
			}
			v := n.Evaluate(tx.client, netip.AddrPort{})
			if v.Ended == open || v.Rule != "group" || v.Index != 0 || !v.Log {
				t.Errorf("panics %v, open %v: %+v", panics, open, v)
			}
			for _, err := range []error{got.Err, v.Err} {
				var re *RuleError
				if !errors.As(err, &re) || re.Rule != "group" {
					t.Fatalf("%v", err)
				}
				if panics != strings.Contains(err.Error(), "panic: index out of range") || panics == errors.Is(err, errDown) {
					t.Errorf("panics %v: %v", panics, err)
				}
				if panics && !strings.Contains(err.Error(), "brokenGroups") {
					t.Errorf("no stack: %v", err)
				}
				if !strings.Contains(err.Error(), `rule "group"`) || !strings.Contains(err.Error(), `IP group "Blacklist"`) {
					t.Errorf("no place: %v", err)
				}
			}
			if s := p.Stats()[1]; s.Errors != 1 || s.Hits != 0 {
				t.Errorf("%+v", s)
			}
			if s := n.Stats()[0]; s.Errors != 1 || s.Hits != 0 {
				t.Errorf("%+v", s)
			}
			// A request that another rule decides first does not depend on the
			// service.
			if v := p.Evaluate(newTx("GET", "/x", client("192.0.2.66"))); v.Err != nil || v.Rule != "first" {
				t.Errorf("%+v", v)
			}
		}
	}
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustHTTPSecurity(t, Env{},
			SecurityRule{Name: "drop", Match: pathIs("/drop"), Action: Close{}},
			SecurityRule{Name: "page", Match: pathIs("/page"), Action: Respond{Status: 200}},
			SecurityRule{Name: "never", Match: pathIs("/never"), Action: Close{}})
		n := mustNetworkSecurity(t, Env{},
			NetworkRule{Name: "allow", Match: NetworkMatch{VSPort: &PortMatch{Ports: []uint16{80}}}, Action: ActionAllow},
			NetworkRule{Name: "deny", Action: ActionReset})
		var last time.Time
		for _, target := range []string{"/drop", "/page", "/drop", "/other"} {
			<-time.After(time.Minute) // virtual
			p.Evaluate(newTx("GET", target))
			n.Evaluate(netip.AddrPort{}, netip.AddrPortFrom(netip.IPv4Unspecified(), 81))
			last = time.Now()
		}
		want := []RuleStats{
			{Name: "drop", Hits: 2, Drops: 2, LastHit: last.Add(-time.Minute)},
			{Name: "page", Hits: 1, LastHit: last.Add(-2 * time.Minute)},
			{Name: "never"},
		}
		if diff := cmp.Diff(want, p.Stats()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]RuleStats{{Name: "allow"}, {Name: "deny", Hits: 4, Drops: 4, LastHit: last}}, n.Stats()); diff != "" {
			t.Error(diff)
		}
	})
}

// Many goroutines share one policy and its scratch space: each gets the
// verdict of its own request, and no hit is lost.
func TestConcurrentUse(t *testing.T) {
	const workers, rounds = 8, 500
	p := mustHTTPSecurity(t, Env{},
		SecurityRule{Name: "ua", Match: Match{Headers: []HeaderMatch{{Name: "User-Agent", Op: Contains, Values: []string{"bad"}}}}, Action: Close{}},
		SecurityRule{Name: "path", Match: Match{Path: &PathMatch{Op: BeginsWith, Values: []string{"/bad"}}}, Action: Close{}})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			tx := newTx("GET", "/x/../BAD"+strings.Repeat("x", w), header("User-Agent", strings.Repeat("GOOD", w)))
			want := "path"
			if w%2 == 0 {
				tx.request.Header.Add("User-Agent", "BAD")
				want = "ua"
			}
			for range rounds {
				if v := p.Evaluate(tx); v.Rule != want {
					t.Errorf("%+v, want %s", v, want)
					return
				}
				p.Stats()
			}
		})
	}
	wg.Wait()
	for _, s := range p.Stats() {
		if s.Hits != workers/2*rounds || s.Drops != s.Hits {
			t.Errorf("%+v", s)
		}
	}
}

// The constructor keeps no slice of the caller's.
func TestRulesAreCopied(t *testing.T) {
	values, methods, body := []string{"/a"}, []string{"GET"}, []byte("body")
	ports, list := []uint16{80}, prefixes("192.0.2.0/24")
	groupNames := []string{"g"}
	p := mustHTTPSecurity(t, Env{IPGroups: groups{"g": nil}}, SecurityRule{Name: "r", Action: Respond{Status: 200, Body: body}, Match: Match{
		Path: &PathMatch{Op: Equals, Values: values, CaseSensitive: true}, Method: &MethodMatch{Methods: methods},
		VSPort: &PortMatch{Ports: ports}, ClientIP: &IPMatch{Prefixes: list, Groups: groupNames},
	}})
	values[0], methods[0], body[0], ports[0], list[0], groupNames[0] = "/b", "PUT", 'x', 81, netip.Prefix{}, "h"
	tx := newTx("GET", "/a")
	if v := p.Evaluate(tx); v.Rule != "r" || tx.body != "body" {
		t.Errorf("%+v %q", v, tx.body)
	}
	if v := p.Evaluate(newTx("GET", "/a", client("203.0.113.1"))); v.Err != nil {
		t.Error(v.Err)
	}
}
