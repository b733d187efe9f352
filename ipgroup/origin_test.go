package ipgroup

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asnFinder is an ASNFinder made of prefixes.
type asnFinder map[string]uint32

func (f asnFinder) ASN(addr netip.Addr) (uint32, bool) {
	for prefix, number := range f {
		if netip.MustParsePrefix(prefix).Contains(addr) {
			return number, true
		}
	}
	return 0, false
}

var testASNs = asnFinder{"81.2.69.0/24": 64500, "2001:db8:5::/48": 4_200_000_000, "192.0.2.0/24": 0}

func TestASNs(t *testing.T) {
	g := parsedWith(t, "g", "as64500, SE", `"AS4200000000"`, "AS64500")
	for addr, want := range map[string]bool{
		"81.2.69.9": true, "::ffff:81.2.69.9": true, "2001:db8:5::1%eth0": true, // by number
		"89.160.20.1": true,                     // by country
		"192.0.2.1":   false, "10.0.0.1": false, // another number, and none
	} {
		contains(t, g, addr, want)
	}
	if g.Contains(netip.Addr{}) {
		t.Error("contains the zero Addr")
	}
	if g.Len() != 3 {
		t.Errorf("Len() = %d, want 3", g.Len())
	}
	if diff := cmp.Diff([]uint32{64500, 4_200_000_000}, g.ASNs()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"SE"}, g.Countries()); diff != "" {
		t.Error(diff)
	}
	only, err := Parse("g", []string{"AS64500"}, Options{ASNs: testASNs}) // no CountryFinder is needed
	if err != nil {
		t.Fatal(err)
	}
	contains(t, only, "81.2.69.9", true)
	contains(t, only, "89.160.20.1", false)
	if only.Countries() != nil || mustParse(t, "10.0.0.1").ASNs() != nil || mustParse(t, "SE").ASNs() != nil {
		t.Error("lists of what a group has not are not nil")
	}
}

func TestBadASNs(t *testing.T) {
	for entry, want := range map[string]string{
		"AS0": "is not the number", "AS4294967296": "is not the number", "AS-1": "is not the number", "AS+1": "is not the number",
		"AS01": "is not the number", "AS1.10": "is not the number", "AS 1": "is not the number", "ASN1": "is not the number",
		"asia": "is not the number", "AS64500-AS64510": "is not the number",
	} {
		_, err := Parse("g", []string{entry}, Options{ASNs: testASNs})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", entry, err)
		}
	}
	if _, err := Parse("g", []string{"AS64500"}, Options{}); err == nil || !strings.Contains(err.Error(), "there is no geo data with autonomous systems") {
		t.Errorf("without a finder: %v", err)
	}
	for _, entries := range [][]string{{"AS64500", "10.0.0.1", "10.0.0.2"}, {"10.0.0.1, AS64500"}} {
		_, err := Parse("g", entries, Options{ASNs: testASNs})
		if err == nil || strings.Count(err.Error(), "mixes addresses with countries or autonomous systems") != 1 {
			t.Errorf("%q: error %v", entries, err)
		}
	}
}
