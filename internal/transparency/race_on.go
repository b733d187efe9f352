//go:build race

package transparency

// raceEnabled tells that the race detector is on: it slows cases down and allocates.
const raceEnabled = true
