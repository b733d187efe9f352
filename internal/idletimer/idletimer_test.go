package idletimer

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTimer compares with the moment at which a timer that is set anew at each
// step would go off.
func TestTimer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := time.Duration(rapid.IntRange(1, 50).Draw(rt, "limit"))
		steps := rapid.SliceOf(rapid.SampledFrom([]string{"begin", "end", "stop"})).Draw(rt, "steps")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 60), len(steps), len(steps)).Draw(rt, "pauses")
		synctest.Test(t, func(*testing.T) {
			start := time.Now()
			var at atomic.Int64
			timer := New(limit, func() {
				if at.Swap(int64(time.Since(start))) != 0 {
					rt.Error("called twice")
				}
			})
			want := int64(0) // when it should have gone off; 0: not at all
			due, spans := limit, true
			pass := func(d time.Duration) {
				now := time.Since(start)
				if want == 0 && spans && due <= now+d {
					want = int64(due)
				}
				time.Sleep(d)
				synctest.Wait()
			}
			for i, step := range steps {
				pass(time.Duration(pauses[i]))
				switch now := time.Since(start); {
				case want != 0:
				case step == "begin":
					timer.Begin()
					due = now + limit
				case step == "end":
					timer.End()
					due = 1 << 62
				default:
					timer.Stop()
					spans = false
				}
			}
			pass(2 * limit)
			timer.Stop()
			if at.Load() != want || timer.Expired() != (want != 0) {
				rt.Errorf("went off at %d, expired %v, want %d", at.Load(), timer.Expired(), want)
			}
		})
	})
}

func TestNoLimit(t *testing.T) {
	for _, limit := range []time.Duration{0, -1} {
		timer := New(limit, func() { t.Error("called") })
		timer.Begin()
		timer.End()
		timer.Stop()
		if timer != nil || timer.Expired() {
			t.Errorf("limit %v: %v", limit, timer)
		}
	}
}

func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		timer := New(time.Second, func() { calls.Add(1) })
		for range 8 {
			go func() {
				for range 1000 {
					timer.Begin()
					time.Sleep(time.Duration(rand.N(100)) * time.Millisecond)
					timer.End()
					timer.Begin()
				}
			}()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls.Load() != 1 || !timer.Expired() {
			t.Errorf("%d calls, expired %v", calls.Load(), timer.Expired())
		}
	})
}

func TestAllocations(t *testing.T) {
	timer := New(time.Hour, func() {})
	defer timer.Stop()
	if n := testing.AllocsPerRun(100, func() { timer.Begin(); timer.End() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
