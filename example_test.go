package limpet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// Clients stick to a server by their Referer header.
func Example() {
	var servers []lbpool.ServerConfig
	for i := range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "server %d", i)
		}))
		defer s.Close()
		servers = append(servers, lbpool.ServerConfig{Address: s.Listener.Addr().String()})
	}
	pool, err := lbpool.New(lbpool.Config{Name: "my_pool", Servers: servers, Algorithm: lbpool.RoundRobin()})
	if err != nil {
		log.Fatal(err)
	}
	script, err := datascript.Compile("Referer", datascript.Chunk{Source: `
-- HTTP Request Event --
client = avi.http.get_header("Referer")
avi.pool.select("my_pool", avi.vs.table_lookup(client, 0))

-- HTTP Response Event --
if client then avi.vs.table_insert(client, avi.pool.server_ip(), 300) end`})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{
		Pools:      []*lbpool.Pool{pool},
		Scripts:    []limpet.Script{{Script: script}},
		OnComplete: func(r limpet.Record) { fmt.Print(r.Outcome, ": ") },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer vs.CloseIdleConnections()

	for _, referer := range []string{"a", "b", "a", "b"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Referer", referer)
		w := httptest.NewRecorder()
		vs.ServeHTTP(w, r)
		fmt.Println(w.Body)
	}
	// Output:
	// miss: server 0
	// miss: server 1
	// hit: server 0
	// hit: server 1
}

// A handler that a program has already gets a script in front.
func ExampleVirtualService_Wrap() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello, %s", r.Header.Get("X-Name"))
	})
	script, err := datascript.Compile("Name", datascript.Chunk{Event: datascript.HTTPReq, Source: `
		avi.http.replace_header("X-Name", avi.http.get_query("name") or "stranger")`})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Scripts: []limpet.Script{{Script: script}}})
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	vs.Wrap(mux).ServeHTTP(w, httptest.NewRequest("GET", "/hello?name=anna", nil))
	fmt.Println(w.Body)
	// Output: hello, anna
}

// Connections from a blacklist are reset when they are accepted.
func ExampleVirtualService_Listener() {
	blacklist, err := ipgroup.Parse("Blacklist", []string{"127.0.0.0/8", "192.0.2.0/24"}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err)
	}
	groups, err := ipgroup.NewSet(blacklist)
	if err != nil {
		log.Fatal(err)
	}
	denied := make(chan limpet.Record, 1)
	vs, err := limpet.New(limpet.Config{
		IPGroups: groups,
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
			Name:   "deny the blacklist",
			Match:  policy.NetworkMatch{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
			Action: policy.ActionReset,
		}}},
		OnComplete: func(r limpet.Record) { denied <- r },
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: vs}
	done := make(chan error)
	go func() { done <- server.Serve(vs.Listener(ln)) }()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err == nil { // the reset may come before Dial returns
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	record := <-denied
	fmt.Println(err != nil && !errors.Is(err, io.EOF), record.NetworkRule, record.Significant)
	server.Close()
	<-done
	// Output: true deny the blacklist [dropped by policy]
}

// Behind a load balancer that speaks the PROXY protocol, the client is whom
// its header names: for rules, scripts and records, and for handlers by
// RemoteAddr.
func ExampleProxyProtocol() {
	vs, err := limpet.New(limpet.Config{
		Clients: limpet.Clients{
			ProxyProtocol: limpet.ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			Connections:   limpet.ConnectionLimits{MaxPerClient: 100, RatePerClient: policy.Rate{Count: 50}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := limpet.NewServer(vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.RemoteAddr)
	})))
	done := make(chan error)
	go func() { done <- server.Serve(vs.Listener(ln)) }()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(conn, "PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n")
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	fmt.Print(body)
	conn.Close()
	server.Close()
	<-done
	// Output: hello 203.0.113.9:4711
}

// NewServer sets limits for slow clients, which net/http leaves open.
func ExampleNewServer() {
	vs, err := limpet.New(limpet.Config{})
	if err != nil {
		log.Fatal(err)
	}
	server := limpet.NewServer(vs)
	fmt.Println(server.ReadHeaderTimeout, server.IdleTimeout, server.MaxHeaderBytes)
	// Output: 10s 1m0s 65536
}

// Two proxies stand in front, which nobody can go around and whose addresses
// change: the second address from the right is the client's.
func ExampleConfig_clientIndex() {
	everybody := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	vs, err := limpet.New(limpet.Config{
		Clients: limpet.Clients{
			TrustedProxies: everybody,
			ClientIndex:    -2,
		},
		OnComplete: func(r limpet.Record) { fmt.Println(r.Client.Addr(), r.ClientSource, r.ClientReason) },
	})
	if err != nil {
		log.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Forwarded-For", "192.0.2.66, 203.0.113.9, 10.0.0.1")
	vs.Wrap(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	// Output: 203.0.113.9 x-forwarded-for at-index
}

// All faults of a configuration are reported at once.
func ExampleNew_faults() {
	_, err := limpet.New(limpet.Config{
		DefaultPool: "nowhere",
		Clients:     limpet.Clients{ClientHeader: "X Client"},
		Policies:    limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "teapot", Action: policy.Respond{Status: 42}}}},
		Scripts:     []limpet.Script{{}},
	})
	fmt.Println(err)
	// Output:
	// defaultPool: "nowhere": there is no such pool
	// scripts[0].script: missing
	// clientHeader: "X Client": not the name of a header
	// httpSecurity[0].action.status: 42: less than 200
}

// Health monitors check while Run is running, and the configuration may
// change meanwhile.
func ExampleVirtualService_Run() {
	pool, err := lbpool.New(lbpool.Config{
		Name:           "web",
		Servers:        []lbpool.ServerConfig{{Address: "10.0.0.1"}},
		HealthMonitors: []lbpool.HealthMonitor{{Checker: &lbpool.HTTPChecker{Path: "/health"}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Pools: []*lbpool.Pool{pool}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- vs.Run(ctx) }()

	err = vs.Update(limpet.Config{}) // no pool any more: its monitors stop
	stop()
	fmt.Println(err, <-done)
	// Output: <nil> <nil>
}

// A program serves until it is told to stop. Requests, streams and upgraded
// connections have ten seconds to end; health monitors work until then.
func ExampleVirtualService_Shutdown() {
	vs, err := limpet.New(limpet.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })
	server := limpet.NewServer(vs.Wrap(hello))
	running, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { fmt.Println("Serve:", server.Serve(vs.Listener(ln))) })
	background.Go(func() { _ = vs.Run(running) }) // and those of savers and watchers

	res, err := http.Get("http://" + ln.Addr().String()) // a program waits for a signal here
	if err != nil {
		log.Fatal(err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()

	deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = vs.Shutdown(deadline, server)
	stop()
	background.Wait()
	fmt.Println("Shutdown:", err)
	// Output:
	// Serve: http: Server closed
	// Shutdown: <nil>
}

// A handler that is wrapped can ask what is known about its request.
func ExampleTransactionFrom() {
	vs, err := limpet.New(limpet.Config{})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tx, ok := limpet.TransactionFrom(r.Context()); ok {
			fmt.Fprint(w, "you are ", tx.Client().Addr())
		}
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Body)
	// Output: you are 192.0.2.1
}

// Explain shows an operator why a request would be refused, without refusing
// it.
func ExampleVirtualService_Explain() {
	vs, err := limpet.New(limpet.Config{
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name:   "no admin",
			Match:  policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}},
			Action: policy.Respond{Status: 403},
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(vs.Explain(httptest.NewRequest("GET", "/admin/users", nil)))
	// Output:
	// client 192.0.2.1:1234
	// HTTP security:
	//     rules[0] "no admin"
	//         path begins with "/admin": yes ("/admin/users")
	//     rules[0] "no admin" decides: respond 403
}

// Many refused requests lower the score.
func ExampleVirtualService_Health() {
	vs, err := limpet.New(limpet.Config{
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name:   "no admin",
			Match:  policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}},
			Action: policy.Respond{Status: 403},
		}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.NotFoundHandler())
	for range 10 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/admin", nil))
	}
	health := vs.Health()
	fmt.Println("score", health.Score, health.Color(), "security penalty", health.Security)
	// Output: score 50 orange security penalty 50
}

func ExampleIPGroupFinder() {
	group, err := ipgroup.Parse("web servers", []string{"10.0.0.1-10.0.0.3"}, ipgroup.Options{})
	if err != nil {
		panic(err)
	}
	groups, err := ipgroup.NewSet(group)
	if err != nil {
		panic(err)
	}
	finder := &limpet.IPGroupFinder{Groups: groups, Group: "web servers", Port: 8080}
	pool, err := lbpool.New(lbpool.Config{Name: "web", Discoveries: []lbpool.Discovery{{Finder: finder, Interval: time.Second}}})
	if err != nil {
		panic(err)
	}
	_, err = limpet.New(limpet.Config{Pools: []*lbpool.Pool{pool}}) // call its Run, and replace the group at will
	fmt.Println(err)
	found, _ := finder.Find(context.Background())
	for _, server := range found {
		fmt.Println(server.Address)
	}
	// Output:
	// <nil>
	// 10.0.0.1:8080
	// 10.0.0.2:8080
	// 10.0.0.3:8080
}

// Each pool has its own way of sticking: the web servers by a sealed cookie,
// the servers of the API by the client's address, those of static files not at
// all.
func ExampleConfig_poolPersistence() {
	pool := func(name, address string) *lbpool.Pool {
		return must(lbpool.New(lbpool.Config{Name: name, Servers: []lbpool.ServerConfig{{Address: address}}}))
	}
	byCookie := must(persistence.NewHTTPCookie(persistence.HTTPCookieConfig{
		Keys: []persistence.CookieKey{{ID: "2026", Secret: make([]byte, 32)}}, // 32 random bytes in earnest
	}))
	byAddress := must(persistence.NewClientIP(persistence.ClientIPConfig{Timeout: 10 * time.Minute}))
	vs := must(limpet.New(limpet.Config{
		Pools:       []*lbpool.Pool{pool("web", "10.0.0.1"), pool("api", "10.0.1.1"), pool("static", "10.0.2.1")},
		Persistence: byCookie,
		PoolPersistence: map[string]limpet.PersistenceProfile{
			"api":    byAddress,
			"static": limpet.NoPersistence,
		},
	}))
	for _, target := range vs.Stats().Persistence {
		fmt.Println(target.Target, len(target.Outcomes))
	}
	// Output:
	// api 0
	// static 0
	// web 0
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Requests do not wait for a log that nobody reads.
func ExampleNewLogQueue() {
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	options := &slog.HandlerOptions{ReplaceAttr: withoutTime}

	queue := limpet.NewLogQueue(os.Stdout)
	logger := slog.New(queue.Handler(func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }))
	cfg := limpet.Config{Name: "shop", Logger: logger}

	cfg.Logger.Info("ready", "vs", cfg.Name)
	if err := queue.Close(context.Background()); err != nil { // writes what is left
		log.Fatal(err)
	}
	// Output: level=INFO msg=ready vs=shop
}
