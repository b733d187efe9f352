package persistence

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// reads counts hits and misses of look-ups. As a rule each processor has its
// own counters: writing to a shared one would cost more than the look-up.
type reads struct {
	stripes []stripe // a power of two
}

type stripe struct {
	hits, misses, expired atomic.Uint64
	_                     [128 - 3*8]byte // keeps the next one off this cache line and its neighbour
}

func newReads() reads {
	n := 1
	for n < runtime.GOMAXPROCS(0) {
		n *= 2
	}
	return reads{make([]stripe, n)}
}

// stripeIDs are numbers of stripes. A sync.Pool returns an item to the
// processor that put it there.
var (
	stripeIDs    = sync.Pool{New: func() any { id := lastStripeID.Add(1); return &id }}
	lastStripeID atomic.Uint32
)

// count counts a hit if what is left is positive, and otherwise a miss, of an
// expired entry if it is negative.
func (c *reads) count(left time.Duration) {
	id := stripeIDs.Get().(*uint32)
	s := &c.stripes[*id&uint32(len(c.stripes)-1)]
	switch {
	case left > 0:
		s.hits.Add(1)
	default:
		s.misses.Add(1)
		if left < 0 {
			s.expired.Add(1)
		}
	}
	stripeIDs.Put(id)
}

// stats returns the sums.
func (c *reads) stats() (sum Stats) {
	for i := range c.stripes {
		s := &c.stripes[i]
		sum.Hits += s.hits.Load()
		sum.Misses += s.misses.Load()
		sum.Expired += s.expired.Load()
	}
	return sum
}
