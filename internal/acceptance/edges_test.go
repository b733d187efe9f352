package acceptance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// buffersRequest and buffersResponse have bodies shown to a script.
const (
	buffersRequest  = "-- HTTP_REQ\navi.http.set_request_body_buffer_size(32)\n-- HTTP_REQ_DATA\navi.vs.log('data')\n"
	buffersResponse = "-- HTTP_RESP\navi.http.set_response_body_buffer_size(32)\n-- HTTP_RESP_DATA\navi.vs.log('data')\n"
)

// A client whose body is malformed got status 499, which no standard has, and
// so did one that had left.
func TestBrokenRequestBodies(t *testing.T) {
	const head = "POST /x HTTP/1.1\nHost: a\n"
	for _, scripted := range []bool{false, true} {
		pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		})
		recs := newRecords()
		cfg := limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add}
		if scripted {
			cfg.Scripts = []limpet.Script{compile(t, "buffers", buffersRequest)}
		}
		_, site := serve(t, http1, cfg)
		for _, test := range []struct {
			name, request string
			leave         bool
			status        int // of the answer, or 0 for none
			logged        int
		}{
			{"chunk size", head + "Transfer-Encoding: chunked\n\nx\n", false, 400, 400},
			{"chunk longer than it says", head + "Transfer-Encoding: chunked\n\n1\nab\n0\n\n", false, 400, 400},
			{"huge chunk", head + "Transfer-Encoding: chunked\n\n10000000000000000\n", false, 400, 400},
			{"trailer", head + "Transfer-Encoding: chunked\n\n0\nno colon\n\n", false, 400, 400},
			{"half-closed in the body", head + "Content-Length: 10\n\nx", true, 0, 499},
			{"half-closed in a chunk", head + "Transfer-Encoding: chunked\n\n5\nx", true, 0, 499},
		} {
			c := site.dial(t, "")
			r := send(t, c, test.request)
			if test.leave {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			all, _ := io.ReadAll(r)
			got := 0
			_, _ = fmt.Sscanf(string(all), "HTTP/1.1 %d", &got)
			if got != test.status || strings.Contains(string(all), "499") || got > 0 && !strings.Contains(string(all), "Connection: close") {
				t.Errorf("scripted %v, %s: the client got %q", scripted, test.name, all)
			}
			if rec := recs.next(t); rec.Status != test.logged || slices.Contains(rec.Significant, limpet.ClientGone) != (test.logged == 499) {
				t.Errorf("scripted %v, %s: status %d, %v, %v", scripted, test.name, rec.Status, rec.Significant, rec.Error)
			}
			if n := pool.Servers()[0].Stats().Failures; n != 0 {
				t.Fatalf("%s: %d failures of the server", test.name, n)
			}
		}
	}
}

// A client that has sent all of its request and closed its side gets the answer
// or nothing, and never status 499.
func TestHalfClosedClient(t *testing.T) {
	begun := make(chan bool)
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		select {
		case <-r.Context().Done():
		case <-time.After(testwait.Limit):
			t.Error("the server was not told")
		}
	})
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
	c := site.dial(t, "")
	r := send(t, c, "GET / HTTP/1.1\nHost: a\n\n")
	testwait.Receive(t, begun, "the server to get the request")
	_ = c.(*net.TCPConn).CloseWrite()
	if all, _ := io.ReadAll(r); len(all) > 0 {
		t.Errorf("the client got %q", all)
	}
	if rec := recs.next(t); rec.Status != 499 || !slices.Contains(rec.Significant, limpet.ClientGone) || slices.Contains(rec.Significant, limpet.ServerFailed) {
		t.Errorf("record: status %d, %v, %v", rec.Status, rec.Significant, rec.Error)
	}
}

// sending is a pool of one server that answers each request with these bytes,
// and closes the connection.
func sending(t *testing.T, answer string) *lbpool.Pool {
	return rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, strings.ReplaceAll(answer, "\n", "\r\n"))
		}
	})
}

// A type that a server does not give is not guessed for it: its "nosniff" would
// mean nothing.
func TestNoInventedContentType(t *testing.T) {
	for _, p := range []protocol{http1, http2TLS} {
		for _, script := range []string{"", "-- HTTP_RESP\navi.http.add_header('X-A', '1')", "-- HTTP_RESP\navi.http.remove_header('Content-Type')", buffersResponse} {
			cfg := limpet.Config{Pools: []*lbpool.Pool{sending(t, "HTTP/1.1 200 OK\nX-Content-Type-Options: nosniff\nContent-Length: 9\n\n<script>\n")}}
			if script != "" {
				cfg.Scripts = []limpet.Script{compile(t, "edits", script)}
			}
			_, site := serve(t, p, cfg)
			res, body := fetch(t, site.client(t), newRequest(t, "GET", site.URL, nil))
			if got, ok := res.Header["Content-Type"]; ok || body == "" {
				t.Errorf("%s, script %q: Content-Type %q of %q", p, script, got, body)
			}
		}
	}
	typed := sending(t, "HTTP/1.1 200 OK\nContent-Type: text/x\nContent-Length: 1\n\nx")
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{typed}})
	if res, _ := fetch(t, site.client(t), newRequest(t, "GET", site.URL, nil)); res.Header.Get("Content-Type") != "text/x" {
		t.Errorf("%v", res.Header)
	}
}

// A response that ends too early was logged as if nothing were wrong.
func TestShortResponses(t *testing.T) {
	for _, p := range []protocol{http1, http2TLS} {
		for name, answer := range map[string]string{
			"length":              "HTTP/1.1 200 OK\nContent-Length: 20\n\nxx",
			"chunks":              "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nxx\n",
			"in a chunk":          "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n20\nxx",
			"malformed chunk":     "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nxx\nz\n",
			"nothing of a length": "HTTP/1.1 200 OK\nContent-Length: 20\n\n",
		} {
			recs := newRecords()
			_, site := serve(t, p, limpet.Config{Pools: []*lbpool.Pool{sending(t, answer)}, OnComplete: recs.add})
			if res, body, err := try(site.client(t), newRequest(t, "GET", site.URL, nil)); err == nil && res.StatusCode != http.StatusBadGateway {
				t.Errorf("%s, %s: the client got %s with %q", p, name, res.Status, body)
			}
			rec := recs.next(t)
			if rec.Error == nil || !slices.Contains(rec.Significant, limpet.ServerFailed) || slices.Contains(rec.Significant, limpet.ClientGone) {
				t.Errorf("%s, %s: status %d, %v, %v", p, name, rec.Status, rec.Significant, rec.Error)
			}
		}
	}
}

// Trailers went out in the header as well if a script had the body buffered.
func TestTrailersOfHeldBodies(t *testing.T) {
	wrapped := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "1")
		w.Header().Set("X-Late", "1") // too late, as in net/http
	}
	for _, p := range []protocol{http1, http2TLS} {
		for _, scripted := range []bool{false, true} {
			for name, answer := range map[string]string{
				"announced":     "HTTP/1.1 200 OK\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n4\nbody\n0\nX-Sum: 1\n\n",
				"not announced": "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nbody\n0\nX-Sum: 1\n\n",
				"wrapped":       "",
			} {
				var cfg limpet.Config
				if answer != "" {
					cfg.Pools = []*lbpool.Pool{sending(t, answer)}
				}
				if scripted {
					cfg.Scripts = []limpet.Script{compile(t, "buffers", buffersResponse)}
				}
				vs := newVirtualService(t, cfg)
				h := http.Handler(vs)
				if answer == "" {
					h = vs.Wrap(http.HandlerFunc(wrapped))
				}
				site := startSite(t, p, listen(t, ""), h)
				res, body := fetch(t, site.client(t), newRequest(t, "GET", site.URL, nil))
				if body != "body" || res.Header["X-Sum"] != nil || res.Header["X-Late"] != nil || res.Trailer.Get("X-Sum") != "1" {
					t.Errorf("%s, scripted %v, %s: %q, header %v, trailer %v", p, scripted, name, body, res.Header, res.Trailer)
				}
			}
		}
	}
}

// A client that asked for HTTP/2 by the field Upgrade had a connection to the
// server through which its further requests went, past all rules and scripts. A
// request that asks for another HTTP, or for TLS, goes on as one that asks for
// nothing.
func TestNoUpgradeToHTTP(t *testing.T) {
	for _, test := range []struct {
		upgrade string
		passed  bool
	}{
		{"websocket", true}, {"x", true}, {"foo/2, websocket", true}, {"h2x", true}, {"httpx", true},
		{"h2c", false}, {"H2C", false}, {"h2", false}, {"h3", false}, {"websocket, h2c", false}, {"h2c ,x", false}, {"h2c/1", false},
		{"HTTP/2.0", false}, {"http/1.1", false}, {"HTTP", false}, {"TLS/1.0, HTTP/1.1", false}, {"tls", false},
	} {
		pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if upgrade := req.Header.Get("Upgrade"); upgrade != "" {
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgrade+"\r\n\r\n")
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
		_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}})
		res, err := http.ReadResponse(send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings\nHTTP2-Settings: AAMAAABkAAQAAP__\nUpgrade: "+test.upgrade+"\n\n"), nil)
		if err != nil || (res.StatusCode == http.StatusSwitchingProtocols) != test.passed || !test.passed && res.StatusCode != 200 {
			t.Errorf("upgrade to %q: %v, %v, want it passed on: %v", test.upgrade, res, err, test.passed)
		}
	}
}

// A client that offers several protocols got 502 when the server took one of
// them (RFC 9110, section 7.8).
func TestUpgradeToOneOfSeveral(t *testing.T) {
	for _, test := range []struct {
		offered, taken string
		passed         bool
	}{
		{"x", "x", true}, {"x, y", "y", true}, {"x, y/2", "Y/2", true}, {"x,y", "x", true}, {"x, y", "x, y", true},
		{"x, y", "z", false}, {"x, y/2", "y", false}, {"x", "x, y", false}, {"x, y", "", false},
	} {
		pool := rawServer(t, func(c *net.TCPConn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+test.taken+"\r\n\r\n")
			}
		})
		_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}})
		res, err := http.ReadResponse(send(t, site.dial(t, ""), "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: "+test.offered+"\n\n"), nil)
		if err != nil || (res.StatusCode == http.StatusSwitchingProtocols) != test.passed || test.passed && res.Header.Get("Upgrade") != test.taken {
			t.Errorf("%q of %q: %v, %v, want it passed on: %v", test.taken, test.offered, res, err, test.passed)
		}
	}
}

// A client of HTTP/1.0 takes the first status line for the answer, has no
// chunks and no trailers, and cannot switch protocols.
func TestAnswersToHTTP10(t *testing.T) {
	for name, answer := range map[string]string{
		"hints":         "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nbody",
		"two hints":     "HTTP/1.1 102 Processing\n\nHTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nbody",
		"chunks":        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nbody\n0\n\n",
		"trailer":       "HTTP/1.1 200 OK\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n4\nbody\n0\nX-Sum: 1\n\n",
		"other trailer": "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nbody\n0\nX-Sum: 1\n\n",
	} {
		_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{sending(t, answer)}})
		all, err := io.ReadAll(send(t, site.dial(t, ""), "GET / HTTP/1.0\nHost: a\nConnection: Upgrade\nUpgrade: x\n\n"))
		head, body, _ := strings.Cut(string(all), "\r\n\r\n")
		if err != nil || !strings.HasPrefix(head, "HTTP/1.0 200 OK") || body != "body" || strings.Contains(head, "Trailer") || strings.Contains(head, "chunked") {
			t.Errorf("%s: the client got %q, %v", name, all, err)
		}
	}
	vs := newVirtualService(t, limpet.Config{})
	site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "body")
	})))
	if all, _ := io.ReadAll(send(t, site.dial(t, ""), "GET / HTTP/1.0\nHost: a\n\n")); !strings.HasPrefix(string(all), "HTTP/1.0 200") {
		t.Errorf("a wrapped handler's hints: %q", all)
	}
	var hints int
	r := newRequest(t, "GET", site.URL, nil)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
	}))
	if fetch(t, site.client(t), r); hints != 1 {
		t.Errorf("%d hints for HTTP/1.1", hints)
	}
}

// A failingTransport fails as a machine does that has run out of something.
type failingTransport struct{ err error }

func (f failingTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// Only a server's own doing is blamed on it.
func TestBlame(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", err)}
	}
	for _, test := range []struct {
		name   string
		err    error
		status int
		blamed bool
	}{
		{"no file descriptor left in the process", dial(syscall.EMFILE), 503, false},
		{"no file descriptor left in the system", dial(syscall.ENFILE), 503, false},
		{"no local port left", dial(syscall.EADDRNOTAVAIL), 503, false},
		{"no memory left", dial(syscall.ENOBUFS), 503, false},
		{"refused", dial(syscall.ECONNREFUSED), 502, true},
		{"no route", dial(syscall.EHOSTUNREACH), 502, true},
		{"reset", &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, 502, true},
		{"closed", io.EOF, 502, true},
		{"no HTTP", errors.New("malformed HTTP response"), 502, true},
		{"timed out", os.ErrDeadlineExceeded, 504, true},
	} {
		pool := poolOf(t, lbpool.ServerConfig{Address: "192.0.2.1:80"})
		recs := newRecords()
		_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add, Transport: failingTransport{test.err}})
		status, _ := get(t, site.client(t), site.URL)
		rec := recs.next(t)
		failures := pool.Servers()[0].Stats().Failures
		if status != test.status || failures > 0 != test.blamed || slices.Contains(rec.Significant, limpet.ClientGone) || rec.Error == nil {
			t.Errorf("%s: status %d, %d failures, %v, %v", test.name, status, failures, rec.Significant, rec.Error)
		}
		if slices.Contains(rec.Significant, limpet.ServerFailed) && !test.blamed {
			t.Errorf("%s: %v", test.name, rec.Significant)
		}
	}
}

// What makes a request unfit for any server is not blamed on one, wherever it
// is found out: by the guard, or by a transport once a program has edited the
// request in front of the virtual service.
func TestUnfitRequestsBlameNobody(t *testing.T) {
	for name, edit := range map[string]func(*http.Request){
		"method":        func(r *http.Request) { r.Method = "G T" },
		"host":          func(r *http.Request) { r.Host = "a b" },
		"target":        func(r *http.Request) { r.URL.Opaque = "x:admin" },
		"rootless path": func(r *http.Request) { r.URL.Path = "x" },
		"query":         func(r *http.Request) { r.URL.RawQuery = "a HTTP/1.1" },
		"header name":   func(r *http.Request) { r.Header["X A"] = []string{"1"} },
		"header value":  func(r *http.Request) { r.Header["X-A"] = []string{"1\r\nX-B: 2"} },
		"trailer":       func(r *http.Request) { r.Trailer = http.Header{"X-A": {"1\n2"}} },
	} {
		var asked atomic.Int32
		pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1) })
		recs := newRecords()
		vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
		site := startSite(t, http1, listen(t, ""), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			edit(r)
			vs.ServeHTTP(w, r)
		}))
		res, _ := fetch(t, site.client(t), newRequest(t, "POST", site.URL, struct{ io.Reader }{strings.NewReader("body")}))
		rec := recs.next(t)
		if n := pool.Servers()[0].Stats().Failures; res.StatusCode != 400 || n != 0 || asked.Load() != 0 || rec.Error == nil || slices.Contains(rec.Significant, limpet.ServerFailed) {
			t.Errorf("%s: %s, %d failures, the server was asked %d times, %v, %v", name, res.Status, n, asked.Load(), rec.Significant, rec.Error)
		}
	}
}

// A client that stops in the middle of its body gets 408, in either version of
// HTTP, and holds no server. Over HTTP/2 it held its stream, and a connection
// to a server, for as long as it answered pings.
func TestStalledBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vs, err := limpet.New(limpet.Config{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var ends []string
		h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			n, err := io.Copy(io.Discard, r.Body)
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, fmt.Sprintf("%d bytes in %v, cut off %v", n, time.Since(start), errors.Is(err, os.ErrDeadlineExceeded)))
			if err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
			}
		}))
		srv := limpet.NewServer(h)
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetUnencryptedHTTP2(true)
		srv.Protocols.SetHTTP1(true)
		l := fakeListener{make(chan net.Conn)}
		done := make(chan error)
		go func() { done <- srv.Serve(vs.Listener(l)) }()
		theirs, ours := net.Pipe()
		l.conns <- theirs
		hc := newRawHTTP2Async(t, ours)
		const streams = 200
		for range streams {
			stream := hc.request(false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "content-length", "10")
			hc.frame(frameData, 0, stream, []byte("x"))
		}
		slow := hc.request(false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/slow")
		for range 100 { // slow, but alive
			time.Sleep(55 * time.Second)
			hc.frame(frameData, 0, slow, []byte("x"))
		}
		hc.frame(frameData, flagEndStream, slow, nil)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		counts := map[string]int{}
		for _, end := range ends {
			counts[end]++
		}
		want := map[string]int{"1 bytes in 1m0s, cut off true": streams, "100 bytes in 1h31m40s, cut off false": 1}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Errorf("- want + got\n%s", diff)
		}
		ours.Close()
		close(l.conns)
		srv.Close()
		<-done
	})
}

// Over HTTP/1 and HTTP/2 a client that stalls in its body is answered 408, in
// front of a server that waits for the rest, and in front of a script that has
// the body buffered.
func TestStalledBodiesOfServers(t *testing.T) {
	for _, p := range []protocol{http1, h2c} {
		for _, scripted := range []bool{false, true} {
			pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
			recs := newRecords()
			cfg := limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add}
			if scripted {
				cfg.Scripts = []limpet.Script{compile(t, "buffers", buffersRequest)}
			}
			vs := newVirtualService(t, cfg)
			site := startSite(t, p, listen(t, ""), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				vs.ServeHTTP(w, r)
			}))
			var status string
			if p == h2c {
				h := site.dialHTTP2(t)
				stream := h.request(false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "content-length", "10")
				h.frame(frameData, 0, stream, []byte("x"))
				status = h.answer(stream).status
			} else {
				all, _ := io.ReadAll(send(t, site.dial(t, ""), "POST / HTTP/1.1\nHost: a\nContent-Length: 10\n\nx"))
				status, _, _ = strings.Cut(strings.TrimPrefix(string(all), "HTTP/1.1 "), " ")
			}
			rec := recs.next(t)
			if status != "408" || rec.Status != 408 || slices.Contains(rec.Significant, limpet.ClientGone) || pool.Servers()[0].Stats().Failures != 0 {
				t.Errorf("%s, scripted %v: status %q, %v, %v", p, scripted, status, rec.Significant, rec.Error)
			}
		}
	}
}
