package lbpool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Passive configures passive marking: a server that fails real traffic several times in a row is ejected, that is,
// taken out of service for a while. The time doubles with each ejection that follows soon after the last. When it is
// over the server gets traffic again, without Run being needed; its first failure then ejects it again (or the second,
// see below), its first success clears it.
//
// The last server that is up is never ejected, so a pool of one never ejects. When monitors take down what is left,
// ejected servers return at once.
//
// A failure is a connection that cannot be made, breaks, or carries nonsense. If the client is the cause (it left, its
// request body failed), or this machine lacks something (file descriptors, local ports), or an idle connection turns out
// to be dead when it is used again, that is not a failure of the server.
//
// A connection that cannot be made is proof. All other failures may be about one request, which a client can send again
// and again: of those, a client has one in a row, and at least two clients must have one. A client is an IPv4 address or
// an IPv6 network of 64 bits, as Hint.Client tells; where nobody tells, each failure matters.
type Passive struct {
	// Disabled turns passive marking off.
	Disabled bool
	// Failures is how many failures in a row eject a server. 0 means 3.
	Failures int
	// SameClient lets each failure matter, whichever client has it. It is for pools that have a single client, such as
	// another program; otherwise one client can eject servers by asking for what breaks them.
	SameClient bool
	// ServerErrors makes an answer with status 500 to 599 a failure too.
	ServerErrors bool
	// Timeouts makes it a failure too when a server is connected and then answers too late. Off by default, because
	// a client that asks for slow pages could eject servers.
	Timeouts bool
	// Time is how long the first ejection lasts. 0 means 10 seconds.
	Time time.Duration
	// MaxTime is what the doubled times are capped at. 0 means 5 minutes.
	MaxTime time.Duration
	// ErrorShare ejects a server also when it fails this many percent of its requests within Window, though not in a row,
	// 1 to 100. Each failure described above matters, also when one client has them all. 0 means that shares do not matter.
	ErrorShare int
	// Window is the time over which ErrorShare is measured. 0 means 10 seconds.
	Window time.Duration
	// MinRequests is how many requests within Window it takes for ErrorShare to mean something. 0 means 20.
	MinRequests int
	// MaxShare is how many percent of the servers in use, ejected ones among them, may be ejected at a time, 1 to 100
	// and rounded down, but at least one server. 0 means 50.
	MaxShare int
}

func (c Passive) withDefaults() Passive {
	if c.Failures == 0 {
		c.Failures = 3
	}
	if c.Time == 0 {
		c.Time = 10 * time.Second
	}
	if c.MaxTime == 0 {
		c.MaxTime = max(5*time.Minute, c.Time)
	}
	if c.MaxShare == 0 {
		c.MaxShare = 50
	}
	if c.Window == 0 {
		c.Window = 10 * time.Second
	}
	if c.MinRequests == 0 {
		c.MinRequests = 20
	}
	return c
}

func (c Passive) validate(faults *faults) {
	if c.Failures < 0 {
		faults.add("passive.failures", "%d is negative", c.Failures)
	}
	if c.Time < 0 {
		faults.add("passive.time", "%s is negative", c.Time)
	}
	if c.MaxTime < c.Time {
		faults.add("passive.max_time", "%s is less than the time of the first ejection, %s", c.MaxTime, c.Time)
	}
	if c.MaxShare < 0 || c.MaxShare > 100 {
		faults.add("passive.max_share", "%d is not within 1 to 100", c.MaxShare)
	}
	if c.ErrorShare < 0 || c.ErrorShare > 100 {
		faults.add("passive.error_share", "%d is not within 0 to 100", c.ErrorShare)
	}
	if c.Window < 0 {
		faults.add("passive.window", "%s is negative", c.Window)
	}
	if c.MinRequests < 0 {
		faults.add("passive.min_requests", "%d is negative", c.MinRequests)
	}
}

// observe counts an outcome for a client, and ejects the server when it has failed too often.
func (s *Server) observe(o *Outcome, client netip.Addr) {
	if o.FirstByte > 0 {
		s.smoothFirstByte(o.FirstByte)
	}
	if o.Status >= 500 && o.Status <= 599 {
		s.serverErrors.Add(1)
	}
	passive := &s.pool.current.Load().passive
	blame := o.Err != nil && !errors.Is(o.Err, ErrAborted) && !errors.Is(o.Err, context.Canceled)
	switch {
	case blame:
		s.failures.Add(1)
		if localFault(o.Err) {
			return
		}
		s.unreachable.Add(1)
		if !passive.Timeouts && isTimeout(o.Err) && !notConnected(o.Err) {
			return
		}
	case o.Err != nil:
		return
	case passive.ServerErrors && o.Status >= 500 && o.Status <= 599:
		blame = true
	}
	if o.Err == nil && s.unreachable.Load() != 0 {
		s.unreachable.Store(0)
	}
	if passive.Disabled || !s.usable() {
		return // what was under way when the server left service is old news
	}
	tooMany := passive.ErrorShare > 0 && s.errorShare.add(s.pool.clock(), blame, passive)
	if !blame {
		s.clearFailures()
		return
	}
	if (s.addFailure(passive, client, notConnected(o.Err)) || tooMany) && s.pool.mayEject(s.pool.refresh()) {
		s.eject(time.Now(), o)
	}
}

// failureRun is what speaks against a server since it has last served a request.
type failureRun struct {
	mu      sync.Mutex
	proven  bool         // some failure was not about one request, as far as is known
	clients []netip.Addr // that have had one of the others
}

// maxFailedClients is how many clients are remembered. Beyond them each failure matters.
const maxFailedClients = 64

// addFailure notes a failure that a client has had, and reports whether all that were noted are enough to eject the server.
func (s *Server) addFailure(passive *Passive, client netip.Addr, proof bool) bool {
	e := &s.failureRun
	e.mu.Lock()
	defer e.mu.Unlock()
	if proof || passive.SameClient || !client.IsValid() {
		e.proven = true
		s.failing.Add(1)
	} else if client = subscriber(client); !slices.Contains(e.clients, client) {
		if len(e.clients) < maxFailedClients {
			e.clients = append(e.clients, client)
		}
		s.failing.Add(1)
	}
	return int(s.failing.Load()) >= passive.Failures && (e.proven || len(e.clients) >= min(passive.Failures, 2))
}

// clearFailures forgets the failures.
func (s *Server) clearFailures() {
	if s.failing.Load() != 0 {
		s.failureRun.begin(s, 0)
	}
}

// begin notes n failures, and nobody who has had them.
func (e *failureRun) begin(s *Server, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.failing.Store(int32(n))
	e.proven, e.clients = false, e.clients[:0]
}

// subscriber is what one client can have of addresses.
func subscriber(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	if client.Is6() {
		if network, err := client.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return client
}

// errorShare counts requests and failures within a window of time. Counts that race with the beginning of a window may
// go to either: a share over 20 requests and more bears that.
type errorShare struct {
	since            atomic.Int64 // when the window began, on the pool's clock
	requests, failed atomic.Int64
}

// add counts a request and reports whether too many have failed.
func (e *errorShare) add(now int64, failed bool, passive *Passive) bool {
	if since := e.since.Load(); now-since > int64(passive.Window) && e.since.CompareAndSwap(since, now) {
		e.requests.Store(0)
		e.failed.Store(0)
	}
	n := e.requests.Add(1)
	if !failed {
		return false
	}
	return e.failed.Add(1)*100 >= n*int64(passive.ErrorShare) && n >= int64(passive.MinRequests)
}

// mayEject reports whether one more server may be ejected. It is asked before the lock is taken too, so that a storm
// of failures in a pool that is at its share does not queue for the lock.
func (p *Pool) mayEject(snap *snapshot) bool {
	inUse := len(snap.up) + snap.ejected
	return len(snap.up) > 1 && snap.ejected < max(1, inUse*snap.passive.MaxShare/100)
}

func (s *Server) eject(now time.Time, o *Outcome) {
	p := s.pool
	passive := &p.current.Load().passive
	why := o.Err
	if why == nil {
		why = fmt.Errorf("status %d", o.Status)
	}
	p.update(now, causePassive, "", why, func() bool {
		if !s.usable() || !p.mayEject(p.current.Load()) {
			return false
		}
		if now.Sub(s.ejectedUntil) > s.ejectedFor {
			s.ejectedFor = 0 // it has been good for longer than it was out
		}
		s.ejectedFor = min(max(passive.Time, 2*s.ejectedFor), passive.MaxTime)
		s.ejectedUntil = now.Add(s.ejectedFor)
		s.failureRun.begin(s, passive.Failures-1)            // on probation when it returns
		s.errorShare.since.Store(-int64(2 * passive.Window)) // a new window when it returns
		s.ejections.Add(1)
		return true
	})
}

// endEjectionLocked lets a server return before its time, if it is ejected.
func (s *Server) endEjectionLocked(now time.Time) {
	if now.Before(s.ejectedUntil) {
		s.ejectedUntil = now
	}
}

// localFault reports whether err is a shortage on this machine.
func localFault(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM:
		return true
	}
	return false
}
