package limpet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// The label of each status is that of a slow twin, and there are at most 35 for
// requests, whatever servers send.
func TestCodeLabels(t *testing.T) {
	exact := []int{
		200, 201, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413, 416, 421, 429, 431, 499, 500, 501, 502, 503, 504,
	}
	seen := map[string]bool{}
	for _, status := range append([]int{math.MinInt, math.MaxInt}, sequence(-1000, 2000)...) {
		want := fmt.Sprintf("%dxx", status/100)
		switch {
		case slices.Contains(exact, status):
			want = fmt.Sprint(status)
		case status < 100:
			want = "0"
		case status >= 600:
			want = "5xx"
		}
		got := codeLabels[codeOf(status)]
		if seen[got] = true; got != want {
			t.Errorf("%d is counted as %q, want %q", status, got, want)
		}
	}
	if len(seen) != 35 || !slices.IsSorted(codeLabels[:]) {
		t.Errorf("%d labels, sorted: %t", len(seen), slices.IsSorted(codeLabels[:]))
	}
}

func sequence(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// Each outcome of a try has one code.
func TestTryCodes(t *testing.T) {
	for _, test := range []struct {
		outcome       lbpool.Outcome
		code          string
		connectErrors uint64
	}{
		{lbpool.Outcome{Status: 200}, "200", 0},
		{lbpool.Outcome{Status: 101}, "1xx", 0},
		{lbpool.Outcome{Err: errors.New("broken")}, "error", 0},
		{lbpool.Outcome{Err: fmt.Errorf("refused: %w", lbpool.ErrConnect)}, "error", 1},
		{lbpool.Outcome{Err: fmt.Errorf("left: %w", lbpool.ErrAborted)}, "499", 0},
		{lbpool.Outcome{Err: fmt.Errorf("slow: %w", lbpool.ErrTimeout)}, "error", 0},
	} {
		var p poolTraffic
		p.add(&test.outcome)
		for own := range p.tries.All() {
			var codes [len(codeLabels)]uint64
			addAll(codes[:], own.codes[:])
			if got := counts(codeLabels[:], codes[:]); len(got) != 1 || got[0] != (Count{test.code, 1}) || own.connectErrors.Load() != test.connectErrors {
				t.Errorf("%+v: counted as %v, %d connect errors", test.outcome, got, own.connectErrors.Load())
			}
		}
	}
}

// An observer does nothing when its transaction is over.
func TestObserverOutlivesTransaction(t *testing.T) {
	counting := newCounting(t)
	counting.observer.rw.users.end()
	counting.observer.Tried(counting.pool, nil, lbpool.Outcome{Status: 200})
	counting.observer.Dequeued(counting.pool, time.Second)
	if p := counting.vs.Stats().Pools[0]; p.Codes != nil || p.QueueWait.Count() != 0 {
		t.Errorf("counted: %+v", p)
	}
}

// A counting is what is counted of one proxied request.
type counting struct {
	vs       *VirtualService
	pool     *lbpool.Pool
	observer *trafficObserver
	target   *target
	record   Record
	tx       transaction
}

func newCounting(t testing.TB) *counting {
	t.Helper()
	pool, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}}})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := New(Config{Pools: []*lbpool.Pool{pool}})
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{vs: vs, pool: pool, observer: new(trafficObserver)}
	c.tx.vs, c.tx.s = vs, vs.current.Load()
	c.observer.tx.Store(&c.tx)
	c.target = c.tx.s.targets["web"]
	c.record = Record{
		Start: time.Now(), Duration: 3 * time.Millisecond, FirstByte: 2 * time.Millisecond, ServerStatus: 200, Status: 200, Bytes: 1000,
		Outcome: OutcomeHit, BindingSource: persistence.FromMemory,
	}
	return c
}

// count counts a request in each place where one is counted: service, health,
// pool and outcome of the binding.
func (c *counting) count() {
	c.observer.Tried(c.pool, nil, lbpool.Outcome{Status: 200, FirstByte: time.Millisecond})
	c.target.outcomes.add(c.record.Outcome, c.record.BindingSource)
	c.vs.emit(c.tx.s, context.Background(), &c.record, nil)
}

func TestCountAllocates(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector lets sync.Pool drop what it is given")
	}
	if n := testing.AllocsPerRun(1000, newCounting(t).count); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Goroutines that count at the same time lose nothing.
func TestCountConcurrently(t *testing.T) {
	shared := newCounting(t)
	const goroutines, each = 8, 500
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			c := newCounting(t) // a transaction of its own
			c.vs, c.target = shared.vs, shared.target
			c.tx.vs, c.tx.s = shared.vs, shared.tx.s
			for range each {
				c.observer.Tried(c.pool, nil, lbpool.Outcome{Status: 200, FirstByte: time.Millisecond})
				c.target.outcomes.add(c.record.Outcome, c.record.BindingSource)
				c.vs.emit(shared.tx.s, context.Background(), &c.record, nil)
			}
		})
	}
	all.Wait()
	const n = goroutines * each
	st := shared.vs.Stats()
	if st.Requests != n || st.Hits != n || st.Duration.Count() != n || st.Sent != 1000*n || st.Persistence[0].Outcomes[OutcomeHit] != n {
		t.Errorf("stats %+v", st)
	}
	if in := shared.vs.health.input(time.Now()); in.Requests != n {
		t.Errorf("health of %d requests", in.Requests)
	}
}

// BenchmarkCount counts requests from one goroutine, and from one on each
// processor.
func BenchmarkCount(b *testing.B) {
	b.Run("one", func(b *testing.B) {
		c := newCounting(b)
		b.ReportAllocs()
		for b.Loop() {
			c.count()
		}
	})
	b.Run("all", func(b *testing.B) {
		shared := newCounting(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			c := newCounting(b)
			c.vs, c.target, c.tx.vs, c.tx.s = shared.vs, shared.target, shared.vs, shared.tx.s
			for pb.Next() {
				c.count()
			}
		})
	})
}
