package geoip

import (
	"net/netip"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/limpetlb/limpet/ipgroup/geoip"
)

// BenchmarkCountry prints what a lookup costs against decoding the record each
// time; the budget is 0.3.
func BenchmarkCountry(b *testing.B) {
	db, file, addrs := large(b)
	reader, err := maxminddb.OpenBytes(file)
	if err != nil {
		b.Fatal(err)
	}
	decode := func(addr netip.Addr) string {
		var record struct {
			Country struct {
				ISOCode string `maxminddb:"iso_code"`
			} `maxminddb:"country"`
		}
		if err := reader.Lookup(addr).Decode(&record); err != nil {
			b.Fatal(err)
		}
		return record.Country.ISOCode
	}
	for _, addr := range addrs {
		if code, _ := db.Country(addr); code == "" || code != decode(addr) {
			b.Fatalf("%s: %q and %q", addr, code, decode(addr))
		}
	}
	b.ReportAllocs()
	var own time.Duration
	n := 0
	for b.Loop() {
		start := time.Now()
		for _, addr := range addrs {
			db.Country(addr)
		}
		own += time.Since(start)
		n++
	}
	b.StopTimer()
	start := time.Now()
	rounds := max(1, n/4)
	for range rounds {
		for _, addr := range addrs {
			decode(addr)
		}
	}
	peer := time.Since(start)
	perLookup := float64(own) / float64(n*len(addrs))
	b.ReportMetric(perLookup, "ns/lookup")
	b.ReportMetric(perLookup/(float64(peer)/float64(rounds*len(addrs))), "×decode")
}

// BenchmarkOpenBytes measures verification and decoding.
func BenchmarkOpenBytes(b *testing.B) {
	file := largeFile(b)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		open(b, file)
	}
}

func large(b *testing.B) (*geoip.DB, []byte, []netip.Addr) {
	var addrs []netip.Addr
	for i := range 4096 {
		h := uint32(i) * 2654435761
		addrs = append(addrs, netip.AddrFrom4([4]byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), 1}))
	}
	file := largeFile(b)
	return open(b, file), file, addrs
}

// largeFile covers all of IPv4 with networks of /12 to /14 in 200 countries,
// with records of the size that published databases have.
func largeFile(b *testing.B) []byte {
	records := make(map[string]mmdbtype.DataType)
	names := func(s string) mmdbtype.Map {
		m := mmdbtype.Map{}
		for _, language := range []string{"de", "en", "es", "fr", "ja", "pt-BR", "ru", "zh-CN"} {
			m[mmdbtype.String(language)] = mmdbtype.String(s + " in " + language)
		}
		return m
	}
	for i := range 1 << 14 {
		code := string([]byte{byte('A' + i%20), byte('A' + i/20%10)})
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i >> 6), byte(i << 2)}), 12+i%3).Masked()
		records[prefix.String()] = mmdbtype.Map{
			"continent":          mmdbtype.Map{"code": mmdbtype.String("EU"), "names": names("Europe")},
			"country":            mmdbtype.Map{"iso_code": mmdbtype.String(code), "geoname_id": mmdbtype.Uint32(i % 200), "names": names(code)},
			"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String(code), "names": names(code)},
		}
	}
	return write(b, mmdbwriter.Options{}, records)
}
