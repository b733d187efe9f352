//go:build !race

package limpet_test

const raceEnabled = false
