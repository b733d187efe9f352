package geoip

import (
	"net/netip"
	"strings"
	"testing"
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

// A database is what its user needs, at once and after every reload.
func TestNeeds(t *testing.T) {
	asn := file(t, "asn")
	db, err := OpenBytes(asn, ASNumber)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBytes(asn, ASNumber, CityName); err == nil || !strings.Contains(err.Error(), `no CITY_NAME in a database of type "GeoLite2-ASN"`) {
		t.Errorf("without cities: %v", err)
	}
	if err := db.ReloadBytes(file(t, "gb")); err == nil || !strings.Contains(err.Error(), "no AS_NUMBER") {
		t.Errorf("reload without numbers: %v", err)
	}
	if n, _ := db.ASN(netip.MustParseAddr("81.2.69.1")); n != 64500 {
		t.Errorf("after a refused reload: %d", n)
	}
	for _, name := range []string{"city", "CUSTOM_8"} {
		if _, err := OpenBytes(asn, name); err == nil || !strings.Contains(err.Error(), `attributes[0]: "`+name+`": not an attribute`) {
			t.Errorf("attribute %q: %v", name, err)
		}
		if _, err := Open(t.TempDir(), name); err == nil || !strings.Contains(err.Error(), `attributes[0]: "`+name+`": not an attribute`) {
			t.Errorf("attribute %q: %v", name, err)
		}
	}
	var zero DB
	if err := zero.ReloadBytes(asn); err == nil || !strings.Contains(err.Error(), "no COUNTRY_CODE") {
		t.Errorf("zero DB: %v", err)
	}
	if err := zero.ReloadBytes(file(t, "gb")); err != nil {
		t.Error(err)
	}
	wantCountry(t, &zero, "81.2.69.1", "GB")
}
