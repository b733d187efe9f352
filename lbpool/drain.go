package lbpool

import (
	"net/netip"
	"slices"
	"time"
)

// DrainForever is the time-out of a Drain that only the last client ends.
const DrainForever time.Duration = -1

// drainPoll is how often Run asks for the persistence entries of draining servers.
const drainPoll = time.Second

// DrainPolicy says who may still use a draining server, and how it is known that nobody does.
type DrainPolicy struct {
	// KeepBound lets requests whose Hint wants a draining server still go there, so that clients who are bound to it
	// finish what they began. Otherwise they are given another server, and only requests under way are left alone.
	KeepBound bool
	// Bound returns how many persistence entries point to a server. Run calls it about once a second for each draining
	// server, one at a time. Nil means that this is not known: with KeepBound, a drain then lasts until its time-out,
	// unless somebody else counts, see Pool.CountBound.
	Bound func(server netip.AddrPort) int
}

// CountBound has count called as DrainPolicy.Bound is, beside it and beside others that count, until stop is called. It
// is for owners of persistence entries who come after the pool was made, and matters only with KeepBound. A drain ends when
// all counts are 0. A negative count means that it is not known: then only the time-out ends the drain.
func (p *Pool) CountBound(count func(server netip.AddrPort) int) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts = append(slices.Clip(p.counts), &count)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.counts = slices.DeleteFunc(slices.Clone(p.counts), func(other *func(netip.AddrPort) int) bool { return other == &count })
	}
}

// bound counts the clients that are bound to a draining server, as far as somebody does. It may take a while.
func (p *Pool) bound(s *Server) (n int, known bool) {
	policy := p.current.Load().drain
	if policy.Bound != nil {
		n, known = policy.Bound(s.addr), true
	}
	if !policy.KeepBound { // they go elsewhere
		return n, known
	}
	p.mu.Lock()
	counts := p.counts
	p.mu.Unlock()
	for _, count := range counts {
		more := (*count)(s.addr)
		if more < 0 {
			return 0, false
		}
		n, known = n+more, true
	}
	return n, known
}

// counted reports whether somebody counts bound clients.
func (p *Pool) counted() bool {
	policy := p.current.Load().drain
	p.mu.Lock()
	defer p.mu.Unlock()
	return policy.Bound != nil || policy.KeepBound && len(p.counts) > 0
}

// drain is a server's graceful disable. The zero value is none.
type drain struct {
	on       bool
	deadline time.Time // zero: never
}

func (d drain) overdue(now time.Time) bool {
	return d.on && !d.deadline.IsZero() && !now.Before(d.deadline)
}

// Drain disables the server gracefully: it gets no new clients from now on, and is disabled as soon as no lease is in
// use and no client is bound to it, or after timeout, whichever comes first. The pool's DrainPolicy says which clients
// still count. 0 disables the server at once, DrainForever or any negative value waits for the clients as long as it takes.
// Calling Drain again changes the time-out; Enable ends it. Leases still in use at the end are left alone: the EventDrained
// tells how many there are. A disabled server is left as it is.
//
// The time-out needs no Run. Counting bound clients does.
func (s *Server) Drain(timeout time.Duration) {
	if timeout == 0 {
		s.Disable()
		return
	}
	now := time.Now()
	s.pool.update(now, CauseOperator, "", nil, func() bool {
		if s.disabled || s.removed {
			return false
		}
		s.drain = drain{on: true}
		if timeout > 0 {
			s.drain.deadline = now.Add(timeout)
		}
		return true
	})
	s.pool.notify()
	s.endIdleDrain(false)
}

// endIdleDrain ends the drain of a server that nobody uses any more. Only with ask does it ask who is bound, which may
// take a while.
func (s *Server) endIdleDrain(ask bool) {
	keep := s.pool.current.Load().drain.KeepBound
	switch counted := s.pool.counted(); {
	case s.open.Load() > 0, keep && !counted, counted && !ask:
		return
	case counted:
		if n, known := s.pool.bound(s); n > 0 || !known {
			return
		}
	}
	s.pool.update(time.Now(), CauseDrained, "", nil, func() bool {
		if !s.drain.on || s.open.Load() > 0 {
			return false
		}
		s.drain = drain{}
		s.disabled = true
		return true
	})
}

// pollDrains looks after all draining servers. It reports whether there are any.
func (p *Pool) pollDrains() bool {
	p.mu.Lock()
	var draining []*Server
	for _, s := range p.laid.servers {
		if s.drain.on {
			draining = append(draining, s)
		}
	}
	p.mu.Unlock()
	for _, s := range draining {
		s.endIdleDrain(true)
	}
	return len(draining) > 0
}
