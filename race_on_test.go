//go:build race

package limpet_test

// raceEnabled tells that the race detector is on: it slows tests down and
// allocates.
const raceEnabled = true
