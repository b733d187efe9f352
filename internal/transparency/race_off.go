//go:build !race

package transparency

const raceEnabled = false
