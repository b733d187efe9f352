package lbpool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/enumtext"
)

var (
	// ErrNoServer means that no server of the pool can take the request. Errors of Acquire wrap it.
	ErrNoServer = errors.New("no server available")
	// ErrFull means that there are servers that are up, but none can take the request: all are at their limits, or the
	// algorithm wants none of them. It matches ErrNoServer.
	ErrFull = fmt.Errorf("%w: all are full", ErrNoServer)
	// ErrAborted means that the client's side ended the exchange: it left, or its request body failed or stalled. An
	// Outcome with this error, or with context.Canceled, says nothing about the server.
	ErrAborted = errors.New("request aborted")
)

// Reason is why a wanted server was not taken.
type Reason uint8

const (
	// ReasonNone means that the wanted server was taken or that none was wanted.
	ReasonNone Reason = iota
	// ReasonDown means that the server is down or ejected, or that it is excluded because it could not be reached.
	ReasonDown
	// ReasonDisabled means that the server is disabled.
	ReasonDisabled
	// ReasonDraining means that the server is draining without Config.Drain.KeepBound.
	ReasonDraining
	// ReasonGone means that the pool has no such server.
	ReasonGone
	// ReasonFull means that the server is at its limit, MaxConnections or MaxRate.
	ReasonFull
	// ReasonMaintenance means that the server has said that it is under maintenance.
	ReasonMaintenance
)

// String returns the name: "none", "down", "disabled", "draining", "gone", "full" or "maintenance"; "invalid" for other values.
func (r Reason) String() string { return enumtext.String(r, reasons) }

// MarshalText returns the name. It fails for a value without a name.
func (r Reason) MarshalText() ([]byte, error) { return enumtext.Marshal(r, reasons) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The error for another text lists the names.
func (r *Reason) UnmarshalText(text []byte) error { return enumtext.Unmarshal(r, text, reasons) }

var reasons = []string{"none", "down", "disabled", "draining", "gone", "full", "maintenance"}

// unavailableError is the error of Acquire when the wanted server cannot be had and the pool never picks another one.
// It matches ErrNoServer.
type unavailableError struct {
	Pool   string         // the pool's name
	Server netip.AddrPort // the server that was wanted
	Reason Reason         // why it cannot be had
}

// Error names the pool, the server and the reason.
func (e *unavailableError) Error() string {
	return fmt.Sprintf("pool %q: server %s is %s", e.Pool, e.Server, e.Reason)
}

// Unwrap returns ErrNoServer.
func (e *unavailableError) Unwrap() error { return ErrNoServer }

// Hint is what is known about a request when a server is chosen for it. The zero value knows nothing.
type Hint struct {
	// Client is the client's address, for algorithms that use it and for Passive, which does not let one client eject a
	// server.
	Client netip.Addr
	// ClientPort is the client's port, for HashClientPort.
	ClientPort uint16
	// Host is the request's host, for HashURI.
	Host string
	// Path is the request's path, without the query, for HashURI.
	Path string
	// Header is the value of the request header that Pool.HashHeader names, for HashHeader.
	Header string
	// Key is a string chosen by the caller, a script for instance, for HashKey.
	Key string
	// Server is the server that a script or a persistence entry wants. The zero value wants none. Port 0 names an
	// address: if several servers of the pool share it, Tie says which of those that are up is taken.
	Server netip.AddrPort
	// Tie decides between servers that share the address in Server: requests with the same Tie go to the same server
	// while it is up, and different ones are spread over all of them. A persistence key is a good one. Empty means the
	// client's address.
	Tie string
	// Exclude are servers that must not be chosen, because they have been tried. It is only read.
	Exclude []*Server
}

// Allows reports whether h lets s be chosen: it is neither excluded nor full.
func (h *Hint) Allows(s *Server) bool { return !h.excludes(s) && !s.full() }

func (h *Hint) excludes(s *Server) bool {
	return len(h.Exclude) > 0 && slices.Contains(h.Exclude, s)
}

// Outcome is how the use of a server ended.
type Outcome struct {
	// Err is what went wrong between here and the server; nil if nothing did. An error that matches ErrAborted or
	// context.Canceled is the client's doing and does not count against the server.
	Err error
	// Status is the status code of the server's answer, 0 if there was none.
	Status int
	// FirstByte is the time from sending the request to the first byte of the answer, 0 if there was none.
	FirstByte time.Duration
}

// A Lease is the use of one server by one request. It is a value that may be copied; release one of the copies, once.
// The zero value holds no server.
type Lease struct {
	// Server is the server to use.
	Server *Server
	// Unmet is why Hint.Server was not taken, ReasonNone if it was or if none was wanted.
	Unmet Reason
	// Shared reports that Hint.Server names an address, without a port, at which the pool has several servers. Then it
	// is not known which of them was meant, whether one was taken or not.
	Shared bool

	ticket *ticket
	serial uint64
}

// A ticket makes Release idempotent even among copies of a lease, without an allocation for each lease: it is used
// again, and the serial number tells its uses apart.
type ticket struct {
	serial atomic.Uint64
	client netip.Addr // for whom the server is used
}

var tickets = sync.Pool{New: func() any { return new(ticket) }}

func newLease(s *Server, h *Hint, unmet Reason, shared bool) Lease {
	t := tickets.Get().(*ticket)
	t.client = h.Client
	return Lease{Server: s, Unmet: unmet, Shared: shared, ticket: t, serial: t.serial.Load()}
}

// Release ends the use of the server and tells the pool how it went. Further calls, on this value or on copies of it,
// do nothing. It may be called from any goroutine.
func (l Lease) Release(o Outcome) {
	if l.ticket == nil || !l.ticket.serial.CompareAndSwap(l.serial, l.serial+1) {
		return
	}
	client := l.ticket.client
	tickets.Put(l.ticket)
	l.Server.release(&o, client)
}

// cancel ends the use of the server as if it had never begun.
func (l Lease) cancel() {
	if !l.ticket.serial.CompareAndSwap(l.serial, l.serial+1) {
		return
	}
	tickets.Put(l.ticket)
	l.Server.requests.Add(^uint64(0))
	l.Server.rate.giveBack()
	l.Server.release(nil, netip.Addr{})
}

// release gives back one lease of a client; o is nil if it was not used.
func (s *Server) release(o *Outcome, client netip.Addr) {
	left := s.open.Add(-1)
	if o != nil {
		s.observe(o, client)
	}
	if s.pool.waiting.Load() > 0 {
		s.pool.serveWaiting(s)
	}
	if left == 0 && s.loadState() == Draining {
		s.endIdleDrain(context.Background(), false)
	}
}
