package datascripttest

import (
	"fmt"
	"net/netip"

	"github.com/limpetlb/limpet/datascript"
)

var _ datascript.IPGroups = IPGroups(nil)

// IPGroups are IP groups by name, each a list of networks. A nil map has no
// groups.
type IPGroups map[string][]netip.Prefix

// Contains reports whether a network of the group holds the address; an invalid
// one is in no group. It fails if there is no such group.
func (g IPGroups) Contains(group string, addr netip.Addr) (bool, error) {
	networks, ok := g[group]
	if !ok {
		return false, fmt.Errorf("unknown ip group %q", group)
	}
	for _, n := range networks {
		if n.Contains(addr) {
			return true, nil
		}
	}
	return false, nil
}
