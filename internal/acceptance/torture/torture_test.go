package torture_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

var full = flag.Bool("full", false, "run the torture test with 1,000 clients instead of 100, and longer")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A way is a way of sticking.
type way struct {
	name string
	// profile sets the profiles of a configuration.
	profile func(*world, *limpet.Config)
	// script is the source of a script. POOL stands for the pool, TABLE for a
	// table and a comma.
	script string
	// issues is the header in which servers issue sessions.
	issues string
	// prepare makes a request that of a client.
	prepare func(*world, *client, *http.Request)
	// claims means that the key is bound when the server is chosen.
	claims bool
	// tables means that bindings are in a table.
	tables bool
	// byAddress means that the key is the client's address.
	byAddress bool
	// hashed means that nothing is remembered: a client follows its key.
	hashed bool
	// cookies means that the key comes in a cookie, or in the place of one.
	cookies bool
	// fixed returns the server that a client asks for.
	fixed func(w *world, c *client, target string) string
}

func (w way) algorithm() lbpool.Algorithm {
	if w.hashed {
		return lbpool.ConsistentHash(lbpool.ConsistentHashConfig{})
	}
	return lbpool.RoundRobin()
}

// source returns the script for a setting.
func (w way) source(s setting) string {
	pool, table := `"my_pool"`, ""
	switch {
	case s.targets:
		pool, table = `TARGET()`, `TARGET(), `
	case s.shop:
		pool = `"shop"`
	}
	source := strings.NewReplacer("POOL", pool, "TABLE, ", table).Replace(w.script)
	if s.targets {
		target := `local function TARGET()
   local path = avi.http.get_path()
   return path == "/api" and "api" or path == "/shop" and "shop" or "my_pool"
end
`
		source = strings.ReplaceAll(source, "Event --\n", "Event --\n"+target)
	}
	return source
}

func jsession(before ...string) func(*world, *client, *http.Request) {
	return func(w *world, c *client, r *http.Request) {
		sendCookies(w, c, r, before...)
	}
}

// sendCookies sends the cookies that a client has, and, if cookies are odd,
// others before them: stale ones of the same name, with quotes, JSON, blanks
// and attributes.
func sendCookies(w *world, c *client, r *http.Request, stale ...string) {
	var list []string
	if c.odd {
		list = append(list, "$Version=1", "$Path=/", `a="b; c`, `{"x":1}`, "empty=", "=nameless", " spaced = x y ", "theme=dark; Path=/; HttpOnly")
		if c.n%2 == 0 || len(c.bindings) > 0 { // some from the beginning, some later
			for _, s := range stale {
				list = append(list, s+fmt.Sprint(c.n))
			}
		}
	}
	for name, value := range c.cookies {
		list = append(list, name+"="+value)
	}
	if w.way.cookies && c.session != "" {
		list = append(list, "JSESSIONID="+c.session)
	}
	if len(list) > 0 {
		r.Header.Set("Cookie", strings.Join(list, "; "))
	}
}

// bringSession has a client choose its session.
func bringSession(w *world, c *client) {
	if c.session == "" {
		c.session = fmt.Sprintf("session-%d-%v", c.n, c.newcomer)
		if c.odd {
			c.session = oddValue(c.n)
		}
	}
}

// ways are all of them.
func ways() []way {
	appCookie := func(w *world, cfg *limpet.Config) {
		p, err := persistence.NewAppCookie(persistence.AppCookieConfig{
			Name: "JSESSIONID", Timeout: w.timeout, MaxEntries: w.entries, Sessions: w.sessions(), Table: "sessions",
		})
		if err != nil {
			w.Fatal(err)
		}
		cfg.Persistence = p
	}
	return []way{
		{
			name: "ClientIP", claims: true, tables: true, byAddress: true,
			profile: func(w *world, cfg *limpet.Config) {
				p, err := persistence.NewClientIP(persistence.ClientIPConfig{
					Timeout: w.timeout, MaxEntries: w.entries, Sessions: w.sessions(), Table: "clients",
				})
				if err != nil {
					w.Fatal(err)
				}
				cfg.Persistence = p
			},
			prepare: jsession(),
		},
		{
			name: "AppCookie, brought", claims: true, tables: true, cookies: true, profile: appCookie,
			prepare: func(w *world, c *client, r *http.Request) {
				bringSession(w, c)
				sendCookies(w, c, r, "JSESSIONID=stale", `JSESSIONID="stale" `)
			},
		},
		{
			name: "AppCookie, learned", tables: true, cookies: true, profile: appCookie, issues: "Set-Cookie",
			prepare: jsession("JSESSIONID=stale", `JSESSIONID={"stale":2}`),
		},
		{
			name: "AppCookie, ;jsessionid=", claims: true, tables: true, profile: appCookie,
			prepare: func(w *world, c *client, r *http.Request) {
				if c.session == "" {
					c.session = fmt.Sprintf("path-%d-%v", c.n, c.newcomer)
				}
				sendCookies(w, c, r, "JSESSIONID=stale", "jsessionid=other")
				name := []string{";jsessionid=", ";JSESSIONID=", ";JSessionId="}[c.n%3]
				r.URL.Path += name + c.session
			},
		},
		{
			name: "HTTPCookie", cookies: true,
			profile: func(w *world, cfg *limpet.Config) {
				c := persistence.HTTPCookieConfig{Timeout: w.timeout}
				if w.saved {
					c.Keys = []persistence.CookieKey{{ID: "1", Secret: make([]byte, 32)}}
				}
				p, err := persistence.NewHTTPCookie(c)
				if err != nil {
					w.Fatal(err)
				}
				cfg.Persistence = p
			},
			prepare: jsession(persistence.DefaultCookieName+"=forged", persistence.DefaultCookieName+`="1.0.AAAA"`),
		},
		{
			name: "CustomHeader",
			profile: func(w *world, cfg *limpet.Config) {
				cfg.PoolPersistence = map[string]limpet.PersistenceProfile{}
				for _, pool := range []string{"my_pool", "api", "canary", "left"} {
					servers := map[string]string{}
					for i := range perPool {
						servers[fmt.Sprintf("shard-%d", i)] = w.server(pool, i)
					}
					p, err := persistence.NewCustomHeader(persistence.CustomHeaderConfig{Name: "X-Shard", Servers: servers})
					if err != nil {
						w.Fatal(err)
					}
					if pool == "left" {
						pool = "shop"
					}
					cfg.PoolPersistence[pool] = p
				}
			},
			prepare: func(w *world, c *client, r *http.Request) {
				r.Header.Set("X-Shard", fmt.Sprintf("shard-%d", c.n%perPool))
				sendCookies(w, c, r)
			},
			claims: true,
			fixed: func(w *world, c *client, target string) string {
				if target == "shop" {
					target = "left"
				}
				return w.server(target, c.n%perPool)
			},
		},
		{
			name: "listing, by key", tables: true, byAddress: true, prepare: jsession(),
			script: `-- HTTP Request Event --
pool = POOL
client = avi.vs.client_ip() .. avi.vs.client_port()
server = avi.vs.table_lookup(TABLE, client)
timeout = "300"

if server then
   avi.pool.select(pool, client)
end


-- HTTP Response Event --
if not server then
   avi.vs.table_insert(TABLE, client, avi.pool.server_ip(), timeout)
end
`,
		},
		{
			name: "README, by value", tables: true, byAddress: true, prepare: jsession(),
			script: `-- HTTP Request Event --
client = avi.vs.client_ip()
avi.pool.select(POOL, avi.vs.table_lookup(TABLE, client, 0))
-- HTTP Response Event --
avi.vs.table_insert(TABLE, client, avi.pool.server_ip(), 300)`,
		},
		{
			name: "script, cookie learned", tables: true, cookies: true, issues: "Set-Cookie", prepare: jsession(),
			script: `-- HTTP Request Event --
session = avi.http.get_cookie("JSESSIONID")
server, left = avi.vs.table_lookup(session, 0)
avi.pool.select(POOL, server, left)
-- HTTP Response Event --
local issued = avi.http.get_cookie("JSESSIONID", avi.HTTP_RESPONSE)
local key = issued or server and session
if key and key ~= "" then
   if key ~= session then avi.vs.table_remove(key) end
   avi.vs.table_insert(key, avi.pool.server_ip(), 1200)
end`,
		},
		{
			name: "script, header learned", tables: true, issues: "Mcp-Session-Id",
			prepare: func(w *world, c *client, r *http.Request) {
				sendCookies(w, c, r)
				if c.session != "" {
					r.Header.Set("Mcp-Session-Id", c.session)
				}
			},
			script: `-- HTTP Request Event --
session = avi.http.get_header("Mcp-Session-Id")
server, left = avi.vs.table_lookup(session, 0)
avi.pool.select(POOL, server, left)
-- HTTP Response Event --
local issued = avi.http.get_header("Mcp-Session-Id", avi.HTTP_RESPONSE)
local key = issued or server and session
if key then
   if key ~= session then avi.vs.table_remove(key) end
   avi.vs.table_insert(key, avi.pool.server_ip(), 3600)
end`,
		},
		{name: "consistent hash", claims: true, byAddress: true, hashed: true, prepare: jsession()},
	}
}

// An event is what clients are put through.
type event struct {
	name string
	// allows is the share of requests that the model lets go to another
	// server than the one that is right. Nil means none.
	allows  func(w way, store string) float64
	setting setting
	run     func(*world)
	// not tells why it makes no sense for a way, "" if it does.
	not func(w way, store string) string
	// virtual runs it in virtual time.
	virtual bool
}

// Where tables are.
const (
	memory = "memory"
	redis  = "Redis"
	away   = "Redis lost" // after two rounds, and back before the last two
)

// size is n in full, else small, or with -short a part of that.
func size(n, small int) int {
	switch {
	case *full:
		return n
	case testing.Short():
		return max(1, small/4)
	}
	return small
}

func always(way, string) string { return "" }

func onlyFloods(uses int) func(way, string) string {
	return func(w way, store string) string {
		switch {
		case !w.tables:
			return "no table can be flooded"
		case store != memory && uses > 1 && !*full:
			return "takes too long for the small form"
		}
		return ""
	}
}

// floodAllows is what clients may lose to a flood. A full table on Redis gives
// up the entry that ends first, and a profile renews an entry when a tenth of
// its time is over: until then the order is that of arrival, and no client is
// spared. Scripts renew with each response.
func floodAllows(w way, store string) float64 {
	if store == redis && w.script == "" {
		return 1
	}
	return 0.01
}

func scriptTargets(w way, _ string) string {
	if w.script != "" && w.issues != "" {
		return "a session is good for the pool that has issued it"
	}
	if w.script != "" && strings.Contains(w.name, "by key") {
		return "selects by the keys of the default table, which is for one pool"
	}
	return ""
}

// first is the server of the first client, so that somebody is on it.
func (w *world) first() string { return w.clients[0].bindings["my_pool"].server }

func events() []event {
	n := size(1000, 25)
	base := setting{clients: n}
	with := func(f func(*setting)) setting {
		s := base
		f(&s)
		return s
	}
	rounds := func(w *world, n int) {
		for range n {
			w.round()
		}
	}
	flood := func(uses int) func(*world) {
		return func(w *world) {
			rounds(w, 2)
			total := w.entries * max(2, size(8, 2))
			if w.redis != nil {
				total = w.entries * 2
			}
			every := w.entries * 6 / 10
			for done := 0; done < total; done += every {
				w.flood(done, every, uses)
				w.round()
			}
		}
	}
	restartOne := func(w *world) {
		rounds(w, 2)
		s := w.first()
		w.kill(s)
		rounds(w, 2)
		w.revive(s)
		rounds(w, 2)
	}
	list := []event{
		{name: "plain repeats", setting: base, not: always, run: func(w *world) { rounds(w, 5) }},
		{name: "one server restarts", setting: base, not: always, run: restartOne},
		{name: "all restart in turn", setting: base, not: always, run: func(w *world) {
			rounds(w, 2)
			for i := range perPool {
				s := w.server("my_pool", i)
				w.kill(s)
				w.round()
				w.revive(s)
				w.round()
			}
		}},
		{name: "drain", setting: base, not: always, run: func(w *world) {
			rounds(w, 2)
			s := w.first()
			w.drain(s)
			rounds(w, 2)
			w.enable(s)
			rounds(w, 2)
		}},
		{name: "drain, bound kept", setting: with(func(s *setting) { s.keepBound = true }), not: always, run: func(w *world) {
			rounds(w, 2)
			s := w.first()
			w.drain(s)
			rounds(w, 2)
			w.enable(s)
			rounds(w, 2)
		}},
		{name: "update", setting: base, not: always, run: func(w *world) {
			rounds(w, 2)
			var wg sync.WaitGroup
			wg.Go(func() { rounds(w, 4) })
			for range 5 {
				w.update()
			}
			wg.Wait()
			rounds(w, 1)
		}},
		{name: "discovery", setting: with(func(s *setting) { s.discovers = true }), not: always, run: func(w *world) {
			w.discover(2)
			rounds(w, 2)
			w.discover(1)
			rounds(w, 2)
			w.discover(2)
			rounds(w, 1)
			w.discover(0)
			rounds(w, 2)
		}},
		{name: "two pools", setting: with(func(s *setting) { s.targets = true }), not: scriptTargets, run: func(w *world) {
			for range 4 {
				w.round("/", "/api")
			}
		}},
		{name: "canary", setting: base, not: always, run: func(w *world) {
			for i := range 5 {
				w.round()
				if i%2 == 1 {
					w.each(func(c *client) { w.visitCanary(c) })
				}
			}
		}},
		{name: "90/10 group", setting: with(func(s *setting) { s.shop = true }), not: func(w way, _ string) string {
			switch {
			case w.hashed:
				return "without a binding nobody has a side of the group"
			case strings.Contains(w.name, "by key"):
				return "the listing leaves clients without an entry to the default pool"
			}
			return ""
		}, run: func(w *world) { rounds(w, 5) }},
		{name: "odd cookies", setting: with(func(s *setting) { s.odd = true }), not: always, run: func(w *world) { rounds(w, 4) }},
		{name: "IPv6 /48", setting: with(func(s *setting) { s.ipv6, s.clients = true, size(60_000, 1_500) }), not: func(w way, store string) string {
			if !w.byAddress {
				return "the address is no part of the key"
			}
			if store == away {
				return "as with Redis"
			}
			return ""
		}, run: func(w *world) {
			rounds(w, 2)
		}},
	}
	for uses, name := range []string{1: "flood, once", 2: "twice", 3: "three times"} {
		if uses > 0 {
			list = append(list, event{name: name, allows: floodAllows, setting: with(func(s *setting) { s.entries = 13 * s.clients }), not: onlyFloods(uses), run: flood(uses)})
		}
	}
	return append(list,
		event{name: "process restarts", setting: with(func(s *setting) { s.saved = true }), not: always, run: func(w *world) {
			for range 3 {
				rounds(w, 2)
				w.restart()
			}
			rounds(w, 2)
		}},
		event{name: "parallel firsts", setting: base, not: always, run: func(w *world) {
			w.each(func(c *client) { w.pair(c, "/") })
			rounds(w, 3)
		}},
		event{name: "one address", setting: with(func(s *setting) { s.shared = true }), not: always, run: restartOne},
		event{name: "open stream", setting: with(func(s *setting) { s.clients, s.timeout, s.runs = 20, 20*time.Minute, true }), virtual: true, not: func(w way, store string) string {
			switch {
			case store != memory:
				return "needs virtual time, which a Redis server does not have"
			case w.script != "":
				return "lifetimes of scripts are as written"
			case w.name == "HTTPCookie":
				return "an open stream cannot renew a cookie, as the document says"
			}
			return ""
		}, run: func(w *world) {
			w.streams = make(chan struct{})
			var wg sync.WaitGroup
			for _, c := range w.clients {
				wg.Go(func() { w.request(c, "/stream", nil) })
			}
			synctest.Wait()
			<-time.After(3 * w.timeout)
			close(w.streams)
			wg.Wait()
			<-time.After(w.timeout * 9 / 10)
			w.round()
		}},
		event{name: "over sockets", setting: with(func(s *setting) { s.clients, s.sockets = size(100, 5), true }), not: func(w way, store string) string {
			switch {
			case w.byAddress:
				return "all clients have one address"
			case store == away:
				return "as with Redis"
			}
			return ""
		}, run: restartOne},
		event{name: "random orders", not: always, run: nil},
	)
}

func (w *world) visitCanary(c *client) { w.request(c, "/", http.Header{"X-Canary": {"1"}}) }

// flood has keys used that nobody has used before.
func (w *world) flood(from, n, uses int) {
	next := make(chan int, n)
	for i := range n {
		next <- from + i
	}
	close(next)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				c := w.newClient(1_000_000 + i)
				c.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(40 + i>>16), byte(i >> 8), byte(i), 1}), 30000).String()
				c.newcomer = true
				for range uses {
					w.request(c, "/", nil)
				}
			}
		})
	}
	wg.Wait()
}

// randomly runs a random order of events.
func (w *world) randomly(rnd *rand.Rand) (ops []string) {
	dead, drained := "", ""
	paths := []string{"/"}
	if w.targets {
		paths = append(paths, "/api")
	}
	some := func() string { return w.server("my_pool", rnd.IntN(perPool)) }
	for range 15 {
		op := []string{"round", "round", "kill", "revive", "drain", "enable", "update", "restart", "find", "canary", "lose", "heal"}[rnd.IntN(12)]
		switch {
		case op == "kill" && dead == "":
			dead = some()
			w.kill(dead)
			op += " " + dead
		case op == "revive" && dead != "":
			w.revive(dead)
			dead = ""
		case op == "drain" && drained == "":
			drained = some()
			w.drain(drained)
			op += " " + drained
		case op == "enable" && drained != "":
			w.enable(drained)
			drained = ""
		case op == "update":
			w.update()
		case op == "restart" && w.saved:
			w.restart()
			drained = ""
		case op == "find" && w.discovers:
			n := rnd.IntN(3)
			w.discover(n)
			op += fmt.Sprint(" ", n)
		case op == "canary":
			w.each(w.visitCanary)
		case op == "lose" && w.redis != nil && w.redis.loses:
			w.lose()
		case op == "heal" && w.lost:
			w.heal()
		case op == "round":
		default:
			continue
		}
		ops = append(ops, op)
		if w.wrong.Load() > 0 {
			return ops
		}
		w.round(paths...)
		if w.wrong.Load() > 0 {
			return ops
		}
	}
	return ops
}

// TestTorture puts the clients of each way of sticking through each event, and
// prints which share of their requests went to another server than the model
// allows. See internal/assurance/stickiness.md.
//
// Requests are made by ServeHTTP and answered in the process, except those of
// the event "over sockets", for which clients, virtual service and servers have
// real connections.
func TestTorture(t *testing.T) {
	server := redistest.Start(t)
	events := events()
	type row struct {
		name  string
		cells []string
	}
	var rows []*row
	t.Run("ways", func(t *testing.T) {
		for i, w := range ways() {
			for _, store := range []string{memory, redis, away} {
				if testing.Short() && store != memory && i%4 > 0 {
					continue
				}
				if store != memory && !w.tables {
					continue // there is nothing to be kept
				}
				r := &row{name: w.name, cells: make([]string, len(events))}
				if w.tables {
					r.name += ", " + store
				}
				rows = append(rows, r)
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					for i, e := range events {
						r.cells[i] = "-"
						if e.not(w, store) == "" {
							t.Run(e.name, func(t *testing.T) { r.cells[i] = torture(t, w, e, store, server) })
						}
					}
				})
			}
		}
	})
	var b strings.Builder
	tab := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprint(tab, "| Way\t")
	for _, e := range events {
		fmt.Fprintf(tab, "| %s\t", e.name)
	}
	fmt.Fprint(tab, "|\n|---\t"+strings.Repeat("|---\t", len(events))+"|\n")
	for _, r := range rows {
		fmt.Fprintf(tab, "| %s\t| %s\t|\n", r.name, strings.Join(r.cells, "\t| "))
	}
	tab.Flush()
	t.Logf("share of requests that went to a wrong server\n%s", b.String())
}

// torture puts the clients of one way through one event.
func torture(t *testing.T, w way, e event, store string, server *redistest.Server) (cell string) {
	if e.run == nil {
		return randomOrders(t, w, store, server)
	}
	run := func(t *testing.T) {
		var l *link
		if store != memory {
			l = newLink(t, server.Addr, store == away)
		}
		s := e.setting
		if store != memory && !*full {
			s.clients = min(s.clients, 40)
		}
		v := newWorld(t, w, s, l)
		defer v.end()
		e.run(v)
		if store == away {
			v.lose()
			v.round()
			v.heal()
			v.round()
			v.round()
		}
		v.close()
		wrong, requests := v.wrong.Load(), v.requests.Load()
		share := float64(wrong) / float64(requests)
		cell = "0"
		if wrong > 0 {
			cell = fmt.Sprintf("%.2g %%", 100*share)
		}
		allows := 0.0
		if e.allows != nil {
			allows = e.allows(w, store)
		}
		if v.missed() {
			t.Log("Redis did not answer in time though nobody had cut it off: what was bound meanwhile may be bound elsewhere")
			allows = 1
		}
		if share > allows {
			t.Errorf("%d of %d requests went to a wrong server (%s; the model allows %g %%); the first: %s", wrong, requests, cell, 100*allows, *v.firstErr.Load())
		}
	}
	if e.virtual {
		synctest.Test(t, run)
	} else {
		run(t)
	}
	return cell
}

// randomOrders looks for an order of events after which a client is on the
// wrong server.
func randomOrders(t *testing.T, w way, store string, server *redistest.Server) (cell string) {
	var wrong, requests int64
	var l *link
	if store != memory {
		l = newLink(t, server.Addr, store == away)
	}
	for seed := range uint64(size(40, 2)) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := setting{
			clients: 20, shared: rnd.IntN(3) == 0, keepBound: rnd.IntN(2) == 0, saved: rnd.IntN(2) == 0 || l != nil, discovers: rnd.IntN(2) == 0,
			targets: rnd.IntN(2) == 0 && scriptTargets(w, store) == "", odd: rnd.IntN(4) == 0 && w.script == "",
		}
		if l != nil {
			l.n++
			l.heal()
		}
		v := newWorld(t, w, s, l)
		ops := v.randomly(rnd)
		v.end()
		wrong, requests = wrong+v.wrong.Load(), requests+v.requests.Load()
		if text := v.firstErr.Load(); text != nil && !v.missed() {
			t.Errorf("seed %d, %+v: %s after %s", seed, s, *text, strings.Join(ops, ", "))
		}
	}
	if wrong > 0 {
		return fmt.Sprintf("%.2g %%", 100*float64(wrong)/float64(requests))
	}
	return "0"
}
