//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1

import (
	"net"
	"syscall"
)

// A probe looks for what has come in over a connection, without taking it.
type probe struct {
	conn  syscall.RawConn
	look  func(fd uintptr) bool // made once, for it is a closure
	empty bool
}

// newProbe returns nil if the connection is none of the system's.
func newProbe(c net.Conn) *probe {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	p := &probe{conn: raw}
	var b [1]byte
	p.look = func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		p.empty = err == syscall.EAGAIN || err == syscall.EINTR
		return true
	}
	return p
}

// quiet reports whether the connection is open and nothing has come in.
func (p *probe) quiet() bool { return p.conn.Read(p.look) == nil && p.empty }
