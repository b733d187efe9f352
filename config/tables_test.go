package config

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

// remember answers with what the table has, and stores the path if that is
// nothing.
const remember = `-- HTTP_REQ
local v = avi.vs.table_lookup("k")
if not v then avi.vs.table_insert("k", avi.http.get_path(), 3600) end
avi.http.response(200, {}, v or "nothing")
`

// freePort is a port of loopback that nobody has.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// Instances whose tables are on one Redis server share them, over TLS, with a
// password from a file that nothing shows. Updates keep them.
func TestRedis(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a.lua": remember, "password": "hush-hush\n"}
	certificate(t, files, "redis", "redis.test")
	dir, port := testfiles.Write(t, files), freePort(t)
	server := redistest.Start(t, "--requirepass", "hush-hush", "--tls-port", port,
		"--tls-cert-file", dir+"/redis.pem", "--tls-key-file", dir+"/redis.key", "--tls-auth-clients", "no")
	_, plain, _ := net.SplitHostPort(server.Addr)
	text := fmt.Sprintf(`name: shop
tables:
  maxEntries: 1000
  redis:
    addresses: ["127.0.0.1:%s"]
    password: {file: password}
    tls: {ca: redis.pem, serverName: redis.test}
    timeout: 20s
scripts: [{file: a.lua}]
`, port)
	files["limpet.yaml"] = text
	a, b := open(t, files, Options{}), open(t, files, Options{})
	if got := a.get("listen", "a", "/first") + ", " + b.get("listen", "a", "/second"); got != "200 nothing, 200 /first" {
		t.Error(got)
	}

	changes, err := a.rewrite(strings.Replace(text, "name: shop", "name: shop\ninstances: 2", 1))
	if err != nil || changes.Restart != nil {
		t.Errorf("%+v, %v", changes, err)
	}
	if err := os.WriteFile(a.dir+"/redis.pem", []byte(files["redis.pem"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changes, err = a.rewrite(text + "instances: 2\n")
	if diff := cmp.Diff(Changes{Live: []string{"tables.redis.tls.ca"}}, changes); diff != "" || err != nil {
		t.Errorf("%v, another file of authorities (-want +got):\n%s", err, diff)
	}
	if got := a.get("listen", "a", "/third"); got != "200 /first" {
		t.Errorf("after updates: %s", got)
	}

	_, errs := loaded(t, map[string]string{"limpet.yaml": strings.NewReplacer("{file: password}", "hush-hush", "serverName: redis.test", "serverNam: a", ":"+port, ":"+plain+"x").Replace(text), "a.lua": remember, "redis.pem": files["redis.pem"]}, "limpet.yaml")
	if errs == "" || strings.Contains(errs, "hush") {
		t.Errorf("%s", errs)
	}
}

// Services that name a store on Redis share it. A server that cannot be reached
// when limpet starts is a warning at the first request, and no fault; tables
// that fail closed say so. When it is there, it is used.
func TestRedisDown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	files := map[string]string{"a.lua": remember, "limpet.yaml": fmt.Sprintf(`stores:
  - {name: main, redis: {addresses: ["%s"], prefix: "config:main", whenDown: fail open, tablesWhenDown: {auth: fail closed}, minExtension: 1s, nearEntries: 100, nearAge: 5s, database: 1, timeout: 20s}}
scripts: [{file: a.lua}]
services:
  - {name: a, hosts: [a], tables: {store: main}, scripts: [a]}
  - {name: b, hosts: [b], tables: {store: main}, scripts: [a]}
`, server.Addr)}
	lines := newCounter()
	h := open(t, files, Options{Logger: slog.New(lines)})
	if n := lines.of("WARN persistence store unreachable"); n != 0 {
		t.Errorf("%d warnings before the first request", n)
	}
	if got := h.get("listen", "a", "/first") + ", " + h.get("listen", "b", "/second"); got != "200 nothing, 200 /first" {
		t.Errorf("from memory: %s", got)
	}
	if n := lines.of("WARN persistence store unreachable"); n != 1 {
		t.Errorf("%d warnings after the first request", n)
	}
	server.Restart()
	testwait.Until(t, "the server", func() bool {
		h.get("listen", "a", "/first")
		return strings.Contains(server.Command("KEYS", "*"), "config:main") || strings.Contains(server.Command("INFO", "keyspace"), "db1:keys=")
	})
	other := open(t, files, Options{})
	testwait.Until(t, "what another instance has stored", func() bool { return other.get("listen", "b", "/third") == "200 /first" })
}

// All faults of tables are reported, with their places; nothing shows a
// password.
func TestTablesFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"no address", "tables: {redis: {}}", "a.yaml:1:17: tables.redis.addresses: missing"},
		{"address with a password", "tables: {redis: {addresses: ['redis://u:hush@a:1']}}", "a.yaml:1:30: tables.redis.addresses[0]: no"},
		{"address without a port", "tables: {redis: {addresses: [a]}}", `a.yaml:1:30: tables.redis.addresses[0]: "a": not a host and a port`},
		{"user without a password", "tables: {redis: {addresses: ['a:1'], username: u}}", `a.yaml:1:17: tables.redis.password: missing for the user "u"`},
		{"password that is a list", "tables: {redis: {addresses: ['a:1'], password: [hush]}}", `a.yaml:1:48: tables.redis.password: want a text, not what is there`},
		{"prefix", "tables: {redis: {addresses: ['a:1'], prefix: '{'}}", `a.yaml:1:46: tables.redis.prefix: "{": has other characters`},
		{"word", "tables: {redis: {addresses: ['a:1'], tablesWhenDown: {a: open}}}", `a.yaml:1:58: tables.redis.tablesWhenDown["a"]: "open" is not one of fail open, fail closed`},
		{"certificate", "tables: {redis: {addresses: ['a:1'], tls: {ca: none}}}", "a.yaml:1:48: tables.redis.tls.ca: open DIR/none"},
		{"database", "stores: [{name: a, redis: {addresses: ['a:1'], database: -1}}]", "a.yaml:1:58: stores[0].redis.database: -1: negative"},
		{"options of the library", "tables: {redis: {addresses: ['a:1'], options: {}}}", `tables.redis: unknown field "options"`},
		{"negative", "tables: {maxEntries: -1}", "a.yaml:1:22: tables.maxEntries: -1: less than 1"},
		{"negative on a server", "tables: {minLifetime: -1s, redis: {addresses: ['a:1']}}", "a.yaml:1:23: tables.minLifetime: -1s: negative"},
		{"too much for a server", "tables: {maxKeyBytes: 128KiB, redis: {addresses: ['a:1']}}", "a.yaml:1:23: tables.maxKeyBytes: 131072: more than 64KiB, the most on a server"},
		{"the same twice", "stores: [{name: a, redis: {addresses: ['a:1']}}, {name: b, redis: {addresses: ['a:1'], prefix: limpet}}]", "a.yaml:1:67: stores[1].redis: other tables have this prefix there"},
		{"the same of a service", "stores: [{name: a, redis: {addresses: ['a:1', 'b:1']}}]\nservices: [{name: a, tables: {redis: {addresses: ['b:1', 'a:1']}}}]", "a.yaml:2:38: services[0].tables.redis: other tables have this prefix there"},
		{"file and server", "tables: {redis: {addresses: ['a:1']}, file: a}", `a.yaml:1:45: tables.file: "a": tables on a server have no file`},
		{"interval without a file", "tables: {saveInterval: 5s}", `a.yaml:1:24: tables.saveInterval: 5s: without a file`},
		{"interval", "stores: [{name: a, file: b, saveInterval: 1ms}]", "a.yaml:1:43: stores[0].saveInterval: 1ms: less than 1s"},
		{"the same file twice", "stores: [{name: a, file: b}, {name: b, file: ./b}]", `a.yaml:1:46: stores[1].file: "./b": other tables have this file`},
		{"store and file", "stores: [{name: a}]\nservices: [{name: a, tables: {store: a, file: b}}]", "a.yaml:2:30: services[0].tables: want a store, or options"},
		{"store and server", "stores: [{name: a}]\nservices: [{name: a, tables: {store: a, redis: {addresses: ['b:1']}}}]", "a.yaml:2:30: services[0].tables: want a store, or options"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := loaded(t, map[string]string{"a.yaml": c.text}, "a.yaml")
			if !slices.ContainsFunc(strings.Split(errs, "\n"), func(line string) bool { return strings.Contains(line, c.want) }) || strings.Contains(errs, "hush") {
				t.Errorf("%s\nnot %s", errs, c.want)
			}
		})
	}
}

// Programs that explain a file do not touch its tables.
func TestTablesOffline(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"a.lua": remember, "limpet.yaml": "tables: {redis: {addresses: ['127.0.0.1:1']}}\nscripts: [{file: a.lua}]\n"})
	f, err := Load(t.Context(), dir+"/limpet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(Options{Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(rt.opened) > 0 {
		t.Error("tables on the server")
	}
}

// Tables with a file are there again after a restart, after a kill as of the
// last save, and after a change of the configuration that took them away for a
// while.
func TestTablesFile(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/tables.snap"
	text := fmt.Sprintf("stores: [{name: main, file: %s, saveInterval: 1s}]\nscripts: [{file: a.lua}]\nservices: [{name: a, tables: {store: main}, scripts: [a]}]\n", path)
	files := map[string]string{"a.lua": remember, "limpet.yaml": text}
	first := open(t, files, Options{})
	if got := first.get("listen", "a", "/first"); got != "200 nothing" {
		t.Error(got)
	}
	testwait.Until(t, "a save", func() bool {
		f, err := Parse(t.Context(), "text", []byte(text), fstest.MapFS{"a.lua": {Data: []byte(remember)}})
		if err != nil {
			t.Fatal(err)
		}
		rt, err := f.Build(Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, _, ok, _ := rt.kept.tables["store main"].Lookup(t.Context(), "", "k", 0)
		return ok
	})

	without := strings.Replace(text, "stores: [{name: main, file: "+path+", saveInterval: 1s}]", "", 1)
	if _, err := first.rewrite(strings.Replace(without, "tables: {store: main}, ", "", 1)); err != nil {
		t.Fatal(err)
	}
	if got := first.get("listen", "a", "/other"); got != "200 /first" {
		t.Errorf("tables that take over: %s", got)
	}
	if _, err := first.rewrite(text); err != nil {
		t.Fatal(err)
	}
	if got := first.get("listen", "a", "/third"); got != "200 /first" {
		t.Errorf("again: %s", got)
	}
	if err := first.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if got := open(t, files, Options{}).get("listen", "a", "/fourth"); got != "200 /first" {
		t.Errorf("after a restart: %s", got)
	}
}

// The last save is that of Shutdown, also if nothing runs; and a damaged file
// is told and moved aside.
func TestTablesFileDamaged(t *testing.T) {
	lines := newCounter()
	dir := testfiles.Write(t, map[string]string{"a.lua": remember, "t.snap": "damaged", "limpet.yaml": "tables: {file: t.snap}\nscripts: [{file: a.lua}]\n"})
	f, err := Load(t.Context(), dir+"/limpet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "/first"} {
		rt, err := f.Build(Options{Logger: slog.New(lines)})
		if err != nil {
			t.Fatal(err)
		}
		store := rt.kept.tables["service"]
		if got, _, _, _ := store.Lookup(t.Context(), "", "k", 0); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if ok, err := store.Insert(t.Context(), "", "k", "/first", time.Hour); !ok || err != nil {
			t.Error(ok, err)
		}
		if err := rt.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if text, err := os.ReadFile(dir + "/t.snap.bad"); string(text) != "damaged" || err != nil {
		t.Errorf("aside: %q, %v", text, err)
	}
	if n := lines.of("ERROR persistence tables not loaded"); n != 1 {
		t.Errorf("%d errors", n)
	}
}

// What cannot be read is left alone: it may be another file.
func TestTablesFileUnreadable(t *testing.T) {
	lines := newCounter()
	dir := testfiles.Write(t, map[string]string{"t.snap/a": "precious", "a.lua": remember, "limpet.yaml": "tables: {file: t.snap}\nscripts: [{file: a.lua}]\n"})
	f, err := Load(t.Context(), dir+"/limpet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(Options{Logger: slog.New(lines)})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(dir + "/t.snap/a"); string(text) != "precious" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if n := lines.of("ERROR persistence tables not loaded, and not to be saved"); n != 1 {
		t.Errorf("%d errors", n)
	}
}
