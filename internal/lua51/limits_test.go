package lua51

import (
	"math"
	"testing"
)

func TestConcurrentDefault(t *testing.T) {
	for _, tt := range []struct {
		name   string
		memory int64
		procs  int
		want   int
	}{
		{"1 GiB", 1 << 30, 2, 4},
		{"128 MiB on many processors", 128 << 20, 16, 16},
		{"a terabyte", 1 << 40, 64, 1024},
	} {
		if got := concurrentFor(tt.memory, defaultAllocBytes, tt.procs); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if l := (Limits{Concurrent: -1, HeldBytes: -1}).WithDefaults(); l.Concurrent < 1<<30 || l.HeldBytes < 1<<40 {
		t.Errorf("no limit is %+v", l)
	}
	if l := (Limits{}).WithDefaults(); l.Concurrent > maxConcurrent || l.HeldBytes > math.MaxInt/2 {
		t.Errorf("the default is %+v", l)
	}
}
