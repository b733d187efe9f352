package geoip

import (
	"net/netip"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

func TestCountryDoesNotAllocate(t *testing.T) {
	if testrace.Enabled {
		t.Skip("allocations are counted without the race detector")
	}
	db4 := open(t, file(t, "ipv4"))
	db := open(t, file(t, "sample28"))
	zoned := netip.MustParseAddr("2001:db8::1%eth0")
	for name, lookup := range map[string]func(){
		"IPv4":                       func() { db.Country(netip.AddrFrom4([4]byte{81, 2, 69, 142})) },
		"IPv6 with zone":             func() { db.Country(zoned) },
		"nothing known":              func() { db.Country(netip.AddrFrom4([4]byte{9, 9, 9, 9})) },
		"zero Addr":                  func() { db.Country(netip.Addr{}) },
		"IPv6 in a database of IPv4": func() { db4.Country(zoned) },
	} {
		if n := testing.AllocsPerRun(100, lookup); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
