package datascript

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machines are pools of which some have several servers at an address.
type machines map[string][]string

var oneMachine = machines{
	"local": {"127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"},
	"mixed": {"10.0.0.1:80", "10.0.0.2:80", "10.0.0.2:81"},
	"group": {"127.0.0.1:8081", "127.0.0.1:9081"},
	"alone": {"127.0.0.1:9081"},
	"six":   {"[2001:db8::1]:80", "[2001:db8::1]:81"},
	"moved": {"127.0.0.1:8082", "127.0.0.1:8083"},
}

func (m machines) Servers(pool string) (int, int, error) {
	if m[pool] == nil {
		return 0, 0, fmt.Errorf("pool %q not found", pool)
	}
	return len(m[pool]), len(m[pool]), nil
}

func (m machines) ServerUp(pool, server string, port uint16) (bool, error) {
	addr, _, ok, err := m.Find(pool, server, port)
	return ok && addr.Port() != 8083, err
}

func (m machines) Find(pool, server string, port uint16) (addr netip.AddrPort, shared, ok bool, err error) {
	_, _, err = m.Servers(pool)
	for _, s := range m[pool] {
		a := netip.MustParseAddrPort(s)
		if (server == s || server == a.Addr().String()) && (port == 0 || port == a.Port()) {
			shared = ok
			if !ok {
				addr, ok = a, true
			}
		}
	}
	return addr, shared, ok, err
}

func newMachines(t testing.TB, tables Tables) *Engine {
	t.Helper()
	e, err := NewEngine(Env{Tables: tables, Pools: oneMachine, Limits: Limits{Time: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestStoredServer stores values, and looks them up. Servers that share an
// address were stored as one, and all clients ended on the first of them.
func TestStoredServer(t *testing.T) {
	for _, tt := range []struct {
		name, pool, server string
		value              string // an expression
		stored             string
		seen               string // what table_lookup returns
	}{
		{"shared", "local", "127.0.0.1:8082", `avi.pool.server_ip()`, "127.0.0.1:8082\x00", "127.0.0.1"},
		{"shared, IPv6", "six", "[2001:db8::1]:81", `avi.pool.server_ip()`, "[2001:db8::1]:81\x00", "2001:db8::1"},
		{"its text", "local", "127.0.0.1:8082", `"127.0.0.1"`, "127.0.0.1:8082\x00", "127.0.0.1"},
		{"shared by others", "mixed", "10.0.0.1:80", `avi.pool.server_ip()`, "10.0.0.1", "10.0.0.1"},
		{"shared, in a mixed pool", "mixed", "10.0.0.2:81", `avi.pool.server_ip()`, "10.0.0.2:81\x00", "10.0.0.2"},
		{"alone", "alone", "127.0.0.1:9081", `avi.pool.server_ip()`, "127.0.0.1", "127.0.0.1"},
		{"not of this server", "local", "127.0.0.1:8082", `"127.0.0.2"`, "127.0.0.2", "127.0.0.2"},
		{"with the port", "local", "127.0.0.1:8082", `table.concat({avi.pool.get_server_info()}, ":")`, "127.0.0.1:8082", "127.0.0.1:8082"},
		{"another text", "local", "127.0.0.1:8082", `"blue"`, "blue", "blue"},
		{"no server yet", "local", "", `"127.0.0.1"`, "127.0.0.1", "127.0.0.1"},
		{"no such pool any more", "gone", "127.0.0.1:8082", `avi.pool.server_ip()`, "127.0.0.1", "127.0.0.1"},
		// A client may choose what a script stores. It cannot choose a server.
		{"forged", "local", "127.0.0.1:8082", `"127.0.0.1:8083\0"`, "127.0.0.1:8083\x00\x00", "127.0.0.1:8083\x00"},
		{"forged twice", "local", "127.0.0.1:8082", `"127.0.0.1:8083\0\0"`, "127.0.0.1:8083\x00\x00\x00", "127.0.0.1:8083\x00\x00"},
		{"a zero byte", "local", "127.0.0.1:8082", `"x\0"`, "x\x00", "x\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, table := range []string{"", `"t", `} {
				tables := newTables()
				e := newMachines(t, tables)
				x := newExchange()
				x.respond(200, "127.0.0.1:1")
				x.pool, x.server = tt.pool, netip.AddrPort{}
				if tt.server != "" {
					x.server = netip.MustParseAddrPort(tt.server)
				}
				source := `avi.vs.table_insert(` + table + `"k", ` + tt.value + `, 60) avi.vs.log((avi.vs.table_lookup(` + table + `"k")))`
				if err := runAt(t, e, HTTPResp, x, source); err != nil {
					t.Fatal(err)
				}
				got := tables.m[strings.Trim(table, `", `)+"/k"]
				seen := strings.ReplaceAll(tt.seen, "\x00", `\0`) // as the log shows it
				if got != tt.stored || x.logged()[0] != seen {
					t.Errorf("stored %q and seen as %q; want %q and %q", got, x.logged()[0], tt.stored, seen)
				}
			}
		})
	}
}

// TestStoredInGroup stores a server of a pool that a script has reached through
// a group, in another pool of which there is a server at the same address.
func TestStoredInGroup(t *testing.T) {
	tables := newTables()
	e, x := newMachines(t, tables), newExchange()
	s := mustCompile(t, Chunk{Source: "-- HTTP_REQ\navi.pool.select('group')\n-- HTTP_RESP\navi.vs.table_insert('k', avi.pool.server_ip())"})
	if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
		t.Fatal(err)
	}
	x.respond(200, "127.0.0.1:9081")
	x.pool = "alone"
	if err := e.Run(t.Context(), s, HTTPResp, x); err != nil {
		t.Fatal(err)
	}
	if got, want := tables.m["/k"], "127.0.0.1:9081\x00"; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

// lastingTables give what is left of a lifetime as they are reported.
type lastingTables struct {
	*fakeTables
	left time.Duration
}

func (l lastingTables) Lookup(ctx context.Context, table, key string, d time.Duration) (string, time.Duration, bool, error) {
	v, _, ok, err := l.fakeTables.Lookup(ctx, table, key, d)
	return v, l.left, ok, err
}

// TestSelectLookedUp selects what tables hold.
func TestSelectLookedUp(t *testing.T) {
	const both = "avi.pool.select(pool, avi.vs.table_lookup('k'))"
	entries := map[string]string{
		"/bare": "127.0.0.1", "/first": "127.0.0.1:8081\x00", "/second": "127.0.0.1:8082\x00", "/third": "127.0.0.1:8083\x00",
		"/plain": "127.0.0.1:8082", "/forged": "127.0.0.1:8083\x00\x00", "/word": "blue", "/elsewhere": "10.9.9.9",
		"t/second": "127.0.0.1:8082\x00", "/127.0.0.1": "127.0.0.1:8082\x00", "t/off": "127.0.0.1:7777\x00", "t/elsewhere": "10.9.9.9", "/off": "127.0.0.1:7777\x00",
	}
	for _, tt := range []struct {
		name   string
		pool   string // "local" if empty
		left   int    // seconds
		source string
		want   string // pool, server, key and entry; or the error
	}{
		{name: "by key", source: `avi.pool.select(pool, "second")`, want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "by key, another one looked up", source: `avi.vs.table_lookup("third") avi.pool.select(pool, "second")`,
			want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "by key, of an older snapshot", source: `avi.pool.select(pool, "bare")`, want: `local 127.0.0.1:0 key "bare" entry "127.0.0.1"`},
		{name: "by key, gone", pool: "moved", source: `avi.pool.select(pool, "first")`, want: `moved  key "first" entry "127.0.0.1:8081\x00"`},
		{name: "by key, with its port", source: `avi.pool.select(pool, "plain")`, want: `local 127.0.0.1:8082 key "plain" entry "127.0.0.1:8082"`},
		{name: "by key, forged", source: `avi.pool.select(pool, "forged")`, want: `server [forged] not found in pool "local"`},
		{name: "by key, which is the address of the servers", source: `avi.vs.table_lookup("127.0.0.1") avi.pool.select(pool, "127.0.0.1")`,
			want: `local 127.0.0.1:8082 key "127.0.0.1" entry "127.0.0.1:8082\x00"`},
		{name: "by key, which is the address of the servers, removed", source: `avi.vs.table_lookup("127.0.0.1") avi.vs.table_remove("127.0.0.1") avi.pool.select(pool, "127.0.0.1")`,
			want: `local 127.0.0.1:8082`},
		{name: "by key, which is the address of a server", pool: "alone", source: `avi.vs.table_lookup("127.0.0.1") avi.pool.select(pool, "127.0.0.1")`,
			want: `alone 127.0.0.1:9081`},
		{name: "by value", source: `avi.pool.select(pool, (avi.vs.table_lookup("second")))`, want: `local 127.0.0.1:8082`},
		{name: "by value, of a named table", source: `local s = avi.vs.table_lookup("t", "second") avi.pool.select(pool, s)`, want: `local 127.0.0.1:8082`},
		{name: "by value, forged", source: `local s = avi.vs.table_lookup("forged") avi.pool.select(pool, s)`,
			want: `server [127.0.0.1:8083\x00] not found in pool "local"`},
		{name: "by value, bare", source: `local s = avi.vs.table_lookup("bare") avi.pool.select(pool, s)`, want: `local 127.0.0.1:0`},
		{name: "by value, built by the script", source: `avi.pool.select(pool, "127.0.0.1")`, want: `local 127.0.0.1:0`},
		{name: "by value, gone", pool: "moved", source: `local s = avi.vs.table_lookup("first") avi.pool.select(pool, s)`, want: `moved 127.0.0.1:0`},
		{name: "by value, twice", source: `local s = avi.vs.table_lookup("second") pcall(avi.pool.select, pool, s) avi.pool.select(pool, s)`,
			want: `local 127.0.0.1:8082`},
		{name: "by value, one after the other", source: `for _, k in ipairs{"first", "third", "second"} do avi.pool.select(pool, (avi.vs.table_lookup(k))) end`,
			want: `local 127.0.0.1:8082`},
		{name: "by value, one of two", source: `local a, b = (avi.vs.table_lookup("first")), (avi.vs.table_lookup("second")) avi.pool.select(pool, a or b)`,
			want: `local 127.0.0.1:0`},
		{name: "by value, one of two equal ones", source: `local a, b = (avi.vs.table_lookup("second")), (avi.vs.table_lookup("t", "second")) avi.pool.select(pool, a or b)`,
			want: `local 127.0.0.1:8082`},
		{name: "by value, or a bare one", source: `local a, b = (avi.vs.table_lookup("first")), (avi.vs.table_lookup("bare")) avi.pool.select(pool, a or b)`,
			want: `local 127.0.0.1:0`},
		{name: "by value and port", source: `local s = avi.vs.table_lookup("first") avi.pool.select(pool, s, 8082)`, want: `local 127.0.0.1:8082`},
		{name: "by value and a wrong port", source: `local s = avi.vs.table_lookup("first") avi.pool.select(pool, s, 99)`,
			want: `server [127.0.0.1:99] not found in pool "local"`},

		// Both results of the look-up: the second one is no port.
		{name: "both", source: strings.ReplaceAll(both, "'k'", `"second"`), want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "both, not shared", pool: "alone", source: strings.ReplaceAll(both, "'k'", `"bare"`), want: `alone 127.0.0.1:9081 key "bare" entry "127.0.0.1"`},
		{name: "both, in variables", source: `local s, left = avi.vs.table_lookup("second") avi.pool.select(pool, s, left)`,
			want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "both, less than a second", left: -1, source: strings.ReplaceAll(both, "'k'", `"second"`),
			want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "both, a week", left: 604800, source: strings.ReplaceAll(both, "'k'", `"second"`),
			want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "both, and a server listens there", left: 8083, source: strings.ReplaceAll(both, "'k'", `"second"`),
			want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "both, and only that server is left", pool: "moved", left: 8083, source: strings.ReplaceAll(both, "'k'", `"t", "off"`),
			want: `moved  key "off" entry "127.0.0.1:7777\x00"`},
		{name: "both, no entry", source: strings.ReplaceAll(both, "'k'", `"nobody"`), want: `local `},
		{name: "both, gone", source: strings.ReplaceAll(both, "'k'", `"elsewhere"`), want: `local  key "elsewhere" entry "10.9.9.9"`},
		{name: "both, gone, though servers share the address", source: strings.ReplaceAll(both, "'k'", `"off"`),
			want: `local  key "off" entry "127.0.0.1:7777\x00"`},
		{name: "both, no server", source: strings.ReplaceAll(both, "'k'", `"word"`), want: `server [blue] not found in pool "local"`},
		{name: "both, of a named table", source: strings.ReplaceAll(both, "'k'", `"t", "second"`),
			want: `local 127.0.0.1:8082 key "second" entry "127.0.0.1:8082\x00"`},
		{name: "both, of a named table, gone", source: strings.ReplaceAll(both, "'k'", `"t", "elsewhere"`), want: `local  key "elsewhere" entry "10.9.9.9"`},
		{name: "both, removed since", source: `local s, left = avi.vs.table_lookup("second") avi.vs.table_remove("second") avi.pool.select(pool, s, left)`,
			want: `local 127.0.0.1:8082`},
		{name: "both, of a look-up before the last", source: `local s, left = avi.vs.table_lookup("elsewhere") avi.vs.table_lookup("second") avi.pool.select(pool, s, left)`,
			want: `server [10.9.9.9:1490] not found in pool "local"`},

		// What only looks like it is a wrong port.
		{name: "a port of the script's", source: `avi.pool.select(pool, "127.0.0.1", 1490)`, want: `server [127.0.0.1:1490] not found in pool "local"`},
		{name: "of another server", source: `avi.vs.table_lookup("bare") avi.pool.select("mixed", "10.0.0.1", 1490)`,
			want: `server [10.0.0.1:1490] not found in pool "mixed"`},
		{name: "another number", source: `local s, left = avi.vs.table_lookup("second") avi.pool.select(pool, s, left - 1)`,
			want: `server [127.0.0.1:1489] not found in pool "local"`},
		{name: "as text", source: `local s, left = avi.vs.table_lookup("second") avi.pool.select(pool, s, tostring(left))`,
			want: `server [127.0.0.1:1490] not found in pool "local"`},
		{name: "too large for a port", left: 70000, source: `local s, left = avi.vs.table_lookup("second") avi.pool.select(pool, s, left + 1)`,
			want: `port "70001" is not between 1 and 65535`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			left := 1490 * time.Second
			switch {
			case tt.left > 0:
				left = time.Duration(tt.left) * time.Second
			case tt.left < 0:
				left = time.Millisecond
			}
			tables := newTables()
			maps.Copy(tables.m, entries)
			pool := tt.pool
			if pool == "" {
				pool = "local"
			}
			x := newExchange()
			err := runAt(t, newMachines(t, lastingTables{tables, left}), HTTPReq, x, "local pool = '"+pool+"' "+tt.source)
			got := x.selected + " " + x.selAddr
			if x.selKey != "" || x.selEntry != "" {
				got += fmt.Sprintf(" key %q entry %q", x.selKey, x.selEntry)
			}
			if err != nil {
				got = strings.ReplaceAll(err.Error(), "\x00", `\x00`)
			}
			if err != nil && !strings.Contains(got, tt.want) || err == nil && got != tt.want {
				t.Error(cmp.Diff(tt.want, got))
			}
		})
	}
}

// TestLookedUpInTransaction looks up in one event and selects in another, by
// one script. What another script has looked up does not matter.
func TestLookedUpInTransaction(t *testing.T) {
	tables := newTables()
	tables.m["/mine"], tables.m["/other"] = "127.0.0.1:8082\x00", "127.0.0.1:8083\x00"
	e, x := newMachines(t, tables), newExchange()
	mine := mustCompile(t, Chunk{Source: "-- HTTP_AUTH\ns = avi.vs.table_lookup('mine')\n-- HTTP_REQ\navi.pool.select('local', s)"})
	other := mustCompile(t, Chunk{Source: "-- HTTP_AUTH\navi.vs.table_lookup('other')"})
	for _, run := range []struct {
		s  *Script
		ev Event
	}{{mine, HTTPAuth}, {other, HTTPAuth}, {mine, HTTPReq}} {
		if err := e.Run(t.Context(), run.s, run.ev, x); err != nil {
			t.Fatal(err)
		}
	}
	if x.selAddr != "127.0.0.1:8082" {
		t.Errorf("selected %s", x.selAddr)
	}
	x.vars.Reset()
	if err := runAt(t, e, HTTPReq, x, "avi.pool.select('local', '127.0.0.1')"); err != nil || x.selAddr != "127.0.0.1:0" {
		t.Errorf("the next transaction selected %s, %v", x.selAddr, err)
	}
}

// TestStatusOfLookedUp asks whether a server that was looked up is up, with
// both results of the look-up.
func TestStatusOfLookedUp(t *testing.T) {
	tables := newTables()
	tables.m["/up"], tables.m["/down"], tables.m["/bare"] = "127.0.0.1:8082\x00", "127.0.0.1:8083\x00", "127.0.0.1"
	for _, left := range []time.Duration{0, 1490 * time.Second, 7 * 24 * time.Hour} {
		x := newExchange()
		err := runAt(t, newMachines(t, lastingTables{tables, left}), HTTPReq, x, `
			for _, k in ipairs{"up", "down", "bare"} do
				avi.vs.log(avi.pool.get_server_status("local", avi.vs.table_lookup(k)))
			end
			avi.vs.log(avi.pool.get_server_status("local", "127.0.0.1", 1491))`)
		if got := strings.Join(x.logged(), " "); got != "1 0 1 0" || err != nil {
			t.Errorf("%v left: %s, %v", left, got, err)
		}
	}
}

// A script that looks up without end does not fill the memory of the
// transaction.
func TestLookedUpIsBounded(t *testing.T) {
	tables := newTables()
	for i := range 200 {
		tables.m[fmt.Sprintf("/%d", i)] = fmt.Sprintf("10.0.0.%d:80\x00", i)
	}
	x := newExchange()
	if err := runAt(t, newMachines(t, tables), HTTPReq, x, `for i = 0, 199 do avi.vs.table_lookup(i) end`); err != nil {
		t.Fatal(err)
	}
	if n := len(x.vars.servers); n != maxLookedUp {
		t.Errorf("%d addresses are remembered", n)
	}
}

// TestMovedByValue runs a script that selects by value and corrects the entry
// if the address of its server has changed, as earlier versions of the recipes
// did. Where servers share the address it has not changed, and the client was
// sent to a dead server again and again.
func TestMovedByValue(t *testing.T) {
	s := mustCompile(t, Chunk{Source: `-- HTTP_REQ
server = avi.vs.table_lookup("t", "second", 0)
if server then pcall(avi.pool.select, "local", server) end
-- HTTP_RESP
local current = avi.pool.server_ip()
if server ~= current then avi.vs.table_remove("t", "second") end
avi.vs.table_insert("t", "second", current, 600)`})
	for _, tt := range []struct{ name, entry, server, want string }{
		{"moved", "127.0.0.1:8082\x00", "127.0.0.1:8083", "127.0.0.1:8083\x00"},
		{"not moved", "127.0.0.1:8082\x00", "127.0.0.1:8082", "127.0.0.1:8082\x00"},
		{"new", "", "127.0.0.1:8083", "127.0.0.1:8083\x00"},
		{"not known", "127.0.0.1", "127.0.0.1:8083", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tables := newTables()
			if tt.entry != "" {
				tables.m["t/second"] = tt.entry
			}
			e, x := newMachines(t, tables), newExchange()
			if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
				t.Fatal(err)
			}
			x.respond(200, tt.server)
			x.pool = "local"
			if err := e.Run(t.Context(), s, HTTPResp, x); err != nil {
				t.Fatal(err)
			}
			if got := tables.m["t/second"]; got != tt.want {
				t.Errorf("the entry is %q, want %q", got, tt.want)
			}
		})
	}
	// A request that was under way when the entry was made does not change it.
	tables := newTables()
	e, x := newMachines(t, tables), newExchange()
	if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
		t.Fatal(err)
	}
	tables.m["t/second"] = "127.0.0.1:8081\x00"
	x.respond(200, "127.0.0.1:8082")
	x.pool = "local"
	if err := runAt(t, e, HTTPResp, x, `avi.vs.table_insert("t", "second", avi.pool.server_ip(), 600)`); err != nil {
		t.Fatal(err)
	}
	if got := tables.m["t/second"]; got != "127.0.0.1:8081\x00" {
		t.Errorf("the entry is %q", got)
	}
}
