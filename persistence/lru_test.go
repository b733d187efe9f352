package persistence

import (
	"testing"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"pgregory.net/rapid"
)

// As long as nothing is used again, a full table evicts as golang-lru's
// simplelru does: the oldest first, whatever was removed in between, unless
// something has stayed while twice the table was stored.
func TestEvictsLikeSimpleLRU(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 40).Draw(t, "size")
		table := NewTable[int, int](Options{MaxEntries: size})
		var evicted []int
		oracle, err := simplelru.NewLRU(size, func(k, _ int) { evicted = append(evicted, k) })
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				// What has stayed through nearly all generations, because
				// others were removed and the table was not full, may count as
				// younger; see lruLists.
				if k, _, ok := oracle.GetOldest(); ok && next-k >= generations-bonus-2 {
					oracle.Remove(k)
					table.Remove(k)
				}
				next++
				oracle.Add(next, next)
				table.Insert(next, next, time.Hour)
			},
			"remove": func(t *rapid.T) {
				if next == 0 {
					return
				}
				k := rapid.IntRange(max(1, next-size-5), next).Draw(t, "key")
				if got, want := table.Remove(k), oracle.Remove(k); got != want {
					t.Fatalf("Remove(%d) = %v, want %v", k, got, want)
				}
			},
			"": func(t *rapid.T) {
				if got, want := table.Len(), oracle.Len(); got != want {
					t.Fatalf("%d entries, want %d", got, want)
				}
				for _, k := range oracle.Keys() {
					if v, _, ok := table.Peek(k); !ok || v != k {
						t.Fatalf("%d is gone, which simplelru keeps (it evicted %v)", k, evicted)
					}
				}
			},
		})
	})
}
