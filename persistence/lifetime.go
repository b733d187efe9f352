package persistence

import "time"

// A deadline is a reading of a table's clock: the time since the table was made. An entry is live
// while now < deadline.

// removed is the deadline of an entry that was taken out of its table: past on every clock, so that
// an iterator that still holds the entry skips it.
const removed = time.Duration(-1 << 62)

// remaining returns what is left until deadline. It is negative, never zero, from the deadline on:
// zero is kept for "no such entry".
func remaining(deadline, now time.Duration) time.Duration {
	if deadline == now {
		return -1
	}
	return deadline - now
}

// lifetimes are a table's rules for granting and extending lifetimes.
type lifetimes struct {
	min, max time.Duration // 0 <= min <= max <= lifetimeCeiling
	sliding  bool
}

// grant returns the lifetime given to an entry that asks for d, 0 if d is refused.
func (l lifetimes) grant(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return min(max(d, l.min), l.max)
}

// extend returns the deadline of a live entry after an extension by d, never earlier than it was.
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

// An idling is the rule of an entry that PutIdle stored. Only few entries have one, so it is kept
// beside them.
type idling struct {
	idle   time.Duration // what a use restores
	latest time.Duration // the deadline is never later
}

// extend returns the deadline after a use, never earlier than it was.
func (i idling) extend(deadline, now time.Duration) time.Duration {
	return max(deadline, min(now+i.idle, i.latest))
}

// A term says until when a value is kept, and for whom.
type term struct {
	deadline time.Duration
	idling   idling // the zero idling for most
	owner    ownerID
}
