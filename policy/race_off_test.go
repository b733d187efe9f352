//go:build !race

package policy

// raceEnabled is whether the race detector runs, under which sync.Pool drops
// what it is given and allocations cannot be counted.
const raceEnabled = false
