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
)

// TestExtensionsAddUp runs on the virtual clock, which stands still while goroutines run.
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

// TestExpiredStaysExpired races readers, which extend lifetimes of a few microseconds, against the
// deadlines: once one has been told that a key is gone, no later call may find it.
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

// TestLateExtensionWins plays a reader that has read the clock before the deadline and extends the
// entry after it, while others have already seen it expired and wait for the write lock.
func TestLateExtensionWins(t *testing.T) {
	for name, find := range map[string]func(*Table[string, string]) bool{
		"Lookup":  func(t *Table[string, string]) bool { _, _, ok := t.Lookup("k", 0); return ok },
		"Refresh": func(t *Table[string, string]) bool { return t.Refresh("k", 0) },
		"Peek":    func(t *Table[string, string]) bool { _, _, ok := t.Peek("k"); return ok },
	} {
		t.Run(name, func(t *testing.T) {
			table := NewTable[string, string](Options{})
			table.Insert("k", "v", time.Hour)
			s := table.shard("k")
			s.mu.RLock()
			r := s.index["k"]
			r.deadline.Store(int64(table.now()) - 1)
			found := make(chan bool)
			go func() { found <- find(table) }()
			for s.mu.TryRLock() { // until it waits for the write lock
				s.mu.RUnlock()
				runtime.Gosched()
			}
			r.deadline.Store(int64(table.now() + time.Hour))
			s.mu.RUnlock()
			if !<-found {
				t.Error("not found, although the entry was extended first")
			}
			if _, _, ok := table.Peek("k"); !ok {
				t.Error("the entry is gone")
			}
		})
	}
}

// TestTableIsMadeOnce has goroutines store the first entries of a table together.
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
						store.CountByValue(table)
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
		for _, name := range store.Tables() {
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
		if got := fmt.Sprint(store.Tables()); len(store.Tables()) != 3 {
			t.Errorf("tables %s", got)
		}
	}
}
