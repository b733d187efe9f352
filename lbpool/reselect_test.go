package lbpool

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// back is a server that counts what it gets, by method and body.
type back struct {
	addr  netip.AddrPort
	calls atomic.Int64
	mu    sync.Mutex
	seen  []string
}

func newBack(t testing.TB, handler func(w http.ResponseWriter, r *http.Request, body string)) *back {
	b := &back{}
	b.addr = newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		b.calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.seen = append(b.seen, r.Method+" "+string(body))
		b.mu.Unlock()
		handler(w, r, string(body))
	})
	return b
}

// says returns a handler that answers with a status, and the status as the
// body.
func says(status int) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(status)
		fmt.Fprint(w, status)
	}
}

// breaks reads the request and breaks the connection.
func breaks(w http.ResponseWriter, _ *http.Request, _ string) { panic(http.ErrAbortHandler) }

// late answers too late.
func late(w http.ResponseWriter, r *http.Request, _ string) {
	select {
	case <-r.Context().Done():
	case <-time.After(time.Minute):
	}
}

var unavailable = []StatusRange{{502, 504}}

// TestReselectMatrix is what is sent again: by method, body, kind of failure
// and configuration.
func TestReselectMatrix(t *testing.T) {
	t.Parallel()
	ok := newBack(t, says(200))
	busy := newBack(t, says(503))
	broken := newBack(t, breaks)
	slow := newBack(t, late)
	dead := &back{addr: refusing(t)}
	all := Reselect{Codes: unavailable, Broken: true, MaxBody: 100, TryTimeout: time.Minute}
	with := func(edit func(*Reselect)) Reselect {
		r := all
		edit(&r)
		return r
	}
	tests := []struct {
		name     string
		first    *back
		method   string
		body     string
		reselect Reselect
		again    bool
		status   int // if not again; 0: an error
	}{
		{"default, code", busy, "GET", "", Reselect{}, false, 503},
		{"default, broken", broken, "GET", "", Reselect{}, false, 0},
		{"default, dead", dead, "POST", "hello", Reselect{}, true, 0},
		{"code, GET", busy, "GET", "", all, true, 0},
		{"code, PUT with body", busy, "PUT", "hello", all, true, 0},
		{"code, DELETE", busy, "DELETE", "", all, true, 0},
		{"code, other", busy, "GET", "", with(func(r *Reselect) { r.Codes = []StatusRange{{500, 502}, {504, 599}} }), false, 503},
		{"code, POST", busy, "POST", "hello", all, false, 503},
		{"code, PATCH", busy, "PATCH", "hello", all, false, 503},
		{"code, POST if configured", busy, "POST", "hello", with(func(r *Reselect) { r.NonIdempotent = true }), true, 0},
		{"code, body is not kept", busy, "PUT", "hello", with(func(r *Reselect) { r.MaxBody = 0 }), false, 503},
		{"code, body is too long", busy, "PUT", strings.Repeat("x", 101), all, false, 503},
		{"code, body just fits", busy, "PUT", strings.Repeat("x", 100), all, true, 0},
		{"code, no retries", busy, "GET", "", with(func(r *Reselect) { r.Retries = -1 }), false, 503},
		{"broken, GET", broken, "GET", "", all, true, 0},
		{"broken, PUT with body", broken, "PUT", "hello", all, true, 0},
		{"broken, not configured", broken, "GET", "", with(func(r *Reselect) { r.Broken = false }), false, 0},
		{"broken, POST", broken, "POST", "hello", all, false, 0},
		{"broken, POST never", broken, "POST", "hello", with(func(r *Reselect) { r.NonIdempotent = true }), false, 0},
		{"broken, POST without body never", broken, "POST", "", with(func(r *Reselect) { r.NonIdempotent = true }), false, 0},
		{"late, GET", slow, "GET", "", with(func(r *Reselect) { r.TryTimeout = 500 * time.Millisecond }), true, 0},
		{"late, POST", slow, "POST", "hello", with(func(r *Reselect) { r.TryTimeout = 500 * time.Millisecond; r.NonIdempotent = true }), false, 0},
		{"late, time is over", slow, "GET", "", with(func(r *Reselect) { r.TryTimeout = 500 * time.Millisecond; r.Timeout = 400 * time.Millisecond }), false, 0},
		{"dead, POST with body", dead, "POST", "hello", all, true, 0},
	}
	tr := newTransport(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := mustPool(t, Config{Servers: at(test.first.addr, ok.addr), Algorithm: RoundRobin(), Reselect: test.reselect})
			before, beforeOK := test.first.calls.Load(), ok.calls.Load()
			route := &Route{Pool: p}
			var body io.Reader
			tracked := &trackedBody{Reader: strings.NewReader(test.body)}
			if test.body != "" {
				body = tracked
			}
			resp, err := tr.RoundTrip(request(t.Context(), test.method, body, route))
			if test.again {
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%v, %v, want the answer of the second server", resp, err)
				}
				if route.Tried != 2 || route.Server != p.Servers()[1] || len(route.Servers) != 2 || route.Servers[0] != p.Servers()[0] {
					t.Errorf("route %+v", route)
				}
				ok.mu.Lock()
				if last := ok.seen[len(ok.seen)-1]; last != test.method+" "+test.body {
					t.Errorf("the second server saw %q", last)
				}
				ok.mu.Unlock()
				if n := p.Stats().Reselects; n != 1 {
					t.Errorf("Reselects = %d", n)
				}
			} else {
				if err == nil {
					if resp.StatusCode != test.status {
						t.Errorf("status %d, want %d", resp.StatusCode, test.status)
					}
				} else if test.status != 0 {
					t.Errorf("%v, want status %d", err, test.status)
				}
				if route.Tried != 1 || route.Server != p.Servers()[0] || ok.calls.Load() != beforeOK {
					t.Errorf("route %+v, %d requests to the second server", route, ok.calls.Load()-beforeOK)
				}
			}
			if n := test.first.calls.Load() - before; n > 1 || n != 1 && test.first != dead {
				t.Errorf("the first server got it %d times", n)
			}
			if resp != nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			wantOpen(t, p, 0)
			if n := p.retrying.Load(); n != 0 {
				t.Errorf("%d slots of the retry budget are taken", n)
			}
			if test.body != "" {
				tracked.wantClosedOnce(t)
			}
		})
	}
}

func TestReselectPassesOnTheLastAnswer(t *testing.T) {
	first, second, dead := newBack(t, says(502)), newBack(t, says(503)), refusing(t)
	tr := newTransport(t)
	for _, test := range []struct {
		servers []netip.AddrPort
		status  int
		server  int // that gave the answer
	}{
		{[]netip.AddrPort{first.addr, second.addr}, 503, 1},
		{[]netip.AddrPort{first.addr, second.addr, dead}, 503, 1},
		{[]netip.AddrPort{dead, second.addr, dead}, 503, 1},
		{[]netip.AddrPort{first.addr}, 502, 0},
	} {
		list := at(test.servers...)
		if len(list) == 3 && list[2].Address == list[0].Address {
			list = list[:2]
		}
		p := mustPool(t, Config{Servers: list, Algorithm: RoundRobin(), Reselect: Reselect{Codes: unavailable, Retries: 5}})
		route := &Route{Pool: p}
		resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, route))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != strconv.Itoa(test.status) || resp.StatusCode != test.status {
			t.Errorf("%q, %v, want the answer %d", body, err, test.status)
		}
		resp.Body.Close()
		if route.Server != p.Servers()[test.server] || route.Tried != len(list) {
			t.Errorf("route %+v", route)
		}
		wantOpen(t, p, 0)
	}
}

// TestReselectEarlyAnswer is a server that answers before it has read the body,
// of which the rest goes to the second one together with what the first has
// had.
func TestReselectEarlyAnswer(t *testing.T) {
	early, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	var group sync.WaitGroup
	defer group.Wait()
	first, more := make(chan struct{}), make(chan struct{})
	group.Go(func() {
		conn, err := early.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			t.Error(err)
			return
		}
		io.ReadFull(r.Body, make([]byte, 5))
		io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		<-more
	})
	second := newBack(t, says(200))
	tr := newTransport(t)
	p := mustPool(t, Config{
		Servers: at(address2(early), second.addr), Algorithm: RoundRobin(), Reselect: Reselect{Codes: unavailable, MaxBody: 1000},
	})
	reader, writer := io.Pipe()
	group.Go(func() {
		io.WriteString(writer, "hello")
		<-first
		io.WriteString(writer, ", world")
		writer.Close()
	})
	time.AfterFunc(50*time.Millisecond, func() { close(first) })
	resp, err := tr.RoundTrip(request(t.Context(), "PUT", reader, &Route{Pool: p}))
	close(more)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := []string{"PUT hello, world"}; resp.StatusCode != 200 || !cmp.Equal(second.seen, want) {
		t.Errorf("status %d, the second server saw %q", resp.StatusCode, second.seen)
	}
}

func address2(ln net.Listener) netip.AddrPort { return netip.MustParseAddrPort(ln.Addr().String()) }

// TestReselectBudget sends many requests at once to servers that are all busy:
// repetitions are few.
func TestReselectBudget(t *testing.T) {
	const requests = 40
	var arrived sync.WaitGroup
	arrived.Add(requests)
	gate := make(chan struct{})
	var calls, parallel, most atomic.Int64
	handler := func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= requests {
			arrived.Done()
			<-gate
		} else {
			for n := parallel.Add(1); ; {
				if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			<-time.After(20 * time.Millisecond)
			parallel.Add(-1)
		}
		w.WriteHeader(503)
	}
	tr := newTransport(t)
	p := mustPool(t, Config{Servers: at(newServerOn(t, handler), newServerOn(t, handler)), Reselect: Reselect{Codes: unavailable}})
	var group sync.WaitGroup
	for range requests {
		group.Go(func() {
			resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	arrived.Wait()
	close(gate)
	group.Wait()
	st := p.Stats()
	if most.Load() > requests/5 || most.Load() == 0 {
		t.Errorf("%d repetitions at once of %d requests, more than a fifth", most.Load(), requests)
	}
	if st.ReselectsSpent == 0 || st.Reselects+st.ReselectsSpent < requests || int64(st.Reselects) != calls.Load()-requests {
		t.Errorf("stats %+v, %d calls", st, calls.Load())
	}
	if p.retrying.Load() != 0 || open(p) != 0 {
		t.Errorf("%d retrying, %d open", p.retrying.Load(), open(p))
	}
}

func TestTryTimeout(t *testing.T) {
	t.Parallel()
	slow := newBack(t, late)
	tr := newTransport(t)
	p := mustPool(t, Config{Servers: at(slow.addr), Reselect: Reselect{TryTimeout: 300 * time.Millisecond}})
	_, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
	var fault *ForwardError
	if !errors.Is(err, ErrTimeout) || errors.Is(err, ErrConnect) || errors.Is(err, ErrAborted) || !errors.As(err, &fault) || errors.Is(err, context.Canceled) {
		t.Errorf("%v, want a time-out", err)
	}
	wantFailures(t, p, 1)
	wantOpen(t, p, 0)

	// A connection that is not made in time counts as one that cannot be made.
	hanging := newTransport(t)
	hanging.Base = &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "10.") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}}
	ok := newBack(t, says(200))
	t.Cleanup(hanging.CloseIdleConnections)
	p = mustPool(t, Config{Servers: append(servers(1), at(ok.addr)...), Algorithm: RoundRobin(), Reselect: Reselect{TryTimeout: 300 * time.Millisecond}})
	resp, err := hanging.RoundTrip(request(t.Context(), "POST", strings.NewReader("hello"), &Route{Pool: p}))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()

	// The time is for the header: a body may take longer.
	body := newServerOn(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "one ")
		w.(http.Flusher).Flush()
		select {
		case <-time.After(600 * time.Millisecond):
		case <-r.Context().Done():
		}
		io.WriteString(w, "two")
	})
	p = mustPool(t, Config{Servers: at(body), Reselect: Reselect{TryTimeout: 500 * time.Millisecond}})
	resp, err = tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if string(text) != "one two" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	resp.Body.Close()
}

func TestBackupPool(t *testing.T) {
	ok := newBack(t, says(200))
	tr := newTransport(t)
	last := mustPool(t, Config{Name: "last", Servers: at(ok.addr)})
	between := mustPool(t, Config{Name: "between", Servers: servers(1), FailAction: FailAction{Kind: FailBackup, Backup: last}})
	p := mustPool(t, Config{Servers: servers(1), FailAction: FailAction{Kind: FailBackup, Backup: between}})
	disableAll(p)
	disableAll(between)
	route := &Route{Pool: p}
	resp, err := tr.RoundTrip(request(t.Context(), "POST", strings.NewReader("hello"), route))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if route.Pool != last || route.Server != last.Servers()[0] || route.Tried != 1 || ok.seen[0] != "POST hello" {
		t.Errorf("route %+v, %q", route, ok.seen)
	}
	// Pools that are backups of one another do not keep a request for ever.
	mustUpdate(t, last, Config{Servers: at(ok.addr), FailAction: FailAction{Kind: FailBackup, Backup: p}})
	disableAll(last)
	if _, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p})); !errors.Is(err, ErrNoServer) {
		t.Errorf("nobody is left: %v", err)
	}
}

func TestReselectFaults(t *testing.T) {
	_, err := New(Config{Name: "web", Servers: servers(1), Reselect: Reselect{
		Codes: []StatusRange{{200, 299}, {500, 599}}, MaxBody: -1, TryTimeout: -1, Timeout: -1,
	}})
	want := `reselect.codes[0]: 200 to 299 is not a range from 400 to 599` + "\n" +
		"reselect.maxBody: -1: negative\nreselect.tryTimeout: -1ns: negative\nreselect.timeout: -1ns: negative"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestGuardedBodyReplays checks the reading of a body again and again against
// the body itself.
func TestGuardedBodyReplays(t *testing.T) {
	const text = "a body that is not very long, but longer than a read of it"
	for limit := range len(text) + 2 {
		g := newGuardedBody(io.NopCloser(strings.NewReader(text)))
		g.keep(limit, 0)
		for read := range 10 {
			v := g.open()
			part := make([]byte, 7*read)
			n, err := io.ReadFull(v, part)
			if want := text[:min(7*read, len(text))]; string(part[:n]) != want {
				t.Fatalf("limit %d: read %q, %v, want %q", limit, part[:n], err, want)
			}
			if g.replayable() != (n <= limit) {
				t.Fatalf("limit %d: replayable %t after %d bytes", limit, g.replayable(), n)
			}
			if !g.replayable() {
				rest, err := io.ReadAll(v)
				if err != nil || string(rest) != text[n:] {
					t.Fatalf("limit %d: the rest is %q, %v", limit, rest, err)
				}
				break
			}
			v.Close()
			if _, err := v.Read(make([]byte, 1)); err == nil {
				t.Fatal("a closed view can be read")
			}
		}
		if len(g.kept) > limit+len(text) {
			t.Errorf("limit %d: %d bytes kept", limit, len(g.kept))
		}
	}
	failing := newGuardedBody(io.NopCloser(io.MultiReader(bytes.NewReader([]byte("abc")), errorReader{})))
	failing.keep(10, 0)
	if _, err := io.ReadAll(failing.open()); !errors.Is(err, errReset) || failing.replayable() || !failing.failed() {
		t.Errorf("a body that fails: %v, replayable %t", err, failing.replayable())
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errReset }
