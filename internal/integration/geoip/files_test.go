package geoip

import (
	"bytes"
	"cmp"
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"go.uber.org/goleak"
	"go4.org/netipx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the databases that are committed")

// TestFiles wants the databases that are committed for tests and examples of
// the library as they are made here; -update writes them.
func TestFiles(t *testing.T) {
	type records = map[string]mmdbtype.DataType
	number := func(n uint32) mmdbtype.Map { return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(n)} }
	for _, tt := range []struct {
		name    string
		options mmdbwriter.Options
		records records
	}{
		{"sample24", mmdbwriter.Options{RecordSize: 24}, sample},
		{"sample28", mmdbwriter.Options{RecordSize: 28}, sample},
		{"sample32", mmdbwriter.Options{RecordSize: 32}, sample},
		{"ipv4", mmdbwriter.Options{IPVersion: 4}, records{"81.2.69.0/24": country("GB")}},
		{"gb", mmdbwriter.Options{}, records{"81.2.69.0/24": country("GB")}},
		{"fr", mmdbwriter.Options{}, records{"81.2.69.0/24": country("FR")}},
		{"asn", mmdbwriter.Options{DatabaseType: "GeoLite2-ASN"}, records{"81.2.69.0/24": number(64500), "10.0.0.0/8": number(64501)}},
		{"unknown", mmdbwriter.Options{}, records{"81.2.69.0/24": mmdbtype.Map{"asn": mmdbtype.Uint32(1)}}}, // no attribute
		{"tree", mmdbwriter.Options{IPVersion: 4, RecordSize: 32}, records{"10.0.0.0/8": country("GB"), "192.0.2.0/24": country("US")}},
		{"flat", mmdbwriter.Options{}, records{"10.0.0.0/8": mmdbtype.Map{ // the other layout
			"country_code": mmdbtype.String("GB"), "city": mmdbtype.String("Boxford"), "state1": mmdbtype.String("England"),
		}}},
		{"empty", mmdbwriter.Options{IPVersion: 4}, nil},
		{"small24", mmdbwriter.Options{RecordSize: 24}, records{"10.0.0.0/8": country("GB")}},
		{"small32", mmdbwriter.Options{RecordSize: 32, IPVersion: 4}, records{"10.0.0.0/8": country("GB")}},
		{"example", mmdbwriter.Options{
			DatabaseType: "Example-Country", Description: map[string]string{"en": "two networks"},
		}, records{"89.160.20.0/24": country("SE"), "81.2.69.0/24": country("GB")}},
		{"../../../examples/geoacl/countries", mmdbwriter.Options{
			DatabaseType: "Example-Country", BuildEpoch: 1767225600,
			Description: map[string]string{"en": "Made-up countries of the loopback network"},
		}, records{"127.0.0.0/28": country("DE"), "127.0.0.16/28": country("FR"), "127.0.0.32/28": country("US")}},
	} {
		t.Run(filepath.Base(tt.name), func(t *testing.T) {
			path := filepath.Join("../../../ipgroup/geoip/testdata", tt.name+".mmdb")
			want := write(t, tt.options, tt.records)
			if *update {
				if err := os.WriteFile(path, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not as it is made here; if that is meant, run go generate in ipgroup/geoip", path)
			}
		})
	}
}

// write builds a real database file in memory, made at a time that tests know
// if the options say none.
func write(t testing.TB, o mmdbwriter.Options, records map[string]mmdbtype.DataType) []byte {
	t.Helper()
	if o.BuildEpoch == 0 {
		o.BuildEpoch = 1_790_000_000
	}
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
