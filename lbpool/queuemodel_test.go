package lbpool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestQueueServesAllFreePlaces returns three slots at once while three requests
// wait. Once, two of them stayed in line beside free servers, until something
// else happened.
func TestQueueServesAllFreePlaces(t *testing.T) {
	for _, order := range []QueueOrder{FirstInFirstOut, LastInFirstOut} {
		synctest.Test(t, func(t *testing.T) {
			p := mustPool(t, Config{Servers: limited(3), Queue: Queue{Length: 10, Order: order}})
			held := []Lease{mustAcquire(t, p, Hint{}), mustAcquire(t, p, Hint{}), mustAcquire(t, p, Hint{})}
			start := time.Now()
			var group sync.WaitGroup
			for range 3 {
				group.Go(func() {
					l, err := p.AcquireWait(t.Context(), Hint{})
					if err != nil || time.Since(start) != 0 {
						t.Errorf("%s: served after %s: %v", order, time.Since(start), err)
					}
					time.Sleep(time.Minute)
					l.Release(Outcome{})
				})
				synctest.Wait()
			}
			p.queue.mu.Lock() // nobody can give anything away, or leave, until all are back
			for _, l := range held {
				go l.Release(Outcome{})
			}
			for open(p) > 0 {
				time.Sleep(0)
			}
			p.queue.mu.Unlock()
			group.Wait()
		})
	}
}

// A twin is a queue as simple as can be: requests in the order of their
// arrival, and what each may have.
type twin struct {
	order   QueueOrder
	waiting []*client
}

type client struct {
	id     int
	wants  *Server // nil: any
	cancel context.CancelFunc
	lease  Lease
	err    error
}

// next returns the one that must be served next when s has a free slot.
func (q *twin) next(s *Server) *client {
	list := slices.Clone(q.waiting)
	if q.order == LastInFirstOut {
		slices.Reverse(list)
	}
	for _, c := range list {
		if c.wants == nil || c.wants == s || !c.wants.usable() {
			return c
		}
	}
	return nil
}

// TestQueueAgainstTwin drives the queue through random arrivals, departures,
// releases, changes of health, updates and drains, in virtual time, and
// compares it with a simple one after each step: it serves the same requests,
// in the same order, and nobody waits beside a free slot that it may have.
func TestQueueAgainstTwin(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limits := rapid.SliceOfN(rapid.IntRange(1, 3), 1, 4).Draw(r, "limits")
		order := rapid.SampledFrom([]QueueOrder{LastInFirstOut, FirstInFirstOut}).Draw(r, "order")
		steps := rapid.SliceOfN(rapid.IntRange(0, 1<<16-1), 1, 120).Draw(r, "steps")
		synctest.Test(t, func(t *testing.T) {
			if fault := driveQueue(t, limits, order, steps); fault != "" {
				r.Fatal(fault)
			}
		})
	})
}

func driveQueue(t *testing.T, limits []int, order QueueOrder, steps []int) string {
	cfg := Config{Servers: limited(limits...), Passive: Passive{Disabled: true}, Queue: Queue{Length: 1000, Timeout: time.Hour, Order: order}}
	p := mustPool(t, cfg)
	list := p.Servers()
	q := &twin{order: order}
	var mu sync.Mutex
	var done []*client // in the order in which they were served
	var served []*client
	ids := 0
	// settle takes note of who was served since the last time.
	settle := func() []*client {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		list := done
		done = nil
		for _, c := range list {
			q.waiting = slices.DeleteFunc(q.waiting, func(o *client) bool { return o == c })
			if c.err == nil {
				served = append(served, c)
			}
		}
		return list
	}
	arrive := func(wants *Server) *client {
		ids++
		c := &client{id: ids, wants: wants}
		ctx, cancel := context.WithCancel(context.Background())
		c.cancel = cancel
		var h Hint
		if wants != nil {
			h.Server = wants.Addr()
		}
		q.waiting = append(q.waiting, c)
		go func() {
			c.lease, c.err = p.AcquireWait(ctx, h)
			mu.Lock()
			defer mu.Unlock()
			done = append(done, c)
		}()
		return c
	}
	fault := ""
	for at, step := range steps {
		what, pick := step%16, step/16
		s := list[pick%len(list)]
		var expect *client
		text := ""
		switch {
		case what < 6:
			var wants *Server
			if pick%3 == 0 {
				wants = s
			}
			text = fmt.Sprintf("arrival, wants %v", wants != nil)
			arrive(wants)
		case what < 11 && len(served) > 0:
			i := pick % len(served)
			c := served[i]
			served = slices.Delete(served, i, i+1)
			if to := c.lease.Server; to.usable() && to.open.Load() <= to.limit.Load() {
				expect = q.next(to)
			}
			text = "release"
			c.lease.Release(Outcome{})
		case what == 11 && len(q.waiting) > 0:
			text = "departure"
			q.waiting[pick%len(q.waiting)].cancel()
		case what == 12:
			text = "disable"
			s.Disable()
		case what == 13:
			text = "enable"
			s.Enable()
		case what == 14:
			text = "update"
			next := slices.Clone(limits)
			next[pick%len(next)] = 1 + pick/7%4
			cfg.Servers = limited(next...)
			mustUpdate(t, p, cfg)
			list = p.Servers()
		case what == 15:
			text = "drain"
			s.Drain(time.Duration(pick%3) * time.Second)
			<-time.After(time.Duration(pick%4) * time.Second)
		}
		served := settle()
		if text == "release" && expect != nil && (len(served) != 1 || served[0] != expect) {
			fault = fmt.Sprintf("step %d: request %d should be served after a release, but %d were", at, expect.id, len(served))
		}
		for _, s := range list {
			if c := q.next(s); s.usable() && !s.full() && c != nil {
				fault = fmt.Sprintf("step %d, %s: request %d waits beside a free slot", at, text, c.id)
			}
		}
		if n := p.Stats().Waiting; n != len(q.waiting) {
			fault = fmt.Sprintf("step %d, %s: %d waiting, want %d", at, text, n, len(q.waiting))
		}
		if fault != "" {
			break
		}
	}
	for _, c := range q.waiting {
		c.cancel()
	}
	settle()
	for _, c := range served {
		c.lease.Release(Outcome{})
	}
	synctest.Wait()
	if st := p.Stats(); fault == "" && (st.Waiting != 0 || open(p) != 0 || p.queue.oldest != nil || p.queue.any.first != nil || len(p.queue.own) != 0) {
		fault = fmt.Sprintf("left over: %+v", st)
	}
	return fault
}

// TestQueueWithRates lets many requests wait for rates alone: one timer looks
// for all of them, and they are served at the rate, in order.
func TestQueueWithRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := servers(2)
		list[0].MaxRate, list[1].MaxRate = 100, 100
		p := mustPool(t, Config{Servers: list, Queue: Queue{Length: 4000, Timeout: time.Hour, Order: FirstInFirstOut}})
		start := time.Now()
		var served []int
		var mu sync.Mutex
		for i := range 4000 {
			go func() {
				l, err := p.AcquireWait(t.Context(), Hint{})
				if err != nil {
					t.Error(err)
					return
				}
				l.Release(Outcome{})
				mu.Lock()
				defer mu.Unlock()
				served = append(served, i)
			}()
			synctest.Wait()
		}
		for p.Stats().Waiting > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took < 19*time.Second || took > 21*time.Second {
			t.Errorf("4,000 requests took %s at 200 a second", took)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		for at, i := range served {
			if at-i > 4 || i-at > 4 {
				t.Fatalf("request %d was served at place %d", i, at)
			}
		}
	})
}

// TestQueueStress has far more clients than slots, and servers that are quick,
// come and go. Once, the queue hung for ever after a few thousand answers.
func TestQueueStress(t *testing.T) {
	clients, span := 400, time.Second
	if *full {
		clients, span = 4000, time.Minute
	}
	list := limited(20, 20, 20)
	list[2].MaxRate = 2000
	cfg := Config{Name: "web", Servers: list, Queue: Queue{Length: clients, Timeout: 10 * time.Second}}
	p := mustPool(t, cfg)
	all := p.Servers()
	end := time.Now().Add(span)
	var group sync.WaitGroup
	var served, refused atomic.Int64
	for i := range clients {
		group.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				var h Hint
				if i%5 == 0 {
					h.Server = all[(i+n)%3].Addr()
				}
				ctx, cancel := context.Background(), func() {}
				if (i+n)%7 == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.N(20))*time.Millisecond)
				}
				l, err := p.AcquireWait(ctx, h)
				cancel()
				if err != nil {
					if !errors.Is(err, ErrNoServer) && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("AcquireWait: %v", err)
					}
					refused.Add(1)
					continue
				}
				<-time.After(3 * time.Millisecond)
				l.Release(Outcome{Status: 200})
				served.Add(1)
			}
		})
	}
	group.Go(func() {
		for n := 0; time.Now().Before(end); n++ {
			<-time.After(20 * time.Millisecond)
			s := all[rand.N(2)]
			switch n % 4 {
			case 0:
				s.Disable()
			case 1:
				all[0].Enable()
				all[1].Enable()
			case 2:
				cfg.Servers[rand.N(3)].MaxConnections = 10 + rand.N(20)
				if err := p.Update(cfg); err != nil {
					t.Error(err)
				}
			case 3:
				s.Drain(10 * time.Millisecond)
			}
		}
	})
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(span + time.Minute):
		t.Fatalf("somebody was forgotten: %+v", p.Stats())
	}
	if st := p.Stats(); st.Waiting != 0 || open(p) != 0 {
		t.Errorf("left over: %+v", st)
	}
	if served.Load() == 0 {
		t.Error("nobody was served")
	}
	t.Logf("%d served, %d refused or gone", served.Load(), refused.Load())
}

// panics is an algorithm that panics once everybody is full.
type panics struct{ fuse *atomic.Bool }

func (a panics) Choose(up []*Server, h Hint) *Server {
	if a.fuse.Load() {
		panic("algorithm")
	}
	if h.Allows(up[0]) {
		return up[0]
	}
	return nil
}

// TestQueueAlgorithmPanics has the algorithm panic while a request is served:
// it is that request's panic, not that of the one that gave back its slot, and
// the queue goes on.
func TestQueueAlgorithmPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fuse atomic.Bool
		p := mustPool(t, Config{Servers: limited(1), Algorithm: panics{&fuse}, Queue: Queue{Length: 5}})
		held := mustAcquire(t, p, Hint{})
		panicked := make(chan any, 1)
		go func() {
			defer func() { panicked <- recover() }()
			_, _ = p.AcquireWait(t.Context(), Hint{})
		}()
		synctest.Wait()
		fuse.Store(true)
		held.Release(Outcome{})
		if v := <-panicked; v != "algorithm" {
			t.Errorf("the request panicked with %v", v)
		}
		fuse.Store(false)
		synctest.Wait()
		mustAcquire(t, p, Hint{}).Release(Outcome{})
		if st := p.Stats(); st.Waiting != 0 || st.Open != 0 {
			t.Errorf("left over: %+v", st)
		}
	})
}
