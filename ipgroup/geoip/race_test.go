//go:build race

package geoip

func init() { raceEnabled = true }
