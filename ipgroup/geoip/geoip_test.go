package geoip

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/ipgroup"
)

var _ ipgroup.CountryFinder = (*DB)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const built = 1_790_000_000 // seconds since 1970, of the databases in testdata

// The databases in testdata are made by the tests in a module of their own,
// which says what is in each.
//
//go:generate env GOWORK=off go -C ../../internal/integration test ./geoip -run ^TestFiles$ -count=1 -update

// file returns a database of testdata.
func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	return b
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
			db := open(t, file(t, fmt.Sprint("sample", size)))
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
	db := open(t, file(t, "ipv4"))
	for addr, want := range map[string]string{"81.2.69.1": "GB", "::ffff:81.2.69.1": "GB", "81.2.70.1": "", "2001:db8::1": ""} {
		if got, _ := db.Country(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Country(%s) = %q, want %q", addr, got, want)
		}
	}
}

func TestMetadata(t *testing.T) {
	db := open(t, file(t, "sample28"))
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
