package acceptance_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// TestForwardingAllocations bounds what a request costs between the call of
// ServeHTTP and its return, with a connection to the server that stands. What
// the standard library needs to read a response is about a third of it.
func TestForwardingAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok")) }))
	exchange := exchangeWith(t, server)
	serving := 0.0
	for range 5 { // the average is rounded down, and buffers may be at hand
		serving = max(serving, testing.AllocsPerRun(200, exchange))
	}
	pools := []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: server})}
	for _, test := range []struct {
		name string
		cfg  limpet.Config
		most float64
	}{
		{"no script", limpet.Config{Pools: pools}, 35},
		{"listing", limpet.Config{
			Pools: pools, Tables: persistence.NewStore(persistence.Options{}),
			Scripts: []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
		}, 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, site := serve(t, http1, test.cfg)
			exchange := exchangeWith(t, site.Addr)
			// Both servers read a request and write a response. What other
			// goroutines allocate now and then is counted, too, so the least of
			// several counts is that of the requests.
			all := testing.AllocsPerRun(200, exchange)
			for again := 0; all-2*serving > test.most && again < 5; again++ {
				all = min(all, testing.AllocsPerRun(200, exchange))
			}
			if own := all - 2*serving; own > test.most {
				t.Errorf("%.0f allocations, of which %.0f are those of two servers; at most %.0f are wanted", all, 2*serving, test.most)
			}
		})
	}
}

// TestWrapAllocations bounds what a request costs that goes to a wrapped
// handler: what is shared of the transaction, and a request that has its
// context. The transaction itself is used again if the handler does not ask for
// it.
func TestWrapAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) })
	store := persistence.NewStore(persistence.Options{})
	// The client of httptest's requests sticks.
	if ok, err := store.Put(t.Context(), "", "192.0.2.11234", "10.0.0.1", time.Hour); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, test := range []struct {
		name string
		cfg  limpet.Config
		most float64
	}{
		{"no configuration", limpet.Config{}, 2},
		{"listing", limpet.Config{
			Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})}, Tables: store,
			Scripts: []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
		}, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newVirtualService(t, test.cfg).Wrap(next)
			r, w := httptest.NewRequest("GET", "/path?query=1", nil), &discardWriter{header: http.Header{}}
			if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n > test.most {
				t.Errorf("%.0f allocations, at most %.0f are wanted", n, test.most)
			}
		})
	}
}

// exchangeWith returns a function that sends a request, over the same
// connection each time, and reads the response, without any allocation.
func exchangeWith(t testing.TB, addr string) func() {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	request := fmt.Appendf(nil, "GET /path?query=1 HTTP/1.1\r\nHost: %s\r\nUser-Agent: test\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"+
		"Cookie: session=0123456789abcdef\r\n\r\n", addr)
	exchange := func() {
		if _, err := c.Write(request); err != nil {
			t.Error(err)
			return
		}
		length := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				t.Error(err)
				return
			}
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				for _, digit := range bytes.TrimSpace(value) {
					length = 10*length + int(digit-'0')
				}
			}
			if len(line) == len("\r\n") {
				break
			}
		}
		if _, err := r.Discard(length); err != nil {
			t.Error(err)
		}
	}
	exchange() // connections stand, and the client sticks
	return exchange
}
