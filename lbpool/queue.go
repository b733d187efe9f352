package lbpool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// MaxQueue is the greatest length of a pool's queue.
const MaxQueue = 65536

// QueueOrder is which of the waiting requests is served next.
type QueueOrder uint8

const (
	// LastInFirstOut serves the youngest request first. Under overload, when somebody must wait in vain anyway, this
	// keeps most waits short; requests that need not wait at all overtake those that do.
	LastInFirstOut QueueOrder = iota
	// FirstInFirstOut serves the oldest request first; requests that come later wait behind it. Acquire, which never
	// waits, may still overtake.
	FirstInFirstOut
)

// String returns "last in, first out" or "first in, first out".
func (o QueueOrder) String() string {
	switch o {
	case LastInFirstOut:
		return "last in, first out"
	case FirstInFirstOut:
		return "first in, first out"
	}
	return fmt.Sprintf("QueueOrder(%d)", uint8(o))
}

// Queue lets requests wait for servers that are at their limits (MaxConnections, MaxRate). Only AcquireWait waits, and a
// Transport for a Route that says so.
type Queue struct {
	// Length is how many requests may wait at a time, at most MaxQueue. 0 turns the queue off. When Update shortens the
	// queue, requests beyond the new length go on waiting; no others join them.
	Length int
	// Timeout is how long a request may wait. 0 means 10 seconds.
	Timeout time.Duration
	// Order is which request is served next. The zero value is LastInFirstOut.
	Order QueueOrder
}

func (q Queue) withDefaults() Queue {
	if q.Timeout == 0 {
		q.Timeout = 10 * time.Second
	}
	return q
}

func (q Queue) validate(faults *faults) {
	if q.Length < 0 || q.Length > MaxQueue {
		faults.add("queue.length", "%d is not within 0 to %d", q.Length, MaxQueue)
	}
	if q.Timeout < 0 {
		faults.add("queue.timeout", "%s is negative", q.Timeout)
	}
	if q.Order > FirstInFirstOut {
		faults.add("queue.order", "%d is not a known value", q.Order)
	}
}

// AcquireWait is Acquire for a request that may wait in the pool's queue when servers are at their limits. It waits for
// the server that h wants if that one is full, and else for any. It returns at once when no server is up. A request that
// has waited in vain gets what Acquire gives it then: perhaps another server than the one wanted, else an error that
// matches ErrFull. When ctx is done the error matches ctx's error. A pool without a queue does not wait.
func (p *Pool) AcquireWait(ctx context.Context, h Hint) (Lease, error) {
	p = p.live()
	q := p.refresh().queue
	if q.Length == 0 {
		return p.Acquire(h)
	}
	if q.Order == LastInFirstOut || p.waiting.Load() == 0 {
		lease, err := p.tryOwn(&h)
		if !errors.Is(err, ErrFull) {
			return lease, err
		}
	}
	if p.waiting.Add(1) > int64(q.Length) {
		p.waiting.Add(-1)
		p.counters.queueFull.Add(1)
		return p.Acquire(h)
	}
	defer p.waiting.Add(-1)
	p.counters.queued.Add(1)
	return p.wait(ctx, h, q.Timeout)
}

// own returns the server that h waits for if it is full; nil if any will do.
func (p *Pool) own(h *Hint) *Server {
	if !h.Server.IsValid() {
		return nil
	}
	snap := p.refresh()
	if s, _, reason := snap.find(h); reason == ReasonNone {
		return s
	}
	return nil
}

// tryOwn is Acquire, except that a server that is wanted and full is not replaced.
func (p *Pool) tryOwn(h *Hint) (Lease, error) {
	if snap := p.refresh(); h.Server.IsValid() && !snap.short {
		switch s, shared, reason := snap.wanted(h); reason {
		case ReasonNone:
			return newLease(s, ReasonNone, shared), nil
		case ReasonFull:
			return Lease{}, snap.full
		}
	}
	return p.Acquire(*h)
}

// wait waits for a server. Whoever gives back a lease wakes one request that could use it, which then tries like any
// other: so limits are kept in one place, and a request that is woken in vain has its old place in the queue. Who is woken
// and does not take what was given back wakes the next.
func (p *Pool) wait(ctx context.Context, h Hint, timeout time.Duration) (Lease, error) {
	w := &waiter{ready: make(chan *Server, 1), place: p.queue.places.Add(1)}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	poll := time.NewTicker(p.pollRates())
	defer poll.Stop()
	for {
		// First in line, then try: what is given back between the two is noticed.
		own := p.own(&h)
		if p.queue.join(w, own) || p.current.Load().queue.Order == LastInFirstOut {
			lease, err := p.tryOwn(&h)
			if !errors.Is(err, ErrFull) {
				p.queue.quit(w, lease.Server)
				return lease, err
			}
		}
		select {
		case by := <-w.ready:
			if s := p.own(&h); s != own && by != nil {
				p.queue.wake(by) // it waits for another now
			}
			w.by = by
			continue
		case <-poll.C:
			p.queue.leave(w)
			continue
		case <-timer.C:
			p.queue.quit(w, nil)
			p.counters.queueTimeouts.Add(1)
			lease, err := p.Acquire(h)
			if err != nil {
				err = fmt.Errorf("%w, after %s in the queue", err, timeout)
			}
			return lease, err
		case <-ctx.Done():
			p.queue.quit(w, nil)
			return Lease{}, fmt.Errorf("pool %q: waiting for a server: %w", p.Name(), ctx.Err())
		}
	}
}

// pollRates is how often a waiting request should look for itself. A server that is at its MaxRate is free again after
// a while, without anybody giving anything back.
func (p *Pool) pollRates() time.Duration {
	if p.current.Load().rated {
		return 5 * time.Millisecond
	}
	return time.Second
}

// A waiter is a request in the queue.
type waiter struct {
	ready chan *Server // gets the server that woke it, nil for no one in particular
	place uint64       // smaller is older
	by    *Server      // that woke it last

	// Guarded by the room's mu.
	line       *line // in which it stands; nil: in none
	prev, next *waiter
}

// waitingRoom holds the waiting requests of a pool: one line for those that go anywhere, and one for each server that
// some wait for. The lines are in the order of age.
type waitingRoom struct {
	places atomic.Uint64 // given so far

	mu  sync.Mutex
	any line
	own map[*Server]*line // none is empty
}

// line is a doubly linked list, the oldest first.
type line struct {
	own         *Server // nil: any
	first, last *waiter
}

// join puts w in its place in the line for a server, or for any if that is nil. It reports whether w is the first there.
func (r *waitingRoom) join(w *waiter, own *Server) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.line != nil {
		r.unlinkLocked(w)
	}
	l := &r.any
	if own != nil {
		if l = r.own[own]; l == nil {
			if r.own == nil {
				r.own = make(map[*Server]*line)
			}
			l = &line{own: own}
			r.own[own] = l
		}
	}
	before := l.last // usually it is the youngest
	for before != nil && before.place > w.place {
		before = before.prev
	}
	l.insert(w, before)
	return before == nil
}

func (l *line) insert(w, before *waiter) {
	w.line, w.prev, w.next = l, before, l.first
	if before != nil {
		w.next = before.next
		before.next = w
	} else {
		l.first = w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		l.last = w
	}
}

func (r *waitingRoom) unlinkLocked(w *waiter) {
	l := w.line
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.last = w.prev
	}
	w.line, w.prev, w.next = nil, nil, nil
	if l.first == nil && l.own != nil {
		delete(r.own, l.own)
	}
}

// leave takes w out of its line, if it is in one.
func (r *waitingRoom) leave(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.line != nil {
		r.unlinkLocked(w)
	}
}

// quit takes w out for good, with a lease of the server got if that is not nil. What others have given back and it does
// not take goes to the next.
func (r *waitingRoom) quit(w *waiter, got *Server) {
	r.leave(w)
	if w.by != nil && w.by != got {
		r.wake(w.by)
	}
	select {
	case by := <-w.ready:
		if by != nil {
			r.wake(by)
		}
	default:
	}
}

// wake wakes the next request that waits for s or for any server.
func (r *waitingRoom) wake(s *Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := s.pool.current.Load().queue.Order == LastInFirstOut
	w := r.any.head(newest)
	if l := r.own[s]; l != nil {
		if o := l.head(newest); w == nil || o != nil && (o.place > w.place) == newest {
			w = o
		}
	}
	if w != nil {
		r.unlinkLocked(w)
		w.ready <- s // has room: it is in a line only while nobody has woken it
	}
}

func (l *line) head(newest bool) *waiter {
	if newest {
		return l.last
	}
	return l.first
}

// wakeAll lets everybody look again.
func (r *waitingRoom) wakeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := []*line{&r.any}
	for _, l := range r.own {
		lines = append(lines, l)
	}
	for _, l := range lines {
		for w := l.first; w != nil; w = l.first {
			r.unlinkLocked(w)
			w.ready <- nil
		}
	}
}
