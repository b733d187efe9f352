package splice

import (
	"io"
	"time"

	"github.com/limpetlb/limpet/internal/idletimer"
)

// A Conn is a connection that is closed when nothing has passed in either
// direction for its limit.
type Conn struct {
	io.ReadWriteCloser
	idle *idletimer.Timer
}

// LimitIdle returns c with a limit. Zero or less is none.
func LimitIdle(c io.ReadWriteCloser, limit time.Duration) *Conn {
	return &Conn{c, idletimer.New(limit, func() { _ = c.Close() })}
}

// Read reads from the connection.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(p)
	c.passed(n)
	return n, err
}

// Write writes to the connection.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Write(p)
	c.passed(n)
	return n, err
}

func (c *Conn) passed(n int) {
	if n > 0 {
		c.idle.Begin()
	}
}

// CloseWrite ends the sending direction, if the connection can do that.
func (c *Conn) CloseWrite() error { return CloseWrite(c.ReadWriteCloser) }

// Close closes the connection.
func (c *Conn) Close() error {
	c.idle.Stop()
	return c.ReadWriteCloser.Close()
}
