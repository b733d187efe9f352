package ipgroup

import (
	"math/bits"
	"net/netip"

	"github.com/limpetlb/limpet/internal/country"
)

// A CountryFinder returns the country of an address. The DB of package geoip is
// one.
//
// Country is called with valid addresses that are neither IPv4-mapped nor have
// a zone. It returns an ISO 3166-1 alpha-2 code in upper case, or false if the
// country is unknown. It must be safe for concurrent use, must not block, and
// should not allocate.
type CountryFinder interface {
	// Country returns the code of the country of addr.
	Country(addr netip.Addr) (code string, ok bool)
}

// countrySet is a set of two-letter codes, one bit for each of the 26 × 26
// possible ones.
type countrySet [11]uint64

func (s *countrySet) add(code string) {
	i, _ := countryIndex(code)
	s[i/64] |= 1 << (i % 64)
}

func (s *countrySet) contains(code string) bool {
	i, ok := countryIndex(code)
	return ok && s[i/64]&(1<<(i%64)) != 0
}

func (s *countrySet) len() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

func (s *countrySet) list() []string {
	var codes []string
	for i := range uint(26 * 26) {
		if s[i/64]&(1<<(i%64)) != 0 {
			codes = append(codes, string([]byte{byte('A' + i/26), byte('A' + i%26)}))
		}
	}
	return codes
}

// countryIndex returns the number of a code from AA to ZZ, and false for
// anything but two upper-case letters.
func countryIndex(code string) (uint, bool) {
	if len(code) != 2 {
		return 0, false
	}
	first, second := code[0]-'A', code[1]-'A'
	if first >= 26 || second >= 26 {
		return 0, false
	}
	return uint(first)*26 + uint(second), true
}

// knownCountries are the codes that entries may name.
var knownCountries = func() (known countrySet) {
	for _, code := range country.Codes {
		known.add(code)
	}
	return known
}()
