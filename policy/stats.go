package policy

import (
	"sync/atomic"
	"time"
)

// RuleStats are the counters of one rule since its policy was constructed.
type RuleStats struct {
	Name    string    // the rule's name
	Hits    uint64    // connections or requests that the rule decided
	Drops   uint64    // those of them denied, closed, reset, or answered with a 4xx or 5xx status
	Errors  uint64    // evaluations of the rule that failed; they count neither as hits nor as drops
	LastHit time.Time // time of the latest hit; zero when there was none
}

// counters are the live form of RuleStats. A hit updates them one after the
// other, so a snapshot taken in between may show a hit without its drop.
type counters struct {
	hits, drops, errors atomic.Uint64
	lastHit             atomic.Int64 // nanoseconds since the Unix epoch; 0: never
}

func (c *counters) hit(now time.Time, dropped bool) {
	c.hits.Add(1)
	if dropped {
		c.drops.Add(1)
	}
	c.lastHit.Store(now.UnixNano())
}

func (c *counters) snapshot(name string) RuleStats {
	s := RuleStats{
		Name:   name,
		Hits:   c.hits.Load(),
		Drops:  c.drops.Load(),
		Errors: c.errors.Load(),
	}
	if ns := c.lastHit.Load(); ns != 0 {
		s.LastHit = time.Unix(0, ns)
	}
	return s
}
