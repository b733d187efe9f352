// Package testwait has what tests wait with for something that happens in real
// time, on connections and in other processes. Where time can be virtual, use
// testing/synctest instead.
package testwait

import (
	"testing"
	"time"
)

// Limit is how long a test waits for something that should happen at once. Only
// a test that fails ever waits so long.
const Limit = time.Minute

// Receive returns what comes out of ch, or fails the test at the [Limit].
func Receive[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(Limit)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("no %s within %v", what, Limit)
		panic("not reached")
	}
}

// Until waits until a condition holds, and returns how long that took. It fails
// the test at the [Limit].
func Until(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Since(start) > Limit {
			t.Fatalf("not within %v: %s", Limit, what)
		}
		<-tick.C
	}
	return time.Since(start)
}
