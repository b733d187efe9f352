package persistence

import "slices"

// Stats are the size of a table and its counters since it was created. The
// counters of a busy table are read one after the other, not at one instant.
type Stats struct {
	// Entries is how many entries are stored, as by [Table.Len].
	Entries int
	// Bytes is how much of [Options.MaxTableBytes] the entries use; zero for a
	// Table.
	Bytes int

	// Hits counts the calls of Lookup, Refresh and Touch that found a live
	// entry.
	Hits uint64
	// Misses counts those that found none.
	Misses uint64
	// Expired counts the misses that found an entry past its deadline.
	Expired uint64

	// Inserts counts the entries stored under keys that were not live.
	Inserts uint64
	// Restored counts the Inserts that came from a snapshot.
	Restored uint64
	// Replacements counts the live values replaced by Put, PutIdle, Claim,
	// CompareAndSwap or Increment.
	Replacements uint64
	// Removals counts the live entries removed by Remove.
	Removals uint64
	// Expirations counts the expired entries whose memory was freed.
	Expirations uint64
	// Evictions counts the live entries removed to make room.
	Evictions uint64
	// OwnerEvictions counts the evictions for an entry of the same owner,
	// because the owner had more entries than others or reached its limit.
	OwnerEvictions uint64

	// RefusedLifetime counts the values not stored because their lifetime was
	// zero or negative.
	RefusedLifetime uint64
	// RefusedEntry counts the values not stored because a key, value or table
	// name was too long or a key was not equal to itself.
	RefusedEntry uint64
	// RefusedFull counts the values not stored because the table was full and
	// refuses new keys.
	RefusedFull uint64
	// RefusedOwner counts the values not stored because the table refuses new
	// keys and the owner had reached its limit, or its fair share of a full
	// table.
	RefusedOwner uint64
	// RefusedTable counts the values not stored because of [Options.MaxTables];
	// zero for a Table.
	RefusedTable uint64
}

// Stats returns a snapshot of the table's counters.
func (t *Table[K, V]) Stats() Stats {
	sum := Stats{
		RefusedLifetime: t.refusedLifetime.Load(),
		RefusedEntry:    t.refusedEntry.Load(),
		RefusedFull:     t.refusedFull.Load(),
		RefusedOwner:    t.refusedOwner.Load(),
	}
	sum.add(t.reads.stats())
	for i := range t.shards {
		sum.add(t.shards[i].stats())
	}
	return sum
}

// Owners returns how many owners have entries. That takes time in proportion to
// their number: about 100 milliseconds for a million.
func (t *Table[K, V]) Owners() int {
	if t.owner == nil {
		return 0
	}
	var all []ownerID
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, own := range s.ownership.shares {
			if own.entries > 0 && own.id != noOwner {
				all = append(all, own.id)
			}
		}
		s.mu.Unlock()
	}
	slices.Sort(all)
	return len(slices.Compact(all))
}

func (s *shard[K, V]) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Entries:        len(s.slots),
		Bytes:          s.bytes,
		Inserts:        s.writes.inserts,
		Restored:       s.writes.restored,
		Replacements:   s.writes.replacements,
		Removals:       s.writes.removals,
		Expirations:    s.writes.expirations,
		Evictions:      s.writes.evictions,
		OwnerEvictions: s.writes.ownerEvictions,
	}
}

func (s *Stats) add(o Stats) {
	s.Entries += o.Entries
	s.Bytes += o.Bytes
	s.Hits += o.Hits
	s.Misses += o.Misses
	s.Expired += o.Expired
	s.Inserts += o.Inserts
	s.Restored += o.Restored
	s.Replacements += o.Replacements
	s.Removals += o.Removals
	s.Expirations += o.Expirations
	s.Evictions += o.Evictions
	s.OwnerEvictions += o.OwnerEvictions
	s.RefusedLifetime += o.RefusedLifetime
	s.RefusedEntry += o.RefusedEntry
	s.RefusedFull += o.RefusedFull
	s.RefusedOwner += o.RefusedOwner
	s.RefusedTable += o.RefusedTable
}
