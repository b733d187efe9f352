//go:build race

package lua51

// raceDetector slows everything down, and allocates.
const raceDetector = true
