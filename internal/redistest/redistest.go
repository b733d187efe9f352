// Package redistest starts Redis servers for tests. They listen on free ports
// of the loopback interface, keep their data in a directory of the test, and
// end with it.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testwait"
)

// A Server is a running redis-server. Its methods must not be called
// concurrently.
type Server struct {
	// Addr is where it listens, as host:port.
	Addr string

	tb   testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
	log  lockedBuffer
}

// Start starts a server with additional arguments, such as "--maxmemory",
// "10mb", and waits until it answers. The test fails if there is no
// redis-server.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, dir: tb.TempDir(), args: args}
	tb.Cleanup(s.Kill)
	for range 5 { // somebody else may take the port
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		s.Addr = ln.Addr().String()
		ln.Close()
		if s.start() {
			return s
		}
	}
	tb.Fatalf("redis-server does not start:\n%s", s.log.String())
	return nil
}

// Kill ends the process at once, like kill -9. What it has not saved is lost.
func (s *Server) Kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		<-s.done
		s.cmd = nil
	}
}

// Stop has the server save its data and end.
func (s *Server) Stop() {
	s.tb.Helper()
	if s.cmd == nil {
		return
	}
	s.Command("SHUTDOWN", "SAVE")
	select {
	case <-s.done:
		s.cmd = nil
	case <-time.After(testwait.Limit):
		s.tb.Fatal("redis-server does not end")
	}
}

// Restart starts a server that has ended, at the same address with the data it
// had saved.
func (s *Server) Restart() {
	s.tb.Helper()
	if !s.start() {
		s.tb.Fatalf("redis-server does not start again:\n%s", s.log.String())
	}
}

// Pause stops the process without closing connections, and Resume lets it go
// on.
func (s *Server) Pause() { s.signal("STOP") }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal("CONT") }

func (s *Server) signal(name string) {
	s.tb.Helper()
	// The shell's own kill: a small machine has no program of that name.
	if out, err := exec.Command("sh", "-c", fmt.Sprintf("kill -%s %d", name, s.cmd.Process.Pid)).CombinedOutput(); err != nil {
		s.tb.Fatalf("kill -%s: %v: %s", name, err, out)
	}
}

// Command sends a command on a connection of its own and returns what the
// server answers at first, in its protocol.
func (s *Server) Command(args ...string) string {
	s.tb.Helper()
	reply, err := s.command(args...)
	if err != nil && args[0] != "SHUTDOWN" {
		s.tb.Fatalf("%q: %v", args, err)
	}
	return reply
}

func (s *Server) command(args ...string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Addr, testwait.Limit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testwait.Limit))
	line := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		line = fmt.Appendf(line, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := c.Write(line); err != nil {
		return "", err
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// start starts the process and reports whether it answers.
func (s *Server) start() bool {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := append([]string{
		"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--dbfilename", "dump.rdb", "--save", "", "--appendonly", "no",
		"--daemonize", "no", "--logfile", "", "--pidfile", filepath.Join(s.dir, "pid"), "--cluster-config-file", filepath.Join(s.dir, "nodes.conf"),
	}, s.args...)
	cmd, done := exec.Command("redis-server", args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("%v (Debian's package redis-server has it)", err)
	}
	s.cmd, s.done = cmd, done
	go func() {
		cmd.Wait()
		close(done)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(testwait.Limit); time.Now().Before(end); {
		if reply, err := s.command("PING"); err == nil && (reply == "+PONG\r\n" || bytes.HasPrefix([]byte(reply), []byte("-NOAUTH"))) {
			return true
		}
		select {
		case <-done:
			s.cmd = nil
			return false
		case <-tick.C:
		}
	}
	s.Kill()
	return false
}

// A lockedBuffer takes the output of a process while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
