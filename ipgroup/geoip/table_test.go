package geoip

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func table1(t testing.TB, lines ...string) *Table {
	t.Helper()
	table, err := ParseTable([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTable(t *testing.T) {
	table := table1(t,
		"\ufeff# our networks", "",
		"Prefix;ISP;country code; AS number;region;Custom 1;custom_2;City_Name;ATTRIBUTE_AS_NAME\r",
		"10.1.0.0/16;Own;us;AS64500;California;office;;Los Angeles;Example\r",
		"10.1.2.0/24;;;;;printers",
		"10.1.2.3; ; FR",
		"::ffff:10.2.0.0/112;;DE",
		"2001:db8::1/32;;;4200000000;;lab",
	)
	for addr, want := range map[string]map[string]string{
		"10.1.9.9": {
			ISPName: "Own", CountryCode: "US", ASNumber: "64500", RegionName: "California", Custom1: "office", CityName: "Los Angeles", ASName: "Example",
		},
		"10.1.2.9":           {Custom1: "printers"}, // the smallest network alone
		"10.1.2.3":           {CountryCode: "FR"},
		"::ffff:10.1.2.3%x":  {CountryCode: "FR"},
		"10.2.7.7":           {CountryCode: "DE"},
		"2001:db8:ffff::":    {ASNumber: "4200000000", Custom1: "lab"},
		"2001:db9::":         {},
		"10.3.0.0":           {},
		"2001:db8::1%office": {ASNumber: "4200000000", Custom1: "lab"},
	} {
		if diff := gocmp.Diff(want, known(table, addr)); diff != "" {
			t.Errorf("%s: %s", addr, diff)
		}
	}
	if table.Len() != 5 {
		t.Errorf("Len() = %d", table.Len())
	}
	if n, ok := table.ASN(netip.MustParseAddr("2001:db8::")); n != 4_200_000_000 || !ok {
		t.Errorf("ASN = %d, %v", n, ok)
	}
	if code, ok := table.Country(netip.MustParseAddr("10.2.0.1")); code != "DE" || !ok {
		t.Errorf("Country = %q, %v", code, ok)
	}
	if _, ok := table.Country(netip.Addr{}); ok {
		t.Error("the zero Addr has a country")
	}
	if !table.Knows("") || !table.Knows(Custom1) || table.Knows(Custom2) || table.Knows("custom 1") {
		t.Error("Knows is wrong")
	}
	var zero Table
	if got := known(&zero, "10.1.2.3"); len(got) > 0 || zero.Len() != 0 || zero.Knows(CountryCode) {
		t.Errorf("zero Table: %v", got)
	}
}

func TestTableFaults(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", []string{"no networks"}},
		{"header only", "prefix;city\n", []string{"no networks"}},
		{"no header", "10.0.0.0/8;US\n10.1.0.0/16;US", []string{`line 1: column "US" is not an attribute`}},
		{"unknown column", "\nprefix;planet\n10.0.0.0/8;Mars", []string{`line 2: column "planet" is not an attribute`}},
		{"empty column", "prefix;city;\n10.0.0.0/8;Mars", []string{`line 1: column "" is not`}},
		{"column twice", "prefix;city;CITY_NAME\n10.0.0.0/8;a;b", []string{`line 1: a second column "CITY_NAME"`}},
		{"one column", "prefix\n10.0.0.0/8", []string{"line 1: no columns but the first"}},
		{"commas", "prefix,city\n10.0.0.0/8,x", []string{"line 1: no columns"}},
		{"bad lines", "prefix;country code;as number\n10.0.0.0/33;US\n10.0.0.0/8;USA\n11.0.0.0/8;;AS0\n12.0.0.0/8;;x\n10.0.0.0/8;US;1;more\n13.0.0.0/8;US;1\n13.1.1.1/8;US;1\nfe80::1%eth0\n::ffff:0:0/95", []string{
			`line 2: "10.0.0.0/33" is not a prefix or an address`, `line 3: country code "USA" is not two letters`,
			`line 4: "AS0" is not the number of an autonomous system`, `line 5: "x" is not the number`, "line 6: 4 values in 3 columns",
			"line 8: a second line for 13.0.0.0/8", `line 9: "fe80::1%eth0" is not`, `line 10: "::ffff:0:0/95" is an IPv4-mapped prefix shorter than /96`,
		}},
		{"many bad lines", "prefix;city\n" + strings.Repeat("x\n", 1500), []string{"line 1001:", "500 more bad lines"}},
		{"too large", strings.Repeat("#", MaxTableSize+1), []string{"more than 67108864 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := table1(t, "prefix;city", "10.0.0.0/8;Here")
			err := table.ReloadBytes([]byte(tt.text))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q:\n%v", want, err)
				}
			}
			if got := strings.Count(err.Error(), "\n") + 1; got != len(tt.want) && len(tt.want) != 2 {
				t.Errorf("%d faults, want %d:\n%v", got, len(tt.want), err)
			}
			if got := known(table, "10.1.1.1"); got[CityName] != "Here" {
				t.Errorf("the table has changed: %v", got)
			}
			if _, err := ParseTable([]byte(tt.text)); err == nil {
				t.Error("ParseTable accepts it")
			}
		})
	}
}

func TestOpenTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks")
	if err := os.WriteFile(path, []byte("prefix;country_code\n10.0.0.0/8;US"), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := OpenTable(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("prefix;country_code\n10.0.0.0/8;USA"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := table.Reload(path); err == nil || !strings.Contains(err.Error(), path+": line 2: ") {
		t.Errorf("Reload: %v", err)
	}
	if code, _ := table.Country(netip.MustParseAddr("10.0.0.1")); code != "US" {
		t.Errorf("after a refused reload: %q", code)
	}
	for _, bad := range []string{filepath.Dir(path), path, path + "/none"} {
		if table, err := OpenTable(bad); table != nil || err == nil {
			t.Errorf("OpenTable(%s) = %v, %v", bad, table, err)
		}
	}
}

// Of the networks that contain an address, found by looking at each, the
// longest decides.
func TestTableAgainstLinearScan(t *testing.T) {
	octet := rapid.SampledFrom([]byte{0, 1, 127, 128, 255})
	rapid.Check(t, func(t *rapid.T) {
		networks := make(map[netip.Prefix]string)
		lines := []string{"prefix;custom 3"}
		for i := range rapid.IntRange(1, 30).Draw(t, "networks") {
			n := rapid.SampledFrom([]int{4, 16}).Draw(t, "bytes")
			addr, _ := netip.AddrFromSlice(rapid.SliceOfN(octet, n, n).Draw(t, "addr"))
			prefix, _ := addr.Prefix(rapid.IntRange(0, addr.BitLen()).Draw(t, "bits"))
			if _, second := networks[prefix]; second || addr.Is4In6() {
				continue
			}
			networks[prefix] = fmt.Sprint("network ", i)
			lines = append(lines, fmt.Sprintf("%s;%s", prefix, networks[prefix]))
		}
		if len(networks) == 0 {
			return
		}
		table, err := ParseTable([]byte(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		for p := range networks {
			for _, addr := range []netip.Addr{p.Addr(), p.Addr().Prev(), p.Addr().Next()} {
				want, bits := "", -1
				for q, name := range networks {
					if q.Contains(addr) && q.Bits() > bits {
						want, bits = name, q.Bits()
					}
				}
				if got, ok := table.Locate(addr, Custom3); got != want || ok != (want != "") {
					t.Fatalf("Locate(%s) = %q, %v; want %q", addr, got, ok, want)
				}
			}
		}
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte(""))                                                             // nothing
	f.Add([]byte("prefix;country code\n10.0.0.0/8;us\n::ffff:10.0.0.0/104;DE"))   // two spellings of one network
	f.Add([]byte("\ufeffprefix;ISP;as number\r\n\r\n# x\r\n2001:db8::1;x;AS1;;")) // mark, CRLF, comment, too many values
	f.Add([]byte("prefix;custom 1;custom 1\n"))                                   // column twice
	f.Add([]byte(";;;\n;;;"))                                                     // separators alone
	f.Add([]byte("a;city\n0.0.0.0/0;\n::/0;\x00\xff"))                            // no value, and bytes that are no text
	f.Fuzz(func(t *testing.T, text []byte) {
		kept := bytes.Clone(text)
		table, err := ParseTable(text)
		if !bytes.Equal(kept, text) {
			t.Fatal("the text was changed")
		}
		if (table == nil) == (err == nil) {
			t.Fatalf("%v, %v", table, err)
		}
		if err == nil && table.Len() == 0 {
			t.Fatal("accepted without networks")
		}
	})
}
