package lbpool

import (
	"net/netip"
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
	// server, one at a time. Nil means that this is not known: with KeepBound, a drain then lasts until its time-out.
	Bound func(server netip.AddrPort) int
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
	policy := s.pool.current.Load().drain
	if s.open.Load() > 0 || policy.KeepBound && policy.Bound == nil {
		return
	}
	if policy.Bound != nil && (!ask || policy.Bound(s.addr) > 0) {
		return
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
