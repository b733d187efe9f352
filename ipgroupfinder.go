package limpet

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
)

// IPGroupFinder is an [lbpool.Finder] that takes the addresses of an IP group
// for servers. When the group is replaced in its set, the pool follows at the
// next question of its [lbpool.Discovery], whose Interval may be short: asking
// costs no more than a walk through the group.
type IPGroupFinder struct {
	// Groups are where the group is found. Required.
	Groups *ipgroup.Set
	// Group is its name. If there is no such group, or if it holds more than
	// [lbpool.MaxServers] addresses, or countries, the pool keeps the servers
	// that it has. Required.
	Group string
	// Port is the servers' port. 0 means the pool's DefaultPort.
	Port uint16
	// Server is what the servers are like. Address and Name are ignored.
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

// String tells what is asked.
func (f *IPGroupFinder) String() string { return fmt.Sprintf("ip group %q of %p", f.Group, f.Groups) }

// Same reports whether other is an *IPGroupFinder that asks the same set for
// the same group.
func (f *IPGroupFinder) Same(other lbpool.Finder) bool {
	o, ok := other.(*IPGroupFinder)
	return ok && o != nil && *f == *o
}
