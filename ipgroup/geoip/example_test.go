package geoip_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
)

// A group of countries, which a database resolves.
func Example() {
	path, remove := exampleDatabase()
	defer remove()

	db, err := geoip.Open(path) // for example /var/lib/GeoIP/GeoLite2-Country.mmdb
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

// Networks of one's own before a database of the world. Groups, rules and scripts see the layers as one.
func ExampleLayers() {
	path, remove := exampleDatabase()
	defer remove()

	world, err := geoip.Open(path)
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
	path, remove := exampleDatabase()
	defer remove()

	countries := new(geoip.DB)
	watcher, err := geoip.NewWatcher([]geoip.File{{Path: path, Source: countries}}, func(e geoip.FileEvent) {
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

// exampleDatabase writes a database of two networks to a temporary file.
func exampleDatabase() (path string, remove func()) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Example-Country",
		Description:  map[string]string{"en": "two networks"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for prefix, code := range map[string]string{"89.160.20.0/24": "SE", "81.2.69.0/24": "GB"} {
		_, network, err := net.ParseCIDR(prefix)
		if err != nil {
			log.Fatal(err)
		}
		record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
		if err := tree.Insert(network, record); err != nil {
			log.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "geoip")
	if err != nil {
		log.Fatal(err)
	}
	path = filepath.Join(dir, "example.mmdb")
	f, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	return path, func() { os.RemoveAll(dir) }
}
