package redisstore

// Stats is a snapshot of what a store has counted since it was made.
type Stats struct {
	// Up reports whether calls go to the server.
	Up bool

	// Answered counts the calls that the server answered.
	Answered uint64
	// NearHits counts those that the near cache answered.
	NearHits uint64
	// Local counts those that a table in memory answered, because the server could not be asked.
	Local uint64

	// Failures counts the calls that got no answer, or none that could be used.
	Failures uint64
	// Opened counts how often the server was lost.
	Opened uint64
	// Returned counts the entries of memory that the server took when it was back, or had already.
	Returned uint64
	// Dropped counts those that were not, for want of time or because the server refused them.
	Dropped uint64

	// NearEntries is how many values the near cache holds: those it serves, and those it remembers for the time when the server is away.
	NearEntries int

	// RefusedLifetime counts the values not stored because their lifetime was zero or negative.
	RefusedLifetime uint64
	// RefusedEntry counts those whose key, value or table name was too long.
	RefusedEntry uint64
	// RefusedFull counts those that found the table full and refusing new keys, or the server without memory.
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
