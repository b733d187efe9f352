package accept

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeListener gives out connections without a network.
type fakeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newFakeListener() fakeListener {
	return fakeListener{make(chan net.Conn, 100), make(chan struct{})}
}

func (l fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l fakeListener) Close() error   { close(l.closed); return nil }
func (l fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A fakeConn is a connection from one address of 192.0.2.0/24, or of anywhere
// if it has a colon, to 198.51.100.1:443.
type fakeConn struct {
	net.Conn
	peer   net.TCPAddr
	closed bool
}

func from(addr string) *fakeConn {
	if !strings.Contains(addr, ":") {
		addr = "192.0.2." + addr
	}
	return &fakeConn{peer: net.TCPAddr{IP: net.ParseIP(addr), Port: 4711}}
}

func (c *fakeConn) RemoteAddr() net.Addr { return &c.peer }
func (c *fakeConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443}
}
func (c *fakeConn) Close() error { c.closed = true; return nil }

// events collects what a gate reports.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) take() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

// fixed is a gate whose rules do not change.
func fixed(r *Rules) *Gate { return New(func() *Rules { return r }) }

// times is a rate that allows n connections.
func times(n int) func() bool {
	return func() bool { n--; return n >= 0 }
}

func perClient(n int) func(netip.Addr) bool {
	clients := make(map[netip.Addr]int)
	return func(a netip.Addr) bool { clients[a]++; return clients[a] <= n }
}

// Each row connects from addresses in turn, and says which connections go on:
// "+" does and stays, "." does and is closed by its user, "-" is closed by the
// gate.
func TestRules(t *testing.T) {
	deny := func(client, _ netip.AddrPort) Verdict {
		if client.Addr() == netip.MustParseAddr("192.0.2.66") {
			return Verdict{Action: Reset, Rule: "no 66"}
		}
		return Verdict{Rule: "others"}
	}
	for _, test := range []struct {
		name  string
		rules Rules
		from  string
		want  string
		limit Limit // that is reported
		open  int   // reports of connections that go on
	}{
		{"none", Rules{}, "1 1 1 1", "++++", NoLimit, 0},
		{"any number", Rules{Limits: Limits{Max: -1}}, "1 1 1 1", "++++", NoLimit, 0},
		{"max", Rules{Limits: Limits{Max: 2}}, "1 2 3 1", "++--", OverMax, 0},
		{"max, closed ones make room", Rules{Limits: Limits{Max: 2, MaxPerClient: 1}}, "1 1 1 2 2", "..+..", NoLimit, 0},
		{"max per client", Rules{Limits: Limits{MaxPerClient: 2}}, "1 1 2 1 2 2 3", "+++-+-+", OverMaxPerClient, 0},
		{"max per prefix", Rules{Limits: Limits{MaxPerClient: 2, IPv4Bits: 30}}, "4 5 6 8 7", "++-+-", OverMaxPerClient, 0},
		{"max per client of IPv6", Rules{Limits: Limits{MaxPerClient: 1}}, "2001:db8::1 2001:db8::2 2001:db8:0:1::1", "+-+", OverMaxPerClient, 0},
		{"max per prefix of IPv6", Rules{Limits: Limits{MaxPerClient: 1, IPv6Bits: 128}}, "2001:db8::1 2001:db8::2 2001:db8::1", "++-", OverMaxPerClient, 0},
		{"rate per client", Rules{Limits: Limits{AllowClient: perClient(2), Exceeded: Drop}}, "1 2 1 1 2 2 3", "++.-+-+", OverClientRate, 0},
		{"rate", Rules{Limits: Limits{Allow: times(2), Exceeded: Reset}}, "1 2 3", "..-", OverRate, 0},
		{"rate, reported only", Rules{Limits: Limits{Allow: times(2)}}, "1 2 3", "+++", OverRate, 1},
		{"denied ones do not count", Rules{Limits: Limits{Allow: times(1), Exceeded: Drop}, Judge: deny}, "66 66 1 2", "--+-", OverRate, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var reports events
			test.rules.Report = reports.add
			g := fixed(&test.rules)
			if g.Listening() {
				t.Error("listening already")
			}
			l := newFakeListener()
			ln := g.Listener(l)
			open, denied, limited, went := 0, 0, 0, 0
			for i, addr := range strings.Fields(test.from) {
				raw := from(addr)
				if test.want[i] == '-' { // Accept would wait for the next one
					if g.accepted(nil, raw) != nil {
						t.Fatalf("connection %d passes", i)
					}
				} else {
					l.conns <- raw
					c, err := ln.Accept()
					if err != nil {
						t.Fatal(err)
					}
					if g.At(c.LocalAddr()) != c || g.Beneath(tls.Server(c, nil)) != c {
						t.Errorf("connection %d is not found", i)
					}
					if test.want[i] == '.' {
						c.Close()
						c.Close()
						if g.At(c.LocalAddr()) != nil {
							t.Errorf("connection %d is found after its end", i)
						}
					} else {
						open++
					}
				}
				if raw.closed != (test.want[i] != '+') {
					t.Errorf("connection %d: closed %t", i, raw.closed)
				}
				for _, e := range reports.take() {
					if e.Limit != NoLimit {
						limited++
					}
					if e.Closed {
						denied++
					} else {
						went++
					}
					want := Event{Client: netip.MustParseAddrPort(raw.peer.String()), Local: netip.MustParseAddrPort("198.51.100.1:443"), Closed: raw.closed}
					if addr == "66" {
						want.Verdict = Verdict{Action: Reset, Rule: "no 66"}
					} else {
						want.Limit = test.limit
					}
					if e != want {
						t.Errorf("connection %d: reported %+v, want %+v", i, e, want)
					}
				}
			}
			if want := strings.Count(test.want, "-"); denied != want || went != test.open {
				t.Errorf("%d connections reported as denied, %d as going on, want %d and %d", denied, went, want, test.open)
			}
			if got, want := g.Stats(), (Stats{Open: open, Denied: uint64(denied), Limited: uint64(limited)}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// A verdict stays with the connection; whether it asks for a record is reported
// once.
func TestVerdict(t *testing.T) {
	verdict := Verdict{Rule: "logs", Err: errors.New("fault"), Log: true}
	rules := &Rules{Judge: func(netip.AddrPort, netip.AddrPort) Verdict { return verdict }}
	g := fixed(rules)
	c := g.accepted(nil, from("1")).(*Conn)
	if v, judged := c.Verdict(); v != verdict || !judged {
		t.Errorf("%+v, %t", v, judged)
	}
	other := fixed(&Rules{})
	for _, by := range []*Gate{g, other} {
		if !c.TakeLog(by) || c.TakeLog(by) {
			t.Error("the record is asked for not once")
		}
	}
	if c.TakeLog(fixed(rules)) {
		t.Error("a second service behind that of the gate is asked for a record")
	}
	for range 2 {
		if err := c.Once(func() error { return io.EOF }); err != io.EOF {
			t.Error(err)
		}
	}
	if err := c.Once(func() error { return nil }); err != io.EOF {
		t.Errorf("found out again: %v", err)
	}
	if other.Beneath(c) != nil || other.At(c.LocalAddr()) != nil {
		t.Error("found by another gate")
	}
	c = other.accepted(nil, from("1")).(*Conn)
	if v, judged := c.Verdict(); judged || v != (Verdict{}) || c.TakeLog(other) || c.TakeLog(g) {
		t.Errorf("judged without anybody to judge: %+v", v)
	}
	if other.Beneath(from("1")) != nil {
		t.Error("a foreign connection is found")
	}
}

// Without a limit of their own, connections wait until file descriptors are
// free again, or the listener is closed.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fixed(&Rules{})
		g.files = 2
		l := newFakeListener()
		ln := g.Listener(l)
		accepted := make(chan net.Conn)
		var err error
		go func() {
			defer close(accepted)
			for {
				var c net.Conn
				if c, err = ln.Accept(); err != nil {
					return
				}
				accepted <- c
			}
		}()
		for range 3 {
			l.conns <- from("1")
		}
		first := <-accepted
		<-accepted
		synctest.Wait()
		if !first.(*Conn).Crowded() || g.Stats().Open != 2 {
			t.Fatalf("crowded %t, %+v", first.(*Conn).Crowded(), g.Stats())
		}
		first.Close()
		third := (<-accepted).(*Conn)
		synctest.Wait()
		if !third.Crowded() {
			t.Error("there is room for a fourth connection")
		}
		ln.Close()
		if _, more := <-accepted; more || !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		if third.Crowded() {
			t.Error("crowded, though nobody waits")
		}
	})
}

func TestFileBound(t *testing.T) {
	for _, test := range []struct {
		files uint64
		want  int
	}{{0, 0}, {1, 1}, {32, 1}, {34, 1}, {36, 2}, {256, 112}, {1 << 20, 524272}} {
		if got := fileBound(test.files); got != test.want {
			t.Errorf("%d files: %d connections, want %d", test.files, got, test.want)
		}
	}
	if limit := fileLimit(); limit > 0 && limit < 3 {
		t.Errorf("the process may have %d files", limit)
	}
}

// gateOn listens on loopback, and hands each connection to serve.
func gateOn(t *testing.T, g *Gate, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	guarded := g.Listener(ln)
	wg.Go(func() {
		for {
			c, err := guarded.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() { guarded.Close(); wg.Wait() })
	return ln.Addr().String()
}

// A denied connection is reset, or closed in peace, before anything is read.
func TestEndings(t *testing.T) {
	for _, test := range []struct {
		action Action
		reset  bool
	}{{Drop, false}, {Reset, true}} {
		g := fixed(&Rules{Judge: func(netip.AddrPort, netip.AddrPort) Verdict { return Verdict{Action: test.action} }})
		addr := gateOn(t, g, func(net.Conn) { t.Error("a denied connection is served") })
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if reset := errors.Is(err, syscall.ECONNRESET); reset != test.reset || !reset && err != io.EOF {
			t.Errorf("action %d: %v", test.action, err)
		}
	}
}

// A proxy says who the client is, which the rules judge; others cannot.
func TestHeaders(t *testing.T) {
	const header = "PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n"
	trusted := func(netip.Addr) bool { return true }
	for _, test := range []struct {
		name   string
		proxy  func(netip.Addr) bool
		sent   string
		want   string // what the server reads; nothing if the connection is denied
		client string // empty for that of the connection
		event  Event
		err    error
	}{
		{name: "nobody is trusted", sent: header, want: header},
		{name: "others are trusted", proxy: func(netip.Addr) bool { return false }, sent: header, want: header},
		{name: "trusted", proxy: trusted, sent: header + "hello", want: "hello", client: "203.0.113.9:4711"},
		{name: "without addresses", proxy: trusted, sent: "PROXY UNKNOWN\r\nhello", want: "hello"},
		{
			name: "denied", proxy: trusted, sent: "PROXY TCP4 203.0.113.66 198.51.100.1 4711 443\r\nhello", client: "203.0.113.66:4711",
			event: Event{Closed: true, Verdict: Verdict{Action: Reset, Rule: "no 66"}},
		},
		{name: "no header", proxy: trusted, sent: "hello", event: Event{Closed: true}, err: ErrHeader},
		{name: "cut off", proxy: trusted, sent: "PROXY TCP4 203", event: Event{Closed: true}, err: ErrHeader},
		{name: "nothing", proxy: trusted},
	} {
		t.Run(test.name, func(t *testing.T) {
			var reports events
			g := fixed(&Rules{
				FromProxy: test.proxy, HeaderTimeout: time.Minute, Report: reports.add,
				Judge: func(client, _ netip.AddrPort) Verdict {
					if client.Addr() == netip.MustParseAddr("203.0.113.66") {
						return Verdict{Action: Reset, Rule: "no 66"}
					}
					return Verdict{}
				},
			})
			type seen struct{ read, client, proxy string }
			served := make(chan seen, 1)
			addr := gateOn(t, g, func(c net.Conn) {
				read, _ := io.ReadAll(bufio.NewReader(c))
				s := seen{string(read), c.RemoteAddr().String(), ""}
				if own := g.Beneath(c); own.Proxy().IsValid() {
					s.proxy = own.Proxy().String()
				}
				served <- s
			})
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			local := c.LocalAddr().String()
			if _, err := io.WriteString(c, test.sent); err != nil {
				t.Fatal(err)
			}
			_ = c.(*net.TCPConn).CloseWrite()
			want := seen{test.want, test.client, ""}
			if test.client == "" {
				want.client = local
			}
			if test.proxy != nil && test.proxy(netip.Addr{}) {
				want.proxy = local
			}
			if diff := cmp.Diff(want, <-served, cmp.AllowUnexported(seen{})); diff != "" {
				t.Error(diff)
			}
			got := reports.take()
			if test.event == (Event{}) {
				if len(got) > 0 {
					t.Errorf("reported: %+v", got)
				}
				return
			}
			if len(got) != 1 || !errors.Is(got[0].Err, test.err) || got[0].Client.String() != want.client || got[0].Proxy.String() != want.proxy {
				t.Fatalf("reported: %+v", got)
			}
			if diff := cmp.Diff(test.event, got[0], cmpopts.IgnoreFields(Event{}, "Client", "Local", "Proxy", "Err")); diff != "" {
				t.Error(diff)
			}
			if st := g.Stats(); (st.BadHeaders == 1) != (test.err != nil) || st.Denied != 1 || st.Open != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// What a header says of TLS is reported as such, and nothing is said where it
// says nothing.
func TestEncrypted(t *testing.T) {
	const addresses = "\xcb\x00\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbb"
	const sig = "\r\n\r\n\x00\r\nQUIT\n"
	for _, test := range []struct {
		name, header string
		encrypted    bool
		known        bool
	}{
		{"encrypted", sig + "\x21\x11\x00\x14" + addresses + "\x20\x00\x05\x01\x00\x00\x00\x00", true, true},
		{"not encrypted", sig + "\x21\x11\x00\x14" + addresses + "\x20\x00\x05\x00\x00\x00\x00\x00", false, true},
		{"nothing said", sig + "\x21\x11\x00\x0c" + addresses, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, _, err := readProxyHeader(strings.NewReader(test.header))
			if err != nil {
				t.Fatal(err)
			}
			c := &proxiedConn{Conn: &Conn{}}
			if err := c.apply(h); err != nil {
				t.Fatal(err)
			}
			if encrypted, known := c.Encrypted(); encrypted != test.encrypted || known != test.known {
				t.Errorf("encrypted %t, known %t", encrypted, known)
			}
			if c.Client().String() != "203.0.113.9:4711" {
				t.Errorf("client %v", c.Client())
			}
		})
	}
}

// Rules that come later hold for connections that come later, and for headers
// that are read later.
func TestRulesChange(t *testing.T) {
	var mu sync.Mutex
	rules := &Rules{}
	g := New(func() *Rules {
		mu.Lock()
		defer mu.Unlock()
		return rules
	})
	set := func(r *Rules) {
		mu.Lock()
		defer mu.Unlock()
		rules = r
	}
	trusting := &Rules{FromProxy: func(netip.Addr) bool { return true }, HeaderTimeout: time.Minute}
	denying := &Rules{Judge: func(netip.AddrPort, netip.AddrPort) Verdict { return Verdict{Action: Drop} }}

	before := g.accepted(nil, from("1"))
	set(trusting)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() { _, _ = io.WriteString(theirs, "PROXY UNKNOWN\r\nhello") }()
	waiting := g.accepted(nil, ours)
	set(denying)
	if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read from a connection whose header came after the rule: %v", err)
	}
	if g.accepted(nil, from("2")) != nil {
		t.Error("the rule is not applied to a new connection")
	}
	if before.(*Conn).isClosed() {
		t.Error("the rule is applied to an old connection")
	}
	if st := g.Stats(); st.Open != 1 || st.Denied != 2 {
		t.Errorf("%+v", st)
	}
}

// Connections come and go in many goroutines, and all are counted.
func TestConcurrent(t *testing.T) {
	g := fixed(&Rules{Limits: Limits{MaxPerClient: 1000}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var mine []net.Conn
			for range 100 {
				mine = append(mine, g.accepted(nil, from(fmt.Sprint(i%3))))
			}
			for _, c := range slices.Backward(mine) {
				if g.At(c.LocalAddr()) != c {
					t.Error("not found")
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	if st := g.Stats(); st.Open != 0 || len(g.open.clients) != 0 {
		t.Errorf("%+v, %d clients", st, len(g.open.clients))
	}
}
