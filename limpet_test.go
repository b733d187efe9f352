package limpet_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// customPersistence is the published use case: a client sticks to the server
// that its address and port were first sent to.
const customPersistence = `-- HTTP Request Event --
pool = "my_pool"
client = avi.vs.client_ip() .. avi.vs.client_port()
server = avi.vs.table_lookup(client)
timeout = "300"

if server then
   avi.pool.select(pool, client)
end


-- HTTP Response Event --
if not server then
   avi.vs.table_insert(client, avi.pool.server_ip(), timeout)
end
`

// compile compiles a listing, or fails the test.
func compile(t testing.TB, name, source string) limpet.Script {
	t.Helper()
	s, err := datascript.Compile(name, datascript.Chunk{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	return limpet.Script{Script: s}
}

// startServers starts n servers that answer with their number, each on an
// address of its own, as the servers of a pool would be: the published
// listing remembers addresses without ports.
func startServers(t testing.TB, n int) []lbpool.ServerConfig {
	t.Helper()
	var servers []lbpool.ServerConfig
	for i := range n {
		addr := startServer(t, fmt.Sprintf("127.0.1.%d:0", i+1), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "server %d", i+1)
		}))
		servers = append(servers, lbpool.ServerConfig{Address: addr, Name: fmt.Sprintf("s%d", i+1)})
	}
	return servers
}

// startServer serves h on addr until the test ends, and returns where.
func startServer(t testing.TB, addr string, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	srv.Start()
	t.Cleanup(srv.Close)
	return ln.Addr().String()
}

func newPool(t testing.TB, cfg lbpool.Config) *lbpool.Pool {
	t.Helper()
	p, err := lbpool.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// records collects what OnComplete gets.
type records struct {
	mu   sync.Mutex
	list []limpet.Record
	// added gets a token for each record.
	added chan struct{}
}

func newRecords() *records { return &records{added: make(chan struct{}, 100_000)} }

func (r *records) add(rec limpet.Record) {
	r.mu.Lock()
	r.list = append(r.list, rec)
	r.mu.Unlock()
	r.added <- struct{}{}
}

// next waits for one more record than were asked for before, and returns it.
func (r *records) next(t testing.TB) limpet.Record {
	t.Helper()
	select {
	case <-r.added:
	case <-t.Context().Done():
		t.Fatal("no record")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.list[0]
	r.list = r.list[1:]
	return rec
}

// serve starts a virtual service on loopback.
func serve(t testing.TB, cfg limpet.Config) (*limpet.VirtualService, string) {
	t.Helper()
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	return vs, "http://" + startServer(t, "127.0.0.1:0", vs)
}

// client returns a client with connections of its own.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get returns status and body.
func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestCustomPersistence(t *testing.T) {
	pool := newPool(t, lbpool.Config{Name: "my_pool", Servers: startServers(t, 3), Algorithm: lbpool.RoundRobin()})
	recs := newRecords()
	_, base := serve(t, limpet.Config{
		Pools:      []*lbpool.Pool{pool},
		Scripts:    []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
		OnComplete: recs.add,
	})
	seen := map[string]bool{}
	for range 6 {
		c := client(t)
		_, first := get(t, c, base)
		if got := recs.next(t).Persistence; got != limpet.PersistenceMiss {
			t.Errorf("first request: %v, want miss", got)
		}
		seen[first] = true
		for range 4 {
			if _, again := get(t, c, base); again != first {
				t.Errorf("went to %s, stuck to %s", again, first)
			}
			if got := recs.next(t).Persistence; got != limpet.PersistenceHit {
				t.Errorf("later request: %v, want hit", got)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("6 clients went to %d servers, want 3", len(seen))
	}
}

var _ = context.Background
var _ = url.Parse
var _ = strings.Contains
