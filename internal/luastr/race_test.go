//go:build race

package luastr

func init() { raceEnabled = true }
