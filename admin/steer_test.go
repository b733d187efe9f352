package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

const web2 = shop + "/pools/web/servers/web-2"

// stores are the stores of the tests.
func stores(t *testing.T, f func(t *testing.T, tables limpet.Tables)) {
	t.Run("memory", func(t *testing.T) { f(t, persistence.NewStore(persistence.Options{})) })
	t.Run("redis", func(t *testing.T) {
		store, err := redisstore.New(redisstore.Config{Addresses: []string{redistest.Start(t).Addr}, Timeout: time.Second})
		must(t, err)
		t.Cleanup(func() { _ = store.Close() })
		testwait.Until(t, "Redis", func() bool { return store.Ping(context.Background()) == nil })
		f(t, store)
	})
}

// TestDrain: a draining server keeps its clients and gets no others, until none
// is left.
func TestDrain(t *testing.T) {
	stores(t, func(t *testing.T, tables limpet.Tables) {
		b := newBench(t, setup{config: func(c *limpet.Config) { c.Tables = tables }})
		const clients = 20
		for i := range clients {
			if a := b.do("PUT", shop+"/entries", fmt.Sprintf(`{"key":"client%d","value":"%s","lifetime_seconds":3600}`, i, b.addr(1))); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
		var counts countsView
		b.do("GET", shop+"/tables/counts", "").get(t, &counts)
		if len(counts.Servers) != 1 || counts.Servers[0].Entries != clients || counts.Servers[0].Server != "web-2" {
			t.Errorf("%+v", counts)
		}
		events := b.listen("/v1/events", "")
		var s serverView
		b.do("PATCH", web2, `{"state":"draining"}`).get(t, &s)
		if s.State != "draining" || s.Drain == nil || !s.Drain.KeepBound || s.Override == "" || !strings.HasPrefix(s.By, "uid ") && s.By != "socket" {
			t.Fatalf("%+v", s)
		}
		before := b.hits[1].Load()
		for range 20 {
			b.visit("/")
		}
		if n := b.hits[1].Load() - before; n != 0 {
			t.Errorf("%d new clients came to the draining server", n)
		}
		for i := range clients {
			b.visit("/", header("X-Client", fmt.Sprintf("client%d", i)))
		}
		if n := b.hits[1].Load() - before; n != clients {
			t.Errorf("%d of %d bound clients stayed", n, clients)
		}
		testwait.Until(t, "count of the clients", func() bool {
			b.do("GET", web2, "").get(t, &s)
			return s.Drain != nil && s.Drain.Left != nil && *s.Drain.Left == clients
		})
		var deleted deletedView
		b.do("POST", shop+"/entries/delete", `{"server":"web-2","all":true}`).get(t, &deleted)
		if deleted.Deleted != clients {
			t.Errorf("%d deleted", deleted.Deleted)
		}
		var end drainedEvent
		must(t, json.Unmarshal([]byte(events.wait("drained")), &end))
		if end.Left == nil || *end.Left != 0 || end.Cause != "empty" || end.Server != "web-2" {
			t.Errorf("%+v", end)
		}
		b.do("GET", web2, "").get(t, &s)
		if s.State != "disabled" || s.LastDrain == nil || s.LastDrain.Left == nil || *s.LastDrain.Left != 0 {
			t.Errorf("%+v", s)
		}
		b.do("PATCH", web2, `{"state":"enabled"}`).get(t, &s)
		if !b.pool.Servers()[1].State().Usable() || s.Override != "" {
			t.Errorf("%+v", s)
		}
	})
}

// TestDrainDeadline: at the deadline of a drain, its end says how many clients
// were left.
func TestDrainDeadline(t *testing.T) {
	b := newBench(t, setup{})
	b.do("PUT", shop+"/entries", fmt.Sprintf(`{"key":"a","value":"%s","lifetime_seconds":3600}`, b.addr(1)))
	events := b.listen("/v1/events", "")
	var s serverView
	b.do("PATCH", web2, `{"state":"draining","timeout_seconds":3}`).get(t, &s)
	var end drainedEvent
	must(t, json.Unmarshal([]byte(events.wait("drained")), &end))
	if end.Left == nil || *end.Left != 1 || end.Cause != "deadline" {
		t.Errorf("%+v", end)
	}
}

// TestDrainUnbounded: a drain that would never end needs a timeout.
func TestDrainUnbounded(t *testing.T) {
	profile, err := persistence.NewHTTPCookie(persistence.HTTPCookieConfig{})
	must(t, err)
	b := newBench(t, setup{without: true, config: func(c *limpet.Config) { c.Persistence = profile }})
	if a := b.do("PATCH", web2, `{"state":"draining"}`); a.status != 422 || a.problem().Code != codeUnbounded {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := b.do("PATCH", web2, `{"state":"draining","timeout_seconds":60}`); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	var s serverView
	if b.do("GET", web2, "").get(t, &s); s.Drain.Left != nil || s.Drain.Bound != nil || s.Drain.Counted {
		t.Errorf("%+v", s.Drain)
	}
}

// TestIfMatch: a change for which a caller names an old tag is refused; what
// other callers have changed stays.
func TestIfMatch(t *testing.T) {
	b := newBench(t, setup{without: true})
	for _, tc := range []struct{ read, method, path, body, other string }{
		{web2, "PATCH", web2, `{"state":"enabled"}`, `{"state":"draining","timeout_seconds":600}`},
		{shop + "/groups/office", "PATCH", shop + "/groups/office", `{"add":["192.0.2.1"]}`, `{"remove":["192.0.2.1"]}`},
	} {
		old := b.do("GET", tc.read, "").header.Get("Etag")
		if a := b.do(tc.method, tc.path, tc.other, header("If-Match", old)); a.status != 200 || a.header.Get("Etag") == old {
			t.Fatalf("%d %s", a.status, a.body)
		}
		a := b.do(tc.method, tc.path, tc.body, header("If-Match", old))
		if a.status != 412 || a.problem().Code != codePrecondition {
			t.Errorf("%s: %d %s", tc.path, a.status, a.body)
		}
		now := b.do("GET", tc.read, "").header.Get("Etag")
		if got := a.header.Get("Etag"); got != now {
			t.Errorf("%s: tag %s, not %s", tc.path, got, now)
		}
		if a := b.do(tc.method, tc.path, tc.body, header("If-Match", `"x", `+now)); a.status != 200 {
			t.Errorf("%s: %d %s", tc.path, a.status, a.body)
		}
	}
	for _, path := range []string{"/v1/overrides", "/v1/config"} {
		if a := b.do("GET", path, ""); a.header.Get("Etag") == "" {
			t.Errorf("%s has no tag", path)
		}
	}
	if a := b.do("DELETE", "/v1/overrides", "", header("If-Match", `"old"`)); a.status != 412 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestStateFile: what operators change is in force again after a restart, with
// the same deadline.
func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	b := newBench(t, setup{without: true, admin: func(c *Config) { c.StateFile = path }})
	b.do("PATCH", web2, `{"state":"draining","timeout_seconds":600,"ratio":5}`)
	b.do("PATCH", shop+"/pools/web/servers/web-1", `{"ratio":3}`)
	b.do("PATCH", shop+"/groups/office", `{"remove":["192.0.2.1"],"for_seconds":600}`)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	first := b.adm.Overrides("shop")

	next := newBench(t, setup{without: true, admin: func(c *Config) { c.StateFile = path }, config: func(c *limpet.Config) {
		adm, err := New(Config{Services: func() []*limpet.VirtualService { return nil }, StateFile: path})
		must(t, err)
		adm.Apply(c)
	}})
	if got := next.adm.Overrides("shop"); len(got) != 2 || got[0] != first[0] || got[1] != first[1] {
		t.Errorf("%+v, not %+v", got, first)
	}
	if s := next.pool.Servers(); s[0].Ratio() != 3 || s[1].Ratio() != 5 || s[1].State() != lbpool.Draining {
		t.Errorf("%d %d %v", s[0].Ratio(), s[1].Ratio(), s[1].State())
	}
	if ok, _ := next.groups.Contains("office", mustAddr("192.0.2.1")); ok {
		t.Error("the edit is gone")
	}
}

// TestBadStateFile: a state file that cannot be read is moved aside; one that
// cannot be written refuses changes, which are not made.
func TestBadStateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, text := range []string{"{", `{"version":2}`, `{"version":1,"overrides":[{"server":"x","ratio":99}]}`} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		b := newBench(t, setup{without: true, admin: func(c *Config) { c.StateFile = path }})
		if b.adm.countOverrides() != 0 {
			t.Error("it was read")
		}
		if got, err := os.ReadFile(path + ".bad"); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	b := newBench(t, setup{without: true, admin: func(c *Config) { c.StateFile = filepath.Join(dir, "none", "state.json") }})
	for _, rq := range [][2]string{{web2, `{"state":"disabled"}`}, {shop + "/groups/office", `{"add":["198.51.100.1"]}`}} {
		if a := b.do("PATCH", rq[0], rq[1]); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if s := b.pool.Servers()[1].State(); !s.Usable() {
		t.Errorf("the server is %v", s)
	}
	if edits, _ := b.groups.Edits("office"); len(edits) != 0 {
		t.Errorf("%+v", edits)
	}
}

// TestOverridesOverUpdates: what operators say stays over updates, until the
// configuration says something new about it.
func TestOverridesOverUpdates(t *testing.T) {
	b := newBench(t, setup{})
	b.do("PATCH", web2, `{"state":"disabled","ratio":4}`)
	b.do("PATCH", shop+"/groups/office", `{"add":["198.51.100.1"]}`)
	update := func(apply bool, edit func(*lbpool.ServerConfig)) {
		t.Helper()
		cfg := lbpool.Config{Name: "web"}
		for _, s := range b.pool.Servers() {
			sc := lbpool.ServerConfig{Name: s.Name(), Address: s.Addr().String()}
			if edit != nil && s.Name() == "web-2" {
				edit(&sc)
			}
			cfg.Servers = append(cfg.Servers, sc)
		}
		var err error
		b.pool, err = lbpool.New(cfg)
		must(t, err)
		group, err := ipgroup.Parse("office", []string{"192.0.2.0/24"}, ipgroup.Options{})
		must(t, err)
		c := b.vs.Config()
		c.Pools, c.Overrides = []*lbpool.Pool{b.pool}, nil
		c.IPGroups, err = ipgroup.NewSet(group)
		must(t, err)
		b.groups = c.IPGroups
		if apply {
			b.adm.Apply(&c)
		}
		must(t, b.vs.Update(c))
	}
	in := func() bool {
		ok, _ := b.groups.Contains("office", mustAddr("198.51.100.1"))
		return ok
	}
	web2 := func() *lbpool.Server { return serversNamed(b.pool, "web-2")[0] }

	update(true, nil)
	if s := web2(); s.State() != lbpool.Disabled || s.Ratio() != 4 || !in() {
		t.Errorf("with Apply: %v, ratio %d, %v", s.State(), s.Ratio(), in())
	}
	update(false, nil)
	testwait.Until(t, "Run repeats the changes", func() bool { return web2().State() == lbpool.Disabled && web2().Ratio() == 4 && in() })
	update(true, func(c *lbpool.ServerConfig) { c.Ratio = 9 })
	testwait.Until(t, "the configuration wins where it says something new", func() bool { return web2().Ratio() == 9 })
	if s := web2(); s.State() != lbpool.Disabled {
		t.Errorf("%v", s.State())
	}
	if got := b.adm.changes.latest()[0]; got.Who != "limpet" || got.Target != "web/web-2" {
		t.Errorf("%+v", got)
	}
	if a := b.do("DELETE", "/v1/overrides", ""); a.status != 200 || !web2().State().Usable() {
		t.Errorf("%d %s; %v", a.status, a.body, web2().State())
	}
}

// TestReload: faults of a reload come with their places, and one reload runs at
// a time.
func TestReload(t *testing.T) {
	begun, end := make(chan struct{}), make(chan error)
	b := newBench(t, setup{without: true, admin: func(c *Config) {
		c.Reload = func(context.Context) ([]string, error) { begun <- struct{}{}; return nil, <-end }
	}})
	first := make(chan answer, 1)
	go func() { first <- b.do("POST", "/v1/config/reload", "") }()
	testwait.Receive(t, begun, "reload")
	if a := b.do("POST", "/v1/config/reload", ""); a.status != 409 {
		t.Errorf("%d %s", a.status, a.body)
	}
	end <- placed{&limpet.FieldError{Path: "pools[0].name", Value: "x", Err: os.ErrInvalid}}
	a := testwait.Receive(t, first, "answer")
	p := a.problem()
	if a.status != 422 || len(p.Fields) != 1 || p.Fields[0] != (fault{"pools[0].name", `"x": invalid argument`, "shop.yaml", 3, 5}) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := b.do("POST", "/v1/config/reload", "", header("If-Match", `"old"`)); a.status != 412 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := b.adm.lastReload.Load(); got.OK || len(got.Faults) != 1 {
		t.Errorf("%+v", got)
	}
}

// placed is a fault of a file.
type placed struct{ *limpet.FieldError }

func (p placed) Unwrap() error                           { return p.FieldError }
func (placed) Position() (file string, line, column int) { return "shop.yaml", 3, 5 }

// TestPlainTables: a store that can do little has its routes answer 501.
func TestPlainTables(t *testing.T) {
	b := newBench(t, setup{without: true, config: func(c *limpet.Config) { c.Tables = plainTables{c.Tables} }})
	for _, rq := range [][3]string{
		{"GET", shop + "/tables", ""}, {"GET", shop + "/tables/counts", ""}, {"POST", shop + "/entries/query", "{}"},
		{"PUT", shop + "/entries", `{"key":"a","value":"b","lifetime_seconds":1}`}, {"POST", shop + "/entries/delete", `{"key":"a"}`},
		{"GET", "/v1/config/source", ""}, {"POST", "/v1/config/reload", ""},
	} {
		if a := b.do(rq[0], rq[1], rq[2]); a.status != 501 || a.problem().Code != codeNotSupported {
			t.Errorf("%s %s: %d %s", rq[0], rq[1], a.status, a.body)
		}
	}
}

type plainTables struct{ limpet.Tables }

// TestPages: the pages of a table have each entry, as lines and page by page,
// also if a server is named in several ways; and a store that is away is 503.
func TestPages(t *testing.T) {
	stores(t, func(t *testing.T, tables limpet.Tables) {
		b := newBench(t, setup{without: true, config: func(c *limpet.Config) { c.Tables = tables }})
		const n = 250
		for i := range n {
			value := []string{"web-2", b.addr(1).String()}[i%2]
			_, err := tables.Insert(t.Context(), "t", fmt.Sprintf("k%d", i), value, time.Hour)
			must(t, err)
		}
		seen := map[string]bool{}
		for cursor, pages := "", 0; ; pages++ {
			var page list[entryView]
			b.do("POST", shop+"/entries/query", fmt.Sprintf(`{"table":"t","server":"web-2","reveal":true,"limit":60,"cursor":%q}`, cursor)).get(t, &page)
			for _, e := range page.Items {
				seen[*e.Key] = true
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if len(seen) != n {
			t.Errorf("%d of %d entries", len(seen), n)
		}
		a := b.do("POST", shop+"/entries/query", `{"table":"t"}`, header("Accept", "application/x-ndjson"))
		if lines := strings.Split(a.body, "\n"); len(lines) < n || a.header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%d lines of %s", len(lines), a.header.Get("Content-Type"))
		}
	})
}

// TestStoreAway: a store that is away is no failure of the Admin.
func TestStoreAway(t *testing.T) {
	server := redistest.Start(t)
	store, err := redisstore.New(redisstore.Config{Addresses: []string{server.Addr}, Timeout: time.Second})
	must(t, err)
	defer store.Close()
	testwait.Until(t, "Redis", func() bool { return store.Ping(context.Background()) == nil })
	b := newBench(t, setup{without: true, config: func(c *limpet.Config) { c.Tables = store }})
	server.Kill()
	for _, rq := range [][3]string{
		{"GET", shop + "/tables", ""}, {"GET", shop + "/tables/counts", ""}, {"POST", shop + "/entries/query", "{}"},
		{"POST", shop + "/entries/query", `{"key":"a"}`}, {"POST", shop + "/entries/delete", `{"key":"a"}`},
	} {
		if a := b.do(rq[0], rq[1], rq[2]); a.status != 503 || a.problem().Code != codeUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", rq[0], rq[1], a.status, a.body)
		}
	}
}
