package clientaddr

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/cputime"
	"github.com/limpetlb/limpet/internal/testrace"
)

// workload is a request, as measured.
type workload struct {
	name   string
	peer   string
	header Header
	lines  []string
	index  int
}

// workloads range from the usual request to the most expensive ones a client or
// a chain of proxies can cause.
func workloads() []workload {
	const element = `for="[2001:db8:f::%x]:4711";host="h,st.example.com:8080";proto=https;by="_0123456789abcdef%032d"`
	var long []string
	for i := range MaxHops {
		long = append(long, fmt.Sprintf(element, i+1, i))
	}
	hundred := func(s string) []string { return []string{strings.TrimSuffix(strings.Repeat(s, 100_000/len(s)), ", ")} }
	return []workload{
		{"peer", "203.0.113.9", XForwardedFor, []string{"198.51.100.7"}, 0},
		{"one hop", "10.0.0.1", XForwardedFor, []string{"198.51.100.7"}, 0},
		{"three hops", "10.0.0.1", XForwardedFor, []string{"6.6.6.6, 198.51.100.7, 10.0.0.3, 2001:db8:f::2"}, 0},
		{"all hops trusted", "10.0.0.1", XForwardedFor, []string{hops(MaxHops, "")}, 0},
		{"100 KB trusted hops", "10.0.0.1", XForwardedFor, hundred("[2001:db8:f:ffff:ffff:ffff:ffff:ffff%eth0]:65535, "), 0},
		{"100 KB without a comma", "10.0.0.1", XForwardedFor, hundred("1"), 0},
		{"100 KB of commas", "10.0.0.1", XForwardedFor, hundred(","), 0},
		{"Forwarded, three hops", "10.0.0.1", Forwarded, []string{`for=198.51.100.7;proto=https, for="[2001:db8:f::3]:80", for=10.0.0.2`}, 0},
		{"Forwarded, many long hops", "10.0.0.1", Forwarded, []string{strings.Join(long, ", ")}, 0},
		{"Forwarded, 100 KB of quotation marks", "10.0.0.1", Forwarded, hundred(`"`), 0},
		{"Forwarded, 100 KB of backslashes", "10.0.0.1", Forwarded, hundred(`\\\\\\\"`), 0},
		{"Forwarded, 100 KB of parameters", "10.0.0.1", Forwarded, hundred("a=b;"), 0},
		{"a place in 100 KB", "10.0.0.1", XForwardedFor, hundred("198.51.100.7, "), MaxIndex},
		{"a place from the right in 100 KB", "10.0.0.1", XForwardedFor, hundred("198.51.100.7, "), -MaxIndex},
		{"Forwarded, a place in 100 KB", "10.0.0.1", Forwarded, hundred(`a="",`), MaxIndex},
		{"Forwarded, a place from the right in 100 KB", "10.0.0.1", Forwarded, hundred(`a="",`), -MaxIndex},
		{"Forwarded, a place in 100 KB of quotation", "10.0.0.1", Forwarded, hundred(`"\"`), 1},
	}
}

// manyTrusted are two hundred networks, as large clouds publish, beside those
// of the tests.
func manyTrusted() []netip.Prefix {
	all := append([]netip.Prefix{}, trusted...)
	for i := range 200 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i), byte(i), 0}), 24))
	}
	return all
}

func (w workload) resolver(tb testing.TB) func() Result {
	tb.Helper()
	r := newResolver(tb, Config{Trusted: manyTrusted(), Header: w.header, Index: w.index})
	peer := netip.AddrPortFrom(netip.MustParseAddr(w.peer), 5000)
	h := http.Header{w.header.String(): w.lines}
	return func() Result { return r.Resolve(peer, h) }
}

// TestTime checks the guarantee of 10 µs of the processor for every header. It
// takes the best of many hundreds of calls: what other programs do to the
// caches is not ours.
func TestTime(t *testing.T) {
	bound := 10 * time.Microsecond
	if testrace.Enabled {
		bound *= 10 // everything is slower then
	}
	for _, w := range workloads() {
		resolve := w.resolver(t)
		const calls = 100
		best := cputime.Least(100, calls*bound, func() {
			for range calls {
				resolve()
			}
		}) / calls
		if best > bound {
			t.Errorf("%s: %v, want at most %v", w.name, best, bound)
		}
	}
}

// TestAllocs checks the guarantee that only malformed hops allocate.
func TestAllocs(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	for _, w := range workloads() {
		resolve := w.resolver(t)
		want := 0.0
		if resolve().Reason == HopMalformed {
			want = 2 // the error that netip returns
		}
		if got := testing.AllocsPerRun(100, func() { resolve() }); got > want {
			t.Errorf("%s: %v allocations, want %v", w.name, got, want)
		}
	}
	for _, remote := range []string{"198.51.100.7:4711", "[2001:db8::9]:4711", "[::ffff:198.51.100.7]:4711"} {
		if got := testing.AllocsPerRun(100, func() { ParsePeer(remote) }); got != 0 {
			t.Errorf("ParsePeer(%s): %v allocations, want 0", remote, got)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	for _, w := range workloads() {
		b.Run(w.name, func(b *testing.B) {
			resolve := w.resolver(b)
			b.ReportAllocs()
			for b.Loop() {
				resolve()
			}
		})
	}
}

func BenchmarkParsePeer(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ParsePeer("198.51.100.7:4711")
	}
}
