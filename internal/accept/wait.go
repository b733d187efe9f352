package accept

import (
	"sync/atomic"
	"time"
)

// sweepInterval is how often the connections are looked at on which a client
// keeps a server waiting.
const sweepInterval = 15 * time.Second

// waiting closes connections on which a client has kept a server waiting for
// too long, where the server itself sets no deadline: net/http, which answers
// some requests without a handler, then reads their bodies for ever. Marking a
// connection costs a store: time passes in sweeps.
type waiting struct {
	sweeps atomic.Uint32 // made so far
	runs   atomic.Bool   // there is a next sweep
}

// Wait has the connection closed if neither Wait nor Serve is called within
// limit, to within two sweeps of 15 s. A limit of 0 or less is none.
func (c *Conn) Wait(limit time.Duration) {
	if limit <= 0 || c.left.Load() {
		c.Serve()
		return
	}
	w := &c.gate.waiting
	n := uint32(limit/sweepInterval) + 1
	if limit%sweepInterval > 0 {
		n++
	}
	c.until.Store(max(w.sweeps.Load()+n, 1))
	if w.runs.CompareAndSwap(false, true) {
		time.AfterFunc(sweepInterval, c.gate.sweep)
	}
}

// Serve says that the server does not wait for the client.
func (c *Conn) Serve() { c.until.Store(0) }

// Leave says that the server has given the connection away: no Wait has an
// effect any more.
func (c *Conn) Leave() {
	c.left.Store(true)
	c.Serve()
}

// sweep closes what has waited for too long, and comes again while there are
// connections.
func (g *Gate) sweep() {
	now, found := g.waiting.sweeps.Add(1), false
	g.conns.Range(func(_, v any) bool {
		c := v.(*Conn)
		found = true
		if until := c.until.Load(); until != 0 && int32(now-until) >= 0 {
			_ = c.Close()
		}
		return true
	})
	if !found {
		g.waiting.runs.Store(false) // the next Wait starts it
		return
	}
	time.AfterFunc(sweepInterval, g.sweep)
}
