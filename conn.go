package limpet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/splice"
)

// A conn is a connection that the virtual service's listener has accepted. It
// is counted until it is closed, requests find it, and a client that takes
// nothing of what is written to it loses it.
type conn struct {
	net.Conn
	vs            *VirtualService
	remote, local net.Addr // what RemoteAddr and LocalAddr return
	ends          connEnds // the same, as policies see them

	proxy     netip.AddrPort // who sent a PROXY header; invalid without one
	encrypted *bool          // what the header says of TLS; nil if nothing

	pending atomic.Bool // the server has begun to read a request that has not come to its handler

	judged bool        // by network security rules
	rule   string      // the rule that has decided
	err    error       // why the rules could not be evaluated
	log    atomic.Bool // the rule asks for a record, and there was none yet
	denied bool

	certificate verified // the client's

	mu     sync.Mutex
	closed bool
	client netip.Addr // for which it is counted; invalid if it is not
	key    net.Addr   // by which requests find it; nil if they do not

	stall         time.Duration // how long the client may take nothing; 0: for ever
	writeDeadline atomic.Int64  // ours, in Unix nanoseconds; 0: none, or the user's
	bounded       atomic.Bool   // the user has set a deadline
}

// connEnds are the two ends of a connection.
type connEnds struct{ peer, local netip.AddrPort }

func newConn(vs *VirtualService, s *snapshot, raw net.Conn) *conn {
	c := &conn{Conn: raw, vs: vs, stall: s.Connections.writeTimeout()}
	c.setEnds(raw.RemoteAddr(), raw.LocalAddr())
	return c
}

// setEnds sets both addresses. The local one becomes a copy, because requests
// find their connection by the pointer, which net/http passes on.
func (c *conn) setEnds(remote, local net.Addr) {
	switch a := local.(type) {
	case *net.TCPAddr:
		own := *a
		local = &own
	case *net.UnixAddr:
		own := *a
		local = &own
	}
	c.remote, c.local = remote, local
	c.ends = connEnds{tcpAddr(remote), tcpAddr(local)}
}

// connAt returns the connection of a request, given what its context has for
// [http.LocalAddrContextKey], or nil if our listener has not accepted it.
func (vs *VirtualService) connAt(local net.Addr) *conn {
	switch local.(type) {
	case *net.TCPAddr, *net.UnixAddr: // others might not be comparable
		c, _ := vs.conns.Load(local)
		found, _ := c.(*conn)
		return found
	}
	return nil
}

// register lets requests find the connection.
func (c *conn) register() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.local.(type) {
	case *net.TCPAddr, *net.UnixAddr:
		if !c.closed {
			c.key = c.local
			c.vs.conns.Store(c.key, c)
		}
	}
}

// countFor counts the connection for a client, and returns how many the client
// has with it.
func (c *conn) countFor(client netip.Addr) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0
	}
	c.client = client
	return c.vs.open.count(client)
}

// RemoteAddr returns the client's address.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr returns the address that the client connected to.
func (c *conn) LocalAddr() net.Addr { return c.local }

// Close closes the connection.
func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// leave forgets the connection, once.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.vs.open.leave(c.client)
	if c.key != nil {
		c.vs.conns.Delete(c.key)
	}
}

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// NetConn returns the connection beneath.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes the sending side, for servers that ask for it.
func (c *conn) CloseWrite() error {
	if tcp := tcpConn(c.Conn); tcp != nil {
		return tcp.CloseWrite()
	}
	return c.Close()
}

// writeChunk is how much is written under one deadline. A client that takes it
// within the time is slow, but alive.
const writeChunk = 64 << 10

// Write writes as long as the client takes something.
func (c *conn) Write(p []byte) (n int, err error) {
	for {
		c.allowTime()
		m, err := c.Conn.Write(p[:min(len(p), writeChunk)])
		n, p = n+m, p[m:]
		if err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// allowTime gives the client time for the next chunk.
func (c *conn) allowTime() {
	if c.stall <= 0 || c.bounded.Load() {
		return
	}
	// To move the deadline each time would cost more than it is worth.
	now := time.Now()
	if c.writeDeadline.Load() > now.Add(c.stall-c.stall/8).UnixNano() {
		return
	}
	deadline := now.Add(c.stall)
	c.writeDeadline.Store(deadline.UnixNano())
	_ = c.Conn.SetWriteDeadline(deadline)
}

// SetWriteDeadline sets a deadline in the place of ours, or ours again.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.bounded.Store(!t.IsZero())
	c.writeDeadline.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	c.bounded.Store(!t.IsZero())
	c.writeDeadline.Store(0)
	return c.Conn.SetDeadline(t)
}

// ReadFrom lets the kernel copy files, and connections into one another.
func (c *conn) ReadFrom(r io.Reader) (n int64, err error) {
	part, limited := r.(*io.LimitedReader)
	source := r
	if limited {
		source = part.R
	}
	switch source.(type) {
	case *os.File:
		for {
			c.allowTime()
			chunk := &io.LimitedReader{R: source, N: writeChunk}
			if limited {
				chunk.N = min(chunk.N, part.N)
			}
			m, err := io.Copy(c.Conn, chunk)
			n += m
			if limited {
				part.N -= m
			}
			if err != nil || m < writeChunk {
				return n, err
			}
		}
	case *net.TCPConn, *net.UnixConn:
		// Silence is no fault of the client here, and the kernel does not
		// tell it from refusal.
		if !c.bounded.Load() {
			_ = c.SetWriteDeadline(time.Time{})
		}
		return io.Copy(c.Conn, r)
	}
	return splice.Copy(c, r)
}
