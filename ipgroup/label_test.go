package ipgroup

import (
	"net/netip"
	"strings"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"
)

func TestLabel(t *testing.T) {
	s, err := NewSet(
		named(t, "Company", "10.0.0.0/8, 192.0.2.0/24, 2001:db8::/32"),
		named(t, "LA_Office", "10.1.0.0/16"),
		named(t, "LA_Printers", "10.1.2.0/24, 10.1.3.0-10.1.3.9", "10.1.0.0/20"),
		named(t, "LA_Twin", "10.1.0.0/16"),
		named(t, "Lab", "2001:db8:1::/48, 2001:db8:1:2::5-2001:db8:1:4::7"),
		parsedWith(t, "Nordic", "SE"),
	)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, addr, want string }{
		{"only group", "10.9.9.9", "Company"},
		{"more specific group", "10.1.200.3", "LA_Office"}, // before LA_Twin
		{"most specific of nested entries", "10.1.2.3", "LA_Printers"},
		{"range", "10.1.3.9", "LA_Printers"},
		{"beside the range, a wider entry of its group", "10.1.3.10", "LA_Printers"},
		{"mapped", "::ffff:10.1.2.3", "LA_Printers"},
		{"IPv6", "2001:db8:2::1", "Company"},
		{"IPv6, more specific", "2001:db8:1::1", "Lab"},
		{"IPv6 with zone", "2001:db8:1::1%eth0", "Lab"},
		{"IPv6, first part of a range", "2001:db8:1:2::5", "Lab"},
		{"IPv6, middle of a range", "2001:db8:1:3::", "Lab"},
		{"addresses before countries", "2001:db8::1", "Company"},
		{"group of countries", "89.160.20.1", "Nordic"},
		{"private without a group", "192.168.1.1", Internal},
		{"private IPv6", "fd00::1", Internal},
		{"link-local", "fe80::1%eth0", Internal},
		{"loopback", "127.0.0.1", Internal},
		{"mapped loopback", "::ffff:127.0.0.1", Internal},
		{"private beside a group", "172.16.0.1", Internal},
		{"country", "81.2.69.1", "GB"},
		{"unknown", "198.51.100.1", ""},
	}
	for _, tt := range tests {
		if got := s.Label(netip.MustParseAddr(tt.addr), testCountries); got != tt.want {
			t.Errorf("%s: Label(%s) = %q, want %q", tt.name, tt.addr, got, tt.want)
		}
	}
	if got := s.Label(netip.Addr{}, testCountries); got != "" {
		t.Errorf("Label(zero Addr) = %q", got)
	}
	if got := s.Label(netip.MustParseAddr("81.2.69.1"), nil); got != "" {
		t.Errorf("without a finder: %q", got)
	}
	// As published: without the office's group, its network is internal.
	var none Set
	if got := none.Label(netip.MustParseAddr("10.1.2.3"), testCountries); got != Internal {
		t.Errorf("without groups: %q", got)
	}
}

func parsedWith(t testing.TB, name string, entries ...string) *Group {
	t.Helper()
	g, err := Parse(name, entries, Options{Countries: testCountries, ASNs: testASNs})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The label is that of the smallest of all entries that contain the address,
// found by looking at each.
func TestLabelAgainstLinearScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c"}
		lists := make(map[string]twin)
		var groups []*Group
		var probes []netip.Addr
		for _, name := range names {
			var texts []string
			for _, e := range rapid.SliceOfN(genEntry(), 1, 12).Draw(t, name) {
				texts = append(texts, e.text)
				lists[name] = append(lists[name], e.r)
				probes = append(probes, edges(e.r)...)
			}
			g, err := Parse(name, texts, Options{})
			if err != nil {
				t.Fatal(err)
			}
			groups = append(groups, g)
		}
		s, err := NewSet(groups...)
		if err != nil {
			t.Fatal(err)
		}
		probes = append(probes, rapid.SliceOfN(genAddr(), 0, 20).Draw(t, "probes")...)
		for _, addr := range probes {
			if !addr.IsValid() {
				continue
			}
			want, least := "", everything
			for _, name := range names {
				for _, r := range lists[name] {
					if width := widthOf(r); r.Contains(normalize(addr)) && (want == "" || width.compare(least) < 0) {
						want, least = name, width
					}
				}
			}
			if want == "" {
				want = new(Set).Label(addr, nil) // Internal or nothing
			}
			if got := s.Label(addr, nil); got != want {
				t.Fatalf("Label(%s) = %q, want %q", addr, got, want)
			}
		}
	})
}

func widthOf(r netipx.IPRange) uint128 {
	if r.From().Is4() {
		return uint128{lo: uint64(number4(r.To()) - number4(r.From()))}
	}
	return number6(r.To()).minus(number6(r.From()))
}

// Entries that say nothing new cost no memory.
func TestStretches(t *testing.T) {
	for text, want := range map[string]int{
		"10.0.0.0/8":                                  0,
		"10.0.0.0/8, 10.0.0.0/8":                      0,
		"10.0.0.0/8, 12.0.0.0/8":                      0,
		"10.0.0.0/8, 10.1.0.0/16":                     3,
		"10.0.0.0/8, 11.0.0.0/8":                      1, // a range of /8 networks
		"10.0.0.1, 10.0.0.2, 10.0.0.3":                1, // a range of addresses
		"10.0.0.0/9, 10.128.0.0-10.255.0.0":           2,
		"2001:db8::5-2001:db8:0:2::7":                 1, // kept in three parts
		"2001:db8::-2001:db8:0:2:ffff:ffff:ffff:ffff": 0,
	} {
		s := mustParse(t, text).members.(*rangeSet)
		if got := len(s.inner4) + len(s.inner6); got != want {
			t.Errorf("%s: %d stretches, want %d", text, got, want)
		}
	}
	// Many at once, which must not take long: each address inside a network,
	// all in one range.
	g := mustParse(t, "10.0.0.0/8", strings.Join(listOf(randomPrefixes(20_000)), ","), "0.0.0.0/0", "::/0")
	if g.Len() != 2 {
		t.Errorf("Len() = %d", g.Len())
	}
}
