package cputime

import (
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Time in which a thread only waits is not its own.
func TestThread(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	waited := Least(20, 10*time.Millisecond, func() { <-time.After(20 * time.Millisecond) })
	if waited > 10*time.Millisecond {
		t.Errorf("waiting cost %v", waited)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for began := Thread(); Thread()-began < 10*time.Millisecond; { // ends, since the loop itself costs
	}
}

func TestLeast(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tries  int
		enough time.Duration
		want   int
	}{
		{"cheap", 5, time.Hour, 1},
		{"dear", 5, -1, 5},
		{"no tries", 0, -1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			if Least(tt.tries, tt.enough, func() { calls++ }); calls != tt.want {
				t.Errorf("%d calls, want %d", calls, tt.want)
			}
		})
	}
}
