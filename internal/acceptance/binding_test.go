package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// profiles are all kinds of profiles that keep clients, by name. Clients of
// appCookie have the cookie SESSION from the beginning.
var profiles = map[string]func(t testing.TB) limpet.PersistenceProfile{
	"clientIP":   func(t testing.TB) limpet.PersistenceProfile { return clientIP(t, persistence.ClientIPConfig{}) },
	"appCookie":  func(t testing.TB) limpet.PersistenceProfile { return appCookie(t, "SESSION") },
	"httpCookie": func(t testing.TB) limpet.PersistenceProfile { return httpCookie(t, persistence.HTTPCookieConfig{}) },
	"store": func(t testing.TB) limpet.PersistenceProfile {
		return clientIP(t, persistence.ClientIPConfig{Sessions: persistence.NewStore(persistence.Options{}), Table: "clients"})
	},
}

func clientIP(t testing.TB, cfg persistence.ClientIPConfig) *persistence.ClientIP {
	t.Helper()
	p, err := persistence.NewClientIP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func appCookie(t testing.TB, name string) *persistence.AppCookie {
	t.Helper()
	p, err := persistence.NewAppCookie(persistence.AppCookieConfig{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func httpCookie(t testing.TB, cfg persistence.HTTPCookieConfig) *persistence.HTTPCookie {
	t.Helper()
	p, err := persistence.NewHTTPCookie(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A browser is a client with an address and a cookie jar, as browsers have.
type browser struct {
	addr string
	jar  http.CookieJar
}

func newBrowser(t testing.TB, addr string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &browser{addr, jar}
	v.jar.SetCookies(&url.URL{Scheme: "http", Host: "example.com", Path: "/"}, []*http.Cookie{{Name: "SESSION", Value: "session of " + addr}})
	return v
}

// request returns a request of the browser, with its cookies.
func (v *browser) request(path string) *http.Request {
	r := httptest.NewRequest("GET", "http://example.com"+path, nil)
	r.RemoteAddr = v.addr
	for _, c := range v.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	return r
}

// ask sends a request, keeps the cookies of the answer, and returns the record.
func (v *browser) ask(t testing.TB, vs *limpet.VirtualService, recs *records, path string) limpet.Record {
	t.Helper()
	r := v.request(path)
	w := httptest.NewRecorder()
	vs.ServeHTTP(w, r)
	v.jar.SetCookies(r.URL, w.Result().Cookies())
	return recs.next(t)
}

// threeServers are the servers of a pool at addresses 10.0.n.1 to 10.0.n.3.
func threeServers(n int) (servers []lbpool.ServerConfig) {
	for i := range 3 {
		servers = append(servers, lbpool.ServerConfig{Address: fmt.Sprintf("10.0.%d.%d:80", n, i+1)})
	}
	return servers
}

// byPath is a rule that sends paths with a prefix to a pool or a group.
func byPath(prefix, pool string) policy.RequestRule {
	return policy.RequestRule{
		Name: pool, Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{prefix}}},
		Action: policy.Modify{Pool: policy.SwitchPool{Name: pool}},
	}
}

// A client that asks two pools in turn used to lose its server in both with
// each request: one profile kept one server for each client.
func TestBindingPerTarget(t *testing.T) {
	t.Parallel()
	for name, newProfile := range profiles {
		t.Run(name, func(t *testing.T) {
			var pools []*lbpool.Pool
			for i, name := range []string{"web", "api", "canary", "left", "right"} {
				pools = append(pools, newPool(t, lbpool.Config{Name: name, Servers: threeServers(i), Algorithm: lbpool.RoundRobin()}))
			}
			group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "shop/1", Members: []lbpool.Member{{Pool: pools[3], Ratio: 90}, {Pool: pools[4], Ratio: 10}}})
			if err != nil {
				t.Fatal(err)
			}
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: pools, PoolGroups: []*lbpool.Group{group}, Persistence: newProfile(t), Transport: answering(ok), OnComplete: recs.add,
				Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{byPath("/api", "api"), byPath("/canary", "canary"), byPath("/shop", "shop/1")}},
			})
			const clients = 50
			server := map[string]string{}
			for round := range 6 {
				for i := range clients {
					v := newBrowser(t, fmt.Sprintf("192.0.2.%d:5000", i+1))
					if round == 0 {
						browsers[t.Name()] = append(browsers[t.Name()], v)
					}
					v = browsers[t.Name()][i]
					for _, path := range []string{"/", "/api", "/shop", "/canary", "/api"} {
						if path == "/canary" && round != 2 {
							continue // one forced visit
						}
						r := v.ask(t, vs, recs, path)
						key := v.addr + path
						if got := r.Pool + " " + r.Server.String(); server[key] == "" {
							server[key] = got
						} else if got != server[key] || r.Outcome != limpet.OutcomeHit {
							t.Errorf("round %d: %s went to %s after %s: %v, %v", round, key, got, server[key], r.Outcome, r.Error)
						}
					}
				}
			}
			var hits uint64
			for _, target := range vs.Stats().Persistence {
				for outcome, n := range target.Outcomes {
					if strings.HasPrefix(outcome.String(), "repin") {
						t.Errorf("%s: %d × %v", target.Target, n, outcome)
					}
				}
				hits += target.Outcomes[limpet.OutcomeHit]
			}
			if want := uint64(clients * (6*4 - 3)); hits != want {
				t.Errorf("%d hits, want %d", hits, want)
			}
		})
	}
}

// browsers are those of a test, by its name.
var browsers = map[string][]*browser{}

// A group has the profile that its members have in common.
func TestPoolPersistence(t *testing.T) {
	a, b := newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0)}), newPool(t, lbpool.Config{Name: "b", Servers: threeServers(1)})
	group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "g", Members: []lbpool.Member{{Pool: a, Ratio: 1}, {Pool: b, Ratio: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	one, other := clientIP(t, persistence.ClientIPConfig{}), clientIP(t, persistence.ClientIPConfig{})
	for _, test := range []struct {
		name     string
		profiles map[string]limpet.PersistenceProfile
		fault    string
	}{
		{"none", nil, ""},
		{"one of two", map[string]limpet.PersistenceProfile{"a": one}, `poolPersistence["g"]: members "a" and "b" have different profiles`},
		{"both", map[string]limpet.PersistenceProfile{"a": one, "b": one}, ""},
		{"its own", map[string]limpet.PersistenceProfile{"a": one, "b": other, "g": one}, ""},
		{"none for the group", map[string]limpet.PersistenceProfile{"a": one, "b": other, "g": limpet.NoPersistence}, ""},
		{"unknown", map[string]limpet.PersistenceProfile{"c": one}, `poolPersistence["c"]: there is no such pool or group`},
		{"nil", map[string]limpet.PersistenceProfile{"a": nil, "b": nil}, `poolPersistence["a"]: missing`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := limpet.New(limpet.Config{Pools: []*lbpool.Pool{a, b}, PoolGroups: []*lbpool.Group{group}, PoolPersistence: test.profiles})
			if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("error %v, want %q", err, test.fault)
			}
		})
	}

	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{a, b}, Transport: answering(ok), OnComplete: recs.add, Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{byPath("/b", "b")}},
		Persistence: one, PoolPersistence: map[string]limpet.PersistenceProfile{"b": limpet.NoPersistence},
	})
	for path, want := range map[string]limpet.Outcome{"/": limpet.OutcomeMiss, "/b": limpet.OutcomeNone} {
		if r := newBrowser(t, "192.0.2.1:1").ask(t, vs, recs, path); r.Outcome != want {
			t.Errorf("%s: %v, want %v", path, r.Outcome, want)
		}
	}
}

// Four requests that a new client sent at once used to go to four servers: it
// was bound only when the first answer came.
func TestParallelFirstRequests(t *testing.T) {
	const parallel = 64
	for _, kind := range []string{"clientIP", "appCookie", "store"} {
		for _, grouped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, group %v", kind, grouped), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0), Algorithm: lbpool.RoundRobin()})
					b := newPool(t, lbpool.Config{Name: "b", Servers: threeServers(1), Algorithm: lbpool.RoundRobin()})
					recs := newRecords()
					cfg := limpet.Config{
						Pools: []*lbpool.Pool{a, b}, Persistence: profiles[kind](t), OnComplete: recs.add,
						Transport: answering(func(r *http.Request) (*http.Response, error) {
							time.Sleep(700 * time.Millisecond)
							return ok(r)
						}),
					}
					if grouped {
						group, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "g", Members: []lbpool.Member{{Pool: a, Ratio: 1}, {Pool: b, Ratio: 1}}})
						if err != nil {
							t.Fatal(err)
						}
						cfg.PoolGroups, cfg.HTTPRequest = []*lbpool.Group{group}, []policy.RequestRule{byPath("/", "g")}
					}
					vs := newVirtualService(t, cfg)
					for client := range 5 {
						v := newBrowser(t, fmt.Sprintf("192.0.2.%d:1", client+1))
						var wg sync.WaitGroup
						for range parallel {
							wg.Go(func() { vs.ServeHTTP(httptest.NewRecorder(), v.request("/")) })
						}
						wg.Wait()
						outcomes := map[limpet.Outcome]int{}
						servers := map[string]int{}
						for _, r := range recs.take(t, parallel) {
							outcomes[r.Outcome]++
							servers[r.Pool+r.Server.String()]++
							if r.Tried != 1 || r.Joined != (r.Outcome == limpet.OutcomeJoined) || r.Error != nil {
								t.Errorf("tried %d, joined %v, %v, %v", r.Tried, r.Joined, r.Outcome, r.Error)
							}
						}
						// Several may have chosen the same server before one of
						// them bound it.
						if len(servers) != 1 || outcomes[limpet.OutcomeMiss] < 1 || outcomes[limpet.OutcomeMiss]+outcomes[limpet.OutcomeJoined]+outcomes[limpet.OutcomeHit] != parallel {
							t.Errorf("servers %v, outcomes %v", servers, outcomes)
						}
					}
				})
			})
		}
	}
}

// Parallel requests meet again on one server when the one that they were bound
// to cannot be connected to.
func TestParallelRepick(t *testing.T) {
	for _, kind := range []string{"clientIP", "appCookie", "store"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0), Algorithm: lbpool.RoundRobin()})
				recs := newRecords()
				var mu sync.Mutex
				dead := map[string]bool{}
				vs := newVirtualService(t, limpet.Config{
					Pools: []*lbpool.Pool{pool}, Persistence: profiles[kind](t), OnComplete: recs.add,
					Transport: answering(func(r *http.Request) (*http.Response, error) {
						time.Sleep(10 * time.Millisecond)
						mu.Lock()
						defer mu.Unlock()
						if dead[r.URL.Host] {
							return nil, fmt.Errorf("%w: refused", lbpool.ErrConnect)
						}
						return ok(r)
					}),
				})
				v := newBrowser(t, "192.0.2.1:1")
				first := v.ask(t, vs, recs, "/")
				mu.Lock()
				dead[first.Server.String()] = true
				mu.Unlock()
				var wg sync.WaitGroup
				const parallel = 16
				for range parallel {
					wg.Go(func() { vs.ServeHTTP(httptest.NewRecorder(), v.request("/")) })
				}
				wg.Wait()
				servers := map[string]int{}
				for _, r := range recs.take(t, parallel) {
					servers[r.Server.String()]++
					if r.Outcome != limpet.RepinDown || r.Status != 200 {
						t.Errorf("%v, status %d, joined %v", r.Outcome, r.Status, r.Joined)
					}
				}
				if len(servers) != 1 || servers[first.Server.String()] > 0 {
					t.Errorf("servers %v after %v", servers, first.Server)
				}
				if r := v.ask(t, vs, recs, "/"); r.Outcome != limpet.OutcomeHit || servers[r.Server.String()] != parallel {
					t.Errorf("then: %v %v", r.Outcome, r.Server)
				}
			})
		})
	}
}

// A client whose only request was an open WebSocket used to be forgotten while
// it was open.
func TestOpenExchangeRenews(t *testing.T) {
	for _, kind := range []string{"clientIP", "appCookie", "store"} {
		for _, runs := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, Run %v", kind, runs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					pool := newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0), Algorithm: lbpool.RoundRobin()})
					recs := newRecords()
					const timeout = 20 * time.Minute
					var profile limpet.PersistenceProfile = clientIP(t, persistence.ClientIPConfig{Timeout: timeout})
					if kind != "clientIP" {
						profile = profiles[kind](t)
					}
					end := make(chan struct{})
					vs := newVirtualService(t, limpet.Config{
						Pools: []*lbpool.Pool{pool}, Persistence: profile, OnComplete: recs.add,
						Transport: answering(func(r *http.Request) (*http.Response, error) {
							res, err := ok(r)
							if r.URL.Path == "/stream" {
								reader, writer := io.Pipe()
								res.Body, res.ContentLength = reader, -1
								go func() {
									<-end
									writer.Close()
								}()
							}
							return res, err
						}),
					})
					if runs {
						defer running(t, vs)()
					}
					v := newBrowser(t, "192.0.2.1:1")
					streamed := make(chan struct{})
					go func() {
						defer close(streamed)
						vs.ServeHTTP(httptest.NewRecorder(), v.request("/stream"))
					}()
					// Without Run the end renews what has not ended.
					lasts := 3 * timeout
					if !runs {
						lasts = profile.(limpet.PersistenceKeeper).Timeout() * 9 / 10
					}
					time.Sleep(lasts)
					close(end)
					<-streamed
					stream := recs.next(t)
					time.Sleep(profile.(limpet.PersistenceKeeper).Timeout() * 9 / 10)
					if r := v.ask(t, vs, recs, "/"); r.Outcome != limpet.OutcomeHit || r.Server != stream.Server {
						t.Errorf("%v on %v, want a hit on %v", r.Outcome, r.Server, stream.Server)
					}
				})
			})
		}
	}
}

// A session that began with the answer of a stream used to be forgotten while
// the stream was open: the request had not brought it.
func TestOpenExchangeRenewsItsSession(t *testing.T) {
	for _, brought := range []string{"", "SESSION=of yesterday"} {
		for _, runs := range []bool{true, false} {
			t.Run(fmt.Sprintf("brought %q, Run %v", brought, runs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					pool := newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0), Algorithm: lbpool.RoundRobin()})
					recs := newRecords()
					profile := appCookie(t, "SESSION")
					end := make(chan struct{})
					vs := newVirtualService(t, limpet.Config{
						Pools: []*lbpool.Pool{pool}, Persistence: profile, OnComplete: recs.add,
						Transport: answering(func(r *http.Request) (*http.Response, error) {
							res, err := ok(r)
							if r.URL.Path == "/stream" {
								res.Header["Set-Cookie"] = []string{"theme=dark", "SESSION=new; Path=/; HttpOnly"}
								reader, writer := io.Pipe()
								res.Body, res.ContentLength = reader, -1
								go func() {
									<-end
									writer.Close()
								}()
							}
							return res, err
						}),
					})
					if runs {
						defer running(t, vs)()
					}
					streamed := make(chan struct{})
					go func() {
						defer close(streamed)
						r := httptest.NewRequest("GET", "/stream", nil)
						r.Header.Set("Cookie", brought)
						vs.ServeHTTP(httptest.NewRecorder(), r)
					}()
					lasts := 3 * profile.Timeout()
					if !runs {
						lasts = profile.Timeout() * 9 / 10
					}
					time.Sleep(lasts)
					close(end)
					<-streamed
					stream := recs.next(t)
					time.Sleep(profile.Timeout() * 9 / 10)
					r := httptest.NewRequest("GET", "/", nil)
					r.Header.Set("Cookie", "SESSION=new")
					vs.ServeHTTP(httptest.NewRecorder(), r)
					if got := recs.next(t); got.Outcome != limpet.OutcomeHit || got.Server != stream.Server {
						t.Errorf("%v on %v, want a hit on %v", got.Outcome, got.Server, stream.Server)
					}
				})
			})
		}
	}
}

// What cannot be looked up is distinguished from what is not there.
func TestOutcomesWithoutKey(t *testing.T) {
	pool := newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0)})
	for _, test := range []struct {
		name, cookie string
		profile      limpet.PersistenceProfile
		want         limpet.Outcome
	}{
		{"no session", "other=1", appCookie(t, "SID"), limpet.OutcomeNoKey},
		{"a session", "SID=1", appCookie(t, "SID"), limpet.OutcomeMiss},
		{"no cookie", "", httpCookie(t, persistence.HTTPCookieConfig{}), limpet.OutcomeMiss},
		{"forged cookie", persistence.DefaultCookieName + "=1.0.AAAA", httpCookie(t, persistence.HTTPCookieConfig{}), limpet.OutcomeInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}, Persistence: test.profile, Transport: answering(ok), OnComplete: recs.add})
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", test.cookie)
			vs.ServeHTTP(httptest.NewRecorder(), r)
			if rec := recs.next(t); rec.Outcome != test.want || rec.Error != nil {
				t.Errorf("%v, %v; want %v", rec.Outcome, rec.Error, test.want)
			}
		})
	}
}

// A server that was found but gave no answer is no hit, and one that is found
// after a failed connection has taken the place of the bound one.
func TestHitNeedsAnswer(t *testing.T) {
	refuse := false
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Pools:       []*lbpool.Pool{newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0)[:1]})},
		Persistence: clientIP(t, persistence.ClientIPConfig{}), OnComplete: recs.add,
		Transport: answering(func(r *http.Request) (*http.Response, error) {
			if refuse {
				return nil, errors.New("connection broken")
			}
			return ok(r)
		}),
	})
	v := newBrowser(t, "192.0.2.1:1")
	for i, want := range []limpet.Outcome{limpet.OutcomeMiss, limpet.OutcomeHit, limpet.OutcomeNone} {
		refuse = i == 2
		if r := v.ask(t, vs, recs, "/"); r.Outcome != want {
			t.Errorf("request %d: %v, want %v", i, r.Outcome, want)
		}
	}
	if s := vs.Stats(); s.Hits != 1 || s.Misses != 1 {
		t.Errorf("%d hits, %d misses", s.Hits, s.Misses)
	}
}

// A store that fails never fails a request.
func TestFailingStore(t *testing.T) {
	broken := errors.New("store is away")
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0)})}, Transport: answering(ok), OnComplete: recs.add,
		Persistence: clientIP(t, persistence.ClientIPConfig{Sessions: failingSessions{broken}, Table: "x"}),
	})
	for range 3 {
		if r := newBrowser(t, "192.0.2.1:1").ask(t, vs, recs, "/"); r.Status != 200 || !errors.Is(r.Error, broken) || r.Outcome != limpet.OutcomeMiss {
			t.Errorf("status %d, error %v, %v", r.Status, r.Error, r.Outcome)
		}
	}
}

// failingSessions are a store that is away.
type failingSessions struct{ err error }

func (f failingSessions) Lookup(context.Context, string, string, time.Duration) (string, time.Duration, bool, error) {
	return "", 0, false, f.err
}

func (f failingSessions) Claim(context.Context, string, string, string, string, time.Duration) (string, time.Duration, error) {
	return "", 0, f.err
}

func (f failingSessions) Put(context.Context, string, string, string, time.Duration) (bool, error) {
	return false, f.err
}

func (f failingSessions) Touch(context.Context, string, string, time.Duration) (bool, error) {
	return false, f.err
}

func (f failingSessions) Remove(context.Context, string, string) error { return f.err }

// Updates with everything built anew used to answer 503 until the new pools
// were checked, and to forget all clients.
func TestUpdateLosesNothing(t *testing.T) {
	t.Parallel()
	for name, newProfile := range profiles {
		if name == "store" {
			continue // it is made with a store of its own
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				updates, streams := 100, 20
				if *full {
					updates, streams = 1000, 500
				}
				const clients = 20
				var latest *lbpool.Pool
				closed := make(chan struct{})
				build := func() limpet.Config {
					monitor := lbpool.HealthMonitor{Name: "m", Interval: 30 * time.Second, Checker: lbpool.CheckerFunc(func(ctx context.Context, _ netip.AddrPort) error {
						time.Sleep(500 * time.Millisecond) // of virtual time
						return nil
					})}
					pool := newPool(t, lbpool.Config{Name: "web", Servers: threeServers(0), Algorithm: lbpool.RoundRobin(), HealthMonitors: []lbpool.HealthMonitor{monitor}})
					latest = pool
					return limpet.Config{
						Pools: []*lbpool.Pool{pool}, Persistence: newProfile(t), OnComplete: func(limpet.Record) {}, Tables: persistence.NewStore(persistence.Options{}),
						Scripts: []limpet.Script{onRequest(t, "count", `avi.vs.table_insert("seen", avi.vs.client_ip(), "yes", 3600)`)},
						Transport: answering(func(r *http.Request) (*http.Response, error) {
							time.Sleep(5 * time.Millisecond)
							res, err := naming(r)
							if r.URL.Path == "/stream" {
								reader, writer := io.Pipe()
								res.Body, res.ContentLength = reader, -1
								go func() {
									<-closed
									writer.Close()
								}()
							}
							return res, err
						}),
					}
				}
				vs := newVirtualService(t, build())
				stop := running(t, vs)
				var wg sync.WaitGroup
				var mu sync.Mutex
				end := make(chan struct{})
				var open sync.WaitGroup
				for i := range streams {
					open.Go(func() {
						w := httptest.NewRecorder()
						vs.ServeHTTP(w, newBrowser(t, fmt.Sprintf("198.51.%d.%d:1", i/250, i%250+1)).request("/stream"))
						if w.Code != 200 {
							t.Errorf("stream: status %d", w.Code)
						}
					})
				}
				for i := range clients {
					b := newBrowser(t, fmt.Sprintf("192.0.2.%d:1", i+1))
					wg.Go(func() {
						server := ""
						for range updates {
							r := b.request("/")
							w := httptest.NewRecorder()
							vs.ServeHTTP(w, r)
							b.jar.SetCookies(r.URL, w.Result().Cookies())
							rec := w.Header().Get("X-Server")
							mu.Lock()
							if w.Code != 200 || server != "" && rec != server {
								t.Errorf("status %d, server %s after %s", w.Code, rec, server)
							}
							mu.Unlock()
							server = rec
							time.Sleep(10 * time.Millisecond)
						}
					})
				}
				go func() {
					wg.Wait()
					close(end)
				}()
				for n := 0; ; n++ {
					select {
					case <-end:
						close(closed)
						open.Wait()
						for _, s := range latest.Servers() {
							if n := s.Open(); n != 0 {
								t.Errorf("%d leases of %v are left", n, s.Addr())
							}
						}
						stop()
						for _, s := range vs.Stats().Persistence {
							for outcome, n := range s.Outcomes {
								if outcome != limpet.OutcomeHit && outcome != limpet.OutcomeMiss || outcome == limpet.OutcomeMiss && n > uint64(clients+streams) {
									t.Errorf("%d × %v", n, outcome)
								}
							}
						}
						return
					default:
						if err := vs.Update(build()); err != nil {
							t.Fatal(err)
						}
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
		})
	}
}

// Servers do not get the cookies that are between limpet and its clients.
func TestServersGetNoPersistenceCookie(t *testing.T) {
	for _, pass := range []bool{false, true} {
		got := ""
		recs := newRecords()
		vs := newVirtualService(t, limpet.Config{
			Pools: []*lbpool.Pool{newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0)})}, OnComplete: recs.add,
			Persistence: httpCookie(t, persistence.HTTPCookieConfig{PassToServers: pass}),
			Transport: answering(func(r *http.Request) (*http.Response, error) {
				got = r.Header.Get("Cookie")
				return ok(r)
			}),
		})
		b := newBrowser(t, "192.0.2.1:1")
		b.ask(t, vs, recs, "/")
		if r := b.ask(t, vs, recs, "/"); r.Outcome != limpet.OutcomeHit || r.BindingSource != persistence.FromCookie {
			t.Errorf("%v from %v", r.Outcome, r.BindingSource)
		}
		if strings.Contains(got, persistence.DefaultCookieName) != pass || !strings.Contains(got, "SESSION=") {
			t.Errorf("pass %v: the server got %q", pass, got)
		}
	}
}

// TestBindingSource is where the record says that a server was found.
func TestBindingSource(t *testing.T) {
	store := persistence.NewStore(persistence.Options{})
	header, err := persistence.NewCustomHeader(persistence.CustomHeaderConfig{Name: "X-Server", Servers: map[string]string{"a": "10.0.0.1:80"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		profile limpet.PersistenceProfile
		scripts []limpet.Script
		want    persistence.Source
	}{
		{"memory", clientIP(t, persistence.ClientIPConfig{}), nil, persistence.FromMemory},
		{"store in memory", clientIP(t, persistence.ClientIPConfig{Sessions: store, Table: "x"}), nil, persistence.FromMemory},
		{"another store", clientIP(t, persistence.ClientIPConfig{Sessions: notingSessions{store}, Table: "y"}), nil, persistence.FromNear},
		{"map", header, nil, persistence.FromMap},
		{"script", nil, []limpet.Script{compile(t, "Custom Persistence", customPersistence)}, persistence.FromScript},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{newPool(t, lbpool.Config{Name: "my_pool", Servers: threeServers(0)})}, Transport: answering(ok), OnComplete: recs.add,
				Persistence: test.profile, Scripts: test.scripts,
			})
			for i := range 2 {
				r := newBrowser(t, "192.0.2.1:1").request("/")
				r.Header.Set("X-Server", "a")
				vs.ServeHTTP(httptest.NewRecorder(), r)
				rec := recs.next(t)
				counted := vs.Stats().Persistence[0].Sources[test.want]
				if rec.Outcome == limpet.OutcomeHit && counted == 0 || rec.BindingSource == "" && counted > 0 {
					t.Errorf("request %d: %d from %q are counted", i, counted, test.want)
				}
				if found := rec.Outcome == limpet.OutcomeHit; found && rec.BindingSource != test.want || !found && (rec.BindingSource != "" || i == 1) {
					t.Errorf("request %d: %v from %q", i, rec.Outcome, rec.BindingSource)
				}
			}
		})
	}
}

// notingSessions say that all is in a near cache.
type notingSessions struct{ *persistence.Store }

func (s notingSessions) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	persistence.NoteSource(ctx, persistence.FromNear)
	return s.Store.Lookup(ctx, table, key, extend)
}

// A rule that names the pool used to undo what a script had selected in that
// pool, and the record said hit.
func TestScriptSelectsInPoolOfRule(t *testing.T) {
	const script = `-- HTTP_REQ
avi.pool.select("web", avi.vs.table_lookup(avi.vs.client_ip(), 0))
-- HTTP_RESP
avi.vs.table_insert(avi.vs.client_ip(), avi.pool.server_ip(), 300)`
	for _, test := range []struct {
		name   string
		action policy.SwitchPool
		want   [3]limpet.Outcome
		sticks bool
	}{
		{"the same pool", policy.SwitchPool{Name: "web"}, [3]limpet.Outcome{limpet.OutcomeMiss, limpet.OutcomeHit, limpet.OutcomeHit}, true},
		{"another pool", policy.SwitchPool{Name: "api"}, [3]limpet.Outcome{limpet.OutcomeMiss, limpet.OutcomeNone, limpet.OutcomeNone}, false},
		{"a server", policy.SwitchPool{Name: "web", Server: netip.MustParseAddrPort("10.0.0.2:80")}, [3]limpet.Outcome{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{
					newPool(t, lbpool.Config{Name: "web", Servers: threeServers(0), Algorithm: lbpool.RoundRobin()}),
					newPool(t, lbpool.Config{Name: "api", Servers: threeServers(1), Algorithm: lbpool.RoundRobin()}),
				},
				Transport: answering(ok), OnComplete: recs.add, Scripts: []limpet.Script{compile(t, "stick", script)},
				Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "all", Action: policy.Modify{Pool: test.action}}}},
			})
			first := netip.AddrPort{}
			for i, want := range test.want {
				r := newBrowser(t, "192.0.2.1:1").ask(t, vs, recs, "/")
				if i == 0 {
					first = r.Server
				}
				if r.Pool != test.action.Name || r.Outcome != want || (r.Server == first) != (i == 0 || test.sticks) {
					t.Errorf("request %d: %v in %s after %v: %v, want %v", i, r.Server, r.Pool, first, r.Outcome, want)
				}
			}
		})
	}
}

// Scripts look tables up for many reasons. A hit used to be said of the binding
// whatever the entry was for.
func TestForeignLookup(t *testing.T) {
	for name, profile := range map[string]limpet.PersistenceProfile{"profile": httpCookie(t, persistence.HTTPCookieConfig{}), "none": nil} {
		recs := newRecords()
		vs := newVirtualService(t, limpet.Config{
			Pools: []*lbpool.Pool{newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0)})}, Transport: answering(ok), OnComplete: recs.add, Persistence: profile,
			Scripts: []limpet.Script{onRequest(t, "seen", `avi.vs.table_lookup("seen", "k", 0) avi.vs.table_insert("seen", "k", "yes", 300)`)},
		})
		for i := range 3 {
			want := limpet.OutcomeMiss
			if profile == nil && i > 0 {
				want = limpet.OutcomeNone
			}
			if r := newBrowser(t, "192.0.2.1:1").ask(t, vs, recs, "/"); r.Outcome != want || r.BindingSource != "" {
				t.Errorf("%s, request %d: %v from %q, want %v", name, i, r.Outcome, r.BindingSource, want)
			}
		}
	}
}

// A record tells where a client came from, and why its server was given up.
func TestRecordOfMove(t *testing.T) {
	recs := newRecords()
	dead := ""
	vs := newVirtualService(t, limpet.Config{
		Pools:       []*lbpool.Pool{newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0), Algorithm: lbpool.RoundRobin()})},
		Persistence: clientIP(t, persistence.ClientIPConfig{}), OnComplete: recs.add,
		Transport: answering(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == dead {
				return nil, fmt.Errorf("%w: refused", lbpool.ErrConnect)
			}
			return ok(r)
		}),
	})
	b := newBrowser(t, "192.0.2.1:1")
	first := b.ask(t, vs, recs, "/")
	if first.Bound.IsValid() || first.GivenUp != nil {
		t.Errorf("bound to %v, given up: %v", first.Bound, first.GivenUp)
	}
	dead = first.Server.String()
	moved := b.ask(t, vs, recs, "/")
	if moved.Bound != first.Server || moved.Server == first.Server || moved.Tried != 2 || moved.GivenUp == nil || !strings.Contains(moved.GivenUp.Error(), dead) {
		t.Errorf("bound to %v, server %v, %d tried, given up: %v", moved.Bound, moved.Server, moved.Tried, moved.GivenUp)
	}
	if again := b.ask(t, vs, recs, "/"); again.Bound.IsValid() || again.GivenUp != nil || again.Server != moved.Server {
		t.Errorf("then: bound to %v, server %v, given up: %v", again.Bound, again.Server, again.GivenUp)
	}
}

// A wrapped handler that answers instead of a server, which could not be
// reached, binds nobody to that server.
func TestWrappedHandlerAnswersForServer(t *testing.T) {
	for _, kind := range []string{"clientIP", "appCookie", "httpCookie"} {
		recs := newRecords()
		var dead bool
		forward := &lbpool.Transport{Base: answering(func(r *http.Request) (*http.Response, error) {
			if dead {
				return nil, fmt.Errorf("%w: refused", lbpool.ErrConnect)
			}
			return naming(r)
		})}
		h := newVirtualService(t, limpet.Config{
			Pools:       []*lbpool.Pool{newPool(t, lbpool.Config{Name: "a", Servers: threeServers(0), Algorithm: lbpool.RoundRobin()})},
			Persistence: profiles[kind](t), OnComplete: recs.add,
		}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			res, err := forward.RoundTrip(r)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer res.Body.Close()
			w.WriteHeader(res.StatusCode)
		}))
		b := newBrowser(t, "192.0.2.1:1")
		ask := func() limpet.Record {
			r, w := b.request("/"), httptest.NewRecorder()
			h.ServeHTTP(w, r)
			b.jar.SetCookies(r.URL, w.Result().Cookies())
			return recs.next(t)
		}
		first := ask()
		dead = true
		if r := ask(); r.Status != 502 || r.Outcome == limpet.OutcomeHit {
			t.Errorf("%s: status %d, %v", kind, r.Status, r.Outcome)
		}
		dead = false
		if r := ask(); r.Server != first.Server || r.Outcome != limpet.OutcomeHit {
			t.Errorf("%s: then %v on %v, want a hit on %v", kind, r.Outcome, r.Server, first.Server)
		}
	}
}

// A hit was reported, and counted, of requests that no server had answered: of
// all of them while the servers were down, of those that a script refused, and
// of those of a wrapped handler.
func TestNoHitWithoutServer(t *testing.T) {
	dead := deadAddr(t, "127.0.0.1:0")
	for _, tt := range []struct {
		name   string
		script string // behind the one that sticks
		dead   bool
		wrap   bool
		status int
		want   limpet.Outcome
	}{
		{name: "answered", status: 200, want: limpet.OutcomeHit},
		{name: "the server is down", dead: true, status: 502},
		{name: "refused by a script", script: "avi.http.response(403)", status: 403},
		{name: "a script fails", script: "error('x')", status: 500},
		{name: "wrapped handler", wrap: true, status: 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := startServer(t, "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			if tt.dead {
				server = dead
			}
			store := persistence.NewStore(persistence.Options{})
			if _, err := store.Insert(t.Context(), "", "192.0.2.1", server, time.Hour); err != nil {
				t.Fatal(err)
			}
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: server})}, Tables: store, OnComplete: recs.add,
				PersistenceHeader: "X-Stick",
				Scripts: []limpet.Script{
					onRequest(t, "stick", `local s = avi.vs.table_lookup(avi.vs.client_ip()) if s then avi.pool.select("my_pool", avi.vs.client_ip()) end`),
					onRequest(t, "other", tt.script),
				},
			})
			var h http.Handler = vs
			if tt.wrap {
				h = vs.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			rec := recs.next(t)
			if w.Code != tt.status || rec.Outcome != tt.want || w.Header().Get("X-Stick") != tt.want.String() {
				t.Errorf("status %d, record %q, header %q; want %d, %q (script errors %v)", w.Code, rec.Outcome, w.Header().Get("X-Stick"), tt.status, tt.want, rec.ScriptErrors)
			}
		})
	}
}
