//go:build race

package datascript

// raceDetector slows everything down, and allocates.
const raceDetector = true
