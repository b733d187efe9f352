package policy

import (
	"sync/atomic"
	"time"
)

// RuleStats are the counters of one rule since its policy, or the first of
// the policies it took them over from, was constructed: see [Env].Previous.
type RuleStats struct {
	Name       string    // the rule's name
	Hits       uint64    // connections or requests on which the rule acted
	Drops      uint64    // those of them denied, closed, reset, or answered with a 4xx or 5xx status
	Errors     uint64    // evaluations of the rule that failed; they count neither as hits nor as drops
	Skips      uint64    // times the rule matched, but its action could not be built
	Allowed    uint64    // for rate limits: matched and within the limit
	Limited    uint64    // for rate limits: matched and above the limit, enforced or not
	WouldHits  uint64    // in dry run, or for rate limits that only report: what would have been hits
	WouldDrops uint64    // those of them that would have been drops
	Expired    bool      // the rule has outlived its age and has no effect any more
	LastHit    time.Time // time of the latest hit, or would-be hit; zero when there was none
}

// counters are the live form of RuleStats. A hit updates them one after the
// other, so a snapshot taken in between may show a hit without its drop.
type counters struct {
	hits, drops, errors   atomic.Uint64
	skips                 atomic.Uint64
	allowed, limited      atomic.Uint64
	wouldHits, wouldDrops atomic.Uint64
	lastHit               atomic.Int64 // nanoseconds since the Unix epoch; 0: never
}

func (c *counters) hit(now time.Time, dropped bool) {
	c.hits.Add(1)
	if dropped {
		c.drops.Add(1)
	}
	c.lastHit.Store(now.UnixNano())
}

// would counts a hit that is not enforced.
func (c *counters) would(now time.Time, dropped bool) {
	c.wouldHits.Add(1)
	if dropped {
		c.wouldDrops.Add(1)
	}
	c.lastHit.Store(now.UnixNano())
}

func (c *counters) snapshot(name string) RuleStats {
	s := RuleStats{
		Name:       name,
		Hits:       c.hits.Load(),
		Drops:      c.drops.Load(),
		Errors:     c.errors.Load(),
		Skips:      c.skips.Load(),
		Allowed:    c.allowed.Load(),
		Limited:    c.limited.Load(),
		WouldHits:  c.wouldHits.Load(),
		WouldDrops: c.wouldDrops.Load(),
	}
	if ns := c.lastHit.Load(); ns != 0 {
		s.LastHit = time.Unix(0, ns)
	}
	return s
}
