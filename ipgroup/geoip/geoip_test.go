package geoip

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"go.uber.org/goleak"
	"go4.org/netipx"

	"github.com/limpetlb/limpet/ipgroup"
)

var _ ipgroup.CountryFinder = (*DB)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const built = 1_790_000_000 // seconds since 1970

// write builds a real database file in memory.
func write(t testing.TB, o mmdbwriter.Options, records map[string]mmdbtype.DataType) []byte {
	t.Helper()
	o.BuildEpoch = built
	o.IncludeReservedNetworks = true
	if o.DatabaseType == "" {
		o.DatabaseType = "Test-Country"
	}
	if o.Description == nil {
		o.Description = map[string]string{"en": "countries for a test"}
	}
	tree, err := mmdbwriter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	// An insert replaces what it covers, so wide prefixes go in first.
	order := slices.SortedFunc(maps.Keys(records), func(a, b string) int {
		return cmp.Or(netip.MustParsePrefix(a).Bits()-netip.MustParsePrefix(b).Bits(), strings.Compare(a, b))
	})
	for _, prefix := range order {
		if err := tree.Insert(netipx.PrefixIPNet(netip.MustParsePrefix(prefix)), records[prefix]); err != nil {
			t.Fatalf("insert %s: %v", prefix, err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func iso(code string) mmdbtype.Map { return mmdbtype.Map{"iso_code": mmdbtype.String(code)} }

func country(code string) mmdbtype.DataType { return mmdbtype.Map{"country": iso(code)} }

func names(english string) mmdbtype.Map {
	return mmdbtype.Map{"names": mmdbtype.Map{"de": mmdbtype.String("anders"), "en": mmdbtype.String(english)}}
}

func with(place mmdbtype.Map, key, value string) mmdbtype.Map {
	place[mmdbtype.String(key)] = mmdbtype.String(value)
	return place
}

// wide has all attributes, as databases of several publishers have them.
var wide = mmdbtype.Map{
	"country":                        with(names("United Kingdom"), "iso_code", "GB"),
	"registered_country":             with(names("United States"), "iso_code", "US"),
	"continent":                      with(names("Europe"), "code", "EU"),
	"subdivisions":                   mmdbtype.Slice{with(names("England"), "iso_code", "ENG"), with(names("Suffolk"), "iso_code", "SFK")},
	"city":                           names("Boxford"),
	"location":                       mmdbtype.Map{"latitude": mmdbtype.Float64(51.75)}, // ignored
	"autonomous_system_number":       mmdbtype.Uint32(4_200_000_000),
	"autonomous_system_organization": mmdbtype.String("Example Networks"),
	"isp":                            mmdbtype.String("Example ISP"),
	"organization":                   mmdbtype.String("Example Ltd"),
}

// sample has one record of each kind.
var sample = map[string]mmdbtype.DataType{
	"81.2.69.0/24":    wide,
	"89.160.20.0/22":  country("SE"),
	"5.44.16.0/20":    mmdbtype.Map{"registered_country": iso("DE")},
	"198.51.100.0/24": mmdbtype.Map{"country": iso(""), "registered_country": iso("CH")},
	"203.0.113.0/24":  mmdbtype.Map{"continent": mmdbtype.Map{"code": mmdbtype.String("EU")}},
	"192.0.2.0/25":    mmdbtype.Map{"represented_country": iso("US")},
	"100.64.0.1/32":   country("xk"),
	"2001:db8::/32":   country("SE"),
	"2001:db8:1::/48": country("NO"),
}

func open(t testing.TB, b []byte) *DB {
	t.Helper()
	db, err := OpenBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestCountry(t *testing.T) {
	tests := []struct{ name, addr, want string }{
		{"used and registered differ", "81.2.69.142", "GB"},
		{"first of a network", "89.160.20.0", "SE"},
		{"last of a network", "89.160.23.255", "SE"},
		{"after a network", "89.160.24.0", ""},
		{"registered only", "5.44.16.1", "DE"},
		{"empty code, registered", "198.51.100.7", "CH"},
		{"continent only", "203.0.113.1", ""},
		{"represented only", "192.0.2.1", ""},
		{"no record", "192.0.2.200", ""},
		{"single address, lower case", "100.64.0.1", "XK"},
		{"mapped", "::ffff:81.2.69.142", "GB"},
		{"mapped with zone", "::ffff:81.2.69.142%eth0", "GB"},
		{"IPv6", "2001:db8::1", "SE"},
		{"IPv6 inside another network", "2001:db8:1::1", "NO"},
		{"IPv6 with zone", "2001:db8:1::1%eth0", "NO"},
		{"IPv6 without record", "2001:db9::1", ""},
	}
	for _, size := range []int{24, 28, 32} {
		t.Run(fmt.Sprintf("record size %d", size), func(t *testing.T) {
			db := open(t, write(t, mmdbwriter.Options{RecordSize: size}, sample))
			for _, tt := range tests {
				if got, ok := db.Country(netip.MustParseAddr(tt.addr)); got != tt.want || ok != (tt.want != "") {
					t.Errorf("%s: Country(%s) = %q, %v; want %q", tt.name, tt.addr, got, ok, tt.want)
				}
			}
			if got, ok := db.Country(netip.Addr{}); ok {
				t.Errorf("Country(zero Addr) = %q, true", got)
			}
		})
	}
}

func TestCountryIPv4Database(t *testing.T) {
	db := open(t, write(t, mmdbwriter.Options{IPVersion: 4}, map[string]mmdbtype.DataType{"81.2.69.0/24": country("GB")}))
	for addr, want := range map[string]string{"81.2.69.1": "GB", "::ffff:81.2.69.1": "GB", "81.2.70.1": "", "2001:db8::1": ""} {
		if got, _ := db.Country(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Country(%s) = %q, want %q", addr, got, want)
		}
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

func TestMetadata(t *testing.T) {
	db := open(t, write(t, mmdbwriter.Options{}, sample))
	got := db.Metadata()
	if got.Nodes <= 0 {
		t.Errorf("Nodes = %d", got.Nodes)
	}
	got.Nodes = 0
	want := Metadata{Type: "Test-Country", Built: time.Unix(built, 0).UTC(), IPVersion: 6, Countries: 6}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCountryAgreesWithReader(t *testing.T) {
	// A database of many networks, the answer of each computed by a linear search for the longest prefix.
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
		}), ErrMissing, `"GeoLite2-ASN"`},
		{"no records", write(t, mmdbwriter.Options{DatabaseType: "Empty"}, nil), ErrMissing, `"Empty"`},
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
			db, err := OpenBytes(tt.b)
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
