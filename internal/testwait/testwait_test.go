package testwait

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// A double notes whether a test would have failed.
type double struct {
	testing.TB
	failed bool
}

func (d *double) Helper() {}

func (d *double) Fatalf(string, ...any) {
	d.failed = true
	runtime.Goexit()
}

// failed reports whether f fails, in its virtual time.
func failed(t *testing.T, f func(t testing.TB)) bool {
	d := &double{TB: t}
	synctest.Test(t, func(*testing.T) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			f(d)
		}()
		<-done
	})
	return d.failed
}

func TestReceive(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration
		fails bool
	}{
		{"at once", 0, false},
		{"late", Limit - 1, false},
		{"too late", Limit + 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := failed(t, func(t testing.TB) {
				ch := make(chan int, 1)
				time.AfterFunc(tt.after, func() { ch <- 5 })
				if v := Receive(t, ch, "value"); v != 5 {
					t.Errorf("received %d", v)
				}
			})
			if got != tt.fails {
				t.Errorf("failed %t", got)
			}
		})
	}
}

func TestUntil(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration
		fails bool
	}{
		{"at once", 0, false},
		{"late", Limit - time.Second, false},
		{"too late", Limit + time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := failed(t, func(t testing.TB) {
				start := time.Now()
				took := Until(t, "the condition", func() bool { return time.Since(start) >= tt.after })
				if took != tt.after {
					t.Errorf("took %v", took)
				}
			})
			if got != tt.fails {
				t.Errorf("failed %t", got)
			}
		})
	}
}
