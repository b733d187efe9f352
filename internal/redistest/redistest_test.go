package redistest

import (
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testwait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a server has saved is there again after Stop and Restart, at the same
// address; what it has not saved is lost with Kill.
func TestServer(t *testing.T) {
	s := Start(t)
	addr := s.Addr
	s.Command("SET", "kept", "1")
	s.Stop()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the server is there after Stop")
	}
	s.Restart()
	if got := s.Command("GET", "kept"); got != "$1\r\n1\r\n" || s.Addr != addr {
		t.Errorf("after a restart at %s: %q", s.Addr, got)
	}
	s.Command("SET", "lost", "1")
	s.Kill()
	s.Restart()
	if got := s.Command("EXISTS", "kept", "lost"); got != ":1\r\n" {
		t.Errorf("after a kill: %q", got)
	}
}

// A paused server takes connections and says nothing.
func TestPause(t *testing.T) {
	s := Start(t)
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.Pause()
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 16)); err == nil {
		t.Errorf("a paused server says %d bytes", n)
	}
	s.Resume()
	c.SetReadDeadline(time.Now().Add(testwait.Limit))
	b := make([]byte, 16)
	if n, err := c.Read(b); string(b[:n]) != "+PONG\r\n" {
		t.Errorf("after Resume: %q, %v", b[:n], err)
	}
}
