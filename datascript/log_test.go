package datascript

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

// One string of a megabyte, logged 1,500 times in one call, was joined to a
// line of 1.5 GB before it was cut to 16 KiB. The process died.
func TestLogOfMany(t *testing.T) {
	if testrace.Enabled {
		return // which allocates
	}
	for _, call := range []string{"avi.vs.log(unpack(t))", "print(unpack(t))", "pcall(avi.vs.log, unpack(t))"} {
		t.Run(call, func(t *testing.T) {
			e := newEngine(t, Env{})
			source := "local s, t = ('x'):rep(2^20 - 1), {} for i = 1, 1500 do t[i] = s end "
			least := ^uint64(0)
			for range 3 { // others may allocate
				before := allocated()
				x, err := runRequest(t, e, source+call)
				least = min(least, allocated()-before)
				if err != nil || len(x.logs) != 1 || len(x.logs[0]) != defaultLogBytes {
					t.Errorf("%d lines of log, error %v", len(x.logs), err)
				}
			}
			if most := uint64(4 << 20); least > most {
				t.Errorf("%d bytes, want at most %d", least, most)
			}
		})
	}
}

// Characters that end lines or control terminals are escaped in the log.
func TestLogIsOneLine(t *testing.T) {
	x := newExchange()
	x.original.URL.Path = "/\x1b[2J\x0b\u0085\u2028\n"
	if err := runAt(t, newEngine(t, Env{}), HTTPReq, x, "avi.vs.log(avi.http.get_path())"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`/\x1b[2J\x0b\u0085\u2028\n`}, x.logged()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
