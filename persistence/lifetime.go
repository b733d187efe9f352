package persistence

import "time"

// A deadline is a reading of a table's clock: the time since the table was
// made, which is negative in tests whose clock starts earlier. An entry is live
// while now < deadline. Deadlines and clocks stay within 73 years, so that
// there is room for two kinds of deadline that are past on every clock.
const (
	// expiredOffset is added to the deadline of an entry that was found
	// expired.
	expiredOffset = time.Duration(-1 << 62)
	// acquiredDeadline stands for the deadline of an entry that a writer has
	// acquired or removed.
	acquiredDeadline = time.Duration(-1 << 63)
)

// lifetimes are a table's rules for granting and extending lifetimes.
type lifetimes struct {
	min, max time.Duration // 0 <= min <= max <= lifetimeCeiling
	sliding  bool
}

// grant returns the lifetime given to an entry that asks for d, 0 if d is
// refused.
func (l lifetimes) grant(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return min(max(d, l.min), l.max)
}

// extend returns the deadline of a live entry after an extension by d, never
// earlier than it was.
func (l lifetimes) extend(deadline, now, d time.Duration) time.Duration {
	if d <= 0 {
		return deadline
	}
	latest := now + l.max
	if l.sliding {
		return max(deadline, now+min(d, l.max))
	}
	// Compared as differences: deadline + d may overflow.
	return deadline + max(0, min(d, latest-deadline))
}

// An idleRule is the rule of an entry that PutIdle stored.
type idleRule struct {
	idle   time.Duration // what a use restores
	latest time.Duration // the deadline is never later
}

// extend returns the deadline after a use, never earlier than it was.
func (i idleRule) extend(deadline, now time.Duration) time.Duration {
	return max(deadline, min(now+i.idle, i.latest))
}

// An expiry says until when a value is stored.
type expiry struct {
	deadline time.Duration
	idleRule *idleRule // nil for most
}

// newExpiry is that of a value for a lifetime. If atMost is not zero, granted
// is the idle lifetime.
func newExpiry(now, granted, atMost time.Duration) expiry {
	until := expiry{deadline: now + granted}
	if atMost > 0 {
		until.idleRule = &idleRule{granted, now + atMost}
	}
	return until
}
