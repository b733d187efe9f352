// Referer sticks requests to a server by their Referer header. Its listing is
// the second one of the published use case, put right: that one has an "if"
// without a condition and stores under another key than it looks up.
// Requests without a Referer are load balanced, and nothing is stored.
//
//	go run ./examples/referer        # until interrupted
//	go run ./examples/referer -exit  # the account only
package main

import (
	_ "embed"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
)

//go:embed listing.lua
var listing string

func main() {
	exit := flag.Bool("exit", false, "end after the account")
	flag.Parse()

	cfg := lbpool.Config{Name: "my_pool", Algorithm: lbpool.RoundRobin()}
	for i := range 2 {
		// The listing remembers addresses without ports, so that each server
		// has an address of its own if the system has so many (macOS has one).
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.1.%d:0", i+1))
		if err != nil {
			ln, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			log.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "server-%d", i+1)
		})}
		go server.Serve(ln)
		defer server.Close()
		cfg.Servers = append(cfg.Servers, lbpool.ServerConfig{Address: ln.Addr().String()})
	}
	pool, err := lbpool.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	script, err := datascript.Compile("Referer", datascript.Chunk{Source: listing})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{
		Pools:   []*lbpool.Pool{pool},
		Scripts: []limpet.Script{{Script: script}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer vs.CloseIdleConnections()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	front := &http.Server{Handler: vs}
	go front.Serve(ln)
	defer front.Close()
	url := "http://" + ln.Addr().String()

	for _, referer := range []string{"http://a.example/", "http://b.example/", "http://a.example/", "http://b.example/", "", ""} {
		answer, err := ask(url, referer)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("Referer: %-18s -> %s\n", referer, answer)
	}
	if *exit {
		return
	}
	fmt.Printf("\nTry it:\n  curl -e http://a.example/ %s\n", url)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	<-interrupted
}

func ask(url, referer string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if referer != "" {
		req.Header.Set("Referer", referer)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}
