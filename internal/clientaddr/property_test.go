package clientaddr

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// headers are both headers, for tests of what they have in common.
var headers = []Header{XForwardedFor, Forwarded}

// drawAddr draws an address, trusted or not, now and then mapped.
func drawAddr(t *rapid.T, isTrusted bool) netip.Addr {
	pool := []string{"198.51.100.7", "9.255.255.255", "11.0.0.0", "192.0.2.2", "172.32.0.0", "2001:db8::9", "::1", "64:ff9b::a00:1"}
	if isTrusted {
		pool = []string{"10.0.0.1", "10.255.255.255", "192.0.2.1", "172.16.0.0", "172.31.255.255", "2001:db8:f::1", "fe80::1"}
	}
	return netip.MustParseAddr(rapid.SampledFrom(pool).Draw(t, "addr"))
}

// drawHop draws one of the ways in which a proxy may write addr, and the port
// that it writes.
func drawHop(t *rapid.T, header Header, addr netip.Addr) (string, uint16) {
	node := addr.String()
	if addr.Is4() && rapid.Bool().Draw(t, "mapped") {
		node = "::ffff:" + node
	}
	isIPv6 := strings.Contains(node, ":")
	if isIPv6 && rapid.Bool().Draw(t, "zone") {
		node += "%eth0"
	}
	port := rapid.Uint16().Draw(t, "port")
	if rapid.Bool().Draw(t, "no port") {
		port = 0
	}
	if isIPv6 && (port != 0 || header == Forwarded || rapid.Bool().Draw(t, "brackets")) {
		node = "[" + node + "]"
	}
	if port != 0 {
		node += ":" + strconv.Itoa(int(port))
	}
	if isIPv6 && header == Forwarded || rapid.Bool().Draw(t, "quoted") {
		node = `"` + node + `"`
	}
	if header == XForwardedFor {
		return node, port
	}
	before := rapid.SampledFrom([]string{"", "proto=https;", `host="a,b;for=6.6.6.6";`, `x="\\\"";`}).Draw(t, "before")
	after := rapid.SampledFrom([]string{"", ";", ";proto=http", `;host="\", for=6.6.6.6"`, `;by="_x\\"`}).Draw(t, "after")
	return before + rapid.SampledFrom([]string{"for=", "For="}).Draw(t, "name") + node + after, port
}

// drawList draws the lines of a header with the given elements.
func drawList(t *rapid.T, elements []string) []string {
	lines := []string{elements[0]}
	for _, element := range elements[1:] {
		if rapid.IntRange(0, 3).Draw(t, "new line") == 0 {
			lines = append(lines, element)
		} else {
			lines[len(lines)-1] += rapid.SampledFrom([]string{",", ", ", " ,\t"}).Draw(t, "comma") + element
		}
	}
	return lines
}

// TestClientCannotChange shows that nothing a client sends changes the answer:
// whatever stands left of an untrusted hop that trusted proxies wrote, on the
// same line or on lines before, the result is the same as without it.
func TestClientCannotChange(t *testing.T) {
	// What a client would send: list syntax, quotations and escapes, addresses,
	// and anything at all.
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{`"`, `\`, ",", ";", "=", "for=", "for=\"", " ", "\t", "6.6.6.6", "10.0.0.9", "[::1]", "unknown", "_x", "%", ":", "\x00"}),
		rapid.String(),
	)
	client := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "") })

	for _, header := range headers {
		r := newResolver(t, Config{Trusted: trusted, Header: header})
		t.Run(header.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				first, _ := drawHop(t, header, drawAddr(t, false))
				elements := []string{first}
				for range rapid.IntRange(0, 5).Draw(t, "trusted hops") {
					element, _ := drawHop(t, header, drawAddr(t, true))
					elements = append(elements, element)
				}
				honest := drawList(t, elements)
				peer := netip.AddrPortFrom(drawAddr(t, true), 5000)
				want := r.Resolve(peer, http.Header{header.String(): honest})
				if want.Reason != HopUntrusted {
					t.Fatalf("%q: %s", honest, want.text())
				}

				lies := rapid.SliceOfN(client, 1, 3).Draw(t, "lies")
				if rapid.Bool().Draw(t, "on lines of their own") {
					lies = append(lies, honest...)
				} else {
					lies[len(lies)-1] += "," + honest[0]
					lies = append(lies, honest[1:]...)
				}
				if got := r.Resolve(peer, http.Header{header.String(): lies}); got != want {
					t.Fatalf("%q: %s; without the client's part %s", lies, got.text(), want.text())
				}
			})
		})
	}
}

// TestTwin compares with the rule as one would say it, on the list of hops
// instead of on text.
func TestTwin(t *testing.T) {
	type hop struct {
		addr    netip.Addr
		port    uint16
		trusted bool
	}
	for _, header := range headers {
		r := newResolver(t, Config{Trusted: trusted, Header: header})
		source := map[Header]Source{XForwardedFor: SourceXForwardedFor, Forwarded: SourceForwarded}[header]
		t.Run(header.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var chain []hop // from the right, the peer first
				chain = append(chain, hop{drawAddr(t, true), 5000, true})
				var elements []string
				for range rapid.IntRange(1, 8).Draw(t, "hops") {
					isTrusted := rapid.IntRange(0, 3).Draw(t, "untrusted") > 0
					addr := drawAddr(t, isTrusted)
					element, port := drawHop(t, header, addr)
					elements = append(elements, element)
					chain = append(chain, hop{addr, port, isTrusted})
				}
				slices.Reverse(elements)

				want := Result{Source: source, Reason: HopUntrusted}
				i := slices.IndexFunc(chain, func(h hop) bool { return !h.trusted })
				if i < 0 {
					i, want.Reason = len(chain)-1, AllTrusted
				}
				want.Addr, want.Port, want.Hops = chain[i].addr, chain[i].port, i

				lines := drawList(t, elements)
				got := r.Resolve(netip.AddrPortFrom(chain[0].addr, chain[0].port), http.Header{header.String(): lines})
				if got != want {
					t.Fatalf("%q: got %s, want %s", lines, got.text(), want.text())
				}
			})
		})
	}
}

// TestRangesTwin compares the set of ranges with asking each prefix.
func TestRangesTwin(t *testing.T) {
	// Few bits that vary, so that prefixes nest and addresses hit their edges.
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		low := rapid.Byte().Draw(t, "low")
		high := rapid.SampledFrom([]byte{0, 1, 127, 128, 255}).Draw(t, "high")
		v4 := netip.AddrFrom4([4]byte{high, 0, 0, low})
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			return v4
		case 1:
			return netip.AddrFrom16(v4.As16())
		default:
			return netip.AddrFrom16([16]byte{0: high, 15: low})
		}
	})
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := addr.Draw(t, "addr")
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
	})
	// contains is the twin: in IPv4 for what lies within the mapped addresses.
	contains := func(p netip.Prefix, a netip.Addr) bool {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Contains(a)
	}

	rapid.Check(t, func(t *rapid.T) {
		prefixes := rapid.SliceOfN(prefix, 0, 12).Draw(t, "prefixes")
		set := newRanges(prefixes)
		for i := 1; i < len(set); i++ {
			if !set[i-1].last.Less(set[i].first) {
				t.Fatalf("%v: ranges %v and %v are not disjoint and ascending", prefixes, set[i-1], set[i])
			}
		}
		probes := rapid.SliceOfN(addr, 1, 20).Draw(t, "probes")
		for _, r := range set {
			probes = append(probes, r.first, r.first.Prev(), r.last, r.last.Next())
		}
		for _, probe := range probes {
			probe = Normalize(probe)
			want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return contains(p, probe) })
			if got := set.contain(probe); got != want {
				t.Fatalf("%v contain %v: %t, want %t", prefixes, probe, got, want)
			}
		}
	})
}
