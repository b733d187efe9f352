package persistence

import (
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

// checkInvariants fails the test if t's shards contradict themselves or their bounds.
func checkInvariants[K comparable, V any](tb interface {
	Helper()
	Fatalf(string, ...any)
}, t *Table[K, V]) {
	tb.Helper()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if got, want := len(s.index), len(s.places); got != want {
			tb.Fatalf("shard %d: %d entries in the index, %d places", i, got, want)
		}
		if len(s.places) > s.maxEntries || s.bytes > s.maxBytes {
			tb.Fatalf("shard %d: %d of %d entries, %d of %d bytes", i, len(s.places), s.maxEntries, s.bytes, s.maxBytes)
		}
		bytes, idlings, values := 0, 0, map[any]int{}
		for j, p := range s.places {
			bytes += s.weigh(p.record.key, p.record.value)
			if int(p.record.place) != j {
				tb.Fatalf("shard %d: the record at place %d says %d", i, j, p.record.place)
			}
			if p.due > time.Duration(p.record.deadline.Load()) {
				tb.Fatalf("shard %d: place %d is due after its deadline", i, j)
			}
			if s.index[p.record.key] != p.record {
				tb.Fatalf("shard %d: the index does not lead to place %d", i, j)
			}
			if _, ok := s.idlings[p.record]; ok != p.record.idles {
				tb.Fatalf("shard %d: the record at place %d idles %t, the shard says %t", i, j, p.record.idles, ok)
			}
			if p.record.idles {
				idlings++
			}
			if p.record.counted {
				values[p.record.value]++
			} else if s.counted {
				tb.Fatalf("shard %d: the record at place %d has not been counted", i, j)
			}
			if t.shard(p.record.key) != s {
				tb.Fatalf("shard %d: key %v belongs elsewhere", i, p.record.key)
			}
		}
		if s.bytes != bytes {
			tb.Fatalf("shard %d: bytes = %d, sum is %d", i, s.bytes, bytes)
		}
		if n := checkList(tb, s.order, s.links); n != len(s.places) || len(s.links) != n {
			tb.Fatalf("shard %d: %d places in order and %d links of %d places", i, n, len(s.links), len(s.places))
		}
		checkOwners(tb, t, s)
		if idlings != len(s.idlings) {
			tb.Fatalf("shard %d: %d idlings for %d records", i, len(s.idlings), idlings)
		}
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

// checkOwners fails the test if the lists of owners contradict the places of a shard.
func checkOwners[K comparable, V any](tb interface {
	Helper()
	Fatalf(string, ...any)
}, t *Table[K, V], s *shard[K, V]) {
	tb.Helper()
	m := s.members
	if t.owner == nil {
		if m != nil {
			tb.Fatalf("a table without owners has members")
		}
		return
	}
	if len(m.owners) != len(s.places) || len(m.links) != len(s.places) {
		tb.Fatalf("%d owners and %d links of %d places", len(m.owners), len(m.links), len(s.places))
	}
	count := map[ownerID]int{}
	for i, owner := range m.owners {
		if got := t.owner(s.places[i].record.key); got != owner {
			tb.Fatalf("place %d belongs to %x, its member says %x", i, got, owner)
		}
		if owner != 0 {
			count[owner]++
		}
	}
	for owner, own := range m.shares {
		n := checkList(tb, *own, m.links)
		if n != count[owner] || n == 0 || n > m.most {
			tb.Fatalf("owner %x has %d entries in its list, %d in all, of at most %d", owner, n, count[owner], m.most)
		}
		for place := own.oldest; place >= 0; place = m.links[place].newer {
			if m.owners[place] != owner {
				tb.Fatalf("place %d is in the list of %x and belongs to %x", place, owner, m.owners[place])
			}
		}
	}
	if len(m.shares) != len(count) {
		tb.Fatalf("%d shares of %d owners", len(m.shares), len(count))
	}
}

// checkList fails the test if a list is not one, and returns how many places are in it.
func checkList(tb interface {
	Helper()
	Fatalf(string, ...any)
}, l list, links []link) int {
	tb.Helper()
	if l.entries == 0 {
		return 0
	}
	n, last := 0, int32(-1)
	for place := l.oldest; place >= 0 && n <= len(links); place = links[place].newer {
		if links[place].older != last {
			tb.Fatalf("place %d follows %d, its link says %d", place, last, links[place].older)
		}
		last = place
		n++
	}
	if l.newest != last || l.entries != n {
		tb.Fatalf("list %+v has %d places, the last is %d", l, n, last)
	}
	return n
}
