package lbpool

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// algorithms returns fresh built-in algorithms by name.
func algorithms() map[string]Algorithm {
	return map[string]Algorithm{
		"round robin": RoundRobin(), "least connections": LeastConnections(), "consistent hash": ConsistentHash(ConsistentHashConfig{}),
		"fastest response": FastestResponse(), "least load": LeastLoad(), "fewest servers": FewestServers(0), "random two": RandomTwo(),
	}
}

func TestRoundRobinOrder(t *testing.T) {
	tests := []struct {
		ratios []int
		want   string
	}{
		{[]int{1}, "aaaa"},
		{[]int{1, 1, 1}, "abcabcabc"},
		{[]int{2, 2}, "abababab"},
		{[]int{4, 1}, "aabaaaabaa"},
		{[]int{1, 4}, "bbabbbbabb"},
		{[]int{2, 1, 1}, "abcaabca"},
		{[]int{3, 2, 1}, "abacba" + "abacba"}, // at 1/6, 1/4, 1/2 (a, c), 3/4, 5/6
	}
	for _, test := range tests {
		for _, name := range []string{"round robin", "least connections", "least load"} {
			p := mustPool(t, Config{Servers: ratios(test.ratios...), Algorithm: algorithms()[name]})
			var got strings.Builder
			for range len(test.want) {
				i := serve(t, p, Outcome{}).Addr().Addr().As4()[3]
				got.WriteByte('a' + i - 1)
			}
			if got.String() != test.want {
				t.Errorf("%s, ratios %v: %s, want %s", name, test.ratios, got.String(), test.want)
			}
		}
	}
}

// TestRoundRobinShares checks that every round is exact, and that it is smooth:
// at any time within it, each server has had its share give or take one turn.
func TestRoundRobinShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.IntRange(1, maxRatio), 1, 40).Draw(t, "ratios")
		p, err := New(Config{Name: "web", Servers: ratios(list...), Algorithm: RoundRobin()})
		if err != nil {
			t.Fatal(err)
		}
		index := map[*Server]int{}
		total := 0
		for i, s := range p.Servers() {
			index[s] = i
			total += list[i]
		}
		turns := make([]int, len(list))
		for n := range 2 * total {
			l, err := p.Acquire(Hint{})
			if err != nil {
				t.Fatal(err)
			}
			turns[index[l.Server]]++
			l.Release(Outcome{})
			// Exactly on the moment, list order decides, so that n servers with
			// a turn at the same moment are n turns apart.
			slack := float64(len(list))/float64(total)*float64(list[index[l.Server]]) + 1
			want := float64(n+1) * float64(list[index[l.Server]]) / float64(total)
			if diff := float64(turns[index[l.Server]]) - want; diff > slack || diff < -slack {
				t.Fatalf("after %d turns server %d (ratio %d) had %d, want about %.1f", n+1, index[l.Server], list[index[l.Server]], turns[index[l.Server]], want)
			}
		}
		for i, n := range turns {
			if n != 2*list[i] {
				t.Fatalf("server %d: %d turns in two rounds, want %d", i, n, 2*list[i])
			}
		}
	})
}

func TestRoundRobinIsExactWithManyGoroutines(t *testing.T) {
	p := mustPool(t, Config{Servers: ratios(1, 2, 5, 20), Algorithm: RoundRobin()})
	var mu sync.Mutex
	got := map[int]int{}
	var group sync.WaitGroup
	for range 7 {
		group.Go(func() {
			mine := map[int]int{}
			for range 28 * 10 {
				l, err := p.Acquire(Hint{})
				if err != nil {
					t.Error(err)
					return
				}
				mine[l.Server.Ratio()]++
				l.Release(Outcome{})
			}
			mu.Lock()
			defer mu.Unlock()
			for r, n := range mine {
				got[r] += n
			}
		})
	}
	group.Wait()
	if want := map[int]int{1: 70, 2: 140, 5: 350, 20: 1400}; !maps.Equal(got, want) {
		t.Errorf("shares %v, want %v", got, want)
	}
}

// TestLeastConnectionsShares checks the steady state: with leases held, open
// counts are as the ratios, rounding aside.
func TestLeastConnectionsShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.IntRange(1, maxRatio), 1, 30).Draw(t, "ratios")
		rounds := rapid.IntRange(1, 5).Draw(t, "rounds")
		p, err := New(Config{Name: "web", Servers: ratios(list...)})
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, r := range list {
			total += r
		}
		for range total * rounds {
			if _, err := p.Acquire(Hint{}); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range p.Servers() {
			if s.Open() != rounds*list[i] {
				t.Fatalf("server %d: %d open, want %d (ratios %v)", i, s.Open(), rounds*list[i], list)
			}
		}
	})
}

// A pool without an algorithm avoids the server that is busy.
func TestLeastConnectionsIsTheDefault(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(2)})
	busy := mustAcquire(t, p, Hint{}).Server
	for range 4 {
		if serve(t, p, Outcome{}) == busy {
			t.Error("the busy server was taken")
		}
	}
}

func TestLeastConnectionsRotatesTies(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(3)})
	for _, s := range p.Servers() {
		mustAcquire(t, p, Hint{Server: s.Addr()})
	}
	seen := map[*Server]int{}
	for range 9 {
		seen[serve(t, p, Outcome{})]++
	}
	for _, s := range p.Servers() {
		if seen[s] != 3 {
			t.Errorf("%s got %d of 9 tied requests, want 3", s.Name(), seen[s])
		}
	}
}

// custom is an algorithm that knows nothing of full and excluded servers.
type custom func(up []*Server) *Server

func (c custom) Choose(up []*Server, _ Hint) *Server { return c(up) }

func TestCustomAlgorithm(t *testing.T) {
	first := custom(func(up []*Server) *Server { return up[0] })
	list := servers(4)
	list[1].MaxConnections = 1
	p := mustPool(t, Config{Servers: list, Algorithm: first})
	all := p.Servers()
	mustAcquire(t, p, Hint{Server: all[1].Addr()}) // full now
	all[2].Disable()
	if l := mustAcquire(t, p, Hint{Exclude: all[:1]}); l.Server != all[3] {
		t.Errorf("got %s, want the only server that is up, not full and not excluded", l.Server.Name())
	}

	for name, choose := range map[string]custom{
		"nothing": func([]*Server) *Server { return nil },
		"a server of another pool": func() custom {
			other := mustPool(t, Config{Servers: servers(1)}).Servers()[0]
			return func([]*Server) *Server { return other }
		}(),
		"a full server that is not in the list": func() custom {
			var kept *Server
			return func(up []*Server) *Server {
				if kept == nil {
					kept = up[0]
					kept.reserve()
					kept.Disable()
				}
				return kept
			}
		}(),
	} {
		list := servers(3)
		list[0].MaxConnections = 1
		p := mustPool(t, Config{Servers: list, Algorithm: choose})
		if l, err := p.Acquire(Hint{}); err == nil {
			t.Errorf("an algorithm that chooses %s: got %s", name, l.Server.Name())
		}
	}
}

func BenchmarkAcquire(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		for _, load := range []string{"idle", "busy"} {
			for _, name := range slices.Sorted(maps.Keys(algorithms())) {
				p := mustPool(b, Config{Servers: servers(n), Algorithm: algorithms()[name]})
				if load == "busy" {
					for i := range 5 * n / 2 { // two or three on each server
						mustAcquire(b, p, Hint{Server: p.Servers()[i%n].addr})
					}
				}
				b.Run(fmt.Sprintf("%s/servers=%d/%s", strings.ReplaceAll(name, " ", ""), n, load), func(b *testing.B) {
					b.ReportAllocs()
					client := netip.MustParseAddr("192.0.2.1")
					b.RunParallel(func(pb *testing.PB) {
						client := client
						for pb.Next() {
							client = client.Next()
							l, err := p.Acquire(Hint{Client: client})
							if err != nil {
								b.Error(err)
								return
							}
							l.Release(Outcome{Status: 200, FirstByte: 1000})
						}
					})
				})
			}
		}
	}
}
