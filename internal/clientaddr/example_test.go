package clientaddr_test

import (
	"fmt"
	"log"
	"net/http"
	"net/netip"

	"github.com/limpetlb/limpet/internal/clientaddr"
)

func Example() {
	resolver, err := clientaddr.New(clientaddr.Config{
		Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	if err != nil {
		log.Fatal(err)
	}

	// A client sent a lie, and two proxies added what they saw.
	r := &http.Request{
		RemoteAddr: "10.0.0.1:41234",
		Header:     http.Header{"X-Forwarded-For": {"6.6.6.6, 198.51.100.7, 10.0.0.2"}},
	}
	client := resolver.Resolve(clientaddr.ParsePeer(r.RemoteAddr), r.Header)
	fmt.Println(client.Addr, client.Source, client.Reason)

	// The same header from somebody who is no proxy of ours.
	r.RemoteAddr = "203.0.113.9:5000"
	client = resolver.Resolve(clientaddr.ParsePeer(r.RemoteAddr), r.Header)
	fmt.Println(client.Addr, client.Source, client.Reason)
	// Output:
	// 198.51.100.7 x-forwarded-for hop-untrusted
	// 203.0.113.9 peer peer-untrusted
}

func ExampleResolver_Resolve_forwarded() {
	resolver, err := clientaddr.New(clientaddr.Config{
		Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Header:  clientaddr.Forwarded,
	})
	if err != nil {
		log.Fatal(err)
	}

	h := http.Header{}
	h.Add("Forwarded", `for="[2001:db8::9]:4711";proto=https`)
	h.Add("Forwarded", "for=10.0.0.2")
	client := resolver.Resolve(netip.MustParseAddrPort("10.0.0.1:41234"), h)
	fmt.Println(client.Addr, client.Port, client.Source)
	// Output:
	// 2001:db8::9 4711 forwarded
}
