package cputime

import (
	"math"
	"runtime"
	"time"
)

// Least calls f until a call costs no more than enough, at least once and at
// most tries times, and returns what the cheapest call cost. Other programs
// make calls dearer, by what they do to the caches, never cheaper.
func Least(tries int, enough time.Duration, f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	least := time.Duration(math.MaxInt64)
	for i := 0; i < max(tries, 1) && least > enough; i++ {
		began := Thread()
		f()
		least = min(least, Thread()-began)
	}
	return least
}
