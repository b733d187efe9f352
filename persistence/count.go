package persistence

import (
	"context"
	"time"

	"github.com/limpetlb/limpet/internal/exactaddr"
)

// countWidth is how many slots are examined per lock.
const countWidth = 256

// CountByValue returns how many live entries have each value: if the values are
// servers, how many clients each server has. An entry that is stored, removed
// or expires during the call may or may not be included.
//
// The first call visits all entries, a few hundred per lock. From then on the
// table maintains the counts, at the price of one look-up in a small map for
// each value stored and each value deleted. Later calls only free expired
// entries, and take about 1.5 milliseconds for a million entries: cheap enough
// for every second. A value that is not equal to itself (a NaN) is ignored. If
// V is an interface type, values must be comparable from the first call on.
func CountByValue[K, V comparable](t *Table[K, V]) map[V]int {
	sum := make(map[V]int)
	for i := range t.shards {
		s := &t.shards[i]
		t.lock(s)
		if s.values == nil {
			s.values = make(valueCounts[V])
		}
		for from := s.countLocked(t.now(), len(s.slots)); from > 0; {
			t.unlock(s)
			t.lock(s)
			from = s.countLocked(t.now(), from)
		}
		s.counted = true
		for value, n := range s.values.(valueCounts[V]) {
			sum[value] += n
		}
		t.unlock(s)
	}
	return sum
}

// CountByValue returns how many live entries of the table have each value, like
// the function [CountByValue], with values as [Store.Range] shows them. The
// error is always nil.
func (s *Store) CountByValue(_ context.Context, table string) (map[string]int, error) {
	t := s.table(table)
	if t == nil {
		return map[string]int{}, nil
	}
	counts := CountByValue(t)
	for value, n := range counts {
		if text := exactaddr.Shown(value); text != value {
			delete(counts, value)
			counts[text] += n
		}
	}
	return counts, nil
}

// A valueCounter counts the entries of a shard by value. Only tables with
// comparable values can have one.
type valueCounter[V any] interface {
	add(value V, n int)
}

type valueCounts[V comparable] map[V]int

func (c valueCounts[V]) add(value V, n int) {
	if value != value { // a NaN, which could not be deleted
		return
	}
	if c[value] += n; c[value] == 0 {
		delete(c, value)
	}
}

// countLocked examines the slots below from, frees expired entries, counts
// entries that have not been counted, and returns where to continue. Going down
// visits every entry: entries that move to another slot move down, from the
// end.
func (s *shard[K, V]) countLocked(now time.Duration, from int) int {
	from = min(from, len(s.slots))
	to := max(0, from-countWidth)
	for i := from - 1; i >= to; i-- {
		p := &s.slots[i]
		if s.counted && p.due > now {
			continue
		}
		s.countEntryLocked(p.entry)
		s.expireLocked(p, now)
	}
	return to
}

// countEntryLocked counts a stored entry if it has not been counted.
func (s *shard[K, V]) countEntryLocked(r *entry[K, V]) {
	if s.values != nil && !r.has(counted) {
		r.marks.Or(counted)
		s.values.add(r.value, 1)
	}
}
