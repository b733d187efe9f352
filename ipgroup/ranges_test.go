package ipgroup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

// twin answers by looking at every entry.
type twin []netipx.IPRange

func (t twin) contains(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(t, func(r netipx.IPRange) bool { return r.Contains(addr) })
}

// numbers is the twin in numbers, for tests of many lookups: it looks at every
// entry as well, only faster.
type numbers struct {
	v4 []span[uint32]
	v6 []span[uint128]
}

func (t twin) numbers() (n numbers) {
	for _, r := range t {
		if r.From().Is4() {
			n.v4 = append(n.v4, span[uint32]{number4(r.From()), number4(r.To())})
		} else {
			n.v6 = append(n.v6, span[uint128]{number6(r.From()), number6(r.To())})
		}
	}
	return n
}

func (n numbers) contains(addr netip.Addr) bool {
	in := false
	if addr = addr.Unmap(); addr.Is4() {
		a := number4(addr)
		for _, s := range n.v4 {
			in = in || s.first <= a && a <= s.last
		}
		return in
	}
	a := number6(addr)
	for _, s := range n.v6 {
		in = in || s.first.compare(a) <= 0 && a.compare(s.last) <= 0
	}
	return in
}

// checkRanges reports spans that are out of order, overlap or touch, and an
// index that does not fit them.
func checkRanges[A any](t rapid.TB, r *ranges[A], compare func(a, b A) int, next func(A) (A, bool), key func(A) (key, low uint64)) {
	t.Helper()
	for i, s := range r.spans {
		if compare(s.first, s.last) > 0 {
			t.Fatalf("span %d begins after its end: %v", i, s)
		}
		if i == 0 {
			continue
		}
		// Parts of IPv6 networks may touch each other; they never overlap.
		if compare(r.spans[i-1].last, s.first) >= 0 {
			t.Fatalf("span %d overlaps the one before: %v, %v", i, r.spans[i-1], s)
		}
		if next != nil {
			if after, ok := next(r.spans[i-1].last); !ok || compare(after, s.first) >= 0 {
				t.Fatalf("span %d touches the one before: %v, %v", i, r.spans[i-1], s)
			}
		}
	}
	for i, s := range r.spans {
		k, low := key(s.first)
		c, ok := r.index.find(k)
		at := 0
		if ok {
			at, ok = r.index.descend(c, k, low)
		}
		if !ok || i < at || i >= at+leafSpans {
			t.Fatalf("the index leads to %d, %v for span %d", at, ok, i)
		}
	}
}

func checkGroup(t rapid.TB, g *Group) {
	t.Helper()
	s := g.members.(*rangeSet)
	checkRanges(t, &s.v4, func(a, b uint32) int { return int(int64(a) - int64(b)) }, func(a uint32) (uint32, bool) { return a + 1, a+1 != 0 }, func(a uint32) (uint64, uint64) { return uint64(a), 0 })
	checkRanges(t, &s.v6, func(a, b uint64) int { return uint128{a, 0}.compare(uint128{b, 0}) }, nil, func(a uint64) (uint64, uint64) { return a, 0 })
	checkRanges(t, &s.v6part, uint128.compare, nil, func(a uint128) (uint64, uint64) { return a.hi, a.lo })
}

// genAddr favours few distinct bytes, so that entries meet, and the ends of the
// address space.
func genAddr() *rapid.Generator[netip.Addr] {
	digit := rapid.SampledFrom([]byte{0, 0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0xff})
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		n := rapid.SampledFrom([]int{4, 16, 16}).Draw(t, "bytes")
		b := make([]byte, n)
		if n == 16 && rapid.Bool().Draw(t, "mapped") {
			b[10], b[11] = 0xff, 0xff
			copy(b[12:], rapid.SliceOfN(digit, 4, 4).Draw(t, "v4"))
		} else {
			copy(b, rapid.SliceOfN(digit, n, n).Draw(t, "b"))
		}
		addr, _ := netip.AddrFromSlice(b)
		return addr
	})
}

// genEntry returns the text of an entry and the range that it means.
func genEntry() *rapid.Generator[twinEntry] {
	return rapid.Custom(func(t *rapid.T) twinEntry {
		a := genAddr().Draw(t, "addr")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			return twinEntry{a.String(), netipx.IPRangeFrom(a.Unmap(), a.Unmap())}
		case 1:
			low := 0
			if a.Is4In6() {
				low = 96
			}
			bits := rapid.IntRange(low, a.BitLen()).Draw(t, "bits")
			p := netip.PrefixFrom(a, bits)
			return twinEntry{p.String(), netipx.RangeOfPrefix(netip.PrefixFrom(a.Unmap(), bits-low).Masked())}
		default:
			b := genAddr().Filter(func(b netip.Addr) bool { return b.Unmap().Is4() == a.Unmap().Is4() }).Draw(t, "end")
			if b.Unmap().Less(a.Unmap()) {
				a, b = b, a
			}
			return twinEntry{fmt.Sprintf("%s - %s", a, b), netipx.IPRangeFrom(a.Unmap(), b.Unmap())}
		}
	})
}

type twinEntry struct {
	text string
	r    netipx.IPRange
}

func TestGroupAgainstLinearScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		var linear twin
		var probes []netip.Addr
		for _, e := range rapid.SliceOfN(genEntry(), 1, 40).Draw(t, "entries") {
			texts = append(texts, e.text)
			linear = append(linear, e.r)
			probes = append(probes, edges(e.r)...)
		}
		g, err := Parse("g", texts, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkGroup(t, g)
		probes = append(probes, rapid.SliceOfN(genAddr(), 0, 20).Draw(t, "probes")...)
		for _, addr := range probes {
			if !addr.IsValid() {
				continue
			}
			if got, want := g.Contains(addr), linear.contains(addr); got != want {
				t.Fatalf("%q: Contains(%s) = %v, want %v", texts, addr, got, want)
			}
		}
		var builder netipx.IPSetBuilder
		for _, r := range linear {
			builder.AddRange(r)
		}
		set, err := builder.IPSet()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := g.Len(), len(set.Ranges()); got != want {
			t.Fatalf("%q: Len() = %d, want %d", texts, got, want)
		}
	})
}

// edges returns the first and last addresses of r and their neighbours; those
// may be zero.
func edges(r netipx.IPRange) []netip.Addr {
	return []netip.Addr{r.From(), r.To(), r.From().Prev(), r.From().Next(), r.To().Prev(), r.To().Next()}
}

// Ten million lookups in lists of several shapes, each compared with the linear
// scan; 200,000 under the race detector.
func TestLargeGroupsAgainstLinearScan(t *testing.T) {
	const shapeCount = 4
	lookups := 10_000_000 / shapeCount
	if testrace.Enabled {
		lookups = 200_000 / shapeCount
	}
	if testing.Short() {
		lookups = 200_000 / shapeCount
	}
	r := rand.New(rand.NewPCG(7, 7))
	random := func(bits4, bits6 func() int) func() netip.Prefix {
		return func() netip.Prefix {
			if r.IntN(2) == 0 {
				return netip.PrefixFrom(addr4(r.Uint32()), bits4())
			}
			return netip.PrefixFrom(addr6(r.Uint64(), r.Uint64()), bits6())
		}
	}
	shapes := []struct {
		name   string
		size   int
		prefix func() netip.Prefix
	}{
		{"spread", 100, random(func() int { return 8 + r.IntN(25) }, func() int { return 4 + r.IntN(125) })},
		{"addresses only", 100, random(func() int { return 32 }, func() int { return 128 })},
		// All keys of the index are equal or close, but for one that is far
		// away.
		{"crowded", 150, func() netip.Prefix {
			switch r.IntN(50) {
			case 0:
				return netip.PrefixFrom(addr6(0xfe80<<48, r.Uint64()), 120)
			case 1:
				return netip.PrefixFrom(addr4(r.Uint32()), 30)
			case 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15:
				return netip.PrefixFrom(addr4(10<<24|r.Uint32N(4096)), 28+r.IntN(5))
			}
			return netip.PrefixFrom(addr6(0x20010db8<<32|r.Uint64N(4), r.Uint64N(1<<14)<<50|r.Uint64N(4096)), 116+r.IntN(13))
		}},
		{"with everything in it", 20, random(func() int { return r.IntN(33) * r.IntN(2) }, func() int { return r.IntN(129) * r.IntN(2) })},
	}
	total, hits := 0, 0
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			var linear twin
			var texts []string
			var prefixes []netip.Prefix
			for range shape.size {
				p := shape.prefix()
				prefixes = append(prefixes, p.Masked())
				linear = append(linear, netipx.RangeOfPrefix(p.Masked()))
				texts = append(texts, p.String()) // host bits set
			}
			g := mustParse(t, texts...)
			checkGroup(t, g)
			scan := linear.numbers()
			check := func(addr netip.Addr) {
				want := scan.contains(addr)
				if g.Contains(addr) != want {
					t.Fatalf("Contains(%s) = %v, want %v", addr, !want, want)
				}
				total++
				if want {
					hits++
				}
			}
			for _, e := range linear {
				for _, addr := range edges(e) {
					if addr.IsValid() {
						check(addr)
					}
				}
			}
			for i := range lookups {
				switch p := prefixes[r.IntN(len(prefixes))]; i % 4 {
				case 0:
					check(addr4(r.Uint32()))
				case 1:
					check(addr6(r.Uint64(), r.Uint64()))
				case 2:
					check(inside(r, p))
				case 3: // close by, with bits of the network changed
					check(inside(r, netip.PrefixFrom(p.Addr(), p.Bits()*7/8).Masked()))
				}
			}
		})
	}
	t.Logf("%d lookups, %d hits", total, hits)
	if total < shapeCount*lookups {
		t.Errorf("%d lookups, want %d", total, shapeCount*lookups)
	}
	if hits < total/10 || hits > total*9/10 {
		t.Errorf("%d of %d lookups were hits: the test is one-sided", hits, total)
	}
}

// Both families at 100,000 prefixes, against two other implementations.
func TestHugeGroupAgainstPeers(t *testing.T) {
	n := 100_000
	if testrace.Enabled {
		n = 10_000
	}
	if testing.Short() {
		n = 10_000
	}
	prefixes := randomPrefixes(n)
	g, lite, set := groupOf(t, prefixes), liteOf(prefixes), ipSetOf(t, prefixes)
	checkGroup(t, g)
	if got, want := g.Len(), len(set.Ranges()); got != want {
		t.Errorf("Len() = %d, want %d", got, want)
	}
	r := rand.New(rand.NewPCG(3, 3))
	for range n / 2 {
		p := prefixes[r.IntN(len(prefixes))]
		for _, addr := range []netip.Addr{inside(r, p), addr4(r.Uint32()), addr6(1<<61|r.Uint64()>>3, r.Uint64())} {
			want := lite.Contains(addr)
			if got := g.Contains(addr); got != want || set.Contains(addr) != want {
				t.Fatalf("Contains(%s) = %v, bart %v, netipx %v", addr, got, want, set.Contains(addr))
			}
		}
	}
}

func TestMillionPrefixes(t *testing.T) {
	n := 1_000_000
	if testrace.Enabled {
		n = 50_000
	}
	if testing.Short() {
		n = 50_000
	}
	prefixes := randomPrefixes(n)
	g := groupOf(t, prefixes)
	if g.Len() < n*9/10 || g.Len() > n {
		t.Errorf("Len() = %d of %d", g.Len(), n)
	}
	r := rand.New(rand.NewPCG(5, 5))
	for range 100_000 {
		if addr := inside(r, prefixes[r.IntN(n)]); !g.Contains(addr) {
			t.Fatalf("does not contain %s", addr)
		}
	}
}

func TestContainsDoesNotAllocate(t *testing.T) {
	if testrace.Enabled {
		t.Skip("allocations are counted without the race detector")
	}
	group := mustParse(t, "10.0.0.0/8, 2001:db8::/32, 2001:db9::5")
	inCountries, err := Parse("g", []string{"SE"}, Options{Countries: oddFinder("SE")})
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet(group)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"10.1.1.1", "11.1.1.1", "::ffff:10.1.1.1%eth0", "2001:db8::1", "2001:db8::1%eth0", "2001:db9::5", "fe80::1%eth0"} {
		addr := netip.MustParseAddr(text)
		for name, lookup := range map[string]func(){
			"Group.Contains":             func() { group.Contains(addr) },
			"Group.Contains, countries":  func() { inCountries.Contains(addr) },
			"Group.Contains(zero Addr)":  func() { group.Contains(netip.Addr{}) },
			"Set.Contains, known group":  func() { _, _ = set.Contains("g", addr) },
			"Set.Group":                  func() { set.Group("g") },
			"Group.Name":                 func() { _ = group.Name() },
			"Group.Len":                  func() { group.Len() },
			"Group.Countries, addresses": func() { group.Countries() },
		} {
			if n := testing.AllocsPerRun(100, lookup); n != 0 {
				t.Errorf("%s of %s: %v allocations", name, text, n)
			}
		}
	}
}
