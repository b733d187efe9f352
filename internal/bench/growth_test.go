package bench

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// listing is the published use case, word for word.
const listing = `-- HTTP Request Event --
pool = "my_pool"
client = avi.vs.client_ip() .. avi.vs.client_port()
server = avi.vs.table_lookup(client)
timeout = "300"

if server then
   avi.pool.select(pool, client)
end


-- HTTP Response Event --
if not server then
   avi.vs.table_insert(client, avi.pool.server_ip(), timeout)
end
`

// atOnce is a transport that answers without a network, so that what is
// measured is limpet.
type atOnce struct{}

func (atOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("ok")), ContentLength: 2, Request: r,
	}, nil
}

// A sink is a response writer that keeps nothing.
type sink struct{ h http.Header }

func (s sink) Header() http.Header         { return s.h }
func (s sink) Write(p []byte) (int, error) { return len(p), nil }
func (s sink) WriteHeader(int)             {}

// grow runs a benchmark that sends requests of many clients to a virtual
// service, which is made once, with an entry for each client.
func grow(b *testing.B, name string, clients int, config func() limpet.Config) {
	b.Helper()
	var vs *limpet.VirtualService
	var addrs []string
	b.Run(name, func(b *testing.B) {
		if vs == nil {
			vs, addrs = withClients(b, config(), clients)
		}
		b.ReportAllocs()
		var started atomic.Int64
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			// Far apart, so that processors do not share what they have just
			// read.
			for i := int(started.Add(1)) * 104729; pb.Next(); i++ {
				request(vs, addrs[(i*7919)%len(addrs)])
			}
		})
	})
}

func withClients(b *testing.B, cfg limpet.Config, clients int) (*limpet.VirtualService, []string) {
	b.Helper()
	script, err := datascript.Compile("custom persistence", datascript.Chunk{Source: listing})
	if err != nil {
		b.Fatal(err)
	}
	cfg.Scripts = []limpet.Script{{Script: script}}
	cfg.Transport = atOnce{}
	cfg.Logger = slog.New(slog.DiscardHandler)
	vs, err := limpet.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	addrs := make([]string, clients)
	for i := range addrs {
		addrs[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 20000).String()
		request(vs, addrs[i])
	}
	return vs, addrs
}

func request(h http.Handler, addr string) {
	r, err := http.NewRequest("GET", "http://example.com/path", nil)
	if err != nil {
		panic(err)
	}
	r.RemoteAddr = addr
	r.Header.Set("User-Agent", "bench")
	h.ServeHTTP(sink{http.Header{}}, r)
}

func pools(b *testing.B, servers int) []*lbpool.Pool {
	b.Helper()
	cfg := lbpool.Config{Name: "my_pool"}
	for i := range servers {
		cfg.Servers = append(cfg.Servers, lbpool.ServerConfig{Address: fmt.Sprintf("127.1.%d.%d:80", i>>8, i&0xff)})
	}
	p, err := lbpool.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return []*lbpool.Pool{p}
}

// BenchmarkGrowth shows how the cost of a request with the listing grows with
// the size of what is configured; the network is left out.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		grow(b, fmt.Sprintf("entries=%d", n), n, func() limpet.Config {
			return limpet.Config{Pools: pools(b, 3), Tables: persistence.NewStore(persistence.Options{MaxEntries: 2 * n})}
		})
	}
	for _, n := range []int{1, 100, 10_000} {
		grow(b, fmt.Sprintf("rules=%d", n), 1000, func() limpet.Config {
			var rules []policy.SecurityRule
			for i := range n {
				rules = append(rules, policy.SecurityRule{
					Name: fmt.Sprintf("rule %d", i), Action: policy.Close{},
					Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{fmt.Sprintf("/private/%d/", i)}}},
				})
			}
			return limpet.Config{Pools: pools(b, 3), Policies: limpet.Policies{HTTPSecurity: rules}}
		})
	}
	for _, n := range []int{3, 100, 1_000} {
		grow(b, fmt.Sprintf("servers=%d", n), 1000, func() limpet.Config { return limpet.Config{Pools: pools(b, n)} })
	}
	for _, n := range []int{10, 1_000, 100_000} {
		grow(b, fmt.Sprintf("prefixes=%d", n), 1000, func() limpet.Config {
			var entries []string
			for i := range n {
				entries = append(entries, fmt.Sprintf("%d.%d.%d.0/24", 11+i>>16, i>>8&0xff, i&0xff))
			}
			group, err := ipgroup.Parse("Blacklist", entries, ipgroup.Options{})
			if err != nil {
				b.Fatal(err)
			}
			groups, err := ipgroup.NewSet(group)
			if err != nil {
				b.Fatal(err)
			}
			return limpet.Config{Pools: pools(b, 3), IPGroups: groups, Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
				Name: "blacklist", Action: policy.Close{}, Match: policy.Match{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
			}}}}
		})
	}
}
