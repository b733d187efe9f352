package config

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
)

// held are the tables that a request has which began before an update.
func (h *house) held(key string) limpet.Tables { return h.kept.tables[key].Tables }

// unused waits until what an update has replaced is closed.
func (h *house) unused() {
	h.Helper()
	testwait.Until(h.T, "the end of what requests have used", func() bool {
		runtime.GC() // which ends what nothing refers to
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.relays)+len(h.remotes) == 0
	})
}

// Each option of tables in memory changes at once. Entries stay, also those
// that requests store and remove under the configuration before.
func TestTablesOptions(t *testing.T) {
	t.Parallel()
	text := "tables: {maxEntries: 100000, maxLifetime: 2h}\nscripts: [{file: a.lua}]\n"
	for _, option := range []string{
		"maxEntries: 200000", "maxEntries: 100", "maxLifetime: 1h", "minLifetime: 1m", "sliding: true", "maxPerOwner: 5", "whenFull: refuse new",
		"maxTables: 3", "maxKeyBytes: 100", "maxValueBytes: 100", "maxTableBytes: 10000000",
	} {
		t.Run(option, func(t *testing.T) {
			lines := newCounter()
			h := open(t, map[string]string{"a.lua": remember, "limpet.yaml": text}, Options{Logger: slog.New(lines)})
			if got := h.get("listen", "a", "/first"); got != "200 nothing" {
				t.Fatal(got)
			}
			var old limpet.Tables = h.held("service")
			put := func(key string) {
				t.Helper()
				if ok, err := old.Insert(t.Context(), "", key, "v", time.Hour); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			put("gone")
			changes, err := h.rewrite(strings.NewReplacer("maxEntries: 100000, maxLifetime: 2h", option).Replace(text))
			if diff := cmp.Diff(Changes{Live: []string{"tables"}}, changes); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if got := h.get("listen", "a", "/second"); got != "200 /first" {
				t.Errorf("after the update: %s", got)
			}
			put("late")
			if err := old.Remove(t.Context(), "", "gone"); err != nil {
				t.Fatal(err)
			}
			now := h.held("service")
			has := func(key string) bool {
				_, _, ok, _ := now.Lookup(t.Context(), "", key, 0)
				return ok
			}
			if !has("late") || has("gone") {
				t.Errorf("stored by a request under way: %v; removed: %v", has("late"), has("gone"))
			}
			runtime.KeepAlive(old)
			old = nil
			h.unused()
			if n := lines.of("ERROR persistence entries lost while tables changed"); n != 0 {
				t.Errorf("%d errors", n)
			}
		})
	}
}

// A bound that changes is in force at once.
func TestTablesBound(t *testing.T) {
	text := "tables: {maxEntries: 10, whenFull: refuse new}\nscripts: [{file: a.lua}]\n"
	h := open(t, map[string]string{"a.lua": remember, "limpet.yaml": text}, Options{})
	stored := func() (n int) {
		for i := range 30 {
			if ok, _ := h.held("service").Insert(t.Context(), "", fmt.Sprint(i), "v", time.Hour); ok {
				n++
			}
		}
		return n
	}
	for _, most := range []int{10, 20, 5, 30} {
		if _, err := h.rewrite(strings.Replace(text, "10", fmt.Sprint(most), 1)); err != nil {
			t.Fatal(err)
		}
		if n := stored(); n != most {
			t.Errorf("%d entries, want %d", n, most)
		}
	}
}

// Requests store sessions under several configurations, while options change
// again and again: whoever was told of a session finds it in the tables that
// are in force then.
func TestTablesRelay(t *testing.T) {
	t.Parallel()
	text := "tables: {maxEntries: 100000}\nscripts: [{file: a.lua}]\n"
	h := open(t, map[string]string{"a.lua": remember, "limpet.yaml": text}, Options{})
	oldest := h.held("service")
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	stored := map[string]bool{}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%d-%d", w, i)
				if ok, err := oldest.Insert(context.Background(), "", key, "v", time.Hour); !ok || err != nil {
					t.Errorf("%v, %v", ok, err)
				}
				mu.Lock()
				stored[key] = true
				mu.Unlock()
			}
		})
	}
	for i := range 8 {
		if _, err := h.rewrite(strings.Replace(text, "100000", fmt.Sprint(200_000+i), 1)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		for key := range stored {
			if _, _, ok, _ := h.held("service").Lookup(t.Context(), "", key, 0); !ok {
				t.Errorf("update %d: %s is not there", i, key)
			}
		}
		n := len(stored)
		clear(stored)
		mu.Unlock()
		testwait.Until(t, "more", func() bool { mu.Lock(); defer mu.Unlock(); return len(stored) > 20 })
		t.Logf("update %d: %d sessions", i, n)
	}
	stop()
	writers.Wait()
	oldest = nil
	h.unused()
}

// Options of a server change at once: the entries are there, the new client is
// used, and the old one is closed when no request has it any more. A server or
// a password that does not work is an error, and nothing changes.
func TestRedisOptions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Command("CONFIG", "SET", "requirepass", "hush-hush")
	text := fmt.Sprintf(`tables: {redis: {addresses: ["%s"], password: {file: password}, timeout: 20s}}
scripts: [{file: a.lua}]
`, server.Addr)
	h := open(t, map[string]string{"a.lua": remember, "password": "hush-hush", "limpet.yaml": text}, Options{})
	if got := h.get("listen", "a", "/first"); got != "200 nothing" {
		t.Fatal(got)
	}
	live := Changes{Live: []string{"tables"}}
	clients := func() int {
		return strings.Count(server.Command("-a", "hush-hush", "CLIENT", "LIST", "TYPE", "normal"), "id=")
	}
	for _, option := range []string{
		"timeout: 19s", "minExtension: 1s, timeout: 20s", "nearEntries: 7, timeout: 20s", "nearEntries: -1, timeout: 20s", "nearAge: 2s, timeout: 20s", "whenDown: fail closed, timeout: 20s", "tablesWhenDown: {a: fail closed}, timeout: 20s",
		"username: default, timeout: 20s",
	} {
		before := h.held("service")
		changes, err := h.rewrite(strings.Replace(text, "timeout: 20s", option, 1))
		if diff := cmp.Diff(live, changes); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", option, err, diff)
		}
		if h.held("service") == before {
			t.Errorf("%s: the client is the one before", option)
		}
		if got := h.get("listen", "a", "/other"); got != "200 /first" {
			t.Errorf("%s: %s", option, got)
		}
		if value, _, ok, err := before.Lookup(t.Context(), "", "k", 0); value != "/first" || !ok || err != nil {
			t.Errorf("%s: a request under way gets %q, %v, %v", option, value, ok, err)
		}
	}
	h.unused()
	few := clients()

	for fault, edited := range map[string]string{
		"no server": strings.Replace(text, server.Addr, "127.0.0.1:1", 1),
		"password":  strings.Replace(text, "{file: password}", "wrong-one", 1),
	} {
		before := h.held("service")
		_, err := h.rewrite(edited)
		if err == nil || !strings.Contains(err.Error(), "limpet.yaml:1:") || !strings.Contains(err.Error(), "tables.redis: ") || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%s: %v", fault, err)
		}
		if got := h.get("listen", "a", "/other"); got != "200 /first" || h.held("service") != before {
			t.Errorf("%s: %s afterwards", fault, got)
		}
	}
	changes, err := h.rewrite(strings.Replace(text, "timeout: 20s", "prefix: other, timeout: 20s", 1))
	if diff := cmp.Diff(Changes{Fresh: []string{"tables"}}, changes); diff != "" || err != nil {
		t.Errorf("another prefix: %v (-want +got):\n%s", err, diff)
	}
	if got := h.get("listen", "a", "/new"); got != "200 nothing" {
		t.Errorf("another prefix: %s", got)
	}
	if _, err := h.rewrite(text); err != nil {
		t.Fatal(err)
	}
	if got := h.get("listen", "a", "/other"); got != "200 /first" {
		t.Error(got)
	}
	h.unused()
	if n := clients(); n > few+1 {
		t.Errorf("%d clients, before %d", n, few)
	}
	changes, err = h.rewrite("scripts: [{file: a.lua}]\n")
	if diff := cmp.Diff(Changes{Fresh: []string{"tables"}}, changes); diff != "" || err != nil {
		t.Errorf("in memory: %v (-want +got):\n%s", err, diff)
	}
}

// The file and the pause between saves change at once. What is in memory stays;
// a file that could not be read is left alone.
func TestTablesFileOptions(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	with := func(file string) string {
		return fmt.Sprintf("tables: {file: %s, saveInterval: 1s}\nscripts: [{file: a.lua}]\n", at(file))
	}
	other := open(t, map[string]string{"a.lua": strings.ReplaceAll(remember, `"k"`, `"other"`), "limpet.yaml": with("b")}, Options{})
	other.get("listen", "a", "/of-b")
	if err := other.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := open(t, map[string]string{"a.lua": remember, "limpet.yaml": with("a")}, Options{})
	if got := h.get("listen", "a", "/first"); got != "200 nothing" {
		t.Fatal(got)
	}
	changes, err := h.rewrite(with("b"))
	if diff := cmp.Diff(Changes{Live: []string{"tables"}}, changes); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := os.Stat(at("a")); err != nil {
		t.Errorf("the file before: %v", err)
	}
	value, _, _, _ := h.held("service").Lookup(t.Context(), "", "other", 0)
	if got := h.get("listen", "a", "/second"); got != "200 /first" || value != "/of-b" {
		t.Errorf("%s, and %q of the new file", got, value)
	}
	if err := h.held("service").Remove(t.Context(), "", "other"); err != nil {
		t.Fatal(err)
	}
	changes, err = h.rewrite(strings.Replace(with("b"), "1s", "24h", 1))
	if diff := cmp.Diff(Changes{Live: []string{"tables"}}, changes); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if value, _, ok, _ := h.held("service").Lookup(t.Context(), "", "other", 0); ok {
		t.Errorf("%q has returned", value)
	}
	if err := os.Mkdir(at("c"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{with("c"), strings.Replace(with("c"), "1s", "2s", 1)} {
		if _, err := h.rewrite(text); err != nil {
			t.Fatal(err)
		}
		if h.kept.tables["service"].saver != nil {
			t.Error("a file that cannot be read is saved to")
		}
	}
	if got := h.get("listen", "a", "/third"); got != "200 /first" {
		t.Error(got)
	}
}

// While the process before still sends entries, tables cannot change: a reload
// says so, and changes nothing.
func TestTablesWhileTakingOver(t *testing.T) {
	text := "tables: {maxEntries: 10}\nscripts: [{file: a.lua}]\n"
	h := open(t, map[string]string{"a.lua": remember, "limpet.yaml": text}, Options{})
	if err := h.TakeOver([]byte{messageState, 0}); err != nil {
		t.Fatal(err)
	}
	before := h.held("service")
	_, err := h.rewrite(strings.Replace(text, "10", "20", 1))
	if err == nil || !strings.Contains(err.Error(), "limpet.yaml:1:9: tables: tables cannot change while the process before is still draining") {
		t.Error(err)
	}
	if h.held("service") != before {
		t.Error("the tables have changed")
	}
	if err := h.TakeOver(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.rewrite(strings.Replace(text, "10", "20", 1)); err != nil {
		t.Error(err)
	}
}
