package ipgroup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"go4.org/netipx"
)

var benchmarkSizes = []int{4, 16, 1_000, 100_000, 1_000_000}

// BenchmarkContains prints the time of a lookup against its peers in the same
// run. Half of the lookups are hits. The budget is a ratio to bart.Lite of 1.2
// up to 16 prefixes, 1.0 for 1,000 and 0.5 for 100,000.
func BenchmarkContains(b *testing.B) {
	for _, family := range []string{"IPv4", "IPv6", "both"} {
		for _, size := range benchmarkSizes {
			benchmarkContains(b, family, size)
		}
	}
}

func benchmarkContains(b *testing.B, family string, size int) {
	other := map[string]func(netip.Addr) bool{"IPv4": netip.Addr.Is6, "IPv6": netip.Addr.Is4, "both": func(netip.Addr) bool { return false }}[family]
	prefixes := slices.DeleteFunc(randomPrefixes(2*size), func(p netip.Prefix) bool { return other(p.Addr()) })[:size]
	addrs := slices.DeleteFunc(lookups(prefixes), other)
	g := groupOf(b, prefixes)
	lite := liteOf(prefixes)
	set := ipSetOf(b, prefixes)
	for _, addr := range addrs {
		if want := set.Contains(addr); g.Contains(addr) != want || lite.Contains(addr) != want {
			b.Fatalf("%s: group %v, bart %v, netipx %v", addr, g.Contains(addr), lite.Contains(addr), want)
		}
	}
	b.Run(fmt.Sprint(family, "/", size), func(b *testing.B) {
		b.ReportAllocs()
		var own, bartLite, ipSet time.Duration
		n := 0
		for b.Loop() {
			// They take turns, so that the weather of a shared machine is the
			// same for all three.
			own += elapsed(addrs, func(a netip.Addr) bool { return g.Contains(a) })
			bartLite += elapsed(addrs, func(a netip.Addr) bool { return lite.Contains(a) })
			ipSet += elapsed(addrs, func(a netip.Addr) bool { return set.Contains(a) })
			n += passes * len(addrs)
		}
		b.ReportMetric(0, "ns/op") // the loop runs all three
		b.ReportMetric(float64(own)/float64(n), "ns/lookup")
		b.ReportMetric(float64(own)/float64(bartLite), "×bart.Lite")
		b.ReportMetric(float64(own)/float64(ipSet), "×netipx.IPSet")
	})
}

// passes is how often a structure looks up all addresses in its turn: often
// enough that it is not mainly measured how the others left the caches.
const passes = 16

func elapsed(addrs []netip.Addr, contains func(netip.Addr) bool) time.Duration {
	start := time.Now()
	for range passes {
		for _, addr := range addrs {
			contains(addr)
		}
	}
	return time.Since(start)
}

// BenchmarkMemory prints bytes on the heap and the ratio to bart.Lite.
func BenchmarkMemory(b *testing.B) {
	for _, size := range benchmarkSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			prefixes := randomPrefixes(size)
			list := listOf(prefixes)
			var own, peer float64
			for b.Loop() {
				own = heap(func() any { return parsed(b, list) })
				peer = heap(func() any { return liteOf(prefixes) })
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(own, "B")
			b.ReportMetric(own/peer, "×bart.Lite")
		})
	}
}

func heap(build func() any) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := build()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc)
}

// BenchmarkRead prints the time from text to group; the budget for 1,000,000
// prefixes is 2 s.
func BenchmarkRead(b *testing.B) {
	for _, size := range benchmarkSizes {
		text := strings.Join(listOf(randomPrefixes(size)), "\n")
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := Read("g", strings.NewReader(text), Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// randomPrefixes returns prefixes as lists hold them: IPv4 of /16 to /32, IPv6
// in 2000::/3 of /32 to /64.
func randomPrefixes(n int) []netip.Prefix {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	prefixes := make([]netip.Prefix, n)
	for i := range prefixes {
		if i%2 == 0 {
			prefixes[i] = netip.PrefixFrom(addr4(r.Uint32()), 32-min(r.IntN(9), r.IntN(17))).Masked()
		} else {
			prefixes[i] = netip.PrefixFrom(addr6(1<<61|r.Uint64()>>3, r.Uint64()), 32+r.IntN(33)).Masked()
		}
	}
	return prefixes
}

// lookups returns addresses of which half lie in one of the prefixes.
func lookups(prefixes []netip.Prefix) []netip.Addr {
	r := rand.New(rand.NewPCG(2, 2))
	addrs := make([]netip.Addr, 1<<14)
	for i := range addrs {
		switch i % 4 {
		case 0:
			addrs[i] = addr4(r.Uint32())
		case 1:
			addrs[i] = addr6(1<<61|r.Uint64()>>3, r.Uint64())
		default:
			addrs[i] = inside(r, prefixes[r.IntN(len(prefixes))])
		}
	}
	return addrs
}

// inside returns a random address of p.
func inside(r *rand.Rand, p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		host := uint32(uint64(1)<<(32-p.Bits()) - 1)
		return addr4(number4(p.Masked().Addr()) | r.Uint32()&host)
	}
	a := number6(p.Masked().Addr())
	switch host := 128 - p.Bits(); {
	case host >= 64:
		a.hi |= r.Uint64() & (1<<(host-64) - 1)
		a.lo = r.Uint64()
	default:
		a.lo |= r.Uint64() & (1<<host - 1)
	}
	return addr6(a.hi, a.lo)
}

func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func addr6(hi, lo uint64) netip.Addr {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	return netip.AddrFrom16(b)
}

func listOf(prefixes []netip.Prefix) []string {
	list := make([]string, len(prefixes))
	for i, p := range prefixes {
		list[i] = p.String()
	}
	return list
}

func parsed(tb testing.TB, list []string) *Group {
	tb.Helper()
	g, err := Parse("g", list, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func groupOf(tb testing.TB, prefixes []netip.Prefix) *Group {
	tb.Helper()
	return parsed(tb, listOf(prefixes))
}

func liteOf(prefixes []netip.Prefix) *bart.Lite {
	lite := new(bart.Lite)
	for _, p := range prefixes {
		lite.Insert(p)
	}
	return lite
}

func ipSetOf(tb testing.TB, prefixes []netip.Prefix) *netipx.IPSet {
	tb.Helper()
	var builder netipx.IPSetBuilder
	for _, p := range prefixes {
		builder.AddPrefix(p)
	}
	set, err := builder.IPSet()
	if err != nil {
		tb.Fatal(err)
	}
	return set
}
