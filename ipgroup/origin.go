package ipgroup

import (
	"net/netip"
	"strconv"
)

// An ASNFinder returns the autonomous system that announces an address. The DB
// of package geoip is one.
//
// ASN is called with valid addresses that are neither IPv4-mapped nor have a
// zone. It must be safe for concurrent use, must not block, and should not
// allocate.
type ASNFinder interface {
	// ASN returns the number of the autonomous system, or false if it is
	// unknown.
	ASN(addr netip.Addr) (number uint32, ok bool)
}

// origins are the members of a group of countries and autonomous systems. A
// finder that is not needed is nil.
type origins struct {
	countries     countrySet
	countryFinder CountryFinder
	asns          map[uint32]struct{}
	asnFinder     ASNFinder
}

func (p *origins) contains(addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = normalize(addr)
	if p.countries.len() > 0 {
		if code, ok := p.countryFinder.Country(addr); ok && p.countries.contains(code) {
			return true
		}
	}
	if len(p.asns) > 0 {
		if number, ok := p.asnFinder.ASN(addr); ok {
			_, in := p.asns[number]
			return in
		}
	}
	return false
}

// smallest treats countries and autonomous systems as larger than any network.
func (p *origins) smallest(addr netip.Addr) (width uint128, ok bool) {
	return everything, p.contains(addr)
}

func (p *origins) match(addr netip.Addr) string {
	if p.countries.len() > 0 {
		if code, ok := p.countryFinder.Country(addr); ok && p.countries.contains(code) {
			return code
		}
	}
	if p.asnFinder != nil {
		if number, ok := p.asnFinder.ASN(addr); ok {
			return "AS" + strconv.FormatUint(uint64(number), 10)
		}
	}
	return ""
}

func (p *origins) len() int { return p.countries.len() + len(p.asns) }
