package redisstore

// Stats are the state of a store and its counters since it was created.
type Stats struct {
	// Up reports whether calls go to the server.
	Up bool

	// Answered counts the calls that the server answered.
	Answered uint64
	// NearHits counts the calls that the near cache answered.
	NearHits uint64
	// Local counts the calls that a table in memory answered, because the
	// server was unavailable.
	Local uint64

	// Failures counts the calls without a usable answer.
	Failures uint64
	// Opened counts how often the server was lost.
	Opened uint64
	// Returned counts the entries in memory that were written back after an
	// outage, or that the server already had.
	Returned uint64
	// Dropped counts the entries in memory that were not written back, because
	// the time was over or the server refused them.
	Dropped uint64

	// NearEntries is how many values the near cache stores: those it serves,
	// and those it remembers for an outage.
	NearEntries int

	// RefusedLifetime counts the values not stored because their lifetime was
	// zero or negative.
	RefusedLifetime uint64
	// RefusedEntry counts the values not stored because a key, value or table
	// name was too long.
	RefusedEntry uint64
	// RefusedFull counts the values not stored because the table was full and
	// refuses new keys, or the server had no memory.
	RefusedFull uint64
}

// Stats returns a snapshot of the store's counters.
func (s *Store) Stats() Stats {
	stats := Stats{
		Up:              s.circuit.Load().link != nil,
		Answered:        s.answered.Load(),
		NearHits:        s.nearHits.Load(),
		Local:           s.locals.Load(),
		Failures:        s.failures.Load(),
		Opened:          s.opened.Load(),
		Returned:        s.returned.Load(),
		Dropped:         s.dropped.Load(),
		RefusedLifetime: s.refusedLifetime.Load(),
		RefusedEntry:    s.refusedEntry.Load(),
		RefusedFull:     s.refusedFull.Load(),
	}
	if s.near != nil {
		stats.NearEntries = s.near.entries.Len()
	}
	return stats
}
