package acceptance_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// serveBubble serves h by a server with our limits, in the virtual time of the
// caller. Each call of dial is a connection.
func serveBubble(t *testing.T, h http.HandlerFunc) (dial func() net.Conn, stop func()) {
	t.Helper()
	_, _, dial, stop = serveBubbleWith(t, h, limpet.ConnectionLimits{})
	return dial, stop
}

// serveBubbleWith does so with limits, and returns what serves as well.
func serveBubbleWith(t *testing.T, h http.HandlerFunc, limits limpet.ConnectionLimits) (vs *limpet.VirtualService, srv *http.Server, dial func() net.Conn, stop func()) {
	t.Helper()
	limits.Max = -1 // of connections that are no files there may be any number
	vs, err := limpet.New(limpet.Config{Clients: limpet.Clients{Connections: limits}})
	if err != nil {
		t.Fatal(err)
	}
	l := &closedListener{fakeListener: fakeListener{make(chan net.Conn)}, closed: make(chan struct{})}
	srv = limpet.NewServer(vs.Wrap(h))
	srv.ErrorLog = serverLog(t)
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(l)) }()
	dial = func() net.Conn {
		theirs, ours := net.Pipe()
		l.conns <- theirs
		return ours
	}
	return vs, srv, dial, func() {
		close(l.conns)
		srv.Close()
		<-done
	}
}

// A closedListener accepts nothing more when it is closed.
type closedListener struct {
	fakeListener
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *closedListener) Accept() (net.Conn, error) {
	select {
	case c, ok := <-l.conns:
		if ok {
			return c, nil
		}
	case <-l.closed:
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *closedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// The limit for parts of bodies is that of the configuration.
func TestBodyTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, dial, stop := serveBubbleWith(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		}, limpet.ConnectionLimits{BodyTimeout: 7 * time.Second})
		defer stop()
		c := dial()
		defer c.Close()
		go io.WriteString(c, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\nx")
		if took := closedAfter(c); took < 7*time.Second || took > 8*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// Connections may be idle after a drain for as long as the configuration says.
func TestDrainIdle(t *testing.T) {
	for idle, want := range map[time.Duration]time.Duration{0: 5 * time.Second, 20 * time.Second: 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			vs, srv, dial, stop := serveBubbleWith(t, func(http.ResponseWriter, *http.Request) {}, limpet.ConnectionLimits{DrainIdle: idle})
			defer stop()
			c := dial()
			defer c.Close()
			askAgain(t, c, bufio.NewReader(c))
			ended := make(chan error, 1)
			go func() { ended <- vs.Shutdown(t.Context(), srv) }()
			if took := closedAfter(c); took < want || took > want+time.Second {
				t.Errorf("closed after %v, not %v", took, want)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// closedAfter reads until the server closes the connection, and returns when
// that was.
func closedAfter(c net.Conn) time.Duration {
	start := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(start)
}

// TestSlowHeaders has many clients that send a byte of their header every ten
// seconds.
func TestSlowHeaders(t *testing.T) {
	n := 10_000
	if testrace.Enabled {
		n = 1_000
	}
	if testing.Short() {
		n = 1_000
	}
	synctest.Test(t, func(t *testing.T) {
		dial, stop := serveBubble(t, func(http.ResponseWriter, *http.Request) { t.Error("served") })
		defer stop()
		var wg sync.WaitGroup
		for range n {
			c := dial()
			wg.Go(func() {
				for i := range 100 {
					if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"[i%16:i%16+1]); err != nil {
						return
					}
					time.Sleep(10*time.Second + 1)
				}
			})
			wg.Go(func() {
				if took := closedAfter(c); took != 10*time.Second {
					t.Errorf("closed after %v", took)
				}
				c.Close()
			})
		}
		wg.Wait()
	})
}

// askAgain sends a request and reads the answer.
func askAgain(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	go io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
}

func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, stop := serveBubble(t, func(http.ResponseWriter, *http.Request) {})
		defer stop()
		c := dial()
		defer c.Close()
		r := bufio.NewReader(c)
		for range 5 { // to be slow is allowed
			askAgain(t, c, r)
			time.Sleep(59 * time.Second)
		}
		askAgain(t, c, r)
		if took := closedAfter(c); took != 60*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// TestSlowBodies is about clients that do not send what they have announced,
// whether the handler reads it or not; and about one that is slow, but alive.
func TestSlowBodies(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	}
	synctest.Test(t, func(t *testing.T) {
		dial, stop := serveBubble(t, read)
		defer stop()
		for _, path := range []string{"/read", "/unread"} {
			for range 100 {
				c := dial()
				go io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\nx")
				if took := closedAfter(c); took < 60*time.Second || took > 61*time.Second {
					t.Errorf("%s: closed after %v", path, took)
				}
				c.Close()
			}
		}
		c := dial()
		defer c.Close()
		go func() {
			io.WriteString(c, "POST /read HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\n")
			for range 100 {
				time.Sleep(55 * time.Second)
				if _, err := io.WriteString(c, "x"); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "100 <nil>" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		askAgain(t, c, r) // the connection is as good as new
	})
}

// A handler that is slow after it has read the body is not disturbed, nor is
// one that hijacks the connection.
func TestSlowHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, stop := serveBubble(t, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
			select {
			case <-r.Context().Done():
				t.Error("the request was given up")
			case <-time.After(time.Hour):
			}
			if r.Header.Get("Upgrade") != "" {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}
		})
		defer stop()
		c := dial()
		defer c.Close()
		go io.WriteString(c, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\nx")
		r := bufio.NewReader(c)
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 200 {
			t.Error(res, err)
		}
		go io.WriteString(c, "POST / HTTP/1.1\r\nHost: example.com\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx")
		time.Sleep(2 * time.Hour)
		go io.WriteString(c, "echo")
		echo := make([]byte, 4)
		if _, err := io.ReadFull(r, echo); string(echo) != "echo" {
			t.Errorf("%q, %v", echo, err)
		}
	})
}

// TestSlowReaders is about clients that do not read their responses.
func TestSlowReaders(t *testing.T) {
	n := 1_000
	if testrace.Enabled {
		n = 100
	}
	if testing.Short() {
		n = 100
	}
	var wg sync.WaitGroup
	synctest.Test(t, func(t *testing.T) {
		dial, stop := serveBubble(t, func(w http.ResponseWriter, r *http.Request) {
			defer wg.Done()
			start := time.Now()
			_, err := io.Copy(w, io.LimitReader(zeros{}, 10<<20))
			if took := time.Since(start); err == nil || took < 60*time.Second || took > 70*time.Second {
				t.Errorf("the response ended after %v with %v", took, err)
			}
		})
		defer stop()
		for range n {
			wg.Add(1)
			c := dial()
			defer c.Close()
			go func() {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
				_, _ = io.ReadFull(c, make([]byte, 1000))
			}()
		}
		wg.Wait()
	})
}

// A client of HTTP/2 that takes nothing of its answers loses its streams, as it
// loses its connection over HTTP/1. It held them, and a connection to a server
// with each, for as long as it answered pings: with a window of 0 nothing is
// written that could be late.
func TestSlowReadersHTTP2(t *testing.T) {
	for _, test := range []struct {
		name         string
		path         string
		writeTimeout time.Duration
		window       uint32        // of each stream
		within       time.Duration // streams are reset; 0: never
	}{
		{"short answer", "/short", 0, 0, 60 * time.Second},
		{"short answer, another limit", "/short", 5 * time.Second, 0, 5 * time.Second},
		{"short answer that is taken", "/short", 0, 1000, 0},
		{"no window", "/", 0, 0, 60 * time.Second},
		{"a window for the beginning", "/", 0, 1000, 60 * time.Second},
		{"flushed", "/flushed", 0, 0, 60 * time.Second},
		{"another limit", "/", 5 * time.Second, 0, 5 * time.Second},
		{"no limit", "/", -1, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failed atomic.Int32
				limits := limpet.ConnectionLimits{Max: -1, WriteTimeout: test.writeTimeout}
				h, stop := serveBubbleHTTP2(t, limits, func(w http.ResponseWriter, r *http.Request) {
					var err error
					switch r.URL.Path {
					case "/short": // net/http sends it after the handler
						_, _ = io.WriteString(w, "short")
						return
					case "/flushed":
						_, _ = io.WriteString(w, "x")
						err = http.NewResponseController(w).Flush()
					default:
						_, err = io.Copy(w, io.LimitReader(zeros{}, 10<<20))
					}
					if err != nil {
						failed.Add(1)
					}
				})
				defer stop()
				h.frame(frameSettings, 0, 0, append([]byte{0, 4}, binary.BigEndian.AppendUint32(nil, test.window)...))
				const streams = 200
				for range streams {
					h.request(true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", test.path)
				}
				time.Sleep(time.Hour)
				want := 0
				if test.within > 0 {
					want = streams
				}
				wantFailed := want
				if test.path == "/short" {
					wantFailed = 0
				}
				if n, resets := int(failed.Load()), int(h.resets.Load()); n != wantFailed || resets != want {
					t.Errorf("%d handlers have failed, and %d streams were reset, want %d and %d", n, resets, wantFailed, want)
				}
				if last := time.Duration(h.lastReset.Load()); last != test.within {
					t.Errorf("the last stream was reset after %v", last)
				}
			})
		})
	}
}

// Over HTTP/2, too, a client that takes little at a time is served.
func TestPatientReadersHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const part, parts = 64 << 10, 20
		ended := make(chan error, 1)
		h, stop := serveBubbleHTTP2(t, limpet.ConnectionLimits{Max: -1}, func(w http.ResponseWriter, r *http.Request) {
			_, err := w.Write(make([]byte, part*parts))
			ended <- err
		})
		defer stop()
		h.frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 0})
		stream := h.request(true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/")
		for range parts {
			time.Sleep(55 * time.Second)
			h.frame(frameWindow, 0, 0, binary.BigEndian.AppendUint32(nil, part))
			h.frame(frameWindow, 0, stream, binary.BigEndian.AppendUint32(nil, part))
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// serveBubbleHTTP2 is serveBubble for one connection of HTTP/2, which answers
// pings.
func serveBubbleHTTP2(t *testing.T, limits limpet.ConnectionLimits, h http.HandlerFunc) (*rawHTTP2, func()) {
	t.Helper()
	vs, err := limpet.New(limpet.Config{Clients: limpet.Clients{Connections: limits}})
	if err != nil {
		t.Fatal(err)
	}
	srv := limpet.NewServer(vs.Wrap(h))
	srv.ErrorLog = serverLog(t)
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetUnencryptedHTTP2(true)
	l := fakeListener{make(chan net.Conn)}
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(l)) }()
	theirs, ours := net.Pipe()
	l.conns <- tcpPipe{theirs}
	return newRawHTTP2Async(t, ours), func() {
		ours.Close()
		close(l.conns)
		srv.Close()
		<-done
	}
}

// A tcpPipe looks like a connection of TCP.
type tcpPipe struct{ net.Conn }

func (tcpPipe) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func (tcpPipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1234} }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestConnectionMemory measures what a connection takes that sends the
// beginning of a header, on real sockets.
func TestConnectionMemory(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	const n = 1_000
	vs := newVirtualService(t, limpet.Config{})
	srv := limpet.NewServer(vs)
	ln := listen(t, "")
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(ln)) }()
	before := liveMemory()
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	testwait.Until(t, "the server's part", func() bool { return vs.Stats().OpenConnections == n })
	each := (liveMemory() - before) / n
	t.Logf("%d bytes for each connection, the client's end included", each)
	if each > 20<<10 {
		t.Errorf("%d bytes for each connection", each)
	}
	runtime.KeepAlive(conns)
	srv.Close()
	<-done
}

// TestRequestMemory measures what a request takes that is under way, with its
// connections to the client and to the server: one whose response is late, one
// whose response does not end, and one whose body the server does not read.
// docs/operations/sizing.md reckons with 120 KiB.
func TestRequestMemory(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	const n, most = 200, 120 << 10
	backend := listen(t, "")
	t.Cleanup(func() { backend.Close() })
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: backend.Addr().String()})}})
	site := startSite(t, http1, vs.Listener(listen(t, "")), limpet.NewServer(vs).Handler)
	for _, test := range []struct{ name, request, response string }{
		{"late", "GET / HTTP/1.1\nHost: a\n\n", ""},
		{"stream", "GET / HTTP/1.1\nHost: a\n\n", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000)},
		{"upload", "POST / HTTP/1.1\nHost: a\nContent-Length: 1000000\n\n" + strings.Repeat("x", 100_000), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := liveMemory()
			var conns []net.Conn
			for range n {
				c := site.dial(t, "")
				send(t, c, test.request)
				server, err := backend.Accept()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { server.Close() })
				_, _ = server.Read(make([]byte, 1000))
				if test.response != "" {
					io.WriteString(server, test.response)
					_, _ = c.Read(make([]byte, 1000))
				}
				conns = append(conns, c)
			}
			each := (liveMemory() - before) / n
			t.Logf("%d bytes for each request, both other ends included", each)
			if each > most {
				t.Errorf("%d bytes for each request", each)
			}
			for _, c := range conns {
				c.Close()
			}
		})
	}
}

// liveMemory is what the process holds in use.
func liveMemory() int64 {
	var m runtime.MemStats
	for range 3 { // pools of other tests need two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func TestNewServer(t *testing.T) {
	for _, p := range []protocol{http1, http1TLS, http2TLS} {
		vs := newVirtualService(t, limpet.Config{})
		srv := limpet.NewServer(vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		})))
		site := startSite(t, p, vs.Listener(listen(t, "")), srv.Handler)
		res, body := fetch(t, site.client(t), newRequest(t, "POST", site.URL, strings.NewReader("a body")))
		if body != "a body" || res.ProtoMajor != p.major() {
			t.Errorf("%s %q", res.Proto, body)
		}
	}
}
