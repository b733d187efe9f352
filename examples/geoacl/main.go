// Geoacl lets clients in by country and by address. A country database (here
// a small one of the loopback network; -db names another) says where a client
// is; a list of addresses overrides it both ways.
//
//	go run ./examples/geoacl        # until interrupted
//	go run ./examples/geoacl -exit  # the account only
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/policy"
)

// countries is made up; go generate in ipgroup/geoip writes it.
//
//go:embed countries.mmdb
var countries []byte

func main() {
	exit := flag.Bool("exit", false, "end after the account")
	path := flag.String("db", "", "a country database (`file`.mmdb)")
	flag.Parse()

	db, err := geoip.OpenBytes(countries)
	if *path != "" {
		db, err = geoip.Open(*path)
	}
	if err != nil {
		log.Fatal(err)
	}
	var groups ipgroup.Set
	for name, entries := range map[string][]string{
		"Home":      {"DE", "FR"},
		"Partners":  {"127.0.0.33", "2001:db8:33::/48"},
		"Blacklist": {"127.0.0.18 - 127.0.0.20"},
	} {
		group, err := ipgroup.Parse(name, entries, ipgroup.Options{Countries: db})
		if err != nil {
			log.Fatal(err)
		}
		if err := groups.Replace(group); err != nil {
			log.Fatal(err)
		}
	}

	from := func(groups ...string) policy.Match { return policy.Match{ClientIP: &policy.IPMatch{Groups: groups}} }
	vs, err := limpet.New(limpet.Config{
		IPGroups: &groups,
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{
			{Name: "blacklist", Match: from("Blacklist"), Action: policy.Close{}},
			{Name: "home and partners", Match: from("Home", "Partners"), Action: policy.Allow{}},
			{Name: "nobody else", Action: policy.Respond{Status: http.StatusForbidden}},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "welcome")
	}))}
	go server.Serve(ln)
	defer server.Close()

	url := "http://" + ln.Addr().String()
	for _, client := range []string{"127.0.0.2", "127.0.0.17", "127.0.0.19", "127.0.0.34", "127.0.0.33", "127.0.0.99"} {
		fmt.Printf("%-11s %-3s %s\n", client, country(db, client), ask(url, client))
	}
	if *exit {
		return
	}
	fmt.Printf("\nTry it:\n  curl -i --interface 127.0.0.17 %s\n", url)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	<-interrupted
}

func country(db *geoip.DB, client string) string {
	addr, err := netip.ParseAddr(client)
	if err != nil {
		log.Fatal(err)
	}
	code, ok := db.Country(addr)
	if !ok {
		return "?"
	}
	return code
}

// ask sends a request from an address and shows what became of it.
func ask(url, from string) string {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Get(url)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return "left out: this system does not have the address (on macOS: sudo ifconfig lo0 alias " + from + ")"
	} else if err != nil {
		return "connection closed"
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s: %s", res.Status, strings.TrimSpace(string(body)))
}
