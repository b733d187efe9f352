package lbpool

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// restored is a new pool with the state of another one, as in another process.
func restored(t *testing.T, old *Pool, cfg Config) *Pool {
	t.Helper()
	state, err := old.MarshalState()
	if err != nil {
		t.Fatal(err)
	}
	p := mustPool(t, cfg)
	if err := p.RestoreState(state); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRestoreState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		cfg := func(n int) Config {
			return Config{Name: "web", Servers: servers(n), SlowStart: time.Hour, HealthMonitors: []HealthMonitor{{Name: "w", Checker: w}}}
		}
		old := mustPool(t, cfg(7))
		s := old.Servers()
		w.set(s[1], errSick)
		stop := running(t, old)
		time.Sleep(time.Minute)
		s[3].Disable()
		held := mustAcquire(t, old, Hint{Server: s[4].Addr()})
		defer held.Release(Outcome{})
		s[4].Drain(time.Hour)
		if err := s[5].SetRatio(7); err != nil {
			t.Fatal(err)
		}
		w.set(s[6], errSick)
		time.Sleep(time.Minute) // it goes down
		w.set(s[6], nil)
		time.Sleep(time.Minute)
		stop()
		fail(t, s[2], 3)
		const want = "up down ejected disabled draining up up"
		if got := states(old); got != want {
			t.Fatalf("before: %s", got)
		}

		p := restored(t, old, cfg(8))
		if got := states(p); got != want+" unchecked" {
			t.Errorf("after: %s", got)
		}
		now := p.Servers()
		for i := range s {
			a, b := s[i].LastChange(), now[i].LastChange()
			if a.State != b.State || a.Cause != b.Cause || a.Monitor != b.Monitor || !a.At.Equal(b.At) || (a.Err == nil) != (b.Err == nil) {
				t.Errorf("server %d: %+v, was %+v", i, b, a)
			}
			if a, b := s[i].SlowStart(), now[i].SlowStart(); a != b {
				t.Errorf("server %d: slow start %v, was %v", i, b, a)
			}
		}
		if now[5].Ratio() != 7 || now[6].SlowStart() == 1 {
			t.Errorf("ratio %d, slow start %v", now[5].Ratio(), now[6].SlowStart())
		}
		time.Sleep(2 * time.Hour) // the drain ends, and the ejection
		if got := states(p); got != "up down up disabled disabled up up unchecked" {
			t.Errorf("later: %s", got)
		}

		// What is configured otherwise applies.
		other := cfg(7)
		other.Servers[3].Disabled, other.Servers[5].Ratio = true, 3
		other.HealthMonitors[0].Name = "another"
		p = restored(t, old, other)
		p.Servers()[3].Enable()
		again := restored(t, p, other)
		if got := states(again); got != "unchecked unchecked unchecked unchecked disabled unchecked unchecked" || again.Servers()[5].Ratio() != 3 {
			t.Errorf("configured otherwise: %s, ratio %d", got, again.Servers()[5].Ratio())
		}
		// Streaks go along: one more failure is enough.
		w.set(s[0], errSick)
		stop = running(t, p)
		defer stop()
		time.Sleep(time.Minute)
		if p.Servers()[0].State() != Down || p.Servers()[1].State() != Down {
			t.Errorf("checked: %s", states(p))
		}
	})
}

// TestRestoreFound: servers that were discovered are there before the discovery
// has answered.
func TestRestoreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan []ServerConfig, 1)
		cfg := Config{Name: "web", DefaultPort: 80, Discoveries: []Discovery{{Name: "d", Finder: FinderFunc(func(ctx context.Context) ([]ServerConfig, error) {
			select {
			case found := <-answer:
				return found, nil
			default:
				return nil, errors.New("no answer")
			}
		})}}}
		old := mustPool(t, cfg)
		answer <- []ServerConfig{{Address: "10.0.0.9"}}
		stop := running(t, old)
		synctest.Wait()
		time.Sleep(time.Millisecond)
		stop()
		p := restored(t, old, cfg)
		if _, _, ok := p.Lookup("10.0.0.9", 0); !ok {
			t.Error("the server is not there")
		}
		stop = running(t, p)
		defer stop()
		time.Sleep(time.Second / 2) // which fails
		if _, _, ok := p.Lookup("10.0.0.9", 0); !ok {
			t.Error("the server is gone")
		}
		cfg.Discoveries[0].Name = "another"
		if p := restored(t, old, cfg); len(p.Servers()) != 0 {
			t.Errorf("%d servers", len(p.Servers()))
		}
	})
}

func FuzzRestoreState(f *testing.F) {
	state, err := mustPool(f, Config{Name: "web", Servers: servers(2), HealthMonitors: []HealthMonitor{{Name: "w", Checker: newWard()}}}).MarshalState()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)                                                                                           // of servers that are there
	f.Add([]byte(`{"Servers":[{"Addr":"10.0.0.1:80","Ratio":{"Now":99,"Configured":1},"State":"down"}]}`)) // a ratio that no server has
	f.Add([]byte(`{"Discoveries":[{"Name":"d","Found":[{"Address":"x"}]}]}`))                              // a server without an address
	f.Fuzz(func(t *testing.T, state []byte) {
		p := mustPool(t, Config{Name: "web", Servers: servers(2), HealthMonitors: []HealthMonitor{{Name: "w", Checker: newWard()}},
			Discoveries: []Discovery{{Name: "d", Finder: FinderFunc(func(context.Context) ([]ServerConfig, error) { return nil, nil })}}})
		if p.RestoreState(state) != nil {
			return
		}
		for _, s := range p.Servers() {
			if s.Ratio() < 1 || s.Ratio() > maxRatio || s.Addr() == (netip.AddrPort{}) {
				t.Errorf("%v has the ratio %d", s.Addr(), s.Ratio())
			}
		}
	})
}
