//go:build race

package ipgroup

func init() { raceEnabled = true }
