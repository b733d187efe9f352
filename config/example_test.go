package config_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/config"
)

// A program loads the file of the command, and mounts a service where it likes.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	f, err := config.Load(ctx, "testdata/hello.yaml")
	if err != nil {
		log.Fatal(err) // every fault, with its line and column
	}
	rt, err := f.Build(config.Options{
		Edit: func(service string, c *limpet.Config) {
			c.OnComplete = func(r limpet.Record) { fmt.Println(service, "answered", r.Status) }
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = rt.Run(ctx) }) // health monitors
	vs, ok := rt.Service("hello")
	if !ok {
		log.Fatal("no service hello in the file")
	}
	mux := http.NewServeMux()
	mux.Handle("/", vs)

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	fmt.Print(w.Body)
	stop()
	running.Wait()
	// Output:
	// hello answered 200
	// Hello.
}

// All faults of a file come at once, with their places.
func ExampleParse() {
	_, err := config.Parse(context.Background(), "limpet.yaml", []byte(`
pools:
  - name: web
    servers: [{address: 10.0.0.1:8080, raito: 2}]
    algorithm: roundRobbin
httpSecurity:
  - {name: admin, match: {path: {op: starts with, values: [/admin]}}, action: close}
`), nil)
	fmt.Println(err)
	// Output:
	// limpet.yaml:4:40: pools[0].servers[0]: unknown field "raito"; did you mean "ratio"?
	// limpet.yaml:5:16: pools[0].algorithm: "roundRobbin" is not one of leastConnections, roundRobin, randomTwo, leastLoad, fastestResponse, fewestServers, consistentHash; did you mean "roundRobin"?
	// limpet.yaml:7:38: httpSecurity[0].match.path.op: "starts with" is not one of begins with, does not begin with, contains, does not contain, ends with, does not end with, equals, does not equal, matches regexp, does not match regexp
}
