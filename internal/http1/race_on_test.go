//go:build race

package http1

// raceEnabled tells that the race detector is on: it slows tests down and
// allocates.
const raceEnabled = true
