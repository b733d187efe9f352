// Package tokenbucket limits how often something happens: for all together with
// a [Bucket], or for each of any number of keys with a [Table], in memory that
// is bounded.
//
// Time is a number of nanoseconds from any beginning, as long as it is the same
// for all calls of an object. It must not run back by much.
package tokenbucket

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Size says how buckets fill. A bucket is one number: the time at which it
// will be full, if nothing is taken until then. Taking a token moves that time
// by the interval at which tokens come (the generic cell rate algorithm).
type Size struct {
	interval int64 // nanoseconds between two tokens
	refill   int64 // nanoseconds in which an empty bucket fills
	period   int64 // nanoseconds in which as many tokens come as were asked for
}

// maxRefill is the longest time in which a bucket may fill.
const maxRefill = 1 << 61

// NewSize returns the size of buckets that get count tokens in a period,
// evenly, and has as many as that, or burst if that is more. The interval
// between two tokens is rounded up to whole nanoseconds, so that rates are not
// exceeded. Count and period must be positive; the error reports a bucket that
// would take more than 73 years to fill.
func NewSize(count int, period time.Duration, burst int) (Size, error) {
	interval := (int64(period) + int64(count) - 1) / int64(count)
	capacity := int64(max(count, burst))
	if interval > maxRefill/capacity {
		return Size{}, fmt.Errorf("%d tokens at %d in %v take more than 73 years to come", capacity, count, period)
	}
	return Size{interval, interval * capacity, int64(period)}, nil
}

// Take takes n tokens at once, or none, from a bucket that will be full at a
// time, and returns when it will be full then. With n below 1 it only reports
// whether there is a token.
func (s Size) Take(full int64, n int, now int64) (int64, bool) {
	// Compared before it is multiplied, because scripts choose n.
	if int64(n) > s.refill/s.interval {
		return full, false
	}
	full = max(full, now)
	later := full + int64(max(n, 1))*s.interval
	return later, later-now <= s.refill
}

// A Bucket is one token bucket, which starts full. It is safe for concurrent
// use.
type Bucket struct {
	size Size
	full atomic.Int64
}

// NewBucket returns a bucket.
func NewBucket(size Size) *Bucket { return &Bucket{size: size} }

// Size returns the size of the bucket.
func (b *Bucket) Size() Size { return b.size }

// Take takes a token and reports whether there was one.
func (b *Bucket) Take(now int64) bool {
	for {
		old := b.full.Load()
		later, ok := b.size.Take(old, 1, now)
		if !ok || b.full.CompareAndSwap(old, later) {
			return ok
		}
	}
}

// Peek reports what Take would, and takes nothing.
func (b *Bucket) Peek(now int64) bool {
	_, ok := b.size.Take(b.full.Load(), 1, now)
	return ok
}

// A Table has a bucket for each key, which starts full. Keys are known by their
// hashes, which must be good, and seeded if clients choose the keys. It is safe
// for concurrent use and does not allocate after the first use of each of its
// parts.
//
// Memory is bounded however many keys there are. When there are more active
// keys than room, keys share buckets, in such a way that none ever gets more
// than its rate; what a key may get less of is what others with which it shares
// have taken. Buckets that have filled up again make room first.
type Table struct {
	size    Size
	setMask uint64 // sets are chosen by these bits of the hash
	shards  [shards]shard
}

// A shard is a part of the sets under one lock. A key hashes to one set, and
// can only be in one of its slots.
//
// A new key takes the slot of the key that has the most tokens, and with it
// that key's bucket as it is. This is the Space-Saving sketch, turned from
// counters to buckets. A key that is not in its set has at least as many
// tokens as the fullest bucket of the set: that was so when it was pushed out,
// and since then its bucket could only fill, while the fullest bucket cannot
// become fuller than time fills it. So by taking that bucket it never gets
// more than its due. A bucket that is full is as good as none: taking it is
// forgetting nothing.
const (
	shards = 64
	ways   = 8 // slots of a set
)

type shard struct {
	mu   sync.Mutex
	sets [][ways]slot // nil until used
	_    [32]byte     // shards do not share cache lines
}

type slot struct {
	key  uint64 // hash of the key
	full int64  // when the bucket will be full
}

// NewTable returns a table for about so many keys, rounded up to a power of
// two that is at least 8. Each takes 16 bytes, of which at first none are
// allocated.
func NewTable(size Size, keys int) *Table {
	sets := 1 << bits.Len(uint((max(keys, ways)+ways-1)/ways-1))
	return &Table{size: size, setMask: uint64(sets - 1)}
}

// Size returns the size of the buckets.
func (t *Table) Size() Size { return t.size }

// Slots returns how many buckets there is room for in the parts of the table
// that have been used.
func (t *Table) Slots() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.sets) * ways
		s.mu.Unlock()
	}
	return n
}

// Take takes n tokens from the bucket of a key, or none if there are fewer, and
// reports which. With n below 1 it only reports whether there is a token.
func (t *Table) Take(hash uint64, n int, now int64) bool {
	shard, s := t.lock(hash, true)
	defer shard.mu.Unlock()
	full, ok := t.size.Take(s.full, n, now)
	if ok && n > 0 {
		*s = slot{hash, full}
	}
	return ok
}

// Fail takes a token, and if it is the last one it sees to it that there is
// none for a whole period.
func (t *Table) Fail(hash uint64, now int64) {
	shard, s := t.lock(hash, true)
	defer shard.mu.Unlock()
	full, ok := t.size.Take(s.full, 1, now)
	if !ok {
		return
	}
	if _, more := t.size.Take(full, 1, now); !more {
		full = now + t.size.period + t.size.refill - t.size.interval // so there is one token then
	}
	*s = slot{hash, full}
}

// Peek reports whether the bucket of a key has a token, and leaves everything
// as it is.
func (t *Table) Peek(hash uint64, now int64) bool {
	shard, s := t.lock(hash, false)
	defer shard.mu.Unlock()
	if s == nil {
		return true
	}
	_, ok := t.size.Take(s.full, 1, now)
	return ok
}

// lock locks the shard of a key and returns it, with the key's slot, or else
// the slot of its set that has the most tokens. The slot is nil if its part of
// the table has not been made, and is not to be.
func (t *Table) lock(hash uint64, construct bool) (*shard, *slot) {
	set := hash & t.setMask // the low bits choose the shard
	shard, i := &t.shards[set%shards], set/shards
	shard.mu.Lock()
	if shard.sets == nil {
		if !construct {
			return shard, nil
		}
		shard.sets = make([][ways]slot, t.setMask/shards+1)
	}
	best := &shard.sets[i][0]
	for j := range shard.sets[i] {
		s := &shard.sets[i][j]
		if s.key == hash {
			return shard, s
		}
		if s.full < best.full {
			best = s
		}
	}
	return shard, best
}
