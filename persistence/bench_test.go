package persistence

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// benchKeys returns n distinct keys and the indices of a skewed sequence of
// them, as clients come: few of them often.
func benchKeys(n int) (keys []string, order []int) {
	keys = make([]string, n)
	for i := range keys {
		keys[i] = "10.0.0.1:" + strconv.Itoa(i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.01, 8, uint64(n-1))
	order = make([]int, 1<<18)
	for i := range order {
		order[i] = int(zipf.Uint64())
	}
	return keys, order
}

func benchSizes(b *testing.B, run func(b *testing.B, s *Store, keys []string, order []int)) {
	for _, n := range []int{64 << 10, 1 << 20} {
		b.Run("entries="+strconv.Itoa(n), func(b *testing.B) {
			store := NewStore(Options{MaxEntries: n, MaxTableBytes: 1 << 30})
			keys, order := benchKeys(n)
			for _, k := range keys {
				store.Insert(b.Context(), "", k, "10.1.0.1:8080", time.Hour)
			}
			b.ReportAllocs()
			run(b, store, keys, order)
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for name, extend := range map[string]time.Duration{"hit": 0, "extend": time.Microsecond} {
		b.Run(name, func(b *testing.B) {
			benchSizes(b, func(b *testing.B, s *Store, keys []string, order []int) {
				ctx, i := b.Context(), 0
				for b.Loop() {
					s.Lookup(ctx, "", keys[order[i&(len(order)-1)]], extend)
					i++
				}
			})
		})
	}
}

func BenchmarkLookupParallel(b *testing.B) {
	benchSizes(b, func(b *testing.B, s *Store, keys []string, order []int) {
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			ctx, i := b.Context(), rand.Int()
			for pb.Next() {
				s.Lookup(ctx, "", keys[order[i&(len(order)-1)]], time.Microsecond)
				i++
			}
		})
	})
}

// BenchmarkInsert stores new keys in a full table.
func BenchmarkInsert(b *testing.B) {
	benchSizes(b, func(b *testing.B, s *Store, keys []string, _ []int) {
		ctx, i := b.Context(), 0
		for b.Loop() {
			s.Insert(ctx, "", "10.9.9.9:"+strconv.Itoa(i), "10.1.0.1:8080", time.Hour)
			i++
		}
	})
}

// BenchmarkInsertLive renews lifetimes.
func BenchmarkInsertLive(b *testing.B) {
	benchSizes(b, func(b *testing.B, s *Store, keys []string, order []int) {
		ctx, i := b.Context(), 0
		for b.Loop() {
			s.Insert(ctx, "", keys[order[i&(len(order)-1)]], "10.1.0.1:8080", 2*time.Hour)
			i++
		}
	})
}

// BenchmarkMixed looks up nine times for each Put.
func BenchmarkMixed(b *testing.B) {
	benchSizes(b, func(b *testing.B, s *Store, keys []string, order []int) {
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			ctx, i := b.Context(), rand.Int()
			for pb.Next() {
				key := keys[order[i&(len(order)-1)]]
				if i%10 == 0 {
					s.Put(ctx, "", key, "10.1.0.1:8080", time.Hour)
				} else {
					s.Lookup(ctx, "", key, time.Microsecond)
				}
				i++
			}
		})
	})
}

// BenchmarkSnapshot writes a million entries, and restores them in an empty
// store.
func BenchmarkSnapshot(b *testing.B) {
	const n = 1_000_000
	o := Options{MaxEntries: 2 * n, MaxTableBytes: 2 << 30}
	store := NewStore(o)
	for i := range n {
		store.Insert(b.Context(), "", "192.0.2.1:"+strconv.Itoa(i), "10.0.0.1:8080", time.Hour)
	}
	snapshot := snapshotOf(b, store)
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := store.WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	store = nil
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := NewStore(o).ReadFrom(bytes.NewReader(snapshot)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
