package splice

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testrace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcp returns both ends of a connection over loopback.
func tcp(t *testing.T) (here, there *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// Each side may end before the other, and still gets all that the other sends.
func TestJoin(t *testing.T) {
	for _, test := range []struct {
		name  string
		early string
		first string // the side that ends first
	}{
		{"client ends first", "", "client"},
		{"server ends first", "", "server"},
		{"early bytes", "early ", "client"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, clientSide := tcp(t)
			serverSide, server := tcp(t)
			early := bufio.NewReader(io.MultiReader(strings.NewReader(test.early), unread{t}))
			if _, err := early.Peek(len(test.early)); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				Join(t.Context(), clientSide, early, serverSide)
			}()
			sides := []struct {
				conn      *net.TCPConn
				says, got string
			}{{client, "from the client", "from the server"}, {server, "from the server", test.early + "from the client"}}
			if test.first == "server" {
				sides[0], sides[1] = sides[1], sides[0]
			}
			if _, err := io.WriteString(sides[0].conn, sides[0].says); err != nil {
				t.Fatal(err)
			}
			if err := sides[0].conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(sides[1].conn); string(got) != sides[1].got || err != nil {
				t.Errorf("the second side gets %q, %v", got, err)
			}
			if _, err := io.WriteString(sides[1].conn, sides[1].says); err != nil {
				t.Fatal(err)
			}
			if err := sides[1].conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(sides[0].conn); string(got) != sides[0].got || err != nil {
				t.Errorf("the first side gets %q, %v", got, err)
			}
			<-done
		})
	}
}

// unread is not to be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("more is read from the reader of the client")
	return 0, io.EOF
}

// What ends one connection at once ends the other, and Join returns: the end of
// its context, a connection that fails, one that cannot end a single direction,
// and a server that does not take what the client has sent early.
func TestJoinEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		early string
		end   func(cancel context.CancelFunc, client, server net.Conn)
	}{
		{"context", "", func(cancel context.CancelFunc, _, _ net.Conn) { cancel() }},
		{"client", "", func(_ context.CancelFunc, client, _ net.Conn) { client.Close() }},
		{"server", "", func(_ context.CancelFunc, _, server net.Conn) { server.Close() }},
		{"server, early", "early", func(_ context.CancelFunc, _, server net.Conn) { server.Close() }},
		{"context, early", "early", func(cancel context.CancelFunc, _, _ net.Conn) { cancel() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, clientSide := net.Pipe() // which has no CloseWrite
				serverSide, server := net.Pipe()
				early := bufio.NewReader(strings.NewReader(test.early))
				_, _ = early.Peek(len(test.early))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan struct{})
				go func() {
					defer close(done)
					Join(ctx, clientSide, early, serverSide)
				}()
				synctest.Wait()
				test.end(cancel, client, server)
				<-done
				for _, side := range []net.Conn{client, server} {
					if _, err := side.Read(make([]byte, 1)); err == nil {
						t.Error("a side is open")
					}
					side.Close()
				}
			})
		})
	}
}

// A connection on which nothing passes is closed, and not before.
func TestLimitIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := LimitIdle(ours, time.Minute)
		start := time.Now()
		go func() {
			for range 3 {
				time.Sleep(50 * time.Second)
				_, _ = theirs.Write([]byte("x"))
				time.Sleep(50 * time.Second)
				_, _ = theirs.Read(make([]byte, 1))
			}
		}()
		for range 3 {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			if _, err := c.Write([]byte("y")); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read from an idle connection")
		}
		if took := time.Since(start); took != 6*50*time.Second+time.Minute {
			t.Errorf("closed after %v", took)
		}
		if err := c.CloseWrite(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("CloseWrite of a pipe: %v", err)
		}
		c.Close()
	})
}

func TestCopyDoesNotAllocateBuffers(t *testing.T) {
	if testrace.Enabled {
		t.Skip("under the race detector, pools drop what they are given")
	}
	source := strings.NewReader("")
	text := strings.Repeat("x", 100<<10)
	n := testing.AllocsPerRun(100, func() {
		source.Reset(text)
		if n, err := Copy(io.Discard, source); n != int64(len(text)) || err != nil {
			t.Error(n, err)
		}
	})
	if n > 2 { // the two values that hide other methods
		t.Errorf("%v allocations", n)
	}
}
