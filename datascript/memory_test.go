package datascript

import (
	"runtime"
	"strings"
	"testing"
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
	for range 3 {
		all()
	}
	after := heap()
	t.Logf("%d scripts, three times: %d KiB before, %d KiB after", len(sources), before>>10, after>>10)
	if after > before+before/20 {
		t.Errorf("the heap grew from %d to %d bytes, by more than 5 %%", before, after)
	}
}
