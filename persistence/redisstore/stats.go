package redisstore

import (
	"slices"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/histogram"
	"github.com/limpetlb/limpet/persistence"
)

// verbs are those of calls, sorted.
var verbs = [...]string{
	"claim", "drop", "entries", "increment", "lookup", "peek", "purge", "remove", "store", "swap", "sweep", "tables", "touch",
}

// A result is what has become of a call.
type result uint8

const (
	resultAnswered result = iota
	resultFailed
	resultLocal
	resultNear
	resultCount
)

var results = [resultCount]string{resultAnswered: "answered", resultFailed: "failed", resultLocal: "local", resultNear: "near"}

// callCounts count calls. The zero value is ready to use.
type callCounts struct {
	results  [len(verbs)][resultCount]atomic.Uint64
	duration histogram.Counter // of those that went to the server
}

func (c *callCounts) add(verb string, r result) {
	if i, ok := slices.BinarySearch(verbs[:], verb); ok {
		c.results[i][r].Add(1)
	}
}

// resultOf returns the result of a call for which ask returns these.
func resultOf(local *persistence.Store, err error) result {
	switch {
	case err != nil:
		return resultFailed
	case local != nil:
		return resultLocal
	}
	return resultAnswered
}

// callStats returns the counts of all calls, and of their durations.
func (s *Store) callStats() (calls []persistence.RemoteCalls, durations histogram.Snapshot) {
	durations = histogram.New()
	var sums [len(verbs)][resultCount]uint64
	for own := range s.counted.All() {
		own.duration.AddTo(&durations)
		for v := range own.results {
			for r := range own.results[v] {
				sums[v][r] += own.results[v][r].Load()
			}
		}
	}
	for v := range sums {
		for r, n := range sums[v] {
			if n > 0 {
				calls = append(calls, persistence.RemoteCalls{Verb: verbs[v], Result: results[r], N: n})
			}
		}
	}
	return calls, durations
}

// nodes returns the servers that the store uses.
func (s *Store) nodes() (nodes []persistence.NodeStats) {
	if l := s.circuit.Load().link; l != nil {
		nodes = l.nodes()
	}
	if len(nodes) == 0 {
		for _, address := range slices.Sorted(slices.Values(s.config.Addresses)) {
			nodes = append(nodes, persistence.NodeStats{Address: address})
		}
	}
	return nodes
}

// Stats returns a snapshot of the store's counters. It reads them one after the
// other, not at one instant.
func (s *Store) Stats() persistence.RemoteStats {
	stats := persistence.RemoteStats{
		Up:              s.circuit.Load().link != nil,
		Nodes:           s.nodes(),
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
	stats.Calls, stats.Duration = s.callStats()
	if s.near != nil {
		stats.NearEntries = s.near.entries.Len()
		stats.Invalidations = s.near.invalidations.Load()
	}
	return stats
}
