package persistence

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

// TestStoreIgnoresContext: what the store knows does not depend on who waits
// for it.
func TestStoreIgnoresContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	store := NewStore(Options{})
	if ok, err := store.Insert(ctx, "", "k", "v", time.Hour); !ok || err != nil {
		t.Errorf("Insert = %t, %v", ok, err)
	}
	if v, _, ok, err := store.Lookup(ctx, "", "k", 0); v != "v" || !ok || err != nil {
		t.Errorf("Lookup = %q, %t, %v", v, ok, err)
	}
}

func TestStoreTablesAreSeparate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := NewStore(Options{}), t.Context()
		for i, table := range []string{"", "a", "b"} {
			store.Insert(ctx, table, "k", "in "+table, time.Duration(i+1)*time.Second)
		}
		store.Remove(ctx, "a", "k")
		store.Remove(ctx, "a", "missing")
		store.Remove(ctx, "missing", "k")
		got := map[string]map[string]Entry[string]{}
		for _, table := range append(store.names(), "missing") {
			got[table] = maps.Collect(store.All(table))
		}
		want := map[string]map[string]Entry[string]{
			"":        {"k": {"in ", time.Second}},
			"a":       {},
			"b":       {"k": {"in b", 3 * time.Second}},
			"missing": {},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tables (-want +got):\n%s", diff)
		}
	})
}

func TestStoreLookupsMakeNoTable(t *testing.T) {
	store, ctx := NewStore(Options{}), t.Context()
	if v, left, ok, err := store.Lookup(ctx, "t", "k", time.Hour); v != "" || left != 0 || ok || err != nil {
		t.Errorf("Lookup = %q, %v, %t, %v", v, left, ok, err)
	}
	if ok, err := store.Refresh(ctx, "t", "k", time.Hour); ok || err != nil {
		t.Errorf("Refresh = %t, %v", ok, err)
	}
	if ok, err := store.CompareAndSwap(ctx, "t", "k", "", "x"); ok || err != nil {
		t.Errorf("CompareAndSwap = %t, %v", ok, err)
	}
	if err := store.Remove(ctx, "t", "k"); err != nil {
		t.Errorf("Remove = %v", err)
	}
	for range store.All("t") {
		t.Error("All yields from a missing table")
	}
	if diff := cmp.Diff([]string{""}, store.names()); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Stats{Misses: 2}, store.Stats()); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Stats{}, store.TableStats("t")); diff != "" {
		t.Errorf("TableStats (-want +got):\n%s", diff)
	}
}

func TestStoreBounds(t *testing.T) {
	o := Options{MaxTables: 2, MaxKeyBytes: 10, MaxValueBytes: 20}
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name              string
		table, key, value string
		lifetime          time.Duration
		refused           Stats // nothing refused: stored
	}{
		{"within", "t", long(10), long(20), time.Hour, Stats{}},
		{"empty", "", "", "", time.Hour, Stats{}},
		{"key too long", "new", long(11), "", time.Hour, Stats{RefusedEntry: 1}},
		{"key far too long", "new", long(10 << 20), "", time.Hour, Stats{RefusedEntry: 1}},
		{"value too long", "new", "k", long(21), time.Hour, Stats{RefusedEntry: 1}},
		{"table name too long", long(11), "k", "v", time.Hour, Stats{RefusedEntry: 1}},
		{"no lifetime", "new", "k", "v", 0, Stats{RefusedLifetime: 1}},
		{"negative lifetime", "new", "k", "v", -1, Stats{RefusedLifetime: 1}},
		{"one table too many", "third", "k", "v", time.Hour, Stats{RefusedTable: 1}},
	} {
		for verb, do := range map[string]func(*Store) (bool, error){
			"Insert": func(s *Store) (bool, error) {
				return s.Insert(t.Context(), tt.table, tt.key, tt.value, tt.lifetime)
			},
			"Put": func(s *Store) (bool, error) {
				return s.Put(t.Context(), tt.table, tt.key, tt.value, tt.lifetime)
			},
		} {
			t.Run(tt.name+"/"+verb, func(t *testing.T) {
				store := NewStore(o)
				for _, table := range []string{"t", "u"} {
					store.Insert(t.Context(), table, "k", "v", time.Hour)
				}
				before := store.Stats()
				ok, err := do(store)
				if stored := tt.refused == (Stats{}); ok != stored || err != nil {
					t.Fatalf("got %t, %v", ok, err)
				}
				if ok {
					if v, _, found, _ := store.Lookup(t.Context(), tt.table, tt.key, 0); !found || v != tt.value {
						t.Errorf("Lookup = %q, %t", v, found)
					}
					return
				}
				before.add(tt.refused)
				if diff := cmp.Diff(before, store.Stats()); diff != "" {
					t.Errorf("Stats (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"", "t", "u"}, store.names()); diff != "" {
					t.Errorf("tables (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestStoreCompareAndSwapBounds(t *testing.T) {
	store, ctx := NewStore(Options{MaxKeyBytes: 4, MaxValueBytes: 4}), t.Context()
	store.Insert(ctx, "", "k", "v", time.Hour)
	if ok, _ := store.CompareAndSwap(ctx, "", "k", "v", "12345"); ok {
		t.Error("stored a value that is too long")
	}
	if ok, _ := store.CompareAndSwap(ctx, "", "12345", "", "v"); ok {
		t.Error("found a key that is too long")
	}
	if v, _, _, _ := store.Lookup(ctx, "", "k", 0); v != "v" {
		t.Errorf("the value is %q", v)
	}
	if ok, _ := store.Refresh(ctx, "", "12345", time.Hour); ok {
		t.Error("refreshed a key that is too long")
	}
	if s := store.Stats(); s.RefusedEntry != 1 || s.Misses != 1 || s.Hits != 1 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestStoreRoundTrip(t *testing.T) {
	store, ctx := NewStore(Options{}), t.Context()
	odd := []string{
		"", "\x00", "a\x00b", "a\r\nb", "\xff\xfe\xfd", "\xed\xa0\x80", "ключ", "\u202e", " ", "k", "K",
		strings.Repeat("k", defaultMaxKeyBytes),
	}
	for i, s := range odd {
		if ok, _ := store.Insert(ctx, "odd\x00table\n", s, odd[len(odd)-1-i], time.Hour); !ok {
			t.Errorf("%q refused", s)
		}
	}
	for i, s := range odd {
		if v, _, ok, _ := store.Lookup(ctx, "odd\x00table\n", s, 0); !ok || v != odd[len(odd)-1-i] {
			t.Errorf("%q: %q, %t", s, v, ok)
		}
	}
}

// TestStoreCopiesStrings inserts strings whose bytes change afterwards, which
// only a copy survives; so an entry does not keep a request alive either.
func TestStoreCopiesStrings(t *testing.T) {
	store, ctx := NewStore(Options{}), t.Context()
	buf := make([]byte, 0, 16)
	droppedStats := func(s string) string {
		buf = append(buf[:0], s...)
		return unsafe.String(unsafe.SliceData(buf), len(s))
	}
	forget := func() { clear(buf[:cap(buf)]) }
	store.Insert(ctx, "t", droppedStats("first"), "", time.Hour)
	forget()
	store.Put(ctx, "t", droppedStats("second"), "", time.Hour)
	forget()
	store.Insert(ctx, droppedStats("u"), "third", "", time.Hour)
	forget()
	store.Insert(ctx, "t", "", droppedStats("value"), time.Hour)
	forget()
	store.Insert(ctx, "t", "swapped", "old", time.Hour)
	store.CompareAndSwap(ctx, "t", "swapped", "old", droppedStats("new"))
	forget()
	got := map[string]string{}
	for _, table := range store.names() {
		for k, e := range store.All(table) {
			got[table+"/"+k] = e.Value
		}
	}
	want := map[string]string{"t/first": "", "t/second": "", "u/third": "", "t/": "value", "t/swapped": "new"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestStoreBoundsBytes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		whenFull WhenFull
		max      int
	}{
		{"evict", EvictUnused, 1 << 20},
		{"refuse", RefuseNew, 1 << 20},
		{"several shards", EvictUnused, 8 << 20},
		{"hardly more than one entry", EvictUnused, defaultMaxKeyBytes + defaultMaxValueBytes + entryBytes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, ctx := NewStore(Options{MaxTableBytes: tt.max, WhenFull: tt.whenFull}), t.Context()
			value := strings.Repeat("v", defaultMaxValueBytes)
			for i := range 20_000 {
				key := strconv.Itoa(i)
				ok, _ := store.Insert(ctx, "", key, value[:i*37%len(value)], time.Hour)
				if tt.whenFull == EvictUnused && !ok {
					t.Fatalf("entry %d refused", i)
				}
				if i%3 == 0 {
					store.Lookup(ctx, "", key, time.Second)
				}
			}
			s := store.Stats()
			if s.Bytes > tt.max || s.Bytes < tt.max/2 {
				t.Errorf("%d bytes used of %d", s.Bytes, tt.max)
			}
			if (s.RefusedFull > 0) != (tt.whenFull == RefuseNew) || (s.Evictions > 0) != (tt.whenFull == EvictUnused) {
				t.Errorf("Stats = %+v", s)
			}
			checkInvariants(t, store.main)
		})
	}
}

func TestStoreEntryLargerThanTable(t *testing.T) {
	store, ctx := NewStore(Options{MaxTableBytes: entryBytes + 16}), t.Context()
	if ok, _ := store.Insert(ctx, "t", "12345", "123456789012", time.Hour); ok {
		t.Error("stored what does not fit")
	}
	if s := store.Stats(); s.RefusedEntry != 1 || len(store.names()) != 1 {
		t.Errorf("Stats = %+v, tables %q", s, store.names())
	}
	if ok, _ := store.Insert(ctx, "t", "12345", "12345678901", time.Hour); !ok {
		t.Error("refused what fits exactly")
	}
	if ok, _ := store.CompareAndSwap(ctx, "t", "12345", "12345678901", "123456789012"); ok {
		t.Error("swapped in what does not fit")
	}
	if v, _, ok, _ := store.Lookup(ctx, "t", "12345", 0); !ok || v != "12345678901" {
		t.Errorf("Lookup = %q, %t", v, ok)
	}
}

func TestRefuseNewCountsBytesOfSwap(t *testing.T) {
	store, ctx := NewStore(Options{MaxTableBytes: 2*entryBytes + 16 + 24, WhenFull: RefuseNew}), t.Context()
	store.Insert(ctx, "", "a", "123", time.Hour)
	store.Insert(ctx, "", "b", "123", time.Hour)
	if ok, _ := store.CompareAndSwap(ctx, "", "a", "123", "1234567890123456"); !ok {
		t.Error("eight bytes were left")
	}
	if ok, _ := store.CompareAndSwap(ctx, "", "b", "123", "1234567890123456"); ok {
		t.Error("no byte was left")
	}
	if v, _, _, _ := store.Lookup(ctx, "", "b", 0); v != "123" {
		t.Errorf("the refused swap left %q", v)
	}
	if s := store.Stats(); s.RefusedFull != 1 || s.Entries != 2 {
		t.Errorf("Stats = %+v", s)
	}
}

// heapBytes returns how much of the heap is in use.
func heapBytes() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one finalizes
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestMemoryBound fills tables to the bound of their memory, with keys and
// values of lengths right above and below the sizes of allocations: the heap
// grows by no more than the bound, nor is much of it left.
func TestMemoryBound(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector enlarges allocations")
	}
	bound, lengths := 16<<20, []int{
		16, 17, 24, 25, 32, 33, 48, 64, 65, 80, 97, 112, 129, 200, 256, 300, 513, 1025, 2049, 4097, 5000, 8193, 9473, 16_384,
	}
	if testing.Short() {
		bound, lengths = 8<<20, []int{17, 1025}
	}
	for name, owner := range map[string]func(string) string{
		"without owners":          nil,
		"an owner for each entry": strings.ToLower,
		"a thousand owners":       func(key string) string { return key[len(key)-3:] },
		"one owner":               func(key string) string { return key[:1] },
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range lengths {
				before := heapBytes()
				store := NewStore(Options{MaxTableBytes: bound, Owner: owner})
				value := strings.Repeat("v", n-16)
				for i := 0; store.main.evicted() < uint64(1000+i/4); i++ {
					store.Insert(t.Context(), "", "key-"+strconv.Itoa(1e11+i), value, time.Hour)
				}
				used, accounted := heapBytes()-before, store.Stats().Bytes
				t.Logf("%d bytes: %.3f of the bound, %.3f of what is accounted for", n, float64(used)/float64(bound), float64(used)/float64(accounted))
				if used > bound*101/100 || used < bound/2 {
					t.Errorf("%d bytes: %d bytes used for a bound of %d", n, used, bound)
				}
				runtime.KeepAlive(store)
			}
		})
	}
}

// evicted returns how many entries have been evicted.
func (t *Table[K, V]) evicted() (n uint64) {
	for i := range t.shards {
		n += t.shards[i].writes.evictions
	}
	return n
}

// TestEntryBytes compares what Stats says with the heap, with and without
// owners, each of whom has one entry.
func TestEntryBytes(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector enlarges allocations")
	}
	for _, owner := range []func(string) string{nil, strings.ToLower} {
		for _, n := range []int{60_000, 115_000, 135_000, 200_000} { // at different points of growth
			if testing.Short() && n > 60_000 {
				continue
			}
			before := heapBytes()
			store := NewStore(Options{Owner: owner})
			for i := range n {
				store.Insert(t.Context(), "", "key-"+strconv.Itoa(1e9+i), "10.0.0.1:80808", time.Hour)
			}
			used, accounted := heapBytes()-before, store.Stats().Bytes
			t.Logf("%d entries, owners %t: %d bytes each, %d accounted", n, owner != nil, used/n, accounted/n)
			if used > accounted*101/100 || used < accounted/2 {
				t.Errorf("%d entries take %d bytes, accounted for as %d", n, used, accounted)
			}
			runtime.KeepAlive(store)
		}
	}
}

// TestEmptyTablesMakePlace has clients name tables by mistake. Once these have
// no live entries they no longer keep others from being made; the counters of
// those given up stay in the sums.
func TestEmptyTablesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := NewStore(Options{MaxTables: 3}), t.Context()
		insert := func(table, key string, lifetime time.Duration) bool {
			ok, _ := store.Insert(ctx, table, key, "v", lifetime)
			return ok
		}
		var deleted []string
		store.OnDelete(func(table, key, _ string, cause DeletionCause) {
			insert("carts", "deleted "+table, time.Hour) // the store may be used
			deleted = append(deleted, table+"/"+key+" "+cause.String())
		})
		for _, table := range []string{"carts", "mistake 1", "mistake 2"} {
			if !insert(table, "k", time.Minute) {
				t.Fatalf("%s refused", table)
			}
		}
		store.Touch(ctx, "carts", "k", time.Hour)
		if insert("logins", "k", time.Hour) {
			t.Error("a fourth table, while all three have live entries")
		}
		advance(time.Minute)
		if !insert("logins", "k", time.Hour) {
			t.Error("refused although the entries of two tables have expired")
		}
		if !insert("carts", "l", time.Hour) || !insert("mistake 1", "again", time.Hour) && !insert("mistake 2", "again", time.Hour) {
			t.Error("one of the tables cannot be used any more")
		}
		if s := store.Stats(); s.Expirations != 2 || s.RefusedTable == 0 || s.Inserts != uint64(s.Entries)+2 || len(store.names()) != 4 {
			t.Errorf("Stats = %+v, tables %q, deleted %q", s, store.names(), deleted)
		}
		for _, table := range store.names() {
			checkInvariants(t, store.table(table))
		}
	})
}

// TestEmptyTablesOfManyEntries has a table with many entries expire at once: it
// takes some attempts, each of which frees a few of them.
func TestEmptyTablesOfManyEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := NewStore(Options{MaxTables: 1}), t.Context()
		for i := range 10_000 {
			store.Insert(ctx, "mistake", strconv.Itoa(i), "v", time.Minute)
		}
		advance(time.Minute)
		for attempts := 1; ; attempts++ {
			if ok, _ := store.Insert(ctx, "carts", "k", "v", time.Hour); ok {
				break
			}
			if attempts > 100 {
				t.Fatalf("%d entries are left after %d attempts", store.TableStats("mistake").Entries, attempts)
			}
			advance(sweepPause)
		}
	})
}

// TestGivenUpTablesLoseNothing has goroutines store entries in more tables than
// there may be, remove them, and expect each entry that was stored to be there.
func TestGivenUpTablesLoseNothing(t *testing.T) {
	store, ctx := NewStore(Options{MaxTables: 2}), t.Context()
	var wg sync.WaitGroup
	var stored atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			key, table := strconv.Itoa(g), strconv.Itoa(g%4)
			for range 2000 {
				ok, _ := store.Insert(ctx, table, key, "v", time.Hour)
				if _, _, found, _ := store.Lookup(ctx, table, key, 0); found != ok {
					t.Errorf("stored %t, found %t", ok, found)
				}
				if actual, _, _ := store.Claim(ctx, table, key, "w", "v", time.Hour); ok && actual != "w" {
					t.Errorf("claimed, the value is %q", actual)
				}
				if ok {
					stored.Add(1)
				}
				store.Remove(ctx, table, key)
			}
		})
	}
	wg.Wait()
	if s := store.Stats(); s.Entries != 0 || s.Removals != s.Inserts || stored.Load() == 0 {
		t.Errorf("%d stored, Stats = %+v", stored.Load(), s)
	}
}

// TestShownValues has entries with a zero byte behind an address with a port:
// people see the address.
func TestShownValues(t *testing.T) {
	store, ctx := NewStore(Options{}), t.Context()
	for i, value := range []string{
		"10.0.0.1:80\x00", "10.0.0.1:80", "[2001:db8::1]:80\x00", "10.0.0.1\x00", "10.0.0.1:80\x00\x00", "10.0.0.1:http\x00", "\x00", "",
	} {
		store.Put(ctx, "t", strconv.Itoa(i), value, time.Hour)
	}
	want := map[string]int{
		"10.0.0.1:80": 2, "[2001:db8::1]:80": 1, "10.0.0.1\x00": 1, "10.0.0.1:80\x00\x00": 1, "10.0.0.1:http\x00": 1, "\x00": 1, "": 1,
	}
	for range 2 { // counted, and kept count of
		got, err := store.CountByValue(ctx, "t")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("CountByValue: %v (-want +got):\n%s", err, diff)
		}
	}
	got := map[string]int{}
	err := store.Range(ctx, "t", func(_ string, e Entry[string]) bool { got[e.Value]++; return true })
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Range: %v (-want +got):\n%s", err, diff)
	}
	for range 2 {
		visited := 0
		if store.Range(ctx, "t", func(string, Entry[string]) bool { visited++; return false }); visited != 1 {
			t.Errorf("Range visits %d entries after it was to end", visited)
		}
	}
	if v, _, _, _ := store.Lookup(ctx, "t", "0", 0); v != "10.0.0.1:80\x00" {
		t.Errorf("Lookup = %q", v)
	}
}

func TestTablesSorted(t *testing.T) {
	store := NewStore(Options{})
	for _, name := range []string{"z", "m", "a"} {
		store.Insert(t.Context(), name, "k", "v", time.Hour)
	}
	if got := store.names(); !slices.Equal(got, []string{"", "a", "m", "z"}) {
		t.Errorf("Tables = %q", got)
	}
}

// Tables of profiles used to count among those that clients may cause: where
// scripts had made 64 of them, profiles remembered no client.
func TestReservedTables(t *testing.T) {
	ctx := t.Context()
	s := NewStore(Options{MaxTables: 3})
	s.Reserve("profile/a", "profile/b", "")
	for i := range 10 {
		if ok, err := s.Insert(ctx, "client "+strconv.Itoa(i), "k", "v", time.Minute); ok != (i < 3) || err != nil {
			t.Errorf("table %d: %v, %v", i, ok, err)
		}
	}
	s.Reserve("profile/c", "profile/a")
	for _, table := range []string{"profile/a", "profile/b", "profile/c"} {
		if ok, _ := s.Put(ctx, table, "k", "v", time.Minute); !ok {
			t.Errorf("%s keeps nothing", table)
		}
		if err := s.Remove(ctx, table, "k"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(ctx, "client 0", "k"); err != nil {
		t.Fatal(err)
	}
	if ok, _ := s.Insert(ctx, "another", "k", "v", time.Minute); !ok { // replaces "client 0"
		t.Error("an empty table is in the way")
	}
	for _, table := range []string{"profile/a", "profile/b", "profile/c"} {
		if ok, _ := s.Put(ctx, table, "k", "v", time.Minute); !ok {
			t.Errorf("%s was given up", table)
		}
	}
}
