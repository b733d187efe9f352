//go:build !race

package luasyntax_test

const raceEnabled = false
