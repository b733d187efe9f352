// Middleware puts a virtual service in front of a handler that a program has
// already: a policy that keeps a path to itself, and a DataScript that greets
// a client for as long as the persistence table remembers it.
//
//	go run ./examples/middleware        # until interrupted
//	go run ./examples/middleware -exit  # the account only
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/signal"
	"strings"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/policy"
)

const greeting = `
-- HTTP Request Event --
name = avi.http.get_cookie("name")
if name then
   visits = (avi.vs.table_lookup("visits", name, 0) or 0) + 1
   avi.vs.table_remove("visits", name)
   avi.vs.table_insert("visits", name, visits, 1200)
   avi.http.replace_header("X-Visits", visits)
end

-- HTTP Response Event --
if name then
   avi.http.add_header("X-Greeting", "welcome, " .. name)
end
`

func main() {
	exit := flag.Bool("exit", false, "end after the account")
	flag.Parse()

	// The program as it was.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/{name}", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "name", Value: r.PathValue("name"), Path: "/"})
		fmt.Fprintln(w, "you are logged in")
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "visit %q\n", r.Header.Get("X-Visits"))
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "for the inside only")
	})

	// What is put in front of it.
	script, err := datascript.Compile("Greeting", datascript.Chunk{Source: greeting})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{
		Scripts: []limpet.Script{{Script: script, OnError: limpet.FailOpen}},
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name:   "keep metrics inside",
			Match:  policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/metrics"}}},
			Action: policy.Respond{Status: http.StatusForbidden},
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: vs.Wrap(mux)}
	go server.Serve(ln)
	defer server.Close()

	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	url := "http://" + ln.Addr().String()
	for _, path := range []string{"/", "/login/anna", "/", "/", "/metrics"} {
		res, err := client.Get(url + path)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("GET %-12s %d %-20s %s\n", path, res.StatusCode, strings.TrimSpace(string(body)), res.Header.Get("X-Greeting"))
	}
	if *exit {
		return
	}
	fmt.Printf("\nTry it:\n  curl -i -b name=ben %s/\n", url)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	<-interrupted
}
