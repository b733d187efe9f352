package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// running runs a virtual service until the returned function is called, or the
// test ends.
func running(t testing.TB, vs *limpet.VirtualService) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- vs.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// A gate is a server that holds its requests until it is told to go on. It
// knows how many it has at a time.
type gate struct {
	open      chan struct{} // a token lets one request pass
	now, most atomic.Int64
	mu        sync.Mutex
	order     []string // queries of those that came
}

func newGate() *gate { return &gate{open: make(chan struct{}, 1000)} }

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := g.now.Add(1)
	defer g.now.Add(-1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
	}
	g.mu.Lock()
	g.order = append(g.order, r.URL.RawQuery)
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-r.Context().Done():
	}
}

// TestQueue is a pool at its limits behind a virtual service: GET requests wait
// for their turn, up to the length of the queue; all others get 503 at once.
func TestQueue(t *testing.T) {
	const limit, length = 2, 6
	g := newGate()
	pool := newPool(t, lbpool.Config{
		Name: "my_pool", Queue: lbpool.Queue{Length: length, Timeout: time.Minute, Order: lbpool.FirstInFirstOut},
		Servers: []lbpool.ServerConfig{{Address: startServer(t, "127.0.1.1:0", g), MaxConnections: limit}},
	})
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add})
	c := site.client(t)
	var wg sync.WaitGroup
	start := func(method, query string, want int) {
		wg.Go(func() {
			res, _, err := try(c, newRequest(t, method, site.URL+"/?"+query, nil))
			if err != nil || res.StatusCode != want {
				t.Errorf("%s %s: %v %v, want %d", method, query, res, err, want)
			}
		})
	}
	var want []string
	for i := range limit + length {
		start("GET", fmt.Sprint(i), http.StatusOK)
		testwait.Until(t, "the request to be served or queued", func() bool { return pool.Stats().Open+pool.Stats().Waiting == i+1 })
		if i < limit { // which of them comes first to the server is open
			testwait.Until(t, "the server to have it", func() bool { return g.now.Load() == int64(i+1) })
		}
		want = append(want, fmt.Sprint(i))
	}
	// The queue is full, and POST never waits.
	for _, method := range []string{"GET", "POST", "HEAD"} {
		res, _, err := try(c, newRequest(t, method, site.URL+"/?late", nil))
		if err != nil || res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %v %v", method, res, err)
		}
	}
	if s := pool.Stats(); s.Waiting != length || s.Queued != length || s.QueueFull != 1 {
		t.Errorf("stats %+v", s)
	}
	for i := range limit + length {
		g.open <- struct{}{}
		testwait.Until(t, "the next", func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			return len(g.order) == min(i+1+limit, limit+length)
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, g.order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if most := g.most.Load(); most != limit {
		t.Errorf("%d requests at a time, want %d", most, limit)
	}
}

// TestQueueEnds are the other ways out of the queue: time is up, the client
// leaves, the script's time-out for the server passes.
func TestQueueEnds(t *testing.T) {
	g := newGate()
	pool := newPool(t, lbpool.Config{
		Name: "my_pool", Queue: lbpool.Queue{Length: 10, Timeout: 50 * time.Millisecond},
		Servers: []lbpool.ServerConfig{{Address: startServer(t, "127.0.1.1:0", g), MaxConnections: 1}},
	})
	lease, err := pool.Acquire(lbpool.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	recs := newRecords()
	cfg := limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add}
	vs, site := serve(t, http1, cfg)
	c := site.client(t)
	if status, _ := get(t, c, site.URL); status != http.StatusServiceUnavailable {
		t.Errorf("after the queue's time-out: status %d", status)
	}
	if r := recs.next(t); !errors.Is(r.Error, lbpool.ErrFull) || !slices.Contains(r.Significant, limpet.NoServer) {
		t.Errorf("record %+v", r)
	}
	if s := pool.Stats(); s.QueueTimeouts != 1 || s.Waiting != 0 {
		t.Errorf("stats %+v", s)
	}

	if err := pool.Update(lbpool.Config{
		Name: "my_pool", Queue: lbpool.Queue{Length: 10, Timeout: time.Hour},
		Servers: []lbpool.ServerConfig{{Address: pool.Servers()[0].Addr().String(), MaxConnections: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if res, _, err := try(c, newRequest(t, "GET", site.URL, nil).WithContext(ctx)); err == nil {
			t.Errorf("got %s after leaving", res.Status)
		}
	})
	testwait.Until(t, "the client to be queued", func() bool { return pool.Stats().Waiting == 1 })
	cancel()
	wg.Wait()
	if r := recs.next(t); !slices.Equal(r.Significant, []limpet.Significance{limpet.ClientGone}) || pool.Stats().Waiting != 0 {
		t.Errorf("the client left: %+v, %d waiting", r.Significant, pool.Stats().Waiting)
	}

	cfg.Scripts = []limpet.Script{onRequest(t, "time-out", `avi.http.set_server_timeout(50)`)}
	if err := vs.Update(cfg); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, c, site.URL); status != http.StatusGatewayTimeout {
		r := recs.next(t)
		t.Errorf("after the script's time-out: status %d, %v %v", status, r.Error, r.ScriptErrors)
	}
	lease.Release(lbpool.Outcome{})
}

// bind makes n clients stick: the listing tells them apart by their ports.
func bind(t *testing.T, s *site, n int) {
	t.Helper()
	for range n {
		c := s.client(t)
		if status, _ := get(t, c, s.URL); status != http.StatusOK {
			t.Fatal(status)
		}
		c.CloseIdleConnections()
	}
}

// TestDrainAccounting drains a server that clients of the published listing are
// bound to. It ends when the last of them is gone and the last request is over.
func TestDrainAccounting(t *testing.T) {
	t.Parallel()
	events := make(chan lbpool.Event, 100)
	g := newGate()
	servers := startServersWith(t, 2, func(i int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				_ = http.NewResponseController(w).Flush()
				g.ServeHTTP(w, r)
				io.WriteString(w, "the end")
			}
		})
	})
	pool := newPool(t, lbpool.Config{
		Name: "my_pool", Algorithm: lbpool.RoundRobin(), Servers: servers, Drain: lbpool.DrainPolicy{KeepBound: true},
		OnEvent: func(e lbpool.Event) { events <- e },
	})
	recs := newRecords()
	store := persistence.NewStore(persistence.Options{})
	vs, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{pool}, Tables: store, OnComplete: recs.add,
		Scripts: []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
	})
	running(t, vs)
	bind(t, site, 10)
	recs.take(t, 10)
	loyal := site.client(t) // the last client
	if status, _ := get(t, loyal, site.URL); status != http.StatusOK {
		t.Fatal(status)
	}
	first := recs.next(t)
	server, _, _ := pool.Lookup(first.Server.String(), 0)

	server.Drain(-1)
	if e := testwait.Receive(t, events, "the drain"); e.Change.State != lbpool.Draining || e.Server != server {
		t.Fatalf("event %+v", e)
	}
	for range 6 { // new clients go elsewhere
		bind(t, site, 1)
		if r := recs.next(t); r.Server == first.Server {
			t.Error("a draining server got a new client")
		}
	}
	counts, err := store.CountByValue(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	bound := counts[server.Addr().Addr().String()]
	if bound != 5 && bound != 6 {
		t.Errorf("%d of 11 entries point to the server", bound)
	}
	var asked atomic.Int64
	defer pool.CountBound(func(context.Context, ...string) (int, error) { asked.Add(1); return 0, nil }, 0)()
	testwait.Until(t, "the clients to be counted", func() bool { return asked.Load() > 0 })
	again, err := loyal.Get(site.URL + "/stream") // the bound client still gets there
	if err != nil {
		t.Fatal(err)
	}
	for k, e := range store.All("") { // they log out
		if e.Value == server.Addr().Addr().String() {
			_ = store.Remove(t.Context(), "", k)
		}
	}
	if server.State() != lbpool.Draining || len(events) > 0 {
		t.Errorf("with a stream open: %v", server.State())
	}
	g.open <- struct{}{}
	body, err := io.ReadAll(again.Body)
	again.Body.Close()
	if err != nil || string(body) != "the end" {
		t.Errorf("the stream on a draining server: %q, %v", body, err)
	}
	if e := testwait.Receive(t, events, "the end of the drain"); !e.Drained || e.Server != server || e.Open != 0 || e.Bound != 0 {
		t.Errorf("event %+v", e)
	}
	if server.State() != lbpool.Disabled {
		t.Errorf("state %v", server.State())
	}
}

// service is a virtual service whose servers are not there and answer all the
// same, for tests in virtual time.
func service(t *testing.T, pool lbpool.Config, edit func(*limpet.Config)) (*limpet.VirtualService, *lbpool.Pool, *records) {
	t.Helper()
	recs := newRecords()
	cfg := limpet.Config{Pools: []*lbpool.Pool{newPool(t, pool)}, Transport: answering(ok), OnComplete: recs.add}
	if edit != nil {
		edit(&cfg)
	}
	return newVirtualService(t, cfg), cfg.Pools[0], recs
}

// ask sends a request from a client's address, and returns the record.
func ask(t *testing.T, vs *limpet.VirtualService, recs *records, client string) limpet.Record {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = client
	vs.ServeHTTP(httptest.NewRecorder(), r)
	return recs.next(t)
}

// TestDrainInTime drains servers that entries of the published listing, or a
// persistence profile, bind clients to.
func TestDrainInTime(t *testing.T) {
	listing := func(cfg *limpet.Config) {
		cfg.Scripts = []limpet.Script{compile(t, "Custom Persistence", customPersistence)}
	}
	clientIP := func(cfg *limpet.Config) {
		profile, err := persistence.NewClientIP(persistence.ClientIPConfig{Timeout: 5 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Persistence = profile
	}
	cookie := func(cfg *limpet.Config) {
		profile, err := persistence.NewHTTPCookie(persistence.HTTPCookieConfig{Keys: []persistence.CookieKey{{ID: "1", Secret: make([]byte, 32)}}})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Persistence = profile
	}
	for _, test := range []struct {
		name    string
		edit    func(*limpet.Config)
		timeout time.Duration
		over    time.Duration // when the drain is over
		bound   int           // clients left then
	}{
		{"until the entry has expired", listing, -1, 300 * time.Second, 0},
		{"listing, deadline", listing, time.Minute, time.Minute, 1},
		{"until the profile has forgotten", clientIP, -1, 5 * time.Minute, 0},
		{"profile, deadline", clientIP, time.Minute, time.Minute, 1},
		{"nobody knows, deadline", cookie, time.Minute, time.Minute, 0},
		{"nobody can be bound", nil, -1, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var drained []lbpool.Event
				vs, pool, recs := service(t, lbpool.Config{
					Name: "my_pool", Algorithm: lbpool.RoundRobin(), Drain: lbpool.DrainPolicy{KeepBound: true},
					Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}},
					OnEvent: func(e lbpool.Event) {
						mu.Lock()
						defer mu.Unlock()
						if e.Drained {
							drained = append(drained, e)
						}
					},
				}, test.edit)
				stop := running(t, vs)
				defer stop()
				synctest.Wait()
				const client = "192.0.2.1:5000"
				first := ask(t, vs, recs, client).Server
				server, _, _ := pool.Lookup(first.String(), 0)
				start := time.Now()
				server.Drain(test.timeout)
				time.Sleep(test.over + 2*time.Second)
				mu.Lock()
				if len(drained) != 1 || drained[0].Server != server || drained[0].Bound != test.bound || drained[0].Open != 0 {
					t.Fatalf("events %+v", drained)
				}
				if at := drained[0].Change.At.Sub(start); at < test.over || at > test.over+time.Second {
					t.Errorf("over after %s, want %s", at, test.over)
				}
				mu.Unlock()
				r := ask(t, vs, recs, client)
				if r.Server == first {
					t.Errorf("went to %v after its drain", r.Server)
				}
				if test.bound > 0 {
					if r.Outcome != limpet.RepinDisabled {
						t.Errorf("persistence %v, want another server because of the deadline", r.Outcome)
					}
					if again := ask(t, vs, recs, client); again.Server != r.Server || again.Outcome != limpet.OutcomeHit {
						t.Errorf("then: %v, %v", again.Server, again.Outcome)
					}
				}
			})
		})
	}
}

// TestSharedPool is two virtual services with one pool: it is checked once, and
// goes on being checked when one of them stops.
func TestSharedPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var checks atomic.Int64
		pool := newPool(t, lbpool.Config{
			Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}},
			HealthMonitors: []lbpool.HealthMonitor{{Checker: lbpool.CheckerFunc(func(context.Context, netip.AddrPort) error {
				checks.Add(1)
				return nil
			})}},
		})
		cfg := limpet.Config{Pools: []*lbpool.Pool{pool}, Transport: answering(ok)}
		first, second := newVirtualService(t, cfg), newVirtualService(t, cfg)
		stopFirst, stopSecond := running(t, first), running(t, second)
		time.Sleep(time.Minute)
		perMinute := func() int64 {
			before := checks.Load()
			time.Sleep(time.Minute)
			return checks.Load() - before
		}
		if n := perMinute(); n != 6 {
			t.Errorf("%d checks in a minute, want 6", n)
		}
		stopFirst()
		if n := perMinute(); n < 5 || n > 8 || !pool.Up() {
			t.Errorf("%d checks in a minute after one has stopped", n)
		}
		stopSecond()
		if n := perMinute(); n != 0 {
			t.Errorf("%d checks in a minute after both have stopped", n)
		}
	})
}

// TestGroupReselects is a pool of a group that has been chosen and is full by
// the time the request wants a server of it.
func TestGroupReselects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backup := newPool(t, lbpool.Config{Name: "backup", Servers: []lbpool.ServerConfig{{Address: "10.0.9.1"}}})
		a := newPool(t, lbpool.Config{Name: "a", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1", MaxConnections: 1}}})
		b := newPool(t, lbpool.Config{
			Name: "b", Servers: []lbpool.ServerConfig{{Address: "10.0.1.1", MaxConnections: 1}}, Queue: lbpool.Queue{Length: 1},
		})
		group, err := lbpool.NewGroup(lbpool.GroupConfig{
			Name: "group", Members: []lbpool.Member{{Pool: a, Ratio: 1000, Priority: 2}, {Pool: b, Ratio: 1, Priority: 1}},
			FailAction: lbpool.FailAction{Kind: lbpool.FailBackup, Backup: backup},
		})
		if err != nil {
			t.Fatal(err)
		}
		// What happens between the choice of the pool and that of the server.
		between := func() {}
		recs := newRecords()
		vs := newVirtualService(t, limpet.Config{
			Pools: []*lbpool.Pool{a, b, backup}, PoolGroups: []*lbpool.Group{group}, Transport: answering(ok), OnComplete: recs.add,
			Scripts: []limpet.Script{onRequest(t, "group", `avi.pool.select("group")`)},
		})
		handler := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			between()
			resp, err := (&lbpool.Transport{Base: answering(ok)}).RoundTrip(r)
			if err != nil {
				t.Error(err)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			resp.Body.Close()
		}))
		request := func(method string) string {
			t.Helper()
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/", nil))
			r := recs.next(t)
			if r.Status != http.StatusOK {
				t.Errorf("record %+v", r)
			}
			return r.Pool
		}
		fill := func(p *lbpool.Pool) (empty func()) {
			lease, err := p.Acquire(lbpool.Hint{})
			if err != nil {
				t.Fatal(err)
			}
			return func() { lease.Release(lbpool.Outcome{}) }
		}
		if got := request("GET"); got != "a" {
			t.Errorf("went to %s", got)
		}
		var emptyA, emptyB func()
		between = func() { emptyA = fill(a) }
		if got := request("GET"); got != "b" {
			t.Errorf("a is full: went to %s", got)
		}
		emptyA()
		between = func() { emptyA, emptyB = fill(a), fill(b) }
		if got := request("POST"); got != "backup" {
			t.Errorf("both are full: POST went to %s", got)
		}
		emptyA()
		emptyB()
		between = func() {
			emptyA, emptyB = fill(a), fill(b)
			time.AfterFunc(time.Second, emptyB)
		}
		start := time.Now()
		if got := request("GET"); got != "b" || time.Since(start) != time.Second {
			t.Errorf("both are full: GET went to %s after %s", got, time.Since(start))
		}
		between = func() {}
		b.Servers()[0].Disable()
		if got := request("GET"); got != "backup" {
			t.Errorf("a is full and b disabled: went to %s", got)
		}
		emptyA()
	})
}

// TestGroupKeepsBound checks that clients stay with the pool of their server,
// whatever ratios say, and that the reason is right when they cannot.
func TestGroupKeepsBound(t *testing.T) {
	for name, binding := range map[string]func(*limpet.Config){
		"script": func(cfg *limpet.Config) {
			cfg.Scripts = []limpet.Script{compile(t, "group", `-- HTTP_REQ
client = avi.vs.client_ip()
server = avi.vs.table_lookup(client)
if server then avi.pool.select("group", client) else avi.pool.select("group") end

-- HTTP_RESP
if not server then avi.vs.table_insert(client, avi.pool.server_ip(), 300) end
`)}
		},
		"profile": func(cfg *limpet.Config) {
			profile, err := persistence.NewClientIP(persistence.ClientIPConfig{})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Persistence = profile
			cfg.Scripts = []limpet.Script{onRequest(t, "group", `avi.pool.select("group")`)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var pools []*lbpool.Pool
			var members []lbpool.Member
			for i := range 3 {
				p := newPool(t, lbpool.Config{Name: string(rune('a' + i)), Servers: []lbpool.ServerConfig{{Address: fmt.Sprintf("10.0.%d.1", i)}}})
				pools, members = append(pools, p), append(members, lbpool.Member{Pool: p, Ratio: i + 1})
			}
			group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "group", Members: members})
			if err != nil {
				t.Fatal(err)
			}
			recs := newRecords()
			cfg := limpet.Config{Pools: pools, PoolGroups: []*lbpool.Group{group}, Transport: answering(ok), OnComplete: recs.add}
			binding(&cfg)
			vs := newVirtualService(t, cfg)
			pool := map[string]string{}
			for i := range 12 {
				client := fmt.Sprintf("192.0.2.%d:5000", i+1)
				for range 5 {
					r := ask(t, vs, recs, client)
					if before := pool[client]; before != "" && (r.Pool != before || r.Outcome != limpet.OutcomeHit) {
						t.Errorf("%s went to pool %s after %s: %v %v", client, r.Pool, before, r.Outcome, r.ScriptErrors)
					}
					pool[client] = r.Pool
				}
			}
			used := map[string]int{}
			for _, p := range pool {
				used[p]++
			}
			if diff := cmp.Diff(map[string]int{"a": 2, "b": 4, "c": 6}, used); diff != "" {
				t.Errorf("clients by pool (-want +got):\n%s", diff)
			}
			for client, before := range pool {
				p := pools[before[0]-'a']
				p.Servers()[0].Disable()
				if r := ask(t, vs, recs, client); r.Pool == before || r.Outcome != limpet.RepinDisabled {
					t.Errorf("its pool is out of service: went to %s, %v", r.Pool, r.Outcome)
				}
				p.Servers()[0].Enable()
				break
			}
		})
	}
}

// TestGroupFailAction is what happens when no pool of a group can serve.
func TestGroupFailAction(t *testing.T) {
	for _, test := range []struct {
		name   string
		action lbpool.FailAction
		status int
		pool   string
		header string // Location
		body   string
	}{
		{"default", lbpool.FailAction{}, 503, "", "", "Service Unavailable\n"},
		{"page", lbpool.FailAction{Status: 200, Body: []byte("sorry")}, 200, "", "", "sorry"},
		{"redirect", lbpool.FailAction{Kind: lbpool.FailRedirect, Redirect: lbpool.Redirect{Host: "elsewhere.example"}}, 302, "", "https://elsewhere.example/x?y", ""},
		{"backup", lbpool.FailAction{Kind: lbpool.FailBackup}, 200, "backup", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newPool(t, lbpool.Config{Name: "a", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1", Disabled: true}}})
			backup := newPool(t, lbpool.Config{Name: "backup", Servers: []lbpool.ServerConfig{{Address: "10.0.9.1"}}})
			if test.action.Kind == lbpool.FailBackup {
				test.action.Backup = backup
			}
			group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "group", Members: []lbpool.Member{{Pool: a, Ratio: 1}}, FailAction: test.action})
			if err != nil {
				t.Fatal(err)
			}
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{a, backup}, PoolGroups: []*lbpool.Group{group}, Transport: answering(ok), OnComplete: recs.add,
				Scripts: []limpet.Script{onRequest(t, "group", `avi.pool.select("group")`)},
			})
			w := httptest.NewRecorder()
			vs.ServeHTTP(w, httptest.NewRequest("GET", "/x?y", nil))
			if w.Code != test.status || w.Header().Get("Location") != test.header || w.Body.String() != test.body {
				t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
			}
			if r := recs.next(t); r.Pool != test.pool {
				t.Errorf("pool %q", r.Pool)
			}
		})
	}
}

// TestPersistenceHeader checks that client and scripts are told what came of
// the client's binding, and that nobody else says so.
func TestPersistenceHeader(t *testing.T) {
	liar := func(r *http.Request) (*http.Response, error) {
		res, err := ok(r)
		res.Header.Set("X-Sticky", "a lie")
		return res, err
	}
	vs, pool, _ := service(t, lbpool.Config{
		Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}, Repick: lbpool.RepickNever,
	}, func(cfg *limpet.Config) {
		cfg.PersistenceHeader = "x-sticky"
		cfg.Transport = answering(liar)
		cfg.Scripts = []limpet.Script{
			compile(t, "Custom Persistence", customPersistence),
			onResponse(t, "tell", `avi.http.add_header("X-Script", tostring(avi.pool.persistence()))`),
		}
	})
	request := func(path string, status int, want string) http.Header {
		t.Helper()
		w := httptest.NewRecorder()
		vs.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		h := w.Result().Header
		if got := strings.Join(h["X-Sticky"], "|"); got != want || w.Code != status {
			t.Errorf("status %d, told %q, want %d, %q", w.Code, got, status, want)
		}
		if status == http.StatusOK && h.Get("X-Script") != want {
			t.Errorf("scripts are told %q, want %q", h.Get("X-Script"), want)
		}
		return h
	}
	request("/", 200, "miss")
	request("/", 200, "hit")
	for _, s := range pool.Servers() {
		s.Disable()
	}
	pool.Servers()[1].Enable()
	pool.Servers()[0].Disable()
	// The client's own server is disabled; the answer is ours.
	var bound *lbpool.Server
	for _, s := range pool.Servers() {
		if s.Stats().Requests > 0 {
			bound = s
		}
	}
	bound.Disable()
	request("/", 503, "repin:disabled")
	if err := pool.Update(lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range pool.Servers() {
		s.Enable()
	}
	bound.Disable()
	request("/", 200, "repin:disabled")
	request("/", 200, "hit")

	for _, name := range []string{"a b", "X:Y", "content-length", "Connection", "é"} {
		_, err := limpet.New(limpet.Config{PersistenceHeader: name})
		if err == nil || !strings.Contains(err.Error(), "persistenceHeader: ") {
			t.Errorf("header %q: %v", name, err)
		}
	}
}

// TestIPGroupFinder is a pool whose servers are the addresses of an IP group.
func TestIPGroupFinder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := func(entries ...string) *ipgroup.Group {
			g, err := ipgroup.Parse("servers", entries, ipgroup.Options{AllowEmpty: true})
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		set, err := ipgroup.NewSet(group("10.0.0.1-10.0.0.2", "2001:db8::1"))
		if err != nil {
			t.Fatal(err)
		}
		finder := &limpet.IPGroupFinder{Groups: set, Group: "servers", Port: 81, Server: lbpool.ServerConfig{Ratio: 2}}
		vs, pool, recs := service(t, lbpool.Config{
			Name: "my_pool", Discoveries: []lbpool.Discovery{{Finder: finder, Interval: time.Second}}, Algorithm: lbpool.RoundRobin(),
		}, nil)
		if r := ask(t, vs, recs, "192.0.2.1:1"); r.Status != http.StatusServiceUnavailable {
			t.Errorf("before Run: status %d", r.Status)
		}
		defer running(t, vs)()
		servers := func() string {
			time.Sleep(3 * time.Second)
			var list []string
			for _, s := range pool.Servers() {
				list = append(list, s.Name())
			}
			return strings.Join(list, " ")
		}
		if got := servers(); got != "10.0.0.1:81 10.0.0.2:81 [2001:db8::1]:81" || pool.Servers()[0].Ratio() != 2 {
			t.Errorf("servers %s", got)
		}
		if r := ask(t, vs, recs, "192.0.2.1:1"); r.Status != http.StatusOK {
			t.Errorf("status %d", r.Status)
		}
		kept := pool.Servers()[1]
		if err := set.Replace(group("10.0.0.2", "10.0.0.4")); err != nil {
			t.Fatal(err)
		}
		if got := servers(); got != "10.0.0.2:81 10.0.0.4:81" || pool.Servers()[0] != kept {
			t.Errorf("after a change: %s", got)
		}
		if err := set.Replace(group("10.0.0.0/8")); err != nil { // too many
			t.Fatal(err)
		}
		if got := servers(); got != "10.0.0.2:81 10.0.0.4:81" || pool.Stats().DiscoveryFailures == 0 {
			t.Errorf("too many: %s", got)
		}
		if err := set.Replace(group()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := servers(); got != "" {
			t.Errorf("empty: %s", got)
		}
		if _, err := (&limpet.IPGroupFinder{Groups: set, Group: "nowhere"}).Find(t.Context()); err == nil {
			t.Error("a group that is not there was found")
		}
		places, err := geoip.ParseTable([]byte("prefix;country code\n10.0.0.0/30;NL\n"))
		if err != nil {
			t.Fatal(err)
		}
		country, err := ipgroup.Parse("servers", []string{"NL"}, ipgroup.Options{Countries: places})
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Replace(country); err != nil {
			t.Fatal(err)
		}
		if found, err := finder.Find(t.Context()); err == nil {
			t.Errorf("a country supplies servers: %v", found)
		}
	})
}

// TestDrainLeavesStreams drains a server with streams open and a deadline: the
// streams of bound clients go on after it, to their end.
func TestDrainLeavesStreams(t *testing.T) {
	t.Parallel()
	const streams = 20
	g := newGate()
	pool := newPool(t, lbpool.Config{
		Name: "my_pool", Drain: lbpool.DrainPolicy{KeepBound: true},
		Servers: startServersWith(t, 2, func(int) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/stream" {
					_ = http.NewResponseController(w).Flush()
					g.ServeHTTP(w, r)
					io.WriteString(w, "the end")
				}
			})
		}),
	})
	profile, err := persistence.NewClientIP(persistence.ClientIPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	recs := newRecords()
	vs, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}, Persistence: profile, OnComplete: recs.add})
	running(t, vs)
	c := site.client(t)
	get(t, c, site.URL)
	server, _, _ := pool.Lookup(recs.next(t).Server.String(), 0)
	var open []*http.Response
	for i := range streams {
		if i == streams/2 {
			server.Drain(time.Second)
		}
		res, err := c.Get(site.URL + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		open = append(open, res)
	}
	testwait.Until(t, "the deadline", func() bool { return server.State() == lbpool.Disabled })
	get(t, c, site.URL)
	if r := recs.next(t); r.Outcome != limpet.RepinDisabled || r.Server == server.Addr() {
		t.Errorf("after the deadline: %v, %v", r.Server, r.Outcome)
	}
	if n := server.Open(); n < streams/2 {
		t.Errorf("%d of %d streams are left", n, streams)
	}
	for range streams {
		g.open <- struct{}{}
	}
	for i, res := range open {
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "the end" {
			t.Errorf("stream %d: %q, %v", i, body, err)
		}
	}
	recs.take(t, streams)
	if n := server.Open(); n != 0 {
		t.Errorf("%d requests are open at the end", n)
	}
}

// TestClientLeavesSoon measures how long it takes a server to learn that the
// client has left. 50 ms are meant; a machine that does other work takes longer
// now and then, not each time.
func TestClientLeavesSoon(t *testing.T) {
	started, left := make(chan bool, 1), make(chan time.Time, 1)
	_, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/download" {
			_ = http.NewResponseController(w).Flush()
		}
		started <- true
		<-r.Context().Done()
		left <- time.Now()
	})}})
	c := site.client(t)
	half := func(path string) time.Duration {
		var took []time.Duration
		for range 21 {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if res, err := c.Do(newRequest(t, "GET", site.URL+path, nil).WithContext(ctx)); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
			testwait.Receive(t, started, "the server to be asked")
			start := time.Now()
			cancel()
			took = append(took, testwait.Receive(t, left, "the server to be told").Sub(start))
			wg.Wait()
		}
		slices.Sort(took)
		t.Logf("%s: half of the servers know within %s, all within %s", path, took[len(took)/2], took[len(took)-1])
		return took[len(took)/2]
	}
	for _, path := range []string{"/", "/download"} {
		least := half(path)
		for again := 0; least > 250*time.Millisecond && again < 20; again++ {
			least = min(least, half(path))
		}
		if least > 250*time.Millisecond {
			t.Errorf("%s: half of the servers learnt it only after %s", path, least)
		}
	}
}
