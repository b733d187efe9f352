package lbpool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTransportClaims is which server a request goes to when a binding names
// one after the choice.
func TestTransportClaims(t *testing.T) {
	const a, b, c = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
	for _, test := range []struct {
		name    string
		hint    string            // wanted
		down    string            // cannot be connected to
		off     string            // disabled
		answers map[string]string // of Claim, by chosen and failed; else chosen
		calls   string            // of Claim, as chosen/failed
		tried   string
		unmet   Reason
	}{
		{"agreed", "", "", "", nil, "1/-", "1", ReasonNone},
		{"another", "", "", "", map[string]string{"1/-": b}, "1/-", "2", ReasonNone},
		{"a hit asks nobody", c, "", "", nil, "", "3", ReasonNone},
		{"wanted one is out", c, "", c, nil, "1/-", "1", ReasonDisabled},
		{"wanted one is out, others have moved already", c, "", c, map[string]string{"1/-": b}, "1/-", "2", ReasonDisabled},
		{"named one is out", "", "", c, map[string]string{"1/-": c}, "1/- 1/3", "1", ReasonDisabled},
		{"three rounds at most", "", "", c, map[string]string{"1/-": c, "1/3": c}, "1/- 1/3 1/3", "1", ReasonDisabled},
		{"cannot be connected to", "", a, "", nil, "1/- 2/1", "1 2", ReasonNone},
		{"cannot be connected to, others have moved", "", a, "", map[string]string{"2/1": c}, "1/- 2/1", "1 3", ReasonNone},
		{"named one cannot be connected to", "", b, "", map[string]string{"1/-": b}, "1/- 1/2", "2 1", ReasonNone},
		{"named was tried", "", a, "", map[string]string{"2/1": a}, "1/- 2/1 2/1 2/1", "1 2", ReasonDown},
	} {
		t.Run(test.name, func(t *testing.T) {
			list := servers(3)
			list[0].MaxRate = 1000
			p := mustPool(t, Config{Servers: list, Algorithm: custom(func(up []*Server) *Server { return up[0] })})
			if s, _, ok := p.Lookup(test.off, 0); ok {
				s.Disable()
			}
			num := func(s *Server) string {
				if s == nil {
					return "-"
				}
				return s.Addr().Addr().String()[len("10.0.0."):]
			}
			calls := ""
			route := &Route{Pool: p, Claim: func(chosen, failed *Server) *Server {
				if chosen.Open() != 1 || p.Stats().Open != 1 {
					t.Errorf("%d leases, want one", p.Stats().Open)
				}
				call := num(chosen) + "/" + num(failed)
				if calls != "" {
					calls += " "
				}
				calls += call
				s, _, _ := p.Lookup(test.answers[call], 0)
				return s
			}}
			if test.hint != "" {
				route.Hint.Server = addrPort(test.hint)
			}
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == test.down {
					return nil, ErrConnect
				}
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})
			if _, err := (&Transport{Base: base}).RoundTrip(request(t.Context(), "GET", nil, route)); err != nil {
				t.Fatal(err)
			}
			tried := ""
			for i, s := range route.Servers {
				if i > 0 {
					tried += " "
				}
				tried += num(s)
			}
			if calls != test.calls || tried != test.tried || route.Unmet != test.unmet || route.Tried != len(route.Servers) {
				t.Errorf("claimed %q, tried %q, unmet %q; want %q, %q, %q", calls, tried, route.Unmet, test.calls, test.tried, test.unmet)
			}
			var requests uint64
			for _, s := range p.Servers() {
				requests += s.Stats().Requests
			}
			if requests != uint64(route.Tried) || open(p) != 0 {
				t.Errorf("%d requests and %d leases are left of %d tries", requests, open(p), route.Tried)
			}
		})
	}
}

// TestTransportClaimsInGroup: a binding names a server of another pool of the
// group.
func TestTransportClaimsInGroup(t *testing.T) {
	a, b := named(t, "a", 1, 1), named(t, "b", 2, 1)
	g := mustGroup(t, GroupConfig{Name: "g", Members: []Member{{Pool: a, Ratio: 1}, {Pool: b, Ratio: 1}}})
	route := &Route{Pool: a, Group: g, Claim: func(chosen, _ *Server) *Server { return b.Servers()[0] }}
	base := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	if _, err := (&Transport{Base: base}).RoundTrip(request(t.Context(), "GET", nil, route)); err != nil {
		t.Fatal(err)
	}
	if route.Pool != b || route.Server != b.Servers()[0] || open(a) != 0 || open(b) != 0 || a.Servers()[0].Stats().Requests != 0 {
		t.Errorf("pool %s, server %s", route.Pool.Name(), route.Server.Addr())
	}
}

// TestTransportClaimPanics: the lease goes back.
func TestTransportClaimPanics(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(1)})
	defer func() {
		if recover() == nil || open(p) != 0 {
			t.Errorf("%d leases are left", open(p))
		}
	}()
	_, _ = (&Transport{}).RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p, Claim: func(_, _ *Server) *Server { panic("claim") }}))
}

// TestSharedAddress has three servers at one address. Each client that is known
// by the bare address stays on one of them, and all are used. Once, all clients
// were on the first one.
func TestSharedAddress(t *testing.T) {
	p := mustPool(t, Config{Servers: []ServerConfig{{Address: "127.0.0.1:8081"}, {Address: "127.0.0.1:8082"}, {Address: "127.0.0.1:8083"}, {Address: "127.0.0.2:80"}}})
	s := p.Servers()
	bare := netip.MustParseAddrPort("127.0.0.1:0")
	take := func(tie string) *Server {
		l := mustAcquire(t, p, Hint{Server: bare, Tie: tie})
		if !l.Shared || l.Unmet != ReasonNone {
			t.Fatalf("shared %t, unmet %q", l.Shared, l.Unmet)
		}
		l.Release(Outcome{})
		return l.Server
	}
	used := map[*Server]int{}
	first := map[string]*Server{}
	for i := range 300 {
		tie := fmt.Sprint("client ", i)
		first[tie] = take(tie)
		used[first[tie]]++
	}
	for _, one := range s[:3] {
		if used[one] < 60 {
			t.Errorf("%d of 300 clients on %s", used[one], one.Addr())
		}
	}
	s[1].Disable()
	for tie, before := range first {
		if now := take(tie); now == s[1] || before != s[1] && now != before {
			t.Fatalf("%s moved from %s to %s", tie, before.Addr(), now.Addr())
		}
	}
	s[1].Enable()
	for tie, before := range first {
		if now := take(tie); now != before {
			t.Fatalf("%s did not come back to %s", tie, before.Addr())
		}
	}
	if l := mustAcquire(t, p, Hint{Server: s[2].Addr()}); l.Server != s[2] || l.Shared {
		t.Errorf("an address with a port is exact: %s, shared %t", l.Server.Addr(), l.Shared)
	}
	if l := mustAcquire(t, p, Hint{Server: netip.MustParseAddrPort("127.0.0.2:0")}); l.Server != s[3] || l.Shared {
		t.Errorf("an address that nobody shares is exact: %s, shared %t", l.Server.Addr(), l.Shared)
	}
	set, err := NewSet(p)
	if err != nil {
		t.Fatal(err)
	}
	for server, want := range map[string]bool{"127.0.0.1": true, "127.0.0.1:8082": false, "127.0.0.2": false} {
		if _, shared, ok, err := set.Find("web", server, 0); shared != want || !ok || err != nil {
			t.Errorf("Find(%q) = shared %t, %t, %v", server, shared, ok, err)
		}
	}
	if found, shared, ok := p.Lookup("127.0.0.1", 8083); found != s[2] || shared || !ok {
		t.Errorf("with its port: %s, shared %t", found.Addr(), shared)
	}
	// In a group the servers of all pools at the address take part.
	one := mustPool(t, Config{Name: "one", Servers: []ServerConfig{{Address: "127.0.0.1:1"}}})
	two := mustPool(t, Config{Name: "two", Servers: []ServerConfig{{Address: "127.0.0.1:2"}}})
	g := mustGroup(t, GroupConfig{Name: "g", Members: []Member{{Pool: one, Ratio: 1}, {Pool: two, Ratio: 1}}})
	pools := map[string]int{}
	for i := range 100 {
		got, err := g.Select("", Hint{Server: bare, Tie: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		pools[got.Name()]++
	}
	if _, shared, _ := g.Lookup("127.0.0.1", 0); pools["one"] < 20 || pools["two"] < 20 || !shared {
		t.Errorf("pools %v, shared %t", pools, shared)
	}
}

// TestDrainWhileNotKnown: a count that fails does not end a drain as if it were
// 0; and a remote store is asked less often.
func TestDrainWhileNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := servers(2)
		list[0].Name, list[0].Hostname = "a", "a.example"
		p := mustPool(t, Config{Servers: list, Drain: DrainPolicy{KeepBound: true}})
		defer running(t, p)()
		var mu sync.Mutex
		fault, asked, names := errors.New("store is away"), 0, ""
		defer p.CountBound(func(_ context.Context, servers ...string) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			names = fmt.Sprint(servers)
			return 0, fault
		}, 5*time.Second)()
		s := p.Servers()[0]
		s.Drain(time.Hour)
		time.Sleep(10 * time.Minute)
		mu.Lock()
		if s.State() != Draining || names != "[10.0.0.1:80 10.0.0.1 a a.example]" {
			t.Errorf("%s while nobody knows; asked for %s", s.State(), names)
		}
		if asked < 110 || asked > 130 {
			t.Errorf("asked %d times in ten minutes, want once in 5 s", asked)
		}
		fault = nil
		mu.Unlock()
		time.Sleep(10 * time.Second)
		if s.State() != Disabled {
			t.Errorf("%s once nobody is bound", s.State())
		}
		// The time-out ends it in any case.
		s.Enable()
		mu.Lock()
		fault = errors.New("store is away")
		mu.Unlock()
		s.Drain(time.Minute)
		time.Sleep(time.Minute + time.Second)
		if s.State() != Disabled {
			t.Errorf("%s after its time", s.State())
		}
	})
}
