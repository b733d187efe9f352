package bench

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/gaissmai/bart"
	"github.com/yl2chen/cidranger"
	"go4.org/netipx"

	"github.com/limpetlb/limpet/ipgroup"
)

// groups are ways to ask whether an address is in a list.
var groups = []struct {
	name string
	make func(b *testing.B, prefixes []netip.Prefix) (contains func(netip.Addr) bool)
}{
	{"limpet", newIPGroup},
	{"bart.Lite", newBartLite},
	{"netipx", newIPSet},
	{"cidranger", newRanger},
	{"scan", newScan},
}

func newIPGroup(b *testing.B, prefixes []netip.Prefix) func(netip.Addr) bool {
	entries := make([]string, len(prefixes))
	for i, p := range prefixes {
		entries[i] = p.String()
	}
	group, err := ipgroup.Parse("g", entries, ipgroup.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return group.Contains
}

func newBartLite(_ *testing.B, prefixes []netip.Prefix) func(netip.Addr) bool {
	lite := new(bart.Lite)
	for _, p := range prefixes {
		lite.Insert(p)
	}
	return lite.Contains
}

func newIPSet(b *testing.B, prefixes []netip.Prefix) func(netip.Addr) bool {
	var builder netipx.IPSetBuilder
	for _, p := range prefixes {
		builder.AddPrefix(p)
	}
	set, err := builder.IPSet()
	if err != nil {
		b.Fatal(err)
	}
	return set.Contains
}

func newRanger(b *testing.B, prefixes []netip.Prefix) func(netip.Addr) bool {
	ranger := cidranger.NewPCTrieRanger()
	for _, p := range prefixes {
		if err := ranger.Insert(cidranger.NewBasicRangerEntry(*netipx.PrefixIPNet(p))); err != nil {
			b.Fatal(err)
		}
	}
	return func(addr netip.Addr) bool {
		in, err := ranger.Contains(net.IP(addr.AsSlice()))
		return in && err == nil
	}
}

func newScan(_ *testing.B, prefixes []netip.Prefix) func(netip.Addr) bool {
	return func(addr netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
}

// BenchmarkIPGroup looks up addresses in lists of 10 to 1,000,000 prefixes: addresses that are in the list, or that are not.
func BenchmarkIPGroup(b *testing.B) {
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, size := range []int{10, 1_000, 100_000, 1_000_000} {
			prefixes := sync.OnceValue(func() []netip.Prefix { return randomPrefixes(family, size) })
			for _, op := range []string{"hit", "miss"} {
				addrs := sync.OnceValue(func() []netip.Addr { return addresses(b, family, prefixes(), op == "hit") })
				for _, peer := range groups {
					b.Run(fmt.Sprintf("family=%s/entries=%d/op=%s/impl=%s", family, size, op, peer.name), func(b *testing.B) {
						contains, addrs := peer.make(b, prefixes()), addrs()
						for _, addr := range addrs[:16] { // of a scan they take long enough
							if contains(addr) != (op == "hit") {
								b.Fatalf("%s is in the list: %v", addr, op != "hit")
							}
						}
						b.ReportAllocs()
						for i := 0; b.Loop(); i++ {
							contains(addrs[i%len(addrs)])
						}
					})
				}
			}
		}
	}
}

// randomPrefixes returns prefixes as lists hold them: IPv4 of /16 to /32, IPv6 in 2000::/3 of /32 to /64.
func randomPrefixes(family string, n int) []netip.Prefix {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	prefixes := make([]netip.Prefix, n)
	for i := range prefixes {
		addr, bits := randomAddr(r, family), 32+r.IntN(33)
		if family == "IPv4" {
			bits = 32 - min(r.IntN(9), r.IntN(17))
		}
		prefixes[i] = netip.PrefixFrom(addr, bits).Masked()
	}
	return prefixes
}

// addresses returns some that are in the list, or some that are not.
func addresses(b *testing.B, family string, prefixes []netip.Prefix, in bool) []netip.Addr {
	r := rand.New(rand.NewPCG(2, 2))
	contains := newBartLite(b, prefixes)
	addrs := make([]netip.Addr, 0, 1<<12)
	for len(addrs) < cap(addrs) {
		addr := randomAddr(r, family)
		if in {
			addr = prefixes[r.IntN(len(prefixes))].Addr()
		}
		if contains(addr) == in {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func randomAddr(r *rand.Rand, family string) netip.Addr {
	if family == "IPv4" {
		n := r.Uint32()
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	var bytes [16]byte
	for i := range bytes {
		bytes[i] = byte(r.Uint32())
	}
	bytes[0] = 0x20 | bytes[0]>>3
	return netip.AddrFrom16(bytes)
}
