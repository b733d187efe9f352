package accept

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Rules say what becomes of connections. They must not change once a gate has
// them.
type Rules struct {
	Limits

	// Judge decides about a connection by its addresses, which are invalid if
	// it is not one of TCP. Connections that it does not let pass do not count
	// for the limits but that of Max. Nil lets all pass.
	Judge func(client, local netip.AddrPort) Verdict

	// FromProxy reports whether a connection from this address must begin with
	// a PROXY header, of version 1 or 2. It is closed without one. A header
	// that names no IP addresses (LOCAL, UNKNOWN, UNIX) leaves the connection
	// as it is. Nil expects no header. From others none is understood, because
	// they could choose any address.
	FromProxy func(peer netip.Addr) bool
	// HeaderTimeout is how long the header may take, from when the connection
	// is accepted.
	HeaderTimeout time.Duration

	// WriteTimeout is how long a client may take nothing of what is sent to it
	// before the connection is broken, to within an eighth. Zero or less means
	// for ever. It does not apply while a deadline is set on the connection.
	WriteTimeout time.Duration

	// Report is called with each connection that was closed when it was
	// accepted or when its header was read, and with each that exceeds a limit
	// and goes on. Calls may be concurrent. Nil reports nothing.
	Report func(Event)
}

// An Action is what is done with a connection.
type Action uint8

// The actions.
const (
	Pass  Action = iota // the connection goes on
	Drop                // it is closed without a reset
	Reset               // it is reset
)

// A Verdict is what Rules.Judge decides about a connection.
type Verdict struct {
	Action  Action // the zero value is Pass
	Rule    string // the name of the rule that has decided; empty if none has
	Err     error  // why the rules could not be evaluated
	Log     bool   // the rule asks for a record
	Limited bool   // the rule has denied the connection because it is above a rate
}

// An Event is a connection that was not simply accepted. Exactly one of
// Verdict.Action, Limit and Err says why: it was denied by a rule, exceeded a
// limit, or sent no valid header (see [ErrHeader]).
type Event struct {
	Client, Local netip.AddrPort // its ends
	Proxy         netip.AddrPort // who has sent a header; invalid if none was expected
	Closed        bool           // the connection does not go on

	Verdict Verdict // of Rules.Judge, if that has denied it
	Limit   Limit   // that the connection exceeds; it may go on
	Err     error   // why its header is not valid
}

// A Gate accepts connections under rules, and knows those that are open. Its
// methods may be called concurrently.
type Gate struct {
	rules func() *Rules
	files int // how many connections there may be for want of file descriptors; 0: any number

	conns     sync.Map // net.Addr, by identity, → *Conn
	open      openConns
	listening atomic.Bool // there is a listener, which counts the connections

	mu        sync.Mutex
	listeners map[*listener]struct{} // that are not closed
	made      []*listener            // those, and closed ones, until another listener is made

	waiting waiting

	denied, limited, badHeaders atomic.Uint64
}

// New returns a Gate. rules returns those that apply at the time; each
// connection is accepted under one result.
func New(rules func() *Rules) *Gate { return &Gate{rules: rules, files: fileBound(fileLimit())} }

// Stats are counts of connections.
type Stats struct {
	Open       int    // that are open now
	Denied     uint64 // that were closed when they were accepted, for whatever reason
	Limited    uint64 // that exceeded a limit
	BadHeaders uint64 // that should have begun with a PROXY header
}

// Stats returns the counts as they are now.
func (g *Gate) Stats() Stats {
	return Stats{g.open.total(), g.denied.Load(), g.limited.Load(), g.badHeaders.Load()}
}

// Listening reports whether there was ever a listener. Without one, nothing
// counts connections.
func (g *Gate) Listening() bool { return g.listening.Load() }

// Stop ends all listeners of the gate, once Accept has handed out the
// connections that wait in their queues: they would be reset otherwise. After
// that Accept returns when its listener is closed, as by a server that is shut
// down. Stop returns when nobody listens any more, after half a second at most,
// or when ctx ends.
func (g *Gate) Stop(ctx context.Context) {
	g.mu.Lock()
	all := slices.Collect(maps.Keys(g.listeners))
	g.mu.Unlock()
	for _, l := range all {
		l.end()
	}
	for _, l := range all {
		l.awaitEnd(ctx)
	}
}

// AwaitNone waits until no connection is open, or ctx ends.
func (g *Gate) AwaitNone(ctx context.Context) { g.open.awaitNone(ctx, nil) }

// Turns returns how often Accept of a listener of a gate has waited for a
// connection, and whether it waits now. Whoever calls it hangs if it does not
// wait, and the number stays the same.
func Turns(ln net.Listener) (n uint64, waits bool) {
	if l, ok := ln.(*listener); ok {
		return l.turns.Load(), l.waits.Load()
	}
	return 0, true
}

// Yield ends a listener at once, and leaves the connections that wait in its
// queue to another listener of the same socket.
func Yield(ln net.Listener) {
	if l, ok := ln.(*listener); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.left.Store(true)
		_ = l.stop()
		l.wake()
	}
}

// Retire ends a listener of a gate as [Gate.Stop] does, and waits until none of
// its connections is open, or ctx ends. They are leaving from the beginning on.
func Retire(ctx context.Context, ln net.Listener) {
	l, ok := ln.(*listener)
	if !ok {
		return
	}
	l.end()
	l.awaitEnd(ctx)
	l.gate.open.awaitNone(ctx, l)
}

// At returns the connection of a request, given the address that its context
// has for [net/http.LocalAddrContextKey]; nil if no listener of the gate has
// accepted it.
func (g *Gate) At(local net.Addr) *Conn {
	switch local.(type) {
	case *net.TCPAddr, *net.UnixAddr: // others might not be comparable
		c, _ := g.conns.Load(local)
		found, _ := c.(*Conn)
		return found
	}
	return nil
}

// Beneath returns the gate's connection beneath others, such as that of a
// [crypto/tls.Conn]; nil if there is none.
func (g *Gate) Beneath(c net.Conn) *Conn {
	for {
		switch found := c.(type) {
		case *Conn:
			return g.own(found)
		case *proxiedConn:
			return g.own(found.Conn)
		case interface{ NetConn() net.Conn }:
			c = found.NetConn()
		default:
			return nil
		}
	}
}

func (g *Gate) own(c *Conn) *Conn {
	if c.gate != g {
		return nil
	}
	return c
}
