package policy

import (
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/tokenbucket"
)

// NetworkLimit is the rate of a rule with [ActionRateLimit]. All connections
// that the rule matches share one token bucket. To limit each client, use one
// rule for each of them, or a [RateLimiter].
type NetworkLimit struct {
	// MaxRate is connections per second, 1 to 1e9.
	MaxRate int `min:"1" max:"1_000_000_000"`
	// Burst is connections at once after a pause, 0 to 1e9; below MaxRate it
	// has no effect.
	Burst int `min:"0" max:"1_000_000_000"`
	// Exceeded is what happens to connections above the rate: ActionClose,
	// ActionReset, or ActionReport, with which the next rule decides. The zero
	// value is the same as ActionClose.
	Exceeded Action
	// Continue passes connections within the rate to the next rule. False
	// accepts them.
	Continue bool
}

// networkLimit is the compiled form of a NetworkLimit.
type networkLimit struct {
	NetworkLimit
	bucket *tokenbucket.Bucket
	epoch  time.Time // time zero of the bucket
}

func (m NetworkLimit) compile(f *fielderr.List, field string) *networkLimit {
	switch m.Exceeded {
	case ActionNone:
		m.Exceeded = ActionClose
	case ActionClose, ActionReset, ActionReport:
	default:
		f.Addf(field+".exceeded", m.Exceeded, "not one of %v, %v, %v", ActionClose, ActionReset, ActionReport)
	}
	before := f.Len()
	bounds.Check(field, m, f)
	var size tokenbucket.Size
	if f.Len() == before {
		size, _ = tokenbucket.NewSize(m.MaxRate, time.Second, m.Burst) // an error takes a longer period
	}
	return &networkLimit{m, tokenbucket.NewBucket(size), time.Now()}
}

// takeOver keeps the bucket of the limit that this one replaces, if the rate is
// the same.
func (m *networkLimit) takeOver(old *networkLimit) {
	if m.bucket.Size() == old.bucket.Size() {
		m.bucket, m.epoch = old.bucket, old.epoch
	}
}

// allows takes a token, and counts. With an explainer it only reports whether
// there is one.
func (m *networkLimit) allows(c *counters, x *explainer) bool {
	now := int64(time.Since(m.epoch))
	switch {
	case x != nil && m.bucket.Peek(now):
		x.linef("within the rate limit")
		return true
	case x != nil:
		x.linef("above the rate limit")
		return false
	case m.bucket.Take(now):
		c.allowed.Add(1)
		return true
	}
	c.limited.Add(1)
	return false
}
