package accept

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/clientaddr"
	"github.com/limpetlb/limpet/internal/splice"
)

// A Conn is a connection that a listener of a gate has accepted. It is counted
// until it is closed, requests find it, and a client that takes nothing of what
// is written to it loses it.
type Conn struct {
	net.Conn
	gate          *Gate
	listener      *listener // that has accepted it; nil in some tests
	remote, local net.Addr  // what RemoteAddr and LocalAddr return
	ends          connEnds  // the same, as rules see them

	proxy     netip.AddrPort // who sent a PROXY header; invalid without one
	encrypted *bool          // what the header says of TLS; nil if nothing

	// Pending is for the server: it has begun to read a request that has not
	// come to its handler.
	Pending atomic.Bool
	until   atomic.Uint32 // the sweep that closes it; 0: none
	left    atomic.Bool   // it is not the server's any more

	// Watched is for the server: the request under way has been read whole, so
	// that a read of one byte is only to see whether the client leaves.
	Watched atomic.Bool

	// Handshaken is for the server: the end of the TLS handshake was counted.
	Handshaken atomic.Bool

	judged  bool        // by Rules.Judge
	verdict Verdict     // what that has decided
	log     atomic.Bool // the verdict asks for a record, and there was none yet
	behind  atomic.Bool // the same for the services behind that of the gate
	denied  bool

	once    sync.Once // of Once
	onceErr error

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

func newConn(g *Gate, l *listener, r *Rules, raw net.Conn) *Conn {
	c := &Conn{Conn: raw, gate: g, listener: l, stall: r.WriteTimeout}
	c.setEnds(raw.RemoteAddr(), raw.LocalAddr())
	return c
}

// setEnds sets both addresses. The local one becomes a copy, because requests
// find their connection by the pointer, which net/http passes on.
func (c *Conn) setEnds(remote, local net.Addr) {
	switch a := local.(type) {
	case *net.TCPAddr:
		own := *a
		local = &own
	case *net.UnixAddr:
		own := *a
		local = &own
	}
	c.remote, c.local = remote, local
	c.ends = connEnds{clientaddr.OfTCP(remote), clientaddr.OfTCP(local)}
}

// Client returns the address of the client, or what the header says about it;
// invalid if it is not one of TCP.
func (c *Conn) Client() netip.AddrPort { return c.ends.peer }

// Proxy returns the address of the proxy that has sent a header; invalid if
// there was none.
func (c *Conn) Proxy() netip.AddrPort { return c.proxy }

// Encrypted returns what a header says about whether the client spoke TLS. If
// there is none, or it does not say, known is false.
func (c *Conn) Encrypted() (encrypted, known bool) {
	if c.encrypted == nil {
		return false, false
	}
	return *c.encrypted, true
}

// Verdict returns what [Rules].Judge has said about the connection, and whether
// it was asked.
func (c *Conn) Verdict() (v Verdict, judged bool) { return c.verdict, c.judged }

// Of reports whether a listener of the gate has accepted the connection. If
// not, the service of the gate is behind another one.
func (c *Conn) Of(g *Gate) bool { return c.gate == g }

// Open returns how many connections the gate of the connection has open.
func (c *Conn) Open() int { return c.gate.Stats().Open }

// TakeLog reports whether the verdict asks the service of a gate for a record.
// Only the first call for the gate of the connection reports true, and the
// first for all others: if a service hands its requests over to others, one of
// these logs as well.
func (c *Conn) TakeLog(g *Gate) bool {
	log := &c.log
	if !c.Of(g) {
		log = &c.behind
	}
	return log.Load() && log.Swap(false)
}

// Stall returns how long the client may take nothing of what is written to it,
// from [Rules].WriteTimeout; 0 means for ever.
func (c *Conn) Stall() time.Duration { return max(c.stall, 0) }

// Leaving reports whether the listener that has accepted the connection accepts
// no more: the next response should be the last.
func (c *Conn) Leaving() bool { return c.listener != nil && c.listener.left.Load() }

// Crowded reports whether connections may be waiting because as many are open
// as the process has file descriptors for. A server should then close a
// connection after its response.
func (c *Conn) Crowded() bool {
	return c.gate.open.crowded.Load() > 0 ||
		c.listener != nil && c.listener.budget != nil && c.listener.budget.open.crowded.Load() > 0
}

// Once returns what find has returned the first time, when it was called: for
// what is found out about a connection once, such as whether the certificate of
// the client is good.
func (c *Conn) Once(find func() error) error {
	c.once.Do(func() { c.onceErr = find() })
	return c.onceErr
}

// register lets requests find the connection.
func (c *Conn) register() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.local.(type) {
	case *net.TCPAddr, *net.UnixAddr:
		if !c.closed {
			c.key = c.local
			c.gate.conns.Store(c.key, c)
		}
	}
}

// countFor counts the connection for a client, and returns how many the client
// has with it.
func (c *Conn) countFor(client netip.Addr) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0
	}
	c.client = client
	return c.gate.open.count(client)
}

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr returns the address that the client connected to.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// Close closes the connection.
func (c *Conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// leave forgets the connection, once.
func (c *Conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.gate.open.leave(c.listener, c.client)
	if c.listener != nil && c.listener.budget != nil {
		c.listener.budget.open.leave(nil, netip.Addr{})
	}
	if c.key != nil {
		c.gate.conns.Delete(c.key)
	}
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// NetConn returns the connection beneath.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes the sending side, for servers that ask for it.
func (c *Conn) CloseWrite() error {
	if err := splice.CloseWrite(c.Conn); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if tcp := TCPConn(c.Conn); tcp != nil {
		return tcp.CloseWrite()
	}
	return c.Close()
}

// Read reads from the connection.
//
// While a handler is at work, net/http reads one byte to see whether the client
// leaves, and is blind once it has got it: a client that sends more than its
// request and leaves would be served on. So that read ends when the client
// leaves, or when net/http, which wants to go on, sets a deadline that has
// passed. It returns the byte in any case.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 1 && len(p) == 1 && err == nil && c.Watched.Load() {
		if awaitEnd(c.Conn) {
			err = io.EOF
		}
	}
	return n, err
}

// writeChunk is how much is written under one deadline. A client that takes it
// within the time is slow, but alive.
const writeChunk = 64 << 10

// Write writes as long as the client takes something.
func (c *Conn) Write(p []byte) (n int, err error) {
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
func (c *Conn) allowTime() {
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
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.bounded.Store(!t.IsZero())
	c.writeDeadline.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.bounded.Store(!t.IsZero())
	c.writeDeadline.Store(0)
	return c.Conn.SetDeadline(t)
}

// ReadFrom lets the kernel copy files, and connections into one another.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
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
