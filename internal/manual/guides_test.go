package manual

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// The Go code of the guides stands in this file, where it runs. TestGoCode
// compares. The code of docs/guides/rules.md and docs/guides/observe.md is in
// example_policies_test.go of the root package.

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func newPool(t *testing.T, name string) *lbpool.Pool {
	t.Helper()
	pool, err := lbpool.New(lbpool.Config{Name: name, Servers: []lbpool.ServerConfig{{Address: "10.0.0.1:8080"}, {Address: "10.0.0.2:8080"}}})
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func TestEmbedding(t *testing.T) {
	vs, err := limpet.New(limpet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, served, store := listen(t), make(chan error, 1), persistence.NewStore(persistence.Options{})

	server := limpet.NewServer(vs) // with the timeouts that net/http leaves off
	var background sync.WaitGroup
	running, stop := context.WithCancel(context.Background())
	background.Go(func() { _ = vs.Run(running) })                     // returns when running has ended
	background.Go(func() { served <- server.Serve(vs.Listener(ln)) }) // http.ErrServerClosed after Shutdown

	res, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()

	if err := end(vs, server, stop, &background, closer{store}); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// closer stands in for a store that has connections to close.
type closer struct{ *persistence.Store }

func (closer) Close() {}

func end(vs *limpet.VirtualService, server *http.Server, stop func(), background *sync.WaitGroup, store closer) error {
	deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := vs.Shutdown(deadline, server) // 1. nothing new begins; requests under way end, or are cut off
	stop()                               // 2. the context of everything that runs
	background.Wait()                    //    tables are saved for the last time
	store.Close()                        // 3. connections that scripts needed until the end
	return err
}

func TestClients(t *testing.T) {
	cfg := limpet.Config{Clients: limpet.Clients{
		ProxyProtocol: limpet.ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}},
	}}
	ln := listen(t)
	_ = ln.Close()
	if err := serve(cfg, ln); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func serve(cfg limpet.Config, ln net.Listener) error {
	vs, err := limpet.New(cfg)
	if err != nil {
		return err
	}
	server := limpet.NewServer(vs)       // or vs.Wrap(mux)
	return server.Serve(vs.Listener(ln)) // or tls.NewListener(vs.Listener(ln), config)
}

func TestLists(t *testing.T) {
	database, err := os.ReadFile(filepath.Join(module, "examples", "geoacl", "countries.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"blacklist.csv":  "203.0.113.0/24, 192.0.2.1\n",
		"countries.mmdb": string(database),
		"networks.txt":   "prefix; country code; city; custom 1\n10.1.0.0/16; US; Los Angeles; office\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	err = watch(ctx, watched, func(groups *ipgroup.Set) {
		if in, err := groups.Contains("Blacklist", netip.MustParseAddr("203.0.113.9")); !in || err != nil {
			t.Errorf("%v, %v", in, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	<-watched

	err = layers(func(geo *geoip.Layers) {
		for addr, want := range map[string]string{"10.1.2.3": "US", "127.0.0.17": "FR"} {
			if code, _ := geo.Country(netip.MustParseAddr(addr)); code != want {
				t.Errorf("%s is in %q", addr, code)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// watch hands out the set of groups by a function, for the code in the guide
// makes the set and ends with an error alone.
func watch(ctx context.Context, watched chan<- error, use func(*ipgroup.Set)) error {
	groups := new(ipgroup.Set)
	watcher, err := ipgroup.NewWatcher(groups, []ipgroup.File{
		{Group: "Blacklist", Path: "blacklist.csv"},
	}, func(e ipgroup.FileEvent) {
		if e.Err != nil {
			log.Print("the old list remains: ", e.Err)
		}
	})
	if err != nil {
		return err // the first read must succeed
	}
	go func() { watched <- watcher.Run(ctx) }() // wait for watched before the program ends
	use(groups)
	return nil
}

func layers(use func(*geoip.Layers)) error {
	countries, err := geoip.Open("countries.mmdb", geoip.CountryCode)
	if err != nil {
		return err
	}
	own, err := geoip.OpenTable("networks.txt")
	if err != nil {
		return err
	}
	geo, err := geoip.NewLayers(
		geoip.Layer{Source: countries, Index: 1},
		geoip.Layer{Source: own, Index: 2}, // asked first
	)
	if err == nil {
		use(geo)
	}
	return err
}

func TestSticking(t *testing.T) {
	keys := []persistence.CookieKey{{ID: "2026", Secret: make([]byte, 32)}}
	if err := profiles(newPool(t, "web"), newPool(t, "api"), newPool(t, "static"), keys); err != nil {
		t.Error(err)
	}
}

func profiles(web, api, static *lbpool.Pool, keys []persistence.CookieKey) error {
	byCookie, err := persistence.NewHTTPCookie(persistence.HTTPCookieConfig{Keys: keys, Secure: true})
	if err != nil {
		return err
	}
	byAddress, err := persistence.NewClientIP(persistence.ClientIPConfig{Timeout: 10 * time.Minute})
	if err != nil {
		return err
	}
	vs, err := limpet.New(limpet.Config{
		Pools:       []*lbpool.Pool{web, api, static},
		Persistence: byCookie,
		PoolPersistence: map[string]limpet.PersistenceProfile{
			"api":    byAddress,
			"static": limpet.NoPersistence,
		},
	})
	if err == nil {
		vs.CloseIdleConnections()
	}
	return err
}

func TestDraining(t *testing.T) {
	pool := newPool(t, "web")
	if server, _, ok := pool.Lookup("10.0.0.1", 8080); ok {
		server.Drain(10 * time.Minute)
	}
	for range 4 {
		lease, err := pool.Acquire(lbpool.Hint{})
		if err != nil {
			t.Fatal(err)
		}
		if got := lease.Server.Addr().String(); got != "10.0.0.2:8080" {
			t.Errorf("a new client gets %s", got)
		}
		lease.Release(lbpool.Outcome{})
	}
}

func TestRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables")
	session := func(use func(*persistence.Store)) {
		ctx, stop := context.WithCancel(t.Context())
		saved := make(chan error, 1)

		store := persistence.NewStore(persistence.Options{})
		if err := store.LoadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Print(err) // and start without entries
		}
		saver := &persistence.Saver{Store: store, Path: path, Logger: slog.Default()}
		go func() { saved <- saver.Run(ctx) }() // wait for saved before the program ends

		use(store)
		stop()
		<-saved
	}
	session(func(store *persistence.Store) {
		if _, err := store.Insert(t.Context(), "", "anna", "10.0.0.1", time.Hour); err != nil {
			t.Fatal(err)
		}
	})
	session(func(store *persistence.Store) {
		if server, _, _, err := store.Lookup(t.Context(), "", "anna", 0); server != "10.0.0.1" {
			t.Errorf("%q, %v", server, err)
		}
	})
}

// TestSeveralInstances asks no server: a store connects with the first call.
func TestSeveralInstances(t *testing.T) {
	if err := share([]*lbpool.Pool{newPool(t, "web")}); err != nil {
		t.Error(err)
	}
}

func share(pools []*lbpool.Pool) error {
	store, err := redisstore.New(redisstore.Config{Addresses: []string{"10.0.0.5:6379"}, Prefix: "shop"})
	if err != nil {
		return err
	}
	defer store.Close()
	vs, err := limpet.New(limpet.Config{Tables: store, Pools: pools})
	if err == nil {
		vs.CloseIdleConnections()
	}
	return err
}

func TestPools(t *testing.T) {
	found := lbpool.Config{
		Name: "web",
		Discoveries: []lbpool.Discovery{{
			Finder:   &lbpool.DNSFinder{Name: "app.example.com:8080", Server: lbpool.ServerConfig{MaxConnections: 200}},
			Interval: 10 * time.Second,
		}},
	}
	if err := adopt(found, newPool(t, "web")); err != nil {
		t.Error(err)
	}

	var cfg limpet.Config
	servers := x509.NewCertPool()
	base := lbpool.NewBase()
	base.TLSClientConfig = &tls.Config{RootCAs: servers, ServerName: "inside.example"}
	cfg.Transport = lbpool.NewHTTP1(base)
	if _, err := limpet.New(cfg); err != nil {
		t.Error(err)
	}
}

func adopt(cfg lbpool.Config, old *lbpool.Pool) error {
	pool, err := lbpool.New(cfg)
	if err != nil {
		return err
	}
	if err := pool.Adopt(old); err != nil {
		return err
	}
	return nil
}
