package ipgroup

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// levels returns how many tables lie one below another, from t on.
func (x *index) levels(t *table) int {
	deepest := 0
	for _, c := range x.cells[t.cells : t.cells+t.empty] {
		if c.at >= crowded {
			deepest = max(deepest, x.levels(&x.tables[c.at-crowded]))
		}
	}
	return 1 + deepest
}

// bytes returns the memory of the index without its root.
func (x *index) bytes() int {
	return len(x.cells)*int(unsafe.Sizeof(cell{})) + len(x.tables)*int(unsafe.Sizeof(table{}))
}

// Whoever writes a list cannot make its index deep or large.
func TestIndexOfHostileLists(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	random := func(n int) (keys []uint64) {
		for range n {
			keys = append(keys, r.Uint64())
		}
		return keys
	}
	// crowd returns n keys within 2^exponent, and a key for each bit above, so
	// that each table has a cell with nearly all of them.
	crowd := func(n int, exponent uint) (keys []uint64) {
		for range n {
			keys = append(keys, r.Uint64N(1<<exponent)&^1) // even keys do not touch
		}
		for bit := exponent; bit < 64; bit++ {
			keys = append(keys, 1<<bit)
		}
		return keys
	}
	tests := []struct {
		name   string
		keys   []uint64
		levels int // at most
		bytes  int // for each span, at most
	}{
		{"random", random(10_000), 2, 6},
		{"powers of two", crowd(0, 0), 20, 40},
		{"some close together", crowd(9, 10), 20, 40},
		{"many close together", crowd(10_000, 20), 8, 16},
		{"as close as can be", crowd(100_000, 14), 8, 16},
		{"both ends", []uint64{0, math.MaxUint64}, 1, 300},
		{"one", []uint64{1 << 63}, 1, 300},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			slices.Sort(tt.keys)
			keys := slices.Compact(tt.keys)
			var spans []span[uint64]
			for _, key := range keys {
				spans = append(spans, span[uint64]{key, key})
			}
			ranges := newRanges(spans)
			x := &ranges.index
			if got := x.levels(&x.root); got > tt.levels {
				t.Errorf("%d levels, want at most %d", got, tt.levels)
			}
			if got := x.bytes() / len(spans); got > tt.bytes {
				t.Errorf("%d bytes for each of %d spans, want at most %d", got, len(spans), tt.bytes)
			}
			for i, s := range spans {
				for _, key := range []uint64{s.first - 1, s.first, s.first + 1, s.first ^ 1<<63} {
					_, want := slices.BinarySearch(keys, key)
					c, ok := x.find(key)
					if got := ok && search(&ranges, c, key); got != want {
						t.Fatalf("span %d: contains(%#x) = %v, want %v", i, key, got, want)
					}
				}
			}
			t.Logf("%d spans: %d levels, %d bytes", len(spans), x.levels(&x.root), x.bytes())
		})
	}
}

// Single addresses of one /64 network differ in their lower halves, however
// many there are.
func TestIndexInsideOneNetwork(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	for _, n := range []int{1, leafSpans, leafSpans + 1, 10_000} {
		in := make(map[uint64]bool)
		var spans []span[uint128]
		for len(in) < n {
			in[r.Uint64()] = true
		}
		for low := range in {
			spans = append(spans, span[uint128]{uint128{7, low}, uint128{7, low}})
		}
		spans, _ = merge(spans, arithmetic6)
		ranges := newPartRanges(spans)
		for low := range in {
			for _, a := range []uint128{{7, low}, {7, low + 1}, {7, low ^ 1<<63}, {6, low}, {8, low}} {
				c, ok := ranges.index.find(a.hi)
				if got, want := ok && searchPart(&ranges, c, a), a.hi == 7 && in[a.lo]; got != want {
					t.Fatalf("%d addresses: contains(%x) = %v, want %v", n, a, got, want)
				}
			}
		}
	}
}
