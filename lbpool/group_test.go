package lbpool

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// named returns a pool of n servers: 10.0.x.1, 10.0.x.2 and so on.
func named(t testing.TB, name string, x, n int) *Pool {
	t.Helper()
	cfg := Config{Name: name}
	for i := range n {
		cfg.Servers = append(cfg.Servers, ServerConfig{Address: fmt.Sprintf("10.0.%d.%d", x, i+1), Name: fmt.Sprintf("%s-%d", name, i+1), MaxConnections: 100})
	}
	return mustPool(t, cfg)
}

func mustGroup(t testing.TB, cfg GroupConfig) *Group {
	t.Helper()
	cfg.Name = "group"
	g, err := NewGroup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// shares counts which pools n requests go to.
func shares(t testing.TB, g *Group, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		p, err := g.Select("", Hint{})
		if err != nil {
			t.Fatal(err)
		}
		got[p.Name()]++
	}
	return got
}

func disableAll(p *Pool) {
	for _, s := range p.Servers() {
		s.Disable()
	}
}

func TestGroupRatiosAndPriorities(t *testing.T) {
	a, b, c, d, never := named(t, "a", 1, 2), named(t, "b", 2, 2), named(t, "c", 3, 2), named(t, "d", 4, 2), named(t, "never", 5, 1)
	g := mustGroup(t, GroupConfig{Members: []Member{
		{Pool: d, Ratio: 1, Priority: 1}, {Pool: a, Ratio: 1, Priority: 10}, {Pool: b, Ratio: 3, Priority: 10}, {Pool: c, Ratio: 6, Priority: 10},
		{Pool: never, Priority: 10},
	}})
	want := func(n int, want map[string]int) {
		t.Helper()
		if diff := cmp.Diff(want, shares(t, g, n)); diff != "" {
			t.Errorf("shares (-want +got):\n%s", diff)
		}
	}
	want(1000, map[string]int{"a": 100, "b": 300, "c": 600})
	disableAll(c) // its share is spread equally
	want(1000, map[string]int{"a": 400, "b": 600})
	disableAll(a)
	want(100, map[string]int{"b": 100})
	disableAll(b)
	want(100, map[string]int{"d": 100})
	// A client that is bound to a server stays with its pool, whatever its
	// ratio and priority, if that serves at all.
	c.Servers()[0].Enable()
	for server, pool := range map[string]*Pool{"10.0.4.2:80": d, "10.0.5.1:80": never, "10.0.3.2:80": c, "10.0.1.1:80": c, "10.9.9.9:80": c} {
		if p, err := g.Select("", Hint{Server: addrPort(server)}); err != nil || p != pool {
			t.Errorf("bound to %s: %v, %v, want %s", server, p, err, pool.Name())
		}
	}
	c.Servers()[0].Disable()
	disableAll(d)
	if p, err := g.Select("", Hint{}); !errors.Is(err, ErrNoServer) || errors.Is(err, ErrFull) {
		t.Errorf("only a pool without new traffic is left: %v, %v", p, err)
	}
}

func TestGroupLimitsAndMinimum(t *testing.T) {
	a, b := named(t, "a", 1, 2), named(t, "b", 2, 1)
	g := mustGroup(t, GroupConfig{Members: []Member{{Pool: a, Ratio: 1, Priority: 2}, {Pool: b, Ratio: 1, Priority: 1}}, MinServers: 2})
	choose := func(want string) {
		t.Helper()
		p, err := g.Select("", Hint{})
		if want == "" && errors.Is(err, ErrFull) {
			return
		}
		if err != nil || p.Name() != want {
			t.Errorf("got %v, %v, want %q", p, err, want)
		}
	}
	choose("a")
	for range 200 {
		mustAcquire(t, a, Hint{})
	}
	choose("b") // a is full; b has too few servers, but is better than nothing
	for range 100 {
		mustAcquire(t, b, Hint{})
	}
	choose("")
	if up, total := g.Servers(); up != 3 || total != 3 {
		t.Errorf("Servers = %d, %d", up, total)
	}

	c, d := named(t, "c", 1, 2), named(t, "d", 2, 3)
	g = mustGroup(t, GroupConfig{Members: []Member{{Pool: c, Ratio: 1, Priority: 2}, {Pool: d, Ratio: 1, Priority: 1}}, MinServers: 2})
	choose("c")
	c.Servers()[0].Disable()
	choose("d")
	d.Servers()[0].Disable()
	d.Servers()[1].Disable()
	choose("c")

	short := mustPool(t, Config{Name: "short", Servers: servers(2), MinServersUp: 2})
	e := named(t, "e", 3, 1)
	g = mustGroup(t, GroupConfig{Members: []Member{{Pool: short, Ratio: 1, Priority: 2}, {Pool: e, Ratio: 1, Priority: 1}}})
	choose("short")
	short.Servers()[0].Disable()
	choose("e")
}

// What had to be left stays out of use until somebody says that it is in order
// again.
func TestGroupStayDown(t *testing.T) {
	a, b, c := named(t, "a", 1, 2), named(t, "b", 2, 1), named(t, "c", 3, 1)
	g := mustGroup(t, GroupConfig{StayDown: true, MinServers: 1, Members: []Member{
		{Pool: a, Ratio: 1, Priority: 3}, {Pool: b, Ratio: 1, Priority: 2}, {Pool: c, Ratio: 1, Priority: 1, Label: "last"},
	}})
	choose := func(want *Pool, h Hint) {
		t.Helper()
		if p, err := g.Select("", h); err != nil || p != want {
			t.Errorf("chose %v, %v, want %s", p, err, want.Name())
		}
	}
	unused := func(want ...*Pool) {
		t.Helper()
		if got := g.OutOfUse(); !slices.Equal(got, want) {
			t.Errorf("out of use: %v, want %v", got, want)
		}
	}
	bound := Hint{Server: a.Servers()[0].Addr()}
	var leases []Lease
	for range 200 {
		leases = append(leases, mustAcquire(t, a, Hint{}))
	}
	choose(b, Hint{}) // a is only full
	for _, l := range leases {
		l.Release(Outcome{})
	}
	choose(a, Hint{})
	unused()

	disableAll(a)
	if p, err := g.Select("last", Hint{}); err != nil || p != c {
		t.Errorf("by label: %v, %v", p, err)
	}
	unused() // nobody had to leave it yet
	choose(b, Hint{})
	unused(a)
	for _, s := range a.Servers() {
		s.Enable()
	}
	choose(b, Hint{})
	choose(b, bound)
	if reason := g.unmet(&bound); reason != ReasonDown {
		t.Errorf("the bound server is not taken because %v", reason)
	}
	disableAll(b)
	choose(c, Hint{})
	unused(a, b)
	disableAll(c)
	if p, err := g.Select("", Hint{}); !errors.Is(err, ErrNoServer) || errors.Is(err, ErrFull) {
		t.Errorf("with the last priority down: %v, %v", p, err)
	}
	unused(a, b)

	g.Reinstate()
	unused()
	choose(a, Hint{})
	choose(a, bound)
}

// Requests never come to a pool that is out of use, neither directly nor by way
// of its queue.
func TestGroupStayDownQueues(t *testing.T) {
	queue := Queue{Length: 10, Timeout: time.Minute}
	a := mustPool(t, Config{Name: "a", Servers: []ServerConfig{{Address: "10.0.1.1", MaxConnections: 1}}, Queue: queue})
	b := mustPool(t, Config{Name: "b", Servers: []ServerConfig{{Address: "10.0.2.1", MaxConnections: 1}}, Queue: queue})
	g := mustGroup(t, GroupConfig{StayDown: true, Members: []Member{{Pool: a, Ratio: 1, Priority: 2}, {Pool: b, Ratio: 1, Priority: 1}}})
	disableAll(a)
	if _, err := g.Select("", Hint{}); err != nil {
		t.Fatal(err)
	}
	a.Servers()[0].Enable()
	mustAcquire(t, b, Hint{})
	if p, err := g.Select("", Hint{}); !errors.Is(err, ErrFull) {
		t.Errorf("%v, %v, want an error that the group is full", p, err)
	}
	if p := g.queueing(""); p != b {
		t.Errorf("waits in the queue of %v", p)
	}
}

func TestGroupLabels(t *testing.T) {
	a, b, c := named(t, "a", 1, 1), named(t, "b", 2, 1), named(t, "c", 3, 1)
	g := mustGroup(t, GroupConfig{Members: []Member{{Pool: a, Ratio: 1, Priority: 3, Label: "site/a"}, {Pool: b, Ratio: 1, Priority: 2}, {Pool: c, Ratio: 1, Priority: 1, Label: "site/a"}}})
	for _, test := range []struct {
		label string
		want  *Pool
	}{{"", a}, {"site/a", a}, {"2", b}} {
		if p, err := g.Select(test.label, Hint{}); err != nil || p != test.want {
			t.Errorf("label %q: %v, %v", test.label, p, err)
		}
	}
	disableAll(a)
	if p, err := g.Select("site/a", Hint{}); err != nil || p != c {
		t.Errorf("the second pool with the label: %v, %v", p, err)
	}
	disableAll(c)
	if _, err := g.Select("site/a", Hint{}); !errors.Is(err, ErrNoServer) {
		t.Errorf("other labels do not take over: %v", err)
	}
	if _, err := g.Select("3", Hint{}); err == nil || err.Error() != `pool group "group": unknown priority label: "3"` {
		t.Errorf("unknown label: %v", err)
	}
}

// A group whose members are labelled with hosts and paths knew no label of a
// request.
func TestGroupImplicitLabels(t *testing.T) {
	root, foo := named(t, "root", 1, 1), named(t, "foo", 2, 1)
	members := []Member{{Pool: root, Ratio: 1, Priority: 2, Label: "a.example/"}, {Pool: foo, Ratio: 1, Priority: 1, Label: "a.example/foo"}}
	implicit := GroupConfig{Members: members, ImplicitLabels: true}
	fallback := GroupConfig{Members: members, ImplicitLabels: true, FallbackLabel: "a.example/"}
	for _, test := range []struct {
		name  string
		cfg   GroupConfig
		label string
		want  *Pool
	}{
		{"below", implicit, "a.example/foo/bar", foo},
		{"another segment", implicit, "a.example/foobar", root},
		{"unknown host", implicit, "b.example/x", nil},
		{"no label", implicit, "", root},
		{"fallback", fallback, "b.example/x", root},
		{"below, with a fallback", fallback, "a.example/foo/bar", foo},
		{"neither", GroupConfig{Members: members}, "a.example/foo/bar", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := mustGroup(t, test.cfg)
			p, err := g.Select(test.label, Hint{})
			if test.want != nil && (err != nil || p != test.want) {
				t.Errorf("%v, %v", p, err)
			}
			if want := fmt.Sprintf("pool group %q: unknown priority label: %q", "group", test.label); test.want == nil && (err == nil || err.Error() != want || g.CheckLabel(test.label) == nil) {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
	// The rules hold for later choices of the same request, too.
	g := mustGroup(t, fallback)
	if p, err := g.choose("a.example/foo/bar", &Hint{}, []*Pool{foo}); !errors.Is(err, ErrNoServer) && !errors.Is(err, ErrFull) {
		t.Errorf("another label took over: %v, %v", p, err)
	}
	queue := mustPool(t, Config{Name: "queue", Queue: Queue{Length: 1}, Servers: []ServerConfig{{Address: "10.9.0.1"}}})
	g = mustGroup(t, GroupConfig{Members: []Member{{Pool: queue, Ratio: 1, Label: "q.example"}}, ImplicitLabels: true})
	if p := g.queueing("q.example/x"); p != queue {
		t.Errorf("waits in %v", p)
	}
	if p := g.queueing("other.example/x"); p != nil {
		t.Errorf("waits in %v", p)
	}
}

func TestGroupLabelFaults(t *testing.T) {
	a, b := named(t, "a", 1, 1), named(t, "b", 2, 1)
	members := []Member{{Pool: a, Label: "a.example"}, {Pool: b, Label: "A.EXAMPLE/"}}
	_, err := NewGroup(GroupConfig{Name: "g", Members: members, ImplicitLabels: true, FallbackLabel: "none"})
	for _, want := range []string{`fallbackLabel: "none": no member has this label`, `members: labels "a.example" and "A.EXAMPLE/" are for the same host and path`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v has no word of %s", err, want)
		}
	}
}

// TestGroupSharesAreExact checks the order of turns: exact over a round, and
// never far from it.
func TestGroupSharesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.IntRange(1, 50), 1, 6).Draw(t, "ratios")
		cfg := GroupConfig{Name: "group"}
		total := 0
		for i, r := range list {
			p, err := New(Config{Name: fmt.Sprint(i), Servers: servers(1)})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Members = append(cfg.Members, Member{Pool: p, Ratio: r})
			total += r
		}
		g, err := NewGroup(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]int, len(list))
		for n := range 2 * total {
			p, err := g.Select("", Hint{})
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range cfg.Members {
				if m.Pool == p {
					got[i]++
				}
			}
			_ = n
		}
		for i, r := range list {
			if got[i] != 2*r {
				t.Fatalf("ratios %v: shares %v of two rounds", list, got)
			}
		}
	})
}

func TestGroupFaults(t *testing.T) {
	a := named(t, "a", 1, 1)
	_, err := NewGroup(GroupConfig{
		Members:    []Member{{Pool: a, Ratio: 1}, {}, {Pool: a, Ratio: -1}, {Pool: named(t, "b", 2, 1), Ratio: 1001}},
		MinServers: -1, FailAction: FailAction{Kind: 9},
	})
	want := strings.Join([]string{
		`name: missing`, `members[1].pool: missing`, `members[2].pool: "a": already the pool of members[0]`, `members[2].ratio: -1: negative`,
		`members[3].ratio: 1001: more than 1000`, `minServers: -1: less than 1`,
		`failAction.kind: 9: not one of respond, close, redirect, backup`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("NewGroup: %v, want\n%s", err, want)
	}
	if _, err := NewGroup(GroupConfig{Name: "g"}); err == nil || err.Error() != "members: missing" {
		t.Errorf("NewGroup: %v", err)
	}
}

func TestSetWithGroups(t *testing.T) {
	a, b := named(t, "a", 1, 2), named(t, "b", 2, 1)
	plain, err := NewSet(a)
	if err != nil {
		t.Fatal(err)
	}
	g := mustGroup(t, GroupConfig{Members: []Member{{Pool: a, Ratio: 1}, {Pool: b, Ratio: 1, Priority: 1}}})
	set, err := plain.WithGroups(g)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := set.Group("group"); !ok || got != g || g.Name() != "group" || len(g.Members()) != 2 || g.FailAction().Status != 503 {
		t.Error("the group is not there")
	}
	a.Servers()[0].Disable()
	if up, total, err := set.Servers("group"); up != 2 || total != 3 || err != nil {
		t.Errorf("Servers = %d, %d, %v", up, total, err)
	}
	for server, want := range map[string]bool{"b-1": true, "a-1": false, "a-2": true, "10.0.1.2": true, "nobody": false} {
		if up, err := set.ServerUp("group", server, 0); up != want || err != nil {
			t.Errorf("ServerUp(%q) = %t, %v", server, up, err)
		}
	}
	if addr, _, ok, err := set.Find("group", "a-1", 80); addr != netip.MustParseAddrPort("10.0.1.1:80") || !ok || err != nil {
		t.Errorf("Find = %s, %t, %v", addr, ok, err)
	}
	if _, _, ok, err := set.Find("group", "nobody", 80); ok || err != nil {
		t.Errorf("Find = %t, %v", ok, err)
	}
	for name, want := range map[string]*Pool{"a": a, "group": b} {
		if p, err := set.Select(name, "", Hint{}); err != nil || p != want {
			t.Errorf("Select(%q) = %v, %v", name, p, err)
		}
	}
	if _, err := set.Select("none", "", Hint{}); err == nil {
		t.Errorf("Select = %v", err)
	}
	other, err := NewGroup(GroupConfig{Name: "a", Members: []Member{{Pool: a, Ratio: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = set.WithGroups(other, g, nil)
	if want := "groups[0].name: \"a\": already the name of a pool\ngroups[1].name: \"group\": already the name of another group\ngroups[2]: missing"; err == nil || err.Error() != want {
		t.Errorf("WithGroups: %v, want %s", err, want)
	}
}

func TestFailActionFaults(t *testing.T) {
	for want, a := range map[string]FailAction{
		"status: 404: neither 200 nor 503":                     {Status: 404},
		"kind: 9: not one of respond, close, redirect, backup": {Kind: 9},
		"backup: missing":                                          {Kind: FailBackup},
		`redirect.host: "": not a host`:                            {Kind: FailRedirect},
		`redirect.host: "a/b": not a host`:                         {Kind: FailRedirect, Redirect: Redirect{Host: "a/b"}},
		`redirect.host: "a@b": not a host`:                         {Kind: FailRedirect, Redirect: Redirect{Host: "a@b"}},
		`redirect.scheme: "ftp": neither http nor https`:           {Kind: FailRedirect, Redirect: Redirect{Host: "h", Scheme: "ftp"}},
		`redirect.path: "x": does not begin with /`:                {Kind: FailRedirect, Redirect: Redirect{Host: "h", Path: "x"}},
		`redirect.query: "a#b": not a query`:                       {Kind: FailRedirect, Redirect: Redirect{Host: "h", Query: "a#b"}},
		`redirect.status: 200: not one of 301, 302, 303, 307, 308`: {Kind: FailRedirect, Redirect: Redirect{Host: "h", Status: 200}},
	} {
		_, err := New(Config{Name: "web", Servers: servers(1), FailAction: a})
		if want = `failAction.` + want; err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", a, err, want)
		}
	}
	p := mustPool(t, Config{Servers: servers(1), FailAction: FailAction{Body: []byte("sorry")}})
	want := FailAction{Status: 503, ContentType: "text/html; charset=utf-8", Body: []byte("sorry"), Redirect: Redirect{Scheme: "https", Status: 302}}
	if diff := cmp.Diff(want, p.FailAction()); diff != "" {
		t.Errorf("FailAction (-want +got):\n%s", diff)
	}
}

func TestRedirectLocation(t *testing.T) {
	for _, test := range []struct {
		redirect Redirect
		url      string
		want     string
	}{
		{Redirect{Host: "other.example"}, "/a%2Fb/c?q=1", "https://other.example/a%2Fb/c?q=1"},
		{Redirect{Host: "other.example:8443", Scheme: "http", Path: "/sorry"}, "/a?q=1", "http://other.example:8443/sorry?q=1"},
		{Redirect{Host: "[::1]:80", Query: "x=y"}, "/a?q=1", "https://[::1]:80/a?x=y"},
		{Redirect{Host: "h"}, "//evil.example/", "https://h//evil.example/"},
		{Redirect{Host: "h"}, "*", "https://h/%2A"},
	} {
		u, err := url.ParseRequestURI(test.url)
		if err != nil {
			u = &url.URL{Path: test.url}
		}
		p := mustPool(t, Config{Servers: servers(1), FailAction: FailAction{Kind: FailRedirect, Redirect: test.redirect}})
		if got := p.FailAction().Redirect.Location(u); got != test.want {
			t.Errorf("%+v, %s: %s, want %s", test.redirect, test.url, got, test.want)
		}
	}
}
