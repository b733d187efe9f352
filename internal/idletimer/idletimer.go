// Package idletimer reports when nothing has happened for too long.
package idletimer

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Timer calls a function once, in a goroutine of its own, when a span that
// was begun has lasted for its limit. To begin and to end a span costs an
// atomic write: the timer beneath is not set anew each time, but looks when it
// goes off how much is left. All methods may be called concurrently, and for
// nil, which never goes off.
type Timer struct {
	limit  time.Duration
	expire func()
	born   time.Time    // what spans are measured from
	since  atomic.Int64 // when the span began, after born; negative: there is none
	gone   atomic.Bool  // the limit has passed

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

const noSpan = -1

// New returns a Timer whose first span begins now. A limit of zero or less is
// none: the result is nil then.
func New(limit time.Duration, expire func()) *Timer {
	if limit <= 0 {
		return nil
	}
	t := &Timer{limit: limit, expire: expire, born: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(limit, t.look)
	return t
}

// Begin begins a span, in the place of one that lasts.
func (t *Timer) Begin() {
	if t != nil {
		t.since.Store(int64(time.Since(t.born)))
	}
}

// End ends the span.
func (t *Timer) End() {
	if t != nil {
		t.since.Store(noSpan)
	}
}

// Expired reports whether a span has lasted for the limit.
func (t *Timer) Expired() bool { return t != nil && t.gone.Load() }

// Stop ends the Timer.
func (t *Timer) Stop() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.timer.Stop()
}

// look is what the timer beneath calls.
func (t *Timer) look() {
	left := t.limit
	if since := t.since.Load(); since != noSpan {
		left -= time.Since(t.born) - time.Duration(since)
	}
	if left <= 0 {
		t.gone.Store(true)
		t.expire()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.timer.Reset(left)
	}
}
