package lbpool

import (
	"sync/atomic"
	"time"
)

// burstTime is the part of a second whose requests may come at once.
const burstTime = int64(time.Second / 10)

// rateLimit bounds how many requests a server gets in a second. It keeps the
// time at which the next request would be due if all came evenly spaced, and
// lets requests be early by burstTime.
type rateLimit struct {
	spacing atomic.Int64 // nanoseconds between requests; 0: no limit
	due     atomic.Int64 // on the pool's clock
}

// set changes the limit to n requests a second; 0 means none.
func (r *rateLimit) set(n int) {
	if n == 0 {
		r.spacing.Store(0)
		return
	}
	r.spacing.Store(max(int64(time.Second)/int64(n), 1))
}

// early is how long before its due time a request may come.
func early(spacing int64) int64 { return max(burstTime-spacing, 0) }

// wait returns the time until the limit allows a request, 0 or less if it
// allows one now.
func (r *rateLimit) wait(p *Pool) time.Duration {
	spacing := r.spacing.Load()
	if spacing == 0 {
		return 0
	}
	return time.Duration(r.due.Load() - p.clock() - early(spacing))
}

// giveBack takes back one request that was counted and not made.
func (r *rateLimit) giveBack() {
	if spacing := r.spacing.Load(); spacing > 0 {
		r.due.Add(-spacing)
	}
}

func (r *rateLimit) exhausted(p *Pool) bool {
	spacing := r.spacing.Load()
	return spacing > 0 && r.due.Load()-p.clock() > early(spacing)
}

// take counts one request, unless it comes too early.
func (r *rateLimit) take(p *Pool) bool {
	spacing := r.spacing.Load()
	if spacing == 0 {
		return true
	}
	now := p.clock()
	for {
		due := r.due.Load()
		if due-now > early(spacing) {
			return false
		}
		if r.due.CompareAndSwap(due, max(due, now)+spacing) {
			return true
		}
	}
}
