package persistence

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A shard is one lock's share of a table. It keeps its entries twice:
//
// order, a simplelru list with its index, finds an entry by key and knows the oldest. Readers only
// Peek, so that they can share the lock; instead of moving an entry they mark it as used.
//
// places, a dense slice in no order, lets sweep walk over all entries a few at a time. Each place
// repeats the deadline its entry had when last seen, so that passing over live entries touches no
// memory but the slice.
//
// Making room is second chance: the oldest entry goes, unless it is marked; then it loses its mark
// and becomes the youngest. To bound the work of one insertion at most two entries are spared; the
// next goes, marked or not. Long runs of marked entries would lose every third of their members
// that way. So sparing begins when the shard is half full: the entries that are used again are
// then, by the time the shard is full, scattered among those that are not, at most two in a row,
// and a flood of keys used once pushes out only itself.
type shard[K comparable, V any] struct {
	mu         sync.RWMutex
	order      *simplelru.LRU[K, *record[K, V]]
	places     []place[K, V]
	cursor     int // the place that sweep examines next
	bytes      int // sum of the costs of all entries
	maxEntries int
	maxBytes   int
	weigh      func(K, V) int // what an entry costs of maxBytes
	writes     writes

	hits, misses, expired atomic.Uint64

	_ [64]byte // keeps the next shard's lock off this shard's last cache line
}

// writes counts what happens under the write lock.
type writes struct {
	inserts, replacements, removals, expirations, evictions uint64
}

// record is an entry. Key and value never change; a new value is a new record.
type record[K comparable, V any] struct {
	key      K
	value    V
	deadline atomic.Int64 // a time.Duration; raised under the read lock, lowered under the write lock
	place    int32        // index of its place
	used     atomic.Bool  // since it was stored or spared
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

// extend extends the entry by d if it is live and returns what is then left, negative if it is not
// live. The caller holds the shard's lock, for reading at least.
func (r *record[K, V]) extend(now, d time.Duration, l lifetimes) time.Duration {
	for {
		deadline := time.Duration(r.deadline.Load())
		left := remaining(deadline, now)
		if left < 0 {
			return left
		}
		next := l.extend(deadline, now, d)
		if next == deadline || r.deadline.CompareAndSwap(int64(deadline), int64(next)) {
			return next - now
		}
	}
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
	r, ok := s.order.Peek(key)
	if !ok {
		return nil
	}
	if !r.live(now) {
		s.expireLocked(r)
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
func (s *shard[K, V]) addLocked(r *record[K, V]) {
	r.place = int32(len(s.places))
	s.places = append(s.places, place[K, V]{time.Duration(r.deadline.Load()), r})
	s.order.Add(r.key, r)
	s.bytes += s.weigh(r.key, r.value)
}

// unlinkLocked takes a stored record out, to be replaced by another.
func (s *shard[K, V]) unlinkLocked(r *record[K, V]) {
	s.order.Remove(r.key)
	s.vacateLocked(r)
}

// removeLocked takes a stored record out for good.
func (s *shard[K, V]) removeLocked(r *record[K, V]) {
	s.unlinkLocked(r)
	r.deadline.Store(int64(removed))
}

// removeOldestLocked is removeLocked for the oldest record, which order need not look for.
func (s *shard[K, V]) removeOldestLocked(r *record[K, V]) {
	s.order.RemoveOldest()
	s.vacateLocked(r)
	r.deadline.Store(int64(removed))
}

// vacateLocked gives the place of a record that has left order to the last one.
func (s *shard[K, V]) vacateLocked(r *record[K, V]) {
	last := len(s.places) - 1
	moved := s.places[last]
	s.places[r.place] = moved
	moved.record.place = r.place
	s.places[last] = place[K, V]{}
	s.places = s.places[:last]
	s.bytes -= s.weigh(r.key, r.value)
}

// expireLocked takes out a stored record that is not live.
func (s *shard[K, V]) expireLocked(r *record[K, V]) {
	s.removeLocked(r)
	s.writes.expirations++
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
		p := &s.places[s.cursor]
		switch {
		case p.due > now:
			s.cursor++
		case p.record.live(now): // extended since
			p.due = time.Duration(p.record.deadline.Load())
			s.cursor++
		default: // another record takes the place: stay
			s.expireLocked(p.record)
		}
	}
}

// makeRoomLocked evicts until an entry of that cost fits, and spares used entries from half full
// on. cost is at most maxBytes.
func (s *shard[K, V]) makeRoomLocked(now time.Duration, cost int) {
	for spared := 0; ; {
		room := s.hasRoomLocked(cost)
		if room && len(s.places) < s.maxEntries/2 && s.bytes < s.maxBytes/2 {
			return
		}
		key, r, ok := s.order.GetOldest()
		switch live := ok && r.live(now); {
		case !ok:
			return
		case live && r.used.Load() && spared < maxSpared:
			spared++
			r.used.Store(false)
			s.order.Get(key) // makes it the youngest
		case room:
			return
		default:
			s.removeOldestLocked(r)
			if live {
				s.writes.evictions++
			} else {
				s.writes.expirations++
			}
		}
	}
}
