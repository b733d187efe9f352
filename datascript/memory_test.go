package datascript

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// heap is how much is reachable.
func heap() uint64 {
	runtime.GC() // puts pools' states aside
	runtime.GC() // and drops them
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What hostile scripts hoard is gone with their requests.
func TestMemoryReturns(t *testing.T) {
	e := newEngine(t, Env{Tables: discardTables{}, Limits: Limits{Time: defaultTime}})
	sources := map[string]string{
		"returned values":  "local t = {} for i = 1, 7000 do t[i] = ('x'):rep(100) .. i end return unpack(t)",
		"returned strings": "return ('x'):rep(2^20), ('y'):rep(2^20), ('z'):rep(2^20)",
		"globals":          "for i = 1, 1e9 do _ = nil avi.vs.reqvar['k' .. i] = ('x'):rep(1000) .. i end",
	}
	for name, source := range hostileScripts(t) {
		if testing.Short() && len(name)%12 > 0 {
			continue
		}
		if strings.HasPrefix(name, "string-") || strings.HasPrefix(name, "table-") || strings.HasPrefix(name, "registry-") {
			sources[name] = source
		}
	}
	all := func() {
		for name, source := range sources {
			misbehave(t, e, name, source)
		}
	}
	all() // what is made once
	before := heap()
	rounds := 3
	if testrace.Enabled {
		rounds = 1
	}
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		all()
	}
	after := heap()
	t.Logf("%d scripts, again and again: %d KiB before, %d KiB after", len(sources), before>>10, after>>10)
	if after > before+before/20 {
		t.Errorf("the heap grew from %d to %d bytes, by more than 5 %%", before, after)
	}
}

// Scripts that come and go by the thousand leave nothing behind.
func TestManyScripts(t *testing.T) {
	scripts := 10_000
	if testrace.Enabled {
		scripts = 500
	}
	if testing.Short() {
		scripts = 500
	}
	e := newEngine(t, Env{})
	load := func(n int) {
		for i := range n {
			source := fmt.Sprintf("local n = %d x = n .. '%d' function f%d() return n end avi.vs.reqvar.f = f%d", i, i, i, i)
			x := newExchange()
			if err := runAt(t, e, HTTPReq, x, source); err != nil {
				t.Fatal(err)
			}
			x.vars.Reset()
		}
	}
	load(100)
	before := heap()
	load(scripts)
	after := heap()
	t.Logf("%d scripts: %d KiB before, %d KiB after", scripts, before>>10, after>>10)
	if after > before+before/20 {
		t.Errorf("the heap grew from %d to %d bytes, by more than 5 %%", before, after)
	}
}

// Scripts can neither start the host's garbage collector, nor read or seed its
// random numbers.
func TestHostUntouched(t *testing.T) {
	e := newEngine(t, Env{})
	if _, err := runRequest(t, e, "x = 1"); err != nil { // makes a state
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if x, err := runRequest(t, e, "for i = 1, 1000 do if collectgarbage then pcall(collectgarbage) pcall(collectgarbage, 'collect') end end"); err != nil {
		t.Errorf("%v, %v", x.logs, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.NumGC - before.NumGC; n > 1 {
		t.Errorf("the garbage collector ran %d times", n)
	}
	seen := map[int64]bool{}
	for range 20 {
		x, err := runRequest(t, e, "math.randomseed(42) avi.vs.log(math.random(1, 2^30))")
		if err != nil {
			t.Fatal(err)
		}
		if n := rand.Int64(); seen[n] {
			t.Errorf("the host's random numbers repeat: %d, after a script's %v", n, x.logs)
		} else {
			seen[n] = true
		}
	}
}

// Indexes that are far apart make a table no larger than those that are not,
// and it works as in Lua.
func TestSparseTables(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const most, target = 1 << 20, time.Millisecond
	e := newEngine(t, Env{})
	for _, index := range []string{"1025", "8191", "8192", "8193", "1e5", "67108863", "2^26", "2^31 - 1", "2^31", "2^53", "1e300", "-1", "-2^31", "0", "0.5", "1/0"} {
		s := mustCompile(t, Chunk{Event: HTTPReq, Source: `
			local i, t = ` + index + `, {}
			t[i] = "a" t[i] = "b" t[1] = 1
			assert(t[i] == "b" and next({[i] = 1}) == i)
			local function border() return t[#t] ~= nil and t[#t + 1] == nil end
			assert(border())
			local n = #t
			table.insert(t, 2)
			assert(#t == n + 1 and t[n + 1] == 2 and border())
			t[i] = nil
			assert(t[i] == nil)`})
		least, bytes := time.Hour, uint64(0)
		for range 50 {
			var before, after runtime.MemStats
			x := newExchange()
			runtime.ReadMemStats(&before)
			start := threadTime()
			if err := e.Run(t.Context(), s, HTTPReq, x); err != nil {
				t.Fatalf("index %s: %v", index, err)
			}
			took := threadTime() - start
			runtime.ReadMemStats(&after)
			x.vars.Reset()
			if least, bytes = min(least, took), after.TotalAlloc-before.TotalAlloc; least <= target && bytes <= most {
				break
			}
		}
		if (least > target || bytes > most) && !testrace.Enabled {
			t.Errorf("index %s: %v, %d bytes", index, least, bytes)
		}
	}
}
