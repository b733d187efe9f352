package lbpool

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// drainPoll is how often Run asks for the persistence entries of draining
// servers.
const drainPoll = time.Second

// DrainPolicy says which requests may still use a draining server, and how to
// count the clients bound to it.
type DrainPolicy struct {
	// KeepBound lets requests whose Hint names a draining server still use it,
	// so that clients bound to it can finish. Otherwise they get another
	// server, and only requests in progress stay.
	KeepBound bool
	// Bound returns how many persistence entries name a server, or a negative
	// number if that is not known now. Run calls it about once a second for
	// each draining server, one call at a time. If it is set, a drain waits
	// until it returns 0, with or without KeepBound. Nil means that the number
	// is never known: with KeepBound, a drain then lasts until its timeout,
	// unless CountBound is used.
	Bound func(server netip.AddrPort) int
}

// CountBound makes Run call count regularly, for each draining server, to learn
// how many clients are bound to it, until stop is called. Use it if the
// persistence entries are created after the pool. It applies only with
// KeepBound and to DrainBound. A drain ends when all counts, including that of
// DrainPolicy.Bound, are 0. An error or a negative number means that the number
// is not known: the drain goes on, until a later 0 or the timeout.
//
// servers are all names of one server that an entry may contain: its address
// and port, its name, and, unless another server of the pool shares them, its
// address alone and its host name. every is at least 1 second; use more for a
// store on another machine. count is called by one goroutine at a time, with a
// context that is done after a second.
func (p *Pool) CountBound(count func(ctx context.Context, servers ...string) (int, error), every time.Duration) (stop func()) {
	c := &counter{every: max(every, drainPoll), count: func(ctx context.Context, s *Server) (int, error) {
		return count(ctx, s.names()...)
	}}
	p.lockLive(func(p *Pool) { p.counts = append(slices.Clip(p.counts), c) })
	return func() {
		p.lockLive(func(p *Pool) {
			p.counts = slices.DeleteFunc(slices.Clone(p.counts), func(other *counter) bool { return other == c })
		})
	}
}

// names returns the names of the server that entries may contain.
func (s *Server) names() []string {
	l := s.pool.current.Load()
	names := []string{s.host}
	if len(l.byHost[s.addr.Addr()]) < 2 {
		names = append(names, s.addr.Addr().String())
	}
	if name := s.Name(); name != s.host {
		names = append(names, name)
	}
	if host := s.Hostname(); host != "" && host != s.Name() && len(l.byName[strings.ToLower(host)]) < 2 {
		names = append(names, host)
	}
	return names
}

// A counter counts the clients bound to servers.
type counter struct {
	count func(context.Context, *Server) (int, error)
	every time.Duration
}

// newCounter returns a counter for DrainPolicy.Bound, nil if there is none.
func newCounter(bound func(netip.AddrPort) int) *counter {
	if bound == nil {
		return nil
	}
	return &counter{every: drainPoll, count: func(_ context.Context, s *Server) (int, error) { return bound(s.addr), nil }}
}

// boundCount is the latest result of a counter for a server.
type boundCount struct {
	at    time.Time
	n     int
	known bool
}

func (c *counter) ask(ctx context.Context, s *Server) boundCount {
	ctx, cancel := context.WithTimeout(ctx, drainPoll)
	defer cancel()
	n, err := c.count(ctx, s)
	return boundCount{at: time.Now(), n: n, known: err == nil && n >= 0}
}

// countersLocked returns the counters of the clients that a drain of the server
// waits for.
func (s *Server) countersLocked() []*counter {
	var all []*counter
	if c := s.pool.latest.bound; c != nil {
		all = append(all, c)
	}
	if s.keepsLocked() { // else they get another server
		all = append(all, s.pool.counts...)
	}
	return all
}

// keepsLocked reports whether clients that are bound to the server stay there
// while it drains.
func (s *Server) keepsLocked() bool { return s.pool.latest.drain.KeepBound || s.drain.keepBound }

// unbound asks the counters that are due. It reports whether no client is bound
// to the server: all counters have just said so.
func (s *Server) unbound(ctx context.Context) bool {
	p := s.pool
	p.mu.Lock()
	counters, before := s.countersLocked(), s.boundCounts
	p.mu.Unlock()
	boundCounts := make(map[*counter]boundCount, len(counters))
	var old []*counter
	free := len(counters) > 0 // without counters nothing is known
	for _, c := range counters {
		t, said := before[c]
		if said && time.Since(t.at) < c.every-drainPoll/2 {
			old = append(old, c)
		} else {
			t = c.ask(ctx, s)
		}
		boundCounts[c] = t
		free = free && t.known && t.n == 0
	}
	for _, c := range old {
		if !free {
			break
		}
		boundCounts[c] = c.ask(ctx, s)
		free = boundCounts[c].known && boundCounts[c].n == 0
	}
	p.mu.Lock()
	s.boundCounts = boundCounts
	p.mu.Unlock()
	return free
}

// bound returns how many clients are bound to a server, as far as it is known
// without asking counters that may be slow.
func (p *Pool) bound(s *Server) (n int) {
	policy := p.current.Load().bound
	if policy != nil {
		if t := policy.ask(context.Background(), s); t.known {
			n = t.n
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, t := range s.boundCounts {
		if c != policy && t.known {
			n += t.n
		}
	}
	return n
}

// waitsFor reports whether clients that are bound to the server stay there
// while it drains, and whether there are counters of them.
func (s *Server) waitsFor() (keeps, counted bool) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.keepsLocked(), len(s.countersLocked()) > 0
}

// drain is a graceful disable of a server. The zero value is none.
type drain struct {
	on        bool
	keepBound bool      // whatever the pool's DrainPolicy says
	since     time.Time // when it began
	deadline  time.Time // zero: never
}

// drainLocked begins a drain.
func (s *Server) drainLocked(d drain) {
	s.drain, s.boundCounts = d, nil
	s.keepsBound.Store(d.keepBound)
}

func (d drain) overdue(now time.Time) bool {
	return d.on && !d.deadline.IsZero() && !now.Before(d.deadline)
}

// Drain disables the server gracefully. It gets no new clients from now on, and
// is disabled when no lease is in use and no client is bound to it, or after
// timeout, whichever comes first. The pool's DrainPolicy says for which clients
// it waits. A timeout of 0 disables the server at once; a negative one waits
// without limit. Calling Drain or DrainBound again changes the timeout and the
// clients that it waits for; Enable ends the drain. Leases still in use at the
// end stay valid: the Event with Drained set gives their number. A disabled
// server is left as it is.
//
// The timeout works without Run; counting bound clients needs it.
func (s *Server) Drain(timeout time.Duration) { s.beginDrain(timeout, false) }

// DrainBound is Drain with DrainPolicy.KeepBound, whatever the pool's policy
// says: requests whose Hint names the server still use it, and the drain waits
// until no client is bound to it.
func (s *Server) DrainBound(timeout time.Duration) { s.beginDrain(timeout, true) }

func (s *Server) beginDrain(timeout time.Duration, keepBound bool) {
	if timeout == 0 {
		s.Disable()
		return
	}
	s = s.live()
	now := time.Now()
	s.pool.update(now, causeOperator, "", nil, func() bool {
		if s.disabled || s.removed {
			return false
		}
		d := drain{on: true, keepBound: keepBound, since: now}
		if s.drain.on {
			d.since = s.drain.since
		}
		if timeout > 0 {
			d.deadline = now.Add(timeout)
		}
		s.drainLocked(d)
		return true
	})
	s.pool.notify()
	s.endIdleDrain(context.Background(), false)
}

// DrainStatus is how far the drain of a server is.
type DrainStatus struct {
	Since    time.Time // when the drain began
	Deadline time.Time // when it ends at the latest; zero if it waits without limit
	Open     int       // leases in use
	// Bound is how many clients, for which the drain waits, are bound to the
	// server: those that Run has counted last, about a second ago.
	Bound int
	// Counted reports that Bound is the number of all of them. If it is not
	// set, Run has not counted them yet, or some cannot be counted; Bound may
	// then be too small.
	Counted bool
}

// DrainStatus returns how far the drain of the server is; ok is false if the
// server is not being drained.
func (s *Server) DrainStatus() (status DrainStatus, ok bool) {
	s = s.live()
	s.pool.refresh() // ends a drain whose time is over
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if !s.drain.on {
		return DrainStatus{}, false
	}
	status = DrainStatus{Since: s.drain.since, Deadline: s.drain.deadline, Open: int(s.open.Load())}
	counters := s.countersLocked()
	status.Counted = len(counters) > 0
	for _, c := range counters {
		t := s.boundCounts[c]
		if status.Counted = status.Counted && t.known; t.known {
			status.Bound += t.n
		}
	}
	return status, true
}

// endIdleDrain ends the drain of a server that is no longer in use. Only with
// ask does it ask the counters, which may take a while.
func (s *Server) endIdleDrain(ctx context.Context, ask bool) {
	switch keep, counted := s.waitsFor(); {
	case s.open.Load() > 0, keep && !counted, counted && !ask:
		return
	case counted && !s.unbound(ctx):
		return
	}
	s.pool.update(time.Now(), causeDrained, "", nil, func() bool {
		if !s.drain.on || s.open.Load() > 0 {
			return false
		}
		s.drain = drain{}
		s.disabled = true
		return true
	})
}

// pollDrains checks all draining servers. It reports whether there are any.
func (p *Pool) pollDrains(ctx context.Context) bool {
	p.mu.Lock()
	var draining []*Server
	for _, s := range p.latest.servers {
		if s.drain.on {
			draining = append(draining, s)
		}
	}
	p.mu.Unlock()
	for _, s := range draining {
		s.endIdleDrain(ctx, true)
	}
	return len(draining) > 0
}
