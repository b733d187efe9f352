package geoip_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
)

// A group of countries, which a database resolves.
func Example() {
	db, err := geoip.Open("testdata/example.mmdb") // for example /var/lib/GeoIP/GeoLite2-Country.mmdb
	if err != nil {
		log.Fatal(err)
	}
	nordic, err := ipgroup.Parse("Nordic", []string{"DK, FI, IS, NO, SE"}, ipgroup.Options{Countries: db})
	if err != nil {
		log.Fatal(err)
	}
	for _, client := range []string{"89.160.20.112", "81.2.69.142", "192.0.2.1"} {
		addr := netip.MustParseAddr(client)
		country, known := db.Country(addr)
		fmt.Printf("%s %q %v %v\n", client, country, known, nordic.Contains(addr))
	}
	// Output:
	// 89.160.20.112 "SE" true true
	// 81.2.69.142 "GB" true false
	// 192.0.2.1 "" false false
}

// Networks of one's own before a database of the world. Groups, rules and
// scripts see the layers as one.
func ExampleLayers() {
	world, err := geoip.Open("testdata/example.mmdb")
	if err != nil {
		log.Fatal(err)
	}
	own, err := geoip.ParseTable([]byte(`prefix;         country code; custom 1
10.1.0.0/16;    US;           office
10.1.2.0/24;    US;           printers
89.160.20.0/30; ;             partner
`))
	if err != nil {
		log.Fatal(err) // names every bad line
	}
	geo, err := geoip.NewLayers(
		geoip.Layer{Source: world, Index: 1},
		geoip.Layer{Source: own, Index: 2},
	)
	if err != nil {
		log.Fatal(err)
	}
	for _, client := range []string{"10.1.2.3", "89.160.20.1", "81.2.69.142"} {
		addr := netip.MustParseAddr(client)
		country, _ := geo.Locate(addr, geoip.CountryCode)
		custom, _ := geo.Locate(addr, geoip.Custom1)
		fmt.Printf("%s %q %q\n", client, country, custom)
	}
	// Output:
	// 10.1.2.3 "US" "printers"
	// 89.160.20.1 "SE" "partner"
	// 81.2.69.142 "GB" ""
}

// A database that is replaced every week, while the program runs.
func ExampleWatcher() {
	countries := new(geoip.DB)
	watcher, err := geoip.NewWatcher([]geoip.File{{Path: "testdata/example.mmdb", Source: countries}}, func(e geoip.FileEvent) {
		if e.Err != nil {
			log.Print("countries remain as they are: ", e.Err)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- watcher.Run(ctx) }()

	fmt.Println(countries.Country(netip.MustParseAddr("89.160.20.112")))

	stop()
	fmt.Println(<-done)
	// Output:
	// SE true
	// <nil>
}
