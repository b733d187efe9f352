//go:build race

package lbpool

const raceEnabled = true
