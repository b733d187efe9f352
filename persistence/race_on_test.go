//go:build race

package persistence

// raceEnabled shortens long runs, and skips counts of allocations, which the
// race detector changes.
const raceEnabled = true
