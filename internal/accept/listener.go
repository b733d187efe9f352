package accept

import (
	"net"
	"sync/atomic"
	"time"
)

// Listener returns a listener that applies the rules to each connection that ln
// accepts. One that is denied is closed before anything is read, and Accept
// goes on to the next.
//
// A connection that begins with a PROXY header is judged when the header has
// been read: by whoever first reads the connection or asks for its addresses,
// not by Accept, so that a silent proxy holds up nobody else.
func (g *Gate) Listener(ln net.Listener) net.Listener {
	g.listening.Store(true)
	return &listener{Listener: ln, gate: g}
}

type listener struct {
	net.Listener
	gate   *Gate
	closed atomic.Bool
}

// Close closes the listener.
func (l *listener) Close() error {
	l.closed.Store(true)
	l.gate.open.mu.Lock()
	l.gate.open.changed.Broadcast()
	l.gate.open.mu.Unlock()
	return l.Listener.Close()
}

// Accept waits for a connection that may proceed.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if most := l.gate.files; most > 0 && l.gate.rules().Max == 0 && !l.gate.open.await(most, l.closed.Load) {
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c = l.gate.accepted(c); c != nil {
			return c, nil
		}
	}
}

// accepted returns the connection as it is to be used, or nil if it was
// denied.
func (g *Gate) accepted(raw net.Conn) net.Conn {
	r := g.rules()
	c := newConn(g, r, raw)
	open := g.open.enter()
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
			c.deny(v.Action == Reset)
			c.report(r, Event{Verdict: v})
			return false
		}
		c.judged, c.verdict = true, v
		c.log.Store(v.Log)
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
		c.deny(action == Reset)
	}
	c.report(r, Event{Limit: limit})
	return action == Pass
}

// deny closes the connection, with RST or without.
func (c *Conn) deny(reset bool) {
	if tcp := TCPConn(c.Conn); tcp != nil && reset {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
	c.denied = true
	c.gate.denied.Add(1)
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
