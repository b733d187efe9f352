package persistence

import (
	"sync"
	"sync/atomic"
	"time"
)

// A shard is one lock's share of a table. It keeps its entries in two ways:
//
// index finds an entry by key.
//
// places, a dense slice in no order, lets sweep walk over all entries a few at a time. Each place
// repeats the deadline its entry had when last seen, so that passing over live entries touches no
// memory but the slice. Through the places runs a list, order, that knows which entry is the oldest.
// Readers cannot move an entry in it, since they share the lock; they mark it as used instead.
//
// Making room is second chance: the oldest entry goes, unless it is marked; then it loses its mark
// and becomes the youngest. To bound the work of one insertion at most two entries are spared; the
// next goes, marked or not. Long runs of marked entries would lose every third of their members
// that way. So sparing begins when the shard is half full: the entries that are used again are
// then, by the time the shard is full, scattered among those that are not, at most two in a row,
// and a flood of keys used once pushes out only itself.
type shard[K comparable, V any] struct {
	mu         sync.RWMutex
	index      map[K]*record[K, V]
	places     []place[K, V]
	links      []link // by place
	order      list   // of all places
	cursor     int    // the place that sweep examines next
	bytes      int    // sum of the costs of all entries
	maxEntries int
	maxBytes   int
	weigh      func(K, V) int           // what an entry costs of maxBytes
	idlings    map[*record[K, V]]idling // of the records that idle
	members    *members                 // nil unless keys have owners
	values     valueCounter[V]          // nil unless they are counted
	counted    bool                     // all records are
	writes     writes
	report     bool             // whether to collect what is deleted
	deleted    []deletion[K, V] // under the lock that is held, to be reported when it is not

	hits, misses, expired atomic.Uint64

	_ [64]byte // keeps the next shard's lock off this shard's last cache line
}

// writes counts what happens under the write lock.
type writes struct {
	inserts, restored, replacements, removals, expirations, evictions, ownerEvictions uint64
}

// record is an entry. Key and value never change; a new value is a new record.
type record[K comparable, V any] struct {
	key      K
	value    V
	deadline atomic.Int64 // a time.Duration; raised under the read lock, lowered under the write lock
	place    int32        // index of its place
	used     atomic.Bool  // since it was stored or spared
	idles    bool         // its shard knows its idling
	counted  bool         // in its shard's values
}

// place says where a record is. due is at most the record's deadline.
type place[K comparable, V any] struct {
	due    time.Duration
	record *record[K, V]
}

const (
	sweepWidth   = 32  // places examined by a write
	refusalWidth = 256 // places examined before a key is refused
	maxSpared    = 2   // second chances given by a write
)

// extend extends the entry by d, or as its idling says, if it is live and returns what is then
// left, negative if it is not live. The caller holds the lock, for reading at least.
func (s *shard[K, V]) extend(r *record[K, V], now, d time.Duration, l lifetimes) time.Duration {
	for {
		deadline := time.Duration(r.deadline.Load())
		left := remaining(deadline, now)
		if left < 0 {
			return left
		}
		var next time.Duration
		if r.idles {
			next = s.idlings[r].extend(deadline, now)
		} else {
			next = l.extend(deadline, now, d)
		}
		if next == deadline || r.deadline.CompareAndSwap(int64(deadline), int64(next)) {
			return next - now
		}
	}
}

// cut returns deadline, or the latest that the entry may have.
func (s *shard[K, V]) cut(r *record[K, V], deadline time.Duration) time.Duration {
	if r.idles {
		return min(deadline, s.idlings[r].latest)
	}
	return deadline
}

// prolong makes the entry end at deadline. It reports false, and does nothing, if the entry is not
// live or would end earlier than it does now: that takes the write lock, because the entry's place
// must follow. The caller holds the shard's lock, for reading at least.
func (r *record[K, V]) prolong(now, deadline time.Duration) bool {
	for {
		old := time.Duration(r.deadline.Load())
		if old <= now || deadline < old {
			return false
		}
		if r.deadline.CompareAndSwap(int64(old), int64(deadline)) {
			r.markUsed()
			return true
		}
	}
}

// markUsed writes only if it must: the mark shares a cache line with what readers read.
func (r *record[K, V]) markUsed() {
	if !r.used.Load() {
		r.used.Store(true)
	}
}

func (r *record[K, V]) live(now time.Duration) bool {
	return time.Duration(r.deadline.Load()) > now
}

// findLocked returns the live entry under key, or nil. An expired one is dropped.
func (s *shard[K, V]) findLocked(key K, now time.Duration) *record[K, V] {
	r := s.index[key]
	if r == nil {
		return nil
	}
	if !r.live(now) {
		s.deleteLocked(r, Expired)
		return nil
	}
	return r
}

// setDeadlineLocked gives a stored entry any deadline.
func (s *shard[K, V]) setDeadlineLocked(r *record[K, V], deadline time.Duration) {
	r.deadline.Store(int64(deadline))
	s.places[r.place].due = deadline
}

// addLocked stores a record whose key is not stored.
func (s *shard[K, V]) addLocked(r *record[K, V], until term) {
	r.place = int32(len(s.places))
	s.places = append(s.places, place[K, V]{time.Duration(r.deadline.Load()), r})
	s.links = append(s.links, link{})
	s.order.push(s.links, r.place)
	s.index[r.key] = r
	s.bytes += s.weigh(r.key, r.value)
	s.joinLocked(until.owner)
	s.countRecordLocked(r)
	if i := until.idling; i.idle > 0 {
		r.idles = true
		if s.idlings == nil {
			s.idlings = make(map[*record[K, V]]idling)
		}
		s.idlings[r] = i
	}
}

// termLocked returns the term of a stored record.
func (s *shard[K, V]) termLocked(r *record[K, V]) term {
	return term{time.Duration(r.deadline.Load()), s.idlings[r], s.ownerLocked(r)}
}

// deleteLocked takes a stored record out and counts why.
func (s *shard[K, V]) deleteLocked(r *record[K, V], cause DeletionCause) {
	delete(s.index, r.key)
	s.vacateLocked(r)
	if r.idles {
		delete(s.idlings, r)
	}
	if r.counted {
		s.values.add(r.value, -1)
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
	if cause != Replaced { // an iterator may still yield a value that was replaced
		r.deadline.Store(int64(removed))
	}
	if s.report {
		s.deleted = append(s.deleted, deletion[K, V]{r.key, r.value, cause})
	}
}

// vacateLocked gives the place of a record that has left the index to the last one.
func (s *shard[K, V]) vacateLocked(r *record[K, V]) {
	s.bytes -= s.weigh(r.key, r.value)
	s.leaveLocked(r.place)
	s.order.remove(s.links, r.place)
	last := int32(len(s.places) - 1)
	if r.place != last {
		moved := s.places[last]
		moved.record.place = r.place
		s.places[r.place] = moved
		s.order.move(s.links, last, r.place)
	}
	s.places[last] = place[K, V]{}
	s.places, s.links = s.places[:last], s.links[:last]
}

// hasRoomLocked reports whether one more entry of that cost fits.
func (s *shard[K, V]) hasRoomLocked(cost int) bool {
	return len(s.places) < s.maxEntries && s.bytes <= s.maxBytes-cost
}

// sweepLocked examines the next width places and takes out what has expired.
func (s *shard[K, V]) sweepLocked(now time.Duration, width int) {
	for range min(width, len(s.places)) {
		if s.cursor >= len(s.places) {
			s.cursor = 0
		}
		if !s.expireLocked(&s.places[s.cursor], now) {
			s.cursor++ // else another record has taken the place
		}
	}
}

// expireLocked takes out the record of a place if it has expired, and reports whether it had.
func (s *shard[K, V]) expireLocked(p *place[K, V], now time.Duration) bool {
	if p.due > now {
		return false
	}
	if p.record.live(now) { // extended since
		p.due = time.Duration(p.record.deadline.Load())
		return false
	}
	s.deleteLocked(p.record, Expired)
	return true
}

// makeRoomLocked evicts until an entry of that cost and owner fits, and spares used entries from
// half full on. An owner that has more entries than the owner of the oldest one gives up one of its
// own instead. cost is at most maxBytes.
func (s *shard[K, V]) makeRoomLocked(now time.Duration, cost int, owner ownerID) {
	for spared := 0; ; {
		room := s.hasRoomLocked(cost)
		if room && len(s.places) < s.maxEntries/2 && s.bytes < s.maxBytes/2 {
			return
		}
		if s.order.entries == 0 {
			return
		}
		oldest := s.order.oldest
		r := s.places[oldest].record
		switch live := r.live(now); {
		case live && r.used.Load() && spared < maxSpared:
			spared++
			r.used.Store(false)
			s.order.remove(s.links, oldest)
			s.order.push(s.links, oldest)
		case room:
			return
		case live && owner != 0 && s.entriesLocked(owner) > s.entriesLocked(s.ownerLocked(r)):
			s.evictOwnLocked(now, owner)
		case live:
			s.deleteLocked(r, Evicted)
		default:
			s.deleteLocked(r, Expired)
		}
	}
}
