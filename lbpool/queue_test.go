package lbpool

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testwait"
)

// limited returns server configurations with MaxConnections.
func limited(limits ...int) []ServerConfig {
	list := servers(len(limits))
	for i, n := range limits {
		list[i].MaxConnections = n
	}
	return list
}

func TestQueueOrder(t *testing.T) {
	for order, want := range map[QueueOrder][]int{LastInFirstOut: {4, 3, 2, 1, 0}, FirstInFirstOut: {0, 1, 2, 3, 4}} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := mustPool(t, Config{Servers: limited(1), Queue: Queue{Length: 5, Order: order}})
				held := mustAcquire(t, p, Hint{})
				var mu sync.Mutex
				var got []int
				for i := range 5 {
					go func() {
						l, err := p.AcquireWait(t.Context(), Hint{})
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						got = append(got, i)
						mu.Unlock()
						time.Sleep(time.Millisecond)
						l.Release(Outcome{})
					}()
					synctest.Wait()
				}
				if n := p.Stats().Waiting; n != 5 {
					t.Errorf("%d waiting, want 5", n)
				}
				_, err := p.AcquireWait(t.Context(), Hint{})
				if !errors.Is(err, ErrFull) {
					t.Errorf("the queue is full: %v", err)
				}
				held.Release(Outcome{})
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				if !slices.Equal(got, want) {
					t.Errorf("served in order %v, want %v", got, want)
				}
				if st := p.Stats(); st.Waiting != 0 || st.Queued != 5 || st.QueueFull != 1 || st.QueueTimeouts != 0 {
					t.Errorf("stats %+v", st)
				}
			})
		})
	}
}

func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: limited(1, 1), Queue: Queue{Length: 5, Timeout: 3 * time.Second}})
		s := p.Servers()
		var held []Lease
		for range 2 {
			held = append(held, mustAcquire(t, p, Hint{}))
		}
		start := time.Now()
		_, err := p.AcquireWait(t.Context(), Hint{})
		if !errors.Is(err, ErrFull) || time.Since(start) != 3*time.Second || err.Error() != `pool "web": no server available: all are full, after 3s in the queue` {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := p.AcquireWait(ctx, Hint{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		// Without servers there is nothing to wait for, at once or when that
		// comes to be.
		go func() {
			time.Sleep(time.Second)
			s[0].Disable()
			s[1].Disable()
		}()
		start = time.Now()
		if _, err := p.AcquireWait(t.Context(), Hint{}); !errors.Is(err, ErrNoServer) || errors.Is(err, ErrFull) || time.Since(start) != time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if _, err := p.AcquireWait(t.Context(), Hint{}); !errors.Is(err, ErrNoServer) {
			t.Error(err)
		}
		// A server that comes up, or may have more, serves those who wait.
		s[0].Enable()
		go func() {
			time.Sleep(time.Second)
			mustUpdate(t, p, Config{Servers: limited(2, 1), Queue: Queue{Length: 5}})
		}()
		start = time.Now()
		if l, err := p.AcquireWait(t.Context(), Hint{}); err != nil || l.Server != s[0] || time.Since(start) != time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if st := p.Stats(); st.Waiting != 0 || st.Queued != 4 || st.QueueTimeouts != 1 {
			t.Errorf("stats %+v", st)
		}
		for _, l := range held {
			l.Release(Outcome{})
		}
	})
}

func TestQueueOff(t *testing.T) {
	p := mustPool(t, Config{Servers: limited(1)})
	if _, err := p.AcquireWait(t.Context(), Hint{}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.AcquireWait(t.Context(), Hint{}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

// TestQueueWaitsForOwnServer: a bound client waits for its server although
// another is free.
func TestQueueWaitsForOwnServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: limited(1, 2), Queue: Queue{Length: 5, Timeout: 5 * time.Second}})
		s := p.Servers()
		wants := Hint{Server: s[0].Addr()}
		held := mustAcquire(t, p, wants)
		other := mustAcquire(t, p, Hint{Server: s[1].Addr()})
		time.AfterFunc(time.Second, func() { other.Release(Outcome{}) }) // is not for those who wait for the first
		time.AfterFunc(2*time.Second, func() { held.Release(Outcome{}) })
		start := time.Now()
		l, err := p.AcquireWait(t.Context(), wants)
		if err != nil || l.Server != s[0] || l.Unmet != ReasonNone || time.Since(start) != 2*time.Second {
			t.Errorf("after %s: %v, unmet %q, %v", time.Since(start), l.Server, l.Unmet, err)
		}
		// When its time is over it goes elsewhere, as Repick says.
		start = time.Now()
		l, err = p.AcquireWait(t.Context(), wants)
		if err != nil || l.Server != s[1] || l.Unmet != ReasonFull || time.Since(start) != 5*time.Second {
			t.Errorf("after %s: unmet %q, %v", time.Since(start), l.Unmet, err)
		}
		// When its server goes down it is told so at once.
		time.AfterFunc(time.Second, s[0].Disable)
		start = time.Now()
		l, err = p.AcquireWait(t.Context(), wants)
		if err != nil || l.Server != s[1] || l.Unmet != ReasonDisabled || time.Since(start) != time.Second {
			t.Errorf("after %s: unmet %q, %v", time.Since(start), l.Unmet, err)
		}
	})
}

func TestQueueWaitsForRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := servers(1)
		list[0].MaxRate = 10
		p := mustPool(t, Config{Servers: list, Queue: Queue{Length: 100, Order: FirstInFirstOut}})
		start := time.Now()
		for range 50 {
			l, err := p.AcquireWait(t.Context(), Hint{})
			if err != nil {
				t.Fatal(err)
			}
			l.Release(Outcome{})
		}
		if took := time.Since(start); took < 4800*time.Millisecond || took > 5500*time.Millisecond {
			t.Errorf("50 requests took %s at 10 a second", took)
		}
	})
}

// TestQueueUnderLoad lets many requests, some of which want a server or give
// up, wait for few servers. Nothing is ever above its limit, everybody is
// served or told why not, and nothing is left.
func TestQueueUnderLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := rapid.SliceOfN(rapid.IntRange(1, 3), 1, 4).Draw(t, "limits")
		length := rapid.IntRange(1, 20).Draw(t, "length")
		order := rapid.SampledFrom([]QueueOrder{LastInFirstOut, FirstInFirstOut}).Draw(t, "order")
		p, err := New(Config{Name: "web", Servers: limited(limits...), Queue: Queue{Length: length, Timeout: time.Minute, Order: order}})
		if err != nil {
			t.Fatal(err)
		}
		s := p.Servers()
		var group sync.WaitGroup
		var served, refused, left atomic.Int64
		for range 12 {
			group.Go(func() {
				for range 40 {
					var h Hint
					if rand.N(2) == 0 {
						h.Server = s[rand.N(len(s))].Addr()
					}
					ctx, cancel := context.Background(), func() {}
					if rand.N(4) == 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.N(300))*time.Microsecond)
					}
					l, err := p.AcquireWait(ctx, h)
					cancel()
					switch {
					case errors.Is(err, ErrFull):
						refused.Add(1)
						continue
					case errors.Is(err, context.DeadlineExceeded):
						left.Add(1)
						continue
					case err != nil:
						t.Errorf("AcquireWait: %v", err)
						continue
					}
					served.Add(1)
					if n := l.Server.open.Load(); n > l.Server.limit.Load() {
						t.Errorf("%d in use, limit %d", n, l.Server.limit.Load())
					}
					if n := p.waiting.Load(); n > int64(length)+12 {
						t.Errorf("%d waiting", n)
					}
					if rand.N(3) == 0 {
						<-time.After(time.Duration(rand.N(50)) * time.Microsecond)
					}
					l.Release(Outcome{})
				}
			})
		}
		done := make(chan struct{})
		go func() { group.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("somebody was forgotten: %+v", p.Stats())
		}
		if n := served.Load() + refused.Load() + left.Load(); n != 12*40 {
			t.Errorf("%d of %d accounted for", n, 12*40)
		}
		if open(p) != 0 || p.Stats().Waiting != 0 || p.queue.any.first != nil || len(p.queue.own) != 0 {
			t.Errorf("left over: %+v", p.Stats())
		}
	})
}

// TestQueueIsFair checks that with FirstInFirstOut nobody is served long before
// others that came earlier.
func TestQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: limited(2, 2), Queue: Queue{Length: 1000, Timeout: time.Hour, Order: FirstInFirstOut}})
		var order []int
		var mu sync.Mutex
		for i := range 400 {
			go func() {
				l, err := p.AcquireWait(t.Context(), Hint{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				l.Release(Outcome{})
			}()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for at, i := range order {
			if at-i > 4 || i-at > 4 {
				t.Errorf("request %d was served at place %d", i, at)
			}
		}
		if len(order) != 400 {
			t.Errorf("%d served", len(order))
		}
	})
}

func TestTransportWaits(t *testing.T) {
	release := make(chan struct{})
	server := newServerOn(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	tr := newTransport(t)
	list := at(server)
	list[0].MaxConnections = 1
	p := mustPool(t, Config{Servers: list, Queue: Queue{Length: 1}})
	results := make(chan error, 2)
	for range 2 {
		go func() {
			resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p, Wait: true}))
			if err == nil {
				resp.Body.Close()
			}
			results <- err
		}()
	}
	testwait.Until(t, "one to be served and one to wait", func() bool { return p.Stats().Waiting == 1 && p.Stats().Open == 1 })
	if _, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p})); !errors.Is(err, ErrFull) {
		t.Errorf("a request that does not wait: %v", err)
	}
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	testwait.Until(t, "the leases to be released", func() bool { return open(p) == 0 })
}
