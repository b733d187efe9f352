package redisstore

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence"
)

// TestInstancesSeeEachOther measures, without judging it, how long it takes
// until an instance that remembers a value finds the one that another instance
// has stored in its place.
func TestInstancesSeeEachOther(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	a, b := open(t, server, Config{}), open(t, server, Config{})
	const rounds = 300
	var took []time.Duration
	for i := range rounds {
		value := strconv.Itoa(i)
		if ok, err := a.Put(ctx, "", "k", value, time.Hour); !ok || err != nil {
			t.Fatal(ok, err)
		}
		stored := time.Now()
		for {
			got, _, ok, err := b.Lookup(ctx, "", "k", 0)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			if got == value {
				break
			}
			if time.Since(stored) > ampleTimeout {
				t.Fatalf("still finds %q", got)
			}
			<-time.After(20 * time.Microsecond) // the messages need a processor too
		}
		took = append(took, time.Since(stored))
		hits := b.Stats().NearHits
		if _, _, _, err := b.Lookup(ctx, "", "k", 0); err != nil || b.Stats().NearHits == hits {
			b.Lookup(ctx, "", "k", 0) // a late message: the next one must be near
		}
	}
	slices.Sort(took)
	t.Logf("median %v, 99 %% %v, %d near hits", took[rounds/2], took[rounds*99/100], b.Stats().NearHits)
	if hits := b.Stats().NearHits; hits < rounds/2 {
		t.Errorf("%d near hits: the old value was not remembered", hits)
	}
}

func TestNearCache(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	s := open(t, server, Config{NearEntries: 100, MinExtension: time.Minute, Options: persistence.Options{Sliding: true}})
	nearly := func(what string, want bool, f func()) {
		t.Helper()
		s.Ping(ctx) // the messages about what was written are past
		before := s.Stats()
		f()
		after := s.Stats()
		if got := after.NearHits > before.NearHits; got != want || got == (after.Answered > before.Answered) {
			t.Errorf("%s: near %t, want %t", what, got, want)
		}
	}
	look := func(table, key string, extend time.Duration, want string) func() {
		return func() {
			t.Helper()
			value, _, _, err := s.Lookup(ctx, table, key, extend)
			if value != want || err != nil {
				t.Errorf("Lookup(%q, %q, %v) = %q, %v", table, key, extend, value, err)
			}
		}
	}
	s.Put(ctx, "t", "k", "v", 10*time.Minute)
	nearly("what was written is not served", false, look("t", "k", 0, "v"))
	nearly("what was read is", true, look("t", "k", 0, "v"))
	nearly("an extension that is not worth a write", true, look("t", "k", 11*time.Minute-time.Second, "v"))
	nearly("one that is", false, look("t", "k", 12*time.Minute, "v"))
	nearly("not served after it", false, look("t", "k", 12*time.Minute, "v"))
	nearly("but then", true, look("t", "k", 12*time.Minute, "v"))
	nearly("refresh", true, func() { s.Refresh(ctx, "t", "k", 12*time.Minute) })
	nearly("other key", false, look("t", "", 0, ""))
	nearly("other table", false, look("", "k", 0, ""))
	nearly("what is absent is not remembered", false, look("", "k", 0, ""))
	s.CompareAndSwap(ctx, "t", "k", "v", "w")
	nearly("swapped", false, look("t", "k", 0, "w"))
	s.Remove(ctx, "t", "k")
	nearly("removed", false, look("t", "k", 0, ""))
	s.PutIdle(ctx, "t", "idle", "v", time.Minute, time.Hour)
	nearly("an idle lifetime", false, look("t", "idle", 0, "v"))
	nearly("each use counts", false, look("t", "idle", 0, "v"))
	large := strings.Repeat("x", maxNearBytes)
	s.Put(ctx, "t", "large", large, time.Hour)
	nearly("large", false, look("t", "large", 0, large))
	nearly("large, again", false, look("t", "large", 0, large))

	for i := range 300 {
		key := strconv.Itoa(i)
		s.Put(ctx, "t", key, "v", time.Hour)
		look("t", key, 0, "v")()
	}
	s.Ping(ctx)
	look("t", "299", 0, "v")()
	if got := s.Stats().NearEntries; got == 0 || got > 100 {
		t.Errorf("%d near entries", got)
	}

	// After a connection breaks, the server reports no changes.
	s.Put(ctx, "t", "k", "v", time.Hour)
	s.Ping(ctx)
	look("t", "k", 0, "v")()
	nearly("before the break", true, look("t", "k", 0, "v"))
	server.Command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	testwait.Until(t, "the break shows", func() bool {
		_, _, ok := s.near.lookup("t", "k")
		return !ok
	})
}

func TestNearAllocations(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	s := open(t, server, Config{})
	s.Put(ctx, "table", "key", "value", time.Hour)
	s.Ping(ctx) // the message about that is past
	s.Lookup(ctx, "table", "key", 0)
	before := s.Stats().Answered
	if got := testing.AllocsPerRun(1000, func() { s.Lookup(ctx, "table", "key", 0) }); got > 0 {
		t.Errorf("%v allocations", got)
	}
	if got := s.Stats().Answered; got != before {
		t.Errorf("%d look-ups went to the server", got-before)
	}
}

// TestIncrementsAddUp counts from two instances at a time.
func TestIncrementsAddUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	stores := []*Store{open(t, server, Config{}), open(t, server, Config{})}
	const goroutines, each = 64, 100
	const start = 1 << 53
	stores[0].Put(ctx, "", "n", strconv.Itoa(start), time.Hour)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				if _, ok, err := stores[g%2].Increment(ctx, "", "n", 1, time.Hour); !ok || err != nil {
					t.Error(ok, err)
				}
			}
		})
	}
	wg.Wait()
	if sum, _, err := stores[1].Increment(ctx, "", "n", 0, time.Hour); sum != start+goroutines*each || err != nil {
		t.Errorf("%d, %v, want %d", sum, err, start+goroutines*each)
	}
}

// TestPrefixes keeps virtual services apart.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	a, b, c := open(t, server, Config{Prefix: "a"}), open(t, server, Config{Prefix: "a:b"}), open(t, server, Config{Prefix: "a", Database: 1})
	a.Put(ctx, "b:t", "k", "a", time.Hour)
	b.Put(ctx, "t", "k", "b", time.Hour)
	c.Put(ctx, "b:t", "k", "c", time.Hour)
	for _, tt := range []struct {
		s           *Store
		table, want string
	}{{a, "b:t", "a"}, {b, "t", "b"}, {c, "b:t", "c"}, {a, "t", ""}, {b, "b:t", ""}} {
		if value, _, _, err := tt.s.Lookup(ctx, tt.table, "k", 0); value != tt.want || err != nil {
			t.Errorf("%q, want %q; %v", value, tt.want, err)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	evicting := open(t, server, Config{Prefix: "e", Options: persistence.Options{MaxEntries: 10}})
	refusing := open(t, server, Config{Prefix: "r", Options: persistence.Options{MaxEntries: 10, WhenFull: persistence.RefuseNew}})
	for i := range 20 {
		key, lifetime := strconv.Itoa(i), time.Hour+time.Duration(i%7)*time.Minute
		if ok, err := evicting.Insert(ctx, "", key, "v", lifetime); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if ok, err := refusing.Insert(ctx, "", key, "v", lifetime); ok != (i < 10) || err != nil {
			t.Fatal(i, ok, err)
		}
	}
	for _, s := range []*Store{evicting, refusing} {
		var left []time.Duration
		s.Range(ctx, "", func(key string, e persistence.Entry[string]) bool {
			if _, _, ok, err := s.Lookup(ctx, "", key, 0); !ok || err != nil {
				t.Errorf("%q: %t, %v", key, ok, err)
			}
			left = append(left, e.Remaining)
			return true
		})
		counts, err := s.CountByValue(ctx, "")
		if len(left) != 10 || counts["v"] != 10 || err != nil {
			t.Errorf("%d entries, counted %v, %v", len(left), counts, err)
		}
		if s == evicting && slices.Min(left) < time.Hour+2*time.Minute {
			t.Errorf("%v: those that would expire first should have gone", left)
		}
	}
	if _, ok, err := refusing.Increment(ctx, "", "n", 1, time.Hour); ok || err != nil {
		t.Errorf("Increment in a full table: %t, %v", ok, err)
	}
	if got := refusing.Stats().RefusedFull; got != 11 {
		t.Errorf("%d refused", got)
	}
	refusing.Touch(ctx, "", "0", time.Millisecond)
	testwait.Until(t, "room", func() bool {
		ok, err := refusing.Insert(ctx, "", "new", "v", time.Hour)
		return ok && err == nil
	})

	s := open(t, server, Config{Prefix: "s", Options: persistence.Options{MaxKeyBytes: 4, MaxValueBytes: 4}})
	long := strings.Repeat("x", 5)
	for _, args := range [][3]string{{long, "k", "v"}, {"t", long, "v"}, {"t", "k", long}} {
		if ok, err := s.Put(ctx, args[0], args[1], args[2], time.Hour); ok || err != nil {
			t.Errorf("Put(%q): %t, %v", args, ok, err)
		}
	}
	if sum, ok, err := s.Increment(ctx, "t", "n", 99999, time.Hour); ok || err != nil {
		t.Errorf("a sum that is too long: %d, %t, %v", sum, ok, err)
	}
	s.Put(ctx, "t", "n", "9999", time.Hour)
	if sum, ok, err := s.Increment(ctx, "t", "n", 1, time.Hour); ok || err != nil {
		t.Errorf("a sum that is too long: %d, %t, %v", sum, ok, err)
	}
	if value, _, _, _ := s.Lookup(ctx, "t", "n", 0); value != "9999" {
		t.Errorf("%q", value)
	}
	for _, verb := range []func() (bool, error){
		func() (bool, error) { return s.Touch(ctx, long, "k", time.Hour) },
		func() (bool, error) { return s.Refresh(ctx, "t", long, time.Hour) },
		func() (bool, error) { return s.CompareAndSwap(ctx, "t", "n", "9999", long) },
		func() (bool, error) { return false, s.Remove(ctx, "t", long) },
		func() (bool, error) { return s.Touch(ctx, "t", "n", 0) },
		func() (bool, error) { _, ok, err := s.Increment(ctx, "t", long, 1, time.Hour); return ok, err },
	} {
		if ok, err := verb(); ok || err != nil {
			t.Errorf("%t, %v", ok, err)
		}
	}
}

// TestPages reads a table of several pages.
func TestPages(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	s := open(t, server, Config{Options: persistence.Options{MaxValueBytes: MaxValueBytes}})
	const n = 1000
	for i := range n {
		if ok, err := s.Put(ctx, "", "k"+strconv.Itoa(i), "value"+strconv.Itoa(i%300), time.Hour); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	seen := make(map[string]string)
	if err := s.Range(ctx, "", func(key string, e persistence.Entry[string]) bool { seen[key] = e.Value; return true }); err != nil {
		t.Fatal(err)
	}
	counts, err := s.CountByValue(ctx, "")
	if err != nil || len(seen) != n || len(counts) != 300 || counts["value0"] != 4 || seen["k301"] != "value1" {
		t.Errorf("%d entries, %d values, %v", len(seen), len(counts), err)
	}
	visits := 0
	s.Range(ctx, "", func(string, persistence.Entry[string]) bool { visits++; return visits < 5 })
	if visits != 5 {
		t.Errorf("%d visits after false", visits)
	}
}

// TestForeignData meets what other programs have stored under the names of
// entries.
func TestForeignData(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	s := open(t, server, Config{Prefix: "p"})
	at := func(key string) string { return name("p", "t", entryKind, key) }
	server.Command("SET", at("string"), "v")
	server.Command("HSET", at("hash"), "v", "v")
	server.Command("HSET", at("strange"), "v", "v", "d", "nan")
	server.Command("HSET", at("halfidle"), "v", "v", "d", "9000000000000000", "i", "1")
	keys := []string{"string", "hash", "strange", "halfidle"}
	if !testing.Short() { // the server copies the large value with each call
		keys = append(keys, "large")
		server.Command("EVAL", "local s = 'x' for _ = 1, 26 do s = s .. s end redis.call('HSET', KEYS[1], 'v', s, 'd', '9000000000000000')", "1", at("large"))
	}
	for _, key := range keys {
		t.Run(key, func(t *testing.T) {
			for verb, call := range map[string]func() error{
				"Lookup":    func() error { _, _, _, err := s.Lookup(ctx, "t", key, time.Hour); return err },
				"Insert":    func() error { _, err := s.Insert(ctx, "t", key, "v", time.Hour); return err },
				"Put":       func() error { _, err := s.Put(ctx, "t", key, "v", time.Hour); return err },
				"Touch":     func() error { _, err := s.Touch(ctx, "t", key, time.Hour); return err },
				"Increment": func() error { _, _, err := s.Increment(ctx, "t", key, 1, time.Hour); return err },
				"Remove":    func() error { return s.Remove(ctx, "t", key) },
			} {
				var foreign *ForeignError
				if err := call(); !errors.As(err, &foreign) || foreign.Key != key || foreign.Table != "t" || foreign.Name != at(key) {
					t.Errorf("%s: %v", verb, err)
				}
			}
		})
	}
	server.Command("DEL", at("large"))
	if st := s.Stats(); !st.Up || st.Opened != 0 {
		t.Errorf("%+v", st)
	}
}

// TestServerWithoutMemory has a server that refuses to store.
func TestServerWithoutMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	s := open(t, server, Config{})
	s.Put(ctx, "", "k", "v", time.Hour)
	server.Command("CONFIG", "SET", "maxmemory", "1mb")
	if ok, err := s.Put(ctx, "", "k", "w", time.Hour); ok || err != nil {
		t.Errorf("Put: %t, %v", ok, err)
	}
	if ok, err := s.CompareAndSwap(ctx, "", "k", "v", "w"); ok || err != nil {
		t.Errorf("CompareAndSwap: %t, %v", ok, err)
	}
	if ok, err := s.Insert(ctx, "", "new", "w", time.Hour); ok || err != nil {
		t.Errorf("Insert: %t, %v", ok, err)
	}
	if value, left, ok, err := s.Lookup(ctx, "", "k", time.Hour); value != "v" || left < time.Hour || !ok || err != nil {
		t.Errorf("Lookup: %q, %v, %t, %v", value, left, ok, err)
	}
	if err := s.Remove(ctx, "", "k"); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if counts, err := s.CountByValue(ctx, ""); len(counts) != 0 || err != nil {
		t.Errorf("%v, %v", counts, err)
	}
	if st := s.Stats(); !st.Up || st.RefusedFull != 3 {
		t.Errorf("%+v", st)
	}
}

// TestMemory measures the memory of an entry on the server.
func TestMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, server, Config{NearEntries: -1})
	used := func() int {
		for line := range strings.Lines(server.Command("INFO", "memory")) {
			if text, ok := strings.CutPrefix(line, "used_memory:"); ok {
				n, _ := strconv.Atoi(strings.TrimSpace(text))
				return n
			}
		}
		t.Fatal("no used_memory")
		return 0
	}
	before := used()
	n := 10_000
	if testing.Short() {
		n = 2_000
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; i < n; i += 8 {
				s.Put(t.Context(), "", "198.51.100.1"+strconv.Itoa(10000 + i)[1:], "10.0.0."+strconv.Itoa(i%8)+":8080", time.Hour)
			}
		})
	}
	wg.Wait()
	each := (used() - before) / n
	t.Logf("%d bytes for each entry", each)
	if each < 100 || each > 600 {
		t.Errorf("%d bytes for each entry", each)
	}
}
