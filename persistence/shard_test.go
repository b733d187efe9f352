package persistence

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
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

// An evictionTwin says by hand, on a slice, who goes when a small table is
// full.
type evictionTwin struct {
	entries             []evictionEntry // in the order in which they were put into their lists
	max                 int
	generation, ordinal int // the second of insertions within the first
	usedIsRare          bool
}

type evictionEntry struct {
	key, list, lastUse int
	used, moved        bool
}

func (w *evictionTwin) find(key int) int {
	return slices.IndexFunc(w.entries, func(e evictionEntry) bool { return e.key == key })
}

func (w *evictionTwin) use(key int) {
	if i := w.find(key); i >= 0 {
		w.entries[i].used, w.entries[i].lastUse = true, w.generation
	}
}

func (w *evictionTwin) age(list int) int { return (w.generation + 8 - list + 6400) % 64 }

// tick counts an insertion.
func (w *evictionTwin) tick() {
	w.ordinal++
	if w.ordinal < max(1, w.max/32) {
		return
	}
	w.ordinal = 0
	w.generation++
	var newcomers []evictionEntry
	for _, e := range slices.Backward(w.entries) {
		if !e.moved && (w.generation-16-e.list)%64 == 0 && len(newcomers) < 16 {
			newcomers = append(newcomers, e)
		}
	}
	again := len(slices.DeleteFunc(slices.Clone(newcomers), func(e evictionEntry) bool { return !e.used }))
	if len(newcomers) > 0 {
		w.usedIsRare = again <= len(newcomers)/2
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
	} else {
		w.tick()
	}
	for moved := 0; len(w.entries) > 0; {
		full := len(w.entries) >= w.max
		if !full && len(w.entries) < w.max/2 {
			break
		}
		oldest := [2]int{-1, -1}
		for j, e := range w.entries {
			kind := 0
			if e.moved {
				kind = 1
			}
			if i := oldest[kind]; i < 0 || w.age(e.list) > w.age(w.entries[i].list) {
				oldest[kind] = j
			}
		}
		first, other := oldest[0], oldest[1]
		if first < 0 || other >= 0 && w.age(w.entries[other].list) > w.age(w.entries[first].list) {
			first, other = other, first
		}
		if e := w.entries[first]; w.younger(e) && (moved < 2 || full && moved < 10) {
			e.list, e.moved = w.list(e)%64, true
			w.entries = append(slices.Delete(w.entries, first, first+1), e)
			moved++
			continue
		}
		if !full {
			break
		}
		if other >= 0 && w.age(w.list(w.entries[other])) > w.age(w.list(w.entries[first])) {
			first = other
		}
		w.entries = slices.Delete(w.entries, first, first+1)
		moved = min(moved, 2)
	}
	w.entries = append(w.entries, evictionEntry{key: key, list: w.generation, lastUse: w.generation, used: i >= 0})
}

// list returns the list where an entry belongs.
func (w *evictionTwin) list(e evictionEntry) int {
	list := e.lastUse
	if e.used && w.usedIsRare {
		list += 8
	}
	if w.age(list) > w.age(e.list) {
		return e.list
	}
	return list
}

func (w *evictionTwin) younger(e evictionEntry) bool { return w.age(w.list(e)) < w.age(e.list) }

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
		max := rapid.SampledFrom([]int{1, 2, 3, 5, 8, 12, 70}).Draw(t, "MaxEntries")
		table := NewTable[int, int](Options{MaxEntries: max})
		w := &evictionTwin{max: max, usedIsRare: true}
		key, next := rapid.IntRange(0, max*3/2), max*3/2
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
			"insert new ones": func(t *rapid.T) {
				use := rapid.Bool().Draw(t, "used")
				for range rapid.IntRange(1, 2*max).Draw(t, "n") {
					next++
					table.Insert(next, next, time.Hour)
					w.store(next, false)
					if use {
						table.Lookup(next, 0)
						w.use(next)
					}
				}
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

// TestFloodSparesUsedEntries lets sessions that come back live through a flood
// of keys that do not.
func TestFloodSparesUsedEntries(t *testing.T) {
	for _, tt := range []struct {
		name                         string
		max, sessions, flood, reuses int // reuses of sessions, one after the other, per flood key
		evictions                    bool
	}{
		{"below capacity", 32768, 10_000, 15_000, 0, false},
		{"ten times the capacity", 32768, 10_000, 300_000, 1, true},
		{"half of the table", 32768, 16_000, 300_000, 2, true},
		{"single shard", 2000, 900, 50_000, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testrace.Enabled || testing.Short() {
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

// TestRefuseNewLooksForExpired has one expired entry among many, which is found
// within as many refusals as it takes to examine all.
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

// TestSweepIsBounded lets a whole table expire at once: no write pays for all
// of it, and a sixteenth as many writes free it.
func TestSweepIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 8000
		table := NewTable[int, int](Options{MaxEntries: 8191})
		for i := range n {
			table.Insert(i, i, time.Minute)
			table.Refresh(i, time.Minute) // the due time of a slot is too early
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

// TestMovesAreBounded has a full table all of whose entries have been used
// since: one insertion looks at ten of them and evicts the eleventh.
func TestMovesAreBounded(t *testing.T) {
	table := NewTable[int, int](Options{MaxEntries: 32})
	for i := range 32 {
		table.Insert(i, i, time.Hour)
	}
	for i := range 32 {
		table.Lookup(i, 0)
	}
	table.Insert(32, 32, time.Hour)
	var want []int
	for i := range 33 {
		if i != movesWithRoom+movesToEvict {
			want = append(want, i)
		}
	}
	if diff := cmp.Diff(want, keys(table)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if got := table.Stats().Evictions; got != 1 {
		t.Errorf("%d evictions", got)
	}
}
