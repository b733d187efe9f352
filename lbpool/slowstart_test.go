package lbpool

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlowStartGrowsLinearly(t *testing.T) {
	for _, name := range []string{"round robin", "least connections", "random two", "least load"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := mustPool(t, Config{Servers: servers(4), Algorithm: algorithms()[name], SlowStart: 100 * time.Second})
				s := p.Servers()[0]
				if got := s.SlowStart(); got != 1 {
					t.Errorf("a server that is up from the start: %v", got)
				}
				s.Disable()
				s.Enable()
				for tenth := range 10 {
					got := 0
					const requests = 4000
					for range requests {
						if serve(t, p, Outcome{Status: 200}) == s {
							got++
						}
						time.Sleep(10 * time.Second / requests)
					}
					share := (float64(tenth) + 0.5) / 10
					if want := requests * share / (3 + share); math.Abs(float64(got)-want) > 0.03*requests {
						t.Errorf("in tenth %d the server got %d of %d, want about %.0f", tenth, got, requests, want)
					}
				}
				serve(t, p, Outcome{})
				if got := s.SlowStart(); got != 1 {
					t.Errorf("after its time: %v", got)
				}
			})
		})
	}
}

// TestSlowStartUnderLoad checks what slow start is for: a server that is idle
// among busy ones is not flooded.
func TestSlowStartUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(4), SlowStart: 64 * time.Second})
		s := p.Servers()[0]
		s.Disable()
		for range 300 {
			mustAcquire(t, p, Hint{})
		}
		s.Enable()
		time.Sleep(16 * time.Second) // a quarter
		for range 100 {
			mustAcquire(t, p, Hint{})
		}
		if n := s.Open(); n < 20 || n > 32 {
			t.Errorf("%d leases with about 125 on the others, want about a quarter of that", n)
		}
	})
}

func TestSlowStartLimitsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := servers(1)
		list[0].MaxConnections = 100
		p := mustPool(t, Config{Servers: list, SlowStart: 100 * time.Second})
		s := p.Servers()[0]
		s.Disable()
		s.Enable()
		for _, at := range []int{1, 25, 50, 99} {
			time.Sleep(time.Duration(at)*time.Second - time.Duration(s.ramp.Load())*100*time.Second/fullRamp)
			var leases []Lease
			for {
				l, err := p.Acquire(Hint{})
				if err != nil {
					break
				}
				leases = append(leases, l)
			}
			if n := len(leases); n > at+1 || n < at-3 || n == 0 {
				t.Errorf("%d leases after %d %% of slow start", n, at)
			}
			for _, l := range leases {
				l.Release(Outcome{})
			}
		}
	})
}

func TestSlowStartEndsWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(2), SlowStart: time.Minute})
		s := p.Servers()[0]
		s.Disable()
		s.Enable()
		if got := s.SlowStart(); got > 0.1 || got <= 0 {
			t.Errorf("at its start: %v", got)
		}
		s.Disable()
		if got := s.SlowStart(); got != 1 {
			t.Errorf("disabled: %v", got)
		}
		if err := p.Update(Config{Name: "web", Servers: servers(3), SlowStart: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if got := p.Servers()[2].SlowStart(); got > 0.1 {
			t.Errorf("a server that has joined: %v, want slow start", got)
		}
	})
}

// TestSlowStartOfAll lets all servers come up at once: they share alike and
// none is idle.
func TestSlowStartOfAll(t *testing.T) {
	for name, a := range algorithms() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := mustPool(t, Config{Servers: servers(3), Algorithm: a, SlowStart: time.Hour})
				for _, s := range p.Servers() {
					s.Disable()
				}
				for _, s := range p.Servers() {
					s.Enable()
				}
				for range 300 {
					mustAcquire(t, p, Hint{})
				}
				if name == "consistent hash" || name == "fewest servers" {
					return // they have their own ideas, but they serve
				}
				for _, s := range p.Servers() {
					if n := s.Open(); n < 60 || n > 140 {
						t.Errorf("%s has %d of 300", s.Name(), n)
					}
				}
			})
		})
	}
}
