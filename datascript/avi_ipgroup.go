package datascript

import "net/netip"

// The module avi.ipgroup: groups of addresses and countries.
var ipgroupEntries = []entry{
	{name: "contains", call: ipgroupContains},
}

// contains(group, ip) reports whether the address is in the group. An invalid
// address is in no group. It fails if there is no such group.
func ipgroupContains(c call) int {
	groups := c.engine.env.IPGroups
	if groups == nil {
		c.Fail("%s: the virtual service has no IP groups", c.Sym.Name)
	}
	name := c.name(1)
	addr, _ := netip.ParseAddr(c.Str(2))
	ok, err := groups.Contains(name, addr.Unmap().WithZone(""))
	if err != nil {
		c.FailWith(err)
	}
	return c.RetBool(ok)
}
