package geoip

import (
	"net/netip"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

var (
	_ Source   = (*DB)(nil)
	_ Source   = (*Table)(nil)
	_ Source   = (*Layers)(nil)
	_ Reloader = (*DB)(nil)
	_ Reloader = (*Table)(nil)
)

func TestLayers(t *testing.T) {
	countries := open(t, file(t, "sample28"))
	asn, err := OpenBytes(file(t, "asn"), ASNumber)
	if err != nil {
		t.Fatal(err)
	}
	own := table1(t, "prefix;country code;custom 1", "10.0.0.0/8;CH;office", "81.2.69.0/28;;printers")
	wrong := table1(t, "prefix;country code;custom 2", "0.0.0.0/0;XX;wrong")
	l, err := NewLayers(Layer{Source: countries}, Layer{Source: own, Index: 9}, Layer{Source: asn, Index: 5}, Layer{Source: wrong, Index: 100, Disabled: true})
	if err != nil {
		t.Fatal(err)
	}
	printers := map[string]string{Custom1: "printers", ASNumber: "64500"} // each attribute from the first that knows it
	for name, value := range wantWide {
		if name != ASNumber {
			printers[name] = value
		}
	}
	for addr, want := range map[string]map[string]string{
		"10.1.2.3":     {CountryCode: "CH", Custom1: "office", ASNumber: "64501"},
		"81.2.69.1":    printers,
		"89.160.20.1":  {CountryCode: "SE"},
		"198.51.101.1": {},
	} {
		if diff := gocmp.Diff(want, known(l, addr)); diff != "" {
			t.Errorf("%s: %s", addr, diff)
		}
	}
	addr := netip.MustParseAddr("10.1.2.3")
	if code, ok := l.Country(addr); code != "CH" || !ok {
		t.Errorf("Country = %q, %v", code, ok)
	}
	if n, ok := l.ASN(addr); n != 64501 || !ok {
		t.Errorf("ASN = %d, %v", n, ok)
	}
	if n, ok := l.ASN(netip.MustParseAddr("192.0.2.1")); n != 0 || ok {
		t.Errorf("ASN of an unknown address = %d, %v", n, ok)
	}
	if !l.Knows(Custom1) || l.Knows(Custom2) || !l.Knows(ASNumber) {
		t.Error("Knows is wrong")
	}
	var zero Layers
	if got := known(&zero, "10.1.2.3"); len(got) > 0 || zero.Knows(CountryCode) {
		t.Errorf("zero Layers: %v", got)
	}
}

func TestNewLayersFaults(t *testing.T) {
	l, err := NewLayers(Layer{}, Layer{Source: new(Table), Index: 1}, Layer{Source: new(Table), Index: 1})
	const want = "layers[0].source: missing\nlayers[2].index: 1: already the index of layers[1]"
	if l != nil || err == nil || err.Error() != want {
		t.Errorf("NewLayers = %v, %v; want %q", l, err, want)
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	if testrace.Enabled {
		t.Skip("allocations are counted without the race detector")
	}
	db := open(t, file(t, "sample28"))
	own := table1(t, "prefix;custom 1;as number", "10.0.0.0/8;office;64500")
	l, err := NewLayers(Layer{Source: db}, Layer{Source: own, Index: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"81.2.69.1", "10.0.0.1", "::ffff:81.2.69.1%eth0", "2001:db8::1", "198.51.101.1"} {
		addr := netip.MustParseAddr(text)
		for name, lookup := range map[string]func(){
			"Locate": func() {
				for _, s := range []Source{db, own, l} {
					s.Locate(addr, CityName)
					s.Locate(addr, "")
					s.Knows("ATTRIBUTE_CUSTOM_1")
				}
			},
			"Country": func() { db.Country(addr); own.Country(addr); l.Country(addr) },
			"ASN":     func() { db.ASN(addr); own.ASN(addr); l.ASN(addr) },
		} {
			if n := testing.AllocsPerRun(100, lookup); n != 0 {
				t.Errorf("%s of %s: %v allocations", name, text, n)
			}
		}
	}
}
