package lbpool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// Passive configures passive marking: a server to which several requests in a
// row fail is ejected, that is, taken out of service for a while. The time
// doubles with each ejection that follows soon after the last. After it the
// server gets requests again, without Run; then one failure ejects it again (or
// two, see below), and one success clears it.
//
// The last server that is up is never ejected, so a pool of one server never
// ejects. If health monitors take down the others, ejected servers return at
// once.
//
// A failure is a connection that cannot be made, breaks, or carries an invalid
// response. It is no failure of the server if the client is the cause (it left,
// its request body failed, or it kept the exchange waiting for 2 seconds or
// more before the connection broke or the time was over, and the server has
// sent nothing since), if this machine lacks something (file descriptors, local
// ports), or if an idle connection turns out to be dead when it is used again.
//
// A connection that cannot be made is always counted. Other failures may depend
// on one request, which a client can repeat: in a row of failures each client
// is counted once, and at least two clients must have failures. A client is an
// IPv4 address or a /64 IPv6 network, from Hint.Client; without it every
// failure is counted.
type Passive struct {
	// Disabled turns passive marking off.
	Disabled bool
	// Failures is how many failures in a row eject a server. 0 means 3.
	Failures int `default:"3" min:"1"`
	// SameClient counts every failure, whichever client has it. Use it for
	// pools with a single client, such as another program; otherwise one client
	// can eject servers with requests that break them.
	SameClient bool
	// ServerErrors makes a response with status 500 to 599 a failure too,
	// except 501 and 505, which say that the server does not support what the
	// client asks for.
	ServerErrors bool
	// Timeouts makes it a failure too if a server is connected and responds too
	// late. It is off by default because a client that requests slow pages
	// could eject servers.
	Timeouts bool
	// Time is how long the first ejection lasts. 0 means 10 seconds.
	Time time.Duration `default:"10s" min:"0s"`
	// MaxTime is the longest ejection. 0 means 5 minutes.
	MaxTime time.Duration `min:"0s"`
	// ErrorShare also ejects a server that fails this percentage of its
	// requests within Window, in a row or not, 1 to 100. All failures described
	// above are counted, even if one client has them all. 0 turns it off.
	ErrorShare int `min:"0" max:"100"`
	// Window is the time over which ErrorShare is measured. 0 means 10 seconds.
	Window time.Duration `default:"10s" min:"0s"`
	// MinRequests is how many requests within Window ErrorShare needs. 0 means
	// 20.
	MinRequests int `default:"20" min:"1"`
	// MaxShare is the percentage of the servers in use, including ejected ones,
	// that may be ejected at a time, 1 to 100, rounded down, but at least one
	// server. 0 means 50.
	MaxShare int `default:"50" min:"1" max:"100"`
}

func (c Passive) withDefaults() Passive {
	bounds.SetDefaults(&c)
	if c.MaxTime == 0 {
		c.MaxTime = max(5*time.Minute, c.Time)
	}
	return c
}

func (c Passive) validate(faults *fielderr.List) {
	bounds.Check("passive", c, faults)
	if 0 <= c.MaxTime && c.MaxTime < c.Time {
		faults.Addf("passive.maxTime", c.MaxTime, "less than the time of the first ejection, %s", c.Time)
	}
}

// observe counts an outcome for a client, and ejects the server if it fails too
// often.
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
	case passive.ServerErrors && isServerError(o.Status):
		blame = true
	}
	if o.Err == nil && s.unreachable.Load() != 0 {
		s.unreachable.Store(0)
	}
	if passive.Disabled || !s.usable() {
		return // requests from before the server left service
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

// isServerError reports whether a status says that something is wrong with the
// server.
func isServerError(status int) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false // whatever method or version a client makes up
	}
	return status >= 500 && status <= 599
}

// failureRun is the failures of a server since its last success.
type failureRun struct {
	mu      sync.Mutex
	always  bool         // some failure was a connection that cannot be made
	clients []netip.Addr // with other failures
}

// maxFailedClients is how many clients are remembered. Beyond them every
// failure is counted.
const maxFailedClients = 64

// addFailure counts a failure of a client, and reports whether the failures are
// enough to eject the server.
func (s *Server) addFailure(passive *Passive, client netip.Addr, proof bool) bool {
	e := &s.failureRun
	e.mu.Lock()
	defer e.mu.Unlock()
	if proof || passive.SameClient || !client.IsValid() {
		e.always = true
		s.failing.Add(1)
	} else if client = subscriber(client); !slices.Contains(e.clients, client) {
		if len(e.clients) < maxFailedClients {
			e.clients = append(e.clients, client)
		}
		s.failing.Add(1)
	}
	return int(s.failing.Load()) >= passive.Failures && (e.always || len(e.clients) >= min(passive.Failures, 2))
}

// clearFailures sets the failures to none.
func (s *Server) clearFailures() {
	if s.failing.Load() != 0 {
		s.failureRun.begin(s, 0)
	}
}

// begin sets n failures, without clients.
func (e *failureRun) begin(s *Server, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.failing.Store(int32(n))
	e.always, e.clients = false, e.clients[:0]
}

// subscriber returns the network of addresses that one client may have.
func subscriber(client netip.Addr) netip.Addr {
	client = client.Unmap().WithZone("")
	if client.Is6() {
		if network, err := client.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return client
}

// errorShare counts requests and failures within a window of time. Counts that
// race with the start of a window may go to either window, which matters little
// for a share of 20 or more requests.
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

// mayEject reports whether one more server may be ejected. It is also called
// before the lock is taken, so that many failures in a pool at its share do not
// queue for the lock.
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
			s.ejectedFor = 0 // it was in service for longer than it was out
		}
		s.ejectedFor = min(max(passive.Time, 2*s.ejectedFor), passive.MaxTime)
		s.ejectedUntil = now.Add(s.ejectedFor)
		s.failureRun.begin(s, passive.Failures-1)            // the next failure ejects it again
		s.errorShare.since.Store(-int64(2 * passive.Window)) // a new window when it returns
		s.ejections.Add(1)
		return true
	})
}

// endEjectionLocked ends the server's ejection, if there is one.
func (s *Server) endEjectionLocked(now time.Time) {
	if now.Before(s.ejectedUntil) {
		s.ejectedUntil = now
	}
}

// localFault reports whether err means that this machine lacks something.
func localFault(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return false
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM:
		return true
	}
	return false
}
