//go:build race

package integration

// raceEnabled is whether the race detector is on.
const raceEnabled = true
