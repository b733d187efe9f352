package datascripttest

import (
	"net/netip"

	"github.com/limpetlb/limpet/datascript"
)

var (
	_ datascript.Geo         = AddressFacts(nil)
	_ datascript.Reputations = AddressFacts(nil)
)

// AddressFacts are what is known of addresses: where they are, and their
// reputation.
type AddressFacts []AddressFact

// An AddressFact is one attribute of all addresses of a network.
type AddressFact struct {
	Network   netip.Prefix // the addresses
	Attribute string       // empty for the country, "reputation" for the reputation
	Value     string       // of the attribute
}

// Locate returns the first fact about an address that is of an attribute.
func (f AddressFacts) Locate(addr netip.Addr, attribute string) (value string, ok bool) {
	for _, fact := range f {
		if fact.Attribute == attribute && fact.Network.Contains(addr) {
			return fact.Value, true
		}
	}
	return "", false
}

// Reputation returns the first fact about an address that is its reputation.
func (f AddressFacts) Reputation(addr netip.Addr) (reputation string, ok bool) {
	return f.Locate(addr, "reputation")
}
