package lbpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// How the queue works. A goroutine that frees a slot serves the next waiting
// request at once: it chooses a server for it, reserves the slot, and wakes the
// request with the lease. So a request that is slow to wake up delays no other,
// and none has to queue again. One goroutine at a time serves the queue,
// without a lock while it chooses; others leave a note of the slot they have
// freed, and go on. No note may get lost: it is written after the slot is free,
// and a request checks for free slots itself once it has joined the queue.

// QueueOrder says which of the waiting requests is served next.
type QueueOrder uint8

const (
	// LastInFirstOut serves the youngest request first. Under overload, when
	// some requests must time out anyway, this keeps most waits short. Requests
	// that need not wait overtake those that do.
	LastInFirstOut QueueOrder = iota
	// FirstInFirstOut serves the oldest request first; later requests wait
	// behind it. Acquire, which never waits, may still overtake.
	FirstInFirstOut
)

var queueOrders = []string{"last in first out", "first in first out"}

// String returns the name: "last in first out" or "first in first out";
// "invalid" for other values.
func (o QueueOrder) String() string { return enumtext.String(o, queueOrders) }

// MarshalText returns the name. It fails for a value without a name.
func (o QueueOrder) MarshalText() ([]byte, error) { return enumtext.Marshal(o, queueOrders) }

// UnmarshalText reads a name, without regard to case, blanks, commas, "-" and
// "_". The error for another text lists the names.
func (o *QueueOrder) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(o, bytes.ReplaceAll(text, []byte(","), nil), queueOrders)
}

// Queue lets requests wait for servers that are at their limits
// (MaxConnections, MaxRate). Only AcquireWait waits, and a Transport for a
// Route with Wait set.
type Queue struct {
	// Length is how many requests may wait at a time, at most 65536. 0 turns
	// the queue off. If Update makes the queue shorter, requests beyond the new
	// length keep waiting; no others join them.
	Length int `min:"0" max:"65536"`
	// Timeout is how long a request may wait. 0 means 10 seconds.
	Timeout time.Duration `default:"10s" min:"0s"`
	// Order says which request is served next. The zero value is
	// LastInFirstOut.
	Order QueueOrder
}

func (q Queue) withDefaults() Queue {
	bounds.SetDefaults(&q)
	return q
}

func (q Queue) validate(faults *fielderr.List) {
	bounds.Check("queue", q, faults)
	faults.Constant("queue.order", q.Order)
}

// AcquireWait is Acquire for a request that may wait in the pool's queue when
// servers are at their limits. It waits for the server that h names if that one
// is full, else for any. It returns at once if no server is up. If the queue is
// full, or the timeout passes, it returns what Acquire returns then: perhaps
// another server than the one named, else an error that matches ErrNoServer.
// When ctx is done the error matches ctx's error. A pool without a queue does
// not wait.
func (p *Pool) AcquireWait(ctx context.Context, h Hint) (Lease, error) {
	return p.acquireQueued(ctx, h, nil)
}

// acquireQueued is AcquireWait with an observer, which may be nil.
func (p *Pool) acquireQueued(ctx context.Context, h Hint, o Observer) (Lease, error) {
	for {
		p = p.live()
		lease, err := p.acquireWait(ctx, h, o)
		if !errors.Is(err, errMoved) {
			return lease, err
		}
	}
}

// errMoved informs a waiting request that its pool has adopted another pool.
var errMoved = errors.New("pool has adopted another")

func (p *Pool) acquireWait(ctx context.Context, h Hint, o Observer) (Lease, error) {
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
	return p.wait(ctx, h, q.Timeout, o)
}

// own returns the server that h waits for if it is full; nil if any server will
// do.
func (snap *snapshot) own(h *Hint) *Server {
	if h.Server.IsValid() {
		if s, _, reason := snap.find(h); reason == ReasonNone {
			return s
		}
	}
	return nil
}

// tryOwn is Acquire, except that a wanted server that is full is not replaced.
func (p *Pool) tryOwn(h *Hint) (Lease, error) {
	if snap := p.refresh(); h.Server.IsValid() && !snap.short {
		switch s, shared, reason := snap.wanted(h); reason {
		case ReasonNone:
			return newLease(s, h, ReasonNone, shared), nil
		case ReasonFull:
			return Lease{}, snap.full
		}
	}
	return p.Acquire(*h)
}

// wait waits for a server.
func (p *Pool) wait(ctx context.Context, h Hint, timeout time.Duration, o Observer) (Lease, error) {
	w := &waiter{hint: h, ready: make(chan struct{})}
	if !p.queue.join(w, p) {
		return Lease{}, errMoved
	}
	p.counters.queued.Add(1)
	if o != nil {
		o.Queued(p)
		defer func(joined time.Time) { o.Dequeued(p, time.Since(joined)) }(time.Now())
	}
	p.serveWaiting(nil)
	select {
	case <-w.ready:
		return p.take(w)
	default:
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var err error
	select {
	case <-w.ready:
		return p.take(w)
	case <-timer.C:
	case <-ctx.Done():
		err = fmt.Errorf("pool %q: waiting for a server: %w", p.Name(), ctx.Err())
	}
	if !p.queue.leave(w) { // it was served just now
		lease, fault := p.take(w)
		if err != nil && fault == nil {
			lease.cancel()
			return Lease{}, err
		}
		return lease, fault
	}
	if err != nil {
		p.counters.queueCanceled.Add(1)
		return Lease{}, err
	}
	p.counters.queueTimeouts.Add(1)
	lease, err := p.Acquire(h)
	if err != nil {
		err = fmt.Errorf("%w, after %s in the queue", err, timeout)
	}
	return lease, err
}

// take returns the lease or error of a served request.
func (p *Pool) take(w *waiter) (Lease, error) {
	if w.relay {
		p.serveWaiting(nil)
	}
	if fault, ok := errors.AsType[*panicError](w.err); ok {
		panic(fault.value)
	}
	return w.lease, w.err
}

// A waiter is a request in the queue. It joins once, and leaves when it is
// served or gives up.
type waiter struct {
	hint  Hint          // only read
	ready chan struct{} // closed once it is served

	// Written before ready is closed.
	lease Lease
	err   error
	relay bool // it must continue to serve the queue

	// Guarded by the queue's mu.
	line           *line // the line it is in; nil: none
	seq            uint64
	prev, next     *waiter // in the line
	older, younger *waiter // in the queue
}

// waitQueue has the waiting requests of a pool: one line for those that any
// server can serve, and one line per server that requests wait for. All are
// ordered by age.
type waitQueue struct {
	mu               sync.Mutex
	lastSeq          uint64 // of the youngest waiter
	oldest, youngest *waiter
	any              line
	own              map[*Server]*line // none is empty

	// Notes for the goroutine that serves the queue.
	busy    bool      // there is such a goroutine
	freed   []*Server // may have a free slot; each once, see Server.freed
	look    bool      // any server may have a free slot
	changed bool      // servers have changed: requests may be in the wrong line
	timer   *time.Timer
}

// line is a doubly linked list, the oldest first.
type line struct {
	own         *Server // nil: any
	first, last *waiter
}

// join adds w at the end. It reports false if the pool has adopted another
// pool.
func (r *waitQueue) join(w *waiter, p *Pool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.next.Load() != nil {
		return false
	}
	r.lastSeq++
	w.seq = r.lastSeq
	w.older = r.youngest
	if w.older != nil {
		w.older.younger = w
	} else {
		r.oldest = w
	}
	r.youngest = w
	own := p.current.Load().own(&w.hint)
	r.appendLocked(w, own)
	r.putBackNoteLocked(own) // for slots that were freed before
	return true
}

// appendLocked adds w at the end of the line for a server, or of the line for
// any server if own is nil.
func (r *waitQueue) appendLocked(w *waiter, own *Server) {
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
	w.line, w.prev, w.next = l, l.last, nil
	if l.last != nil {
		l.last.next = w
	} else {
		l.first = w
	}
	l.last = w
}

// leave removes w. It reports whether w was still in the queue.
func (r *waitQueue) leave(w *waiter) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removeLocked(w)
}

func (r *waitQueue) removeLocked(w *waiter) bool {
	l := w.line
	if l == nil {
		return false
	}
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
	if w.older != nil {
		w.older.younger = w.younger
	} else {
		r.oldest = w.younger
	}
	if w.younger != nil {
		w.younger.older = w.older
	} else {
		r.youngest = w.older
	}
	w.line, w.prev, w.next, w.older, w.younger = nil, nil, nil, nil, nil
	if l.first == nil && l.own != nil {
		delete(r.own, l.own)
	}
	if r.oldest == nil && r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	return true
}

// freeLocked notes that a server may have a free slot.
func (r *waitQueue) freeLocked(s *Server) {
	if !s.freed {
		s.freed = true
		r.freed = append(r.freed, s)
	}
}

// lineUpLocked puts all requests into the right lines again, after servers have
// changed.
func (r *waitQueue) lineUpLocked(snap *snapshot) {
	r.changed = false
	if r.timer != nil { // it may be too late now
		r.timer.Stop()
		r.timer = nil
	}
	r.any = line{}
	clear(r.own)
	for w := r.oldest; w != nil; w = w.younger {
		r.appendLocked(w, snap.own(&w.hint))
	}
	r.lookLocked()
}

// lookLocked notes that any server may have a free slot.
func (r *waitQueue) lookLocked() {
	r.look = true
	for s := range r.own {
		r.freeLocked(s)
	}
}

// putBackNoteLocked puts back a note.
func (r *waitQueue) putBackNoteLocked(s *Server) {
	if s != nil {
		r.freeLocked(s)
	} else {
		r.look = true
	}
}

// noteLocked takes a note. It reports false if there is none; s is nil if any
// server may have a free slot.
func (r *waitQueue) noteLocked() (s *Server, ok bool) {
	if n := len(r.freed); n > 0 {
		s, r.freed = r.freed[n-1], r.freed[:n-1]
		s.freed = false
		return s, true
	}
	ok, r.look = r.look, false
	return nil, ok
}

// candidates are the requests that may get the slot of a note: in each line the
// next one that could not be passed over.
type candidates struct{ own, any *waiter }

// startLocked returns the first requests of the lines for s, and for any
// server.
func (r *waitQueue) startLocked(s *Server, newest bool) (t candidates) {
	t.any = r.any.head(newest)
	if l := r.own[s]; s != nil && l != nil {
		t.own = l.head(newest)
	}
	return t
}

// next returns the request to serve next, nil if there is none.
func (t *candidates) next(newest bool) *waiter {
	if t.own == nil || t.any != nil && (t.any.seq > t.own.seq) == newest {
		return t.any
	}
	return t.own
}

// passLocked passes over w, which could not be served. If all servers are full,
// those behind it in its line cannot be served either.
func (t *candidates) passLocked(w *waiter, newest, full bool) {
	switch {
	case w == t.own:
		t.own = nil
	case full:
		t.any = nil
	case newest:
		t.any = w.prev
	default:
		t.any = w.next
	}
}

func (l *line) head(newest bool) *waiter {
	if newest {
		return l.last
	}
	return l.first
}

// maxServed is how many requests one goroutine serves before another one
// continues.
const maxServed = 32

// serveWaiting serves waiting requests with the free slots that are noted and
// with s, unless another goroutine is doing so; that one sees the note.
func (p *Pool) serveWaiting(s *Server) {
	r := &p.queue
	r.mu.Lock()
	defer r.mu.Unlock()
	if s != nil {
		r.freeLocked(s)
	}
	if r.busy {
		return
	}
	r.busy = true
	defer func() { r.busy = false }()
	for served := 0; ; {
		if p.next.Load() != nil {
			for r.oldest != nil {
				r.serveLocked(r.oldest, Lease{}, errMoved)
			}
		}
		if r.changed {
			r.lineUpLocked(p.current.Load())
		}
		s, ok := r.noteLocked()
		if !ok {
			p.lookLaterLocked()
			return
		}
		newest := p.current.Load().queue.Order == LastInFirstOut
		for c := r.startLocked(s, newest); !r.changed; {
			w := c.next(newest)
			if w == nil {
				break
			}
			lease, err := p.tryForLocked(w)
			if w.line == nil { // it has left
				r.dropLocked(lease, err)
			} else if errors.Is(err, ErrFull) {
				if p.current.Load().own(&w.hint) != w.line.own {
					r.changed = true // it now waits for another server
				}
				c.passLocked(w, newest, p.current.Load().allFull())
				continue
			} else {
				if served++; served >= maxServed {
					w.relay = true
					r.putBackNoteLocked(s)
				}
				r.serveLocked(w, lease, err)
				if w.relay {
					return
				}
			}
			c = r.startLocked(s, newest) // there may be more
		}
	}
}

// tryForLocked chooses a server for a waiting request. It unlocks the queue
// meanwhile.
func (p *Pool) tryForLocked(w *waiter) (lease Lease, err error) {
	p.queue.mu.Unlock()
	defer p.queue.mu.Lock()
	defer func() {
		if fault := recover(); fault != nil { // of an algorithm; the request raises it again
			lease, err = Lease{}, &panicError{fault}
		}
	}()
	return p.tryOwn(&w.hint)
}

// panicError is a panic of an algorithm.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("algorithm panicked: %v", e.value) }

// serveLocked removes w and wakes it.
func (r *waitQueue) serveLocked(w *waiter, lease Lease, err error) {
	r.removeLocked(w)
	w.lease, w.err = lease, err
	close(w.ready)
}

// dropLocked gives back the lease of a request that has left. It unlocks the
// queue meanwhile.
func (r *waitQueue) dropLocked(lease Lease, err error) {
	if err != nil {
		return
	}
	r.mu.Unlock()
	defer r.mu.Lock()
	lease.cancel()
}

// allFull reports whether all servers that are up are at their limits.
func (snap *snapshot) allFull() bool {
	return !slices.ContainsFunc(snap.up, func(s *Server) bool { return !s.full() })
}

// The longest and the shortest time until the next look for slots that become
// free without a release: because of MaxRate, or because a custom algorithm
// decides differently later.
const (
	longLook  = time.Second
	shortLook = time.Millisecond
)

// lookLaterLocked looks for free slots again after a while, if requests wait.
func (p *Pool) lookLaterLocked() {
	r := &p.queue
	if r.oldest == nil || r.timer != nil {
		return
	}
	snap := p.current.Load()
	wait := longLook
	if snap.rated {
		for _, s := range snap.servers {
			if left := s.rate.wait(p); left > 0 {
				wait = min(wait, left)
			}
		}
	}
	if !snap.due.IsZero() {
		wait = min(wait, time.Until(snap.due))
	}
	var timer *time.Timer
	timer = time.AfterFunc(max(wait, shortLook), func() {
		p.refresh()
		r.mu.Lock()
		if r.timer == timer {
			r.timer = nil
		}
		r.lookLocked()
		r.mu.Unlock()
		p.serveWaiting(nil)
	})
	r.timer = timer
}

// wakeAll looks at all waiting requests again, after servers have changed.
func (p *Pool) wakeAll() {
	if p.waiting.Load() == 0 {
		return
	}
	p.queue.mu.Lock()
	p.queue.changed = true
	p.queue.mu.Unlock()
	p.serveWaiting(nil)
}
