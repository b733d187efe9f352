package policy

import (
	"sync/atomic"
	"time"
)

// RuleStats are the counters of one rule since its policy was constructed, or
// the first of the policies whose counters it continues: see [Env].Previous.
type RuleStats struct {
	Name       string    // of the rule
	Hits       uint64    // connections or requests to which the rule applied
	Drops      uint64    // hits that were closed, reset, or answered with a 4xx or 5xx status
	Errors     uint64    // evaluations of the rule that failed; they are neither hits nor drops
	Skips      uint64    // matches without effect, because the result of the action could not be made
	Allowed    uint64    // rate limits: matches within the limit
	Limited    uint64    // rate limits: matches above the limit, enforced or not
	WouldHits  uint64    // matches of a rule in dry run, or of a rate limit that only reports
	WouldDrops uint64    // those of WouldHits that would have been drops
	Expired    bool      // the rule is older than its age and has no effect any more
	LastHit    time.Time // time of the latest hit, enforced or not; zero if there was none
}

// counters are the live form of RuleStats. A hit updates them one after the
// other, so a snapshot may include a hit without its drop.
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
