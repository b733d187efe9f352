//go:build !race

package datascript

const raceDetector = false
