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

// A Table maps keys to values, each entry for a lifetime of its own. Create one
// with [NewTable]; the zero Table is not usable.
//
// All methods may be called concurrently. Each call on one key takes effect at
// one instant: overlapping extensions all apply, and after one call has found
// an entry expired no later call finds it live. Look-ups and extensions of live
// entries take no lock, write only to the entry, and allocate nothing.
//
// A Table stores keys and values as they are given. It refuses a key that is
// not equal to itself (a NaN).
type Table[K comparable, V any] struct {
	epoch     time.Time // deadlines count from here, on the monotonic clock
	hash      func(maphash.Seed, K) uint64
	owner     func(K) ownerID // nil: no key has an owner
	seed      maphash.Seed    // random, so that clients cannot fill one shard
	shards    []shard[K, V]   // a power of two
	spread    uint64          // the bits of a shard's number that the key decides, even if it has an owner
	lifetimes lifetimes
	refuseNew bool
	closed    atomic.Bool // set under the locks of all shards, which are empty and stay so
	onDelete  atomic.Pointer[func(K, V, DeletionCause)]
	onChange  atomic.Pointer[func(key K, written bool)] // see watch
	reads     reads

	_                                                        [64]byte // separates fields that all look-ups read from the cache line of the counters
	refusedLifetime, refusedEntry, refusedFull, refusedOwner atomic.Uint64
	refusedClosed                                            atomic.Uint64 // stored after the table was closed
}

// An Entry is a value and its remaining lifetime, always more than zero.
type Entry[V any] struct {
	// Value is the value of the entry.
	Value V
	// Remaining is the time until the entry's deadline.
	Remaining time.Duration
}

// NewTable returns an empty table with the bounds o. It panics if they have a
// fault. It starts no goroutine; the table needs no closing.
func NewTable[K comparable, V any](o Options) *Table[K, V] {
	return newTable(o, unbounded[K, V](), nil)
}

// A budget bounds the memory of a table, in units of its own.
type budget[K comparable, V any] struct {
	costOf  func(K, V) int // the cost of an entry
	max     int
	largest int // the greatest cost of an entry; a shard should have room for several
}

func unbounded[K comparable, V any]() budget[K, V] {
	return budget[K, V]{costOf: func(K, V) int { return 0 }, max: math.MaxInt}
}

// minShardEntries is the least number of entries per shard, if there are
// several shards: the keys of a table then spread evenly enough.
const minShardEntries = 4096

// minShareEntries is the least limit of an owner per shard, if its entries are
// in several shards.
const minShareEntries = minShardEntries / 2

// newTable returns a table whose owners come from owner or, if that is nil,
// from Options.Owner.
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
		reads:     newReads(),
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
	most := math.MaxInt
	t.spread = uint64(n - 1)
	if owner != nil && o.MaxPerOwner > 0 {
		k := 1
		for k < n && o.MaxPerOwner/(2*k) >= minShareEntries {
			k *= 2
		}
		t.spread, most = uint64(k-1), (o.MaxPerOwner+k-1)/k
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
		s.costOf = b.costOf
		if owner != nil {
			s.ownership = &ownership{ids: make(map[ownerID]int32), most: most}
		}
		s.lru = newLRULists(s.maxEntries, s.maxBytes)
		s.index.init()
	}
	return t
}

// Insert stores value under key for lifetime. If key is live it keeps its value
// and starts a new lifetime, shorter or longer than before, and Insert returns
// true, as the DataScript function avi.vs.table_insert does; use Put to
// overwrite.
//
// The lifetime is raised to [Options.MinLifetime] and cut to
// [Options.MaxLifetime]. Insert returns false, and changes nothing, if lifetime
// is zero or negative, or if the table is full and refuses new keys.
func (t *Table[K, V]) Insert(key K, value V, lifetime time.Duration) bool {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return false
	}
	h := t.locate(key)
	r, _ := t.renew(h, key, granted)
	if r == nil {
		r, _, _ = t.store(h, key, value, granted)
	}
	return r != nil
}

// Put stores value under key for lifetime whether or not key is live. It
// returns false, and changes nothing, in the same cases as [Table.Insert].
func (t *Table[K, V]) Put(key K, value V, lifetime time.Duration) bool {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return false
	}
	return t.put(key, value, granted, 0)
}

// PutIdle stores value under key, whether or not key is live, until it has not
// been used for idle, and no longer than atMost. Each Lookup and Refresh raises
// the remaining lifetime to idle, whatever extension it names, but no longer
// than atMost allows. Insert, LookupOrInsert and Touch are limited by atMost
// too; only storing another value ends the rule.
//
// Both durations are raised to [Options.MinLifetime] and cut to
// [Options.MaxLifetime]. PutIdle returns false, and changes nothing, in the
// same cases as [Table.Insert].
func (t *Table[K, V]) PutIdle(key K, value V, idle, atMost time.Duration) bool {
	granted := t.grant(key, min(idle, atMost))
	if granted == 0 {
		return false
	}
	return t.put(key, value, granted, t.lifetimes.grant(atMost))
}

// LookupOrInsert is Insert that also returns the value of key afterwards and
// its remaining lifetime: if found, the value it had, otherwise the given one.
// If found is false and remaining is zero, the value was refused, in the same
// cases as by [Table.Insert], and actual is the zero value.
func (t *Table[K, V]) LookupOrInsert(key K, value V, lifetime time.Duration) (actual V, remaining time.Duration, found bool) {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return actual, 0, false
	}
	h := t.locate(key)
	r, left := t.renew(h, key, granted)
	if r == nil {
		r, left, found = t.store(h, key, value, granted)
		if r == nil {
			return actual, 0, false
		}
		return r.value, left, found
	}
	return r.value, left, true
}

// Lookup returns the value of key and its remaining lifetime after extending it
// by extend. Zero and negative extend nothing. See [Options.Sliding] for what
// extending means.
//
// If ok is false, value is the zero value and remaining is zero for a missing
// key, or minus the time since an entry expired. Only the first look-up after
// the expiry returns that time, because it deletes the entry, and none if the
// memory of the entry was freed before.
func (t *Table[K, V]) Lookup(key K, extend time.Duration) (value V, remaining time.Duration, ok bool) {
	r, left := t.touch(key, extend)
	if left <= 0 {
		return value, left, false
	}
	return r.value, left, true
}

// Refresh extends the lifetime of key by extend, as Lookup does, and reports
// whether key is live.
func (t *Table[K, V]) Refresh(key K, extend time.Duration) bool {
	_, left := t.touch(key, extend)
	return left > 0
}

// Touch gives key a new lifetime, shorter or longer than before, and reports
// whether key is live. It is Insert that stores nothing. It returns false, and
// changes nothing, if lifetime is zero or negative.
func (t *Table[K, V]) Touch(key K, lifetime time.Duration) bool {
	granted := t.grant(key, lifetime)
	if granted == 0 {
		return false
	}
	h := t.locate(key)
	_, left := t.renew(h, key, granted)
	if left == 0 {
		t.lock(h.shard)
		defer t.unlock(h.shard)
		now := t.now()
		if held := h.acquireLocked(h.tag, key, now); held.entry != nil {
			left = h.renewLocked(held, now, granted)
		}
	}
	t.reads.count(left)
	return left > 0
}

// Peek returns the same as Lookup without side effects: it does not extend,
// delete or count anything, and is no use of the entry.
func (t *Table[K, V]) Peek(key K) (value V, remaining time.Duration, ok bool) {
	r, left := t.peek(key, t.now)
	if left <= 0 {
		return value, left, false
	}
	return r.value, left, true
}

// Remove removes key and reports whether it was live.
func (t *Table[K, V]) Remove(key K) bool {
	h := t.locate(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	held := h.acquireLocked(h.tag, key, t.now())
	if held.entry == nil {
		return false
	}
	h.deleteLocked(held.entry, Removed)
	return true
}

// CompareAndSwap replaces the value of key by new if key is live and its value
// equals old, and reports whether it did. The lifetime does not change. A full
// table that refuses new keys may also refuse a value that needs more memory.
//
// It is a function because only tables with comparable values have it. If V is
// an interface type it panics, like any comparison, if both values are of one
// type that is not comparable.
func CompareAndSwap[K, V comparable](t *Table[K, V], key K, old, new V) bool {
	h := t.locateOwned(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	if r, _ := h.index.find(h.tag, key); r == nil || r.value != old { // which may panic, so nothing has been acquired
		return false
	}
	now := t.now()
	held := h.acquireLocked(h.tag, key, now)
	return held.entry != nil && t.storeLocked(h, now, held, key, new, held.expiry()) != nil
}

// Claim stores value under key for lifetime if key is not live, or if its live
// value equals instead; the zero value as instead replaces nothing. It returns
// the value of key afterwards and its remaining lifetime. A value that is found
// keeps its lifetime and is marked as used. Of overlapping claims one stores
// its value, and all return it.
//
// Claim treats lifetime like [Table.Insert], and returns the zero value and
// zero where Insert would return false. It is a function because only tables
// with comparable values have it; see [CompareAndSwap].
func Claim[K, V comparable](t *Table[K, V], key K, value, instead V, lifetime time.Duration) (actual V, remaining time.Duration) {
	return claimFor(t, key, value, instead, t.grant(key, lifetime), 0)
}

// claimIdle is Claim of a value with the lifetimes of [Table.PutIdle].
func claimIdle[K, V comparable](t *Table[K, V], key K, value, instead V, idle, atMost time.Duration) (actual V, remaining time.Duration) {
	return claimFor(t, key, value, instead, t.grant(key, min(idle, atMost)), t.lifetimes.grant(atMost))
}

// claimFor is Claim with lifetimes as put has them. A granted of 0 refuses.
func claimFor[K, V comparable](t *Table[K, V], key K, value, instead V, granted, atMost time.Duration) (actual V, remaining time.Duration) {
	if granted == 0 {
		return actual, 0
	}
	h := t.locate(key)
	if r, left := findOther(t, h, key, instead); r != nil {
		return r.value, left
	}
	r, left := claim(t, h, key, value, instead, granted, atMost)
	if r == nil {
		return actual, 0
	}
	return r.value, left
}

// findOther finds the live entry under key without the lock and marks it as
// used. It returns nil if there is none, if its value equals instead and is to
// be replaced, or if the lock is needed.
func findOther[K, V comparable](t *Table[K, V], h location[K, V], key K, instead V) (*entry[K, V], time.Duration) {
	r, _ := h.index.find(h.tag, key)
	if r == nil || replaceable(r.value, instead) {
		return nil, 0
	}
	left := r.left(t.now())
	if left <= 0 {
		return nil, 0
	}
	r.use(h.generation.Load())
	return r, left
}

// replaceable reports whether a claim replaces a value.
func replaceable[V comparable](value, instead V) bool {
	var none V
	return value == instead && instead != none
}

// claim is the part of Claim under the lock. It returns nil if the value is
// refused.
func claim[K, V comparable](t *Table[K, V], h location[K, V], key K, value, instead V, granted, atMost time.Duration) (*entry[K, V], time.Duration) {
	h = t.withOwner(h, key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	replace := false
	if r, _ := h.index.find(h.tag, key); r != nil {
		replace = replaceable(r.value, instead) // which may panic, so nothing has been acquired
	}
	now := t.now()
	held := h.acquireLocked(h.tag, key, now)
	if held.entry != nil && !replace {
		held.use(h.generation.Load())
		h.releaseLocked(held)
		return held.entry, held.deadline - now
	}
	return t.storeLocked(h, now, held, key, value, newExpiry(now, granted, atMost)), granted
}

// Increment adds delta, which may be negative, to the number under key and
// returns the sum. A sum outside the range of int64 becomes the end of the
// range. A live key keeps its lifetime, and lifetime is ignored; another is
// stored with delta for lifetime. Overlapping increments all apply.
//
// Increment returns false, and changes nothing, where CompareAndSwap or Insert
// would be refused.
func Increment[K comparable](t *Table[K, int64], key K, delta int64, lifetime time.Duration) (sum int64, ok bool) {
	return increment(t, key, lifetime, func(old *entry[K, int64]) (K, int64, bool) {
		if old == nil {
			return key, delta, true
		}
		return old.key, saturatingAdd(old.value, delta), true
	})
}

// increment replaces the value under key by the result of next, which gets the
// live entry or nil, unless next returns false. next runs under a lock.
func increment[K comparable, V any](t *Table[K, V], key K, lifetime time.Duration, next func(old *entry[K, V]) (K, V, bool)) (value V, ok bool) {
	if key != key {
		t.refusedEntry.Add(1)
		return value, false
	}
	h := t.locateOwned(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	now := t.now()
	old := h.acquireLocked(h.tag, key, now)
	until := old.expiry()
	if old.entry == nil {
		granted := t.lifetimes.grant(lifetime)
		if granted == 0 {
			t.refusedLifetime.Add(1)
			return value, false
		}
		until.deadline = now + granted
	}
	key, v, ok := next(old.entry)
	if !ok {
		h.releaseLocked(old)
		return value, false
	}
	if t.storeLocked(h, now, old, key, v, until) == nil {
		return value, false
	}
	return v, true
}

// saturatingAdd returns a + b, or the end of the range beyond which it is.
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

// Len returns how many entries are stored, including expired ones whose memory
// has not been freed yet.
func (t *Table[K, V]) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.slots)
		s.mu.Unlock()
	}
	return n
}

// All returns an iterator over the live entries, in no order. No lock is held
// while the loop body runs, which may call any method of t. An entry is yielded
// at most once, with its lifetime at that moment. Entries that are stored or
// get another value during the loop may or may not appear, with either value.
func (t *Table[K, V]) All() iter.Seq2[K, Entry[V]] {
	return func(yield func(K, Entry[V]) bool) {
		for r, left := range t.liveEntries(t.now) {
			if !yield(r.key, Entry[V]{r.value, left}) {
				return
			}
		}
	}
}

// liveEntries returns an iterator over the entries that are live at the time
// now, and their remaining lifetimes. It locks a shard only to copy the list of
// its slots.
func (t *Table[K, V]) liveEntries(now func() time.Duration) iter.Seq2[*entry[K, V], time.Duration] {
	return func(yield func(*entry[K, V], time.Duration) bool) {
		for i := range t.shards {
			s := &t.shards[i]
			s.mu.Lock()
			slots := slices.Clone(s.slots)
			s.mu.Unlock()
			for _, p := range slots {
				r, left := p.entry, p.entry.left(now())
				if left == 0 { // it may have been replaced
					r, left = t.peek(r.key, now)
				}
				if left > 0 && !yield(r, left) {
					return
				}
			}
		}
	}
}

// now returns the time on the table's clock. Code that needs a shard's lock
// reads it under the lock, so that the wait for the lock is included.
func (t *Table[K, V]) now() time.Duration {
	return time.Since(t.epoch)
}

// A location says where a key belongs.
type location[K comparable, V any] struct {
	*shard[K, V]
	owner ownerID // see locateOwned
	tag   uint32
}

// reserve makes empty shards large enough for their even shares of that many
// entries.
func (t *Table[K, V]) reserve(entries int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.reserveLocked(entries / len(t.shards))
		s.mu.Unlock()
	}
}

// locate returns the location of a key. It asks for the owner only if the shard
// depends on it: as a rule the entries of an owner are spread over the table
// like others. Those of an owner with a limit are in as few shards as the limit
// needs.
func (t *Table[K, V]) locate(key K) location[K, V] {
	hash := t.hash(t.seed, key)
	h := location[K, V]{tag: uint32(hash >> (64 - tagBits))}
	last := uint64(len(t.shards) - 1)
	if t.spread != last {
		if h.owner = t.owner(key); h.owner != noOwner {
			hash = uint64(h.owner)>>1&^t.spread | hash&t.spread // the last bit of owners is always set
		}
	}
	h.shard = &t.shards[hash&last]
	return h
}

// locateOwned is locate with the owner, which storing an entry needs.
func (t *Table[K, V]) locateOwned(key K) location[K, V] {
	return t.withOwner(t.locate(key), key)
}

// withOwner adds the owner to the location of a key.
func (t *Table[K, V]) withOwner(h location[K, V], key K) location[K, V] {
	if t.owner != nil && h.owner == noOwner {
		h.owner = t.owner(key)
	}
	return h
}

// sweepSome frees expired entries, of a limited number of places.
func (t *Table[K, V]) sweepSome() {
	for i := range t.shards {
		s := &t.shards[i]
		t.lock(s)
		s.sweepLocked(t.now(), refusalWidth)
		t.unlock(s)
	}
}

// closeIfEmpty makes the table refuse all entries if it has none, and reports
// whether it does.
func (t *Table[K, V]) closeIfEmpty() bool {
	locked := 0
	defer func() {
		for i := range locked {
			t.shards[i].mu.Unlock()
		}
	}()
	for i := range t.shards {
		t.shards[i].mu.Lock()
		locked++
		if len(t.shards[i].slots) > 0 {
			return false
		}
	}
	t.closed.Store(true)
	return true
}

// grant returns the lifetime of a new entry, 0 if it is refused.
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

// touch finds and extends the entry under key and marks it as used. left is
// zero if there is no such entry and negative if it had expired.
func (t *Table[K, V]) touch(key K, extend time.Duration) (r *entry[K, V], left time.Duration) {
	h := t.locate(key)
	r, left, sure := t.read(h, key, extend)
	if !sure || left < 0 {
		t.lock(h.shard)
		if r, left, _ = t.read(h, key, extend); left < 0 {
			h.deleteLocked(r, Expired)
		}
		t.unlock(h.shard)
	}
	t.reads.count(left)
	if left > 0 {
		r.use(h.generation.Load())
		if f := t.onChange.Load(); f != nil && (extend > 0 || r.idleRule != nil) {
			(*f)(r.key, false)
		}
	}
	return r, left
}

// read finds and extends the entry under key. left is as in touch. If sure is
// false, the lock is needed to be sure; it is always true under the lock.
func (t *Table[K, V]) read(h location[K, V], key K, extend time.Duration) (r *entry[K, V], left time.Duration, sure bool) {
	if r, sure = h.index.find(h.tag, key); r == nil {
		return nil, 0, sure
	}
	left = r.extend(t.now(), extend, t.lifetimes)
	return r, left, left != 0
}

// peek finds the entry under key. left is as in touch.
func (t *Table[K, V]) peek(key K, now func() time.Duration) (r *entry[K, V], left time.Duration) {
	h := t.locate(key)
	look := func() (sure bool) {
		if r, sure = h.index.find(h.tag, key); r == nil {
			return sure
		}
		left = r.left(now())
		return left != 0
	}
	if !look() {
		h.mu.Lock()
		look()
		h.mu.Unlock()
	}
	return r, left
}

// renew gives key a new lifetime without the lock, and returns its entry and
// the remaining lifetime. It returns nil if key is not live or the lock is
// needed.
func (t *Table[K, V]) renew(h location[K, V], key K, granted time.Duration) (*entry[K, V], time.Duration) {
	r, _ := h.index.find(h.tag, key)
	if r == nil {
		return nil, 0
	}
	left := r.prolong(t.now(), granted)
	if left == 0 {
		return nil, 0
	}
	r.use(h.generation.Load())
	if f := t.onChange.Load(); f != nil {
		(*f)(r.key, false)
	}
	return r, left
}

// store gives key a new lifetime if it is live, else stores value under it. It
// returns the entry and its remaining lifetime, or nil if it is refused.
func (t *Table[K, V]) store(h location[K, V], key K, value V, granted time.Duration) (r *entry[K, V], left time.Duration, found bool) {
	h = t.withOwner(h, key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	now := t.now()
	held := h.acquireLocked(h.tag, key, now)
	if held.entry != nil {
		return held.entry, h.renewLocked(held, now, granted), true
	}
	return t.storeLocked(h, now, held, key, value, expiry{deadline: now + granted}), granted, false
}

// put stores value under key, live or not. If atMost is not zero, granted is
// the idle lifetime.
func (t *Table[K, V]) put(key K, value V, granted, atMost time.Duration) bool {
	h := t.locateOwned(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	now := t.now()
	return t.storeLocked(h, now, h.acquireLocked(h.tag, key, now), key, value, newExpiry(now, granted, atMost)) != nil
}

// storeLocked stores an entry in place of old, if one is acquired, evicting
// others if it must and may. It returns the entry, or nil if it is refused and
// old is unchanged. All writes that may make a table grow go through
// storeLocked, so it sweeps the table.
func (t *Table[K, V]) storeLocked(h location[K, V], now time.Duration, old acquired[K, V], key K, value V, until expiry) *entry[K, V] {
	cost := h.costOf(key, value)
	if refused := t.admitLocked(h, now, old.entry, cost); refused != nil {
		refused.Add(1)
		h.releaseLocked(old)
		return nil
	}
	r := &entry[K, V]{key: key, value: value, idleRule: until.idleRule}
	r.deadline.Store(int64(until.deadline))
	marks := h.tag << tagShift
	if old.entry != nil {
		marks |= used
		h.deleteLocked(old.entry, Replaced)
	} else {
		h.writes.inserts++
		h.tickLocked(cost)
	}
	r.marks.Store(marks | h.lru.now<<generationShift)
	if !t.refuseNew {
		h.makeRoomLocked(now, cost, h.owner)
	}
	h.addLocked(r, old.entry, h.owner)
	h.noteLocked(key, true)
	return r
}

// admitLocked sweeps, and returns nil if an entry of that cost may be stored,
// in place of old unless that is nil. Otherwise it returns the counter of the
// reason.
func (t *Table[K, V]) admitLocked(h location[K, V], now time.Duration, old *entry[K, V], cost int) *atomic.Uint64 {
	if t.closed.Load() {
		return &t.refusedClosed
	}
	if cost > h.maxBytes {
		return &t.refusedEntry
	}
	h.sweepLocked(now, sweepWidth)
	if t.refuseNew {
		if h.ownership != nil && old == nil && !h.hasRoomLocked(cost) {
			if _, has := h.shareLocked(h.owner); has > 0 && has >= h.fairShareLocked() {
				return &t.refusedOwner // what has expired is for others
			}
		}
		if !h.findRoomLocked(now, old, cost) {
			return &t.refusedFull
		}
	}
	if old == nil && !h.admitOwnerLocked(now, h.owner, !t.refuseNew) {
		return &t.refusedOwner
	}
	return nil
}
