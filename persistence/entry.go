package persistence

import (
	"sync/atomic"
	"time"
)

// entry is an entry. Key, value and idleRule never change; a new value is a new
// entry. An entry of strings fills a cache line.
//
// The deadline decides all races. Readers without a lock extend it with
// compare-and-swap, and only before it has passed. The first caller that finds
// it passed expires the entry, so that a reader with an earlier clock reading
// cannot extend it afterwards. A writer acquires the entry by replacing its
// deadline; a reader that finds no deadline waits for the lock and reads again.
type entry[K comparable, V any] struct {
	key      K
	value    V
	deadline atomic.Int64                // a time.Duration; see expiredOffset and acquiredDeadline
	next     atomic.Pointer[entry[K, V]] // in the chain of the index
	idleRule *idleRule                   // nil for most
	slot     int32                       // index of its slot, guarded by the shard's lock
	marks    atomic.Uint32
}

// The marks of an entry: whether it has been counted, whether it has been used
// since it was stored, the generation of its last use, and its tag: bits of the
// key's hash.
const (
	counted = 1 << iota // in its shard's values, guarded by the lock
	used

	generationShift = iota
	generationBits  = 6
	generations     = 1 << generationBits // that a shard distinguishes

	tagShift = generationShift + generationBits
	tagBits  = 32 - tagShift
)

func (r *entry[K, V]) tag() uint32 { return r.marks.Load() >> tagShift }

func (r *entry[K, V]) has(mark uint32) bool { return r.marks.Load()&mark != 0 }

// lastUse returns the generation of the last use, or that in which the entry
// was stored.
func (r *entry[K, V]) lastUse() uint32 {
	return r.marks.Load() >> generationShift % generations
}

// use marks the entry as used in a generation. It writes only if it must:
// others read the same cache line.
func (r *entry[K, V]) use(generation uint32) {
	const mask = used | (generations-1)<<generationShift
	for {
		marks := r.marks.Load()
		next := marks&^mask | used | generation<<generationShift
		if marks == next || r.marks.CompareAndSwap(marks, next) {
			return
		}
	}
}

// left returns what is left of the entry. It is negative if the entry has
// expired, which is final, and zero if a writer has acquired it.
func (r *entry[K, V]) left(now time.Duration) time.Duration {
	for {
		deadline := time.Duration(r.deadline.Load())
		if deadline > now {
			return deadline - now
		}
		if left, ok := r.expire(deadline, now); ok {
			return left
		}
	}
}

// extend extends the entry by d, or as its idleRule says, if it is live, and
// returns what is then left, as left does.
func (r *entry[K, V]) extend(now, d time.Duration, l lifetimes) time.Duration {
	for {
		deadline := time.Duration(r.deadline.Load())
		if deadline <= now {
			if left, ok := r.expire(deadline, now); ok {
				return left
			}
			continue
		}
		var next time.Duration
		if r.idleRule != nil {
			next = r.idleRule.extend(deadline, now)
		} else {
			next = l.extend(deadline, now, d)
		}
		if next == deadline || r.deadline.CompareAndSwap(int64(deadline), int64(next)) {
			return next - now
		}
	}
}

// prolong makes the entry end when granted is over and returns what is then
// left. It returns zero, and does nothing, if the entry is not live or would
// end earlier than it does now: that needs the lock, because the entry's slot
// must change too.
func (r *entry[K, V]) prolong(now, granted time.Duration) time.Duration {
	deadline := r.cut(now + granted)
	for {
		old := time.Duration(r.deadline.Load())
		if old <= now || deadline < old {
			return 0
		}
		if r.deadline.CompareAndSwap(int64(old), int64(deadline)) {
			return deadline - now
		}
	}
}

// acquire removes the deadline from a live entry, so that no reader changes it
// while the caller, which has the shard's lock, decides. It reports false if
// the entry has expired.
func (r *entry[K, V]) acquire(now time.Duration) (deadline time.Duration, live bool) {
	for {
		deadline = time.Duration(r.deadline.Load())
		if deadline > now {
			if r.deadline.CompareAndSwap(int64(deadline), int64(acquiredDeadline)) {
				return deadline, true
			}
			continue
		}
		if _, ok := r.expire(deadline, now); ok {
			return deadline, false
		}
	}
}

// expire makes it final that a deadline has passed, and returns what left
// returns. It reports false if the deadline was changed in the meantime.
func (r *entry[K, V]) expire(deadline, now time.Duration) (left time.Duration, ok bool) {
	switch {
	case deadline == acquiredDeadline:
		return 0, true
	case deadline < expiredOffset/2: // by another caller, whose clock may be ahead
		deadline -= expiredOffset
	case !r.deadline.CompareAndSwap(int64(deadline), int64(deadline+expiredOffset)):
		return 0, false
	}
	return min(deadline-now, -1), true
}

// cut returns deadline, or the latest that the entry may have.
func (r *entry[K, V]) cut(deadline time.Duration) time.Duration {
	if r.idleRule != nil {
		return min(deadline, r.idleRule.latest)
	}
	return deadline
}
