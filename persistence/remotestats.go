package persistence

import "github.com/limpetlb/limpet/internal/histogram"

// A Histogram counts durations in buckets: those of Prometheus' native
// histograms of schema 2.
type Histogram = histogram.Snapshot

// RemoteStats are the state of a store on another machine, such as a
// [redisstore.Store], and its counters since it was created.
//
// [redisstore.Store]:
// https://pkg.go.dev/github.com/limpetlb/limpet/persistence/redisstore#Store
type RemoteStats struct {
	// Up reports whether calls go to the server.
	Up bool
	// Nodes are the servers that the store uses, sorted by address: of a
	// cluster its masters, as far as they have been called. While the server is
	// unavailable they are those that are configured.
	Nodes []NodeStats

	// Calls counts the calls by verb and result, sorted. Those that have not
	// occurred are left out.
	Calls []RemoteCalls
	// Duration counts the calls that were sent to the server by the time to the
	// answer, or until they were given up.
	Duration Histogram

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
	// Invalidations counts the keys that the server has reported as changed,
	// and as one each time that it reported all of them.
	Invalidations uint64

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

// RemoteCalls is how often a verb has had a result.
type RemoteCalls struct {
	// Verb is what was asked for, such as "lookup", "store" for all methods
	// that store a value, "claim" or "remove".
	Verb string
	// Result is "answered" by the server, "near" by the near cache, "local" by
	// a table in memory, or "failed": the call has returned an error.
	Result string
	N      uint64 // how often
}

// NodeStats is the state of one server of a store.
type NodeStats struct {
	Address string // host and port
	Up      bool   // whether the store has a connection to it
}
