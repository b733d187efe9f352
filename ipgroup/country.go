package ipgroup

import (
	"math/bits"
	"net/netip"
	"strings"
)

// CountryFinder tells in which country an address is. It is satisfied by the DB of package geoip.
//
// Country is called with valid addresses that are neither IPv4-mapped nor have a zone. It returns an ISO
// 3166-1 alpha-2 code in upper case, or false if the country is not known. It must be safe for concurrent
// use, must not block, and should not allocate.
type CountryFinder interface {
	// Country returns the code of the country that addr is in.
	Country(addr netip.Addr) (code string, ok bool)
}

// countrySet is a set of two-letter codes, one bit for each of the 26 × 26 possible ones.
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

// countryIndex numbers the codes AA to ZZ. It is false for anything but two upper-case letters.
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

// knownCountries are the officially assigned codes of ISO 3166-1 alpha-2, and XK, the user-assigned code
// that geolocation databases use for Kosovo.
var knownCountries = func() (known countrySet) {
	for code := range strings.FieldsSeq(`
		AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ
		BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
		CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ
		DE DJ DK DM DO DZ
		EC EE EG EH ER ES ET
		FI FJ FK FM FO FR
		GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY
		HK HM HN HR HT HU
		ID IE IL IM IN IO IQ IR IS IT
		JE JM JO JP
		KE KG KH KI KM KN KP KR KW KY KZ
		LA LB LC LI LK LR LS LT LU LV LY
		MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ
		NA NC NE NF NG NI NL NO NP NR NU NZ
		OM
		PA PE PF PG PH PK PL PM PN PR PS PT PW PY
		QA
		RE RO RS RU RW
		SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ
		TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ
		UA UG UM US UY UZ
		VA VC VE VG VI VN VU
		WF WS
		XK
		YE YT
		ZA ZM ZW`) {
		known.add(code)
	}
	return known
}()
