package persistence

import (
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testrace"
)

// TestIdle walks through the life of an entry that may idle for a minute, ten
// minutes at most.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string, string](Options{})
		if !table.PutIdle("k", "v", time.Minute, 10*time.Minute) {
			t.Fatal("refused")
		}
		for _, step := range []struct {
			name string
			wait time.Duration
			do   func() bool
			want time.Duration // left afterwards
		}{
			{"peeking is no use", 30 * time.Second, func() bool { _, _, ok := table.Peek("k"); return ok }, 30 * time.Second},
			{"a look-up is", 0, func() bool { _, _, ok := table.Lookup("k", 0); return ok }, time.Minute},
			{"its extension does not count", time.Second, func() bool { return table.Refresh("k", time.Hour) }, time.Minute},
			{"a touch gives what it names", time.Second, func() bool { return table.Touch("k", 5*time.Minute) }, 5 * time.Minute},
			{"a use never shortens", time.Minute, func() bool { return table.Refresh("k", 0) }, 4 * time.Minute},
			{"an insertion gives what it names", 0, func() bool { return table.Insert("k", "w", 2*time.Minute) }, 2 * time.Minute},
			{"swapping keeps the lifetime", time.Minute, func() bool { return CompareAndSwap(table, "k", "v", "w") }, time.Minute},
			{"nothing passes the end", 0, func() bool { return table.Touch("k", time.Hour) }, 7*time.Minute + 28*time.Second},
			{"nor does an insertion", time.Minute, func() bool { _, left, _ := table.LookupOrInsert("k", "x", time.Hour); return left < 7*time.Minute }, 6*time.Minute + 28*time.Second},
			{"nor a use", 6 * time.Minute, func() bool { return table.Refresh("k", 0) }, 28 * time.Second},
			{"storing anew forgets the rule", 0, func() bool { return table.Put("k", "y", time.Hour) && table.Refresh("k", time.Hour) }, 2 * time.Hour},
		} {
			advance(step.wait)
			if !step.do() {
				t.Fatalf("%s: refused", step.name)
			}
			if _, left, _ := table.Peek("k"); left != step.want {
				t.Errorf("%s: %v is left, want %v", step.name, left, step.want)
			}
			checkInvariants(t, table)
		}
	})
}

func TestIdleLifetimes(t *testing.T) {
	for _, tt := range []struct {
		name          string
		idle, atMost  time.Duration
		first, second time.Duration // left at first, and when used half way
	}{
		{"no idle lifetime", 0, time.Hour, 0, 0},
		{"no end", time.Hour, -1, 0, 0},
		{"idle beyond the end", time.Hour, time.Minute, time.Minute, 30 * time.Second},
		{"longest", longest, longest, 7 * day, 84 * time.Hour},
		{"longest idle lifetime", longest, time.Minute, time.Minute, 30 * time.Second},
		{"longest end", time.Minute, longest, time.Minute, time.Minute},
		{"a nanosecond", 1, 1, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := NewTable[string, string](Options{})
				advance(time.Hour)
				if got := table.PutIdle("k", "v", tt.idle, tt.atMost); got != (tt.first > 0) {
					t.Fatalf("PutIdle = %t", got)
				}
				if _, left, _ := table.Peek("k"); left != tt.first {
					t.Errorf("%v is left, want %v", left, tt.first)
				}
				advance(tt.first / 2)
				if _, left, _ := table.Lookup("k", 0); left != tt.second {
					t.Errorf("%v is left after a use, want %v", left, tt.second)
				}
			})
		})
	}
}

func TestIncrement(t *testing.T) {
	table := NewTable[string, int64](Options{})
	for _, tt := range []struct {
		delta, want int64
	}{
		{5, 5}, {-7, -2}, {0, -2}, {math.MaxInt64, math.MaxInt64 - 2}, {2, math.MaxInt64}, {1, math.MaxInt64},
		{math.MinInt64, -1}, {math.MinInt64, math.MinInt64}, {-1, math.MinInt64}, {math.MaxInt64, -1}, {1 << 53, 1<<53 - 1}, {2, 1<<53 + 1},
	} {
		if got, ok := Increment(table, "k", tt.delta, time.Hour); got != tt.want || !ok {
			t.Errorf("adding %d gives %d, %t; want %d", tt.delta, got, ok, tt.want)
		}
	}
	nans := NewTable[float64, int64](Options{})
	if _, ok := Increment(nans, math.NaN(), 1, time.Hour); ok || nans.Len() != 0 {
		t.Error("NaN counted")
	}
	full := NewTable[string, int64](Options{MaxEntries: 1, WhenFull: RefuseNew})
	full.Insert("a", 1, time.Hour)
	if n, ok := Increment(full, "a", 1, 0); n != 2 || !ok {
		t.Errorf("a live counter of a full table: %d, %t", n, ok)
	}
	if n, ok := Increment(full, "b", 1, time.Hour); n != 0 || ok {
		t.Errorf("a new counter in a full table: %d, %t", n, ok)
	}
}

func TestStoreIncrement(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		delta       int64
		want        string // "": refused
	}{
		{"positive", "41", 1, "42"},
		{"negative", "-1", -1, "-2"},
		{"sign", "+5", 1, "6"},
		{"leading zeros", "007", 1, "8"},
		{"greatest", "9223372036854775807", 1, "9223372036854775807"},
		{"too great", "9223372036854775808", -1, ""},
		{"empty", "", 1, ""},
		{"space", " 1", 1, ""},
		{"fraction", "1.0", 1, ""},
		{"underscore", "1_0", 1, ""},
		{"hexadecimal", "0x1", 1, ""},
		{"text", "10.0.0.1:80", 1, ""},
		{"too long a value", "99999", 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, ctx := NewStore(Options{MaxValueBytes: max(5, len(tt.value)*2/2)}), t.Context()
			store.Insert(ctx, "t", "k", tt.value, time.Hour)
			sum, ok, err := store.Increment(ctx, "t", "k", tt.delta, time.Hour)
			if ok != (tt.want != "") || err != nil || ok && strconv.FormatInt(sum, 10) != tt.want {
				t.Errorf("Increment = %d, %t, %v", sum, ok, err)
			}
			want := tt.want
			if want == "" {
				want = tt.value
			}
			if got, _, _, _ := store.Lookup(ctx, "t", "k", 0); got != want {
				t.Errorf("the value is %q, want %q", got, want)
			}
		})
	}
	store, ctx := NewStore(Options{MaxKeyBytes: 3, MaxValueBytes: 2}), t.Context()
	if _, ok, _ := store.Increment(ctx, "t", "k", 1, 0); ok || len(store.names()) != 1 {
		t.Error("counted without a lifetime")
	}
	if _, ok, _ := store.Increment(ctx, "", "long", 1, time.Hour); ok {
		t.Error("counted under a key that is too long")
	}
	if _, ok, _ := store.Increment(ctx, "", "k", 100, time.Hour); ok {
		t.Error("stored a number that is too long")
	}
	if s := store.Stats(); s.RefusedEntry != 2 || s.RefusedLifetime != 1 || s.Entries != 0 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestIncrementsAddUp(t *testing.T) {
	goroutines, each := 64, 100_000
	if testrace.Enabled || testing.Short() {
		each = 2000
	}
	table := NewTable[string, int64](Options{})
	store := NewStore(Options{})
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range each {
				Increment(table, "k", 1, time.Hour)
				if i%10 == 0 {
					store.Increment(t.Context(), "", "k", 1, time.Hour)
				}
			}
		})
	}
	wg.Wait()
	if got, _, _ := table.Lookup("k", 0); got != int64(goroutines*each) {
		t.Errorf("counted to %d, want %d", got, goroutines*each)
	}
	if got, _, _, _ := store.Lookup(t.Context(), "", "k", 0); got != strconv.Itoa(goroutines*each/10) {
		t.Errorf("the store counted to %s, want %d", got, goroutines*each/10)
	}
}

func TestLookupOrInsertRefused(t *testing.T) {
	table := NewTable[string, string](Options{MaxEntries: 1, WhenFull: RefuseNew})
	table.Insert("a", "first", time.Hour)
	for _, tt := range []struct {
		key      string
		lifetime time.Duration
	}{{"b", time.Hour}, {"a", 0}, {"b", -1}} {
		if v, left, found := table.LookupOrInsert(tt.key, "v", tt.lifetime); v != "" || left != 0 || found {
			t.Errorf("%s for %v: %q, %v, %t", tt.key, tt.lifetime, v, left, found)
		}
	}
	store := NewStore(Options{MaxKeyBytes: 1, MaxEntries: 1, WhenFull: RefuseNew})
	store.Insert(t.Context(), "", "a", "", time.Hour)
	for _, key := range []string{"b", "long"} {
		if v, left, found, err := store.LookupOrInsert(t.Context(), "", key, "v", time.Hour); v != "" || left != 0 || found || err != nil {
			t.Errorf("%s: %q, %v, %t, %v", key, v, left, found, err)
		}
	}
	if ok, _ := store.PutIdle(t.Context(), "", "long", "v", time.Hour, time.Hour); ok {
		t.Error("PutIdle stored a key that is too long")
	}
}

func TestTouchMissing(t *testing.T) {
	store, ctx := NewStore(Options{MaxKeyBytes: 1}), t.Context()
	for _, tt := range []struct{ table, key string }{{"", "k"}, {"missing", "k"}, {"", "long"}} {
		if ok, err := store.Touch(ctx, tt.table, tt.key, time.Hour); ok || err != nil {
			t.Errorf("Touch(%q, %q) = %t, %v", tt.table, tt.key, ok, err)
		}
	}
	if got := store.Stats().Misses; got != 3 {
		t.Errorf("%d misses", got)
	}
	if got, _ := store.CountByValue(t.Context(), "missing"); len(got) != 0 {
		t.Errorf("CountByValue of a missing table: %v", got)
	}
}

func TestOnDelete(t *testing.T) {
	type event struct {
		Table, Key, Value string
		Cause             DeletionCause
	}
	for _, tt := range []struct {
		name string
		do   func(*Table[string, string])
		want []event
	}{
		{"Remove", func(t *Table[string, string]) { t.Remove("a") }, []event{{"", "a", "1", Removed}}},
		{"Remove of what is missing", func(t *Table[string, string]) { t.Remove("x") }, nil},
		{"Put", func(t *Table[string, string]) { t.Put("a", "2", time.Hour) }, []event{{"", "a", "1", Replaced}}},
		{"PutIdle", func(t *Table[string, string]) { t.PutIdle("a", "2", 1, 1) }, []event{{"", "a", "1", Replaced}}},
		{"CompareAndSwap", func(t *Table[string, string]) { CompareAndSwap(t, "a", "1", "2") }, []event{{"", "a", "1", Replaced}}},
		{"Insert of a live key", func(t *Table[string, string]) { t.Insert("a", "2", time.Hour) }, nil},
		{"Insert into a full table", func(t *Table[string, string]) { t.Insert("c", "3", time.Hour) }, []event{{"", "a", "1", Evicted}}},
		{"Lookup", func(t *Table[string, string]) { t.Lookup("a", 0) }, nil},
		{"Lookup of what has expired", func(t *Table[string, string]) { advance(time.Minute); t.Lookup("a", 0) }, []event{{"", "a", "1", Expired}}},
		{"Peek of what has expired", func(t *Table[string, string]) { advance(time.Minute); t.Peek("a") }, nil},
		{"CountByValue", func(t *Table[string, string]) { advance(time.Minute); CountByValue(t) }, []event{{"", "b", "1", Expired}, {"", "a", "1", Expired}}},
		{"a callback that uses the table", func(t *Table[string, string]) { t.Put("a", "again", time.Hour) },
			[]event{{"", "a", "1", Replaced}, {"", "a", "again", Removed}}},
		{"no callback", func(t *Table[string, string]) { t.OnDelete(nil); t.Remove("a") }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewStore(Options{MaxEntries: 2})
				store.Insert(t.Context(), "", "a", "1", time.Minute)
				store.Insert(t.Context(), "", "b", "1", time.Minute)
				var got []event
				store.OnDelete(func(table, key, value string, cause DeletionCause) {
					got = append(got, event{table, key, value, cause})
					if v, _, _ := store.main.Peek("a"); v == "again" {
						store.main.Remove("a")
					}
				})
				tt.do(store.main)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("deletions (-want +got):\n%s", diff)
				}
				checkInvariants(t, store.main)
			})
		})
	}
}

func TestOnDeleteOfStore(t *testing.T) {
	store, ctx := NewStore(Options{}), t.Context()
	store.Insert(ctx, "old", "k", "v", time.Hour)
	var tables []string
	store.OnDelete(func(table, _, _ string, _ DeletionCause) { tables = append(tables, table) })
	store.Insert(ctx, "new", "k", "v", time.Hour)
	store.Insert(ctx, "", "k", "v", time.Hour)
	for _, table := range store.names() {
		store.Remove(ctx, table, "k")
	}
	store.OnDelete(nil)
	store.Insert(ctx, "old", "k", "v", time.Hour)
	store.Remove(ctx, "old", "k")
	if diff := cmp.Diff([]string{"", "new", "old"}, tables); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}

// TestCountByValue starts to count in a table of several shards that is in use,
// with more entries than are examined at a time.
func TestCountByValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[int, string](Options{MaxEntries: 20_000})
		server := func(i int) string { return "server-" + strconv.Itoa(i%3) }
		for i := range 9000 {
			table.Insert(i, server(i), time.Duration(1+i/3000)*time.Minute)
		}
		for i := range 1000 { // these expire last
			table.Refresh(i, time.Hour)
		}
		for minute, want := range []map[string]int{
			{"server-0": 3000, "server-1": 3000, "server-2": 3000},
			{"server-0": 2334, "server-1": 2333, "server-2": 2333},
			{"server-0": 1334, "server-1": 1333, "server-2": 1333},
			{"server-0": 334, "server-1": 333, "server-2": 333},
		} {
			for range 2 {
				if diff := cmp.Diff(want, CountByValue(table)); diff != "" {
					t.Errorf("minute %d (-want +got):\n%s", minute, diff)
				}
			}
			checkInvariants(t, table)
			advance(time.Minute)
		}
		for i := range 1000 {
			table.Remove(i)
		}
		if got := CountByValue(table); len(got) != 0 {
			t.Errorf("an empty table: %v", got)
		}
	})
	nans := NewTable[int, float64](Options{})
	nans.Insert(1, math.NaN(), time.Hour)
	CountByValue(nans)
	nans.Put(1, math.NaN(), time.Hour)
	if got := CountByValue(nans); len(got) != 0 {
		t.Errorf("NaN is counted: %v", got)
	}
}

// TestClaim walks through what a claim finds.
func TestClaim(t *testing.T) {
	for name, open := range map[string]func() func(key, value, instead string, lifetime time.Duration) (string, time.Duration){
		"table": func() func(key, value, instead string, lifetime time.Duration) (string, time.Duration) {
			table := NewTable[string, string](Options{MaxLifetime: time.Hour})
			return func(key, value, instead string, lifetime time.Duration) (string, time.Duration) {
				defer checkInvariants(t, table)
				return Claim(table, key, value, instead, lifetime)
			}
		},
		"store": func() func(key, value, instead string, lifetime time.Duration) (string, time.Duration) {
			store := NewStore(Options{MaxLifetime: time.Hour})
			return func(key, value, instead string, lifetime time.Duration) (string, time.Duration) {
				actual, left, err := store.Claim(t.Context(), "t", key, value, instead, lifetime)
				if err != nil {
					t.Errorf("Claim: %v", err)
				}
				return actual, left
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				claim := open()
				for _, step := range []struct {
					name                string
					wait                time.Duration
					key, value, instead string
					lifetime            time.Duration
					want                string
					left                time.Duration
				}{
					{"no lifetime", 0, "k", "a", "", 0, "", 0},
					{"a lifetime before now", 0, "k", "a", "", -1, "", 0},
					{"the first", 0, "k", "a", "", time.Minute, "a", time.Minute},
					{"the second finds it, with its lifetime", 10 * time.Second, "k", "b", "", time.Hour, "a", 50 * time.Second},
					{"the same value again too", 0, "k", "a", "", time.Hour, "a", 50 * time.Second},
					{"instead of another value", 0, "k", "b", "c", time.Hour, "a", 50 * time.Second},
					{"instead of this value", 0, "k", "b", "a", 30 * time.Second, "b", 30 * time.Second},
					{"who is late to replace it", 0, "k", "c", "a", time.Minute, "b", 30 * time.Second},
					{"a value for itself", 0, "k", "b", "b", time.Minute, "b", time.Minute},
					{"expired", time.Minute, "k", "c", "", 2 * time.Hour, "c", time.Hour},
					{"missing, with a value to replace", 0, "other", "c", "a", time.Minute, "c", time.Minute},
					{"an empty value", 0, "empty", "", "", time.Minute, "", time.Minute},
					{"an empty value is not replaced by who means none", 0, "empty", "x", "", time.Minute, "", time.Minute},
				} {
					advance(step.wait)
					if got, left := claim(step.key, step.value, step.instead, step.lifetime); got != step.want || left != step.left {
						t.Errorf("%s: %q, %v left, want %q, %v", step.name, got, left, step.want, step.left)
					}
				}
			})
		})
	}
}

// TestClaimRefused has claims that a full table refuses, and some that it
// cannot.
func TestClaimRefused(t *testing.T) {
	table := NewTable[string, string](Options{MaxEntries: 1, WhenFull: RefuseNew})
	Claim(table, "k", "a", "", time.Hour)
	if got, left := Claim(table, "l", "b", "", time.Hour); got != "" || left != 0 {
		t.Errorf("%q, %v left of what was refused", got, left)
	}
	if got, _ := Claim(table, "k", "b", "a", time.Hour); got != "b" {
		t.Errorf("%q instead of what took its place", got)
	}
	if got, left := Claim(NewTable[float64, int](Options{}), math.NaN(), 1, 0, time.Hour); got != 0 || left != 0 {
		t.Errorf("%v, %v left under a key that is not equal to itself", got, left)
	}
	checkInvariants(t, table)
}

// TestClaimsAgree has 64 requests of a new client, and then of one whose server
// is gone, claim at once: all go to one server.
func TestClaimsAgree(t *testing.T) {
	rounds := 200
	if testrace.Enabled || testing.Short() {
		rounds = 20
	}
	table := NewTable[int, int](Options{MaxEntries: 100})
	for key := range rounds {
		bound := 0
		for attempt := range 2 {
			var actual [64]int
			var wg sync.WaitGroup
			for g := range actual {
				wg.Go(func() { actual[g], _ = Claim(table, key, 1+100*attempt+g, bound, time.Hour) })
			}
			wg.Wait()
			if slices.Min(actual[:]) != slices.Max(actual[:]) || actual[0] <= 100*attempt {
				t.Fatalf("round %d, instead of %d: the claims do not agree: %v", key, bound, actual)
			}
			bound = actual[0]
		}
	}
	checkInvariants(t, table)
}
