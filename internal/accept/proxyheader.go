package accept

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	// maxProxyHeader is the longest header of version 2. Certificates of
	// clients, the longest thing in use, have 1 to 2 KiB.
	maxProxyHeader = 4 << 10
	// maxProxyLine is the longest header of version 1, by its specification.
	maxProxyLine = 107
)

// ErrHeader is the reason, in [Event].Err, why a connection from a proxy was
// closed: it has sent no valid header.
var ErrHeader = errors.New("no valid PROXY header")

// A proxiedConn is a connection that begins with a PROXY header.
type proxiedConn struct {
	*Conn
	settled sync.Once
	err     error  // why there is nothing to be read
	rest    []byte // what was read beyond the header

	mu           sync.Mutex
	deadline     time.Time // of the header
	done         bool      // the header's deadline does not matter any more
	readDeadline time.Time // what the user wants
}

// settle reads the header, once, and judges the connection by it.
func (c *proxiedConn) settle() error {
	c.settled.Do(func() {
		_ = c.setReadDeadline(func() {})
		h, rest, err := readProxyHeader(c.Conn.Conn)
		_ = c.setReadDeadline(func() { c.done = true })
		r := c.gate.rules()
		c.proxy = c.ends.peer
		if err == nil {
			err = c.apply(h)
		}
		switch {
		case err == nil:
			if !c.admitted(r) {
				err = net.ErrClosed
			}
		case errors.Is(err, errNoBytes), c.isClosed():
			_ = c.Close() // somebody looked whether the port is open, or the server is closing
		default:
			c.deny(false, "proxy_header")
			c.gate.badHeaders.Add(1)
			c.report(r, Event{Err: fmt.Errorf("%w: %w", ErrHeader, err)})
		}
		c.rest, c.err = rest, err
	})
	return c.err
}

// apply takes over what a header says.
func (c *proxiedConn) apply(h *proxyproto.Header) error {
	if h.Command.IsLocal() || h.TransportProtocol.IsUnix() {
		return nil
	}
	remote, local, ok := h.TCPAddrs()
	if !ok {
		return fmt.Errorf("protocol %#x is not that of a TCP connection", byte(h.TransportProtocol))
	}
	tlvs, err := h.TLVs()
	if err != nil {
		return err
	}
	for _, tlv := range tlvs {
		if tlv.Type != proxyproto.PP2_TYPE_SSL {
			continue
		}
		if len(tlv.Value) < 5 {
			return errors.New("SSL information cut off")
		}
		const clientSSL = 1
		encrypted := tlv.Value[0]&clientSSL != 0
		c.encrypted = &encrypted
	}
	c.setEnds(remote, local)
	return nil
}

// Read reads what follows the header.
func (c *proxiedConn) Read(p []byte) (int, error) {
	if err := c.settle(); err != nil {
		return 0, err
	}
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		if c.rest = c.rest[n:]; len(c.rest) == 0 {
			c.rest = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write waits for the header first.
func (c *proxiedConn) Write(p []byte) (int, error) {
	if err := c.settle(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// ReadFrom waits for the header first.
func (c *proxiedConn) ReadFrom(r io.Reader) (int64, error) {
	if err := c.settle(); err != nil {
		return 0, err
	}
	return c.Conn.ReadFrom(r)
}

// RemoteAddr waits for the header and returns the client's address.
func (c *proxiedConn) RemoteAddr() net.Addr {
	_ = c.settle()
	return c.Conn.RemoteAddr()
}

// LocalAddr waits for the header and returns the address that the client
// connected to.
func (c *proxiedConn) LocalAddr() net.Addr {
	_ = c.settle()
	return c.Conn.LocalAddr()
}

// SetReadDeadline sets the deadline for what follows the header. It bounds the
// header as well, if it is earlier.
func (c *proxiedConn) SetReadDeadline(t time.Time) error {
	return c.setReadDeadline(func() { c.readDeadline = t })
}

// SetDeadline sets both deadlines.
func (c *proxiedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetWriteDeadline(t), c.SetReadDeadline(t))
}

// setReadDeadline sets the deadline that applies after a change.
func (c *proxiedConn) setReadDeadline(change func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	t := c.readDeadline
	if !c.done && (t.IsZero() || t.After(c.deadline)) {
		t = c.deadline
	}
	return c.Conn.Conn.SetReadDeadline(t)
}

var (
	errNoBytes       = errors.New("closed without a byte")
	errNotProxy      = errors.New("the connection begins with something else")
	errProxyLine     = fmt.Errorf("the line is longer than %d bytes", maxProxyLine)
	errProxyTooLarge = fmt.Errorf("the header is longer than %d bytes", maxProxyHeader)
)

// readProxyHeader reads a header, however many pieces it comes in, and returns
// what it has read beyond.
func readProxyHeader(r io.Reader) (h *proxyproto.Header, rest []byte, err error) {
	buf := make([]byte, 0, 256) // enough for all headers without certificates
	for {
		size, err := proxyHeaderSize(buf)
		if err != nil {
			return nil, nil, err
		}
		if size > 0 && size <= len(buf) {
			h, err := parseProxyHeader(buf[:size])
			return h, slices.Clone(buf[size:]), err
		}
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, max(size-len(buf), 1))
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case n > 0 || err == nil:
		case errors.Is(err, io.EOF) && len(buf) == 0:
			return nil, nil, errNoBytes
		case errors.Is(err, io.EOF):
			return nil, nil, io.ErrUnexpectedEOF
		default:
			return nil, nil, err
		}
	}
}

// parseProxyHeader parses a header. One of version 2 for an unknown family is
// as one with the command LOCAL: what follows is skipped. The module refuses
// it, though not the same of version 1. It changes header.
func parseProxyHeader(header []byte) (*proxyproto.Header, error) {
	const command = 12 // its position; the family follows
	if bytes.HasPrefix(header, proxyproto.SIGV2) && header[command] == byte(proxyproto.PROXY) &&
		header[command+1] == byte(proxyproto.UNSPEC) {
		header[command] = byte(proxyproto.LOCAL)
	}
	return proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), 256))
}

// proxyHeaderSize returns the size of the header that buf begins with, or 0 as
// long as it cannot be known.
func proxyHeaderSize(buf []byte) (int, error) {
	const prefix = 16 // of version 2: signature, command, family and length
	switch line := "PROXY "; {
	case bytes.HasPrefix(buf, proxyproto.SIGV2):
		if len(buf) < prefix {
			return 0, nil
		}
		size := prefix + int(binary.BigEndian.Uint16(buf[prefix-2:]))
		if size > maxProxyHeader {
			return 0, errProxyTooLarge
		}
		return size, nil
	case bytes.HasPrefix(buf, []byte(line)):
		end := bytes.IndexByte(buf[:min(len(buf), maxProxyLine)], '\n')
		if end < 0 && len(buf) >= maxProxyLine {
			return 0, errProxyLine
		}
		return end + 1, nil
	case bytes.HasPrefix(proxyproto.SIGV2, buf), bytes.HasPrefix([]byte(line), buf):
		return 0, nil
	}
	return 0, errNotProxy
}
