//go:build !race

package lua51

const raceDetector = false
