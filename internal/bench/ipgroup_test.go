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
	most int // entries; of more it takes too long, or too much memory, to tell anything new
}{
	{"limpet", newIPGroup, 1_000_000},
	{"bart.Lite", newBartLite, 1_000_000},
	{"netipx", newIPSet, 1_000_000},
	{"cidranger", newRanger, 100_000},
	{"scan", newScan, 1_000},
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

// BenchmarkIPGroup looks up addresses in lists of 10 to 1,000,000 prefixes.
//
// A hit is a random address of a random entry. A near miss is one bit away from
// that: it lies in the other half of the network around an entry, and a trie
// has to follow it down to the entry. A far miss is a random address of the
// space that the entries come from; the shorter the list, the sooner a trie
// sees that there is nothing.
//
// Entries of a spread list lie anywhere. Those of a clustered one lie in the
// few networks that registries have handed out, which is how most published
// lists look.
func BenchmarkIPGroup(b *testing.B) {
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, shape := range []string{"spread", "clustered"} {
			for _, size := range []struct {
				name    string
				entries int
			}{{"10", 10}, {"1k", 1_000}, {"100k", 100_000}, {"1M", 1_000_000}} {
				list := sync.OnceValue(func() *list { return newList(family, shape, size.entries) })
				for _, peer := range groups {
					if size.entries > peer.most {
						continue
					}
					// One of a kind is in memory at a time, made only if one of
					// its operations is to run.
					contains := sync.OnceValue(func() func(netip.Addr) bool { return peer.make(b, list().prefixes) })
					for _, op := range []string{"hit", "near-miss", "far-miss"} {
						b.Run(fmt.Sprintf("op=%s/family=%s/list=%s/entries=%s/impl=%s", op, family, shape, size.name, peer.name), func(b *testing.B) {
							benchmarkContains(b, contains(), list().addrs[op], op == "hit")
						})
					}
				}
			}
		}
	}
}

func benchmarkContains(b *testing.B, contains func(netip.Addr) bool, addrs []netip.Addr, want bool) {
	b.Helper()
	for _, addr := range addrs[:256] {
		if contains(addr) != want {
			b.Fatalf("%s is in the list: %v", addr, !want)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		contains(addrs[i%len(addrs)])
	}
}

// A list has prefixes, and addresses to look up by operation. It depends on
// nothing but family, shape and size.
type list struct {
	prefixes []netip.Prefix
	addrs    map[string][]netip.Addr
}

func newList(family, shape string, size int) *list {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	space := space{r: r, family: family}
	if shape == "clustered" {
		var blocks []netip.Prefix
		for range 4 + size/200 {
			blocks = append(blocks, space.block())
		}
		space.blocks = blocks
	}
	l := &list{prefixes: make([]netip.Prefix, size)}
	lite := new(bart.Lite)
	for i := range l.prefixes {
		l.prefixes[i] = space.prefix()
		lite.Insert(l.prefixes[i])
	}
	entry := func() netip.Prefix { return l.prefixes[r.IntN(size)] }
	l.addrs = map[string][]netip.Addr{
		"hit": space.sample(func() netip.Addr { return inside(r, entry()) }, func(netip.Addr) bool { return true }),
		"near-miss": space.sample(func() netip.Addr {
			p := entry()
			return flip(inside(r, p), p.Bits()-1)
		}, func(a netip.Addr) bool { return !lite.Contains(a) }),
		"far-miss": space.sample(space.addr, func(a netip.Addr) bool { return !lite.Contains(a) }),
	}
	return l
}

// A space is where entries and far misses come from.
type space struct {
	r      *rand.Rand
	family string
	blocks []netip.Prefix // nil: anywhere
}

// addr returns a random address of the space.
func (s space) addr() netip.Addr {
	if len(s.blocks) > 0 {
		return inside(s.r, s.blocks[s.r.IntN(len(s.blocks))])
	}
	if s.family == "IPv4" {
		return inside(s.r, netip.MustParsePrefix("0.0.0.0/0"))
	}
	return inside(s.r, netip.MustParsePrefix("2000::/3"))
}

// block returns a network as registries hand them out.
func (s space) block() netip.Prefix {
	if s.family == "IPv4" {
		return netip.PrefixFrom(s.addr(), 14+s.r.IntN(5)).Masked()
	}
	registries := []string{"2001::/16", "2400::/12", "2600::/12", "2800::/12", "2a00::/12", "2c00::/12"}
	of := netip.MustParsePrefix(registries[s.r.IntN(len(registries))])
	return netip.PrefixFrom(inside(s.r, of), 29+s.r.IntN(4)).Masked()
}

// prefix returns an entry: IPv4 of /16 to /32, IPv6 of /32 to /64 and, in a
// clustered list, single addresses.
func (s space) prefix() netip.Prefix {
	bits := 32 + s.r.IntN(33)
	switch {
	case s.family == "IPv4":
		bits = 32 - min(s.r.IntN(9), s.r.IntN(17))
	case s.blocks != nil:
		bits = []int{40, 44, 48, 48, 48, 52, 56, 56, 60, 64, 64, 64, 64, 64, 128}[s.r.IntN(15)]
	}
	return netip.PrefixFrom(s.addr(), bits).Masked()
}

// sample returns addresses that are good.
func (space) sample(addr func() netip.Addr, good func(netip.Addr) bool) []netip.Addr {
	addrs := make([]netip.Addr, 0, 1<<14)
	for len(addrs) < cap(addrs) {
		if a := addr(); good(a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// inside returns a random address of p.
func inside(r *rand.Rand, p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= byte(r.Uint32N(2)) << (7 - bit%8)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

// flip changes one bit of addr; the first is 0.
func flip(addr netip.Addr, bit int) netip.Addr {
	bytes := addr.AsSlice()
	bytes[bit/8] ^= 1 << (7 - bit%8)
	addr, _ = netip.AddrFromSlice(bytes)
	return addr
}
