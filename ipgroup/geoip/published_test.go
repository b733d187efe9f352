package geoip

import (
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/ipgroup"
)

// published is the directory in which the data step of internal/tools/check
// puts a country database and the table it was made of, of one version:
// geo-whois-asn-country of ip-location-db. The packages are CC0; what they are
// made of is, among others, data of the Number Resource Organization (nro.net)
// under CC BY 4.0.
func published(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "limpet", "geo-whois-asn-country-2.3.2026061719")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skip("no published database; internal/tools/check data fetches one")
	} else if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The first and the last address of every row of the published table have in
// the database the country that the table gives them. Rows overlap: of those
// with an address, the last decides.
func TestPublishedDatabase(t *testing.T) {
	dir := published(t)
	begun := time.Now()
	db, err := Open(filepath.Join(dir, "geo-whois-asn-country.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, loaded in %v", db.Metadata(), time.Since(begun))
	stride := 1
	if testrace.Enabled {
		stride = 50
	}
	if testing.Short() {
		stride = 50
	}
	inGroup := []string{"CN", "US"}
	group, err := ipgroup.Parse("g", inGroup, ipgroup.Options{Countries: db})
	if err != nil {
		t.Fatal(err)
	}
	total, differences := 0, 0
	countries := make(map[string]bool)
	for _, name := range []string{"geo-whois-asn-country-ipv4.csv", "geo-whois-asn-country-ipv6.csv"} {
		rows := readCSV(t, filepath.Join(dir, name))
		if len(rows) < 100_000 {
			t.Errorf("%s: %d rows", name, len(rows))
		}
		var probes []netip.Addr
		for _, r := range rows {
			probes = append(probes, r.first, r.last)
		}
		slices.SortFunc(probes, netip.Addr.Compare)
		var open []publishedRow // those that have begun, in their order, without some that have ended
		for i := 0; i < len(probes); i += stride {
			addr := probes[i]
			for len(rows) > 0 && rows[0].first.Compare(addr) <= 0 {
				open, rows = append(open, rows[0]), rows[1:]
			}
			for open[len(open)-1].last.Less(addr) {
				open = open[:len(open)-1]
			}
			want := open[len(open)-1].country
			countries[want] = true
			total++
			code, ok := db.Country(addr)
			if code == want && ok && group.Contains(addr) == slices.Contains(inGroup, want) {
				continue
			}
			if differences++; differences <= 10 {
				t.Errorf("Country(%s) = %q, %v; the table says %s", addr, code, ok, want)
			}
		}
	}
	t.Logf("%d look-ups of %d countries, %d differences", total, len(countries), differences)
	if stride == 1 && len(countries) < 200 {
		t.Errorf("%d countries", len(countries))
	}
}

type publishedRow struct {
	first, last netip.Addr
	country     string
}

func readCSV(t *testing.T, path string) (rows []publishedRow) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = 3
	r.ReuseRecord = true
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, publishedRow{netip.MustParseAddr(fields[0]), netip.MustParseAddr(fields[1]), fields[2]})
	}
}
