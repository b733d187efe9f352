package lbpool

import (
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// simulate sends requests at a steady rate, each of which takes what serve
// says, and counts who got them.
func simulate(t *testing.T, p *Pool, n int, every time.Duration, serve func(*Server) time.Duration) map[*Server]int {
	t.Helper()
	got := map[*Server]int{}
	for range n {
		l, err := p.Acquire(Hint{})
		if err != nil {
			t.Fatal(err)
		}
		got[l.Server]++
		took := serve(l.Server)
		time.AfterFunc(took, func() { l.Release(Outcome{Status: 200, FirstByte: took}) })
		<-time.After(every)
	}
	<-time.After(time.Minute) // so that all are released
	return got
}

func TestFastestResponsePrefersTheFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(3), Algorithm: FastestResponse()})
		s := p.Servers()
		times := map[*Server]time.Duration{s[0]: 10 * time.Millisecond, s[1]: 10 * time.Millisecond, s[2]: 100 * time.Millisecond}
		got := simulate(t, p, 3000, 5*time.Millisecond, func(s *Server) time.Duration { return times[s] })
		if got[s[2]] > 300 || got[s[2]] == 0 || got[s[0]] < 1000 || got[s[1]] < 1000 {
			t.Errorf("shares %d, %d and %d, the last one being ten times slower", got[s[0]], got[s[1]], got[s[2]])
		}
	})
}

// TestFastestResponseRecovers is a server that was very slow and is not any
// more: it must be found out.
func TestFastestResponseRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(2), Algorithm: FastestResponse()})
		s := p.Servers()
		slow := 3 * time.Second
		serve := func(x *Server) time.Duration {
			if x == s[0] {
				return slow
			}
			return 10 * time.Millisecond
		}
		if got := simulate(t, p, 1000, 10*time.Millisecond, serve); got[s[0]] > 20 {
			t.Fatalf("the slow server got %d of 1000", got[s[0]])
		}
		slow = 10 * time.Millisecond
		simulate(t, p, 6000, 10*time.Millisecond, serve) // a minute
		if got := simulate(t, p, 1000, 10*time.Millisecond, serve); got[s[0]] < 400 {
			t.Errorf("the server that is fast again got %d of 1000", got[s[0]])
		}
	})
}

func TestFastestResponseTriesNewServersCarefully(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := ratios(1, 1, 3)
		p := mustPool(t, Config{Servers: list[:2], Algorithm: FastestResponse()})
		simulate(t, p, 100, time.Millisecond, func(*Server) time.Duration { return time.Millisecond })
		if err := p.Update(Config{Name: "web", Servers: list, Algorithm: FastestResponse()}); err != nil {
			t.Fatal(err)
		}
		for range 50 { // none of which is answered
			mustAcquire(t, p, Hint{})
		}
		if n := p.Servers()[2].Open(); n != 3 {
			t.Errorf("a server of ratio 3 that was never measured has %d requests, want 3", n)
		}
	})
}

// TestLoadAlgorithmsShares checks that ratios count when servers are equally
// good.
func TestLoadAlgorithmsShares(t *testing.T) {
	for _, name := range []string{"fastest response", "least load", "random two", "least connections"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				list := ratios(1, 2, 5)
				p := mustPool(t, Config{Servers: list, Algorithm: algorithms()[name]})
				got := simulate(t, p, 8000, time.Millisecond, func(*Server) time.Duration { return 100 * time.Millisecond })
				for i, s := range p.Servers() {
					if want := 1000 * float64(list[i].Ratio); math.Abs(float64(got[s])-want) > 0.1*want {
						t.Errorf("ratio %d got %d requests, want about %.0f", list[i].Ratio, got[s], want)
					}
				}
			})
		})
	}
}

func TestFewestServersFillsTheFirst(t *testing.T) {
	for name, threshold := range map[string]time.Duration{"automatic": 0, "fixed": 25 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := mustPool(t, Config{Servers: servers(4), Algorithm: FewestServers(threshold)})
				s := p.Servers()
				// A server does 10 requests in 10 ms each; more make it slower
				// in proportion.
				serve := func(x *Server) time.Duration { return time.Duration(max(x.Open(), 10)) * time.Millisecond }
				if got := simulate(t, p, 500, 5*time.Millisecond, serve); got[s[0]] != 500 {
					t.Errorf("with little to do the first server got %d of 500", got[s[0]])
				}
				got := simulate(t, p, 20000, 700*time.Microsecond, serve) // 1.4 servers' worth
				if got[s[0]] < 8000 || got[s[1]] == 0 || got[s[3]] > 1000 {
					t.Errorf("shares %d, %d, %d, %d: want the load on the first ones", got[s[0]], got[s[1]], got[s[2]], got[s[3]])
				}
				if got := simulate(t, p, 500, 5*time.Millisecond, serve); got[s[0]] < 450 {
					t.Errorf("with little to do again the first server got %d of 500", got[s[0]])
				}
			})
		})
	}
}

func TestLeastLoadWeighsAnswers(t *testing.T) {
	server := newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	big := newServerOn(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4000000")
		io.WriteString(w, strings.Repeat("x", 4000000))
	})
	tr := newTransport(t)
	tr.Pool = mustPool(t, Config{Servers: at(big, server), Algorithm: LeastLoad()})
	s := tr.Pool.Servers()
	route := &Route{Pool: tr.Pool, Hint: Hint{Server: big}}
	resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, route))
	if err != nil {
		t.Fatal(err)
	}
	if n := s[0].work.Load(); n != 4000000 {
		t.Errorf("%d bytes to come, want 4000000", n)
	}
	for range 4000000/requestWork - 1 {
		if l := mustAcquire(t, tr.Pool, Hint{}); l.Server != s[1] {
			t.Fatalf("with %d leases to 4 MB the request went to the server that has those", s[1].Open())
		}
	}
	for range 4 {
		mustAcquire(t, tr.Pool, Hint{})
	}
	if n := s[0].Open(); n < 2 {
		t.Errorf("%d leases on the loaded server, want it to be the lesser load at last", n)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1000000); err != nil {
		t.Fatal(err)
	}
	if n := s[0].work.Load(); n != 3000000 {
		t.Errorf("%d bytes to come after a million, want 3000000", n)
	}
	resp.Body.Close()
	resp.Body.Close()
	if n := s[0].work.Load(); n != 0 {
		t.Errorf("%d bytes to come after the end", n)
	}
}

func TestRandomTwoAvoidsTheBusy(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(10), Algorithm: RandomTwo()})
	for range 1000 {
		mustAcquire(t, p, Hint{})
	}
	for _, s := range p.Servers() {
		if n := s.Open(); n < 95 || n > 105 {
			t.Errorf("%d of 1000 leases on one of ten servers: two choices are more even than that", n)
		}
	}
	// One server is left that can be had.
	list := p.Servers()
	for range 20 {
		if l := mustAcquire(t, p, Hint{Exclude: list[1:]}); l.Server != list[0] {
			t.Fatal("an excluded server was chosen")
		}
	}
}

// TestAlgorithmsConcurrently is for the race detector.
func TestAlgorithmsConcurrently(t *testing.T) {
	for name, a := range algorithms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustPool(t, Config{Servers: ratios(1, 2, 3), Algorithm: a, SlowStart: time.Millisecond})
			var served atomic.Int64
			done := make(chan struct{})
			for range 4 {
				go func() {
					defer func() { done <- struct{}{} }()
					for i := range 1000 {
						l, err := p.Acquire(Hint{Key: name[i%5:]})
						if err != nil {
							t.Error(err)
							return
						}
						if i%100 == 0 {
							if err := l.Server.SetRatio(1 + i/100%3); err != nil {
								t.Error(err)
							}
						}
						served.Add(1)
						l.Release(Outcome{Status: 200, FirstByte: time.Duration(i)})
					}
				}()
			}
			for range 4 {
				<-done
			}
			if served.Load() != 4000 || open(p) != 0 {
				t.Errorf("%d served, %d open", served.Load(), open(p))
			}
		})
	}
}
