package acceptance_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/policy"
)

// endsAtOnce connects and reports how the connection ends before anything is
// sent, or "" if it is open.
func (s *site) endsAtOnce(t testing.TB, local string) (net.Conn, ending) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: testwait.Limit}
	c, err := d.DialContext(t.Context(), "tcp", s.Addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil, reset
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(testwait.Limit))
	q := &quietly{Conn: c}
	r := send(t, q, "GET / HTTP/1.1\nHost: example.com\n\n")
	res, err := http.ReadResponse(r, nil)
	switch {
	case err == nil:
		_, _ = io.Copy(io.Discard, res.Body)
		return c, ""
	case q.reset, errors.Is(err, syscall.ECONNRESET):
		return nil, reset
	}
	return nil, fin
}

// quietly is a connection to which writing never fails: that the other side has
// closed it is for the reader to find out. Only that it was reset is reported
// once, perhaps to the writer.
type quietly struct {
	net.Conn
	reset bool
}

func (q *quietly) Write(p []byte) (int, error) {
	_, err := q.Conn.Write(p)
	q.reset = q.reset || errors.Is(err, syscall.ECONNRESET)
	return len(p), nil
}

// Each row connects from addresses of loopback in turn, and says which get in:
// "+" does and stays, "." does and goes at once, "R" is reset. Without a reset
// the client's request may find the socket gone, which is a reset as well, so
// that rows with "-" take both.
func TestConnectionLimits(t *testing.T) {
	hour := policy.Rate{Count: 2, Period: time.Hour}
	for _, test := range []struct {
		name   string
		limits limpet.ConnectionLimits
		from   string // the last byte of each address
		want   string
		limit  string
	}{
		{"none", limpet.ConnectionLimits{}, "1 1 1 1", "++++", ""},
		{"max", limpet.ConnectionLimits{Max: 2}, "1 2 3 1", "++RR", "connections.max"},
		{"max per client", limpet.ConnectionLimits{MaxPerClient: 2}, "1 1 2 1 2 2 3", "+++R+R+", "connections.maxPerClient"},
		{"max per prefix", limpet.ConnectionLimits{MaxPerClient: 2, IPv4Bits: 30}, "4 5 6 8 7", "++R+R", "connections.maxPerClient"},
		{"closed connections make room", limpet.ConnectionLimits{MaxPerClient: 1, Max: 2}, "1 1 1 2 2", "..+..", ""},
		{"rate", limpet.ConnectionLimits{Rate: hour}, "1 2 3", "++-", "connections.rate"},
		{"rate, gone or not", limpet.ConnectionLimits{Rate: hour}, "1 2 3", "..-", "connections.rate"},
		{"rate, reset", limpet.ConnectionLimits{Rate: hour, Exceeded: policy.ActionReset}, "1 2 3", "++R", "connections.rate"},
		{"rate, report", limpet.ConnectionLimits{Rate: hour, Exceeded: policy.ActionReport}, "1 2 3", "+++", "connections.rate"},
		{"rate per client", limpet.ConnectionLimits{RatePerClient: hour}, "1 2 1 1 2 2 3", "++.-+-+", "connections.ratePerClient"},
		{"rate per prefix", limpet.ConnectionLimits{RatePerClient: hour, IPv4Bits: 30}, "4 5 6 8", "++-+", "connections.ratePerClient"},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{Clients: limpet.Clients{Connections: test.limits}, OnComplete: recs.add})
			site := startSite(t, http1, vs.Listener(listen(t, "")), vs.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			open, denied, limited := 0, 0, 0
			for i, from := range strings.Fields(test.from) {
				c, end := site.endsAtOnce(t, "127.0.0."+from)
				rec := recs.next(t)
				want := test.want[i]
				switch {
				case want == '+' && end == "":
					open++
				case want == '.' && end == "":
					c.Close()
					testwait.Until(t, "the server's part", func() bool { return vs.Stats().OpenConnections == open })
				case (want == '-' || want == 'R' && end == reset) && end != "":
					denied++
					if !rec.Connection || !rec.Closed || rec.ConnectionLimit != test.limit || rec.NetworkRule != "" ||
						!slices.Equal(rec.Significant, []limpet.Significance{limpet.PolicyDrop, limpet.RateLimited}) {
						t.Errorf("connection %d: record %+v", i+1, rec)
					}
				default:
					t.Errorf("connection %d ended with %q, want %c", i+1, end, want)
				}
				if rec.Connection && !rec.Closed { // a report, before the record of the request
					limited++
					if rec.ConnectionLimit != test.limit || len(rec.Significant) != 0 {
						t.Errorf("connection %d: report %+v", i+1, rec)
					}
					recs.next(t)
				}
			}
			recs.none(t)
			if (test.limits.Exceeded == policy.ActionReport) != (limited > 0) {
				t.Errorf("%d reports", limited)
			}
			st := vs.Stats()
			if st.OpenConnections != open || int(st.DeniedConnections) != denied || int(st.LimitedConnections) != denied+limited || int(st.PolicyDrops) != denied {
				t.Errorf("%d open, %d denied, %d limited, %+v", open, denied, limited, st)
			}
		})
	}
}

// Connections that rules deny take nothing from the others, and limits survive
// an update.
func TestConnectionLimitsAndRules(t *testing.T) {
	cfg := limpet.Config{
		Policies: limpet.Policies{NetworkSecurity: denying("127.0.0.66")},
		Clients: limpet.Clients{Connections: limpet.ConnectionLimits{
			MaxPerClient: 1, RatePerClient: policy.Rate{Count: 3, Period: time.Hour}, Rate: policy.Rate{Count: 4, Period: time.Hour},
		}},
	}
	vs := newVirtualService(t, cfg)
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	for range 10 {
		site.wantReset(t, "127.0.0.66")
	}
	for i := range 3 {
		c, end := site.endsAtOnce(t, "127.0.0.1")
		if end != "" {
			t.Fatalf("connection %d ends with %s", i, end)
		}
		c.Close()
		testwait.Until(t, "the server's part", func() bool { return vs.Stats().OpenConnections == 0 })
		if err := vs.Update(cfg); err != nil {
			t.Fatal(err)
		}
	}
	if _, end := site.endsAtOnce(t, "127.0.0.1"); end == "" {
		t.Error("the update has filled the client's bucket")
	}
	if c, end := site.endsAtOnce(t, "127.0.0.2"); end != "" {
		t.Error("a connection that was denied has taken from the rate of all")
	} else {
		c.Close()
	}
	if _, end := site.endsAtOnce(t, "127.0.0.3"); end == "" {
		t.Error("the update has filled the bucket of all")
	}
	cfg.Connections = limpet.ConnectionLimits{RatePerClient: policy.Rate{Count: 9, Period: time.Hour}}
	if err := vs.Update(cfg); err != nil {
		t.Fatal(err)
	}
	if _, end := site.endsAtOnce(t, "127.0.0.1"); end != "" {
		t.Error("another rate begins with the tokens of the one before")
	}
}

// A fakeListener gives out connections without a network.
type fakeListener struct{ conns chan net.Conn }

func (l fakeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l fakeListener) Close() error   { return nil }
func (l fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

type fakeConn struct {
	net.Conn
	peer   net.TCPAddr
	local  net.TCPAddr
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return &c.peer }
func (c *fakeConn) LocalAddr() net.Addr  { return &c.local }
func (c *fakeConn) Close() error         { c.closed = true; return nil }

// flood is n connections from addresses of 10.1.0.0/16, over and over.
func flood(n int) []*fakeConn {
	conns := make([]*fakeConn, n)
	for i := range conns {
		ip := net.IPv4(10, 1, byte(i), byte(i>>8))
		conns[i] = &fakeConn{peer: net.TCPAddr{IP: ip, Port: 1024 + i%60_000}, local: net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}}
	}
	return conns
}

// TestFlood denies 100,000 connections from one network, within two seconds as
// far as the log can tell, by a rule and by a rate: each is closed where it was
// accepted, without a goroutine, at little cost, and the log has a line a
// second for each of the two.
func TestFlood(t *testing.T) {
	n := 100_000
	if testrace.Enabled {
		n = 10_000
	}
	if testing.Short() {
		n = 10_000
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var out bytes.Buffer
		vs, err := limpet.New(limpet.Config{
			Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
				Name: "flood", Action: policy.ActionReset,
				Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/17")}}},
			}}},
			Clients: limpet.Clients{Connections: limpet.ConnectionLimits{RatePerClient: policy.Rate{Count: 1, Period: time.Hour}, IPv4Bits: 16}},
			Logger:  slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		l := fakeListener{make(chan net.Conn)}
		conns := flood(n)
		goroutines := runtime.NumGoroutine()
		go func() {
			for i, c := range conns {
				if i == n/2 {
					time.Sleep(time.Second)
				}
				l.conns <- c
			}
			close(l.conns)
		}()
		ln := vs.Listener(l)
		var passed []net.Conn
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			passed = append(passed, c)
		}
		synctest.Wait()
		if more := runtime.NumGoroutine() - goroutines; more > 0 {
			t.Errorf("%d goroutines live on", more)
		}
		if len(passed) != 1 { // the first of the network's other half
			t.Errorf("%d connections pass", len(passed))
		}
		for _, c := range passed {
			c.Close()
		}
		for i, c := range conns {
			if !c.closed {
				t.Fatalf("connection %d is open", i)
			}
		}
		for _, about := range []string{"network_rule=flood", "connection_limit=connections.ratePerClient"} {
			if lines := strings.Count(out.String(), about); lines != 2 {
				t.Errorf("%d lines with %s, want 2", lines, about)
			}
		}
		if !strings.Contains(out.String(), "suppressed=") {
			t.Error("the log does not say how many lines it lacks")
		}
		if st := vs.Stats(); int(st.DeniedConnections) != n-1 || int(st.PolicyDrops) != n-1 || st.OpenConnections != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestFloodMemory shows that clients that were seen take no more memory than
// connections that are open, and the limiter's share.
func TestFloodMemory(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	vs := newVirtualService(t, limpet.Config{Clients: limpet.Clients{Connections: limpet.ConnectionLimits{
		MaxPerClient: 10, RatePerClient: policy.Rate{Count: 100}, Rate: policy.Rate{Count: 1e9},
	}}})
	conns := flood(1 << 16)
	l := fakeListener{make(chan net.Conn, 1)}
	ln := vs.Listener(l)
	round := func() {
		for _, c := range conns {
			l.conns <- c
			accepted, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			accepted.Close()
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range 4 {
		for _, c := range conns {
			c.peer.IP[13]++ // of the 16 bytes: another network
		}
		round()
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("%d bytes more after 262,144 clients", grown)
	}
	if st := vs.Stats(); st.OpenConnections != 0 || st.DeniedConnections != 0 {
		t.Errorf("%+v", st)
	}
	runtime.KeepAlive(conns)
}

func BenchmarkAcceptDenied(b *testing.B) {
	vs := newVirtualService(b, limpet.Config{
		Policies: limpet.Policies{NetworkSecurity: denying("10.1.0.1")},
		Clients:  limpet.Clients{Connections: limpet.ConnectionLimits{MaxPerClient: 10}},
		Logger:   slog.New(slog.NewTextHandler(lockedWriter{new(sync.Mutex), io.Discard}, nil)),
	})
	for _, from := range []byte{1, 2} {
		b.Run(fmt.Sprintf("denied=%t", from == 1), func(b *testing.B) {
			l := fakeListener{make(chan net.Conn, 1)}
			ln := vs.Listener(l)
			c := &fakeConn{peer: net.TCPAddr{IP: net.IPv4(10, 1, 0, from), Port: 1}, local: net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}}
			last := &fakeConn{peer: net.TCPAddr{IP: net.IPv4(10, 1, 0, 2), Port: 1}}
			b.ReportAllocs()
			if from == 1 { // Accept returns when all are denied
				go func() {
					for range b.N {
						l.conns <- c
					}
					l.conns <- last
				}()
				b.ResetTimer()
				_, _ = ln.Accept()
				return
			}
			for range b.N {
				l.conns <- c
				accepted, _ := ln.Accept()
				accepted.Close()
			}
		})
	}
}
