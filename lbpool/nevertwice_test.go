package lbpool

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

var full = flag.Bool("full", false, "run TestNeverTwice with 100,000 requests, and TestQueueStress for a minute")

// receipts counts how often each request has reached a server, by its number.
type receipts struct {
	mu    sync.Mutex
	times map[string]int
}

func (r *receipts) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times[id]++
}

// A breakdown is a server that does what act says with each request, once it
// has read the header. A request counts as received then, whatever comes next.
func breakdown(t *testing.T, got *receipts, act func(conn *net.TCPConn, r *http.Request, nth int) (goOn bool)) netip.AddrPort {
	return listen(t, func(conn *net.TCPConn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		for nth := 1; ; nth++ {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			got.add(r.Header.Get("X-Id"))
			if !act(conn, r, nth) {
				return
			}
		}
	})
}

// TestNeverTwice sends requests of all methods, with bodies and without, to a
// server that fails at every point there is. Whatever happens, and however
// willing the pool is to try others, no server and no two servers may get a
// request twice that is not idempotent.
func TestNeverTwice(t *testing.T) {
	total := 30_000
	switch {
	case *full:
		total = 100_000
	case testrace.Enabled:
		total = 5_000
	case testing.Short():
		total = 5_000
	}
	got := &receipts{times: map[string]int{}}
	drop := func(conn *net.TCPConn) bool {
		_ = conn.SetLinger(0) // a reset, which keeps no port busy
		return false
	}
	answer := func(conn *net.TCPConn, r *http.Request, text string) bool {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return false
		}
		if r.Method == http.MethodHead && text != "" {
			text, _, _ = strings.Cut(text, "\r\n\r\n")
			text += "\r\n\r\n"
		}
		_, err := io.WriteString(conn, text)
		return err == nil
	}
	points := []struct {
		name string
		addr netip.AddrPort
	}{
		{"dial", refusing(t)},
		{"accepted", listen(t, func(conn *net.TCPConn) { drop(conn); conn.Close() })},
		{"header read", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool { return drop(conn) })},
		{"request read", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			answer(conn, r, "")
			return drop(conn)
		})},
		{"request read, clean end", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			answer(conn, r, "")
			return false
		})},
		{"status begun", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			answer(conn, r, "HTTP/1.1 2")
			return false
		})},
		{"nonsense", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			answer(conn, r, "\x00\x01\r\n\r\n")
			return drop(conn)
		})},
		{"body begun", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			answer(conn, r, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
			return drop(conn)
		})},
		{"busy", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			return answer(conn, r, "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
		})},
		{"kept connection dies", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			// The first request is answered; the next one comes on a connection
			// that is gone.
			answer(conn, r, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			return drop(conn)
		})},
		{"kept connection dies with a request", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, nth int) bool {
			if nth > 1 {
				return drop(conn)
			}
			return answer(conn, r, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		})},
		{"no answer", breakdown(t, got, func(conn *net.TCPConn, r *http.Request, _ int) bool {
			answer(conn, r, "")
			_, _ = io.Copy(io.Discard, conn) // until the other side gives up
			return false
		})},
	}
	fine := newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		got.add(r.Header.Get("X-Id"))
		_, _ = io.Copy(io.Discard, r.Body)
	})
	tr := newTransport(t)
	methods := []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH", "LOCK", "CUSTOM"}
	bodies := []string{"", "short", strings.Repeat("x", 2000)} // none, kept, too long to be kept
	pools := make([]*Pool, len(points))
	for i, p := range points {
		pools[i] = mustPool(t, Config{Servers: at(p.addr, fine), Algorithm: RoundRobin(), Passive: Passive{Disabled: true}, Reselect: Reselect{
			Retries: 3, Codes: unavailable, Broken: true, MaxBody: 1000, TryTimeout: 50 * time.Millisecond,
		}})
	}
	var next, answered, fines atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for n := int(next.Add(1)) - 1; n < total; n = int(next.Add(1)) - 1 {
				p, rest := n%len(points), n/len(points)
				if points[p].name == "no answer" && rest%20 > 0 { // it takes long
					p = rest % p
				}
				method, body := methods[rest%len(methods)], bodies[rest/len(methods)%len(bodies)]
				var r io.Reader
				if body != "" {
					r = strings.NewReader(body)
				}
				route := &Route{Pool: pools[p]}
				req := request(t.Context(), method, r, route)
				req.Header.Set("X-Id", fmt.Sprintf("%d %s", n, method))
				resp, err := tr.RoundTrip(req)
				if err != nil {
					continue
				}
				answered.Add(1)
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK && route.Tried > 1 {
					fines.Add(1)
				}
			}
		})
	}
	group.Wait()
	repeated := 0
	got.mu.Lock()
	defer got.mu.Unlock()
	for id, times := range got.times {
		_, method, _ := strings.Cut(id, " ")
		switch {
		case times > 1 && !idempotent(method):
			t.Errorf("request %s was sent %d times", id, times)
		case times > 1:
			repeated++
		}
	}
	t.Logf("%d requests, %d answered, %d of them by another server; %d idempotent ones were sent more than once, 0 others",
		total, answered.Load(), fines.Load(), repeated)
	if repeated < total/20 || fines.Load() < int64(total/10) || answered.Load() == int64(total) {
		t.Error("too little went wrong, which tests nothing")
	}
	for i, p := range pools {
		wantOpen(t, p, 0)
		if n := p.retrying.Load(); n != 0 {
			t.Errorf("%s: %d slots of the retry budget are taken", points[i].name, n)
		}
	}
}
