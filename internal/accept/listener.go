package accept

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Listener returns a listener that applies the rules to each connection that ln
// accepts. One that is denied is closed before anything is read, and Accept
// goes on to the next.
//
// A connection that begins with a PROXY header is judged when the header has
// been read: by whoever first reads the connection or asks for its addresses,
// not by Accept, so that a silent proxy delays nobody else.
//
// A listener of a [Budget] counts for that as well.
func (g *Gate) Listener(ln net.Listener) net.Listener {
	g.listening.Store(true)
	l := &listener{Listener: ln, gate: g, ended: make(chan struct{}), closed: make(chan struct{})}
	if b, ok := ln.(budgeted); ok {
		l.Listener, l.budget = b.Listener, b.budget
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listeners == nil {
		g.listeners = map[*listener]struct{}{}
	}
	g.listeners[l] = struct{}{}
	g.made = append(slices.DeleteFunc(g.made, (*listener).over), l)
	return l
}

// over reports whether the listener is closed and has no open connection.
func (l *listener) over() bool { return isOver(l.closed) && l.gate.open.of(l) == 0 }

type listener struct {
	net.Listener
	gate   *Gate
	budget *Budget // nil: only the gate's own limits apply

	open   int         // its open connections; the mu of gate.open guards it
	taking int         // how many Accepts are taking one, which is not counted yet; the same guards it
	left   atomic.Bool // it takes connections from its queue only, or none

	waits atomic.Bool   // Accept waits for a connection, or for room for one
	turns atomic.Uint64 // how often it has waited

	counts Counts

	ended  chan struct{} // closed when nobody listens any more
	closed chan struct{} // closed by Close

	mu    sync.Mutex
	used  bool      // Accept was called
	empty int       // how often Accept has found it so
	until time.Time // when Accept ends it at the latest
}

// How long a listener that is ending waits for connections.
const (
	queueWait = 10 * time.Millisecond  // for the next one, twice
	queueEnd  = 200 * time.Millisecond // for all
)

// isOver reports whether a channel is closed.
func isOver(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// end has Accept end the listener; if nobody accepts, end does it.
func (l *listener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left.Load() {
		return
	}
	l.until = time.Now().Add(queueEnd)
	l.left.Store(true)
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); !ok || !l.used || d.SetDeadline(time.Now().Add(queueWait)) != nil {
		_ = l.stop()
		return
	}
	l.wake()
	time.AfterFunc(2*queueEnd, func() { // if Accept is called no more
		l.mu.Lock()
		defer l.mu.Unlock()
		_ = l.stop()
	})
}

// stop closes the listener beneath, once, and says so when that is done:
// whoever waits for ended may dial. The caller has locked mu.
func (l *listener) stop() error {
	if isOver(l.ended) {
		return nil
	}
	defer close(l.ended)
	return l.Listener.Close()
}

// Close closes the listener.
func (l *listener) Close() error {
	l.gate.mu.Lock()
	delete(l.gate.listeners, l)
	l.gate.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if isOver(l.closed) {
		return net.ErrClosed
	}
	close(l.closed)
	l.left.Store(true)
	l.wake()
	return l.stop()
}

// wake lets Accept look again if it waits for connections to become fewer.
func (l *listener) wake() {
	l.gate.open.wake()
	if l.budget != nil {
		l.budget.open.wake()
	}
}

// await waits until there is room for a connection. It reports false if the
// listener ends meanwhile: it asks left, and locks nothing, since it holds the
// lock of the connections then, which wake takes while mu is held.
func (l *listener) await() bool {
	if l.budget != nil {
		return l.budget.open.await(l.budget.max, l.left.Load)
	}
	most := l.gate.files
	return most == 0 || l.gate.rules().Max != 0 || l.gate.open.await(most, l.left.Load)
}

// Accept waits for a connection that may proceed.
func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	l.used = true
	l.mu.Unlock()
	for {
		l.waits.Store(true)
		if !l.await() {
			l.mu.Lock()
			_ = l.stop() // there is no space for what is in the queue
			l.mu.Unlock()
		}
		c, err := l.take()
		again := l.settle(err)
		switch {
		case err == nil && c != nil:
			return c, nil
		case err == nil || again:
		case isOver(l.ended):
			<-l.closed
			return nil, net.ErrClosed
		default:
			return nil, err
		}
	}
}

// take accepts a connection and counts it: whoever waits for the end of the
// listener waits for that, and then for its connections. The connection is nil
// if it was denied.
func (l *listener) take() (net.Conn, error) {
	l.gate.open.take(l)
	defer l.gate.open.taken(l)
	c, err := l.Listener.Accept()
	l.turns.Add(1)
	l.waits.Store(false)
	if err != nil {
		return nil, err
	}
	return l.gate.accepted(l, c), nil
}

// awaitEnd waits until nobody listens any more and all connections that were
// accepted are counted, or ctx ends.
func (l *listener) awaitEnd(ctx context.Context) {
	select {
	case <-l.ended:
		l.gate.open.awaitZero(ctx, &l.taking)
	case <-ctx.Done():
	}
}

// settle notes what Accept of the listener beneath has returned, and reports
// whether there may be more in the queue of a listener that is ending.
func (l *listener) settle(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.left.Load() || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	if l.empty++; err == nil {
		l.empty = 0
	}
	// Once is not enough: the deadline may have passed before the queue was
	// looked at.
	if l.empty > 1 || time.Now().After(l.until) {
		_ = l.stop()
		return false
	}
	return l.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(queueWait)) == nil
}

// accepted returns the connection as it is to be used, or nil if it was
// denied. The listener may be nil.
func (g *Gate) accepted(l *listener, raw net.Conn) net.Conn {
	r := g.rules()
	c := newConn(g, l, r, raw)
	c.Counts().accepted.Add(1)
	open := g.open.enter(l)
	if l != nil && l.budget != nil {
		l.budget.open.enter(nil)
	}
	if r.Max > 0 && open > r.Max {
		c.exceeds(r, OverMax, Reset)
		return nil
	}
	if r.FromProxy != nil && r.FromProxy(c.ends.peer.Addr()) {
		return &proxiedConn{Conn: c, deadline: time.Now().Add(r.HeaderTimeout)}
	}
	if !c.admitted(r) {
		return nil
	}
	return c
}

// admitted judges a connection whose ends are known. If it reports false, it
// has closed the connection.
func (c *Conn) admitted(r *Rules) bool {
	if r.Judge != nil {
		v := r.Judge(c.ends.peer, c.ends.local)
		if v.Action != Pass {
			c.deny(v.Action == Reset, "rule")
			c.report(r, Event{Verdict: v})
			return false
		}
		c.judged, c.verdict = true, v
		c.log.Store(v.Log)
		c.behind.Store(v.Log)
	}
	if limit, action := r.exceeded(c); limit != NoLimit && !c.exceeds(r, limit, action) {
		return false
	}
	c.register()
	return true
}

// exceeds does what is to be done with a connection above a limit, and reports
// whether the connection goes on.
func (c *Conn) exceeds(r *Rules, limit Limit, action Action) bool {
	c.gate.limited.Add(1)
	if action != Pass {
		c.deny(action == Reset, limits[limit])
	}
	c.report(r, Event{Limit: limit})
	return action == Pass
}

// deny closes the connection, with RST or without, and counts why.
func (c *Conn) deny(reset bool, reason string) {
	if tcp := TCPConn(c.Conn); tcp != nil && reset {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
	c.denied = true
	c.gate.denied.Add(1)
	c.Counts().refused.Add(reason)
}

// report completes an event and hands it out.
func (c *Conn) report(r *Rules, e Event) {
	if r.Report != nil {
		e.Client, e.Local, e.Proxy, e.Closed = c.ends.peer, c.ends.local, c.proxy, c.denied
		r.Report(e)
	}
}

// TCPConn finds the TCP connection beneath others; nil if there is none.
func TCPConn(c net.Conn) *net.TCPConn {
	for {
		switch conn := c.(type) {
		case *net.TCPConn:
			return conn
		case interface{ NetConn() net.Conn }:
			c = conn.NetConn()
		default:
			return nil
		}
	}
}
