package lbpool

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// diary collects events.
type diary struct {
	mu     sync.Mutex
	events []Event
}

func (d *diary) write(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

// drained returns the events of drains that are over.
func (d *diary) drained() (list []Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Drained {
			list = append(list, e)
		}
	}
	return list
}

func TestDrainTakesNoNewClients(t *testing.T) {
	for _, keep := range []bool{false, true} {
		p := mustPool(t, Config{Servers: servers(2), Drain: DrainPolicy{KeepBound: keep}})
		s := p.Servers()[0]
		held := mustAcquire(t, p, Hint{Server: s.Addr()})
		s.Drain(-1)
		if got := states(p); got != "draining up" {
			t.Fatalf("states %s", got)
		}
		if c := s.LastChange(); c.Cause != causeOperator || c.State != Draining {
			t.Errorf("LastChange = %+v", c)
		}
		for range 10 {
			if serve(t, p, Outcome{}) == s {
				t.Fatal("a draining server got a new client")
			}
		}
		bound := mustAcquire(t, p, Hint{Server: s.Addr()})
		if keep && (bound.Server != s || bound.Unmet != ReasonNone) || !keep && (bound.Server == s || bound.Unmet != ReasonDraining) {
			t.Errorf("keeping bound clients: %t; got %s, unmet %q", keep, bound.Server.Name(), bound.Unmet)
		}
		bound.Release(Outcome{})
		held.Release(Outcome{})
		// Without knowing who is bound, a pool that keeps bound clients waits.
		want := map[bool]string{false: "disabled up", true: "draining up"}[keep]
		if got := states(p); got != want {
			t.Errorf("after the last lease: %s, want %s", got, want)
		}
	}
}

func TestDrainIdleServerIsDisabledAtOnce(t *testing.T) {
	var d diary
	p := mustPool(t, Config{Servers: servers(2), OnEvent: d.write})
	s := p.Servers()[0]
	s.Drain(time.Hour)
	if got := states(p); got != "disabled up" {
		t.Errorf("states %s", got)
	}
	if c := s.LastChange(); c.Cause != causeDrained {
		t.Errorf("LastChange = %+v", c)
	}
	if list := d.drained(); len(list) != 1 || list[0].Server != s || list[0].From != Draining || list[0].Open != 0 {
		t.Errorf("events %+v", d.events)
	}
	s.Drain(time.Hour) // it is disabled already
	if got := states(p); got != "disabled up" {
		t.Errorf("draining a disabled server: %s", got)
	}
	s.Enable()
	if got := states(p); got != "up up" {
		t.Errorf("enabled: %s", got)
	}
}

func TestDrainTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		bound := func(netip.AddrPort) int { return 7 }
		p := mustPool(t, Config{Servers: servers(2), OnEvent: d.write, Drain: DrainPolicy{KeepBound: true, Bound: bound}})
		s := p.Servers()[0]
		held := mustAcquire(t, p, Hint{Server: s.Addr()})
		s.Drain(time.Minute)
		s.Drain(time.Hour) // another time
		time.Sleep(time.Hour - 1)
		if got := states(p); got != "draining up" {
			t.Fatalf("before its time: %s", got)
		}
		time.Sleep(time.Nanosecond)
		for range 4 { // nobody asks for its state: traffic alone notices
			serve(t, p, Outcome{})
		}
		want := []Event{{Drained: true, Server: s, From: Draining, Open: 1, Bound: 7, Change: Change{State: Disabled, At: time.Now(), Cause: causeDrained}}}
		if diff := cmp.Diff(want, d.drained(), cmp.Comparer(func(a, b *Server) bool { return a == b })); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if l := mustAcquire(t, p, Hint{Server: s.Addr()}); l.Unmet != ReasonDisabled {
			t.Errorf("after its time: unmet %q", l.Unmet)
		}
		held.Release(Outcome{Status: 200}) // was left alone
		if s.Open() != 0 {
			t.Errorf("Open = %d", s.Open())
		}
	})
}

// TestDrainCountsBoundClients is a drain that ends when the last entry has
// expired and the last request is over.
func TestDrainCountsBoundClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		var bound atomic.Int64
		bound.Store(3)
		var mu sync.Mutex
		var asked []netip.AddrPort
		p := mustPool(t, Config{
			Servers: servers(2), OnEvent: d.write,
			Drain: DrainPolicy{KeepBound: true, Bound: func(a netip.AddrPort) int {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, a)
				return int(bound.Load())
			}},
		})
		defer running(t, p)()
		s := p.Servers()[0]
		held := mustAcquire(t, p, Hint{Server: s.Addr()})
		s.Drain(-1)
		time.Sleep(10 * time.Second)
		held.Release(Outcome{})
		time.Sleep(10 * time.Second)
		if got := states(p); got != "draining up" || len(d.drained()) != 0 {
			t.Fatalf("with clients bound: %s, %+v", got, d.drained())
		}
		bound.Store(0)
		again := mustAcquire(t, p, Hint{Server: s.Addr()}) // the last request of the last client
		time.Sleep(10 * time.Second)
		if got := states(p); got != "draining up" {
			t.Fatalf("with a request under way: %s", got)
		}
		again.Release(Outcome{})
		time.Sleep(2 * drainPoll)
		if got := states(p); got != "disabled up" {
			t.Fatalf("with nobody left: %s", got)
		}
		if list := d.drained(); len(list) != 1 || list[0].Open != 0 || list[0].Bound != 0 {
			t.Errorf("events %+v", list)
		}
		mu.Lock()
		if n := len(asked); n < 8 || n > 30 || asked[0] != s.Addr() {
			t.Errorf("asked %d times in half a minute, for %s", n, asked[0])
		}
		n := len(asked)
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != n {
			t.Error("asks on although nothing drains")
		}
	})
}

// TestDrainRunAnnouncesTheEnd checks that Run notices the deadline without
// traffic.
func TestDrainRunAnnouncesTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		p := mustPool(t, Config{Servers: servers(2), OnEvent: d.write})
		defer running(t, p)()
		s := p.Servers()[0]
		mustAcquire(t, p, Hint{Server: s.Addr()})
		time.Sleep(time.Second)
		s.Drain(time.Minute)
		start := time.Now()
		time.Sleep(2 * time.Minute)
		if list := d.drained(); len(list) != 1 || list[0].Change.At.Sub(start) != time.Minute {
			t.Errorf("events %+v", list)
		}
	})
}

func TestDrainIsCheckedAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		p := mustPool(t, Config{Servers: servers(2), HealthMonitors: []HealthMonitor{{Checker: w}}, Drain: DrainPolicy{KeepBound: true}})
		defer running(t, p)()
		time.Sleep(20 * time.Second)
		s := p.Servers()[0]
		s.Drain(-1)
		w.set(s, errSick)
		time.Sleep(30 * time.Second)
		if l := mustAcquire(t, p, Hint{Server: s.Addr()}); s.State() != Down || l.Unmet != ReasonDown {
			t.Errorf("a draining server that is sick: %s, unmet %q", s.State(), l.Unmet)
		}
		w.set(s, nil)
		time.Sleep(2 * time.Minute)
		if s.State() != Draining {
			t.Errorf("well again: %s, want it to be draining still", s.State())
		}
		s.Enable()
		if s.State() != Up {
			t.Errorf("enabled: %s, want it up without waiting for checks", s.State())
		}
		s.Drain(0)
		if s.State() != Disabled {
			t.Errorf("drained in no time: %s", s.State())
		}
	})
}

func TestDrainRaces(t *testing.T) {
	var d diary
	p := mustPool(t, Config{Servers: servers(3), OnEvent: d.write})
	s := p.Servers()[0]
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				serve(t, p, Outcome{Status: 200})
			}
		})
	}
	for range 200 {
		s.Drain(time.Hour)
		for s.State() == Draining {
		}
		if s.State() != Disabled {
			t.Errorf("state %s", s.State())
		}
		s.Enable()
	}
	cancel()
	group.Wait()
	if n := len(d.drained()); n != 200 {
		t.Errorf("%d drains announced, want 200", n)
	}
}

// TestCountBound has several owners of entries count the clients of a draining
// server.
func TestCountBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, keep := range []bool{true, false} {
			var d diary
			p := mustPool(t, Config{Servers: servers(2), Drain: DrainPolicy{KeepBound: keep}, OnEvent: d.write})
			stop := running(t, p)
			counts := [3]atomic.Int64{}
			var stops []func()
			for i := range counts {
				counts[i].Store(int64(i) - 1) // not known, none, one
				stops = append(stops, p.CountBound(func(context.Context, ...string) (int, error) {
					p.Stats() // no lock is held
					return int(counts[i].Load()), nil
				}, 0))
			}
			s := p.Servers()[0]
			s.Drain(-1)
			time.Sleep(time.Minute)
			if !keep {
				if s.State() != Disabled {
					t.Errorf("bound clients go elsewhere, and the server is %s", s.State())
				}
				stop()
				continue
			}
			stops[0]()
			time.Sleep(time.Minute)
			if s.State() != Draining {
				t.Errorf("one client is left: %s", s.State())
			}
			counts[2].Store(0)
			time.Sleep(2 * drainPoll)
			if list := d.drained(); s.State() != Disabled || len(list) != 1 || list[0].Bound != 0 {
				t.Errorf("nobody is left: %s, %+v", s.State(), list)
			}
			// Without anybody who counts only the time-out ends it.
			stops[1]()
			stops[2]()
			s.Enable()
			s.Drain(time.Hour)
			time.Sleep(time.Hour - time.Second)
			if s.State() != Draining {
				t.Errorf("nobody counts: %s", s.State())
			}
			time.Sleep(2 * time.Second)
			if s.State() != Disabled {
				t.Errorf("after its time: %s", s.State())
			}
			stop()
		}
	})
}
