//go:build unix

package accept

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// TestDuplicate: a handle was made that put the socket into blocking mode for a
// moment, and an Accept that fell into it could not be ended by a deadline.
func TestDuplicate(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = t.TempDir() + "/socket"
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		f, err := Duplicate(ln)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		again, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		raw, err := ln.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []net.Listener{ln, again} {
			if err := l.(interface{ SetDeadline(t time.Time) error }).SetDeadline(time.Now()); err != nil {
				t.Fatal(err)
			}
			if c, err := l.Accept(); err == nil {
				c.Close()
				t.Error("somebody was there")
			}
		}
		err = raw.Control(func(fd uintptr) { // which returns at once if the socket does not block
			if _, _, err := syscall.Accept(int(fd)); err != syscall.EAGAIN {
				t.Errorf("%s: accept returns %v", network, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := Duplicate(newFakeListener()); err == nil {
		t.Error("no error for a listener without a socket")
	}
}
