package lbpool

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A pausingBody gives one byte after each pause, and then its end, or nothing
// until it is closed.
type pausingBody struct {
	pauses []time.Duration
	whole  bool
	closed chan struct{}
}

func (b *pausingBody) Read(p []byte) (int, error) {
	if len(b.pauses) == 0 {
		if b.whole {
			return 0, io.EOF
		}
		<-b.closed
		return 0, io.ErrClosedPipe
	}
	timer := time.NewTimer(b.pauses[0])
	defer timer.Stop()
	select {
	case <-b.closed:
		return 0, io.ErrClosedPipe
	case <-timer.C:
	}
	b.pauses = b.pauses[1:]
	return copy(p, "x"), nil
}

func (b *pausingBody) Close() error { return nil }

// A brokenExchange is one whose server breaks the connection, or lets the time
// for it pass, while the client is slow or not.
type brokenExchange struct {
	transport func(*http.Transport) http.RoundTripper
	sends     []sending       // of the server
	gives     time.Duration   // how long the server waits after that; negative: until the client ends
	pool      Config          // beside the name and the servers
	body      *pausingBody    // of the request; nil: none
	read      int             // how many bytes the client takes at once
	away      []time.Duration // how long the client is away after each read
	want      error           // of the exchange; nil: any but ErrAborted, since the client has not gone
	blamed    bool            // the failure is the server's
}

// A sending is a part of a response.
type sending struct {
	after time.Duration // the part before
	text  string
}

func (x brokenExchange) run(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		base := NewBase()
		base.DialContext = scriptedServer(func(c net.Conn, r *bufio.Reader) {
			ended := make(chan struct{})
			if x.body != nil {
				go func() {
					defer close(ended)
					_, _ = io.Copy(io.Discard, r)
				}()
			}
			for _, part := range x.sends {
				time.Sleep(part.after)
				if _, err := io.WriteString(c, part.text); err != nil {
					return
				}
			}
			if x.gives < 0 {
				<-ended
				return
			}
			time.Sleep(x.gives)
			_ = c.Close()
		}).DialContext
		x.pool.Name, x.pool.Servers = "p", []ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}
		pool := mustPool(t, x.pool)
		sender := &Transport{Pool: pool, Base: x.transport(base)}
		defer sender.CloseIdleConnections()
		method, closed := "GET", make(chan struct{})
		var body io.Reader
		if x.body != nil {
			copied := *x.body
			copied.closed = closed
			method, body = "POST", &copied
		}
		resp, err := sender.RoundTrip(request(t.Context(), method, body, &Route{Pool: pool}))
		for away, buffer := x.away, make([]byte, x.read); err == nil; {
			if _, err = resp.Body.Read(buffer); err == nil && len(away) > 0 {
				time.Sleep(away[0])
				away = away[1:]
			}
		}
		if x.want != nil && !errors.Is(err, x.want) || x.want == nil && errors.Is(err, ErrAborted) {
			t.Errorf("error %v", err)
		}
		close(closed)
		if resp != nil {
			_ = resp.Body.Close()
		}
		synctest.Wait()
		want := uint64(0)
		if x.blamed {
			want = 1
		}
		wantFailures(t, pool, want)
		wantOpen(t, pool, 0)
	})
}

// Many servers break the connection when a request does not come in time, or
// when nobody takes the response. A client that is slow on purpose had three
// such servers ejected from three addresses.
func TestSlowClients(t *testing.T) {
	const (
		head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
		ms   = time.Millisecond
	)
	drip := func(n int, pause time.Duration) []time.Duration { return slices.Repeat([]time.Duration{pause}, n) }
	for _, test := range []struct {
		name   string
		body   *pausingBody    // of the request; nil: none
		answer []string        // what the server sends
		gives  time.Duration   // how long the server waits after its answer
		away   []time.Duration // how long the client is away after each byte that it has taken
		blamed bool
	}{
		{"stalls in the body", &pausingBody{}, nil, 3 * time.Second, nil, false},
		{"drips the body", &pausingBody{pauses: drip(100, 500*ms)}, nil, 3 * time.Second, nil, false},
		{"stalls in the body while the response has begun", &pausingBody{}, []string{head + "0"}, 3 * time.Second, nil, false},
		{"takes long for the whole body", &pausingBody{pauses: drip(1, 3*time.Second), whole: true}, nil, 4 * time.Second, nil, false},
		{"takes nothing", nil, []string{head + "0", "1"}, 0, drip(1, 3*time.Second), false},
		{"takes a little", nil, []string{head + "0", "1", "2", "3", "4", "5"}, 0, drip(6, 500*ms), false},

		{"is fast, with a body", &pausingBody{pauses: drip(2, ms), whole: true}, nil, 3 * time.Second, nil, true},
		{"is not so slow, with a body", &pausingBody{}, nil, time.Second, nil, true},
		{"is fast", nil, nil, 10 * time.Second, nil, true},
		{"is fast in taking", nil, []string{head + "0"}, 10 * time.Second, nil, true},
		{"is not so slow in taking", nil, []string{head + "0", "1"}, 10 * time.Second, drip(1, time.Second), true},
	} {
		for name, transport := range map[string]func(*http.Transport) http.RoundTripper{
			"NewHTTP1": NewHTTP1, "NewBase": func(base *http.Transport) http.RoundTripper { return base },
		} {
			if name == "NewBase" && test.body != nil && !test.body.whole {
				continue // waits for the body in any case
			}
			var sends []sending
			for _, part := range test.answer {
				sends = append(sends, sending{0, part})
			}
			t.Run(test.name+"/"+name, brokenExchange{
				transport: transport, sends: sends, gives: test.gives, pool: Config{Passive: Passive{Failures: 1, SameClient: true}},
				body: test.body, read: 1, away: test.away, blamed: test.blamed,
			}.run)
		}
	}
}

// A server may switch protocols as soon as it has the header of a request. A
// client that announced a body and sent none of it had such servers ejected.
func TestSwitchDuringUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := NewBase()
		base.DialContext = scriptedServer(func(c net.Conn, _ *bufio.Reader) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		}).DialContext
		pool := mustPool(t, Config{Name: "p", Servers: []ServerConfig{{Address: "10.0.0.1"}}})
		sender := &Transport{Pool: pool, Base: NewHTTP1(base)}
		defer sender.CloseIdleConnections()
		body := &pausingBody{closed: make(chan struct{})}
		r := request(t.Context(), "POST", body, &Route{Pool: pool})
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
		if _, err := sender.RoundTrip(r); err == nil || errors.Is(err, ErrAborted) {
			t.Errorf("error %v", err)
		}
		close(body.closed)
		wantFailures(t, pool, 0)
		wantOpen(t, pool, 0)
	})
}

// A server that broke each long download was never held responsible: the times
// that the client needed for the parts of a body were added up, and after two
// seconds of them, nothing was the server's fault. The same was true of
// streams, and of responses to slow uploads.
func TestSlowClientOfBrokenServer(t *testing.T) {
	const (
		head   = "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"
		stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		ms     = time.Millisecond
	)
	some := strings.Repeat("x", 16<<10)
	pauses := func(n int, pause time.Duration) []time.Duration { return slices.Repeat([]time.Duration{pause}, n) }
	for _, test := range []struct {
		name   string
		body   *pausingBody // of the request; nil: none
		head   string
		part   string
		parts  int
		each   time.Duration   // how long the server waits before each part
		gives  time.Duration   // how long it waits after the last
		away   []time.Duration // how long the client is away after each read
		blamed bool
	}{
		{"download at the client's pace", nil, head, some, 200, 0, 0, pauses(200, 15*ms), true},
		{"download with pauses", nil, head, some, 8, 0, 0, pauses(8, 1500*ms), true},
		{"download with a pause long before", nil, head, some, 10, time.Second, 0, pauses(1, 3*time.Second), true},
		{"download that goes on from buffers after a pause", nil, head, some, 200, 0, 0, pauses(1, 3*time.Second), false},
		{"download from buffers, slowly, after a pause", nil, head, some, 200, 0, 0, append(pauses(1, 3*time.Second), pauses(199, 15*ms)...), false},
		{"download that stops for long after a pause", nil, head, some, 2, 0, 10 * time.Second, pauses(1, 3*time.Second), true},
		{"events", nil, stream, "4\r\n:e\n\n\r\n", 100, time.Second, 0, pauses(100, 30*ms), true},
		{"frequent events", nil, stream, "4\r\n:e\n\n\r\n", 500, 25 * ms, 0, pauses(500, 5*ms), true},
		{"stream in both directions", &pausingBody{pauses: pauses(100, time.Second)}, stream, "4\r\n:e\n\n\r\n", 20, time.Second, 0, nil, true},
		{"stream in both directions in which the client is silent", &pausingBody{}, stream, "4\r\n:e\n\n\r\n", 20, time.Second, 0, nil, true},
		{"stream in both directions that rests", &pausingBody{}, stream, "4\r\n:e\n\n\r\n", 3, time.Second, 3 * time.Second, nil, false},
		{"download after a slow upload", &pausingBody{pauses: pauses(1, 3*time.Second), whole: true}, head, some, 20, 4 * time.Second, 0, nil, true},
		{"no answer long after a slow upload", &pausingBody{pauses: pauses(1, 3*time.Second), whole: true}, "", "", 0, 0, 20 * time.Second, nil, true},
	} {
		sends := append([]sending{{0, test.head}}, slices.Repeat([]sending{{test.each, test.part}}, test.parts)...)
		t.Run(test.name, brokenExchange{
			transport: NewHTTP1, sends: sends, gives: test.gives, pool: Config{Passive: Passive{Failures: 1, SameClient: true}},
			body: test.body, read: 16 << 10, away: test.away, blamed: test.blamed,
		}.run)
	}
}

// With Passive.Timeouts, a client that let the time for its own request pass
// had the server ejected.
func TestSlowClientTimeouts(t *testing.T) {
	for _, test := range []struct {
		name   string
		pauses []time.Duration
		whole  bool
		head   bool // the server begins an answer
		blamed bool
	}{
		{"stalls", nil, false, false, false},
		{"stalls, with an answer", nil, false, true, false},
		{"has used up the time", []time.Duration{28 * time.Second}, true, false, false},
		{"was fast", []time.Duration{time.Second}, true, false, true},
		{"was fast enough", []time.Duration{3 * time.Second}, true, false, true},
		{"was fast, with an answer", []time.Duration{time.Second}, true, true, true},
		{"has used up the time, with an answer", []time.Duration{28 * time.Second}, true, true, true},
	} {
		var sends []sending
		if test.head {
			sends = []sending{{0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0"}}
		}
		t.Run(test.name, brokenExchange{
			transport: NewHTTP1, sends: sends, gives: -1,
			pool: Config{Passive: Passive{Failures: 1, SameClient: true, Timeouts: true}, Reselect: Reselect{TryTimeout: 30 * time.Second}},
			body: &pausingBody{pauses: test.pauses, whole: test.whole}, read: 1, want: ErrTimeout, blamed: test.blamed,
		}.run)
	}
}
