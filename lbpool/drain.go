package lbpool

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// drainPoll is how often Run asks for the persistence entries of draining servers.
const drainPoll = time.Second

// DrainPolicy says who may still use a draining server, and how it is known that nobody does.
type DrainPolicy struct {
	// KeepBound lets requests whose Hint wants a draining server still go there, so that clients who are bound to it
	// finish what they began. Otherwise they are given another server, and only requests under way are left alone.
	KeepBound bool
	// Bound returns how many persistence entries point to a server, a negative number if that is not known now. Run calls
	// it about once a second for each draining server, one at a time. If it is set, a drain waits for it to return 0, also
	// without KeepBound. Nil means that the number is never known: with KeepBound, a drain then lasts until its time-out,
	// unless somebody else counts, see Pool.CountBound.
	Bound func(server netip.AddrPort) int
}

// CountBound makes Run ask count, every so often for each draining server, how many clients are bound to it, until stop is
// called. It is for programs whose persistence entries come into being after the pool was made, and matters only with
// KeepBound. A drain ends when all counts, that of DrainPolicy.Bound among them, are 0. An error, or a negative number, means
// that the number is not known: the drain goes on, and only a later 0 or its time-out ends it.
//
// servers are all names of the one server, any of which an entry may hold: its address and port, its name, and, unless
// another server of the pool shares them, its bare address and host name. every is at least 1 second; give more for a store
// on another machine. count is called by one goroutine at a time, with a context that is done after a second.
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

// names returns what entries may call the server.
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

// A counter counts the clients that are bound to servers.
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

// boundCount is what a counter has said about a server.
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

// countersLocked returns who counts bound clients.
func (p *Pool) countersLocked() []*counter {
	var all []*counter
	if c := p.latest.bound; c != nil {
		all = append(all, c)
	}
	if p.latest.drain.KeepBound { // else they go elsewhere
		all = append(all, p.counts...)
	}
	return all
}

// unbound asks who is bound to a draining server, those whose turn it is. It reports whether nobody is, as far as
// anybody knows: all have just said so.
func (s *Server) unbound(ctx context.Context) bool {
	p := s.pool
	p.mu.Lock()
	counters, before := p.countersLocked(), s.boundCounts
	p.mu.Unlock()
	boundCounts := make(map[*counter]boundCount, len(counters))
	var old []*counter
	free := len(counters) > 0 // they come and go: nobody has said anything yet
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

// bound returns how many clients are bound to a server, as far as it is known without asking anybody else for long.
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

// counted reports whether somebody counts bound clients.
func (p *Pool) counted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.countersLocked()) > 0
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
// use and no client is bound to it, or after timeout, whichever comes first. The pool's DrainPolicy says for which
// clients it waits. 0 disables the server at once, a negative one waits without limit.
// Calling Drain again changes the time-out; Enable ends it. Leases still in use at the end are left alone: the Event
// that has Drained set gives their number. A disabled server is left as it is.
//
// The time-out needs no Run. Counting bound clients does.
func (s *Server) Drain(timeout time.Duration) {
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
		s.drain, s.boundCounts = drain{on: true}, nil
		if timeout > 0 {
			s.drain.deadline = now.Add(timeout)
		}
		return true
	})
	s.pool.notify()
	s.endIdleDrain(context.Background(), false)
}

// endIdleDrain ends the drain of a server that nobody uses any more. Only with ask does it ask who is bound,
// which may take a while.
func (s *Server) endIdleDrain(ctx context.Context, ask bool) {
	keep := s.pool.current.Load().drain.KeepBound
	switch counted := s.pool.counted(); {
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

// pollDrains looks after all draining servers. It reports whether there are any.
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
