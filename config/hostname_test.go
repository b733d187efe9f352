package config

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
)

// A nameServer is the DNS of a test, on loopback.
type nameServer struct {
	mu      sync.Mutex
	addrs   map[string][]string // host: addresses
	queries int
}

// nameServerAt is the address of the last name server. Connections that are
// made in the background read [net.DefaultResolver], so TestMain alone changes
// it.
var nameServerAt atomic.Value

func dialNameServer(ctx context.Context, network, address string) (net.Conn, error) {
	if at, ok := nameServerAt.Load().(string); ok {
		network, address = "udp", at
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// newNameServer makes look-ups of the process go to a server of the test.
func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{addrs: map[string][]string{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 4096)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			answer, err := n.answer(buffer[:size])
			if err != nil {
				t.Errorf("name server: %v", err)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	})
	nameServerAt.Store(conn.LocalAddr().String())
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return n
}

func (n *nameServer) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("%d questions, %w", len(m.Questions), err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queries++
	q := m.Questions[0]
	addrs, known := n.addrs[strings.TrimSuffix(q.Name.String(), ".")]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired}
	if m.Additionals = nil; !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	for _, text := range addrs {
		switch a := netip.MustParseAddr(text); {
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return m.Pack()
}

// set changes the addresses of a host; none means that it does not exist.
func (n *nameServer) set(host string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addrs[host] = addrs; addrs == nil {
		delete(n.addrs, host)
	}
}

func (n *nameServer) asked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.queries
}

// A counter counts log lines by level and message.
type counter struct {
	slog.Handler
	lines *sync.Map // "WARN server discovery failed": *atomic.Int64
}

func newCounter() counter { return counter{slog.DiscardHandler, &sync.Map{}} }

// Enabled implements [slog.Handler].
func (counter) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (c counter) Handle(_ context.Context, r slog.Record) error {
	n, _ := c.lines.LoadOrStore(r.Level.String()+" "+r.Message, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	return nil
}

// WithAttrs implements [slog.Handler].
func (c counter) WithAttrs([]slog.Attr) slog.Handler { return c }

// of returns how often a line came.
func (c counter) of(line string) int64 {
	n, ok := c.lines.Load(line)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

// members are the addresses of a pool's servers.
func members(p *lbpool.Pool) (all []string) {
	for _, s := range p.Servers() {
		all = append(all, s.Addr().String())
	}
	slices.Sort(all)
	return all
}

// A host name is as good as an address: each of its addresses is a server,
// known by that, so a client stays where it is when others come and go. A name
// that does not exist when limpet starts is a warning, and is asked for again;
// if it goes later, its servers stay. Loading a file asks nobody.
func TestHostNames(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	defer origin.Close()
	_, port, _ := net.SplitHostPort(origin.Listener.Addr().String())
	dns := newNameServer(t)
	lines := newCounter()
	text := fmt.Sprintf(`pools:
  - name: web
    resolveInterval: 10ms
    rewriteHost: true
    servers: [{address: 127.0.0.9:1, disabled: true}, {address: "app.limpet.test:%s", ratio: 3}]
`, port)
	h := open(t, map[string]string{"limpet.yaml": text}, Options{Logger: slog.New(lines)})
	pool := h.kept.pools["web"]
	testwait.Until(t, "a second look-up", func() bool { return dns.asked() > 4 })
	if got := h.get("listen", "shop.example.com", "/"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("%q without servers", got)
	}
	if n := lines.of("WARN server discovery failed"); n != 1 {
		t.Errorf("%d warnings", n)
	}

	dns.set("app.limpet.test", "127.0.0.1")
	testwait.Until(t, "a server", func() bool { return len(pool.Servers()) == 2 })
	s, _, ok := pool.Lookup("127.0.0.1:"+port, 0)
	if !ok || s.Ratio() != 3 {
		t.Fatalf("servers %v", members(pool))
	}
	if got := h.get("listen", "shop.example.com", "/"); got != "200 app.limpet.test:"+port {
		t.Errorf("%q", got)
	}

	dns.set("app.limpet.test", "127.0.0.2", "127.0.0.1")
	testwait.Until(t, "another server", func() bool { return len(pool.Servers()) == 3 })
	if again, _, _ := pool.Lookup("127.0.0.1:"+port, 0); again != s {
		t.Error("a server that stays has been replaced")
	}
	dns.set("app.limpet.test")
	asked := dns.asked()
	testwait.Until(t, "look-ups that fail", func() bool { return lines.of("WARN server discovery failed") == 2 && dns.asked() > asked+4 })
	if _, err := h.rewrite(strings.Replace(text, "ratio: 3", "ratio: 4", 1)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"127.0.0.1:" + port, "127.0.0.2:" + port, "127.0.0.9:1"}, members(pool)); diff != "" {
		t.Errorf("servers of a name that has gone (-want +got):\n%s", diff)
	}
}

// Host names have the port of the pool, localhost is an address, and Load looks
// nothing up.
func TestHostNamesLoad(t *testing.T) {
	dns := newNameServer(t)
	f, errs := loaded(t, map[string]string{"limpet.yaml": `pools:
  - name: web
    defaultPort: 8080
    servers: [{address: LocalHost, name: here}, {address: "localhost:81"}, {address: app.limpet.test.}, {address: app}]
`}, "limpet.yaml")
	if errs != "" {
		t.Fatal(errs)
	}
	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"127.0.0.1:8080", "127.0.0.1:81"}, members(rt.kept.pools["web"])); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	if s, _, ok := rt.kept.pools["web"].Lookup("here", 0); !ok || s.Addr().Port() != 8080 {
		t.Error("localhost has no name")
	}
	if n := dns.asked(); n > 0 {
		t.Errorf("%d look-ups", n)
	}
}

// What is taken for a host name, and what is none.
func TestHostName(t *testing.T) {
	for address, want := range map[string]string{
		"app": "app", "app:80": "app :80", "app.example.com.:x": "app.example.com. :x", "a_b-c.d1": "a_b-c.d1", "1.a": "1.a",
		"": "-", "10.0.0.1": "-", "10.0.0": "-", "10.0.0:80": "-", "1": "-", "::1": "-", "fe80::1%eth0": "-", "a:b:c": "-", "[::1]:80": "-",
		"a b": "-", "é.fr": "-", "http://a": "-", ".a": "-", "a..b": "-", ":80": "-", "10.0.0.1:80": "-", strings.Repeat("a", 64): "-",
	} {
		got := "-"
		if host, port, ok := hostName(address); ok {
			got = strings.TrimSpace(host + " " + port)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
