package manual

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/config"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/datascript/jwtkeys"
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

func TestConfigurationFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	const text = "listen: 127.0.0.1:0\nname: shop\nhttpSecurity: [{name: a, action: {respond: {status: %d}}}]\n"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile("limpet.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var background sync.WaitGroup
	running, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	if _, err := serveFile(t.Context(), running, &background, served); err == nil {
		t.Fatal("no fault")
	}
	write(fmt.Sprintf(text, 418))
	rt, err := serveFile(t.Context(), running, &background, served)
	if err != nil {
		t.Fatal(err)
	}
	write(fmt.Sprintf(text, 4180))
	if _, err := updateFile(t.Context(), rt); err == nil {
		t.Fatal("no fault")
	} else {
		printFault(err)
	}
	write(fmt.Sprintf(text, 419))
	if changes, err := updateFile(t.Context(), rt); err != nil || len(changes.Live) != 1 {
		t.Errorf("%v, %v", changes, err)
	}
	if err := endFile(rt, stop, &background); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func serveFile(ctx, running context.Context, background *sync.WaitGroup, served chan<- error) (*config.Runtime, error) {
	logger, count := slog.New(slog.DiscardHandler), func(limpet.Record) {}
	rt, err := buildFile(ctx, running, background, logger, count)
	if err != nil {
		return nil, err
	}
	return rt, listenFile(rt, background, served)
}

func buildFile(ctx, running context.Context, background *sync.WaitGroup, logger *slog.Logger, count func(limpet.Record)) (*config.Runtime, error) {
	var runtime *config.Runtime
	err := func() error {
		f, err := config.Load(ctx, "limpet.yaml")
		if err != nil {
			return err // every fault, with its line and column
		}
		rt, err := f.Build(config.Options{
			Logger: logger,
			Edit: func(service string, c *limpet.Config) {
				c.OnComplete = count // not available in a file
			},
		})
		if err != nil {
			return err
		}
		background.Go(func() { _ = rt.Run(running) }) // health monitors, watchers
		shop, ok := rt.Service("shop")                // an http.Handler
		if !ok {
			return errors.New("no shop")
		}
		http.NewServeMux().Handle("/", shop)
		runtime = rt
		return nil
	}()
	return runtime, err
}

func listenFile(rt *config.Runtime, background *sync.WaitGroup, served chan<- error) error {
	if err := rt.Listen(); err != nil {
		return err // an address cannot be opened, and none is
	}
	background.Go(func() { served <- rt.Serve(nil) }) // http.ErrServerClosed after Shutdown
	return nil
}

func updateFile(ctx context.Context, rt *config.Runtime) (config.Changes, error) {
	var all config.Changes
	err := func() error {
		f, err := config.Load(ctx, "limpet.yaml")
		if err != nil {
			return err
		}
		changes, err := rt.Update(f)
		all = changes
		return err
	}()
	return all, err
}

func printFault(err error) {
	if fault, ok := errors.AsType[*config.Error](err); ok {
		fmt.Println(fault.File, fault.Line, fault.Column, fault.Path, fault.Suggestion)
	}
}

func endFile(rt *config.Runtime, stop context.CancelFunc, background *sync.WaitGroup) error {
	deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := rt.Shutdown(deadline) // requests under way end, or are cut off
	stop()                       // the context of Run
	background.Wait()
	return err
}

// closer stands in for a store that has connections to close.
type closer struct{ *persistence.Store }

func (closer) Close() {}

func end(vs *limpet.VirtualService, server *http.Server, stop func(), background *sync.WaitGroup, store closer) error {
	deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := vs.Shutdown(deadline, server) // 1. clients are told to go; requests under way end, or are cut off
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

func TestReadme(t *testing.T) {
	web := must(lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}}))
	byCookie := must(persistence.NewHTTPCookie(persistence.HTTPCookieConfig{Name: "server"}))
	vs := must(limpet.New(limpet.Config{Pools: []*lbpool.Pool{web}, Persistence: byCookie}))
	vs.CloseIdleConnections()
}

// must is that of the program in README.md.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
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

func TestOverrides(t *testing.T) {
	pool, err := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.2:8080", Name: "web-2"}, {Address: "10.0.0.3:8080"}}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := limpet.Config{Pools: []*lbpool.Pool{pool}}
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	update := func() error {
		cfg.Overrides = []limpet.Override{
			{Pool: "web", Server: "web-2", State: lbpool.Draining, KeepBound: true, Deadline: time.Now().Add(time.Hour)},
			{Pool: "web", Server: "10.0.0.3:8080", Ratio: 5},
		}
		err := vs.Update(cfg)
		return err
	}
	if err := update(); err != nil {
		t.Fatal(err)
	}
	if servers := pool.Servers(); servers[0].State() != lbpool.Draining || servers[1].Ratio() != 5 {
		t.Errorf("%s, ratio %d", servers[0].State(), servers[1].Ratio())
	}
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

// TestGRPC runs the code of docs/guides/grpc.md, with servers that are no gRPC.
func TestGRPC(t *testing.T) {
	pool, shards, err := greeter()
	if err != nil {
		t.Fatal(err)
	}
	if got := pool.Servers(); len(got) != 2 {
		t.Errorf("%d servers", len(got))
	}
	answer := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto)
	}))
	answer.Config.Protocols = new(http.Protocols)
	answer.Config.Protocols.SetUnencryptedHTTP2(true)
	answer.Start()
	t.Cleanup(answer.Close)
	cfg := lbpool.Config{Name: "greeter", Protocol: lbpool.ProtocolH2C, Servers: []lbpool.ServerConfig{{Address: answer.Listener.Addr().String()}}}
	if err := pool.Update(cfg); err != nil {
		t.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Pools: []*lbpool.Pool{pool}, Persistence: shards})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vs.CloseIdleConnections)
	srv, ln := cleartext(vs), listen(t)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(vs.Listener(ln)) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)
	res, err := (&http.Client{Transport: client}).Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.ProtoMajor != 2 || string(body) != "HTTP/2.0" {
		t.Errorf("%s, %q", res.Proto, body)
	}
}

func greeter() (*lbpool.Pool, *persistence.CustomHeader, error) {
	pool, err := lbpool.New(lbpool.Config{
		Name:     "greeter",
		Protocol: lbpool.ProtocolH2C,
		Servers:  []lbpool.ServerConfig{{Address: "10.0.0.1:50051"}, {Address: "10.0.0.2:50051"}},
	})
	if err != nil {
		return nil, nil, err
	}
	shards, err := persistence.NewCustomHeader(persistence.CustomHeaderConfig{
		Name:    "x-shard",
		Servers: map[string]string{"eu": "10.0.0.1:50051", "us": "10.0.0.2:50051"},
	})
	return pool, shards, err
}

func cleartext(vs *limpet.VirtualService) *http.Server {
	srv := limpet.NewServer(vs)
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return srv
}

// TestAuth runs the code of docs/guides/auth.md, and its script with a token.
func TestAuth(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	guide := documents(t)["docs/guides/auth.md"]
	_, script, _ := strings.Cut(guide, "```lua\n")
	script, _, _ = strings.Cut(script, "```")
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"users":       "ann:$2y$04$xqeLw8BGEwYfUIvA4Pezj.RNSRAOBvhfHtghmz7H/sGBP1v00.Biy\n",
		"partner.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"hook.secret": strings.Repeat("x", 32),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	watched, fetched := make(chan error, 1), make(chan error, 1)
	if err := basic(ctx, watched, func(vs *limpet.VirtualService) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth("ann", "canary-1")
		status(t, vs, r, http.StatusNoContent)
		r.SetBasicAuth("ann", "canary-2")
		status(t, vs, r, http.StatusUnauthorized)
	}); err != nil {
		t.Fatal(err)
	}
	var tokens *jwtkeys.Verifier
	if err := keySets(ctx, fetched, func(v *jwtkeys.Verifier) { tokens = v }); err != nil {
		t.Fatal(err)
	}
	if err := bearer(tokens, func(vs *limpet.VirtualService) {
		status(t, vs, httptest.NewRequest(http.MethodGet, "/", nil), http.StatusUnauthorized)
	}); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := errors.Join(<-watched, <-fetched); err != nil {
		t.Error(err)
	}

	tokens, err = jwtkeys.New(jwtkeys.Config{KeySets: map[string]jwtkeys.KeySet{"login": {File: "partner.pem"}}})
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := datascript.Compile("auth", datascript.Chunk{Source: script})
	if err != nil {
		t.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Scripts: []limpet.Script{{Script: compiled}}, Scripting: limpet.Scripting{Tokens: tokens}})
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	for role, want := range map[string]int{"writer": http.StatusNoContent, "reader": http.StatusForbidden, "": http.StatusUnauthorized} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if role != "" {
			token := encode([]byte(`{"alg":"EdDSA"}`)) + "." + encode(fmt.Appendf(nil, `{"iss":"https://idp.example","aud":"shop","sub":"ann","role":%q}`, role))
			r.Header.Set("Authorization", "Bearer "+token+"."+encode(ed25519.Sign(key, []byte(token))))
		}
		status(t, vs, r, want)
	}
}

func status(t *testing.T, vs *limpet.VirtualService, r *http.Request, want int) {
	t.Helper()
	w := httptest.NewRecorder()
	vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })).ServeHTTP(w, r)
	if w.Code != want {
		t.Errorf("%s: %d, want %d", r.Method, w.Code, want)
	}
}

func basic(ctx context.Context, watched chan<- error, use func(*limpet.VirtualService)) error {
	users, err := limpet.NewBasicAuthenticator(limpet.BasicConfig{
		File:  "users",
		Realm: "shop",
		OnReload: func(err error) {
			if err != nil {
				log.Print("the old users remain: ", err)
			}
		},
	})
	if err != nil {
		return err // with the number of each bad line
	}
	go func() { watched <- users.Run(ctx) }() // loads the file when it has changed
	vs, err := limpet.New(limpet.Config{Clients: limpet.Clients{Authenticator: users}})
	if err == nil {
		use(vs)
	}
	return err
}

func keySets(ctx context.Context, fetched chan<- error, use func(*jwtkeys.Verifier)) error {
	idp := lbpool.Config{Name: "idp", Scheme: "https", Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:8443"}}}
	provider, err := lbpool.New(idp)
	if err != nil {
		return err
	}
	base := lbpool.NewBase()
	base.TLSClientConfig = &tls.Config{ServerName: "idp.example"}
	tokens, err := jwtkeys.New(jwtkeys.Config{
		KeySets: map[string]jwtkeys.KeySet{
			"login": { // fetched, and fetched again every five minutes
				URL:       "https://idp.example/.well-known/jwks.json",
				Transport: &lbpool.Transport{Pool: provider, Base: base},
			},
			"partner": {File: "partner.pem"},       // public keys: PEM or a JSON Web Key Set
			"hook":    {SecretFile: "hook.secret"}, // 32 bytes or more, for HMAC
		},
		OnEvent: func(e jwtkeys.Event) {
			if e.Err != nil {
				log.Printf("key set %s: the old keys remain: %v", e.Set, e.Err)
			}
		},
	})
	if err != nil {
		return err
	}
	go func() { fetched <- tokens.Run(ctx) }() // fetches keys, watches files
	use(tokens)
	return nil
}

func bearer(tokens *jwtkeys.Verifier, use func(*limpet.VirtualService)) error {
	auth, err := limpet.NewBearerAuthenticator(limpet.BearerConfig{
		Tokens:   tokens,
		KeySet:   "login",
		Issuer:   "https://idp.example",
		Audience: "shop",
		Leeway:   30 * time.Second,
	})
	if err != nil {
		return err
	}
	vs, err := limpet.New(limpet.Config{
		Clients:   limpet.Clients{Authenticator: auth},
		Scripting: limpet.Scripting{Tokens: tokens}, // for avi.jwt.verify
	})
	if err == nil {
		use(vs)
	}
	return err
}
