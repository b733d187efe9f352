package lbpool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/lbpool"
)

// A pool chooses a server for each piece of work, and is told how it went.
func Example() {
	pool, err := lbpool.New(lbpool.Config{
		Name: "web",
		Servers: []lbpool.ServerConfig{
			{Address: "10.0.0.1", Ratio: 2},
			{Address: "10.0.0.2:8080"},
		},
		Algorithm: lbpool.RoundRobin(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		lease, err := pool.Acquire(lbpool.Hint{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(lease.Server.Addr())
		lease.Release(lbpool.Outcome{Status: 200})
	}
	// Output:
	// 10.0.0.1:80
	// 10.0.0.2:8080
	// 10.0.0.1:80
}

// A hint keeps a client on the server it used before. When that is out of
// service another one takes its place, and the lease says why.
func ExamplePool_Acquire_sticky() {
	pool, _ := lbpool.New(lbpool.Config{
		Name:    "web",
		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}},
	})
	hint := lbpool.Hint{Server: netip.MustParseAddrPort("10.0.0.2:80")}

	lease, _ := pool.Acquire(hint)
	fmt.Printf("%s %q\n", lease.Server.Addr(), lease.Unmet)
	lease.Release(lbpool.Outcome{})

	if server, _, ok := pool.Lookup("10.0.0.2", 0); ok {
		server.Disable()
	}
	lease, _ = pool.Acquire(hint)
	fmt.Printf("%s %q\n", lease.Server.Addr(), lease.Unmet)
	lease.Release(lbpool.Outcome{})
	// Output:
	// 10.0.0.2:80 "none"
	// 10.0.0.1:80 "disabled"
}

// A Transport under a reverse proxy sends each request to a server of the pool.
// Here one server of two does not listen; no request notices.
func ExampleTransport() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from %s", r.Host)
	}))
	defer server.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()

	pool, err := lbpool.New(lbpool.Config{
		Name: "web",
		Servers: []lbpool.ServerConfig{
			{Address: gone.Listener.Addr().String()},
			{Address: server.Listener.Addr().String()},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := &lbpool.Transport{Pool: pool}
	defer transport.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			switch {
			case errors.Is(err, lbpool.ErrNoServer):
				w.WriteHeader(http.StatusServiceUnavailable)
			case errors.Is(err, lbpool.ErrTimeout):
				w.WriteHeader(http.StatusGatewayTimeout)
			default:
				w.WriteHeader(http.StatusBadGateway)
			}
		},
	}

	for range 2 {
		w := httptest.NewRecorder()
		proxy.ServeHTTP(w, httptest.NewRequest("GET", "http://site.example/", nil))
		fmt.Println(w.Code, w.Body)
	}
	pool.Servers()[1].Disable()
	w := httptest.NewRecorder()
	proxy.ServeHTTP(w, httptest.NewRequest("GET", "http://site.example/", nil))
	fmt.Println(w.Code)
	// Output:
	// 200 hello from site.example
	// 200 hello from site.example
	// 502
}

// A route in the request's context says where one request may go, and
// afterwards where it went.
func ExampleWithRoute() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	}))
	defer server.Close()
	pool, _ := lbpool.New(lbpool.Config{
		Name:    "web",
		Servers: []lbpool.ServerConfig{{Address: server.Listener.Addr().String(), Name: "alpha"}},
	})
	transport := &lbpool.Transport{}
	defer transport.CloseIdleConnections()

	route := &lbpool.Route{
		Pool: pool,
		Hint: lbpool.Hint{Server: netip.MustParseAddrPort("10.0.0.9:80")}, // from an old persistence entry
	}
	ctx := lbpool.WithRoute(context.Background(), route)
	request, _ := http.NewRequestWithContext(ctx, "GET", "http://site.example/", nil)
	response, err := transport.RoundTrip(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	fmt.Println(response.StatusCode, route.Server.Name(), route.Unmet, route.Tried)
	// Output: 200 alpha gone 1
}

// Health monitors check while Run is running.
func ExamplePool_Run() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "ready")
	}))
	defer server.Close()
	pool, err := lbpool.New(lbpool.Config{
		Name:    "web",
		Servers: []lbpool.ServerConfig{{Address: server.Listener.Addr().String()}},
		HealthMonitors: []lbpool.HealthMonitor{{
			Name:     "ready",
			Checker:  &lbpool.HTTPChecker{Path: "/healthz", Keyword: "ready"},
			Interval: time.Second,
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pool.Servers()[0].State())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- pool.Run(ctx) }()
	for tick := time.Tick(time.Millisecond); pool.Servers()[0].State() != lbpool.Up; {
		<-tick
	}
	fmt.Println(pool.Servers()[0].State())

	cancel()
	fmt.Println(<-done)
	// Output:
	// unchecked
	// up
	// context canceled
}

// A Checker of one's own is a method.
type fileChecker struct{ sick map[netip.AddrPort]bool }

func (c fileChecker) Check(_ context.Context, server netip.AddrPort) error {
	if c.sick[server] {
		return &lbpool.CheckError{Detail: "listed as sick"}
	}
	return nil
}

func ExampleChecker() {
	var checker lbpool.Checker = fileChecker{sick: map[netip.AddrPort]bool{netip.MustParseAddrPort("10.0.0.1:80"): true}}
	fmt.Println(checker.Check(context.Background(), netip.MustParseAddrPort("10.0.0.1:80")))
	fmt.Println(checker.Check(context.Background(), netip.MustParseAddrPort("10.0.0.2:80")))
	// Output:
	// other: listed as sick
	// <nil>
}

// A Set answers questions about pools by name.
func ExampleSet() {
	pool, _ := lbpool.New(lbpool.Config{
		Name:    "web",
		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1", Name: "alpha"}, {Address: "10.0.0.2", Disabled: true}},
	})
	set, err := lbpool.NewSet(pool)
	if err != nil {
		fmt.Println(err)
		return
	}
	up, total, _ := set.Servers("web")
	fmt.Println(up, "of", total)
	fmt.Println(set.ServerUp("web", "alpha", 80))
	_, _, err = set.Servers("api")
	fmt.Println(err)
	// Output:
	// 1 of 2
	// true <nil>
	// pool "api" not found
}

// Requests with the same key go to the same server, and when a server joins,
// only its share of the keys moves.
func ExampleConsistentHash() {
	servers := []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}, {Address: "10.0.0.3"}}
	cfg := lbpool.Config{
		Name: "cache", Servers: servers[:2],
		Algorithm: lbpool.ConsistentHash(lbpool.ConsistentHashConfig{Key: lbpool.HashURI}),
	}
	pool, err := lbpool.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	serverOf := func(path string) netip.Addr {
		lease, err := pool.Acquire(lbpool.Hint{Host: "www.example.com", Path: path})
		if err != nil {
			return netip.Addr{}
		}
		defer lease.Release(lbpool.Outcome{})
		return lease.Server.Addr().Addr()
	}
	before := serverOf("/index.html")
	fmt.Println("the same again:", serverOf("/index.html") == before)

	cfg.Servers = servers
	if err := pool.Update(cfg); err != nil {
		fmt.Println(err)
		return
	}
	after := serverOf("/index.html")
	fmt.Println("stays, or goes to the new server:", after == before || after == netip.MustParseAddr("10.0.0.3"))
	// Output:
	// the same again: true
	// stays, or goes to the new server: true
}

// A server is taken out of service without cutting anybody off.
func ExampleServer_Drain() {
	bound := 1 // clients that the persistence table binds to the server
	pool, _ := lbpool.New(lbpool.Config{
		Name:    "web",
		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}},
		Drain:   lbpool.DrainPolicy{KeepBound: true, Bound: func(netip.AddrPort) int { return bound }},
		OnEvent: func(e lbpool.Event) { fmt.Println(e.Server.Addr(), e.Change.State) },
	})
	server, _, _ := pool.Lookup("10.0.0.1", 0)
	server.Drain(10 * time.Minute)

	lease, _ := pool.Acquire(lbpool.Hint{})
	fmt.Println("new client:", lease.Server.Addr())
	lease.Release(lbpool.Outcome{})

	lease, _ = pool.Acquire(lbpool.Hint{Server: server.Addr()})
	fmt.Println("bound client:", lease.Server.Addr())
	lease.Release(lbpool.Outcome{})
	// Output:
	// 10.0.0.1:80 draining
	// new client: 10.0.0.2:80
	// bound client: 10.0.0.1:80
}

// A pool is changed while it is in use. Servers that stay keep what they have.
func ExamplePool_Update() {
	pool, _ := lbpool.New(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}})
	lease, _ := pool.Acquire(lbpool.Hint{Server: netip.MustParseAddrPort("10.0.0.2:80")})

	err := pool.Update(lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.2", Ratio: 3}, {Address: "10.0.0.3"}}})
	for _, s := range pool.Servers() {
		fmt.Println(s.Addr(), s.Ratio(), s.Open())
	}
	lease.Release(lbpool.Outcome{Status: 200})
	fmt.Println(err)
	// Output:
	// 10.0.0.2:80 3 1
	// 10.0.0.3:80 1 0
	// <nil>
}

// When all servers are at their limits, a request may wait for its turn.
func ExamplePool_AcquireWait() {
	pool, _ := lbpool.New(lbpool.Config{
		Name:    "web",
		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1", MaxConnections: 1}},
		Queue:   lbpool.Queue{Length: 100, Timeout: time.Second},
	})
	first, _ := pool.Acquire(lbpool.Hint{})
	_, err := pool.Acquire(lbpool.Hint{})
	fmt.Println(errors.Is(err, lbpool.ErrFull))

	go first.Release(lbpool.Outcome{Status: 200})
	second, err := pool.AcquireWait(context.Background(), lbpool.Hint{})
	fmt.Println(second.Server.Addr(), err)
	// Output:
	// true
	// 10.0.0.1:80 <nil>
}

// The pool with the higher priority serves until it cannot.
func ExampleGroup() {
	main, _ := lbpool.New(lbpool.Config{Name: "main", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}}})
	spare, _ := lbpool.New(lbpool.Config{Name: "spare", Servers: []lbpool.ServerConfig{{Address: "10.0.9.1"}}})
	group, err := lbpool.NewGroup(lbpool.GroupConfig{
		Name:    "site",
		Members: []lbpool.Member{{Pool: main, Ratio: 1, Priority: 2}, {Pool: spare, Ratio: 1, Priority: 1}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	pool, _ := group.Select("", lbpool.Hint{})
	fmt.Println(pool.Name())

	server, _, _ := main.Lookup("10.0.0.1", 0)
	server.Disable()
	pool, _ = group.Select("", lbpool.Hint{})
	fmt.Println(pool.Name())
	// Output:
	// main
	// spare
}

// fewestTasks takes the server that says that it has the fewest tasks.
type fewestTasks struct {
	tasks map[string]*atomic.Int64 // by server, kept up to date by whoever asks the servers
}

func (a fewestTasks) Choose(up []*lbpool.Server, h lbpool.Hint) *lbpool.Server {
	var best *lbpool.Server
	var fewest int64
	for _, s := range up {
		// What was sent since the server has told counts as well, or the same
		// one would get everything until it tells again.
		n := (a.tasks[s.Name()].Load() + int64(s.Open())) * 20 / int64(s.Ratio())
		if h.Allows(s) && (best == nil || n < fewest) {
			best, fewest = s, n
		}
	}
	return best
}

// An algorithm of one's own goes by what servers tell.
func ExampleAlgorithm() {
	tasks := map[string]*atomic.Int64{"one": new(atomic.Int64), "two": new(atomic.Int64)}
	pool, err := lbpool.New(lbpool.Config{
		Name: "web", Algorithm: fewestTasks{tasks},
		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1", Name: "one"}, {Address: "10.0.0.2", Name: "two"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	tasks["one"].Store(2) // as an answer of the server has said, or a program beside it
	for range 4 {
		lease, err := pool.Acquire(lbpool.Hint{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Print(lease.Server.Name(), " ")
	}
	tasks["one"].Store(0)
	lease, _ := pool.Acquire(lbpool.Hint{})
	fmt.Println(lease.Server.Name())
	// Output: two two one two one
}

// A function can be a health check.
func ExampleCheckerFunc() {
	ctx, cancel := context.WithCancel(context.Background())
	pool, _ := lbpool.New(lbpool.Config{
		Name:    "web",
		Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}},
		HealthMonitors: []lbpool.HealthMonitor{{
			Checker: lbpool.CheckerFunc(func(ctx context.Context, server netip.AddrPort) error {
				return nil // healthy
			}),
		}},
		OnEvent: func(lbpool.Event) { cancel() },
	})
	_ = pool.Run(ctx) // until the server is up
	fmt.Println("up:", pool.Up())
	// Output:
	// up: true
}

func ExampleDNSFinder() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pool, err := lbpool.New(lbpool.Config{
		Name: "web",
		Discoveries: []lbpool.Discovery{{
			Finder:   &lbpool.DNSFinder{Name: "localhost:8080", Network: "ip4", Server: lbpool.ServerConfig{MaxConnections: 100}},
			Interval: 10 * time.Second,
		}},
		OnEvent: func(e lbpool.Event) {
			fmt.Println(e.Server.Name(), e.Change.State)
			cancel() // seen enough
		},
	})
	if err != nil {
		panic(err)
	}
	_ = pool.Run(ctx) // looks the name up now and then
	// Output:
	// 127.0.0.1:8080 up
}

func ExampleFinderFunc() {
	// A file, a registry or whatever else knows the servers.
	finder := lbpool.FinderFunc(func(ctx context.Context) ([]lbpool.ServerConfig, error) {
		return []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2", Ratio: 2}}, nil
	})
	_, err := lbpool.New(lbpool.Config{Name: "web", Discoveries: []lbpool.Discovery{{Name: "registry", Finder: finder}}})
	fmt.Println(err)
	// Output:
	// <nil>
}

func ExamplePool_CountBound() {
	pool, err := lbpool.New(lbpool.Config{
		Name: "web", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}, Drain: lbpool.DrainPolicy{KeepBound: true},
	})
	if err != nil {
		panic(err)
	}
	entries := map[string]string{"alice": "10.0.0.1:80"}
	stop := pool.CountBound(func(_ context.Context, server ...string) (int, error) {
		n := 0
		for _, to := range entries {
			if slices.Contains(server, to) {
				n++
			}
		}
		return n, nil
	}, time.Second)
	defer stop()
	pool.Servers()[0].Drain(-1) // until alice is gone, while pool.Run is running
	fmt.Println(pool.Servers()[0].State())
	// Output:
	// draining
}
