package acceptance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/lbpool"
)

// serveBubble serves h by a server with our limits, in the virtual time of the
// caller. Each call of dial is a connection.
func serveBubble(t *testing.T, h http.HandlerFunc) (dial func() net.Conn, stop func()) {
	t.Helper()
	// Of connections that are no files there may be any number.
	vs, err := limpet.New(limpet.Config{Clients: limpet.Clients{Connections: limpet.ConnectionLimits{Max: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	l := fakeListener{make(chan net.Conn)}
	srv := limpet.NewServer(vs.Wrap(h))
	srv.ErrorLog = serverLog(t)
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(l)) }()
	dial = func() net.Conn {
		theirs, ours := net.Pipe()
		l.conns <- theirs
		return ours
	}
	return dial, func() {
		close(l.conns)
		srv.Close()
		<-done
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
	synchronize(t, func() bool { return vs.Stats().OpenConnections == n })
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
