package persistence

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// TestExtensionsAddUp runs on the virtual clock, which stands still while
// goroutines run.
func TestExtensionsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string, string](Options{})
		table.Insert("k", "v", time.Minute)
		const goroutines, each = 8, 2000
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range each {
					table.Lookup("k", time.Millisecond)
					table.Refresh("k", time.Millisecond)
				}
			})
		}
		wg.Wait()
		want := time.Minute + 2*goroutines*each*time.Millisecond
		if _, left, _ := table.Lookup("k", 0); left != want {
			t.Errorf("%v is left, want %v: extensions were lost", left, want)
		}
		if got := table.Stats().Hits; got != 2*goroutines*each+1 {
			t.Errorf("%d hits", got)
		}
	})
}

func TestFirstInsertWins(t *testing.T) {
	table := NewTable[int, int](Options{})
	const goroutines, n = 8, 2000
	var values [goroutines][n]int
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range n {
				table.Insert(i, g, time.Hour)
				values[g][i], _, _ = table.Lookup(i, time.Second)
			}
		})
	}
	wg.Wait()
	for i := range n {
		for g := range goroutines {
			if values[g][i] != values[0][i] {
				t.Fatalf("key %d: %d and %d", i, values[0][i], values[g][i])
			}
		}
	}
	if got := table.Stats().Inserts; got != n {
		t.Errorf("%d inserts of %d keys", got, n)
	}
	checkInvariants(t, table)
}

func TestCompareAndSwapCounts(t *testing.T) {
	store := NewStore(Options{})
	ctx := t.Context()
	store.Put(ctx, "counters", "k", "0", time.Hour)
	const goroutines, each = 16, 500
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range each {
				for {
					old, _, _, _ := store.Lookup(ctx, "counters", "k", 0)
					n, _ := strconv.Atoi(old)
					if swapped, _ := store.CompareAndSwap(ctx, "counters", "k", old, strconv.Itoa(n+1)); swapped {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if got, _, _, _ := store.Lookup(ctx, "counters", "k", 0); got != strconv.Itoa(goroutines*each) {
		t.Errorf("counted to %s, want %d", got, goroutines*each)
	}
}

// TestExpiredStaysExpired races readers, which extend lifetimes of a few
// microseconds, against the deadlines: once a call has found a key gone, no
// later call may find it.
func TestExpiredStaysExpired(t *testing.T) {
	const goroutines, n = 4, 4000
	table := NewTable[int, int](Options{})
	var claimed, made, gone [n]atomic.Bool
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range n {
				if claimed[i].CompareAndSwap(false, true) { // the first to come makes the entry
					table.Insert(i, i, 20*time.Microsecond)
					made[i].Store(true)
				}
				for range 50 {
					wasMade, wasGone := made[i].Load(), gone[i].Load()
					var found bool
					switch g {
					case 0:
						_, _, found = table.Peek(i)
					case 1:
						found = table.Refresh(i, time.Nanosecond)
					default:
						_, _, found = table.Lookup(i, time.Nanosecond)
					}
					if found && wasGone {
						t.Errorf("key %d was gone and is back", i)
						return
					}
					if !found && wasMade {
						gone[i].Store(true)
					}
				}
			}
		})
	}
	wg.Wait()
	checkInvariants(t, table)
}

// TestLateExtension plays readers that have read the clock before the deadline
// and extend the entry after it, before or after another has found it expired:
// the first to come decides for all.
func TestLateExtension(t *testing.T) {
	for name, find := range map[string]func(*Table[string, string]) bool{
		"Lookup":  func(t *Table[string, string]) bool { _, _, ok := t.Lookup("k", 0); return ok },
		"Refresh": func(t *Table[string, string]) bool { return t.Refresh("k", 0) },
		"Peek":    func(t *Table[string, string]) bool { _, _, ok := t.Peek("k"); return ok },
		"All": func(t *Table[string, string]) bool {
			for range t.All() {
				return true
			}
			return false
		},
		"CountByValue":   func(t *Table[string, string]) bool { return CountByValue(t)["v"] == 1 },
		"CompareAndSwap": func(t *Table[string, string]) bool { return CompareAndSwap(t, "k", "v", "v") },
		"Remove":         func(t *Table[string, string]) bool { return t.Remove("k") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := NewTable[string, string](Options{})
				begin := func() (*entry[string, string], time.Duration) {
					table.Put("k", "v", time.Minute)
					h := table.locate("k")
					r, _ := h.index.find(h.tag, "k")
					early := table.now()
					advance(2 * time.Minute)
					return r, early
				}
				r, early := begin()
				if left := r.extend(early, time.Hour, table.lifetimes); left != time.Hour+time.Minute {
					t.Errorf("extended first: %v is left", left)
				}
				if !find(table) {
					t.Error("not found, although the entry was extended first")
				}
				checkInvariants(t, table)

				r, early = begin()
				if find(table) {
					t.Error("found after its deadline")
				}
				if left := r.extend(early, time.Hour, table.lifetimes); left >= 0 {
					t.Errorf("extended last: %v is left", left)
				}
				if left := r.prolong(early, time.Hour); left != 0 {
					t.Errorf("prolonged last: %v is left", left)
				}
				if _, live := r.acquire(early); live {
					t.Error("taken last")
				}
				if _, _, ok := table.Peek("k"); ok || find(table) {
					t.Error("found again")
				}
				checkInvariants(t, table)
			})
		})
	}
}

// TestExtensionMeetsWriter has a writer acquire an entry while look-ups read
// it: they wait, and then see what has become of it.
func TestExtensionMeetsWriter(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*Table[string, string], location[string, string], acquired[string, string])
		want string // found by the look-ups; "" for none
	}{
		{"released", func(_ *Table[string, string], h location[string, string], held acquired[string, string]) {
			h.releaseLocked(held)
		}, "v"},
		{"renewed", func(t *Table[string, string], h location[string, string], held acquired[string, string]) {
			h.renewLocked(held, t.now(), time.Hour)
		}, "v"},
		{"removed", func(_ *Table[string, string], h location[string, string], held acquired[string, string]) {
			h.deleteLocked(held.entry, Removed)
		}, ""},
		{"replaced", func(t *Table[string, string], h location[string, string], held acquired[string, string]) {
			t.storeLocked(h, t.now(), held, "k", "w", expiry{deadline: held.deadline})
		}, "w"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := NewTable[string, string](Options{})
			table.Insert("k", "v", time.Minute)
			h := table.locate("k")
			table.lock(h.shard)
			held := h.acquireLocked(h.tag, "k", table.now())
			extended, peeked := make(chan string), make(chan string)
			go func() { v, _, _ := table.Lookup("k", time.Hour); extended <- v }()
			go func() { v, _, _ := table.Peek("k"); peeked <- v }()
			for range 100 {
				runtime.Gosched()
			}
			tt.end(table, h, held)
			table.unlock(h.shard)
			if got := <-extended; got != tt.want {
				t.Errorf("Lookup found %q, want %q", got, tt.want)
			}
			if got := <-peeked; got != tt.want {
				t.Errorf("Peek found %q, want %q", got, tt.want)
			}
			if _, left, ok := table.Peek("k"); ok && left <= time.Hour {
				t.Errorf("%v is left: the extension is lost", left)
			}
			checkInvariants(t, table)
		})
	}
}

// TestExtensionsSurviveReplacement extends a lifetime while others swap the
// value and count it up: each of them keeps the lifetime, so no extension may
// be lost.
func TestExtensionsSurviveReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string, int64](Options{})
		table.Insert("k", 0, time.Minute)
		const each = 5000
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range each {
					if _, _, ok := table.Lookup("k", time.Millisecond); !ok {
						t.Error("missed")
						return
					}
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				for i := range int64(each) {
					Increment(table, "k", 1, time.Hour)
					CompareAndSwap(table, "k", i, i)
				}
			})
		}
		wg.Wait()
		v, left, _ := table.Peek("k")
		if want := time.Minute + 4*each*time.Millisecond; v != 2*each || left != want {
			t.Errorf("%d for %v, want %d for %v", v, left, 2*each, want)
		}
		checkInvariants(t, table)
	})
}

// TestNothingIsMissed looks up keys that are always there while others are
// stored and removed around them, which splits and changes the chains that they
// are in, and while their values are replaced.
func TestNothingIsMissed(t *testing.T) {
	rounds, steady := 20, 256
	if testrace.Enabled {
		rounds = 5
	}
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		table := NewTable[int, int](Options{MaxEntries: 8000})
		for i := range steady {
			table.Insert(i, i, time.Hour)
		}
		var wg sync.WaitGroup
		var done atomic.Bool
		for g := range 3 {
			wg.Go(func() {
				for i := g; !done.Load(); i = (i + 1) % steady {
					if v, _, ok := table.Lookup(i, time.Nanosecond); !ok || v != i {
						t.Errorf("%d is %d, found %t", i, v, ok)
						return
					}
					if v, _, ok := table.Peek(i); !ok || v != i {
						t.Errorf("%d is %d to Peek, found %t", i, v, ok)
						return
					}
				}
			})
		}
		for i := range 6000 {
			table.Insert(-1-i, i, time.Hour)
			table.Put(i%steady, i%steady, time.Hour)
			if i%3 == 0 {
				table.Remove(-1 - i/2)
			}
		}
		done.Store(true)
		wg.Wait()
		checkInvariants(t, table)
	}
}

// TestAllMissesNoReplaced walks over entries whose values are being replaced.
func TestAllMissesNoReplaced(t *testing.T) {
	table := NewTable[int, int](Options{})
	const n = 1000
	for i := range n {
		table.Insert(i, 0, time.Hour)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for v := 1; !done.Load(); v++ {
			for i := range n {
				table.Put(i, v, time.Hour)
			}
		}
	})
	for range 50 {
		seen := 0
		for range table.All() {
			seen++
		}
		if seen != n {
			t.Errorf("%d entries seen of %d", seen, n)
			break
		}
	}
	done.Store(true)
	wg.Wait()
}

// TestEvictionMeetsUse marks the oldest entries of a full table while others
// push them out. Each key is found as long as it has not been reported as
// evicted, and never after.
func TestEvictionMeetsUse(t *testing.T) {
	const n = 30_000
	table := NewTable[int, int](Options{MaxEntries: 64})
	var gone [n]atomic.Bool
	table.OnDelete(func(key, _ int, cause DeletionCause) {
		if cause != Evicted || gone[key].Swap(true) {
			t.Errorf("%d is %v", key, cause)
		}
	})
	var newest atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				last := int(newest.Load())
				if last == n-1 {
					return
				}
				for key := max(0, last-70); key <= last; key++ {
					wasGone := gone[key].Load()
					if _, _, ok := table.Lookup(key, time.Nanosecond); ok && wasGone {
						t.Errorf("%d is back", key)
						return
					}
				}
			}
		})
	}
	for i := range n {
		if !table.Insert(i, i, time.Hour) {
			t.Fatalf("%d refused", i)
		}
		newest.Store(int64(i))
	}
	wg.Wait()
	if s := table.Stats(); s.Entries != 64 || s.Evictions != n-64 {
		t.Errorf("Stats = %+v", s)
	}
	checkInvariants(t, table)
}

// TestTableIsMadeOnce has goroutines store the first entries of a table
// together.
func TestTableIsMadeOnce(t *testing.T) {
	const goroutines, rounds = 4, 200
	store, ctx := NewStore(Options{MaxTables: rounds}), t.Context()
	for round := range rounds {
		name := "t" + strconv.Itoa(round)
		var wg sync.WaitGroup
		store.mu.Lock() // so that all find no table before one makes it
		for g := range goroutines {
			wg.Go(func() {
				store.Insert(ctx, name, strconv.Itoa(g), "v", time.Hour)
			})
		}
		for range 100 {
			runtime.Gosched()
		}
		store.mu.Unlock()
		wg.Wait()
		if got := store.TableStats(name).Entries; got != goroutines {
			t.Fatalf("%d entries, want %d", got, goroutines)
		}
	}
}

// TestConcurrentUse is for the race detector and the invariants.
func TestConcurrentUse(t *testing.T) {
	for _, o := range []Options{
		{MaxEntries: 100, MaxTables: 2},
		{MaxEntries: 100, MaxTables: 2, WhenFull: RefuseNew, Sliding: true},
		{MaxEntries: 20_000, MaxTables: 2, MaxTableBytes: 64 << 10},
	} {
		store, ctx := NewStore(o), t.Context()
		var deleted [4]atomic.Uint64 // by cause
		store.OnDelete(func(table, key, _ string, cause DeletionCause) {
			deleted[cause].Add(1)
			if cause == Removed { // no lock is held
				store.Insert(ctx, table, key, key, time.Microsecond)
			}
		})
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() {
				for i := range 5000 {
					table, key := "t"+strconv.Itoa(i%4), strconv.Itoa(i*(g+1)%300)
					lifetime := time.Duration(i%50) * time.Microsecond
					switch i % 13 {
					case 0, 1:
						store.Insert(ctx, table, key, key, lifetime)
					case 2:
						store.Put(ctx, table, key, key, time.Hour)
					case 3, 4:
						if value, left, ok, _ := store.Lookup(ctx, table, key, lifetime); ok && (value != key && value != "0" || left <= 0) {
							t.Errorf("%q is %q for %v", key, value, left)
						}
					case 5:
						store.Refresh(ctx, table, key, lifetime)
					case 6:
						store.Remove(ctx, table, key)
					case 7:
						store.CompareAndSwap(ctx, table, key, key, key)
					case 8:
						store.PutIdle(ctx, table, key, key, lifetime, 2*lifetime)
					case 9:
						store.Touch(ctx, table, key, lifetime)
					case 10:
						store.LookupOrInsert(ctx, table, key, key, lifetime)
					case 11:
						store.Increment(ctx, table, key, 0, lifetime)
						store.Remove(ctx, table, key)
					case 12:
						if i%100 != 12 {
							continue
						}
						store.Stats()
						_, _ = store.CountByValue(t.Context(), table)
						for key, e := range store.All(table) {
							if e.Value != key && e.Value != "0" || e.Remaining <= 0 {
								t.Errorf("All: %q, %+v", key, e)
							}
						}
					}
				}
			})
		}
		wg.Wait()
		for _, name := range store.names() {
			checkInvariants(t, store.table(name))
			s := store.TableStats(name)
			if s.Inserts != uint64(s.Entries)+s.Removals+s.Expirations+s.Evictions {
				t.Errorf("Stats do not add up: %+v", s)
			}
		}
		s := store.Stats()
		want := [4]uint64{Removed: s.Removals, Replaced: s.Replacements, Expired: s.Expirations, Evicted: s.Evictions}
		if got := [4]uint64{deleted[0].Load(), deleted[1].Load(), deleted[2].Load(), deleted[3].Load()}; got != want {
			t.Errorf("reported deletions by cause %v, want %v", got, want)
		}
		if got := fmt.Sprint(store.names()); len(store.names()) != 3 {
			t.Errorf("tables %s", got)
		}
	}
}
