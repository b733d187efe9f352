package lbpool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func hashPool(t testing.TB, list []ServerConfig, cfg ConsistentHashConfig) *Pool {
	t.Helper()
	return mustPool(t, Config{Servers: list, Algorithm: ConsistentHash(cfg)})
}

// choices returns the server that each of n keys gets.
func choices(t testing.TB, p *Pool, n int) []netip.AddrPort {
	t.Helper()
	to := make([]netip.AddrPort, n)
	for i := range to {
		l := mustAcquire(t, p, Hint{Key: fmt.Sprintf("key-%d", i)})
		to[i] = l.Server.Addr()
		l.Release(Outcome{Status: 200})
	}
	return to
}

var byKey = ConsistentHashConfig{Key: HashCustom}

func TestConsistentHashMovesOnlyWhatMustMove(t *testing.T) {
	const keys = 40000
	for _, n := range []int{2, 3, 9, 20, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			list := servers(n + 1)
			p := hashPool(t, list[:n], byKey)
			before := choices(t, p, keys)
			if err := p.Update(Config{Name: "web", Servers: list, Algorithm: ConsistentHash(byKey)}); err != nil {
				t.Fatal(err)
			}
			after := choices(t, p, keys)
			added := p.Servers()[n].Addr()
			moved := 0
			for i := range before {
				if before[i] != after[i] {
					moved++
					if after[i] != added {
						t.Fatalf("key %d moved from %s to %s, which was there before", i, before[i], after[i])
					}
				}
			}
			if most := 1.1 * keys / float64(n+1); float64(moved) > most || moved == 0 {
				t.Errorf("%d of %d keys moved, more than %.0f", moved, keys, most)
			}
			// The other way round, by a change of state: only the keys of the
			// one that goes, and all come back.
			p.Servers()[0].Disable()
			gone := p.Servers()[0].Addr()
			for i, to := range choices(t, p, keys) {
				if to == gone || after[i] != gone && to != after[i] {
					t.Fatalf("key %d: %s, then %s without %s", i, after[i], to, gone)
				}
			}
			p.Servers()[0].Enable()
			if diff := cmp.Diff(after, choices(t, p, keys), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Error("keys did not come back")
			}
		})
	}
}

// TestConsistentHashShares compares the shares with the ratios by a chi-square
// test.
func TestConsistentHashShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.IntRange(1, maxRatio), 2, 20).Draw(t, "ratios")
		p, err := New(Config{Name: "web", Servers: ratios(list...), Algorithm: ConsistentHash(byKey)})
		if err != nil {
			t.Fatal(err)
		}
		const keys = 4000
		salt := rapid.Uint32().Draw(t, "salt")
		got := map[netip.AddrPort]int{}
		for i := range keys {
			l, err := p.Acquire(Hint{Key: fmt.Sprintf("%d/%d", salt, i)})
			if err != nil {
				t.Fatal(err)
			}
			got[l.Server.Addr()]++
			l.Release(Outcome{})
		}
		total := 0
		for _, r := range list {
			total += r
		}
		chi := 0.0
		for i, s := range p.Servers() {
			want := keys * float64(list[i]) / float64(total)
			chi += (float64(got[s.Addr()]) - want) * (float64(got[s.Addr()]) - want) / want
		}
		// The 1 - 1e-6 quantile, by Wilson and Hilferty: some hundred draws
		// must not fail by chance.
		df := float64(len(list) - 1)
		if limit := df * math.Pow(1-2/(9*df)+4.75*math.Sqrt(2/(9*df)), 3); chi > limit {
			t.Errorf("ratios %v, shares %v: chi-square %.1f, more than %.1f", list, got, chi, limit)
		}
	})
}

// TestConsistentHashRatioChange checks that a ratio that grows takes keys only
// to its own server.
func TestConsistentHashRatioChange(t *testing.T) {
	p := hashPool(t, ratios(2, 2, 2, 2), byKey)
	before := choices(t, p, 20000)
	if err := p.Servers()[1].SetRatio(3); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for i, to := range choices(t, p, 20000) {
		if to != before[i] {
			moved++
			if to != p.Servers()[1].Addr() {
				t.Fatalf("key %d moved to %s", i, to)
			}
		}
	}
	if want := 20000 * (3.0/9 - 2.0/8); math.Abs(float64(moved)-want) > 0.15*want {
		t.Errorf("%d keys moved, want about %.0f", moved, want)
	}
}

// TestConsistentHashBoundsLoad lets a few keys be very popular, and checks that
// no server gets much more than its share while the others are kept where they
// are.
func TestConsistentHashBoundsLoad(t *testing.T) {
	for _, factor := range []float64{0, 1.25, 3, -1} {
		t.Run(fmt.Sprint(factor), func(t *testing.T) {
			cfg := byKey
			cfg.LoadFactor = factor
			list := ratios(2, 2, 2, 2, 2, 2, 2, 2)
			p := hashPool(t, list, cfg)
			zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.5, 1, 1e6)
			const open = 2000
			for range open {
				mustAcquire(t, p, Hint{Key: fmt.Sprint(zipf.Uint64())})
			}
			if factor == 0 {
				factor = 2
			}
			worst := 0.0
			for _, s := range p.Servers() {
				fair := open * float64(s.Ratio()) / 16
				worst = max(worst, float64(s.Open())/fair)
			}
			switch {
			case factor < 0 && worst < 3.1:
				t.Errorf("the busiest server has %.2f times its share without a bound: the test tests nothing", worst)
			case factor > 0 && worst > factor*1.01:
				t.Errorf("the busiest server has %.2f times its share, more than %.2f", worst, factor)
			}
		})
	}
}

func TestConsistentHashFewRequestsStick(t *testing.T) {
	p := hashPool(t, servers(5), ConsistentHashConfig{})
	client := Hint{Client: netip.MustParseAddr("192.0.2.7")}
	first := mustAcquire(t, p, client)
	for range hashFloor - 1 {
		if l := mustAcquire(t, p, client); l.Server != first.Server {
			t.Fatalf("a client with %d requests under way was sent to another server", first.Server.Open())
		}
	}
	if l := mustAcquire(t, p, client); l.Server == first.Server {
		t.Errorf("%d requests of one client on one of 5 servers, and none on the others", l.Server.Open())
	}
}

func TestConsistentHashAtLimits(t *testing.T) {
	list := servers(4)
	for i := range list {
		list[i].MaxConnections = 1
	}
	p := hashPool(t, list, byKey)
	seen := map[*Server]bool{}
	for range 4 {
		seen[mustAcquire(t, p, Hint{Key: "k"}).Server] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d servers for four requests with the same key, want all four", len(seen))
	}
	if _, err := p.Acquire(Hint{Key: "k"}); err == nil {
		t.Error("all are full, yet one was found")
	}
}

func TestConsistentHashKeys(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	base := Hint{Client: a, ClientPort: 1000, Host: "h", Path: "/p", Header: "v", Key: "k"}
	edits := map[string]func(*Hint){
		"client": func(h *Hint) { h.Client = b }, "port": func(h *Hint) { h.ClientPort++ }, "host": func(h *Hint) { h.Host = "g" },
		"path": func(h *Hint) { h.Path = "/q" }, "header": func(h *Hint) { h.Header = "w" }, "key": func(h *Hint) { h.Key = "l" },
		"no client": func(h *Hint) { h.Client = netip.Addr{} },
	}
	tests := []struct {
		key  HashKey
		want map[string]bool // which edits change the key
	}{
		{HashClient, map[string]bool{"client": true, "no client": true}},
		{HashClientPort, map[string]bool{"client": true, "no client": true, "port": true}},
		{HashURI, map[string]bool{"host": true, "path": true}},
		{HashHeader, map[string]bool{"header": true}},
		{HashCustom, map[string]bool{"key": true}},
	}
	for _, test := range tests {
		a := ConsistentHash(ConsistentHashConfig{Key: test.key, Header: "X-A"}).(*consistentHash)
		for name, edit := range edits {
			h := base
			edit(&h)
			if changed := a.key(&h) != a.key(&base); changed != test.want[name] {
				t.Errorf("%s: another %s changes the key: %t, want %t", test.key, name, changed, test.want[name])
			}
		}
		// A request that lacks what is hashed goes by its client.
		byClient := ConsistentHash(ConsistentHashConfig{}).(*consistentHash)
		if lacking := (Hint{Client: b}); test.key != HashClientPort && a.key(&lacking) != byClient.key(&lacking) {
			t.Errorf("%s: a request without it does not go by its client", test.key)
		}
	}
}

func TestConsistentHashIgnorePort(t *testing.T) {
	for _, ignore := range []bool{true, false} {
		cfg := byKey
		cfg.IgnorePort = ignore
		p := hashPool(t, []ServerConfig{{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80"}, {Address: "10.0.0.3:80"}}, cfg)
		q := hashPool(t, []ServerConfig{{Address: "10.0.0.1:81"}, {Address: "10.0.0.2:82"}, {Address: "10.0.0.3:83"}}, cfg)
		same := true
		there := choices(t, q, 1000)
		for i, to := range choices(t, p, 1000) {
			same = same && to.Addr() == there[i].Addr()
		}
		if same != ignore {
			t.Errorf("ignoring ports: %t, all keys on the same address: %t", ignore, same)
		}
	}
}

func TestConsistentHashFaults(t *testing.T) {
	for want, cfg := range map[string]ConsistentHashConfig{
		`algorithm.key: 9: not one of client, client and port, uri, header, custom`: {Key: 9},
		`algorithm.header: "": not the name of a header`:                            {Key: HashHeader},
		`algorithm.loadFactor: 0.5: less than 1`:                                    {LoadFactor: 0.5},
		`algorithm.loadFactor: NaN: not a number`:                                   {LoadFactor: math.NaN()},
	} {
		if _, err := New(Config{Name: "web", Servers: servers(1), Algorithm: ConsistentHash(cfg)}); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", cfg, err, want)
		}
	}
}

func TestHintFor(t *testing.T) {
	client := addrPort("192.0.2.1:1234")
	r := &http.Request{Host: "h.example", URL: &url.URL{Path: "/a b", RawQuery: "q"}, Header: http.Header{"X-User": {"u1", "u2"}}}
	base := Hint{Client: client.Addr(), ClientPort: 1234, Host: "h.example", Path: "/a b"}
	compare := cmp.Comparer(func(a, b Hint) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
	p := hashPool(t, servers(1), ConsistentHashConfig{Key: HashHeader, Header: "x-user"})
	want := base
	want.Header = "u1"
	if diff := cmp.Diff(want, p.HintFor(r, client), compare); diff != "" || p.HashHeader() != "X-User" {
		t.Errorf("HashHeader %q, hint (-want +got):\n%s", p.HashHeader(), diff)
	}
	q := mustPool(t, Config{Servers: servers(1)})
	if diff := cmp.Diff(base, q.HintFor(r, client), compare); diff != "" || q.HashHeader() != "" {
		t.Errorf("HashHeader %q, hint (-want +got):\n%s", q.HashHeader(), diff)
	}
}

// TestHashTextIsFixed keeps the hash from changing: several load balancers, and
// releases, must agree.
func TestHashTextIsFixed(t *testing.T) {
	got := []uint64{hashText(""), hashText("a"), hashText("10.0.0.1:80"), hashText("a longer text, of several words"), hashAddr(netip.MustParseAddr("192.0.2.1"))}
	if diff := cmp.Diff(wantHashes, got); diff != "" {
		t.Errorf("hashes (-want +got):\n%s", diff)
	}
	if hashAddr(netip.MustParseAddr("::ffff:192.0.2.1")) != got[4] {
		t.Error("a mapped address hashes otherwise")
	}
}

var wantHashes = []uint64{
	16294208416658607535, 12609935244270955673, 5679793932990864269, 5181256020126028632, 6835560080900098272,
}
