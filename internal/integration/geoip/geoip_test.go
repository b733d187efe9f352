package geoip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"go4.org/netipx"

	"github.com/limpetlb/limpet/ipgroup/geoip"
)

func open(t testing.TB, b []byte) *geoip.DB {
	t.Helper()
	db, err := geoip.OpenBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func wantCountry(t *testing.T, db *geoip.DB, addr, want string) {
	t.Helper()
	if got, ok := db.Country(netip.MustParseAddr(addr)); got != want || ok != (want != "") {
		t.Errorf("Country(%s) = %q, %v; want %q", addr, got, ok, want)
	}
}

// attributes are the names of all attributes that a database can have.
var attributes = []string{
	geoip.CountryCode, geoip.CountryName, geoip.ContinentCode, geoip.ContinentName, geoip.RegionName, geoip.CityName, geoip.ISPName,
	geoip.OrganizationName, geoip.ASNumber, geoip.ASName, geoip.Custom1, geoip.Custom2, geoip.Custom3, geoip.Custom4, geoip.Custom5,
	geoip.Custom6, geoip.Custom7,
}

// known returns all attributes that a database has of an address.
func known(db *geoip.DB, addr string) map[string]string {
	all := make(map[string]string)
	for _, name := range attributes {
		if value, ok := db.Locate(netip.MustParseAddr(addr), name); ok {
			all[name] = value
		}
	}
	return all
}

var wantWide = map[string]string{
	geoip.CountryCode: "GB", geoip.CountryName: "United Kingdom", geoip.ContinentCode: "EU", geoip.ContinentName: "Europe", geoip.RegionName: "England",
	geoip.CityName: "Boxford", geoip.ISPName: "Example ISP", geoip.OrganizationName: "Example Ltd", geoip.ASNumber: "4200000000", geoip.ASName: "Example Networks",
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
		"192.0.2.7":               {geoip.CountryCode: "SE", geoip.RegionName: "Östergötland", geoip.CityName: "Linköping"},
		"198.51.100.1":            {geoip.ASNumber: "64500", geoip.ASName: "AS"},
		"203.0.113.1":             {geoip.ContinentCode: "AS", geoip.ContinentName: "Asia"},
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
	if got := known(db, "81.2.69.142"); len(got) > 0 || db.Knows(geoip.CountryCode) {
		t.Errorf("after Close: %v", got)
	}
}

// One record can hold all of IPv4 and more.
func TestCountryOfEverything(t *testing.T) {
	for prefix, want := range map[string][2]string{"::/0": {"GB", "GB"}, "::/1": {"GB", ""}, "8000::/1": {"", "GB"}, "::/96": {"GB", ""}} {
		db := open(t, write(t, mmdbwriter.Options{DisableIPv4Aliasing: true}, map[string]mmdbtype.DataType{prefix: country("GB")}))
		wantCountry(t, db, "0.0.0.0", want[0])
		wantCountry(t, db, "255.255.255.255", want[0])
		wantCountry(t, db, "::ffff:81.2.69.1", want[0])
		wantCountry(t, db, "ffff::1", want[1])
	}
}

func TestCountryAgreesWithReader(t *testing.T) {
	// A database of many networks, the answer of each computed by a linear
	// search for the longest prefix.
	records := make(map[string]mmdbtype.DataType)
	codes := make(map[netip.Prefix]string)
	for i := range 3000 {
		code := string([]byte{byte('A' + i%26), byte('A' + i/26%26)})
		addr := netip.AddrFrom4([4]byte{byte(i * 7), byte(i * 31), byte(i * 13), byte(i)})
		prefix, _ := addr.Prefix(9 + i%24)
		if i%3 == 0 {
			a := addr.As4()
			addr = netip.AddrFrom16([16]byte{0x20, 0x01, a[0], a[1], a[2], a[3], 0, byte(i)})
			prefix, _ = addr.Prefix(30 + i%99)
		}
		codes[prefix] = code
		records[prefix.String()] = country(code)
	}
	db := open(t, write(t, mmdbwriter.Options{DisableIPv4Aliasing: true}, records))

	longest := func(addr netip.Addr) (code string) {
		bits := -1
		for prefix, c := range codes {
			if prefix.Contains(addr) && prefix.Bits() > bits {
				bits, code = prefix.Bits(), c
			}
		}
		return code
	}
	found := 0
	for prefix := range codes {
		r := netipx.RangeOfPrefix(prefix)
		for _, addr := range []netip.Addr{r.From(), r.To(), r.From().Prev(), r.To().Next()} {
			if !addr.IsValid() {
				continue
			}
			want := longest(addr)
			if got, _ := db.Country(addr); got != want {
				t.Fatalf("Country(%s) = %q, want %q", addr, got, want)
			}
			if want != "" {
				found++
			}
		}
	}
	if found < 5000 {
		t.Errorf("only %d of the addresses had a country", found)
	}
}

func TestRefused(t *testing.T) {
	good := write(t, mmdbwriter.Options{}, sample)
	tests := []struct {
		name  string
		b     []byte
		is    error
		names string // part of the error
	}{
		{"nothing", nil, nil, "not a MaxMind database"},
		{"text", []byte("hello"), nil, "not a MaxMind database"},
		{"cut to half", good[:len(good)/2], nil, "not a MaxMind database"},
		{"ASN database", write(t, mmdbwriter.Options{DatabaseType: "GeoLite2-ASN"}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500)},
		}), geoip.ErrMissing, `"GeoLite2-ASN"`},
		{"no records", write(t, mmdbwriter.Options{DatabaseType: "Empty"}, nil), geoip.ErrMissing, `"Empty"`},
		{"country is a string", write(t, mmdbwriter.Options{DatabaseType: "Flat"}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.Map{"country": mmdbtype.String("GB")},
		}), nil, `"Flat": record at`},
		{"record is a string", write(t, mmdbwriter.Options{DatabaseType: "Plain"}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.String("GB"),
		}), nil, `"Plain": record at`},
		{"code is a number", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.Uint16(826)}},
		}), nil, "record at"},
		{"code in a flat record is a number", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.Map{"country_code": mmdbtype.Uint16(826)},
		}), nil, "record at"},
		{"city is a list", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.Map{"country": iso("GB"), "city": mmdbtype.Slice{mmdbtype.String("Boxford")}},
		}), nil, "record at"},
		{"ASN is text", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.Map{"country": iso("GB"), "autonomous_system_number": mmdbtype.String("64500")},
		}), nil, "record at"},
		{"three letters in a flat record", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{
			"81.2.69.0/24": mmdbtype.Map{"country_code": mmdbtype.String("GBR")},
		}), nil, `"GBR"`},
		{"three letters", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{"81.2.69.0/24": country("GBR")}), nil, `"GBR"`},
		{"not letters", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{"81.2.69.0/24": country("A1")}), nil, `"A1"`},
		{"not ASCII", write(t, mmdbwriter.Options{}, map[string]mmdbtype.DataType{"81.2.69.0/24": country("é")}), nil, "two letters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			db, err := geoip.OpenBytes(tt.b)
			if db != nil || err == nil {
				t.Fatalf("OpenBytes = %v, %v; want an error", db, err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v: does not wrap %v", err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.names) {
				t.Errorf("%v: does not name %s", err, tt.names)
			}
		})
	}
}

// A publisher that leaves the description out is not refused for it.
func TestNoDescription(t *testing.T) {
	b := write(t, mmdbwriter.Options{Description: map[string]string{}}, map[string]mmdbtype.DataType{
		"81.2.69.0/24": mmdbtype.Map{"country_code": mmdbtype.String("GB")},
	})
	wantCountry(t, open(t, b), "81.2.69.1", "GB")
}
