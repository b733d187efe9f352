package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testwait"
)

// dyingConn is a connection that breaks at its second use.
type dyingConn struct {
	net.Conn
	dying *atomic.Bool
	how   string
	uses  int
}

func (c *dyingConn) Write(p []byte) (int, error) {
	c.uses++
	if c.uses > 1 && c.dying.CompareAndSwap(true, false) {
		switch c.how {
		case "nothing written":
			return 0, errors.New("broken")
		case "half written":
			n, _ := c.Conn.Write(p[:len(p)/2])
			c.Conn.Close()
			return n, errors.New("broken")
		}
	}
	return c.Conn.Write(p)
}

// TestRetries is the matrix of methods, bodies and failures of a connection
// that was idle. What the server has seen of a request that may not be repeated
// it must not see again.
func TestRetries(t *testing.T) {
	for _, how := range []string{"nothing written", "half written", "closed by the server", "reset by the server", "half a response"} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH"} {
			for _, body := range []string{"none", "replayable", "once"} {
				for _, key := range []bool{false, true} {
					if method == "TRACE" && body != "none" {
						continue
					}
					var outcome [2]string
					// Under load an http.Transport may well give up the idle
					// connection that this is about.
					for i, reused := 0, false; i < 2; reused = false {
						own := i == 1
						var seen, conns atomic.Int32
						var dying atomic.Bool
						s := serve(t, func(c net.Conn, r *bufio.Reader) {
							first := conns.Add(1) == 1
							for n := 0; ; n++ {
								req, err := http.ReadRequest(r)
								if err != nil {
									return
								}
								if _, err := io.Copy(io.Discard, req.Body); err != nil {
									return
								}
								if n > 0 || !first {
									seen.Add(1)
								}
								if n > 0 && first {
									switch how {
									case "reset by the server":
										c.(*net.TCPConn).SetLinger(0)
									case "half a response":
										io.WriteString(c, "HTTP/1.1 2")
									}
									return
								}
								if req.Method == "HEAD" {
									io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
								} else {
									io.WriteString(c, ok)
								}
							}
						})
						base := settings()
						base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
							c, err := new(net.Dialer).DialContext(ctx, network, addr)
							return &dyingConn{Conn: c, dying: &dying, how: how}, err
						}
						rt := start(t, own, base)
						wantOK(t, rt, newRequest(t, "GET", s.url, nil))
						dying.Store(true)
						var content io.Reader
						if body != "none" {
							content = strings.NewReader("body")
						}
						r := newRequest(t, method, s.url, content)
						if body == "once" {
							r.GetBody = nil
						}
						if key {
							r.Header["Idempotency-Key"] = nil
						}
						_, _, err := fetch(rt, traced(r, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
							reused = reused || info.Reused
						}}))
						rt.CloseIdleConnections()
						if !reused && !own {
							continue
						}
						outcome[i] = fmt.Sprintf("answered: %v, seen %d times, over %d connections", err == nil, seen.Load(), conns.Load())
						harmless := method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE" || key
						if !harmless && seen.Load() > 1 {
							t.Errorf("%s, %s with body %s: seen %d times", how, method, body, seen.Load())
						}
						i++
					}
					if how == "half written" {
						// By the standard it depends on which of two goroutines
						// sees the failure first.
						outcome[0] = "answered: false, seen 0 times, over 1 connections"
						repeatable := method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE" || key
						if repeatable && body != "once" {
							outcome[0] = "answered: true, seen 1 times, over 2 connections"
						}
					}
					if outcome[0] != outcome[1] {
						t.Errorf("%s, %s with body %s, key %v: %s by the standard, %s by ours", how, method, body, key, outcome[0], outcome[1])
					}
				}
			}
		}
	}
}

// TestDeadIdleConnection lets the server close connections, or talk, while they
// are idle: even a request that cannot be repeated goes through.
func TestDeadIdleConnection(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(c net.Conn)
	}{
		{"closed", func(c net.Conn) { c.Close() }},
		{"half closed", func(c net.Conn) { c.(*net.TCPConn).CloseWrite() }},
		{"reset", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }},
		{"a response that nobody has asked for", func(c net.Conn) { io.WriteString(c, ok) }},
		{"timed out", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\n\r\n"); c.Close() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					io.WriteString(c, ok)
				}
			})
			rt := start(t, true, nil).(*Transport)
			for range 3 {
				r := newRequest(t, "POST", s.url, strings.NewReader("body"))
				r.GetBody = nil
				wantOK(t, rt, r)
				test.do(testwait.Receive(t, s.accepted, "a connection"))
				rt.idle.mu.Lock()
				idle := rt.idle.queue.latest
				rt.idle.mu.Unlock()
				for idle.alive() { // the news takes a moment
				}
			}
			if n := s.connections(); n != 3 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestContinue(t *testing.T) {
	const proceed, refused = "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n"
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		for _, test := range []struct {
			name     string
			first    string // before the body is read
			last     string // after that
			timeout  time.Duration
			status   int
			sent     bool
			standard bool // whether the body is sent by an http.Transport, where that differs
		}{
			{"proceed", proceed, ok, testwait.Limit, 200, true, true},
			{"proceed after hints", "HTTP/1.1 103 Hints\r\n\r\n" + proceed, ok, testwait.Limit, 200, true, true},
			{"no word", "", ok, time.Millisecond, 200, true, true},
			{"no time", "", ok, 0, 200, true, true},
			{"refused", refused + "Connection: close\r\n\r\nno", "", testwait.Limit, 413, false, false},
			{"refused, and the connection kept", refused + "\r\nno", "", testwait.Limit, 413, false, true},
		} {
			t.Run(test.name, func(t *testing.T) {
				s := serve(t, func(c net.Conn, r *bufio.Reader) {
					for {
						if _, err := readHead(r); err != nil {
							return
						}
						io.WriteString(c, test.first)
						if _, err := r.Discard(len("body")); err != nil {
							return
						}
						io.WriteString(c, test.last)
					}
				})
				base := settings()
				base.ExpectContinueTimeout = test.timeout
				rt := start(base)
				for range 3 {
					body := &trackedBody{Reader: strings.NewReader("body")}
					r := newRequest(t, "PUT", s.url, body)
					r.ContentLength = 4
					r.Header.Set("Expect", "100-continue")
					continued := 0
					resp, _, err := fetch(rt, traced(r, &httptrace.ClientTrace{Got100Continue: func() { continued++ }}))
					if err != nil || resp.StatusCode != test.status {
						t.Fatal(resp, err)
					}
					if said := strings.Contains(test.first, proceed); (continued == 1) != said {
						t.Errorf("continued %d times", continued)
					}
					if n, closed := body.uses(); own && ((n > 0) != test.sent || closed != 1) {
						t.Errorf("%d bytes sent, closed %d times", n, closed)
					}
					rt.CloseIdleConnections()
				}
			})
		}
	})
}

// arrivedBody says how much of it is here.
type arrivedBody struct {
	*trackedBody
	here  int
	known bool
}

func (b arrivedBody) Buffered() (int, bool) { return b.here, b.known }

// lenBody is in memory.
type lenBody struct{ *strings.Reader }

func (lenBody) Close() error { return nil }

// TestContinueNotAwaited sends a body behind its request, as some clients do
// that expect 100 (Continue) in words only, to a server that says nothing: each
// request took a second, which was spent waiting for a word that nobody needs.
func TestContinueNotAwaited(t *testing.T) {
	for _, test := range []struct {
		name  string
		body  func() io.Reader
		waits bool
	}{
		{"all here", func() io.Reader { return arrivedBody{&trackedBody{Reader: strings.NewReader("body")}, 4, true} }, false},
		{"a part here", func() io.Reader { return arrivedBody{&trackedBody{Reader: strings.NewReader("body")}, 1, true} }, false},
		{"in memory", func() io.Reader { return lenBody{strings.NewReader("body")} }, false},
		{"nothing here", func() io.Reader { return arrivedBody{&trackedBody{Reader: strings.NewReader("body")}, 0, true} }, true},
		{"unknown", func() io.Reader { return arrivedBody{&trackedBody{Reader: strings.NewReader("body")}, 4, false} }, true},
		{"it does not tell", func() io.Reader { return &trackedBody{Reader: strings.NewReader("body")} }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				for {
					if _, err := readHead(r); err != nil {
						return
					}
					if test.waits {
						io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
					}
					if _, err := r.Discard(len("body")); err != nil {
						return
					}
					io.WriteString(c, ok)
				}
			})
			rt := start(t, true, nil) // which waits for longer than this test may take
			for range 2 {
				r := newRequest(t, "PUT", s.url, test.body())
				r.ContentLength = 4
				r.Header.Set("Expect", "100-continue")
				waited := false
				wantOK(t, rt, traced(r, &httptrace.ClientTrace{Wait100Continue: func() { waited = true }}))
				if waited != test.waits {
					t.Errorf("waited: %v", waited)
				}
			}
			if n := s.connections(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestEarlyResponse gets its response while the request body is far from its
// end.
func TestEarlyResponse(t *testing.T) {
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		s := serve(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for { // an echo, chunk by chunk
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				io.WriteString(c, line)
				if line == "0\r\n" {
					io.WriteString(c, "\r\n")
					return
				}
			}
		})
		body, upload := io.Pipe()
		resp, err := start(nil).RoundTrip(newRequest(t, "POST", s.url, body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for i := range 10 {
			message := fmt.Sprint("message ", i)
			if _, err := io.WriteString(upload, message); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(message))
			if _, err := io.ReadFull(resp.Body, got); string(got) != message || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		}
		upload.Close()
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// TestRefusal gets the answer of a server that takes no more of the request and
// closes the connection.
func TestRefusal(t *testing.T) {
	s := serve(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
		}
	})
	body, upload := io.Pipe()
	defer upload.Close()
	go func() { // without end
		for {
			if _, err := upload.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}()
	resp, text, err := fetch(start(t, true, nil), newRequest(t, "POST", s.url, body))
	if err != nil || resp.StatusCode != 413 || text != "no" {
		t.Errorf("%v, %q, %v", resp, text, err)
	}
	body.Close()
}

// TestCancellation cancels requests at each point of their way. What a server
// or the sender of a body does not do must not delay them.
func TestCancellation(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(c net.Conn, r *bufio.Reader) // calls reached when the request is where it is to be cancelled
		body   bool
		inBody bool // the response has begun
	}{
		{name: "awaiting the header", answer: func(c net.Conn, r *bufio.Reader) { readHead(r) }},
		{name: "within the header", answer: func(c net.Conn, r *bufio.Reader) { readHead(r); io.WriteString(c, "HTTP/1.1 200 OK\r\nA: b") }},
		{name: "sending", body: true, answer: func(c net.Conn, r *bufio.Reader) { readHead(r) }},
		{name: "within the body", inBody: true, answer: func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok")
		}},
		{name: "sending, within the body", body: true, inBody: true, answer: func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			reached, left := make(chan bool, 1), make(chan bool, 1)
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				test.answer(c, r)
				reached <- true
				io.Copy(io.Discard, r)
				left <- true
			})
			because := errors.New("the reason")
			ctx, cancel := context.WithCancelCause(t.Context())
			var body io.Reader
			if test.body {
				pipe, upload := io.Pipe()
				defer upload.Close()
				defer pipe.Close()
				body = pipe
			}
			r := newRequest(t, "POST", s.url, body).WithContext(ctx)
			failed := make(chan error, 1)
			go func() {
				_, _, err := fetch(start(t, true, nil), r)
				failed <- err
			}()
			testwait.Receive(t, reached, "the server")
			cancel(because)
			if err := testwait.Receive(t, failed, "the request"); !errors.Is(err, because) {
				t.Errorf("error %v", err)
			}
			testwait.Receive(t, left, "the server to see it")
		})
	}
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		body := &trackedBody{Reader: strings.NewReader("body")}
		_, _, err := fetch(start(t, true, nil), newRequest(t, "POST", "http://127.0.0.1:1", body).WithContext(ctx))
		if _, closed := body.uses(); !errors.Is(err, context.Canceled) || closed != 1 {
			t.Errorf("%v, closed %d times", err, closed)
		}
	})
	t.Run("connecting", func(t *testing.T) {
		base := settings()
		dialing := make(chan bool, 1)
		base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialing <- true
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-dialing; cancel() }()
		if _, _, err := fetch(start(t, true, base), newRequest(t, "GET", "http://127.0.0.1:1", nil).WithContext(ctx)); err != context.Canceled {
			t.Error(err)
		}
	})
}

// TestHeaderTimeout waits until the timeout for a header, or for the rest of
// one. The time starts when the request has been sent.
func TestHeaderTimeout(t *testing.T) {
	for _, body := range []string{"", "body"} {
		both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
			s := serve(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
			base := settings()
			base.ResponseHeaderTimeout = 20 * time.Millisecond
			_, _, err := fetch(start(base), newRequest(t, "POST", s.url, strings.NewReader(body)))
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("slow bodies are no reason", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			base := settings()
			base.ResponseHeaderTimeout = time.Second
			base.DialContext = func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					r := bufio.NewReader(there)
					req, err := http.ReadRequest(r)
					if err == nil {
						_, err = io.Copy(io.Discard, req.Body)
					}
					if err != nil {
						t.Error(err)
					}
					io.WriteString(there, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
					time.Sleep(time.Hour)
					io.WriteString(there, "k")
				}()
				return here, nil
			}
			body, upload := io.Pipe()
			go func() {
				time.Sleep(time.Hour)
				io.WriteString(upload, "body")
				upload.Close()
			}()
			rt := New(base)
			defer rt.CloseIdleConnections()
			r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://site.example", body)
			wantOK(t, rt, r)
		})
	})
}

func TestUpgrade(t *testing.T) {
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		left := make(chan string, 1)
		s := serve(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly ")
			all, _ := io.ReadAll(r)
			io.WriteString(c, "late")
			left <- string(all)
		})
		ctx, cancel := context.WithCancel(t.Context())
		r := newRequest(t, "GET", s.url, nil).WithContext(ctx)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "echo")
		resp, err := start(nil).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		cancel() // the connection is the caller's now
		conn := resp.Body.(io.ReadWriteCloser)
		defer conn.Close()
		io.WriteString(conn, "hello")
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if got := testwait.Receive(t, left, "the server"); got != "hello" {
			t.Errorf("the server got %q", got)
		}
		if got, err := io.ReadAll(conn); string(got) != "early late" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // one client does not trust it
	s.StartTLS()
	defer s.Close()
	s.Client().CloseIdleConnections()
	trusting := s.Client().Transport.(*http.Transport).TLSClientConfig
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		base := settings()
		base.TLSClientConfig = trusting.Clone()
		base.TLSClientConfig.NextProtos = nil
		rt := start(base)
		for range 2 {
			resp, body, err := fetch(rt, newRequest(t, "GET", s.URL, nil))
			if err != nil || body != "ok" || resp.TLS == nil || !resp.TLS.HandshakeComplete {
				t.Fatal(resp, body, err)
			}
		}
		_, _, err := fetch(start(nil), newRequest(t, "GET", s.URL, nil))
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("error %v", err)
		}
		silent := serve(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
		base = settings()
		base.TLSHandshakeTimeout = 20 * time.Millisecond
		_, _, err = fetch(start(base), newRequest(t, "GET", strings.Replace(silent.url, "http", "https", 1), nil))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("error %v", err)
		}
		base = settings()
		base.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: trusting.Clone()}).DialContext(ctx, network, addr)
		}
		wantOK(t, start(base), newRequest(t, "GET", s.URL, nil))
	})
}

// TestLeftToBase checks what goes through the http.Transport beneath.
func TestLeftToBase(t *testing.T) {
	h2 := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	h2.EnableHTTP2 = true
	h2.StartTLS()
	defer h2.Close()
	h2.Client().CloseIdleConnections()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.RequestURI, r.Header["Accept-Encoding"])
	}))
	defer plain.Close()
	trusting := h2.Client().Transport.(*http.Transport).TLSClientConfig
	for _, test := range []struct {
		name, url, want string
		set             func(*http.Transport)
	}{
		{"HTTP/2", h2.URL, "HTTP/2.0", func(b *http.Transport) { b.TLSClientConfig, b.ForceAttemptHTTP2 = trusting.Clone(), true }},
		{"HTTP/2 by protocols", h2.URL, "HTTP/2.0", func(b *http.Transport) {
			b.TLSClientConfig, b.Protocols = trusting.Clone(), new(http.Protocols)
			b.Protocols.SetHTTP2(true)
		}},
		{"HTTP/1 only", h2.URL, "HTTP/1.1", func(b *http.Transport) {
			b.TLSClientConfig = trusting.Clone()
			b.TLSClientConfig.NextProtos = nil
		}},
		{"proxy", "http://site.example/a", "HTTP/1.1 http://site.example/a[]", func(b *http.Transport) {
			b.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(plain.URL) }
		}},
		{"compression", plain.URL + "/a", "HTTP/1.1 /a[gzip]", func(b *http.Transport) { b.DisableCompression = false }},
		{"connections limited", plain.URL + "/a", "HTTP/1.1 /a[]", func(b *http.Transport) { b.MaxConnsPerHost = 1 }},
	} {
		both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
			t.Run(test.name, func(t *testing.T) {
				base := settings()
				test.set(base)
				if _, body, err := fetch(start(base), newRequest(t, "GET", test.url, nil)); body != test.want || err != nil {
					t.Errorf("%q, %v; want %q", body, err, test.want)
				}
			})
		})
	}
}

// TestTrace compares the events that both transports report.
func TestTrace(t *testing.T) {
	var events [2][]string
	for i, own := range []bool{false, true} {
		s := serve(t, says("HTTP/1.1 103 Hints\r\n\r\n"+ok))
		rt := start(t, own, nil)
		var mu sync.Mutex
		idle := make(chan bool, 2)
		note := func(event string) {
			mu.Lock()
			defer mu.Unlock()
			events[i] = append(events[i], event)
		}
		for range 2 {
			wantOK(t, rt, traced(newRequest(t, "GET", s.url, nil), &httptrace.ClientTrace{
				GetConn:              func(addr string) { note("get") },
				GotConn:              func(info httptrace.GotConnInfo) { note(fmt.Sprint("got ", info.Reused, info.WasIdle)) },
				ConnectStart:         func(string, string) { note("connect") },
				WroteHeaders:         func() { note("header written") },
				WroteRequest:         func(info httptrace.WroteRequestInfo) { note(fmt.Sprint("written ", info.Err)) },
				GotFirstResponseByte: func() { note("first byte") },
				Got1xxResponse:       func(code int, _ textproto.MIMEHeader) error { note(fmt.Sprint(code)); return nil },
				PutIdleConn:          func(err error) { note(fmt.Sprint("idle ", err)); idle <- true },
			}))
			testwait.Receive(t, idle, "the connection to be idle")
		}
	}
	if diff := cmp.Diff(events[0], events[1]); diff != "" {
		t.Errorf("- standard + own:\n%s", diff)
	}
}

// TestIdle uses pipes for connections and virtual time.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dialed, open := 0, 0
		base := settings()
		base.IdleConnTimeout, base.MaxIdleConnsPerHost, base.MaxIdleConns = time.Minute, 3, 4
		base.DialContext = func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			mu.Lock()
			dialed, open = dialed+1, open+1
			mu.Unlock()
			go func() {
				says(ok)(there, bufio.NewReader(there))
				there.Close()
				mu.Lock()
				open--
				mu.Unlock()
			}()
			return here, nil
		}
		rt := New(base)
		// at sends n requests at once, so that each needs a connection.
		at := func(host string, n int) {
			t.Helper()
			var bodies []io.Closer
			for range n {
				r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+host, nil)
				resp, err := rt.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				bodies = append(bodies, resp.Body)
			}
			for _, b := range bodies {
				b.Close()
			}
		}
		want := func(wantDialed, wantOpen int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if dialed != wantDialed || open != wantOpen {
				t.Fatalf("%d dialed, %d open; want %d, %d", dialed, open, wantDialed, wantOpen)
			}
		}
		at("a", 1)
		at("a", 1)
		want(1, 1)
		at("a", 5)
		want(5, 3) // three a host
		at("b", 2)
		want(7, 4) // four in all
		time.Sleep(59 * time.Second)
		at("b", 1)
		want(7, 4)
		time.Sleep(2 * time.Second)
		want(7, 1) // that of b, which was used last
		time.Sleep(time.Minute)
		want(7, 0)
		at("a", 2)
		want(9, 2)
		rt.CloseIdleConnections()
		want(9, 0)

		// What is in use when idle connections are closed is closed when it is
		// idle, unless another request came before.
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://a", nil)
		resp, err := rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		rt.CloseIdleConnections()
		resp.Body.Close()
		want(10, 0)
		at("a", 1)
		want(11, 1)
		rt.CloseIdleConnections()
		want(11, 0)
	})
}

func TestNoKeepAlives(t *testing.T) {
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		for _, perHost := range []int{-1, 1} {
			s := serve(t, says(ok))
			base := settings()
			base.DisableKeepAlives, base.MaxIdleConnsPerHost = perHost > 0, perHost
			rt := start(base)
			for range 3 {
				wantOK(t, rt, newRequest(t, "GET", s.url, nil))
			}
			if n := s.connections(); n != 3 {
				t.Errorf("%d connections", n)
			}
		}
	})
}

// TestConnectionRefused tells that nothing was sent in the way that callers
// know.
func TestConnectionRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	both(t, func(t *testing.T, own bool, start func(*http.Transport) roundTripper) {
		_, _, err := fetch(start(nil), newRequest(t, "POST", "http://"+ln.Addr().String(), strings.NewReader("body")))
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" {
			t.Errorf("error %v", err)
		}
	})
}

// TestRetriesOnce sends requests that kill each connection they meet, while
// many are idle: there was one try for each of them, so that one client could
// take away all connections, and hit the server a thousand times, by one
// request.
func TestRetriesOnce(t *testing.T) {
	for _, how := range []string{"closed", "nothing written"} {
		t.Run(how, func(t *testing.T) {
			const idle = 20
			var killed atomic.Int32
			var dying atomic.Bool
			asked, all := make(chan bool, idle), make(chan bool)
			s := serve(t, func(c net.Conn, r *bufio.Reader) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if req.URL.Path == "/kill" {
						killed.Add(1)
						return
					}
					if req.URL.Path == "/together" {
						asked <- true
						<-all
					}
					io.WriteString(c, ok)
				}
			})
			base := settings()
			base.MaxIdleConnsPerHost = idle
			base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				return &unwritable{c, &dying, &killed}, err
			}
			rt := start(t, true, base)
			var wg sync.WaitGroup
			for range idle {
				wg.Go(func() { wantOK(t, rt, newRequest(t, "GET", s.url+"/together", nil)) })
			}
			for range idle {
				testwait.Receive(t, asked, "a request on each connection")
			}
			close(all)
			wg.Wait()
			dying.Store(how == "nothing written")
			reused, fresh := 0, 0
			_, _, err := fetch(rt, traced(newRequest(t, "GET", s.url+"/kill", nil), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
				if info.Reused {
					reused++
				} else {
					fresh++
				}
			}}))
			if err == nil {
				t.Error("no error")
			}
			if reused != 1 || fresh != 1 || killed.Load() != 2 {
				t.Errorf("%d idle and %d fresh connections tried, %d killed; want one of each", reused, fresh, killed.Load())
			}
			dying.Store(false)
			for range 2 {
				wantOK(t, rt, newRequest(t, "POST", s.url, nil))
			}
			if n := s.connections(); n > idle+1 {
				t.Errorf("%d connections, so that idle ones were lost", n)
			}
		})
	}
}

// unwritable is a connection on which nothing can be written while it is dying.
type unwritable struct {
	net.Conn
	dying  *atomic.Bool
	failed *atomic.Int32
}

func (c *unwritable) Write(p []byte) (int, error) {
	if c.dying.Load() {
		c.failed.Add(1)
		return 0, errors.New("broken")
	}
	return c.Conn.Write(p)
}
