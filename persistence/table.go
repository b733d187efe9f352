package persistence

import (
	"hash/maphash"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
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
	owner     func(K) ownerID // nil: no key has an owner
	seed      maphash.Seed    // random, so that nobody outside can fill one shard
	shards    []shard[K, V]   // a power of two
	lifetimes lifetimes
	refuseNew bool
	onDelete  atomic.Pointer[func(K, V, DeletionCause)]

	refusedLifetime, refusedEntry, refusedFull, refusedOwner atomic.Uint64
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
	return newTable(o, unbounded[K, V](), nil)
}

// A budget bounds the memory of a table, in units of its own.
type budget[K comparable, V any] struct {
	weigh   func(K, V) int // what an entry costs
	max     int
	largest int // the most that one entry may cost; a shard should hold several such
}

func unbounded[K comparable, V any]() budget[K, V] {
	return budget[K, V]{weigh: func(K, V) int { return 0 }, max: math.MaxInt}
}

// minShardEntries is how many entries a shard holds at least, if there are several: the keys of a
// table then spread evenly enough over its shards.
const minShardEntries = 4096

// newTable returns a table whose keys belong to whom owner says, or else Options.Owner.
func newTable[K comparable, V any](o Options, b budget[K, V], owner func(K) ownerID) *Table[K, V] {
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
	if f, ok := any(o.Owner).(func(K) string); ok && f != nil && owner == nil { // K is string
		seed := maphash.MakeSeed()
		owner = func(key K) ownerID {
			if name := f(key); name != "" {
				return ownerID(maphash.String(seed, name)) | 1
			}
			return 0
		}
	}
	t.owner = owner
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
		if owner != nil {
			s.members = &members{shares: make(map[ownerID]*list), most: min(o.MaxPerOwner, s.maxEntries)}
		}
		s.index = make(map[K]*record[K, V])
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
	s, owner := t.locate(key)
	r, _ := t.renew(s, key, granted)
	if r == nil {
		r, _, _ = t.store(s, owner, key, value, granted)
	}
	return r != nil
}

// Put stores value under key for lifetime whether or not key is live. It reports false, and changes
// nothing, in the same cases as [Table.Insert].
func (t *Table[K, V]) Put(key K, value V, lifetime time.Duration) bool {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return false
	}
	return t.put(key, value, granted, idling{})
}

// PutIdle stores value under key, whether or not key is live, until it has not been used for idle,
// and for atMost altogether. Each Lookup and Refresh that finds it makes idle the least that is
// left, whatever extension it names, but nothing makes the entry outlive atMost except storing it
// anew: Insert, LookupOrInsert and Touch give it no more than what is left of that.
//
// Both durations are raised to [Options.MinLifetime] and cut to [Options.MaxLifetime]. PutIdle
// reports false, and changes nothing, in the same cases as [Table.Insert].
func (t *Table[K, V]) PutIdle(key K, value V, idle, atMost time.Duration) bool {
	granted := t.grant(key, min(idle, atMost))
	if granted == 0 {
		return false
	}
	return t.put(key, value, granted, idling{granted, t.lifetimes.grant(atMost)})
}

// LookupOrInsert is Insert that tells which value the key has afterwards, and what is left of its
// lifetime: the value it had, if found, and otherwise the one given. If it is not found and
// remaining is zero, it has been refused in one of the cases of [Table.Insert], and actual is the
// zero value.
func (t *Table[K, V]) LookupOrInsert(key K, value V, lifetime time.Duration) (actual V, remaining time.Duration, found bool) {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return actual, 0, false
	}
	s, owner := t.locate(key)
	r, left := t.renew(s, key, granted)
	if r == nil {
		r, left, found = t.store(s, owner, key, value, granted)
		if r == nil {
			return actual, 0, false
		}
		return r.value, left, found
	}
	return r.value, left, true
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

// Touch gives key a new lifetime, shorter or longer than before, and reports whether key is live: it
// is Insert that stores nothing. It reports false, and changes nothing, if lifetime is zero or
// negative.
func (t *Table[K, V]) Touch(key K, lifetime time.Duration) bool {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return false
	}
	s := t.shard(key)
	if r, _ := t.renew(s, key, granted); r != nil {
		s.hits.Add(1)
		return true
	}
	t.lock(s)
	defer t.unlock(s)
	now := t.now()
	r := s.findLocked(key, now)
	if r == nil {
		s.misses.Add(1)
		return false
	}
	t.renewLocked(s, r, now, granted)
	s.hits.Add(1)
	return true
}

// Peek returns what Lookup returns, but leaves no trace: nothing is extended, dropped or counted,
// and the entry does not pass for used.
func (t *Table[K, V]) Peek(key K) (value V, remaining time.Duration, ok bool) {
	s := t.shard(key)
	s.mu.RLock()
	r, left := t.peekLocked(s, key)
	s.mu.RUnlock()
	if left < 0 { // see touch
		s.mu.Lock()
		r, left = t.peekLocked(s, key)
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
	t.lock(s)
	defer t.unlock(s)
	r := s.findLocked(key, t.now())
	if r == nil {
		return false
	}
	s.deleteLocked(r, Removed)
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
	t.lock(s)
	defer t.unlock(s)
	now := t.now()
	r := s.findLocked(key, now)
	if r == nil || r.value != old {
		return false
	}
	return t.placeLocked(s, now, r, key, new, s.termLocked(r)) != nil
}

// Increment adds delta, which may be negative, to the number under key and returns the sum; a sum
// that int64 cannot hold becomes the greatest or smallest number it can. If key is live its lifetime
// stays as it is and lifetime is ignored; otherwise it is stored with delta for lifetime. Increments
// that overlap all count.
//
// Increment reports false, and changes nothing, where CompareAndSwap or Insert would be refused.
func Increment[K comparable](t *Table[K, int64], key K, delta int64, lifetime time.Duration) (sum int64, ok bool) {
	return increment(t, key, lifetime, func(old *record[K, int64]) (K, int64, bool) {
		if old == nil {
			return key, delta, true
		}
		return old.key, saturatingAdd(old.value, delta), true
	})
}

// increment replaces the value under key by the one that next returns, given the live entry or nil,
// unless it reports false. next runs under a lock.
func increment[K comparable, V any](t *Table[K, V], key K, lifetime time.Duration, next func(old *record[K, V]) (K, V, bool)) (value V, ok bool) {
	if key != key {
		t.refusedEntry.Add(1)
		return value, false
	}
	s, owner := t.locate(key)
	t.lock(s)
	defer t.unlock(s)
	now := t.now()
	old := s.findLocked(key, now)
	until := term{owner: owner}
	if old != nil {
		until = s.termLocked(old)
	} else if granted := t.lifetimes.grant(lifetime); granted > 0 {
		until.deadline = now + granted
	} else {
		t.refusedLifetime.Add(1)
		return value, false
	}
	key, v, ok := next(old)
	if !ok || t.placeLocked(s, now, old, key, v, until) == nil {
		return value, false
	}
	return v, true
}

// saturatingAdd returns a + b, or the end of the range beyond which it lies.
func saturatingAdd(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
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
	s, _ := t.locate(key)
	return s
}

// locate returns the shard that key belongs to, and its owner. Owners have all their entries in one
// shard, so that counting them takes no more than its lock.
func (t *Table[K, V]) locate(key K) (*shard[K, V], ownerID) {
	var owner ownerID
	if t.owner != nil {
		owner = t.owner(key)
	}
	hash := uint64(owner) >> 1 // its last bit is always set
	if owner == 0 {
		hash = t.hash(t.seed, key)
	}
	return &t.shards[hash&uint64(len(t.shards)-1)], owner
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
		t.lock(s)
		r, left = t.readLocked(s, key, extend)
		if left < 0 {
			s.deleteLocked(r, Expired)
			s.expired.Add(1)
		}
		t.unlock(s)
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
	r = s.index[key]
	if r == nil {
		return nil, 0
	}
	return r, s.extend(r, t.now(), extend, t.lifetimes)
}

// peekLocked is readLocked that extends nothing.
func (t *Table[K, V]) peekLocked(s *shard[K, V], key K) (r *record[K, V], left time.Duration) {
	r = s.index[key]
	if r == nil {
		return nil, 0
	}
	return r, remaining(time.Duration(r.deadline.Load()), t.now())
}

// renew gives key a new lifetime under the read lock and returns its entry and what is then left. It
// returns nil if key is not live or the write lock is needed.
func (t *Table[K, V]) renew(s *shard[K, V], key K, granted time.Duration) (*record[K, V], time.Duration) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.index[key]
	if r == nil {
		return nil, 0
	}
	now := t.now()
	deadline := s.cut(r, now+granted)
	if !r.prolong(now, deadline) {
		return nil, 0
	}
	return r, deadline - now
}

// renewLocked is renew for a live entry under the write lock.
func (t *Table[K, V]) renewLocked(s *shard[K, V], r *record[K, V], now, granted time.Duration) time.Duration {
	deadline := s.cut(r, now+granted)
	s.setDeadlineLocked(r, deadline)
	r.markUsed()
	return deadline - now
}

// store gives key a new lifetime if it is live, and stores value under it if it is not. It returns
// the entry and what is left of it, or nil if it is refused.
func (t *Table[K, V]) store(s *shard[K, V], owner ownerID, key K, value V, granted time.Duration) (r *record[K, V], left time.Duration, found bool) {
	t.lock(s)
	defer t.unlock(s)
	now := t.now()
	if r := s.findLocked(key, now); r != nil {
		return r, t.renewLocked(s, r, now, granted), true
	}
	return t.placeLocked(s, now, nil, key, value, term{deadline: now + granted, owner: owner}), granted, false
}

// put stores value under key, live or not. The latest time of i counts from now.
func (t *Table[K, V]) put(key K, value V, granted time.Duration, i idling) bool {
	s, owner := t.locate(key)
	t.lock(s)
	defer t.unlock(s)
	now := t.now()
	if i.idle > 0 {
		i.latest += now
	}
	return t.placeLocked(s, now, s.findLocked(key, now), key, value, term{now + granted, i, owner}) != nil
}

// placeLocked gives an entry a place, that of the live entry old unless old is nil, evicting others
// if it must and may, and returns its record, or nil if it is refused. All writes that may make a
// table grow pass here, so this is where it is swept.
func (t *Table[K, V]) placeLocked(s *shard[K, V], now time.Duration, old *record[K, V], key K, value V, until term) *record[K, V] {
	cost := s.weigh(key, value)
	if cost > s.maxBytes {
		t.refusedEntry.Add(1)
		return nil
	}
	s.sweepLocked(now, sweepWidth)
	if t.refuseNew && !t.findRoomLocked(s, now, old, cost) {
		t.refusedFull.Add(1)
		return nil
	}
	if old == nil && !s.admitLocked(now, until.owner, !t.refuseNew) {
		t.refusedOwner.Add(1)
		return nil
	}
	r := &record[K, V]{key: key, value: value}
	r.deadline.Store(int64(until.deadline))
	if old != nil {
		r.used.Store(true)
		s.deleteLocked(old, Replaced)
	} else {
		s.writes.inserts++
	}
	if !t.refuseNew {
		s.makeRoomLocked(now, cost, until.owner)
	}
	s.addLocked(r, until)
	return r
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
