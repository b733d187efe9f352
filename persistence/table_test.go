package persistence

import (
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	day     = 24 * time.Hour
	longest = time.Duration(math.MaxInt64)
)

func TestLifetimes(t *testing.T) {
	// want is what is left after Insert, 0 if it is refused, and after
	// extending that by the same duration, additive and sliding.
	for _, tt := range []struct {
		name                    string
		options                 Options
		lifetime                time.Duration
		want, additive, sliding time.Duration
	}{
		{"smallest number", Options{}, math.MinInt64, 0, 0, 0},
		{"negative", Options{}, -1, 0, 0, 0},
		{"zero", Options{}, 0, 0, 0, 0},
		{"one nanosecond", Options{}, 1, 1, 2, 1},
		{"odd nanoseconds", Options{}, 1_500_000_001, 1_500_000_001, 3_000_000_002, 1_500_000_001},
		{"default", Options{}, DefaultLifetime, 300 * time.Second, 600 * time.Second, 300 * time.Second},
		{"2^31 seconds", Options{}, (1 << 31) * time.Second, 7 * day, 7 * day, 7 * day},
		{"half the cap", Options{}, 84 * time.Hour, 84 * time.Hour, 7 * day, 84 * time.Hour},
		{"one under the cap", Options{}, 7*day - 1, 7*day - 1, 7 * day, 7*day - 1},
		{"the cap", Options{}, 7 * day, 7 * day, 7 * day, 7 * day},
		{"one over the cap", Options{}, 7*day + 1, 7 * day, 7 * day, 7 * day},
		{"longest", Options{}, longest, 7 * day, 7 * day, 7 * day},
		{"longest under the longest cap", Options{MaxLifetime: lifetimeCeiling}, longest, 3650 * day, 3650 * day, 3650 * day},
		{"cap of a nanosecond", Options{MaxLifetime: 1}, time.Hour, 1, 1, 1},
		{"raised to the minimum", Options{MinLifetime: 300 * time.Second}, time.Second, 300 * time.Second, 301 * time.Second, 300 * time.Second},
		{"minimum of nothing", Options{MinLifetime: 0}, 1, 1, 2, 1},
		{"minimum above the cap", Options{MinLifetime: time.Hour, MaxLifetime: time.Minute}, 1, time.Minute, time.Minute, time.Minute},
		{"the minimum does not save zero", Options{MinLifetime: time.Hour}, 0, 0, 0, 0},
	} {
		for _, sliding := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/sliding=%t", tt.name, sliding), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tt.options.Sliding = sliding
					table := NewTable[string, string](tt.options)
					advance(time.Hour) // deadlines do not count from zero
					if got := table.Insert("k", "v", tt.lifetime); got != (tt.want > 0) {
						t.Errorf("Insert = %t", got)
					}
					if _, left, ok := table.Lookup("k", 0); left != tt.want || ok != (tt.want > 0) {
						t.Errorf("after Insert %v is left, %t; want %v", left, ok, tt.want)
					}
					if got := table.Put("p", "v", tt.lifetime); got != (tt.want > 0) {
						t.Errorf("Put = %t", got)
					}
					if _, left, _ := table.Lookup("p", 0); left != tt.want {
						t.Errorf("after Put %v is left, want %v", left, tt.want)
					}
					extended := tt.additive
					if sliding {
						extended = tt.sliding
					}
					if _, left, _ := table.Lookup("k", tt.lifetime); left != extended {
						t.Errorf("after extending %v is left, want %v", left, extended)
					}
					if tt.want == 0 {
						if got := table.Stats().RefusedLifetime; got != 2 {
							t.Errorf("RefusedLifetime = %d", got)
						}
						return
					}
					table.Refresh("p", tt.lifetime)
					if _, left, _ := table.Peek("p"); left != extended {
						t.Errorf("after Refresh %v is left, want %v", left, extended)
					}
					advance(extended)
					if _, left, ok := table.Lookup("k", longest); ok || left != -1 {
						t.Errorf("at the deadline: %v, %t", left, ok)
					}
				})
			})
		}
	}
}

// TestExtendNeverShortens gives extend a clock reading from before the deadline
// was last raised, as readers that overlap do.
func TestExtendNeverShortens(t *testing.T) {
	for _, sliding := range []bool{false, true} {
		l := lifetimes{max: time.Hour, sliding: sliding}
		deadline := time.Minute + l.max
		if got := l.extend(deadline, time.Second, longest); got != deadline {
			t.Errorf("sliding %t: %v became %v", sliding, deadline, got)
		}
	}
}

func TestInsertOnLiveKeyKeepsValue(t *testing.T) {
	for _, tt := range []struct {
		name   string
		second time.Duration
		want   time.Duration
	}{
		{"longer", 20 * time.Second, 20 * time.Second},
		{"equal", 10 * time.Second, 10 * time.Second},
		{"shorter", 5 * time.Second, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := NewTable[string, int](Options{})
				table.Insert("k", 1, 10*time.Second)
				if !table.Insert("k", 2, tt.second) {
					t.Fatal("refused")
				}
				if v, left, _ := table.Lookup("k", 0); v != 1 || left != tt.want {
					t.Errorf("got %d for %v, want 1 for %v", v, left, tt.want)
				}
				checkInvariants(t, table)
				advance(tt.want)
				if !table.Insert("k", 3, time.Second) {
					t.Fatal("refused after expiry")
				}
				if v, _, _ := table.Lookup("k", 0); v != 3 {
					t.Errorf("an expired entry kept its value %d", v)
				}
			})
		})
	}
}

func TestLookupOfExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string, string](Options{})
		table.Insert("k", "v", time.Second)
		advance(time.Second + 3*time.Millisecond)
		for range 2 { // Peek leaves the entry
			if v, left, ok := table.Peek("k"); ok || v != "" || left != -3*time.Millisecond {
				t.Errorf("Peek = %q, %v, %t", v, left, ok)
			}
		}
		if v, left, ok := table.Lookup("k", time.Hour); ok || v != "" || left != -3*time.Millisecond {
			t.Errorf("Lookup = %q, %v, %t", v, left, ok)
		}
		if v, left, ok := table.Lookup("k", time.Hour); ok || v != "" || left != 0 {
			t.Errorf("second Lookup = %q, %v, %t", v, left, ok)
		}
		want := Stats{Inserts: 1, Misses: 2, Expired: 1, Expirations: 1}
		if diff := cmp.Diff(want, table.Stats()); diff != "" {
			t.Errorf("Stats (-want +got):\n%s", diff)
		}
	})
}

func TestEveryVerbTreatsExpiredAsMissing(t *testing.T) {
	for _, tt := range []struct {
		name string
		verb func(*Table[string, string]) bool
	}{
		{"Lookup", func(t *Table[string, string]) bool { _, _, ok := t.Lookup("k", time.Hour); return ok }},
		{"Peek", func(t *Table[string, string]) bool { _, _, ok := t.Peek("k"); return ok }},
		{"Refresh", func(t *Table[string, string]) bool { return t.Refresh("k", time.Hour) }},
		{"Remove", func(t *Table[string, string]) bool { return t.Remove("k") }},
		{"CompareAndSwap", func(t *Table[string, string]) bool { return CompareAndSwap(t, "k", "v", "w") }},
		{"All", func(t *Table[string, string]) bool {
			for range t.All() {
				return true
			}
			return false
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := NewTable[string, string](Options{})
				if tt.verb(table) {
					t.Error("found in an empty table")
				}
				table.Insert("k", "v", time.Second)
				advance(time.Second - 1)
				if tt.name != "Lookup" && tt.name != "Refresh" { // they would extend it
					if !tt.verb(table) {
						t.Error("not found a nanosecond before its deadline")
					}
					table.Put("k", "v", 1)
				}
				advance(1)
				if tt.verb(table) {
					t.Error("found at its deadline")
				}
				checkInvariants(t, table)
			})
		})
	}
}

func TestPeekLeavesNoTrace(t *testing.T) {
	table := NewTable[string, int](Options{MaxEntries: 2})
	table.Insert("a", 1, time.Hour)
	table.Insert("b", 2, time.Hour)
	before := table.Stats()
	if v, left, ok := table.Peek("a"); !ok || v != 1 || left <= 0 {
		t.Errorf("Peek = %d, %v, %t", v, left, ok)
	}
	if diff := cmp.Diff(before, table.Stats()); diff != "" {
		t.Errorf("Peek is counted:\n%s", diff)
	}
	table.Insert("c", 3, time.Hour)
	if _, _, ok := table.Peek("a"); ok {
		t.Error("a was spared: Peek marked it as used")
	}
}

func TestCompareAndSwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string, string](Options{})
		table.Insert("k", "a", 10*time.Second)
		advance(4 * time.Second)
		for _, tt := range []struct {
			key, old, new string
			swapped       bool
			now           string
		}{
			{"k", "b", "c", false, "a"},
			{"k", "a", "b", true, "b"},
			{"k", "b", "b", true, "b"},
			{"absent", "", "x", false, ""},
			{"absent", "", "", false, ""},
		} {
			if got := CompareAndSwap(table, tt.key, tt.old, tt.new); got != tt.swapped {
				t.Errorf("CompareAndSwap(%q, %q, %q) = %t", tt.key, tt.old, tt.new, got)
			}
			if v, _, _ := table.Lookup(tt.key, 0); v != tt.now {
				t.Errorf("%q is %q, want %q", tt.key, v, tt.now)
			}
		}
		if _, left, _ := table.Lookup("k", 0); left != 6*time.Second {
			t.Errorf("%v is left, want 6s: the lifetime changed", left)
		}
		checkInvariants(t, table)
	})
}

func TestCompareAndSwapPanicLeavesTableUsable(t *testing.T) {
	table := NewTable[string, any](Options{})
	table.Insert("k", []int{1}, time.Hour)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("comparing slices did not panic")
			}
		}()
		CompareAndSwap[string, any](table, "k", []int{1}, nil)
	}()
	if !table.Remove("k") {
		t.Error("the entry is gone")
	}
}

func TestKeyUnequalToItselfIsRefused(t *testing.T) {
	table := NewTable[float64, int](Options{MaxEntries: 4})
	for range 100 {
		if table.Insert(math.NaN(), 1, time.Hour) || table.Put(math.NaN(), 1, time.Hour) {
			t.Fatal("NaN stored")
		}
	}
	if s := table.Stats(); s.Entries != 0 || s.RefusedEntry != 200 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestTableOfAddresses(t *testing.T) {
	table := NewTable[netip.Addr, netip.AddrPort](Options{})
	client, server := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddrPort("10.0.0.1:80")
	table.Insert(client, server, time.Hour)
	if got, _, ok := table.Lookup(netip.MustParseAddr("2001:db8::1"), 0); !ok || got != server {
		t.Errorf("Lookup = %v, %t", got, ok)
	}
}

func TestAllAllowsChangesInLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[int, int](Options{})
		for i := range 100 {
			table.Insert(i, i, time.Duration(i+1)*time.Second)
		}
		advance(50 * time.Second) // 0 to 49 have expired
		seen := 0
		for k, e := range table.All() {
			if e.Value != k || e.Remaining != time.Duration(k-49)*time.Second {
				t.Errorf("%d: %+v", k, e)
			}
			seen++
			for i := range 100 { // nothing but k remains
				if i != k {
					table.Remove(i)
				}
			}
			table.Put(k, k, time.Hour)
		}
		if seen != 1 {
			t.Errorf("%d entries seen, want 1: the others were removed", seen)
		}
		for range table.All() {
			break // stops without complaint
		}
		checkInvariants(t, table)
	})
}

// TestClockIsMonotonic holds because the difference of two times is the
// monotonic one if both have it.
func TestClockIsMonotonic(t *testing.T) {
	table := NewTable[int, int](Options{})
	if !strings.Contains(table.epoch.String(), " m=") {
		t.Errorf("epoch %v has no monotonic reading", table.epoch)
	}
}

// TestTableMadeOutsideBubble checks a clock that starts far below zero.
func TestTableMadeOutsideBubble(t *testing.T) {
	table := NewTable[string, string](Options{})
	synctest.Test(t, func(t *testing.T) {
		w := newTwin(t, tableVerbs{table}, Options{})
		steps := 2000
		if testing.Short() {
			steps = 500
		}
		for i := range steps {
			w.step(byte(i), byte(i*7), byte(i*11), byte(i*13))
			w.compare()
		}
	})
}

func TestSharding(t *testing.T) {
	for _, tt := range []struct{ entries, shards int }{
		{1, 1}, {2, 1}, {4096, 1}, {8191, 1}, {8192, 2}, {8193, 2},
	} {
		table := NewTable[int, int](Options{MaxEntries: tt.entries})
		sum := 0
		for i := range table.shards {
			sum += table.shards[i].maxEntries
		}
		if len(table.shards) != tt.shards || sum != tt.entries {
			t.Errorf("MaxEntries %d: %d shards for %d entries", tt.entries, len(table.shards), sum)
		}
	}
	table := NewTable[int, int](Options{MaxEntries: 1 << 30})
	if n := len(table.shards); n&(n-1) != 0 || table.shards[0].maxEntries > 1<<30 {
		t.Errorf("%d shards of %d entries", n, table.shards[0].maxEntries)
	}
}

func TestShardsFillEvenly(t *testing.T) {
	table := NewTable[string, int](Options{})
	const n = 100_000
	for i := range n {
		table.Insert(fmt.Sprintf("192.168.%d.%d", i>>8, i&255), i, time.Hour)
	}
	mean := float64(n) / float64(len(table.shards))
	for i := range table.shards {
		if got := float64(len(table.shards[i].slots)); got > 1.2*mean || got < 0.8*mean {
			t.Errorf("shard %d has %v entries, the mean is %v", i, got, mean)
		}
	}
	if other := NewTable[string, int](Options{}); other.seed == table.seed {
		t.Error("two tables share a seed")
	}
}

// TestTexts writes the constants as files, JSON and logs do, and reads them
// back.
func TestTexts(t *testing.T) {
	t.Run("WhenFull", func(t *testing.T) {
		checkTexts(t, []WhenFull{EvictUnused, RefuseNew}, "evict unused", "refuse new")
	})
	t.Run("DeletionCause", func(t *testing.T) {
		checkTexts(t, []DeletionCause{Removed, Replaced, Expired, Evicted}, "removed", "replaced", "expired", "evicted")
	})
}

// checkTexts checks the texts of all constants of a type.
func checkTexts[T interface {
	~uint8
	fmt.Stringer
	encoding.TextMarshaler
}, P interface {
	*T
	encoding.TextUnmarshaler
}](t *testing.T, constants []T, texts ...string) {
	t.Helper()
	for i, c := range constants {
		text, err := c.MarshalText()
		if c.String() != texts[i] || string(text) != texts[i] || err != nil {
			t.Errorf("%d: %q and %q, %v, want %q", i, c, text, err, texts[i])
		}
		for _, spelling := range []string{texts[i], strings.ToUpper(texts[i]), strings.ReplaceAll(texts[i], " ", "_"), strings.ReplaceAll(texts[i], " ", "-")} {
			var got T
			if err := P(&got).UnmarshalText([]byte(spelling)); err != nil || got != c {
				t.Errorf("%q is read as %v, %v", spelling, got, err)
			}
		}
	}
	other := T(len(constants))
	if text, err := other.MarshalText(); err == nil || other.String() != "invalid" {
		t.Errorf("%d is written as %q and %q", other, other, text)
	}
	got := constants[1]
	if err := P(&got).UnmarshalText([]byte("none")); err == nil || !strings.Contains(err.Error(), strings.Join(texts, ", ")) || got != constants[1] {
		t.Errorf("the error for another text, after which the value is %v: %v", got, err)
	}
}
