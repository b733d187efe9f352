//go:build race

package luasyntax_test

// raceEnabled is whether time is spent in the race detector.
const raceEnabled = true
