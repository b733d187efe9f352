package persistence

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// keys returns the live keys, sorted.
func keys[V any](t *Table[int, V]) []int {
	var all []int
	for k := range t.All() {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// An evictionTwin says by hand, on a slice, who goes when a small table is full.
type evictionTwin struct {
	entries []evictionEntry // oldest first
	max     int
}

type evictionEntry struct {
	key  int
	used bool
}

func (w *evictionTwin) find(key int) int {
	return slices.IndexFunc(w.entries, func(e evictionEntry) bool { return e.key == key })
}

func (w *evictionTwin) use(key int) {
	if i := w.find(key); i >= 0 {
		w.entries[i].used = true
	}
}

func (w *evictionTwin) store(key int, replace bool) {
	i := w.find(key)
	if i >= 0 && !replace {
		w.use(key)
		return
	}
	if i >= 0 {
		w.entries = slices.Delete(w.entries, i, i+1)
	}
	for spared := 0; len(w.entries) > 0; {
		oldest := w.entries[0]
		if spared < 2 && oldest.used && len(w.entries) >= w.max/2 {
			spared++
			w.entries = append(w.entries[1:], evictionEntry{key: oldest.key})
			continue
		}
		if len(w.entries) < w.max {
			break
		}
		w.entries = w.entries[1:]
	}
	w.entries = append(w.entries, evictionEntry{key, i >= 0})
}

func (w *evictionTwin) keys() []int {
	var all []int
	for _, e := range w.entries {
		all = append(all, e.key)
	}
	slices.Sort(all)
	return all
}

func TestEvictionAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		max := rapid.IntRange(1, 12).Draw(t, "MaxEntries")
		table := NewTable[int, int](Options{MaxEntries: max})
		w := &evictionTwin{max: max}
		key := rapid.IntRange(0, 20)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if diff := cmp.Diff(w.keys(), keys(table)); diff != "" {
					t.Fatalf("keys (-want +got):\n%s", diff)
				}
				checkInvariants(t, table)
			},
			"insert": func(t *rapid.T) {
				k := key.Draw(t, "key")
				table.Insert(k, k, time.Hour)
				w.store(k, false)
			},
			"insert shorter": func(t *rapid.T) {
				k := key.Draw(t, "key")
				table.Insert(k, k, time.Minute)
				w.store(k, false)
			},
			"put": func(t *rapid.T) {
				k := key.Draw(t, "key")
				table.Put(k, -k, time.Hour)
				w.store(k, true)
			},
			"lookup": func(t *rapid.T) {
				k := key.Draw(t, "key")
				table.Lookup(k, 0)
				w.use(k)
			},
			"peek": func(t *rapid.T) { table.Peek(key.Draw(t, "key")) },
			"remove": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if i := w.find(k); table.Remove(k) != (i >= 0) {
					t.Fatalf("Remove(%d) = %t", k, i < 0)
				} else if i >= 0 {
					w.entries = slices.Delete(w.entries, i, i+1)
				}
			},
		})
	})
}

func TestEvictionPrefersExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000 // more than a sweep examines
		table := NewTable[int, int](Options{MaxEntries: n})
		for i := range n {
			table.Insert(i, i, time.Second)
			table.Lookup(i, 0) // a mark does not save an expired entry
		}
		advance(time.Second)
		for i := range n {
			table.Insert(n+i, i, time.Hour)
		}
		if s := table.Stats(); s.Evictions != 0 || s.Expirations != n || s.Entries != n {
			t.Errorf("Stats = %+v", s)
		}
	})
}

func TestMarkDoesNotSaveExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[int, int](Options{MaxEntries: 1000})
		for i := range 1000 {
			table.Insert(i, i, time.Hour)
		}
		table.Insert(0, 0, time.Second) // the oldest, used, and soon expired
		advance(time.Second)
		table.shards[0].cursor = 500 // the sweep does not come by
		table.Insert(1000, 0, time.Hour)
		if s := table.Stats(); s.Evictions != 0 || s.Expirations != 1 {
			t.Errorf("Stats = %+v", s)
		}
	})
}

// TestFloodSparesUsedEntries lets sessions that come back live through a flood of keys that do not.
func TestFloodSparesUsedEntries(t *testing.T) {
	for _, tt := range []struct {
		name                         string
		max, sessions, flood, reuses int // reuses of sessions, in turn, per flood key
		evictions                    bool
	}{
		{"below capacity", 32768, 10_000, 15_000, 0, false},
		{"ten times the capacity", 32768, 10_000, 300_000, 1, true},
		{"half of the table", 32768, 16_000, 300_000, 2, true},
		{"single shard", 2000, 900, 50_000, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if raceEnabled {
				tt.flood /= 5
			}
			table := NewTable[int, int](Options{MaxEntries: tt.max})
			other := NewTable[int, int](Options{MaxEntries: tt.max})
			for i := range tt.sessions {
				table.Insert(i, i, time.Hour)
				table.Lookup(i, time.Minute)
				other.Insert(i, i, time.Hour)
			}
			next, survivors := 0, 0
			for i := range tt.flood {
				table.Insert(-1-i, 0, time.Hour)
				for range tt.reuses {
					table.Lookup(next%tt.sessions, time.Minute)
					next++
				}
			}
			for i := range tt.sessions {
				if _, _, ok := table.Peek(i); ok {
					survivors++
				}
			}
			if survivors*1000 < tt.sessions*999 {
				t.Errorf("%d of %d sessions survive", survivors, tt.sessions)
			}
			s := table.Stats()
			if (s.Evictions > 0) != tt.evictions || s.Entries > tt.max || s.Entries < min(tt.sessions+tt.flood, tt.max*95/100) {
				t.Errorf("Stats = %+v", s)
			}
			if other.Len() != tt.sessions {
				t.Error("another table suffers")
			}
			checkInvariants(t, table)
		})
	}
}

func TestRefuseNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		table := NewTable[int, int](Options{MaxEntries: n, WhenFull: RefuseNew})
		for i := range n {
			if !table.Insert(i, i, time.Minute) {
				t.Fatalf("entry %d refused", i)
			}
		}
		for i := n; i < 2*n; i++ {
			if table.Insert(i, i, time.Hour) || table.Put(i, i, time.Hour) {
				t.Fatalf("entry %d stored in a full table", i)
			}
		}
		for i := range n {
			if v, left, ok := table.Lookup(i, 0); !ok || v != i || left != time.Minute {
				t.Fatalf("entry %d: %d, %v, %t", i, v, left, ok)
			}
		}
		if !table.Insert(1, 0, time.Hour) || !table.Put(2, -2, time.Hour) || !CompareAndSwap(table, 3, 3, -3) {
			t.Error("a full table refuses what takes no place")
		}
		if s := table.Stats(); s.RefusedFull != 2*n || s.Evictions != 0 || s.Entries != n {
			t.Errorf("Stats = %+v", s)
		}
		advance(time.Minute) // all but 1 and 2 have expired
		for i := n; i < 2*n-2; i++ {
			if !table.Insert(i, i, time.Hour) {
				t.Fatalf("entry %d refused although others have expired", i)
			}
		}
		checkInvariants(t, table)
	})
}

// TestRefuseNewLooksForExpired has one expired entry among many, which is found within as many
// refusals as it takes to examine all.
func TestRefuseNewLooksForExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 4000
		table := NewTable[int, int](Options{MaxEntries: n, WhenFull: RefuseNew})
		for i := range n {
			table.Insert(i, i, time.Hour)
		}
		for round := range 100 {
			victim := n - 1 - round*37
			table.Put(victim, victim, time.Second)
			advance(time.Second)
			refused := 0
			for !table.Insert(n+round, 0, time.Hour) {
				if refused++; refused > n/refusalWidth+1 {
					t.Fatalf("round %d: refused %d times", round, refused)
				}
			}
		}
		checkInvariants(t, table)
	})
}

// TestSweepIsBounded lets a whole table expire at once: no write pays for all of it, and a
// sixteenth as many writes free it.
func TestSweepIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 8000
		table := NewTable[int, int](Options{MaxEntries: 8191})
		for i := range n {
			table.Insert(i, i, time.Minute)
			table.Refresh(i, time.Minute) // what a place says is due too early
		}
		advance(2 * time.Minute)
		before := table.Stats().Expirations
		for i := range n / 16 {
			table.Insert(-1-i, i, time.Hour)
			after := table.Stats().Expirations
			if after-before > sweepWidth {
				t.Fatalf("one write dropped %d entries", after-before)
			}
			before = after
		}
		if got := table.Len(); got != n/16 {
			t.Errorf("%d entries stored, want %d", got, n/16)
		}
		checkInvariants(t, table)
	})
}

func TestSweepKeepsResidueSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[int, int](Options{MaxEntries: 8191})
		for i := range 50_000 { // 1000 are live at any time
			table.Insert(i, i, time.Second)
			advance(time.Millisecond)
			if got := table.Len(); got > 1100 {
				t.Fatalf("%d entries stored", got)
			}
		}
	})
}

func TestMarkedRunIsBounded(t *testing.T) {
	// All entries are used: one insertion spares two and evicts the third.
	table := NewTable[int, int](Options{MaxEntries: 10})
	for i := range 10 {
		table.Insert(i, i, time.Hour)
	}
	for i := range 10 {
		table.Lookup(i, 0)
	}
	table.Insert(10, 10, time.Hour)
	if diff := cmp.Diff([]int{0, 1, 3, 4, 5, 6, 7, 8, 9, 10}, keys(table)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if got := fmt.Sprint(table.Stats().Evictions); got != "1" {
		t.Errorf("%s evictions", got)
	}
}
