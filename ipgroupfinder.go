package limpet

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// IPGroupFinder is an [lbpool.Finder] whose servers are the addresses of an IP
// group. When the group is replaced in its set, the pool follows at the next
// query of its [lbpool.Discovery]. The Interval of that may be short, since a
// query only walks through the group.
type IPGroupFinder struct {
	// Groups is the set with the group. Required.
	Groups *ipgroup.Set
	// Group is its name. If there is no such group, if it has more than
	// [lbpool.MaxServers] addresses, or if it has countries, the pool keeps its
	// present servers. Required.
	Group string
	// Port is the servers' port. 0 means the pool's DefaultPort.
	Port uint16
	// Server has the other settings of the servers. Address and Name are
	// ignored.
	Server lbpool.ServerConfig
}

// Find implements [lbpool.Finder].
func (f *IPGroupFinder) Find(context.Context) ([]lbpool.ServerConfig, error) {
	g, ok := f.Groups.Group(f.Group)
	if !ok {
		return nil, fmt.Errorf("ip group %q not found", f.Group)
	}
	var found []lbpool.ServerConfig
	for a := range g.Addresses() {
		if len(found) == lbpool.MaxServers {
			return nil, fmt.Errorf("ip group %q has more than %d addresses", f.Group, lbpool.MaxServers)
		}
		s := f.Server
		s.Name, s.Address = "", a.String()
		if f.Port != 0 {
			s.Address = netip.AddrPortFrom(a, f.Port).String()
		}
		found = append(found, s)
	}
	if len(found) == 0 && g.Len() > 0 {
		return nil, fmt.Errorf("ip group %q has no addresses of its own", f.Group)
	}
	return found, nil
}

// String describes the group.
func (f *IPGroupFinder) String() string { return fmt.Sprintf("ip group %q of %p", f.Group, f.Groups) }

// Same reports whether other is an *IPGroupFinder that asks the same set for
// the same group.
func (f *IPGroupFinder) Same(other lbpool.Finder) bool {
	o, ok := other.(*IPGroupFinder)
	return ok && o != nil && *f == *o
}

// location returns the label of a client for its record. It is empty if neither
// groups nor geo data are configured, and if the program's geo data panics, so
// that the record is not lost.
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
		// Rules have decided by the same data.
		if code, ok := countries.Country(client); ok && code != "" {
			label = code
		}
	}
	return label
}

// countryFinder finds countries in geo data.
type countryFinder struct{ policy.Geo }

func (f countryFinder) Country(addr netip.Addr) (code string, ok bool) { return f.Locate(addr, "") }
