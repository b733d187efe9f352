package limpet

import (
	"net/netip"

	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/policy"
)

// location returns the label of a client for its record. It is empty where neither groups nor geo data are configured, and where
// the geo data, which is the program's, panics: that must not cost the record.
func (s *snapshot) location(client netip.Addr) (label string) {
	defer func() {
		if recover() != nil {
			label = ""
		}
	}()
	var countries ipgroup.CountryFinder
	if s.Geo != nil {
		countries = countryFinder{s.Geo}
	}
	switch {
	case s.IPGroups != nil:
		label = s.IPGroups.Label(client, countries)
	case countries != nil:
		label = new(ipgroup.Set).Label(client, countries)
	}
	if label == ipgroup.Internal && countries != nil {
		// What the data knows is what rules have decided by.
		if code, ok := countries.Country(client); ok && code != "" {
			label = code
		}
	}
	return label
}

// countryFinder finds countries in geo data.
type countryFinder struct{ policy.Geo }

func (f countryFinder) Country(addr netip.Addr) (code string, ok bool) { return f.Locate(addr, "") }
