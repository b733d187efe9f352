package http1

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testwait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A roundTripper is what tests ask of both transports.
type roundTripper interface {
	http.RoundTripper
	CloseIdleConnections()
}

// both runs a test with an http.Transport and with a Transport, which should
// not differ.
func both(t *testing.T, test func(t *testing.T, own bool, start func(*http.Transport) roundTripper)) {
	for _, name := range []string{"standard", "own"} {
		t.Run(name, func(t *testing.T) {
			own := name == "own"
			test(t, own, func(base *http.Transport) roundTripper { return start(t, own, base) })
		})
	}
}

// start returns the transport in question, with sensible settings if there are
// none.
func start(t testing.TB, own bool, base *http.Transport) roundTripper {
	if base == nil {
		base = settings()
	}
	var rt roundTripper = base
	if own {
		rt = New(base)
	}
	t.Cleanup(rt.CloseIdleConnections)
	return rt
}

func settings() *http.Transport {
	return &http.Transport{
		DialContext: new(net.Dialer).DialContext, DisableCompression: true, MaxIdleConnsPerHost: 10,
		ExpectContinueTimeout: testwait.Limit, ResponseHeaderTimeout: testwait.Limit,
	}
}

// A server answers connections on loopback with a function, until the test
// ends.
type server struct {
	url      string
	accepted chan net.Conn // gets each connection, for tests that close them
	mu       sync.Mutex
	conns    int
}

func serve(t testing.TB, answer func(c net.Conn, r *bufio.Reader)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{url: "http://" + ln.Addr().String(), accepted: make(chan net.Conn, 1000)}
	var wg sync.WaitGroup
	var all []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			all = append(all, c)
			s.mu.Unlock()
			s.accepted <- c
			wg.Go(func() {
				defer c.Close()
				answer(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for _, c := range all {
			c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

// connections returns how many there were.
func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// readHead reads a request up to its body, and returns its lines.
func readHead(r *bufio.Reader) (lines []string, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return lines, err
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// says returns a server's answer: for each request without a body it sends the
// next text, the last one again and again.
func says(texts ...string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(c, texts[min(i, len(texts)-1)])
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func newRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func traced(r *http.Request, trace *httptrace.ClientTrace) *http.Request {
	return r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
}

// fetch sends a request and reads the response to its end.
func fetch(rt http.RoundTripper, r *http.Request) (*http.Response, string, error) {
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// wantOK sends a request that is to be answered with "ok".
func wantOK(t testing.TB, rt http.RoundTripper, r *http.Request) {
	t.Helper()
	resp, body, err := fetch(rt, r)
	if err != nil || resp.StatusCode != 200 || body != "ok" {
		t.Fatalf("%s %s: %v, %q, %v", r.Method, r.URL, resp, body, err)
	}
}

// trackedBody counts how it is used.
type trackedBody struct {
	io.Reader
	mu     sync.Mutex
	read   int64
	closed int
}

func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += int64(n)
	return n, err
}

func (b *trackedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

func (b *trackedBody) uses() (read int64, closed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read, b.closed
}
