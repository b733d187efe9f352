package persistence

import (
	"bytes"
	"hash/maphash"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// atScale returns n, or a hundredth of it where that would take too long.
func atScale(n int) int {
	if testrace.Enabled || testing.Short() {
		return n / 100
	}
	return n
}

// calls measures single calls.
type calls []time.Duration

func (c *calls) measure(f func()) {
	began := time.Now()
	f()
	*c = append(*c, time.Since(began))
}

// top returns what only a hundredth of the calls exceeds.
func (c calls) top() time.Duration {
	slices.Sort(c)
	return c[len(c)*99/100]
}

// TestAMillionExpireAtOnce moves the clock of a table by an hour in one step.
// No call may pay for all: the ninety-ninth percentile of look-ups is compared
// with that before, several times, because the machine has other work.
func TestAMillionExpireAtOnce(t *testing.T) {
	n := atScale(1_000_000)
	var before, after time.Duration
	for range 3 {
		table := NewTable[int, int](Options{MaxEntries: 2 * n})
		for i := range n {
			table.Insert(i, i, time.Hour)
		}
		var live, expired calls
		for i := range n / 10 {
			live.measure(func() { table.Lookup(i*7%n, time.Minute) })
		}
		table.epoch = table.epoch.Add(-2 * time.Hour)
		for i := range n / 10 {
			table.Insert(-1-i, i, time.Hour)
			expired.measure(func() { table.Lookup(i*7%n, time.Minute) })
		}
		before, after = live.top(), expired.top()
		stats := table.Stats()
		t.Logf("99 %% of look-ups take up to %v before, %v after; the longest %v and %v", before, after, slices.Max(live), slices.Max(expired))
		if stats.Expirations != uint64(n) || stats.Entries != n/10 {
			t.Fatalf("a tenth as many writes have not freed all: %+v", stats)
		}
		if after <= 10*before+100*time.Microsecond {
			return
		}
	}
	t.Errorf("99 %% of look-ups take up to %v, before it was %v", after, before)
}

// TestInventedKeys lets a client invent ten times as many keys as a store may
// hold.
func TestInventedKeys(t *testing.T) {
	n := atScale(10_000_000)
	o := Options{MaxEntries: n / 10}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	empty := heap()
	store, ctx := NewStore(o), t.Context()
	var filling, full calls
	for i := range n {
		key := "203.0.113.7:" + strconv.Itoa(i)
		insert := func() { store.Insert(ctx, "", key, "10.0.0.1:8080", time.Hour) }
		switch {
		case i%64 != 0:
			insert()
		case i < n/10:
			filling.measure(insert)
		default:
			full.measure(insert)
		}
	}
	stats, used := store.Stats(), heap()-empty
	t.Logf("%d entries, %d MiB by count, %d MiB of memory; 99 %% of insertions take up to %v while it fills, %v when it is full",
		stats.Entries, stats.Bytes>>20, used>>20, filling.top(), full.top())
	if stats.Entries > o.MaxEntries || stats.Bytes > defaultMaxTableBytes {
		t.Errorf("beyond the bounds: %+v", stats)
	}
	if used > defaultMaxTableBytes*13/10 {
		t.Errorf("%d MiB of memory for a bound of %d MiB", used>>20, defaultMaxTableBytes>>20)
	}
	if filling, full := filling.top(), full.top(); full > 10*filling+time.Millisecond { // that of a walk through the table
		t.Errorf("99 %% of insertions take up to %v when the table is full, %v before", full, filling)
	}
	runtime.KeepAlive(store)
}

// TestChosenKeys has keys that a client chose because they fall into one shard
// of a table that he has. They do not in another.
func TestChosenKeys(t *testing.T) {
	his, ours := NewTable[string, int](Options{}), NewTable[string, int](Options{})
	if his.seed == (maphash.Seed{}) {
		t.Fatal("the table has no seed")
	}
	n := 1000 * len(ours.shards)
	for i, chosen := 0, 0; chosen < n; i++ {
		if key := strconv.Itoa(i); his.locate(key).shard == &his.shards[0] {
			ours.Insert(key, i, time.Hour)
			chosen++
		}
	}
	for i := range ours.shards {
		if got := len(ours.shards[i].slots); got > n/len(ours.shards)*12/10 {
			t.Errorf("shard %d has %d of %d chosen keys", i, got, n)
		}
	}
}

// TestSnapshotPause measures how long a snapshot of a million entries keeps a
// lock: only to copy the list of a shard. What writers see is logged, but
// includes how long sixty-four of them wait for a processor.
func TestSnapshotPause(t *testing.T) {
	n := atScale(1_000_000)
	store, ctx := NewStore(Options{MaxEntries: 2 * n}), t.Context()
	for i := range n {
		store.Insert(ctx, "", strconv.Itoa(i), "10.0.0.1:8080", time.Hour)
	}
	longest := time.Duration(0)
	for i := range store.main.shards {
		s := &store.main.shards[i]
		best := time.Hour // of some: the machine has other work, which a lock held too long does not excuse every time
		for attempt := 0; attempt < 50 && best > 5*time.Millisecond; attempt++ {
			s.mu.Lock()
			began := time.Now()
			_ = slices.Clone(s.slots)
			best = min(best, time.Since(began))
			s.mu.Unlock()
		}
		longest = max(longest, best)
	}
	if longest > 5*time.Millisecond {
		t.Errorf("a lock is held for %v", longest)
	}

	stop := make(chan struct{})
	const writers = 64
	var waits [writers]time.Duration
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				store.Put(ctx, "", strconv.Itoa((g+i*writers)%n), "10.0.0.2:8080", time.Hour)
				waits[g] = max(waits[g], time.Since(began))
				runtime.Gosched()
			}
		})
	}
	var snapshot bytes.Buffer
	_, err := store.WriteTo(&snapshot)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a lock is held for %v at most; the longest write of %d writers took %v", longest, writers, slices.Max(waits[:]))
	restored := NewStore(Options{MaxEntries: 2 * n})
	if _, err := restored.ReadFrom(&snapshot); err != nil || restored.Stats().Entries != n {
		t.Errorf("%d of %d entries restored: %v", restored.Stats().Entries, n, err)
	}
}
