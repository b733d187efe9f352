package lbpool

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func mustAdopt(t testing.TB, p, old *Pool) {
	t.Helper()
	if err := p.Adopt(old); err != nil {
		t.Fatal(err)
	}
}

// TestAdoptKeepsState puts pools that were built anew in the place of one in
// use: whatever that one knew is known.
func TestAdoptKeepsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		cfg := func(n int) Config {
			return Config{Name: "web", Servers: servers(n), SlowStart: time.Hour, HealthMonitors: []HealthMonitor{{Name: "w", Checker: w}}}
		}
		old := mustPool(t, cfg(6))
		s := old.Servers()
		w.set(s[1], errSick)
		stop := running(t, old)
		time.Sleep(time.Minute)
		fail(t, s[2], 3)
		s[3].Disable()
		held := mustAcquire(t, old, Hint{Server: s[4].Addr()})
		s[4].Drain(time.Hour)
		if err := s[5].SetRatio(7); err != nil {
			t.Fatal(err)
		}
		w.setDelay(time.Second) // Enable wakes the checks: the states are read before their results
		s[0].Disable()          // begins slow start anew
		s[0].Enable()
		const want = "unchecked down ejected disabled draining up"
		if got := states(old); got != want {
			t.Fatalf("before: %s", got)
		}
		requests, since := s[2].Stats(), s[1].LastChange()
		p := mustPool(t, cfg(7))
		own := p.Servers()
		mustAdopt(t, p, old)
		for name, q := range map[string]*Pool{"new": p, "old": old} {
			if got := states(q); got != want+" unchecked" {
				t.Errorf("%s handle: %s", name, got)
			}
		}
		for i, now := range p.Servers() {
			if i < len(s) && now != s[i] {
				t.Errorf("server %d is another", i)
			}
		}
		if st := p.Servers()[2].Stats(); st != requests {
			t.Errorf("stats %+v, want %+v", st, requests)
		}
		if c := own[1].LastChange(); c != since || own[1].State() != Down {
			t.Errorf("by the new pool's own server: %+v, want %+v", c, since)
		}
		if s[5].Ratio() != 7 || own[5].Ratio() != 7 || s[0].SlowStart() == 1 || own[4].Open() != 1 {
			t.Errorf("ratio %d and %d, slow start %v, %d open", s[5].Ratio(), own[5].Ratio(), s[0].SlowStart(), own[4].Open())
		}
		held.Release(Outcome{}) // ends the drain
		own[3].Enable()
		if got := states(old); got != "unchecked down ejected unchecked disabled up unchecked" {
			t.Errorf("later: %s", got)
		}
		// Both handles are good for everything; Run goes on, and a second one
		// waits its turn.
		stop2 := running(t, p)
		stop()
		time.Sleep(time.Minute)
		if got := states(p); got != "up down up up disabled up up" {
			t.Errorf("after checks: %s", got)
		}
		mustUpdate(t, old, cfg(2))
		if got := states(p); got != "up down" {
			t.Errorf("updated by the old handle: %s", got)
		}
		stop2()
	})
}

// TestAdoptMonitors: findings hold only if they are those of the same monitor.
func TestAdoptMonitors(t *testing.T) {
	for _, test := range []struct {
		name     string
		old, new HealthMonitor
		down     bool
		want     string
	}{
		{name: "built anew, and equal", old: HealthMonitor{Checker: &HTTPChecker{Path: "/a"}}, new: HealthMonitor{Checker: &HTTPChecker{Path: "/a", Method: "GET"}}, want: "up down"},
		{name: "another path", old: HealthMonitor{Checker: &HTTPChecker{Path: "/a"}}, new: HealthMonitor{Checker: &HTTPChecker{Path: "/b"}}, want: "unchecked unchecked"},
		{name: "another port", old: HealthMonitor{Checker: &TCPChecker{}}, new: HealthMonitor{Checker: &TCPChecker{}, Port: 9}, want: "unchecked unchecked"},
		{name: "another name", old: HealthMonitor{Name: "a", Checker: &TCPChecker{}}, new: HealthMonitor{Name: "b", Checker: &TCPChecker{}}, want: "unchecked unchecked"},
		{name: "other thresholds", old: HealthMonitor{Checker: &TCPChecker{Send: "x"}}, new: HealthMonitor{Checker: &TCPChecker{Send: "x"}, Failures: 9}, want: "up down"},
		{name: "functions", old: HealthMonitor{Checker: CheckerFunc(newWard().Check)}, new: HealthMonitor{Checker: CheckerFunc(newWard().Check)}, want: "unchecked unchecked"},
		{name: "another, starting down", down: true, old: HealthMonitor{Checker: &TCPChecker{}}, new: HealthMonitor{Checker: &HTTPChecker{}}, want: "up down"},
	} {
		t.Run(test.name, func(t *testing.T) {
			old := mustPool(t, Config{Servers: servers(2), HealthMonitors: []HealthMonitor{test.old}})
			old.update(time.Now(), causeMonitor, "", nil, func() bool {
				for i, s := range old.latest.servers {
					s.checks[0].known, s.checks[0].up = true, i == 0
				}
				return true
			})
			p := mustPool(t, Config{Servers: servers(2), StartDown: test.down, HealthMonitors: []HealthMonitor{test.new}})
			mustAdopt(t, p, old)
			if got := states(p); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	cfg := Config{Servers: servers(1)}
	a, b, c, d := mustPool(t, cfg), mustPool(t, cfg), mustPool(t, cfg), mustPool(t, cfg)
	for _, step := range []struct {
		what   string
		p, old *Pool
		ok     bool
	}{
		{"itself", a, a, true},
		{"the first", b, a, true},
		{"the same again", b, a, true},
		{"the other way round", a, b, true},
		{"what another has adopted", c, a, false},
		{"the next generation", c, b, true},
		{"what it has adopted by another", c, a, true},
		{"a second one", c, d, false},
	} {
		if err := step.p.Adopt(step.old); (err == nil) != step.ok {
			t.Errorf("%s: %v", step.what, err)
		}
	}
	renamed, old := mustPool(t, Config{Name: "new", Servers: servers(1)}), mustPool(t, cfg)
	mustAdopt(t, renamed, old)
	if renamed.Name() != "new" || old.Name() != "new" {
		t.Errorf("names %q and %q", renamed.Name(), old.Name())
	}
}

// TestAdoptByHand: what was said about servers by hand stands, last by those of
// the new pool.
func TestAdoptByHand(t *testing.T) {
	list := servers(3)
	list[2].Disabled = true
	old, p := mustPool(t, Config{Servers: list}), mustPool(t, Config{Servers: list})
	old.Servers()[0].Disable()
	old.Servers()[2].Enable()
	p.Servers()[1].Disable()
	_ = p.Servers()[0].SetRatio(3)
	mustAdopt(t, p, old)
	if got := states(p); got != "disabled disabled up" || p.Servers()[0].Ratio() != 3 {
		t.Errorf("%s, ratio %d", got, p.Servers()[0].Ratio())
	}
}

// TestAdoptQueue adopts a pool in whose queue, and in the queue of the new one,
// requests wait: they are served in order, by servers that have got room.
func TestAdoptQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := func(n int) Config {
			return Config{Servers: limited(n), Queue: Queue{Length: 9, Order: FirstInFirstOut}}
		}
		old, p := mustPool(t, cfg(1)), mustPool(t, cfg(2))
		held := []Lease{mustAcquire(t, old, Hint{}), mustAcquire(t, p, Hint{}), mustAcquire(t, p, Hint{})}
		var mu sync.Mutex
		var order []int
		for i, q := range []*Pool{old, old, old, p} {
			go func() {
				l, err := q.AcquireWait(t.Context(), Hint{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Second)
				l.Release(Outcome{})
			}()
			synctest.Wait()
		}
		mustAdopt(t, p, old)
		synctest.Wait()
		mu.Lock()
		served := len(order)
		mu.Unlock()
		if n := p.Stats().Waiting; n != 3 || served != 1 {
			t.Errorf("%d wait and %d are served, want three and one: there is one more place", n, served)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 4 || order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Errorf("served in order %v", order)
		}
		for _, l := range held {
			l.Release(Outcome{})
		}
		if st := old.Stats(); st.Open != 0 || st.Waiting != 0 || p.waiting.Load() != 0 {
			t.Errorf("left over: %+v", st)
		}
	})
}

// TestAdoptDiscovery: what was found stands, a finder that is the same is not
// asked again, another one at once.
func TestAdoptDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked [2]atomic.Int64
		finder := func(i int) Finder {
			return &countingFinder{asked: &asked[i], found: servers(2 + i)}
		}
		first := finder(0)
		cfg := func(f Finder) Config {
			return Config{Discoveries: []Discovery{{Name: "d", Finder: f, Interval: time.Hour}}}
		}
		old := mustPool(t, cfg(first))
		defer running(t, old)()
		synctest.Wait()
		p := mustPool(t, cfg(first))
		mustAdopt(t, p, old)
		synctest.Wait()
		if n := asked[0].Load(); states(p) != "up up" || n != 1 {
			t.Errorf("the same finder: %s, asked %d times", states(p), n)
		}
		next := mustPool(t, cfg(finder(1)))
		mustAdopt(t, next, p)
		if states(next) != "up up" {
			t.Errorf("before the new one has answered: %s", states(next))
		}
		synctest.Wait()
		if n := asked[1].Load(); states(old) != "up up up" || n != 1 {
			t.Errorf("another finder: %s, asked %d times", states(old), n)
		}
	})
}

// countingFinder always has the same text.
type countingFinder struct {
	asked *atomic.Int64
	found []ServerConfig
}

func (f *countingFinder) Find(context.Context) ([]ServerConfig, error) {
	f.asked.Add(1)
	return f.found, nil
}

func (f *countingFinder) String() string { return "finder" }

// TestUpdateAsksAnotherFinder: a finder was the same for having the same text,
// and the new one was asked an interval later.
func TestUpdateAsksAnotherFinder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		cfg := Config{Discoveries: []Discovery{{Name: "d", Finder: &countingFinder{&asked, servers(1)}, Interval: time.Hour}}}
		p := mustPool(t, cfg)
		defer running(t, p)()
		synctest.Wait()
		cfg.Discoveries[0].Finder = &countingFinder{&asked, servers(2)}
		mustUpdate(t, p, cfg)
		synctest.Wait()
		if states(p) != "up up" || asked.Load() != 2 {
			t.Errorf("%s after %d questions", states(p), asked.Load())
		}
	})
}

// TestUpdateAsksAnotherChecker: the same for a health monitor that has got
// another checker, or another port.
func TestUpdateAsksAnotherChecker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, v := newWard(), newWard()
		cfg := Config{Servers: servers(1), HealthMonitors: []HealthMonitor{{Name: "m", Checker: w, Interval: time.Hour}}}
		p := mustPool(t, cfg)
		defer running(t, p)()
		time.Sleep(10 * time.Minute)
		cfg.HealthMonitors[0].Checker = v
		mustUpdate(t, p, cfg)
		synctest.Wait()
		if n := len(v.times(p.Servers()[0])); n != 1 {
			t.Errorf("the new checker was asked %d times", n)
		}
		mustUpdate(t, p, cfg)
		synctest.Wait()
		if n := len(v.times(p.Servers()[0])); n != 1 {
			t.Errorf("the same checker was asked %d times", n)
		}
	})
}

// TestSame compares finders and checkers that were built anew.
func TestSame(t *testing.T) {
	for name, test := range map[string]struct {
		got, want bool
	}{
		"dns, equal":               {same[Finder](&DNSFinder{Name: "a"}, &DNSFinder{Name: "a", Network: "ip"}), true},
		"dns, other name":          {same[Finder](&DNSFinder{Name: "a"}, &DNSFinder{Name: "b"}), false},
		"dns, other server":        {same[Finder](&DNSFinder{Name: "a"}, &DNSFinder{Name: "a", Server: ServerConfig{Ratio: 2}}), false},
		"dns, other resolver":      {same[Finder](&DNSFinder{Name: "a"}, &DNSFinder{Name: "a", Resolver: halfDeaf{}}), false},
		"other kinds":              {same[Finder](&DNSFinder{Name: "a"}, &countingFinder{}), false},
		"functions":                {same[Finder](FinderFunc(nil), FinderFunc(nil)), false},
		"comparable values":        {same[Checker](valueChecker{1}, valueChecker{1}), true},
		"different values":         {same[Checker](valueChecker{1}, valueChecker{2}), false},
		"values with a slice":      {same[Checker](valueChecker{[]int{1}}, valueChecker{[]int{1}}), false},
		"http, other header":       {same[Checker](&HTTPChecker{}, &HTTPChecker{Header: map[string][]string{"A": {"b"}}}), false},
		"http, equal header":       {same[Checker](&HTTPChecker{Header: map[string][]string{"A": {"b"}}}, &HTTPChecker{Header: map[string][]string{"A": {"b"}}}), true},
		"http, nothing is allowed": {same[Checker](&HTTPChecker{}, &HTTPChecker{Accept: []StatusRange{}}), false},
	} {
		if test.got != test.want {
			t.Errorf("%s: %t", name, test.got)
		}
	}
}

type valueChecker struct{ v any }

func (valueChecker) Check(context.Context, netip.AddrPort) error { return nil }

// TestAdoptUnderTraffic adopts pool after pool at random moments, by whichever
// handle, while requests go on by all of them: none fails, since one server is
// always good, and no lease is left.
func TestAdoptUnderTraffic(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 1<<12-1), 1, 25).Draw(r, "steps")
		synctest.Test(t, func(t *testing.T) {
			w := newWard()
			build := func(step int) *Pool {
				cfg := Config{Name: "web", Servers: limited(0, 2, 3, 1)[:1+step%4], Queue: Queue{Length: 100}}
				switch step / 4 % 3 {
				case 0:
					cfg.HealthMonitors = []HealthMonitor{{Name: "w", Checker: w, Interval: time.Second}}
				case 1:
					cfg.HealthMonitors = []HealthMonitor{{Name: "v", Checker: CheckerFunc(w.Check), Interval: time.Second}}
				}
				return mustPool(t, cfg)
			}
			var mu sync.Mutex
			pools := []*Pool{build(steps[0])}
			list := pools[0].Servers()
			draw := func() (*Pool, Hint) {
				mu.Lock()
				defer mu.Unlock()
				var h Hint
				if rand.N(2) == 0 {
					h.Server = list[rand.N(len(list))].Addr()
				}
				return pools[rand.N(len(pools))], h
			}
			ctx, cancel := context.WithCancel(context.Background())
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					for ctx.Err() == nil {
						p, h := draw()
						l, err := p.AcquireWait(ctx, h)
						if err != nil {
							if !errors.Is(err, context.Canceled) {
								r.Errorf("AcquireWait: %v", err)
							}
							continue
						}
						time.Sleep(time.Duration(rand.N(300)) * time.Millisecond)
						l.Release(Outcome{Status: 200})
					}
				})
			}
			run := func(p *Pool) { group.Go(func() { _ = p.Run(ctx) }) }
			run(pools[0])
			for _, step := range steps[1:] {
				time.Sleep(time.Duration(step%700) * time.Millisecond)
				latest := pools[len(pools)-1]
				switch step % 5 {
				case 0, 1, 2:
					p := build(step / 5)
					if step%2 == 0 {
						run(p)
					}
					if step%3 == 0 { // it is in use already
						l := mustAcquire(t, p, Hint{})
						defer l.Release(Outcome{})
					}
					mustAdopt(t, p, latest)
					mu.Lock()
					pools = append(pools, p)
					list = append(list, p.Servers()...)
					mu.Unlock()
				case 3:
					if s := list[step%len(list)]; s.Addr() != list[0].Addr() {
						s.Disable()
					}
				case 4:
					if s := list[step%len(list)]; s.Addr() != list[0].Addr() {
						w.set(s, errSick)
					}
				}
			}
			cancel()
			group.Wait()
			for _, p := range pools {
				if st := p.Stats(); st.Open != 0 || st.Waiting != 0 || p.waiting.Load() != 0 {
					r.Errorf("left over: %+v", st)
				}
			}
			for _, s := range list {
				if s.Open() != 0 {
					r.Errorf("%d leases of %s are left", s.Open(), s.Addr())
				}
			}
		})
	})
}
