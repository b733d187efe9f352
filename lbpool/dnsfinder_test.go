package lbpool

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// dnsServer is a name server on loopback.
type dnsServer struct {
	conn net.PacketConn

	mu      sync.Mutex
	addrs   map[string][]string // host: addresses
	srvs    map[string][]dnsmessage.SRVResource
	rcode   dnsmessage.RCode // of all answers, unless it is success
	silent  bool
	delay   time.Duration
	queries int
}

func newDNSServer(t testing.TB) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dnsServer{conn: conn, addrs: map[string][]string{}, srvs: map[string][]dnsmessage.SRVResource{}}
	var group sync.WaitGroup
	group.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			query := slices.Clone(buffer[:n])
			group.Go(func() {
				answer, delay, err := d.answer(query)
				if err != nil {
					t.Errorf("name server: %v", err)
				}
				time.AfterFunc(delay, func() { _, _ = conn.WriteTo(answer, from) })
			})
		}
	})
	t.Cleanup(func() {
		conn.Close()
		group.Wait()
	})
	return d
}

func (d *dnsServer) answer(query []byte) ([]byte, time.Duration, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, 0, fmt.Errorf("%d questions, %w", len(m.Questions), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queries++
	if d.silent {
		return nil, 0, nil
	}
	q := m.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RCode: d.rcode}
	m.Additionals = nil
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	addrs, known := d.addrs[name]
	srvs, too := d.srvs[name]
	if !known && !too && d.rcode == dnsmessage.RCodeSuccess {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range addrs {
		a := netip.MustParseAddr(text)
		switch {
		case d.rcode != dnsmessage.RCodeSuccess:
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	for _, r := range srvs {
		if q.Type == dnsmessage.TypeSRV && d.rcode == dnsmessage.RCodeSuccess {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &r})
		}
	}
	answer, err := m.Pack()
	return answer, d.delay, err
}

// set changes what the server says.
func (d *dnsServer) set(edit func(*dnsServer)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	edit(d)
}

// resolver returns one that asks this server.
func (d *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "udp", d.conn.LocalAddr().String())
		if err == nil { // else a question goes on for seconds after it was given up
			context.AfterFunc(ctx, func() { conn.Close() })
		}
		return conn, err
	}}
}

func srv(priority, weight, port int, target string) dnsmessage.SRVResource {
	return dnsmessage.SRVResource{Priority: uint16(priority), Weight: uint16(weight), Port: uint16(port), Target: dnsmessage.MustNewName(target)}
}

func TestDNSFinder(t *testing.T) {
	d := newDNSServer(t)
	d.set(func(d *dnsServer) {
		d.addrs["four.test"] = []string{"10.0.0.2", "10.0.0.10", "10.0.0.2"}
		d.addrs["six.test"] = []string{"2001:db8::2", "2001:db8::1"}
		d.addrs["both.test"] = []string{"2001:db8::1", "10.0.0.1"}
		d.addrs["empty.test"] = nil
		d.srvs["_http._tcp.four.test"] = []dnsmessage.SRVResource{
			srv(1, 50, 8080, "both.test."), srv(1, 25, 8081, "four.test."), srv(2, 1, 9000, "six.test."), srv(1, 0, 8081, "six.test."),
		}
		d.srvs["_part._tcp.four.test"] = []dnsmessage.SRVResource{srv(1, 1, 8080, "gone.test."), srv(1, 1, 8080, "four.test.")}
		d.srvs["_none._tcp.four.test"] = []dnsmessage.SRVResource{srv(1, 1, 8080, "gone.test.")}
		d.srvs["_off._tcp.four.test"] = []dnsmessage.SRVResource{srv(0, 0, 0, ".")}
	})
	host := func(name string, ratio int, addrs ...string) (list []ServerConfig) {
		for _, a := range addrs {
			list = append(list, ServerConfig{Address: a, Hostname: name, Ratio: ratio})
		}
		return list
	}
	for _, test := range []struct {
		name   string
		finder DNSFinder
		want   []ServerConfig
		fails  string
	}{
		{"addresses, in order and once", DNSFinder{Name: "four.test"}, host("four.test", 0, "10.0.0.2", "10.0.0.10"), ""},
		{"port", DNSFinder{Name: "four.test:81"}, host("four.test", 0, "10.0.0.2:81", "10.0.0.10:81"), ""},
		{"trailing dot", DNSFinder{Name: "four.test.:81"}, host("four.test", 0, "10.0.0.2:81", "10.0.0.10:81"), ""},
		{"IPv6", DNSFinder{Name: "six.test:81"}, host("six.test", 0, "[2001:db8::1]:81", "[2001:db8::2]:81"), ""},
		{"both", DNSFinder{Name: "both.test"}, host("both.test", 0, "10.0.0.1", "2001:db8::1"), ""},
		{"IPv4 only", DNSFinder{Name: "both.test", Network: "ip4"}, host("both.test", 0, "10.0.0.1"), ""},
		{"IPv6 only", DNSFinder{Name: "both.test", Network: "ip6"}, host("both.test", 0, "2001:db8::1"), ""},
		{"what servers are like", DNSFinder{Name: "both.test", Network: "ip4", Server: ServerConfig{Hostname: "app", Ratio: 3, MaxConnections: 9}},
			[]ServerConfig{{Address: "10.0.0.1", Hostname: "app", Ratio: 3, MaxConnections: 9}}, ""},
		{"no such name", DNSFinder{Name: "gone.test"}, nil, "no such host"},
		{"no addresses", DNSFinder{Name: "empty.test"}, nil, "no such host"},
		{"SRV", DNSFinder{Name: "_http._tcp.four.test", SRV: true}, slices.Concat(
			host("both.test", 2, "10.0.0.1:8080", "[2001:db8::1]:8080"),
			host("four.test", 1, "10.0.0.2:8081", "10.0.0.10:8081"),
			host("six.test", 1, "[2001:db8::1]:8081", "[2001:db8::2]:8081")), ""},
		{"SRV, a target is missing", DNSFinder{Name: "_part._tcp.four.test", SRV: true}, host("four.test", 1, "10.0.0.2:8080", "10.0.0.10:8080"), ""},
		{"SRV, all targets are missing", DNSFinder{Name: "_none._tcp.four.test", SRV: true}, nil, "no such host"},
		{"SRV, not available", DNSFinder{Name: "_off._tcp.four.test", SRV: true}, nil, ""},
		{"SRV, no such name", DNSFinder{Name: "_x._tcp.four.test", SRV: true}, nil, "no such host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.finder.Resolver = d.resolver()
			if err := test.finder.validate(); err != nil {
				t.Fatal(err)
			}
			got, err := test.finder.Find(t.Context())
			if test.fails == "" && err != nil || test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)) {
				t.Errorf("error %v, want %q", err, test.fails)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	d.set(func(d *dnsServer) { d.rcode = dnsmessage.RCodeServerFailure })
	for _, f := range []DNSFinder{{Name: "four.test"}, {Name: "_http._tcp.four.test", SRV: true}} {
		f.Resolver = d.resolver()
		if found, err := f.Find(t.Context()); err == nil {
			t.Errorf("%s: the server fails, and it found %v", &f, found)
		}
	}
	// A target that cannot be looked up now must not cost the servers behind it
	// their place.
	d.set(func(d *dnsServer) { d.rcode = dnsmessage.RCodeSuccess })
	part := DNSFinder{Name: "_http._tcp.four.test", SRV: true, Resolver: halfDeaf{d.resolver(), "both.test."}}
	if found, err := part.Find(t.Context()); err == nil {
		t.Errorf("a target is not known for now, and it found %v", found)
	}
}

// halfDeaf is a resolver that cannot look up one host.
type halfDeaf struct {
	*net.Resolver
	host string
}

func (r halfDeaf) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if host == r.host {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	return r.Resolver.LookupNetIP(ctx, network, host)
}

func TestSRVRatios(t *testing.T) {
	for _, test := range []struct{ weights, want []int }{
		{[]int{0, 0}, []int{1, 1}},
		{[]int{1, 2, 20}, []int{1, 2, 20}},
		{[]int{100, 200, 700}, []int{1, 2, 7}},
		{[]int{1, 100}, []int{1, 20}},
		{[]int{65535, 32768, 13107}, []int{20, 10, 4}},
		{[]int{0, 30, 60}, []int{1, 1, 2}},
		{[]int{7}, []int{1}},
	} {
		var records []*net.SRV
		for _, w := range test.weights {
			records = append(records, &net.SRV{Weight: uint16(w)})
		}
		ratio := ratioOf(records)
		var got []int
		for _, r := range records {
			got = append(got, ratio(r.Weight))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("weights %v: ratios %v, want %v", test.weights, got, test.want)
		}
	}
}

// answers is a resolver that finds the same for every name.
type answers struct {
	addrs   []netip.Addr
	records []*net.SRV
}

func (a answers) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return a.addrs, nil
}

func (a answers) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", a.records, nil
}

// FuzzDNSFinder checks that whatever name is accepted yields servers that a
// pool accepts.
func FuzzDNSFinder(f *testing.F) {
	f.Add("app.example.com", false, uint16(1), uint16(1)) // the usual
	f.Add("app.example.com:8080", false, uint16(0), uint16(0))
	f.Add("_http._tcp.example.com", true, uint16(8080), uint16(65535))
	f.Add("[::1]:80", false, uint16(1), uint16(0)) // an address
	f.Add("app:0", false, uint16(1), uint16(0))    // no port
	f.Add("a:b:c", true, uint16(1), uint16(3))     // colons where none may be
	f.Add(".", true, uint16(1), uint16(3))         // the root
	f.Fuzz(func(t *testing.T, name string, srv bool, port, weight uint16) {
		addrs := []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
		d := &DNSFinder{Name: name, SRV: srv, Resolver: answers{addrs, []*net.SRV{
			{Target: name, Port: port, Weight: weight}, {Target: "other", Port: 81, Weight: weight / 3}, {Target: "other", Port: 81},
		}}}
		if d.validate() != nil {
			return
		}
		found, err := d.Find(t.Context())
		var faults fielderr.List
		members := newMembers(found, 80, &faults)
		if err != nil || len(members) < 2 {
			t.Errorf("%q: %v, error %v", name, found, err)
		}
		if err := faults.Err(); err != nil && (!srv || port != 0) && !looksLikeAddress(strings.TrimSuffix(name, ".")) {
			t.Errorf("%q: %v", name, err)
		}
	})
}
