package ipgroup

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// finder is a CountryFinder made of prefixes, of which the first that holds the
// address decides.
type finder []struct{ prefix, code string }

func (f finder) Country(addr netip.Addr) (string, bool) {
	for _, c := range f {
		if netip.MustParsePrefix(c.prefix).Contains(addr) {
			return c.code, true
		}
	}
	return "", false
}

var testCountries = finder{{"81.2.69.0/24", "GB"}, {"89.160.20.0/22", "SE"}, {"2001:db8::/32", "SE"}, {"192.0.2.0/24", "ZZ"}}
