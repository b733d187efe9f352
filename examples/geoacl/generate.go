//go:build ignore

// Generate writes countries.mmdb: a country database of the loopback network,
// for the example.
package main

import (
	"log"
	"net"
	"os"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

func main() {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Example-Country", IncludeReservedNetworks: true, BuildEpoch: 1767225600,
		Description: map[string]string{"en": "Made-up countries of the loopback network"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for network, code := range map[string]string{
		"127.0.0.0/28": "DE", "127.0.0.16/28": "FR", "127.0.0.32/28": "US",
	} {
		_, ipnet, err := net.ParseCIDR(network)
		if err != nil {
			log.Fatal(err)
		}
		record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
		if err := tree.Insert(ipnet, record); err != nil {
			log.Fatal(err)
		}
	}
	f, err := os.Create("countries.mmdb")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}
