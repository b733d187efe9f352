package http1

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A conn is a connection to a server. It belongs to one exchange, or is idle.
type conn struct {
	t   *Transport
	key hostKey
	rw  net.Conn             // the connection, through TLS if there is any
	raw net.Conn             // the connection beneath TLS
	tls *tls.ConnectionState // nil without TLS

	br     *bufio.Reader // of what the server sends, through conn.Read
	limit  int64         // bytes that may still be read
	eof    bool          // the server has ended its side
	reused bool          // it was idle before
	probe  *probe        // nil if it cannot be found out whether the server has closed it
	abort  func()        // closes the connection at once; made once for many exchanges
	head   headScan      // of the response

	// deadline is that of reading and writing, the zero time if there is none.
	// See extend.
	deadline time.Time

	idleSince       time.Time
	inHost, inQueue links
}

func newConn(t *Transport, key hostKey, rw net.Conn) *conn {
	c := &conn{t: t, key: key, rw: rw, raw: rw, probe: newProbe(rw)}
	c.abort = func() { _ = c.raw.Close() }
	size := t.base.ReadBufferSize
	if size <= 0 {
		size = 4 << 10
	}
	c.br = bufio.NewReaderSize(c, size)
	return c
}

// setTLS puts TLS on the connection, after the handshake.
func (c *conn) setTLS(secured *tls.Conn) {
	c.rw, c.raw = secured, secured.NetConn()
	state := secured.ConnectionState()
	c.tls, c.probe = &state, newProbe(c.raw)
}

// unlimited is the limit while a body is read.
const unlimited = 1<<63 - 1

// Read reads what the server sends, within the limit.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, c.tooLarge()
	}
	if int64(len(p)) > c.limit {
		p = p[:c.limit]
	}
	n, err := c.rw.Read(p)
	c.limit -= int64(n)
	c.head.feed(p[:n])
	if errors.Is(err, io.EOF) {
		c.eof = true
	}
	if c.head.fault != nil {
		err = c.head.fault // what follows is not waited for
	}
	return n, err
}

func (c *conn) tooLarge() error { return fmt.Errorf("response header exceeds %d bytes", c.t.maxHeader) }

// extend allows at least d from now for what comes. A deadline that leaves more
// than that, but not much more, stays: to move it for each request would cost
// more than all the rest that is done for a time-out.
func (c *conn) extend(now time.Time, d time.Duration) {
	if left := c.deadline.Sub(now); d <= left && left <= d+d/8 {
		return
	}
	c.deadline = now.Add(d + d/8)
	_ = c.rw.SetDeadline(c.deadline)
}

// unbound takes the deadline away.
func (c *conn) unbound() {
	c.deadline = time.Time{}
	_ = c.rw.SetDeadline(c.deadline)
}

// alive reports whether an idle connection can be used: the server has neither
// closed it nor sent anything that nobody has asked for. It may close it in the
// very next moment.
func (c *conn) alive() bool { return c.probe == nil || c.probe.quiet() }

func (c *conn) close() { _ = c.rw.Close() }
