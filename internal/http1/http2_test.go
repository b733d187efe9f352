package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/limpetlb/limpet/internal/http2test"
	"github.com/limpetlb/limpet/internal/testwait"
)

// serveH2 serves h over HTTP/2 alone, and returns its address and how many
// connections it has had.
func serveH2(t *testing.T, streams int, h http.Handler) (string, *atomic.Int64) {
	t.Helper()
	conns := new(atomic.Int64)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), conns
}

// ask sends a request over HTTP/2.
func ask(t testing.TB, rt http.RoundTripper, method, url, body string) (string, error) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(WithHTTP2(t.Context()), method, url, r)
	if err != nil {
		t.Fatal(err)
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%s %d %s", res.Proto, res.StatusCode, got), err
}

func newHTTP2(t *testing.T, change func(*http.Transport)) *Transport {
	base := settings()
	if change != nil {
		change(base)
	}
	rt := New(base)
	t.Cleanup(rt.CloseIdleConnections)
	return rt
}

// One connection carries what its server lets it, and further ones the rest,
// also when all come at once: 64 clients of a server that takes one stream at a
// time must not wait for one another's streams.
func TestHTTP2Connections(t *testing.T) {
	for _, test := range []struct {
		streams int
		conns   int64
	}{{1, 64}, {16, 4}, {250, 1}} {
		t.Run(fmt.Sprint(test.streams), func(t *testing.T) {
			const clients = 64
			var all sync.WaitGroup
			all.Add(clients)
			addr, conns := serveH2(t, test.streams, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				all.Done()
				all.Wait() // so they are all under way at a time
				fmt.Fprint(w, "ok")
			}))
			rt := newHTTP2(t, nil)
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					if got, err := ask(t, rt, "GET", "http://"+addr, ""); got != "HTTP/2.0 200 ok" || err != nil {
						t.Error(got, err)
					}
				})
			}
			wg.Wait()
			if n := conns.Load(); n != test.conns {
				t.Errorf("%d connections, want %d", n, test.conns)
			}
		})
	}
}

// A server that does not speak HTTP/2 is one that cannot be connected to:
// nothing of the request was sent.
func TestHTTP2Refused(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	none := rawHTTP2(t, func(f *http2.Framer) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
	}, nil)
	for _, test := range []struct{ name, url string }{
		{"HTTP/1", plain.URL},
		{"HTTP/1 over TLS", secure.URL},
		{"nothing", "http://" + mute.Addr().String()},
		{"no connection", "http://" + closed.Addr().String()},
		{"no streams", "http://" + none},
	} {
		t.Run(test.name, func(t *testing.T) {
			rt := newHTTP2(t, func(base *http.Transport) {
				base.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
				base.TLSHandshakeTimeout = 50 * time.Millisecond
				if test.name != "nothing" {
					base.TLSHandshakeTimeout = testwait.Limit
				}
			})
			_, err := ask(t, rt, "POST", test.url, "body")
			if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
				t.Errorf("%v", err)
			}
		})
	}
}

// rawHTTP2 is a server of HTTP/2 that sends what the test wants; see
// [http2test.Serve].
func rawHTTP2(t *testing.T, begin func(*http2.Framer), answer func(conn int, f *http2.Framer, stream uint32)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	http2test.Serve(t, ln, begin, answer)
	return ln.Addr().String()
}

// What a server has not processed is sent again, once, over another connection
// if that one has ended; what it may have processed is not. net/http's
// transport sends a request again that was reset with PROTOCOL_ERROR, and up to
// seven times to a server that refuses it.
func TestHTTP2Again(t *testing.T) {
	for _, test := range []struct {
		name        string
		answer      func(conn int, f *http2.Framer, stream uint32)
		want        string
		unprocessed bool
		tries       int64
	}{
		{"refused", func(_ int, f *http2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, http2.ErrCodeRefusedStream) }, "", true, 1},
		{"protocol error", func(_ int, f *http2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, http2.ErrCodeProtocol) }, "", false, 1},
		{"internal error", func(_ int, f *http2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, http2.ErrCodeInternal) }, "", false, 1},
		{"cancelled", func(_ int, f *http2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, http2.ErrCodeCancel) }, "", false, 1},
		{"going away", func(conn int, f *http2.Framer, stream uint32) {
			if conn == 1 {
				_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
			} else {
				http2test.Respond(f, stream, "second")
			}
		}, "HTTP/2.0 200 second", false, 2},
		{"always going away", func(_ int, f *http2.Framer, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) }, "", true, 2},
		{"going away after it", func(_ int, f *http2.Framer, stream uint32) {
			_ = f.WriteGoAway(stream, http2.ErrCodeNo, nil)
			http2test.Respond(f, stream, "first")
		}, "HTTP/2.0 200 first", false, 1},
	} {
		for method, body := range map[string]string{"GET": "", "POST": "body"} {
			t.Run(test.name+"/"+method, func(t *testing.T) {
				var tries atomic.Int64
				addr := rawHTTP2(t, http2test.Settings, func(conn int, f *http2.Framer, stream uint32) {
					tries.Add(1)
					test.answer(conn, f, stream)
				})
				got, err := ask(t, newHTTP2(t, nil), method, "http://"+addr, body)
				if got != test.want || (err == nil) != (test.want != "") || errors.Is(err, ErrNotProcessed) != test.unprocessed {
					t.Errorf("%q, %v", got, err)
				}
				if n := tries.Load(); n != test.tries {
					t.Errorf("tried %d times, want %d", n, test.tries)
				}
			})
		}
	}
}

// Fields of HTTP/1.1's connections have no place in HTTP/2: net/http refuses a
// request with them.
func TestHTTP2Fields(t *testing.T) {
	addr, _ := serveH2(t, 100, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q %q", r.Header["Upgrade"], r.Header["Connection"], r.Header["Te"])
	}))
	rt := newHTTP2(t, nil)
	for _, test := range []struct {
		name   string
		header http.Header
		want   string
	}{
		{"upgrade", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, `[] [] []`},
		{"connection", http.Header{"Connection": {"keep-alive, x"}, "Keep-Alive": {"5"}, "Proxy-Connection": {"close"}}, `[] [] []`},
		{"trailers", http.Header{"Te": {"trailers"}}, `[] [] ["trailers"]`},
		{"trailers and more", http.Header{"Te": {"gzip, trailers"}}, `[] [] ["trailers"]`},
		{"no trailers", http.Header{"Te": {"gzip"}}, `[] [] []`},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(WithHTTP2(t.Context()), "GET", "http://"+addr, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = test.header.Clone()
			res, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got, _ := io.ReadAll(res.Body); string(got) != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if fmt.Sprint(req.Header) != fmt.Sprint(test.header) {
				t.Errorf("the caller's header is now %v", req.Header)
			}
		})
	}
}

// A request that is given up while a connection is made leaves nothing behind,
// and takes nothing from another that waits.
func TestHTTP2GivenUp(t *testing.T) {
	addr, conns := serveH2(t, 100, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	hold := make(chan struct{})
	dialing := make(chan struct{}, 2)
	rt := newHTTP2(t, func(base *http.Transport) {
		dial := base.DialContext
		if dial == nil {
			dial = new(net.Dialer).DialContext
		}
		base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialing <- struct{}{}
			select {
			case <-hold:
				return dial(ctx, network, addr)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	begin := func(ctx context.Context) <-chan error {
		done := make(chan error, 1)
		go func() {
			req, _ := http.NewRequestWithContext(WithHTTP2(ctx), "GET", "http://"+addr, nil)
			res, err := rt.RoundTrip(req)
			if err == nil {
				res.Body.Close()
			}
			done <- err
		}()
		return done
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := begin(ctx)
	testwait.Receive(t, dialing, "the dial")
	cancel()
	if err := testwait.Receive(t, first, "the request"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	second := begin(t.Context())
	testwait.Receive(t, dialing, "another dial")
	close(hold)
	if err := testwait.Receive(t, second, "the request"); err != nil || conns.Load() != 1 {
		t.Errorf("%v, %d connections", err, conns.Load())
	}
}

// serveMemory serves h over HTTP/2 within the process, for tests with virtual
// time. It returns what dials it.
func serveMemory(t *testing.T, h http.Handler) func(ctx context.Context, network, addr string) (net.Conn, error) {
	ln := memory{make(chan net.Conn), make(chan struct{})}
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-ended
	})
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		ln.conns <- theirs
		return ours, nil
	}
}

type memory struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (m memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m memory) Close() error {
	close(m.closed)
	return nil
}

func (memory) Addr() net.Addr { return &net.TCPAddr{} }

// A call of gRPC gets the header of its response with the first message, which
// may be long in coming; any other request has ResponseHeaderTimeout.
func TestHTTP2HeaderTimeout(t *testing.T) {
	for contentType, survives := range map[string]bool{"application/grpc": true, "Application/GRPC+json; a=b": true, "text/plain": false, "": false} {
		t.Run(contentType, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := serveMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					select {
					case <-time.After(10 * time.Minute):
					case <-r.Context().Done():
					}
				}))
				rt := newHTTP2(t, func(base *http.Transport) {
					base.DialContext, base.ResponseHeaderTimeout = dial, time.Minute
				})
				req, err := http.NewRequestWithContext(WithHTTP2(t.Context()), "POST", "http://a/", strings.NewReader("message"))
				if err != nil {
					t.Fatal(err)
				}
				if contentType != "" {
					req.Header.Set("Content-Type", contentType)
				}
				begun := time.Now()
				res, err := rt.RoundTrip(req)
				if (err == nil) != survives {
					t.Error(err)
				}
				if err == nil {
					res.Body.Close()
				} else if took := time.Since(begun); took != time.Minute {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// A server that is dead, whose connection stays as it was, is noticed within
// half a minute, and its streams end.
func TestHTTP2DeadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := serveMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		var conn *dying
		rt := newHTTP2(t, func(base *http.Transport) {
			base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				conn = &dying{Conn: c, dead: make(chan struct{}), closed: make(chan struct{})}
				return conn, err
			}
		})
		req, err := http.NewRequestWithContext(WithHTTP2(t.Context()), "GET", "http://a/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		close(conn.dead)
		begun := time.Now()
		_, err = io.ReadAll(res.Body)
		if took := time.Since(begun); err == nil || took > http2SendPing+http2Ping {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// A dying connection takes all and gives nothing once it is dead.
type dying struct {
	net.Conn
	dead, closed chan struct{}
	once         sync.Once
}

func (c *dying) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.dead:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *dying) Write(p []byte) (int, error) {
	select {
	case <-c.dead:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

func (c *dying) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A connection that nobody uses is closed after IdleConnTimeout, and one that
// was closed is not used again.
func TestHTTP2Idle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := serveMemory(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		dials := 0
		rt := newHTTP2(t, func(base *http.Transport) {
			base.IdleConnTimeout = time.Minute
			base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials++
				return dial(ctx, network, addr)
			}
		})
		for _, test := range []struct {
			pause time.Duration
			close bool
			dials int
		}{{0, false, 1}, {50 * time.Second, false, 1}, {70 * time.Second, false, 2}, {time.Second, true, 3}} {
			time.Sleep(test.pause)
			if test.close {
				rt.CloseIdleConnections()
			}
			if _, err := ask(t, rt, "GET", "http://a/", ""); err != nil || dials != test.dials {
				t.Errorf("after %v: %d dials, %v", test.pause, dials, err)
			}
			synctest.Wait()
		}
	})
}
