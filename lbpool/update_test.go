package lbpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustUpdate(t testing.TB, p *Pool, cfg Config) {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = p.Name()
	}
	if err := p.Update(cfg); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateKeepsWhatStays(t *testing.T) {
	list := servers(3)
	p := mustPool(t, Config{Servers: list})
	before := p.Servers()
	held := mustAcquire(t, p, Hint{Server: before[1].Addr()})
	if err := before[0].SetRatio(7); err != nil {
		t.Fatal(err)
	}
	before[2].Disable()
	list = []ServerConfig{{Address: "10.0.0.9", Name: "new"}, {Address: "10.0.0.3"}, {Address: "10.0.0.2:80", Name: "two", Ratio: 3, MaxConnections: 5}, {Address: "10.0.0.1"}}
	mustUpdate(t, p, Config{Servers: list})
	after := p.Servers()
	if after[1] != before[2] || after[2] != before[1] || after[3] != before[0] {
		t.Fatal("servers that stay became others")
	}
	if got := states(p); got != "up disabled up up" {
		t.Errorf("states %s", got)
	}
	s := after[2]
	if s.Name() != "two" || s.Ratio() != 3 || s.Open() != 1 || s.Stats().Requests != 1 {
		t.Errorf("server two: %q, ratio %d, %+v", s.Name(), s.Ratio(), s.Stats())
	}
	if found, _, ok := p.Lookup("TWO", 0); !ok || found != s {
		t.Error("not found by its new name")
	}
	if after[3].Ratio() != 7 {
		t.Errorf("the ratio set at run time is %d, want it kept", after[3].Ratio())
	}

	// What the configuration says anew counts; a server that goes lives on for
	// its leases.
	list = []ServerConfig{{Address: "10.0.0.1", Ratio: 2}, {Address: "10.0.0.3", Disabled: true}}
	mustUpdate(t, p, Config{Servers: list})
	if before[0].Ratio() != 2 || s.State() != Removed || before[2].State() != Disabled {
		t.Errorf("ratio %d, states %s and %s", before[0].Ratio(), s.State(), before[2].State())
	}
	if c := s.LastChange(); c.State != Removed || c.Cause != causeConfigured {
		t.Errorf("LastChange = %+v", c)
	}
	if l := mustAcquire(t, p, Hint{Server: s.Addr()}); l.Unmet != ReasonGone || l.Server != before[0] {
		t.Errorf("wanting a removed server: %s, unmet %q", l.Server.Name(), l.Unmet)
	}
	for range 3 { // nothing brings it back but Update
		s.Enable()
		s.Disable()
		s.Drain(time.Hour)
		if got := states(p); got != "up disabled" || s.State() != Removed {
			t.Fatalf("states %s, and %s", got, s.State())
		}
	}
	mustUpdate(t, p, Config{Servers: []ServerConfig{{Address: "10.0.0.2", MaxConnections: 1}, {Address: "10.0.0.3"}}})
	if back := p.Servers()[0]; back != s || back.State() != Up || !back.Full() {
		t.Errorf("back with a lease in use: the same %t, %s, full %t", back == s, back.State(), back.Full())
	}
	if got := states(p); got != "up up" {
		t.Errorf("the server that is no longer configured as disabled: %s", got)
	}
	held.Release(Outcome{})
	if s.Open() != 0 {
		t.Errorf("Open = %d", s.Open())
	}
}

func TestUpdateFaults(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(2)})
	for want, cfg := range map[string]Config{
		`name: "x": the name "web" cannot change`: {Name: "x", Servers: servers(1)},
		`servers: missing`:                        {Name: "web"},
		`servers[0].ratio: 99: more than 20`:      {Name: "web", Servers: ratios(99, 1, 1)},
	} {
		if err := p.Update(cfg); err == nil || err.Error() != want {
			t.Errorf("Update: %v, want %s", err, want)
		}
	}
	if n := len(p.Servers()); n != 2 {
		t.Errorf("%d servers after updates that were refused", n)
	}
	if err := p.Servers()[0].SetRatio(21); err == nil || err.Error() != `pool "web": server 10.0.0.1:80: ratio 21 is not within 1 to 20` {
		t.Errorf("SetRatio: %v", err)
	}
}

func TestUpdateKeepsAlgorithm(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(3)})
	a := p.current.Load().algorithm
	mustUpdate(t, p, Config{Servers: servers(2)})
	if p.current.Load().algorithm != a {
		t.Error("the default algorithm was replaced")
	}
	mustUpdate(t, p, Config{Servers: servers(2), Algorithm: RoundRobin()})
	mustUpdate(t, p, Config{Servers: servers(2)})
	if _, ok := p.current.Load().algorithm.(*leastConnections); !ok {
		t.Error("no algorithm is not least connections")
	}
}

func TestUpdateMonitors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, v := newWard(), newWard()
		cfg := Config{Servers: servers(2), HealthMonitors: []HealthMonitor{{Name: "w", Checker: w}}}
		p := mustPool(t, cfg)
		s := p.Servers()
		w.set(s[1], errSick)
		defer running(t, p)()
		time.Sleep(30 * time.Second)
		if got := states(p); got != "up down" {
			t.Fatalf("states %s", got)
		}
		// Another checker and a second monitor, which finds the first server
		// sick: it stays up until that is known.
		second := newWard()
		second.set(s[0], errSick)
		cfg.HealthMonitors = []HealthMonitor{{Name: "w", Checker: v, Interval: 5 * time.Second}, {Name: "second", Checker: second}}
		asked := len(w.times(s[0]))
		mustUpdate(t, p, cfg)
		if got := states(p); got != "up down" {
			t.Errorf("right after the update: %s", got)
		}
		time.Sleep(30 * time.Second)
		if got := states(p); got != "down up" {
			t.Errorf("later: %s", got)
		}
		if n := len(w.times(s[0])); n != asked {
			t.Errorf("the old checker was asked %d more times", n-asked)
		}
		if n := len(v.times(s[0])); n < 5 || n > 8 {
			t.Errorf("%d checks in 30 s at an interval of 5 s", n)
		}
		// A new server is used until it is checked; one that has gone is not
		// checked any more.
		cfg.Servers = []ServerConfig{{Address: "10.0.0.2"}, {Address: "10.0.0.7"}}
		mustUpdate(t, p, cfg)
		if got := states(p); got != "up unchecked" {
			t.Errorf("with a new server: %s", got)
		}
		checks := len(v.times(s[0]))
		time.Sleep(30 * time.Second)
		if got := states(p); got != "up up" || len(v.times(s[0])) != checks {
			t.Errorf("states %s, %d checks of a server that is gone", got, len(v.times(s[0]))-checks)
		}
		cfg.HealthMonitors = nil
		mustUpdate(t, p, cfg)
		checks = len(v.times(s[1]))
		time.Sleep(time.Minute)
		if got := states(p); got != "up up" || len(v.times(s[1])) != checks {
			t.Errorf("without monitors: %s, %d checks", got, len(v.times(s[1]))-checks)
		}
	})
}

// TestUpdateUnderLoad changes a pool a thousand times while it is used. No
// request may fail because of that.
func TestUpdateUnderLoad(t *testing.T) {
	for name := range algorithms() {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(7, 7))
			config := func() Config {
				cfg := Config{
					Name: "web", Algorithm: algorithms()[name], SlowStart: time.Duration(random.IntN(2)) * time.Millisecond,
					Queue: Queue{Length: random.IntN(3)}, HealthMonitors: []HealthMonitor{{Checker: healthy}}[:random.IntN(2)],
				}
				for _, i := range append(random.Perm(8)[:1+random.IntN(7)], 8) { // the last one stays, hence is healthy
					cfg.Servers = append(cfg.Servers, ServerConfig{Address: fmt.Sprintf("10.0.0.%d", i+1), Ratio: random.IntN(4), Disabled: i < 8 && random.IntN(4) == 0})
				}
				return cfg
			}
			first := config()
			first.HealthMonitors = nil
			p := mustPool(t, first)
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			var served atomic.Int64
			for range 4 {
				group.Go(func() {
					client := netip.MustParseAddr("192.0.2.1")
					for ctx.Err() == nil {
						client = client.Next()
						wanted := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, client.As4()[3]%9 + 1}), 80)
						l, err := p.AcquireWait(ctx, Hint{Client: client, Server: wanted})
						if err != nil {
							t.Errorf("after %d requests: %v", served.Load(), err)
							return
						}
						served.Add(1)
						l.Release(Outcome{Status: 200})
						runtime.Gosched() // the updates need the processor too
					}
				})
			}
			group.Go(func() { _ = p.Run(ctx) })
			for i := 0; i < 1000 || served.Load() < 1000 && !t.Failed(); i++ {
				if err := p.Update(config()); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			group.Wait()
			if n := open(p); n != 0 {
				t.Errorf("%d leases in use at the end", n)
			}
		})
	}
}

// TestUpdateUnderTraffic is the same with real servers, of which one half is in
// the pool and then the other.
func TestUpdateUnderTraffic(t *testing.T) {
	var addrs []netip.AddrPort
	for range 4 {
		addrs = append(addrs, newServerOn(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	}
	tr := newTransport(t)
	tr.Pool = mustPool(t, Config{Servers: at(addrs...)})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var served atomic.Int64
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				req := request(t.Context(), "POST", strings.NewReader("hello"), &Route{Pool: tr.Pool})
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(body) != "hello" {
					t.Errorf("%q, %v", body, err)
				}
				served.Add(1)
			}
		})
	}
	for i := 0; i < 500 || served.Load() < 500; i++ {
		mustUpdate(t, tr.Pool, Config{Servers: at(addrs[i%3], addrs[i%3+1])})
	}
	cancel()
	group.Wait()
}

func TestMinServersUp(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(3), MinServersUp: 2})
	s := p.Servers()
	s[0].Disable()
	mustAcquire(t, p, Hint{})
	s[1].Disable()
	for _, h := range []Hint{{}, {Server: s[2].Addr()}} {
		if _, err := p.Acquire(h); !errors.Is(err, ErrNoServer) || errors.Is(err, ErrFull) {
			t.Errorf("one server is up of two needed: %v", err)
		}
	}
	if st := p.Stats(); p.Up() || st.Up != 1 || st.Total != 3 || st.Open != 1 {
		t.Errorf("Up %t, %+v", p.Up(), st)
	}
	s[0].Enable()
	if !p.Up() {
		t.Error("two servers are up of two needed")
	}
}

func TestRepickAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		p := mustPool(t, Config{
			Servers: servers(2), HealthMonitors: []HealthMonitor{{Checker: w}}, Repick: RepickAfterFailures, RepickFailures: 4,
		})
		defer running(t, p)()
		time.Sleep(15 * time.Second)
		s := p.Servers()[0]
		w.set(s, errSick)
		time.Sleep(30 * time.Second)
		if s.State() != Down {
			t.Fatal(s.State())
		}
		wants := Hint{Server: s.Addr()}
		for i := range 4 {
			l := mustAcquire(t, p, wants)
			if l.Server != s || l.Unmet != ReasonNone {
				t.Fatalf("after %d failures: %s, unmet %q", i, l.Server.Name(), l.Unmet)
			}
			if i == 3 { // tried for this request already: no other yet
				wants := wants
				wants.Exclude = []*Server{s}
				var unavailable *unavailableError
				if _, err := p.Acquire(wants); !errors.As(err, &unavailable) || unavailable.Reason != ReasonDown {
					t.Errorf("excluded: %v", err)
				}
			}
			l.Release(Outcome{Err: errReset})
		}
		if l := mustAcquire(t, p, wants); l.Server == s || l.Unmet != ReasonDown {
			t.Errorf("after 4 failures: %s, unmet %q", l.Server.Name(), l.Unmet)
		}
		if l := mustAcquire(t, p, Hint{}); l.Server == s {
			t.Error("a new client was sent to a server that is down")
		}
		w.set(s, nil)
		time.Sleep(2 * time.Minute)
		w.set(s, errSick)
		time.Sleep(30 * time.Second)
		if l := mustAcquire(t, p, wants); l.Server != s {
			t.Error("failures of an earlier outage were counted")
		}
		s.Disable()
		if l := mustAcquire(t, p, wants); l.Unmet != ReasonDisabled {
			t.Errorf("disabled: unmet %q", l.Unmet)
		}
	})
}

func TestMaxRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []int{1, 5, 10, 100, 5000} {
			list := servers(1)
			list[0].MaxRate = rate
			p := mustPool(t, Config{Servers: list})
			granted := 0
			start := time.Now()
			for time.Since(start) < 10*time.Second {
				for {
					l, err := p.Acquire(Hint{})
					if err != nil {
						if !errors.Is(err, ErrFull) || !p.Servers()[0].Full() {
							t.Fatalf("Full %t, %v", p.Servers()[0].Full(), err)
						}
						break
					}
					granted++
					l.Release(Outcome{})
					if most := float64(rate)*time.Since(start).Seconds() + max(float64(rate)/10, 1) + 1; float64(granted) > most {
						t.Fatalf("rate %d: %d granted in %s", rate, granted, time.Since(start))
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			if granted < 10*rate-1 {
				t.Errorf("rate %d: %d granted in ten seconds", rate, granted)
			}
			if n := p.Servers()[0].Stats().Requests; n != uint64(granted) || open(p) != 0 {
				t.Errorf("%d requests counted of %d, %d open", n, granted, open(p))
			}
		}
	})
}

func TestEvents(t *testing.T) {
	var d diary
	p := mustPool(t, Config{Servers: servers(2), OnEvent: d.write, Passive: Passive{Failures: 1}})
	s := p.Servers()[0]
	fail(t, s, 1)
	mustUpdate(t, p, Config{Servers: servers(2)[1:], OnEvent: func(e Event) {
		p.Stats() // no lock is held
		d.write(e)
	}})
	var got []string
	for _, e := range d.events {
		got = append(got, fmt.Sprintf("%s %s-%s %s %v", e.Server.Addr(), e.From, e.Change.State, e.Change.Cause, e.Change.Err))
	}
	want := []string{
		"10.0.0.1:80 up-ejected passive connection reset by peer",
		"10.0.0.1:80 ejected-removed configured <nil>",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
