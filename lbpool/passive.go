package lbpool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// Passive configures passive marking: a server that fails real traffic several times in a row is ejected, that is,
// taken out of service for a while. The time doubles with each ejection that follows soon after the last. When it is
// over the server gets traffic again, without Run being needed; its first failure then ejects it again, its first
// success clears it.
//
// The last server that is up is never ejected, so a pool of one never ejects. When monitors take down what is left,
// ejected servers return at once.
//
// A failure is a connection that cannot be made, breaks, or carries nonsense. If the client is the cause (it left, its
// request body failed), or this machine lacks something (file descriptors, local ports), that is not a failure of the
// server.
type Passive struct {
	// Disabled turns passive marking off.
	Disabled bool
	// Failures is how many failures in a row eject a server. 0 means 3.
	Failures int
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
	// 1 to 100. Failures are those described above. 0 means that shares do not matter.
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

// observe counts an outcome, and ejects the server when it has failed too often.
func (s *Server) observe(o *Outcome) {
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
		if s.failing.Load() != 0 {
			s.failing.Store(0)
		}
		return
	}
	if (int(s.failing.Add(1)) >= passive.Failures || tooMany) && s.pool.mayEject(s.pool.refresh()) {
		s.eject(time.Now(), o)
	}
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
	p.update(now, CausePassive, "", why, func() bool {
		if !s.usable() || !p.mayEject(p.current.Load()) {
			return false
		}
		if now.Sub(s.ejectedUntil) > s.ejectedFor {
			s.ejectedFor = 0 // it has been good for longer than it was out
		}
		s.ejectedFor = min(max(passive.Time, 2*s.ejectedFor), passive.MaxTime)
		s.ejectedUntil = now.Add(s.ejectedFor)
		s.failing.Store(int32(passive.Failures - 1))         // on probation when it returns
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
