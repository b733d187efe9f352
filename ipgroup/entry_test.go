package ipgroup

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

func mustParse(t testing.TB, entries ...string) *Group {
	t.Helper()
	g, err := Parse("g", entries, Options{Countries: testCountries})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func contains(t *testing.T, g *Group, addr string, want bool) {
	t.Helper()
	if got := g.Contains(netip.MustParseAddr(addr)); got != want {
		t.Errorf("Contains(%s) = %v, want %v", addr, got, want)
	}
}

func TestEntries(t *testing.T) {
	tests := []struct {
		name    string
		entries []string
		len     int
		in      string // addresses, separated by blanks
		out     string
	}{
		{"address", []string{"10.0.0.1"}, 1, "10.0.0.1", "10.0.0.0 10.0.0.2 ::a00:1"},
		{"IPv6 address", []string{"2001:db8::1"}, 1, "2001:db8::1", "2001:db8:: 2001:db8::2"},
		{"IPv6 in other spelling", []string{"2001:0DB8:0:0::0001"}, 1, "2001:db8::1", "2001:db8::2"},
		{"prefix", []string{"10.1.0.0/16"}, 1, "10.1.0.0 10.1.255.255", "10.0.255.255 10.2.0.0"},
		{"prefix with host bits", []string{"10.1.2.3/16"}, 1, "10.1.0.0 10.1.255.255", "10.0.255.255 10.2.0.0"},
		{"IPv6 prefix", []string{"2001:db8::/32"}, 1, "2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff:: 2001:db9::"},
		{"IPv6 prefix longer than 64", []string{"2001:db8::/120"}, 1, "2001:db8:: 2001:db8::ff", "2001:db8::100 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"all of IPv4", []string{"0.0.0.0/0"}, 1, "0.0.0.0 127.0.0.1 255.255.255.255", ":: 2001:db8::1"},
		{"all of IPv6", []string{"::/0"}, 1, ":: ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0 255.255.255.255"},
		{"/32", []string{"10.0.0.1/32"}, 1, "10.0.0.1", "10.0.0.0 10.0.0.2"},
		{"/128", []string{"2001:db8::1/128"}, 1, "2001:db8::1", "2001:db8:: 2001:db8::2"},
		{"range", []string{"10.0.0.10-10.0.0.20"}, 1, "10.0.0.10 10.0.0.15 10.0.0.20", "10.0.0.9 10.0.0.21"},
		{"range with blanks", []string{"10.0.0.10 -\t10.0.0.20"}, 1, "10.0.0.10 10.0.0.20", "10.0.0.9 10.0.0.21"},
		{"range with en dash", []string{"10.0.0.10–10.0.0.20"}, 1, "10.0.0.10 10.0.0.20", "10.0.0.9 10.0.0.21"},
		{"range with en dash and blanks", []string{"10.0.0.10 – 10.0.0.20"}, 1, "10.0.0.10 10.0.0.20", "10.0.0.9 10.0.0.21"},
		{"range of one", []string{"10.0.0.10-10.0.0.10"}, 1, "10.0.0.10", "10.0.0.9 10.0.0.11"},
		{"IPv6 range across /64 networks", []string{"2001:db8::5-2001:db8:0:2::7"}, 1,
			"2001:db8::5 2001:db8::ffff:ffff:ffff:ffff 2001:db8:0:1:: 2001:db8:0:1:ffff:: 2001:db8:0:2:: 2001:db8:0:2::7", "2001:db8::4 2001:db8:0:2::8"},
		{"IPv6 range across one border", []string{"2001:db8::5-2001:db8:0:1::7"}, 1,
			"2001:db8::5 2001:db8::ffff:0:0:1 2001:db8:0:1:: 2001:db8:0:1::7", "2001:db8::4 2001:db8:0:1::8"},
		{"IPv6 range inside a /64", []string{"2001:db8::5-2001:db8::7"}, 1, "2001:db8::5 2001:db8::7", "2001:db8::4 2001:db8::8"},
		{"last IPv6 addresses", []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff::/16"}, 1, "ffff:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fffe::"},
		{"list in one entry", []string{"10.0.0.1, 10.0.0.3 ,10.0.0.5"}, 3, "10.0.0.1 10.0.0.3 10.0.0.5", "10.0.0.2 10.0.0.4"},
		{"blanks and comments", []string{"", " ", "# all of it, 1.2.3.4", "10.0.0.1 # LA, 2nd floor", ",,10.0.0.3,"}, 2, "10.0.0.1 10.0.0.3", "1.2.3.4"},
		{"lines in one entry", []string{"# office\n10.0.0.1\n10.0.0.3\r\n"}, 2, "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"quoted", []string{`"10.0.0.1", " 10.0.0.3 "`}, 2, "10.0.0.1 10.0.0.3", "10.0.0.2"},
		{"no-break space", []string{"\u00a010.0.0.1\u00a0"}, 1, "10.0.0.1", "10.0.0.2"},
		{"overlapping", []string{"10.0.0.0/8", "10.10.0.0/16", "10.10.10.10"}, 1, "10.0.0.0 10.10.10.10 10.255.255.255", "9.255.255.255 11.0.0.0"},
		{"touching", []string{"10.0.1.0/24", "10.0.0.0/24", "10.0.2.0-10.0.2.9"}, 1, "10.0.0.0 10.0.1.0 10.0.2.9", "10.0.2.10"},
		{"touching in IPv6", []string{"2001:db8:0:1::/64", "2001:db8::/64"}, 1, "2001:db8:: 2001:db8:0:1::", "2001:db8:0:2::"},
		{"ends of IPv4", []string{"255.255.255.255", "0.0.0.0"}, 2, "0.0.0.0 255.255.255.255", "0.0.0.1 255.255.255.254"},
		{"both families", []string{"10.0.0.0/8, 2001:db8::/32"}, 2, "10.1.1.1 2001:db8::1", "11.1.1.1 2001:db9::1"},
		{"countries", []string{"gb", "SE,Gb"}, 2, "81.2.69.1 89.160.20.1 2001:db8::1 ::ffff:81.2.69.1", "10.0.0.1 192.0.2.1 2001:db9::"},
		{"Kosovo", []string{"xk"}, 1, "", "81.2.69.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := mustParse(t, tt.entries...)
			if g.Len() != tt.len {
				t.Errorf("Len() = %d, want %d", g.Len(), tt.len)
			}
			for addr := range strings.FieldsSeq(tt.in) {
				contains(t, g, addr, true)
			}
			for addr := range strings.FieldsSeq(tt.out) {
				contains(t, g, addr, false)
			}
			if g.Contains(netip.Addr{}) {
				t.Error("contains the zero Addr")
			}
		})
	}
}

func TestBadEntries(t *testing.T) {
	tests := []struct{ entry, reason string }{
		{"10.0.0", "is not an address"},
		{"10.0.0.256", "is not an address"},
		{"10.0.0.01", "is not an address"},
		{"010.0.0.1", "is not an address"},
		{"0x0a000001", "is not an address"},
		{"167772161", "is not an address"},
		{"10.0.0.1:80", "is not an address"},
		{"[2001:db8::1]", "is not an address"},
		{"2001:db8:::1", "is not an address"},
		{"example.com", "is not an address"},
		{"10.0.0.1 10.0.0.2", "is not an address"},
		{"10.0.0.1\x00", "is not an address"},
		{"USA", "is not an address"},
		{"U", "is not an address"},
		{"U1", "is not an address"},
		{"**", "is not an address"},
		{`"`, "is not an address"},
		{`""`, "is not an address"},
		{`"10.0.0.1`, "is not an address"},
		{"ÜS", "is not an address"},
		{"10.0.0.0/33", "is not a prefix"},
		{"10.0.0.0/-1", "is not a range"},
		{"10.0.0.0/08", "is not a prefix"},
		{"10.0.0.0/", "is not a prefix"},
		{"/8", "is not a prefix"},
		{"10.0.0.0/8/8", "is not a prefix"},
		{"10.0.0.0 /8", "is not a prefix"},
		{"10.0.0.0/255.0.0.0", "is not a prefix"},
		{"2001:db8::/129", "is not a prefix"},
		{"::ffff:10.0.0.0/95", "shorter than /96"},
		{"::ffff:0:0/0", "shorter than /96"},
		{"fe80::1%eth0", "has a zone"},
		{"fe80::%eth0/64", "has a zone"},
		{"fe80::1%a-fe80::2%a", "has a zone"},
		{"::ffff:10.0.0.1%eth0", "has a zone"},
		{"10.0.0.20-10.0.0.10", "begins after its end"},
		{"2001:db8::2-2001:db8::1", "begins after its end"},
		{"::ffff:10.0.0.2-10.0.0.1", "begins after its end"},
		{"10.0.0.1-2001:db8::1", "mixes IPv4 and IPv6"},
		{"::-::ffff:10.0.0.1", "mixes IPv4 and IPv6"},
		{"10.0.0.10-20", "is not a range"},
		{"10.0.0.10-", "is not a range"},
		{"-10.0.0.10", "is not a range"},
		{"-", "is not a range"},
		{"–", "is not a range"},
		{"10.0.0.0/24-10.0.1.0/24", "is not a range"},
		{"10.0.0.1-10.0.0.2-10.0.0.3", "is not a range"},
		{"10.0.0.1—10.0.0.2", "is not an address"}, // em dash
		{"XX", "ISO 3166"},
		{"AA", "ISO 3166"},
		{"EU", "ISO 3166"},
		{"UK", "ISO 3166"},
		{"AN", "ISO 3166"},
	}
	for _, tt := range tests {
		t.Run(tt.entry, func(t *testing.T) {
			g, err := Parse("g", []string{"10.9.9.9", "10.9.9.10, " + tt.entry}, Options{Countries: testCountries})
			if g != nil {
				t.Error("group is not nil")
			}
			var e *EntryError
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want an *EntryError", err)
			}
			want := EntryError{Group: "g", Index: 1, Line: 1, Column: 12, Text: tt.entry, Reason: e.Reason}
			if diff := cmp.Diff(want, *e); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("reason %q, want %q", e.Reason, tt.reason)
			}
		})
	}
}

func TestEveryFaultIsReported(t *testing.T) {
	_, err := Parse("Office", []string{"10.0.0.1", "bad", "10.0.0.2, worse", "10.0.0.9-10.0.0.1", "10.0.0.3\n 10.0.0.256"}, Options{})
	const want = `ip group "Office": entries[1]: "bad" is not an address, range, prefix, country code or AS number
ip group "Office": entries[2], column 11: "worse" is not an address, range, prefix, country code or AS number
ip group "Office": entries[3]: "10.0.0.9-10.0.0.1" begins after its end
ip group "Office": entries[4], line 2, column 2: "10.0.0.256" is not an address, range, prefix, country code or AS number`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	entries := make([]string, maxFaults+500)
	for i := range entries {
		entries[i] = strings.Repeat("x", 10_000)
	}
	_, err := Parse("g", entries, Options{})
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	if len(text) > 200*maxFaults {
		t.Errorf("%d bytes of error", len(text))
	}
	if n := strings.Count(text, "entries["); n != maxFaults {
		t.Errorf("%d faults described, want %d", n, maxFaults)
	}
	if !strings.HasSuffix(text, "500 more bad entries") {
		t.Errorf("error ends in %q", text[len(text)-60:])
	}
}

func TestCountriesAndAddressesDoNotMix(t *testing.T) {
	for _, entries := range [][]string{
		{"10.0.0.1", "SE", "GB"},
		{"SE, 10.0.0.0/8"},
		{"SE", "2001:db8::1-2001:db8::2"},
	} {
		_, err := Parse("g", entries, Options{Countries: testCountries})
		if err == nil || strings.Count(err.Error(), "mixes addresses with countries") != 1 {
			t.Errorf("%q: error %v", entries, err)
		}
	}
}

func TestCountryWithoutFinder(t *testing.T) {
	_, err := Parse("g", []string{"SE"}, Options{})
	if err == nil || !strings.Contains(err.Error(), `entries[0]: "SE" is a country, and there is no geo data with countries`) {
		t.Errorf("error %v", err)
	}
}

func TestKnownCountries(t *testing.T) {
	if n := knownCountries.len(); n != 250 { // 249 assigned codes and XK
		t.Errorf("%d codes, want 250", n)
	}
	// Codes that are reserved, withdrawn or for other uses.
	for _, code := range []string{"AC", "AN", "AP", "BU", "CP", "CS", "DD", "DG", "EA", "EU", "EZ", "FX", "IC", "SU", "TA", "TP", "UK", "UN", "XX", "YU", "ZR", "ZZ", "A1"} {
		if knownCountries.contains(code) {
			t.Errorf("%s is known", code)
		}
	}
	for _, code := range []string{"", "A", "ABC", "us", "Us", "@A", "A[", "\xff\xff"} {
		if knownCountries.contains(code) {
			t.Errorf("%q is known", code)
		}
	}
	all := knownCountries.list()
	g := mustParse(t, strings.ToLower(strings.Join(all, ",")))
	if diff := cmp.Diff(all, g.Countries()); diff != "" {
		t.Error(diff)
	}
}

func TestCountries(t *testing.T) {
	if diff := cmp.Diff([]string{"GB", "SE", "ZW"}, mustParse(t, "zw", "SE", "gb", "se").Countries()); diff != "" {
		t.Error(diff)
	}
	if got := mustParse(t, "10.0.0.1").Countries(); got != nil {
		t.Errorf("Countries() of addresses = %v", got)
	}
	g := mustParse(t, "SE")
	g.Countries()[0] = "XX"
	if got := g.Countries()[0]; got != "SE" {
		t.Errorf("a caller changed the group to %q", got)
	}
}

// oddFinder returns what a CountryFinder should not.
type oddFinder string

func (f oddFinder) Country(netip.Addr) (string, bool) { return string(f), true }

func TestOddCountryFinder(t *testing.T) {
	for code, want := range map[oddFinder]bool{"SE": true, "se": false, "": false, "SWE": false, "\xff\xff": false} {
		g, err := Parse("g", []string{"SE"}, Options{Countries: code})
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Contains(netip.MustParseAddr("10.0.0.1")); got != want {
			t.Errorf("finder says %q: Contains = %v, want %v", string(code), got, want)
		}
	}
}

func TestEmptyList(t *testing.T) {
	for _, entries := range [][]string{nil, {""}, {" , ", "# nothing"}} {
		if g, err := Parse("g", entries, Options{}); g != nil || !errors.Is(err, ErrEmpty) {
			t.Errorf("Parse(%q) = %v, %v; want ErrEmpty", entries, g, err)
		}
		g, err := Parse("g", entries, Options{AllowEmpty: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range []string{"0.0.0.0", "10.0.0.1", "::", "2001:db8::1"} {
			contains(t, g, addr, false)
		}
		if g.Len() != 0 || g.Countries() != nil {
			t.Errorf("Len() = %d, Countries() = %v", g.Len(), g.Countries())
		}
	}
}

func TestMaxEntries(t *testing.T) {
	for _, tt := range []struct {
		entries, limit int
		ok             bool
	}{{3, 3, true}, {4, 3, false}, {4, -1, true}, {4, 0, true}, {DefaultMaxEntries, 0, true}, {DefaultMaxEntries + 1, 0, false}} {
		if testrace.Enabled && tt.entries > 1000 {
			continue // it takes seconds
		}
		if testing.Short() && tt.entries > 1000 {
			continue
		}
		list := []string{strings.Repeat("10.0.0.1,", tt.entries)}
		_, err := Parse("g", list, Options{MaxEntries: tt.limit})
		if ok := err == nil; ok != tt.ok || !ok && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d entries, limit %d: error %v", tt.entries, tt.limit, err)
		}
	}
}

func TestName(t *testing.T) {
	for name, ok := range map[string]bool{
		"Blacklist": true, "a": true, "LA Office/2 (späť)": true, strings.Repeat("a", 255): true,
		"": false, strings.Repeat("ä", 128): false, "a\u202eb": false, "a\nb": false, "a\x00": false, "\xff": false,
	} {
		g, err := Parse(name, []string{"10.0.0.1"}, Options{})
		if (err == nil) != ok {
			t.Errorf("name %q: error %v", name, err)
		}
		if ok && g.Name() != name {
			t.Errorf("Name() = %q, want %q", g.Name(), name)
		}
	}
	// The name's fault comes with the others.
	_, err := Parse("", []string{"bad"}, Options{})
	var e *EntryError
	if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "name: missing\n") {
		t.Errorf("error %v", err)
	}
}

// normalisation lists whether an entry contains an address, for all the ways to
// write both.
var normalisation = []struct {
	entry, addr string
	want        bool
}{
	// IPv4-mapped addresses are IPv4.
	{"10.0.0.0/8", "10.1.2.3", true},
	{"10.0.0.0/8", "::ffff:10.1.2.3", true},
	{"10.0.0.0/8", "::ffff:a01:203", true},
	{"10.0.0.0/8", "0:0:0:0:0:ffff:0a01:0203", true},
	{"10.0.0.0/8", "::ffff:10.1.2.3%eth0", true},
	{"10.0.0.0/8", "::ffff:11.1.2.3", false},
	{"10.0.0.0/8", "::ffff:11.1.2.3%eth0", false},
	{"10.1.2.3", "::ffff:10.1.2.3", true},
	{"10.1.2.3", "::ffff:10.1.2.4", false},
	{"10.1.2.3-10.1.2.5", "::ffff:10.1.2.4", true},
	{"10.1.2.3-10.1.2.5", "::ffff:10.1.2.6", false},
	{"0.0.0.0/0", "::ffff:0.0.0.0", true},
	{"0.0.0.0/0", "::ffff:255.255.255.255", true},
	{"127.0.0.1", "::ffff:127.0.0.1", true},
	{"127.0.0.1", "::1", false},
	{"::1", "127.0.0.1", false},
	// Mapped entries are IPv4.
	{"::ffff:10.0.0.0/104", "10.1.2.3", true},
	{"::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true},
	{"::ffff:10.0.0.0/104", "11.1.2.3", false},
	{"::ffff:a00:0/104", "10.1.2.3", true},
	{"::ffff:10.9.9.9/104", "10.1.2.3", true}, // host bits set
	{"::ffff:0:0/96", "0.0.0.0", true},
	{"::ffff:0:0/96", "255.255.255.255", true},
	{"::ffff:0:0/96", "::ffff:10.1.2.3", true},
	{"::ffff:0:0/96", "::10.1.2.3", false},
	{"::ffff:0:0/96", "::fffe:a01:203", false},
	{"::ffff:10.1.2.3", "10.1.2.3", true},
	{"::ffff:10.1.2.3", "::ffff:10.1.2.3", true},
	{"::ffff:10.1.2.3", "10.1.2.4", false},
	{"::ffff:10.1.2.3/128", "10.1.2.3", true},
	{"::ffff:10.1.2.3/128", "10.1.2.2", false},
	{"::ffff:10.0.0.1-::ffff:10.0.0.9", "10.0.0.5", true},
	{"::ffff:10.0.0.1-10.0.0.9", "10.0.0.9", true},
	{"10.0.0.1 - ::ffff:10.0.0.9", "::ffff:10.0.0.1", true},
	{"10.0.0.1-::ffff:10.0.0.9", "10.0.0.10", false},
	// IPv6 entries that cover the mapped addresses contain no IPv4.
	{"::/0", "::ffff:10.1.2.3", false},
	{"::/0", "10.1.2.3", false},
	{"::/0", "::fffe:ffff:ffff", true},
	{"::/0", "::1:0:0:0", true},
	{"::/64", "::ffff:10.1.2.3", false},
	{"::/64", "::1", true},
	{"::-ffff::", "::ffff:10.1.2.3", false},
	{"::-ffff::", "10.1.2.3", false},
	{"::-ffff::", "2001:db8::1", true},
	// Zones of the address do not count.
	{"fe80::/10", "fe80::1", true},
	{"fe80::/10", "fe80::1%eth0", true},
	{"fe80::/10", "febf::1%1", true},
	{"fe80::/10", "fec0::1%eth0", false},
	{"fe80::1", "fe80::1%eth0", true},
	{"fe80::1", "fe80::2%eth0", false},
	{"fe80::1/128", "fe80::1%a-very-long-zone-name", true},
	{"fe80::1-fe80::9", "fe80::5%eth0", true},
	{"fe80::1-fe80::9", "fe80::a%eth0", false},
	{"::1", "::1%lo", true},
	{"2001:db8::/32", "2001:db8::1%eth0", true},
	// Other addresses that contain an IPv4 address are IPv6.
	{"10.0.0.0/8", "64:ff9b::10.1.2.3", false}, // NAT64
	{"10.0.0.0/8", "64:ff9b:1::10.1.2.3", false},
	{"10.0.0.0/8", "2002:a01:203::1", false},              // 6to4
	{"10.0.0.0/8", "::10.1.2.3", false},                   // IPv4-compatible
	{"10.0.0.0/8", "::ffff:0:10.1.2.3", false},            // IPv4-translated
	{"10.0.0.0/8", "2001:db8::ffff:10.1.2.3", false},      // only looks like it
	{"64:ff9b::/96", "64:ff9b::10.1.2.3", true},           // the gateway's prefix
	{"64:ff9b::/96", "64:ff9b::10.1.2.3%eth0", true},      //
	{"64:ff9b::/96", "10.1.2.3", false},                   //
	{"64:ff9b::10.0.0.0/104", "64:ff9b::10.1.2.3", true},  // one network behind it
	{"64:ff9b::10.0.0.0/104", "64:ff9b::11.1.2.3", false}, //
	{"64:ff9b::10.1.2.3", "64:ff9b::a01:203", true},       //
	{"2002:a00::/24", "2002:a01:203::1", true},            //
	{"::10.0.0.0/104", "::10.1.2.3", true},                //
	{"::10.0.0.0/104", "10.1.2.3", false},                 //
	{"::ffff:0:10.1.2.3", "::ffff:0:10.1.2.3", true},      //
	{"::ffff:0:10.1.2.3", "10.1.2.3", false},              //
}

func TestNormalisation(t *testing.T) {
	if len(normalisation) < 60 {
		t.Fatalf("%d rows", len(normalisation))
	}
	for _, tt := range normalisation {
		t.Run(fmt.Sprintf("%s in %s", tt.addr, tt.entry), func(t *testing.T) {
			contains(t, mustParse(t, tt.entry), tt.addr, tt.want)
			// Neighbours on both sides change nothing.
			contains(t, mustParse(t, tt.entry, "1.0.0.0", "250.0.0.0", "1::", "fff0::1"), tt.addr, tt.want)
		})
	}
}

// A CountryFinder sees normalized addresses only.
func TestCountryFinderSeesNormalized(t *testing.T) {
	for _, tt := range normalisation {
		addr := netip.MustParseAddr(tt.addr)
		seen := make(chan netip.Addr, 1)
		g, err := Parse("g", []string{"SE"}, Options{Countries: spy(seen)})
		if err != nil {
			t.Fatal(err)
		}
		g.Contains(addr)
		if got, want := <-seen, addr.Unmap().WithZone(""); got != want {
			t.Errorf("finder was asked for %s, want %s", got, want)
		}
		if g.Contains(netip.Addr{}) || len(seen) > 0 {
			t.Error("finder was asked for the zero Addr")
		}
	}
}

type spy chan netip.Addr

func (s spy) Country(addr netip.Addr) (string, bool) {
	s <- addr
	return "", false
}
