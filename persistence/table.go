package persistence

import (
	"hash/maphash"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A Table maps keys to values, each entry for a lifetime of its own. Make one with [NewTable]; the
// zero Table is not usable.
//
// All methods may be called concurrently. Each call on one key takes effect at one instant:
// extensions that overlap all count, and an entry that one call has found expired is not found
// alive by a later one. Look-ups of entries that are live share a lock and allocate nothing.
//
// A Table keeps keys and values as they are given, and does not look inside them. A key that is not
// equal to itself (a NaN) is refused.
type Table[K comparable, V any] struct {
	epoch     time.Time // deadlines count from here; its monotonic reading is what matters
	hash      func(maphash.Seed, K) uint64
	seed      maphash.Seed  // random, so that nobody outside can fill one shard
	shards    []shard[K, V] // a power of two
	lifetimes lifetimes
	refuseNew bool

	refusedLifetime, refusedEntry, refusedFull atomic.Uint64
}

// An Entry is a value and what is left of its lifetime, always more than zero.
type Entry[V any] struct {
	// Value is the value under the entry's key.
	Value V
	// Remaining is the time until the entry's deadline.
	Remaining time.Duration
}

// NewTable returns an empty table bounded by o. It starts no goroutine, and the table needs no
// closing.
func NewTable[K comparable, V any](o Options) *Table[K, V] {
	return newTable(o, budget[K, V]{
		weigh: func(K, V) int { return 0 },
		max:   math.MaxInt,
	})
}

// A budget bounds the memory of a table, in units of its own.
type budget[K comparable, V any] struct {
	weigh   func(K, V) int // what an entry costs
	max     int
	largest int // the most that one entry may cost; a shard should hold several such
}

// minShardEntries is how many entries a shard holds at least, if there are several: the keys of a
// table then spread evenly enough over its shards.
const minShardEntries = 4096

func newTable[K comparable, V any](o Options, b budget[K, V]) *Table[K, V] {
	o = o.withDefaults()
	n := 1
	for n < 4*runtime.GOMAXPROCS(0) && o.MaxEntries/(2*n) >= minShardEntries && b.max/(2*n)/16 >= b.largest {
		n *= 2
	}
	t := &Table[K, V]{
		epoch:     time.Now(),
		hash:      maphash.Comparable[K],
		seed:      maphash.MakeSeed(),
		shards:    make([]shard[K, V], n),
		lifetimes: lifetimes{min: o.MinLifetime, max: o.MaxLifetime, sliding: o.Sliding},
		refuseNew: o.WhenFull == RefuseNew,
	}
	if hash, ok := any(maphash.String).(func(maphash.Seed, K) uint64); ok {
		t.hash = hash // K is string
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.maxEntries = o.MaxEntries / n
		if i < o.MaxEntries%n {
			s.maxEntries++
		}
		s.maxBytes = b.max / n
		s.weigh = b.weigh
		order, err := simplelru.NewLRU[K, *record[K, V]](s.maxEntries, nil)
		if err != nil {
			panic(err) // maxEntries is positive: n <= MaxEntries
		}
		s.order = order
	}
	return t
}

// Insert stores value under key for lifetime. If key is live its value is kept, its lifetime starts
// anew, shorter or longer than before, and Insert reports true, as the DataScript function
// avi.vs.table_insert does; use Put to overwrite.
//
// The lifetime is raised to [Options.MinLifetime] and cut to [Options.MaxLifetime]. Insert reports
// false, and changes nothing, if lifetime is zero or negative, or if the table is full and refuses
// new keys.
func (t *Table[K, V]) Insert(key K, value V, lifetime time.Duration) bool {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return false
	}
	s := t.shard(key)
	return t.renew(s, key, granted) || t.store(s, key, value, granted, false)
}

// Put stores value under key for lifetime whether or not key is live. It reports false, and changes
// nothing, in the same cases as [Table.Insert].
func (t *Table[K, V]) Put(key K, value V, lifetime time.Duration) bool {
	granted := t.grant(key, lifetime)
	return granted > 0 && t.store(t.shard(key), key, value, granted, true)
}

// Lookup returns the value under key and what is left of its lifetime, after extending it by
// extend; zero and negative leave it as it is. See [Options.Sliding] for what extending means.
//
// If ok is false value is the zero value and remaining tells why: zero if there is no such key,
// negative if its entry has expired, and then for how long. Only the first look-up tells, since it
// drops the entry, and none does once the entry's memory has been freed otherwise.
func (t *Table[K, V]) Lookup(key K, extend time.Duration) (value V, remaining time.Duration, ok bool) {
	r, left := t.touch(key, extend)
	if left <= 0 {
		return value, left, false
	}
	return r.value, left, true
}

// Refresh extends the lifetime of key by extend, as Lookup does, and reports whether key is live.
func (t *Table[K, V]) Refresh(key K, extend time.Duration) bool {
	_, left := t.touch(key, extend)
	return left > 0
}

// Peek returns what Lookup returns, but leaves no trace: nothing is extended, dropped or counted,
// and the entry does not pass for used.
func (t *Table[K, V]) Peek(key K) (value V, remaining time.Duration, ok bool) {
	s := t.shard(key)
	s.mu.RLock()
	r, left := t.readLocked(s, key, 0)
	s.mu.RUnlock()
	if left < 0 { // see touch
		s.mu.Lock()
		r, left = t.readLocked(s, key, 0)
		s.mu.Unlock()
	}
	if left <= 0 {
		return value, left, false
	}
	return r.value, left, true
}

// Remove removes key and reports whether it was live.
func (t *Table[K, V]) Remove(key K) bool {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.findLocked(key, t.now())
	if r == nil {
		return false
	}
	s.removeLocked(r)
	s.writes.removals++
	return true
}

// CompareAndSwap replaces the value under key by new if key is live and its value equals old, and
// reports whether that was so. The lifetime stays as it is. A full table that refuses new keys may
// also refuse a value that takes more memory.
//
// It is a function because only tables with comparable values have it. If V is an interface type it
// panics, like any comparison, when both values are of the same type and that type is not
// comparable.
func CompareAndSwap[K, V comparable](t *Table[K, V], key K, old, new V) bool {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.now()
	r := s.findLocked(key, now)
	if r == nil || r.value != old {
		return false
	}
	return t.placeLocked(s, now, r, key, new, time.Duration(r.deadline.Load()))
}

// Len returns how many entries are stored, including those that have expired and whose memory has
// not been freed yet.
func (t *Table[K, V]) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += len(s.places)
		s.mu.RUnlock()
	}
	return n
}

// All returns an iterator over the live entries, in no order. No lock is held while the loop body
// runs, which may call any method of t. An entry is yielded at most once, with the lifetime it has
// at that moment; whether entries that are stored or given another value during the loop appear,
// and with which value, is not specified.
func (t *Table[K, V]) All() iter.Seq2[K, Entry[V]] {
	return func(yield func(K, Entry[V]) bool) {
		for i := range t.shards {
			s := &t.shards[i]
			s.mu.RLock()
			places := slices.Clone(s.places)
			s.mu.RUnlock()
			for _, p := range places {
				left := remaining(time.Duration(p.record.deadline.Load()), t.now())
				if left > 0 && !yield(p.record.key, Entry[V]{p.record.value, left}) {
					return
				}
			}
		}
	}
}

// now returns the time on the table's clock. Read it under the shard's lock: time spent waiting for
// the lock must count.
func (t *Table[K, V]) now() time.Duration {
	return time.Since(t.epoch)
}

func (t *Table[K, V]) shard(key K) *shard[K, V] {
	return &t.shards[t.hash(t.seed, key)&uint64(len(t.shards)-1)]
}

// grant returns the lifetime that a new entry gets, 0 if it is refused.
func (t *Table[K, V]) grant(key K, lifetime time.Duration) time.Duration {
	if key != key { // a NaN, which no map could find or delete
		t.refusedEntry.Add(1)
		return 0
	}
	granted := t.lifetimes.grant(lifetime)
	if granted == 0 {
		t.refusedLifetime.Add(1)
	}
	return granted
}

// touch finds and extends the entry under key and marks it as used. left is zero if there is no
// such entry and negative if it had expired.
func (t *Table[K, V]) touch(key K, extend time.Duration) (r *record[K, V], left time.Duration) {
	s := t.shard(key)
	s.mu.RLock()
	r, left = t.readLocked(s, key, extend)
	s.mu.RUnlock()
	if left < 0 {
		// A reader that read the clock before the deadline may still be about to extend the entry.
		// Under the write lock there is none, and the answer is final.
		s.mu.Lock()
		r, left = t.readLocked(s, key, extend)
		if left < 0 {
			s.expireLocked(r)
			s.expired.Add(1)
		}
		s.mu.Unlock()
	}
	if left <= 0 {
		s.misses.Add(1)
		return nil, left
	}
	r.markUsed()
	s.hits.Add(1)
	return r, left
}

// readLocked finds the entry under key and extends it if it is live. left is as in touch. The
// caller holds the shard's lock, for reading at least.
func (t *Table[K, V]) readLocked(s *shard[K, V], key K, extend time.Duration) (r *record[K, V], left time.Duration) {
	r, ok := s.order.Peek(key)
	if !ok {
		return nil, 0
	}
	return r, r.extend(t.now(), extend, t.lifetimes)
}

// renew gives key a new lifetime under the read lock. It reports false if key is not live or the
// write lock is needed.
func (t *Table[K, V]) renew(s *shard[K, V], key K, granted time.Duration) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.order.Peek(key)
	if !ok {
		return false
	}
	now := t.now()
	return r.prolong(now, now+granted)
}

// store stores value under key, or gives key a new lifetime if it is live and its value is not to
// be replaced.
func (t *Table[K, V]) store(s *shard[K, V], key K, value V, granted time.Duration, replace bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.now()
	r := s.findLocked(key, now)
	if r != nil && !replace {
		s.setDeadlineLocked(r, now+granted)
		r.markUsed()
		return true
	}
	return t.placeLocked(s, now, r, key, value, now+granted)
}

// placeLocked gives an entry a place, that of the live entry old unless old is nil, evicting others
// if it must and may. All writes that may make a table grow pass here, so this is where it is
// swept.
func (t *Table[K, V]) placeLocked(s *shard[K, V], now time.Duration, old *record[K, V], key K, value V, deadline time.Duration) bool {
	cost := s.weigh(key, value)
	if cost > s.maxBytes {
		t.refusedEntry.Add(1)
		return false
	}
	s.sweepLocked(now, sweepWidth)
	if t.refuseNew && !t.findRoomLocked(s, now, old, cost) {
		t.refusedFull.Add(1)
		return false
	}
	r := &record[K, V]{key: key, value: value}
	r.deadline.Store(int64(deadline))
	if old != nil {
		r.used.Store(true)
		s.unlinkLocked(old)
		s.writes.replacements++
	} else {
		s.writes.inserts++
	}
	if !t.refuseNew {
		s.makeRoomLocked(now, cost)
	}
	s.addLocked(r)
	return true
}

// findRoomLocked reports whether an entry of that cost fits in the place of old, or in another if
// old is nil. It looks for expired entries if it does not.
func (t *Table[K, V]) findRoomLocked(s *shard[K, V], now time.Duration, old *record[K, V], cost int) bool {
	fits := func() bool {
		if old == nil {
			return s.hasRoomLocked(cost)
		}
		return s.bytes-s.weigh(old.key, old.value) <= s.maxBytes-cost
	}
	for examined := sweepWidth; !fits(); examined += sweepWidth {
		if examined >= refusalWidth {
			return false
		}
		s.sweepLocked(now, sweepWidth)
	}
	return true
}
