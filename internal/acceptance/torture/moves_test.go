package torture_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// named answers as the server it was sent to.
func named(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{"X-Server": {strings.TrimSuffix(r.URL.Host, ":80")}}, Body: http.NoBody}, nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// poolOf has n servers 10.0.NET.i:80.
func poolOf(name string, net, n int, edit func(*lbpool.Config)) *lbpool.Pool {
	c := lbpool.Config{Name: name}
	for i := range n {
		c.Servers = append(c.Servers, lbpool.ServerConfig{Address: fmt.Sprintf("10.0.%d.%d:80", net, i+1)})
	}
	if edit != nil {
		edit(&c)
	}
	return must(lbpool.New(c))
}

func ip(c persistence.ClientIPConfig) *persistence.ClientIP { return must(persistence.NewClientIP(c)) }
func app(c persistence.AppCookieConfig) *persistence.AppCookie {
	c.Name = "S"
	return must(persistence.NewAppCookie(c))
}

func conf(prof limpet.PersistenceProfile, pools ...*lbpool.Pool) limpet.Config {
	return limpet.Config{Pools: pools, Persistence: prof, PersistenceHeader: "X-P", Transport: roundTripper(named)}
}

// get sends a request of client i, with path, cookie; it returns server and
// outcome.
func get(h http.Handler, i int, path, cookie string) (server, outcome string, code int) {
	r := httptest.NewRequest("GET", "http://x"+path, nil)
	r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
	r.Header.Set("Cookie", cookie)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Header().Get("X-Server"), w.Header().Get("X-P"), w.Code
}

func running(vs *limpet.VirtualService) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan bool)
	go func() { _ = vs.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

// A request that no server has answered leaves the binding as it was.
func TestBlip(t *testing.T) {
	var away bool
	c := conf(ip(persistence.ClientIPConfig{}), poolOf("web", 0, 3, nil))
	c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if away {
			return nil, lbpool.ErrConnect
		}
		return named(r)
	})
	vs := must(limpet.New(c))
	before, _, _ := get(vs, 1, "/", "")
	away = true
	get(vs, 1, "/", "")
	away = false
	if after, o, _ := get(vs, 1, "/", ""); after != before {
		t.Errorf("%s, then %s (%s)", before, after, o)
	}
}

// A page that all servers answer with an error does not move its visitors.
func TestBadPage(t *testing.T) {
	c := conf(ip(persistence.ClientIPConfig{}), poolOf("web", 0, 3, func(c *lbpool.Config) { c.Reselect.Codes = []lbpool.StatusRange{{Begin: 500, End: 599}} }))
	c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := named(r)
		if r.URL.Path == "/bad" {
			resp.StatusCode = 500
		}
		return resp, err
	})
	vs := must(limpet.New(c))
	before, _, _ := get(vs, 1, "/", "")
	get(vs, 1, "/bad", "")
	if after, _, _ := get(vs, 1, "/", ""); after != before {
		t.Errorf("%s, then %s", before, after)
	}
}

// A handler that outlives its time-out must not move the client of another
// request.
func TestLateHandler(t *testing.T) {
	for range 20 { // the transaction is used again in about half of them
		vs := must(limpet.New(conf(ip(persistence.ClientIPConfig{}), poolOf("web", 0, 3, nil))))
		inFlight, late := make(chan bool), make(chan bool)
		tr := &lbpool.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/2" {
				close(inFlight)
				<-late
			}
			return named(r)
		})}
		serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/late" {
				<-inFlight // longer than the time-out
				defer close(late)
			}
			if resp, err := tr.RoundTrip(r); err == nil {
				w.Header().Set("X-Server", resp.Header.Get("X-Server"))
			}
		})
		timed := http.TimeoutHandler(serve, 20*time.Millisecond, "")
		h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/late" {
				timed.ServeHTTP(w, r)
			} else { // which may take long on a busy machine
				serve(w, r)
			}
		}))
		before, _, _ := get(h, 1, "/1", "")
		get(h, 7, "/late", "") // 503
		get(h, 1, "/2", "")
		if after, _, _ := get(h, 1, "/3", ""); after != before {
			t.Fatalf("client 1: %s, then %s", before, after)
		}
	}
}

// Updates must not end a drain whose clients are still bound.
func TestDrainOverUpdates(t *testing.T) {
	prof := ip(persistence.ClientIPConfig{Timeout: time.Hour})
	var mu sync.Mutex
	var ended []string
	mk := func() limpet.Config {
		return conf(prof, poolOf("web", 0, 6, func(c *lbpool.Config) {
			c.Drain.KeepBound, c.Algorithm = true, lbpool.RoundRobin()
			c.OnEvent = func(e lbpool.Event) {
				if e.Drained {
					n, _ := prof.Count(context.Background(), "web", e.Server.Addr().String())
					mu.Lock()
					ended = append(ended, fmt.Sprintf("%s with %d clients", e.Server.Addr(), n))
					mu.Unlock()
				}
			}
		}))
	}
	c := mk()
	vs := must(limpet.New(c))
	defer running(vs)()
	for i := range 60 {
		get(vs, i, "/", "")
	}
	<-time.After(20 * time.Millisecond)
	for _, s := range c.Pools[0].Servers()[1:] {
		s.Drain(-1)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				get(vs, i%60, "/", "")
			}
		})
	}
	updates := 200 // 4 to 10 are enough
	if testing.Short() {
		updates = 20
	}
	for n := range updates {
		_ = vs.Update(mk())
		<-time.After(20 * time.Millisecond)
		mu.Lock()
		all := fmt.Sprint(ended)
		mu.Unlock()
		if all != "[]" {
			t.Fatalf("after %d updates: %s", n+1, all)
		}
	}
}

// Sessions in a store that is made anew with everything else are taken over.
func TestSessionsAnew(t *testing.T) {
	mk := func() limpet.Config {
		return conf(ip(persistence.ClientIPConfig{Sessions: persistence.NewStore(persistence.Options{}), Table: "t"}), poolOf("web", 0, 3, nil))
	}
	vs := must(limpet.New(mk()))
	get(vs, 1, "/", "")
	_ = vs.Update(mk())
	if _, o, _ := get(vs, 1, "/", ""); o != "hit" {
		t.Error(o)
	}
}

// What was left of a timeout at an update is not the timeout from then on.
func TestAdoptIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mk := func(n int) limpet.Config {
			return conf(app(persistence.AppCookieConfig{Timeout: time.Minute, MaxAge: time.Hour, MaxEntries: n}), poolOf("web", 0, 3, nil))
		}
		vs := must(limpet.New(mk(0)))
		get(vs, 1, "/", "S=1")
		time.Sleep(55 * time.Second)
		_ = vs.Update(mk(1000))
		get(vs, 1, "/", "S=1")
		time.Sleep(20 * time.Second)
		if _, o, _ := get(vs, 1, "/", "S=1"); o != "hit" {
			t.Errorf("20 s after a request: %s", o)
		}
	})
}

// A MaxAge that is turned off ends nobody.
func TestAdoptMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mk := func(age time.Duration) limpet.Config {
			return conf(ip(persistence.ClientIPConfig{Timeout: 10 * time.Minute, MaxAge: age}), poolOf("web", 0, 3, nil))
		}
		vs := must(limpet.New(mk(30 * time.Minute)))
		get(vs, 1, "/", "")
		_ = vs.Update(mk(0))
		for i := range 12 {
			if _, o, _ := get(vs, 1, "/", ""); o != "hit" {
				t.Errorf("%d minutes after MaxAge was turned off: %s", 5*i, o)
			}
			time.Sleep(5 * time.Minute)
		}
	})
}

// A session that begins while bounds are changed is not lost.
func TestLoginOverUpdate(t *testing.T) {
	entered, hold, done := make(chan bool), make(chan bool), make(chan bool)
	mk := func(n int) limpet.Config {
		c := conf(app(persistence.AppCookieConfig{MaxEntries: n}), poolOf("web", 0, 3, nil))
		c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := named(r)
			if r.URL.Path == "/login" {
				entered <- true
				<-hold
				resp.Header.Set("Set-Cookie", "S=fresh")
			}
			return resp, err
		})
		return c
	}
	vs := must(limpet.New(mk(0)))
	go func() { get(vs, 1, "/login", ""); close(done) }()
	<-entered
	_ = vs.Update(mk(1000))
	close(hold)
	<-done
	if _, o, _ := get(vs, 1, "/", "S=fresh"); o != "hit" {
		t.Error(o)
	}
}

// A service that begins to use the cookie profile of another does not change
// its key.
func TestCookieOfTwoServices(t *testing.T) {
	mk := func() *persistence.HTTPCookie { return must(persistence.NewHTTPCookie(persistence.HTTPCookieConfig{})) }
	shared := mk()
	a, b := must(limpet.New(conf(shared, poolOf("web", 0, 2, nil)))), must(limpet.New(conf(mk(), poolOf("web", 0, 2, nil))))
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	_ = b.Update(conf(shared, poolOf("web", 0, 2, nil)))
	if _, o, _ := get(a, 1, "/", cookie); o != "hit" {
		t.Error(o)
	}
}

// Clients that are bound in a pool which is down are served by a backup pool
// that never re-picks.
func TestBackupNever(t *testing.T) {
	b := poolOf("backup", 1, 3, func(c *lbpool.Config) { c.Repick = lbpool.RepickNever })
	m := poolOf("main", 0, 2, func(c *lbpool.Config) { c.FailAction = lbpool.FailAction{Kind: lbpool.FailBackup, Backup: b} })
	vs := must(limpet.New(conf(ip(persistence.ClientIPConfig{}), m, b)))
	get(vs, 1, "/", "")
	for _, s := range m.Servers() {
		s.Disable()
	}
	if _, o, code := get(vs, 1, "/", ""); code != 200 {
		_, _, other := get(vs, 2, "/", "")
		t.Errorf("bound: %d %s, new: %d", code, o, other)
	}
}

func groupConf(prof limpet.PersistenceProfile, a, b *lbpool.Pool) limpet.Config {
	c := conf(prof, a, b)
	c.PoolGroups = []*lbpool.Group{must(lbpool.NewGroup(lbpool.GroupConfig{Name: "g", Members: []lbpool.Member{{Pool: a, Ratio: 1}, {Pool: b, Ratio: 1}}}))}
	c.Scripts = []limpet.Script{{Script: must(datascript.Compile("s", datascript.Chunk{Source: "-- HTTP_REQ\navi.pool.select('g')"}))}}
	return c
}

// A server that moves to another member of its group keeps its clients, and
// they are counted there.
func TestServerChangesMember(t *testing.T) {
	prof := ip(persistence.ClientIPConfig{})
	vs := must(limpet.New(groupConf(prof, poolOf("a", 0, 1, nil), poolOf("b", 1, 1, nil))))
	for i := range 20 {
		get(vs, i, "/", "")
	}
	moved := func(c *lbpool.Config) { c.Servers = append(c.Servers, lbpool.ServerConfig{Address: "10.0.0.1:80"}) }
	_ = vs.Update(groupConf(prof, poolOf("a", 2, 1, nil), poolOf("b", 1, 1, moved)))
	bad := 0
	for range 3 {
		bad = 0
		for i := range 20 {
			if _, o, _ := get(vs, i, "/", ""); o != "hit" {
				bad++
			}
		}
	}
	n, _ := prof.Count(context.Background(), "g", "b/10.0.0.1:80", "10.0.0.1:80")
	if bad > 0 {
		t.Errorf("at the third visit %d of 20 are not hits; the drain of 10.0.0.1 would count %d clients", bad, n)
	}
}

// Clients of a service stick in a backup pool that another service has made
// anew.
func TestSharedBackup(t *testing.T) {
	mk := func() (m, b *lbpool.Pool) {
		b = poolOf("backup", 1, 3, nil)
		return poolOf("main", 0, 1, func(c *lbpool.Config) { c.FailAction = lbpool.FailAction{Kind: lbpool.FailBackup, Backup: b} }), b
	}
	m, b := mk()
	prof := ip(persistence.ClientIPConfig{})
	one, two := must(limpet.New(conf(prof, m, b))), must(limpet.New(conf(prof, m, b)))
	m2, b2 := mk()
	_ = one.Update(conf(prof, m2, b2))
	m2.Servers()[0].Disable()
	first, _, _ := get(two, 1, "/", "")
	if s, o, _ := get(two, 1, "/", ""); s != first {
		t.Errorf("%s, then %s: %s", first, s, o)
	}
}

// A pool that had a profile of its own for a while does not go back to older
// bindings.
func TestAdoptStale(t *testing.T) {
	lost := 0
	for range 20 {
		mk := func(prof limpet.PersistenceProfile) limpet.Config {
			return conf(prof, poolOf("a", 0, 1, nil), poolOf("b", 1, 3, nil))
		}
		p1 := ip(persistence.ClientIPConfig{})
		set := func(c limpet.Config) limpet.Config { c.DefaultPool = "b"; return c }
		vs := must(limpet.New(set(mk(p1))))
		get(vs, 1, "/", "") // still bound by p1 later on
		c := set(mk(p1))
		c.PoolPersistence = map[string]limpet.PersistenceProfile{"b": ip(persistence.ClientIPConfig{MaxEntries: 5000})}
		_ = vs.Update(c)
		get(vs, 2, "/", "")
		_ = vs.Update(set(mk(ip(persistence.ClientIPConfig{}))))
		if _, o, _ := get(vs, 2, "/", ""); o != "hit" {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("lost in %d of 20", lost)
	}
}

// A stream that begins a session renews it.
func TestStreamBeginsSession(t *testing.T) {
	hold := make(chan bool)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.Header().Set("Set-Cookie", "S=1")
			w.(http.Flusher).Flush()
			<-hold
		}
	}))
	defer s.Close()
	defer close(hold)
	c := conf(app(persistence.AppCookieConfig{Timeout: 400 * time.Millisecond}), poolOf("web", 0, 1, func(c *lbpool.Config) { c.Servers[0].Address = s.Listener.Addr().String() }))
	c.Transport = nil
	vs := must(limpet.New(c))
	defer running(vs)()
	front := httptest.NewServer(vs)
	defer front.Close()
	resp := must(http.Get(front.URL + "/stream"))
	defer resp.Body.Close()
	<-time.After(1200 * time.Millisecond)
	if _, o, _ := get(vs, 1, "/", "S=1"); o != "hit" {
		t.Errorf("while the stream is open: %s", o)
	}
}

// An answer that comes late does not move the session back.
func TestLateSetCookie(t *testing.T) {
	entered, hold, done := make(chan bool), make(chan bool), make(chan bool)
	web := poolOf("web", 0, 3, nil)
	c := conf(app(persistence.AppCookieConfig{}), web)
	c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := named(r)
		resp.Header.Set("Set-Cookie", "S=1") // with each answer, as some applications do
		if r.URL.Path == "/slow" {
			entered <- true
			<-hold
		}
		return resp, err
	})
	vs := must(limpet.New(c))
	a, _, _ := get(vs, 1, "/", "S=1")
	go func() { get(vs, 1, "/slow", "S=1"); close(done) }()
	<-entered
	s, _, _ := web.Lookup(a, 0)
	s.Disable()
	b, _, _ := get(vs, 1, "/", "S=1")
	s.Enable()
	close(hold)
	<-done
	if c, _, _ := get(vs, 1, "/", "S=1"); c != b {
		t.Errorf("%s, %s, then %s", a, b, c)
	}
}
