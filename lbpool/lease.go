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
	// ErrNoServer means that no server of the pool can take the request.
	ErrNoServer = errors.New("no server available")
	// ErrFull means that servers are up, but none can take the request: all are
	// at their limits, or the algorithm returned none. It matches ErrNoServer.
	ErrFull = fmt.Errorf("%w: all are full", ErrNoServer)
	// ErrAborted means that the client ended the exchange: it left, or its
	// request body failed or stalled. An Outcome with this error, or with
	// context.Canceled, is no failure of the server.
	ErrAborted = errors.New("request aborted")
)

// Reason is why a wanted server was not taken.
type Reason uint8

const (
	// ReasonNone means that the wanted server was taken, or that none was
	// wanted.
	ReasonNone Reason = iota
	// ReasonDown means that the server is down or ejected, or that it is
	// excluded because it could not be reached.
	ReasonDown
	// ReasonDisabled means that the server is disabled.
	ReasonDisabled
	// ReasonDraining means that the server is draining without
	// Config.Drain.KeepBound.
	ReasonDraining
	// ReasonGone means that the pool has no such server.
	ReasonGone
	// ReasonFull means that the server is at its limit, MaxConnections or
	// MaxRate.
	ReasonFull
	// ReasonMaintenance means that the server reports that it is under
	// maintenance.
	ReasonMaintenance
)

// String returns the name: "none", "down", "disabled", "draining", "gone",
// "full" or "maintenance"; "invalid" for other values.
func (r Reason) String() string { return enumtext.String(r, reasons) }

// MarshalText returns the name. It fails for a value without a name.
func (r Reason) MarshalText() ([]byte, error) { return enumtext.Marshal(r, reasons) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
func (r *Reason) UnmarshalText(text []byte) error { return enumtext.Unmarshal(r, text, reasons) }

var reasons = []string{"none", "down", "disabled", "draining", "gone", "full", "maintenance"}

// unavailableError is the error of Acquire for a wanted server that is not
// available and must not be replaced. It matches ErrNoServer.
type unavailableError struct {
	Pool   string         // the pool's name
	Server netip.AddrPort // the server that was wanted
	Reason Reason         // why it is not available
}

// Error names the pool, the server and the reason.
func (e *unavailableError) Error() string {
	return fmt.Sprintf("pool %q: server %s is %s", e.Pool, e.Server, e.Reason)
}

// Unwrap returns ErrNoServer.
func (e *unavailableError) Unwrap() error { return ErrNoServer }

// Hint describes a request for which a server is chosen. The zero value says
// nothing.
type Hint struct {
	// Client is the client's address, for algorithms that use it and for
	// Passive, which does not let one client alone eject a server.
	Client netip.Addr
	// ClientPort is the client's port, for HashClientPort.
	ClientPort uint16
	// Host is the request's host, for HashURI.
	Host string
	// Path is the request's path, without the query, for HashURI.
	Path string
	// Header is the value of the request header that Pool.HashHeader names, for
	// HashHeader.
	Header string
	// Key is a string chosen by the caller, for example by a script, for
	// HashCustom.
	Key string
	// Server is the server that a script or a persistence entry names. The zero
	// value names none. Port 0 names an address: if several servers of the pool
	// share it, Tie decides among those that are up.
	Server netip.AddrPort
	// Tie decides between servers that share the address in Server: requests
	// with the same Tie go to the same server while it is up, and different
	// ones are spread over all of them. Use the persistence key. Empty means
	// the client's address.
	Tie string
	// Exclude are servers that must not be chosen because they have been tried.
	// The pool only reads it.
	Exclude []*Server
}

// Allows reports whether h lets s be chosen: it is neither excluded nor full.
func (h *Hint) Allows(s *Server) bool { return !h.excludes(s) && !s.full() }

func (h *Hint) excludes(s *Server) bool {
	return len(h.Exclude) > 0 && slices.Contains(h.Exclude, s)
}

// Outcome is how the use of a server ended.
type Outcome struct {
	// Err is the failure between here and the server; nil if there was none. An
	// error that matches ErrAborted or context.Canceled is the client's and no
	// failure of the server.
	Err error
	// Status is the status code of the response, 0 if there was none.
	Status int
	// FirstByte is the time from sending the request to the first byte of the
	// response, 0 if there was none.
	FirstByte time.Duration
}

// A Lease is the use of one server by one request. It is a value that may be
// copied; release one of the copies, once. The zero value has no server.
type Lease struct {
	// Server is the server to use.
	Server *Server
	// Unmet is why the server that the Hint names was not taken; ReasonNone if
	// it was, or if the Hint names none. Acquire sets it also when it refuses
	// the request because of Repick.
	Unmet Reason
	// Shared reports that the Hint names an address, without a port, that
	// several servers of the pool share. It is then unknown which of them the
	// caller meant.
	Shared bool

	ticket *ticket
	serial uint64
}

// A ticket makes Release idempotent even among copies of a lease, without an
// allocation for each lease: tickets are reused, and the serial number
// identifies the use.
type ticket struct {
	serial atomic.Uint64
	client netip.Addr // the client of the request
}

var tickets = sync.Pool{New: func() any { return new(ticket) }}

func newLease(s *Server, h *Hint, unmet Reason, shared bool) Lease {
	t := tickets.Get().(*ticket)
	t.client = h.Client
	return Lease{Server: s, Unmet: unmet, Shared: shared, ticket: t, serial: t.serial.Load()}
}

// Release ends the use of the server and reports how it went. Further calls, on
// this value or on copies of it, do nothing. Any goroutine may call it.
func (l Lease) Release(o Outcome) {
	if l.ticket == nil || !l.ticket.serial.CompareAndSwap(l.serial, l.serial+1) {
		return
	}
	client := l.ticket.client
	tickets.Put(l.ticket)
	l.Server.release(&o, client)
}

// cancel ends the use of the server as if it had not begun.
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
