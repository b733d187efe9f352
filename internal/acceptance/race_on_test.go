//go:build race

package acceptance_test

// raceEnabled tells that the race detector is on: it slows tests down and
// allocates.
const raceEnabled = true
