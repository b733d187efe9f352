package persistence

import (
	"math/bits"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(saveForEver); path != "" {
		saveInLoop(path)
	}
	goleak.VerifyTestMain(m)
}

// advance lets d pass on the virtual clock of a synctest bubble.
func advance(d time.Duration) {
	<-time.After(d)
}

// checkInvariants fails the test if t's shards contradict themselves or their
// bounds.
func checkInvariants[K comparable, V any](tb interface {
	Helper()
	Fatalf(string, ...any)
}, t *Table[K, V]) {
	tb.Helper()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		checkIndex(tb, s)
		if len(s.slots) > s.maxEntries || s.bytes > s.maxBytes {
			tb.Fatalf("shard %d: %d of %d entries, %d of %d bytes", i, len(s.slots), s.maxEntries, s.bytes, s.maxBytes)
		}
		bytes, values := 0, map[any]int{}
		for j, p := range s.slots {
			bytes += s.costOf(p.entry.key, p.entry.value)
			if int(p.entry.slot) != j {
				tb.Fatalf("shard %d: the record at place %d says %d", i, j, p.entry.slot)
			}
			switch deadline := time.Duration(p.entry.deadline.Load()); {
			case deadline == acquiredDeadline:
				tb.Fatalf("shard %d: the record at place %d is held", i, j)
			case deadline > expiredOffset/2 && p.due > deadline, deadline < expiredOffset/2 && p.due > deadline-expiredOffset:
				tb.Fatalf("shard %d: place %d is due after its deadline", i, j)
			}
			h := t.locate(p.entry.key)
			if r, sure := s.index.find(h.tag, p.entry.key); r != p.entry || !sure {
				tb.Fatalf("shard %d: the index does not lead to place %d", i, j)
			}
			if p.entry.has(counted) {
				values[p.entry.value]++
			} else if s.counted {
				tb.Fatalf("shard %d: the record at place %d has not been counted", i, j)
			}
			if h.shard != s || h.tag != p.entry.tag() {
				tb.Fatalf("shard %d: key %v belongs elsewhere", i, p.entry.key)
			}
		}
		if s.bytes != bytes {
			tb.Fatalf("shard %d: bytes = %d, sum is %d", i, s.bytes, bytes)
		}
		checkLRU(tb, s)
		checkOwners(tb, t, s)
		if counts, ok := s.values.(interface{ each(func(any, int)) }); ok {
			counts.each(func(value any, n int) {
				if values[value] != n {
					tb.Fatalf("shard %d: value %v counted %d times, found %d times", i, value, n, values[value])
				}
				delete(values, value)
			})
		}
		if len(values) > 0 {
			tb.Fatalf("shard %d: values not counted: %v", i, values)
		}
		if len(s.deleted) > 0 {
			tb.Fatalf("shard %d: %d deletions not reported", i, len(s.deleted))
		}
		s.mu.Unlock()
	}
}

func (c valueCounts[V]) each(f func(value any, n int)) {
	for value, n := range c {
		f(value, n)
	}
}

// checkIndex fails the test if a shard's index has other entries than its
// slots, in other buckets than they belong in, or more buckets than it needed.
func checkIndex[K comparable, V any](tb interface {
	Helper()
	Fatalf(string, ...any)
}, s *shard[K, V]) {
	tb.Helper()
	state := s.index.state.Load()
	if state%2 != 0 || state == 0 || int(state/2) < len(s.slots) && state/2 < 1<<tagBits {
		tb.Fatalf("the state of the index is %d for %d entries", state, len(s.slots))
	}
	liveEntries := 0
	for i := range state / 2 {
		for r := s.index.bucket(i).Load(); r != nil; r = r.next.Load() {
			if liveEntries++; liveEntries > len(s.slots) || s.slots[r.slot].entry != r {
				tb.Fatalf("the index has record %v, which has no place", r.key)
			}
			if s.index.chain(state/2, r.tag()) != s.index.bucket(i) {
				tb.Fatalf("bucket %d has a record of tag %x", i, r.tag())
			}
		}
	}
	if liveEntries != len(s.slots) {
		tb.Fatalf("%d records in the index, %d places", liveEntries, len(s.slots))
	}
}

// checkLRU fails the test if the lists of generations contradict the slots of a
// shard.
func checkLRU[K comparable, V any](tb interface {
	Helper()
	Fatalf(string, ...any)
}, s *shard[K, V]) {
	tb.Helper()
	a, listed := &s.lru, 0
	if s.generation.Load() != a.now {
		tb.Fatalf("generation %d is published, it is %d", s.generation.Load(), a.now)
	}
	for kind, lists := range a.lists {
		for i, l := range lists {
			n := checkList(tb, l, a.links)
			if listed += n; n == 0 {
				continue
			}
			if first := a.first[kind]; a.age(uint32(i)) > a.age(first) {
				tb.Fatalf("list %d of kind %d has places, and the first is %d in generation %d", i, kind, first, a.now)
			}
			for slot := l.oldest; slot >= 0; slot = a.links[slot].newer {
				if int(a.in[slot]) != 2*i+kind {
					tb.Fatalf("place %d is in list %d of kind %d and says %d", slot, i, kind, a.in[slot])
				}
			}
		}
	}
	if listed != len(s.slots) || len(a.links) != listed || len(a.in) != listed {
		tb.Fatalf("%d places in lists and %d links of %d places", listed, len(a.links), len(s.slots))
	}
}

// checkOwners fails the test if the lists of owners contradict the slots of a
// shard.
func checkOwners[K comparable, V any](tb interface {
	Helper()
	Fatalf(string, ...any)
}, t *Table[K, V], s *shard[K, V]) {
	tb.Helper()
	m := s.ownership
	if t.owner == nil {
		if m != nil {
			tb.Fatalf("a table without owners has members")
		}
		return
	}
	if len(m.owners) != len(s.slots) || len(m.links) != len(s.slots) {
		tb.Fatalf("%d owners and %d links of %d places", len(m.owners), len(m.links), len(s.slots))
	}
	count := map[ownerID]int{}
	for i, number := range m.owners {
		owner := m.shares[number].id
		if got := t.owner(s.slots[i].entry.key); got != owner {
			tb.Fatalf("place %d belongs to %x, its share to %x", i, got, owner)
		}
		count[owner]++
	}
	for owner, number := range m.ids {
		own := m.shares[number]
		n := checkList(tb, own.list, m.links)
		if own.id != owner || n != count[owner] || n == 0 || n > m.most && owner != noOwner {
			tb.Fatalf("owner %x has %d entries in its list, %d in all, of at most %d", owner, n, count[owner], m.most)
		}
		for slot := own.oldest; slot >= 0; slot = m.links[slot].newer {
			if m.owners[slot] != number {
				tb.Fatalf("place %d is in the list of %x and belongs to %x", slot, owner, m.owners[slot])
			}
		}
	}
	if len(m.ids) != len(count) || len(m.shares) != len(m.ids)+len(m.spare) {
		tb.Fatalf("%d shares, %d of them spare, %d named, of %d owners", len(m.shares), len(m.spare), len(m.ids), len(count))
	}
	sized := 0
	for size, l := range m.sizes {
		sized += checkList(tb, l, m.peers)
		for number := l.oldest; l.entries > 0 && number >= 0; number = m.peers[number].newer {
			if n := m.shares[number].entries; bits.Len(uint(n)) != size {
				tb.Fatalf("a share of %d entries is among those of %d bits", n, size)
			}
		}
	}
	if sized != len(count) {
		tb.Fatalf("%d shares in lists of sizes, of %d owners", sized, len(count))
	}
}

// checkList fails the test if a list is not one, and returns how many slots are
// in it.
func checkList(tb interface {
	Helper()
	Fatalf(string, ...any)
}, l list, links []link) int {
	tb.Helper()
	if l.entries == 0 {
		return 0
	}
	n, last := 0, int32(-1)
	for slot := l.oldest; slot >= 0 && n <= len(links); slot = links[slot].newer {
		if links[slot].older != last {
			tb.Fatalf("place %d follows %d, its link says %d", slot, last, links[slot].older)
		}
		last = slot
		n++
	}
	if l.newest != last || l.entries != n {
		tb.Fatalf("list %+v has %d places, the last is %d", l, n, last)
	}
	return n
}
