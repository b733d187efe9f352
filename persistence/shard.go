package persistence

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A shard is one lock's share of a table; look-ups of live entries do without the lock. It keeps its
// entries in three ways:
//
// index finds an entry by key.
//
// places, a dense slice in no order, lets sweep walk over all entries a few at a time. Each place
// repeats the deadline its entry had when last seen, so that passing over live entries touches no
// memory but the slice.
//
// ages, lists of places, know which entry has been unused for longest; see there.
type shard[K comparable, V any] struct {
	generation atomic.Uint32 // of ages; first: readers look at this and the beginning of index, which is
	index      index[K, V]   // far from what writers change

	mu         sync.Mutex
	slots      []slot[K, V]
	lru        lruLists
	cursor     int // the place that sweep examines next
	bytes      int // sum of the costs of all entries
	maxEntries int
	maxBytes   int
	costOf     func(K, V) int  // what an entry costs of maxBytes
	ownership  *ownership      // nil unless keys have owners
	values     valueCounter[V] // nil unless they are counted
	counted    bool            // all records are
	writes     writes
	report     bool             // whether to collect what is deleted
	deleted    []deletion[K, V] // under the lock that is held, to be reported when it is not

	_ [64]byte // keeps the next shard's index off this shard's last cache line
}

// writes counts what happens under the write lock.
type writes struct {
	inserts, restored, replacements, removals, expirations, evictions, ownerEvictions uint64
}

// place says where a record is. due is at most the record's deadline.
type slot[K comparable, V any] struct {
	due   time.Duration
	entry *entry[K, V]
}

const (
	sweepWidth   = 32  // places examined by a write
	refusalWidth = 256 // places examined before a key is refused
)

// A hold is a live entry whose deadline a writer has taken. It ends under the same lock: the entry
// is deleted, or gets a deadline.
type acquired[K comparable, V any] struct {
	*entry[K, V] // nil: there is none
	deadline     time.Duration
}

// holdLocked takes the live entry under key. An expired one is dropped.
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

// term returns the term of an entry that is held.
func (h acquired[K, V]) expiry() expiry {
	if h.entry == nil {
		return expiry{}
	}
	return expiry{h.deadline, h.idleRule}
}

// releaseLocked gives an entry the deadline of its hold.
func (s *shard[K, V]) releaseLocked(h acquired[K, V]) {
	if h.entry != nil {
		s.slots[h.slot].due = h.deadline
		h.entry.deadline.Store(int64(h.deadline))
	}
}

// renewLocked gives an entry that is held a new lifetime and returns what is then left.
func (s *shard[K, V]) renewLocked(h acquired[K, V], now, granted time.Duration) time.Duration {
	h.deadline = h.cut(now + granted)
	h.use(s.generation.Load())
	s.releaseLocked(h)
	return h.deadline - now
}

// reserveLocked makes a shard without entries large enough for so many, of which it takes no more
// than it may hold.
func (s *shard[K, V]) reserveLocked(entries int) {
	if len(s.slots) > 0 {
		return
	}
	entries = min(entries, s.maxEntries)
	s.slots = slices.Grow(s.slots, entries)
	s.lru.grow(entries)
	s.index.reserve(entries)
}

// addLocked stores a record, in place of old unless that is nil, which then has been deleted.
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

// deleteLocked takes a record out, which is held or lapsed, and counts why. One that is replaced
// stays in the index: its successor takes it out.
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

// evictLocked takes a record out to make room, and reports whether it was live.
func (s *shard[K, V]) evictLocked(r *entry[K, V], now time.Duration) bool {
	if _, live := r.acquire(now); !live {
		s.deleteLocked(r, Expired)
		return false
	}
	s.deleteLocked(r, Evicted)
	return true
}

// vacateLocked gives the place of a record to the last one.
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

// findRoomLocked reports whether an entry of that cost fits in the place of old, or in another if
// old is nil. It looks for expired entries if it does not.
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

// sweepLocked examines the next width places and takes out what has expired.
func (s *shard[K, V]) sweepLocked(now time.Duration, width int) {
	for range min(width, len(s.slots)) {
		if s.cursor >= len(s.slots) {
			s.cursor = 0
		}
		if !s.expireLocked(&s.slots[s.cursor], now) {
			s.cursor++ // else another record has taken the place
		}
	}
}

// expireLocked takes out the record of a place if it has expired, and reports whether it had.
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

// tickLocked moves the clock of ages on by one insertion. It tells from the newcomers of some
// generations ago whether being used again is rare.
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

// youngerLocked returns the list where the entry of a place belongs, and whether that is younger than
// the one in which it is.
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

// rejuvenateLocked puts the entry of a place into the list where it belongs, and reports whether it
// had to.
func (s *shard[K, V]) promoteLocked(slot int32) bool {
	list, younger := s.youngerLocked(slot)
	if younger {
		s.lru.promote(slot, list)
		s.renewOwnedLocked(slot)
	}
	return younger
}

// makeRoomLocked evicts until an entry of that cost and owner fits. From half full on it looks at the
// oldest entries, so that those that have been used are out of the way when the shard is full. cost
// is at most maxBytes.
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

// evictOldestLocked takes out the oldest entry, or the other one if that has not been used since, or
// one that is not much younger and has not been used since either, or one of an owner that has more.
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

// unusedLocked returns the oldest place of the first list whose oldest entry has not been used since it
// was stored, if three quarters of the shard have been stored since; else instead. So clients
// that came one after the other and have been back do not go before strangers that came after them.
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
