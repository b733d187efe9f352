package geoip

import (
	"net/netip"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// known returns all attributes that a source has of an address.
func known(s Source, addr string) map[string]string {
	all := make(map[string]string)
	for _, name := range attributeNames {
		if value, ok := s.Locate(netip.MustParseAddr(addr), name); ok {
			all[name] = value
		}
	}
	return all
}

var wantWide = map[string]string{
	CountryCode: "GB", CountryName: "United Kingdom", ContinentCode: "EU", ContinentName: "Europe", RegionName: "England",
	CityName: "Boxford", ISPName: "Example ISP", OrganizationName: "Example Ltd", ASNumber: "4200000000", ASName: "Example Networks",
}

func TestLocate(t *testing.T) {
	records := map[string]mmdbtype.DataType{
		"81.2.69.0/24": wide,
		"192.0.2.0/24": mmdbtype.Map{
			"country_code": mmdbtype.String("se"), "state1": mmdbtype.String("Östergötland"), "city": mmdbtype.String("Linköping"),
		},
		"198.51.100.0/24": mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500), "autonomous_system_organization": mmdbtype.String("AS")},
		"203.0.113.0/24":  mmdbtype.Map{"continent": with(names("Asia"), "code", "AS"), "country": names("Nowhere")},
		"100.64.0.0/10":   mmdbtype.Map{"is_anycast": mmdbtype.Bool(true)},
	}
	db := open(t, write(t, mmdbwriter.Options{}, records))
	for addr, want := range map[string]map[string]string{
		"81.2.69.142":             wantWide,
		"::ffff:81.2.69.142%eth0": wantWide,
		"192.0.2.7":               {CountryCode: "SE", RegionName: "Östergötland", CityName: "Linköping"},
		"198.51.100.1":            {ASNumber: "64500", ASName: "AS"},
		"203.0.113.1":             {ContinentCode: "AS", ContinentName: "Asia"},
		"100.64.0.1":              {},
		"10.0.0.1":                {},
	} {
		if diff := gocmp.Diff(want, known(db, addr)); diff != "" {
			t.Errorf("%s: %s", addr, diff)
		}
	}
	addr := netip.MustParseAddr("81.2.69.142")
	for name, want := range map[string]string{
		"": "GB", "ATTRIBUTE_CITY_NAME": "Boxford", "city_name": "", "CUSTOM_1": "", "CUSTOM_8": "", "ATTRIBUTE_": "", "\xff": "",
	} {
		if got, ok := db.Locate(addr, name); got != want || ok != (want != "") {
			t.Errorf("Locate(%q) = %q, %v; want %q", name, got, ok, want)
		}
		if got := db.Knows(name); got != (want != "") {
			t.Errorf("Knows(%q) = %v", name, got)
		}
	}
	for text, want := range map[string]uint32{"81.2.69.142": 4_200_000_000, "198.51.100.1": 64500, "192.0.2.7": 0} {
		if got, ok := db.ASN(netip.MustParseAddr(text)); got != want || ok != (want != 0) {
			t.Errorf("ASN(%s) = %d, %v; want %d", text, got, ok, want)
		}
	}
	if _, ok := db.ASN(netip.Addr{}); ok {
		t.Error("the zero Addr has an autonomous system")
	}
	db.Close()
	if got := known(db, "81.2.69.142"); len(got) > 0 || db.Knows(CountryCode) {
		t.Errorf("after Close: %v", got)
	}
}

// A database is what its user needs, at once and after every reload.
func TestNeeds(t *testing.T) {
	asn := write(t, mmdbwriter.Options{DatabaseType: "GeoLite2-ASN"}, map[string]mmdbtype.DataType{
		"81.2.69.0/24": mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500)},
	})
	db, err := OpenBytes(asn, ASNumber)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBytes(asn, ASNumber, CityName); err == nil || !strings.Contains(err.Error(), `no CITY_NAME in a database of type "GeoLite2-ASN"`) {
		t.Errorf("without cities: %v", err)
	}
	if err := db.ReloadBytes(one(t, "GB")); err == nil || !strings.Contains(err.Error(), "no AS_NUMBER") {
		t.Errorf("reload without numbers: %v", err)
	}
	if n, _ := db.ASN(netip.MustParseAddr("81.2.69.1")); n != 64500 {
		t.Errorf("after a refused reload: %d", n)
	}
	for _, name := range []string{"city", "CUSTOM_8"} {
		if _, err := OpenBytes(asn, name); err == nil || !strings.Contains(err.Error(), `"`+name+`" is not an attribute`) {
			t.Errorf("attribute %q: %v", name, err)
		}
		if _, err := Open(t.TempDir(), name); err == nil || !strings.Contains(err.Error(), `"`+name+`" is not an attribute`) {
			t.Errorf("attribute %q: %v", name, err)
		}
	}
	var zero DB
	if err := zero.ReloadBytes(asn); err == nil || !strings.Contains(err.Error(), "no COUNTRY_CODE") {
		t.Errorf("zero DB: %v", err)
	}
	if err := zero.ReloadBytes(one(t, "GB")); err != nil {
		t.Error(err)
	}
	wantCountry(t, &zero, "81.2.69.1", "GB")
}

// A publisher that leaves the description out is not refused for it.
func TestNoDescription(t *testing.T) {
	b := write(t, mmdbwriter.Options{Description: map[string]string{}}, map[string]mmdbtype.DataType{
		"81.2.69.0/24": mmdbtype.Map{"country_code": mmdbtype.String("GB")},
	})
	wantCountry(t, open(t, b), "81.2.69.1", "GB")
}
