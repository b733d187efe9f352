package persistence

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A shard is the part of a table under one lock; look-ups of live entries do
// not need the lock. It has its entries in three structures:
//
// index finds an entry by key.
//
// slots, a dense slice in no order, lets sweep examine all entries, a few at a
// time. Each slot repeats the deadline that its entry had when last examined,
// so that passing live entries reads only the slice.
//
// lru orders the slots by the last use of their entries.
type shard[K comparable, V any] struct {
	generation atomic.Uint32 // of lru; first: readers read this and the beginning of index, which is
	index      index[K, V]   // far from what writers change

	mu         sync.Mutex
	slots      []slot[K, V]
	lru        lruLists
	cursor     int // the slot that sweep examines next
	bytes      int // sum of the costs of all entries
	maxEntries int
	maxBytes   int
	costOf     func(K, V) int  // the cost of an entry, against maxBytes
	ownership  *ownership      // nil unless keys have owners
	values     valueCounter[V] // nil unless they are counted
	counted    bool            // all entries are
	writes     writes
	report     bool             // whether to collect deleted values
	deleted    []deletion[K, V] // under the lock that is held, to be reported when it is not
	watched    bool             // whether to collect changes
	changed    []change[K]      // like deleted

	_ [64]byte // keeps the next shard's index off this shard's last cache line
}

// writes counts what happens under the write lock.
type writes struct {
	inserts, restored, replacements, removals, expirations, evictions, ownerEvictions uint64
}

// slot has an entry. due is at most the entry's deadline.
type slot[K comparable, V any] struct {
	due   time.Duration
	entry *entry[K, V]
}

const (
	sweepWidth   = 32  // slots examined by a write
	refusalWidth = 256 // slots examined before a key is refused
)

// An acquired entry is a live one whose deadline a writer has removed. Before
// it unlocks the shard, the writer deletes the entry or gives it a deadline.
type acquired[K comparable, V any] struct {
	*entry[K, V] // nil: there is none
	deadline     time.Duration
}

// acquireLocked acquires the live entry under key. It deletes an expired one.
func (s *shard[K, V]) acquireLocked(tag uint32, key K, now time.Duration) acquired[K, V] {
	r, _ := s.index.find(tag, key)
	if r == nil {
		return acquired[K, V]{}
	}
	deadline, live := r.acquire(now)
	if !live {
		s.deleteLocked(r, Expired)
		return acquired[K, V]{}
	}
	return acquired[K, V]{r, deadline}
}

// expiry returns the expiry of an acquired entry.
func (h acquired[K, V]) expiry() expiry {
	if h.entry == nil {
		return expiry{}
	}
	return expiry{h.deadline, h.idleRule}
}

// releaseLocked gives an acquired entry its deadline.
func (s *shard[K, V]) releaseLocked(h acquired[K, V]) {
	if h.entry != nil {
		s.slots[h.slot].due = h.deadline
		h.entry.deadline.Store(int64(h.deadline))
	}
}

// renewLocked gives an acquired entry a new lifetime, and returns the remaining
// one.
func (s *shard[K, V]) renewLocked(h acquired[K, V], now, granted time.Duration) time.Duration {
	h.deadline = h.cut(now + granted)
	h.use(s.generation.Load())
	s.releaseLocked(h)
	s.noteLocked(h.key, false)
	return h.deadline - now
}

// reserveLocked makes an empty shard large enough for that many entries, or for
// as many as it may store.
func (s *shard[K, V]) reserveLocked(entries int) {
	if len(s.slots) > 0 {
		return
	}
	entries = min(entries, s.maxEntries)
	s.slots = slices.Grow(s.slots, entries)
	s.lru.grow(entries)
	s.index.reserve(entries)
}

// addLocked stores an entry. It replaces old unless that is nil, which has been
// deleted.
func (s *shard[K, V]) addLocked(r, old *entry[K, V], owner ownerID) {
	r.slot = int32(len(s.slots))
	s.slots = append(s.slots, slot[K, V]{time.Duration(r.deadline.Load()), r})
	s.lru.add()
	s.bytes += s.costOf(r.key, r.value)
	s.addOwnedLocked(owner)
	s.countEntryLocked(r)
	if old != nil {
		s.index.replace(old, r)
	} else {
		s.index.add(r, len(s.slots))
	}
}

// deleteLocked deletes an acquired or expired entry, and counts the cause. A
// replaced entry stays in the index until its successor replaces it there.
func (s *shard[K, V]) deleteLocked(r *entry[K, V], cause DeletionCause) {
	s.freeSlotLocked(r)
	if r.has(counted) {
		s.values.add(r.value, -1)
	}
	if cause != Replaced {
		s.index.remove(r)
	}
	switch cause {
	case Removed:
		s.writes.removals++
		s.noteLocked(r.key, true)
	case Replaced:
		s.writes.replacements++
	case Expired:
		s.writes.expirations++
	case Evicted:
		s.writes.evictions++
	}
	if s.report {
		s.deleted = append(s.deleted, deletion[K, V]{r.key, r.value, cause})
	}
}

// evictLocked deletes an entry to make room, and reports whether it was live.
func (s *shard[K, V]) evictLocked(r *entry[K, V], now time.Duration) bool {
	if _, live := r.acquire(now); !live {
		s.deleteLocked(r, Expired)
		return false
	}
	s.deleteLocked(r, Evicted)
	return true
}

// freeSlotLocked moves the last entry to the slot of r.
func (s *shard[K, V]) freeSlotLocked(r *entry[K, V]) {
	s.bytes -= s.costOf(r.key, r.value)
	s.removeOwnedLocked(r.slot)
	s.lru.remove(r.slot)
	last := int32(len(s.slots) - 1)
	if r.slot != last {
		moved := s.slots[last]
		moved.entry.slot = r.slot
		s.slots[r.slot] = moved
	}
	s.slots[last] = slot[K, V]{}
	s.slots = s.slots[:last]
}

// hasRoomLocked reports whether one more entry of that cost fits.
func (s *shard[K, V]) hasRoomLocked(cost int) bool {
	return len(s.slots) < s.maxEntries && s.bytes <= s.maxBytes-cost
}

// findRoomLocked reports whether an entry of that cost fits, in the slot of old
// unless that is nil. If it does not fit, findRoomLocked first looks for
// expired entries.
func (s *shard[K, V]) findRoomLocked(now time.Duration, old *entry[K, V], cost int) bool {
	fits := func() bool {
		if old == nil {
			return s.hasRoomLocked(cost)
		}
		return s.bytes-s.costOf(old.key, old.value) <= s.maxBytes-cost
	}
	for examined := sweepWidth; !fits(); examined += sweepWidth {
		if examined >= refusalWidth {
			return false
		}
		s.sweepLocked(now, sweepWidth)
	}
	return true
}

// sweepLocked examines the next width slots and deletes expired entries.
func (s *shard[K, V]) sweepLocked(now time.Duration, width int) {
	for range min(width, len(s.slots)) {
		if s.cursor >= len(s.slots) {
			s.cursor = 0
		}
		if !s.expireLocked(&s.slots[s.cursor], now) {
			s.cursor++ // else another entry has moved to the slot
		}
	}
}

// expireLocked deletes the entry of a slot if it has expired, and reports
// whether it had.
func (s *shard[K, V]) expireLocked(p *slot[K, V], now time.Duration) bool {
	if p.due > now {
		return false
	}
	left := p.entry.left(now)
	switch {
	case left < 0:
		s.deleteLocked(p.entry, Expired)
		return true
	case left > 0: // extended since
		p.due = now + left
	}
	return false
}

// tickLocked advances the generation clock by one insertion. A sample of the
// entries stored some generations ago shows whether it is rare that an entry is
// used again.
func (s *shard[K, V]) tickLocked(cost int) {
	a := &s.lru
	a.entries++
	a.bytes += cost
	if a.entries < a.everyEntries && a.bytes < a.everyBytes {
		return
	}
	a.advance()
	s.generation.Store(a.now)
	const samples = 16
	seen, again := 0, 0
	l := &a.lists[asStored][(a.now-settled)%generations]
	for slot := l.newest; seen < min(samples, l.entries); slot = a.links[slot].older {
		seen++
		if s.slots[slot].entry.has(used) {
			again++
		}
	}
	if seen > 0 {
		a.usedIsRare = 2*again <= seen
	}
}

// youngerLocked returns the list where the entry of a slot belongs, and whether
// that is younger than its present one.
func (s *shard[K, V]) youngerLocked(slot int32) (list uint32, younger bool) {
	r := s.slots[slot].entry
	list = r.lastUse()
	if s.lru.usedIsRare && r.has(used) {
		list = (list + bonus) % generations
	}
	_, in := s.lru.of(slot)
	if younger = s.lru.age(list) < s.lru.age(in); !younger {
		list = in
	}
	return list, younger
}

// promoteLocked moves a slot to the list where its entry belongs, and reports
// whether it had to.
func (s *shard[K, V]) promoteLocked(slot int32) bool {
	list, younger := s.youngerLocked(slot)
	if younger {
		s.lru.promote(slot, list)
		s.renewOwnedLocked(slot)
	}
	return younger
}

// makeRoomLocked evicts until an entry of that cost and owner fits. From half
// full on it looks at the oldest entries, so that those that have been used are
// out of the way when the shard is full. cost is at most maxBytes.
func (s *shard[K, V]) makeRoomLocked(now time.Duration, cost int, owner ownerID) {
	for moved := 0; len(s.slots) > 0; {
		room, limit := s.hasRoomLocked(cost), movesWithRoom
		if room && len(s.slots) < s.maxEntries/2 && s.bytes < s.maxBytes/2 {
			return
		}
		if !room {
			limit += movesToEvict
		}
		oldest, other := s.lru.oldest()
		r := s.slots[oldest].entry
		if live := r.left(now) > 0; live && moved < limit && s.promoteLocked(oldest) {
			moved++
			continue
		} else if room {
			return
		} else if live {
			s.evictOldestLocked(now, oldest, other, owner)
		} else {
			s.evictLocked(r, now)
		}
		moved = min(moved, movesWithRoom)
	}
}

// evictOldestLocked evicts the oldest entry, or the other one if that has not
// been used since it was stored, or one that is not much younger and has not
// been used either, or one of an owner with more.
func (s *shard[K, V]) evictOldestLocked(now time.Duration, oldest, other int32, owner ownerID) {
	list, used := s.youngerLocked(oldest)
	if other >= 0 {
		if b, again := s.youngerLocked(other); s.lru.age(b) > s.lru.age(list) {
			oldest, used = other, again
		}
	}
	if used {
		oldest = s.unusedLocked(oldest)
	}
	r := s.slots[oldest].entry
	if s.ownership != nil {
		s.evictFairlyLocked(now, r, owner)
	} else {
		s.evictLocked(r, now)
	}
}

// unusedLocked returns the oldest slot of the first list whose oldest entry has
// not been used since it was stored, if three quarters of the shard have been
// stored since; else instead. So clients that have returned are not evicted
// before newer clients that have not.
func (s *shard[K, V]) unusedLocked(instead int32) int32 {
	a := &s.lru
	for age := a.age(a.first[asStored]); age >= bonus+perCapacity*3/4; age-- {
		l := &a.lists[asStored][(a.now+bonus-age)%generations]
		if l.entries == 0 {
			continue
		}
		if _, used := s.youngerLocked(l.oldest); !used {
			return l.oldest
		}
	}
	return instead
}
