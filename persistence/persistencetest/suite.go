package persistencetest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/persistence"
)

// A Store is the store to test. Its methods must do what those of
// [persistence.Store] are documented to do, and may be called concurrently.
// More of these methods are tested if the store has them: PutIdle,
// CountByValue, Scan, Peek, CompareAndRemove and Tables.
type Store interface {
	// Insert stores a value under a key that is not live; a live one keeps its
	// value. Both get a new lifetime. It returns false for a lifetime of zero
	// or less.
	Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	// Put stores a value under any key, for a new lifetime.
	Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	// LookupOrInsert is Insert that also returns the value of the key
	// afterwards and its remaining lifetime.
	LookupOrInsert(ctx context.Context, table, key, value string, lifetime time.Duration) (actual string, remaining time.Duration, found bool, err error)
	// Lookup returns a live value and its remaining lifetime after extending
	// it.
	Lookup(ctx context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error)
	// Refresh extends a live entry.
	Refresh(ctx context.Context, table, key string, extend time.Duration) (bool, error)
	// Touch gives a live entry a new lifetime.
	Touch(ctx context.Context, table, key string, lifetime time.Duration) (bool, error)
	// Claim stores a value under a key that is not live, or whose value is
	// instead, unless that is "". It returns the value of the key afterwards
	// and its remaining lifetime. A value that is found keeps its lifetime.
	Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (actual string, remaining time.Duration, err error)
	// Remove removes an entry.
	Remove(ctx context.Context, table, key string) error
	// CompareAndSwap replaces a live value that is old and keeps its lifetime.
	CompareAndSwap(ctx context.Context, table, key, old, new string) (bool, error)
	// Increment adds to a decimal number, which keeps its lifetime, or stores
	// the first one.
	Increment(ctx context.Context, table, key string, delta int64, lifetime time.Duration) (sum int64, ok bool, err error)
}

// An idleStore is a Store with entries that expire when they are not used.
type idleStore interface {
	Store
	// PutIdle stores a value until it has not been used for idle, and no longer
	// than atMost.
	PutIdle(ctx context.Context, table, key, value string, idle, atMost time.Duration) (bool, error)
}

// A countingStore is a Store that counts its entries.
type countingStore interface {
	Store
	// CountByValue returns how many live entries of the table have each value.
	// A value that is an address with port and a zero byte is shown without the
	// zero byte.
	CountByValue(ctx context.Context, table string) (map[string]int, error)
}

// A scanningStore is a Store that shows its entries page by page.
type scanningStore interface {
	Store
	// Scan returns a page of live entries and the cursor of the next one. It
	// remembers nothing, so an entry that lives throughout with one value is on
	// at least one page.
	Scan(ctx context.Context, table string, o persistence.ScanOptions) (items []persistence.Item, next string, err error)
}

// A peekingStore is a Store that shows an entry without renewing it.
type peekingStore interface {
	Store
	// Peek returns what Lookup returns and changes nothing.
	Peek(ctx context.Context, table, key string) (value string, remaining time.Duration, ok bool, err error)
}

// A comparingStore is a Store that removes an entry only with a certain value.
type comparingStore interface {
	Store
	// CompareAndRemove removes a live entry whose value is old. A value that is
	// an address with port and a zero byte is also removed without the zero
	// byte.
	CompareAndRemove(ctx context.Context, table, key, old string) (bool, error)
}

// A listingStore is a Store that knows the names of its tables.
type listingStore interface {
	Store
	// Tables returns the names, sorted; the first is "".
	Tables(ctx context.Context) ([]string, error)
}

// Options describe the configuration of the store and how to test it.
type Options struct {
	// Virtual runs every test in a bubble of package testing/synctest, where
	// time passes only when all goroutines wait. The store must read the time
	// from package time and must not wait for anything outside the bubble, such
	// as a socket.
	Virtual bool

	// MaxLifetime is the longest lifetime the store grants. Zero means seven
	// days.
	MaxLifetime time.Duration

	// Sliding says that extending by d raises the remaining lifetime to d,
	// instead of adding d.
	Sliding bool

	// Unit is the length of the shortest lifetimes; the tests together wait for
	// about thirty units. Zero means a minute in virtual time and 200 ms in
	// real time. It should be several times Tolerance.
	Unit time.Duration

	// Tolerance is how much earlier or later entries may expire, besides the
	// time that calls take. Zero means none in virtual time and 20 ms in real
	// time.
	Tolerance time.Duration
}

// Run runs all tests as subtests of t. It calls newStore for each, which must
// return an empty store; it may use t.Cleanup.
func Run(t *testing.T, o Options, newStore func(t *testing.T) Store) {
	if o.MaxLifetime <= 0 {
		o.MaxLifetime = 7 * 24 * time.Hour
	}
	unit, tolerance := 200*time.Millisecond, 20*time.Millisecond
	if o.Virtual {
		unit, tolerance = time.Minute, 0
	}
	if o.Unit <= 0 {
		o.Unit = unit
	}
	if o.Tolerance <= 0 {
		o.Tolerance = tolerance
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := func(t *testing.T) {
				test.run(newModel(t, newStore(t), o))
			}
			if o.Virtual {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

// longest is the longest duration there is.
const longest = time.Duration(math.MaxInt64)

// tests are the tests. Most do nothing but call verbs: the model checks what
// they return. u is the unit.
var tests = []struct {
	name string
	run  func(m *model)
}{
	{"an empty store has nothing", func(m *model) {
		for _, table := range []string{"", "carts"} {
			m.lookup(table, "k", 0)
			m.lookup(table, "k", time.Hour)
			m.refresh(table, "k", time.Hour)
			m.touch(table, "k", time.Hour)
			m.remove(table, "k")
			m.compareAndSwap(table, "k", "", "v")
			m.lookup(table, "k", 0)
		}
	}},
	{"lifetimes that are refused", func(m *model) {
		for _, d := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
			m.insert("", "k", "v", d)
			m.put("", "k", "v", d)
			m.lookupOrInsert("", "k", "v", d)
			m.increment("", "k", 1, d)
			m.claim("", "k", "v", "", d)
			m.lookup("", "k", 0)
		}
		m.put("", "k", "v", time.Hour)
		for _, d := range []time.Duration{0, -1, math.MinInt64} {
			m.insert("", "k", "w", d)
			m.put("", "k", "w", d)
			m.touch("", "k", d)
			m.lookupOrInsert("", "k", "w", d)
			m.claim("", "k", "w", "v", d)
			m.refresh("", "k", d) // extends by nothing
			m.lookup("", "k", d)
		}
	}},
	{"lifetimes that are cut", func(m *model) {
		for i, d := range []time.Duration{m.o.MaxLifetime - time.Hour, m.o.MaxLifetime, m.o.MaxLifetime + 1, 1 << 31 * time.Second, longest} {
			key := strconv.Itoa(i)
			m.insert("", key, "v", d)
			m.lookup("", key, 0)
			m.lookup("", key, d)
			m.lookup("", key, longest)
			m.touch("", key, time.Hour)
			m.refresh("", key, d)
			m.lookup("", key, 0)
			m.put("", key, "v", longest)
			m.lookup("", key, 0)
		}
	}},
	{"entries expire", func(m *model) {
		u := m.o.Unit
		m.insert("", "short", "v", u)
		m.put("", "longer", "v", 3*u)
		m.lookupOrInsert("", "longest", "v", 5*u)
		m.increment("", "counter", 1, 2*u)
		for range 6 {
			m.wait(u - m.o.Tolerance/2)
			for _, key := range []string{"short", "longer", "longest", "counter"} {
				m.lookup("", key, 0)
			}
			m.wait(m.o.Tolerance/2 + 1)
			m.refresh("", "short", u)
			m.touch("", "short", u)
			m.compareAndSwap("", "longer", "v", "v")
		}
		m.insert("", "short", "again", u)
		m.lookup("", "short", 0)
	}},
	{"inserting keeps a live value", func(m *model) {
		u := m.o.Unit
		for _, second := range []time.Duration{3 * u, 9 * u, u} { // shorter, longer, shorter
			m.insert("", "k", second.String(), second)
			m.lookup("", "k", 0)
		}
		m.lookupOrInsert("", "k", "w", 2*u)
		m.lookup("", "k", 0)
		m.wait(2*u + 2*m.o.Tolerance)
		m.insert("", "k", "w", time.Hour)
		m.lookup("", "k", 0)
	}},
	{"extending", func(m *model) {
		u := m.o.Unit
		m.insert("", "k", "v", 2*u)
		for _, d := range []time.Duration{0, u, u / 2, 10 * u, u} {
			m.lookup("", "k", d)
			m.wait(u / 2)
			m.refresh("", "k", d)
			m.lookup("", "k", -d)
		}
	}},
	{"touching sets", func(m *model) {
		u := m.o.Unit
		m.insert("", "k", "v", 5*u)
		for _, d := range []time.Duration{9 * u, u, 2 * u} {
			m.touch("", "k", d)
			m.lookup("", "k", 0)
		}
		m.wait(2*u + 2*m.o.Tolerance)
		m.lookup("", "k", 0)
		m.touch("", "k", time.Hour)
	}},
	{"swapping keeps the lifetime", func(m *model) {
		u := m.o.Unit
		m.insert("", "k", "a", 3*u)
		m.wait(u)
		m.compareAndSwap("", "k", "b", "c")
		m.compareAndSwap("", "k", "a", "b")
		m.compareAndSwap("", "k", "a", "c")
		m.compareAndSwap("", "k", "b", "b")
		m.compareAndSwap("", "absent", "", "b")
		m.lookup("", "k", 0)
		m.wait(2*u + 2*m.o.Tolerance)
		m.compareAndSwap("", "k", "b", "c")
		m.lookup("", "k", 0)
	}},
	{"claiming", func(m *model) {
		u := m.o.Unit
		m.claim("", "k", "a", "", 3*u)
		m.wait(u)
		m.claim("", "k", "b", "", 9*u) // finds a, with its lifetime
		m.lookup("", "k", 0)
		m.claim("", "k", "b", "c", 9*u)
		m.claim("", "k", "a", "", 9*u)
		m.lookup("", "k", 0)
		m.claim("", "k", "b", "a", 2*u) // replaces it, for a lifetime of its own
		m.lookup("", "k", 0)
		m.claim("", "k", "c", "a", 9*u) // is late
		m.claim("", "k", "b", "b", 3*u)
		m.wait(3*u + 2*m.o.Tolerance)
		m.claim("", "k", "c", "b", m.o.MaxLifetime+1)
		m.lookup("", "k", 0)
		m.claim("t", "k", "other", "c", u) // is another key
		m.lookup("t", "k", 0)
		m.remove("", "k")
		m.claim("", "k", "d", "", u)
		m.lookup("", "k", 0)
		m.insert("", "empty", "", 9*u)
		m.claim("", "empty", "v", "", u) // "" stands for no value to replace
		m.lookup("", "empty", 0)
	}},
	{"counting", func(m *model) {
		u := m.o.Unit
		for _, delta := range []int64{5, -7, 0, math.MaxInt64, math.MaxInt64, 1, -1, math.MinInt64, math.MinInt64, -1, 1, 1<<53 + 1, 1} {
			m.increment("", "n", delta, 9*u)
			m.lookup("", "n", 0)
		}
		m.increment("", "n", 1, 0) // it lives
		m.increment("", "other", 1, 0)
		for i, value := range []string{"41", "-3", "007", "", "x", "1.5", " 1", "1 ", "0x10", "9223372036854775807", "9223372036854775808", "-9223372036854775809"} {
			key := "text" + strconv.Itoa(i)
			m.insert("", key, value, 9*u)
			m.increment("", key, 1, time.Hour)
			m.lookup("", key, 0)
		}
	}},
	{"counting by value", func(m *model) {
		store, ok := m.store.(countingStore)
		if !ok {
			return // it need not be one
		}
		u := m.o.Unit
		m.count(store, "missing")
		for i, value := range []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80", "", "10.0.0.1:80\x00", "x\x00"} {
			m.insert("", strconv.Itoa(i), value, 9*u)
			m.insert("t", strconv.Itoa(i), value, time.Duration(1+i%2)*u)
		}
		m.count(store, "")
		m.count(store, "t")
		m.claim("", "1", "10.0.0.1:80", "10.0.0.2:80", 9*u)
		m.put("", "0", "new", 9*u)
		m.insert("", "2", "not stored", 9*u)
		m.remove("", "3")
		m.compareAndSwap("", "4", "10.0.0.1:80\x00", "10.0.0.1:80")
		m.count(store, "")
		m.wait(u + 2*m.o.Tolerance)
		m.count(store, "t")
		m.wait(u + 2*m.o.Tolerance)
		m.count(store, "t")
		m.count(store, "")
	}},
	{"scanning", func(m *model) {
		store, ok := m.store.(scanningStore)
		if !ok {
			return // it need not be one
		}
		u := m.o.Unit
		m.scan(store, "missing", persistence.ScanOptions{})
		for i := range 300 {
			value := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80\x00"}[i%3]
			lifetime := time.Hour
			if i%10 == 0 {
				lifetime = 3 * u
			}
			m.insert("", fmt.Sprintf("%03d", i), value, lifetime)
			if i < 5 {
				m.insert("t", strconv.Itoa(i), value, time.Hour)
			}
		}
		all := func() {
			for _, o := range []persistence.ScanOptions{
				{},
				{Limit: 7},
				{Limit: 1, Examine: 1},
				{Limit: 4096},
				{Prefix: "12"},
				{Prefix: "12", Examine: 40},
				{Prefix: "none"},
				{Value: "10.0.0.1:80"},
				{Prefix: "2", Value: "10.0.0.2:80", Limit: 3},
			} {
				m.scan(store, "", o)
				m.scan(store, "t", o)
			}
		}
		all()
		for i := range 100 {
			m.remove("", fmt.Sprintf("%03d", 3*i))
		}
		m.wait(3*u + 2*m.o.Tolerance)
		all()
		if items, next, err := store.Scan(m.t.Context(), "", persistence.ScanOptions{Cursor: "no cursor"}); err == nil {
			m.t.Errorf("an odd cursor: %d items, next %q, no error", len(items), next)
		}
	}},
	{"peeking", func(m *model) {
		store, ok := m.store.(peekingStore)
		if !ok {
			return // it need not be one
		}
		u := m.o.Unit
		m.peek(store, "missing", "k")
		m.insert("", "k", "10.0.0.1:80\x00", 2*u)
		if idle, ok := m.store.(idleStore); ok {
			m.putIdle(idle, "", "idle", "v", 2*u, 9*u)
		}
		for range 3 {
			m.peek(store, "", "k")
			m.peek(store, "", "idle")
			m.peek(store, "t", "k")
			m.wait(u + m.o.Tolerance)
		}
		m.lookup("", "k", 0)
		m.lookup("", "idle", 0)
		m.insert("", "k", "w", time.Hour)
		m.lookup("", "k", u)
		m.put("", "k", "x", time.Hour)
		m.peek(store, "", "k")
	}},
	{"removing by value", func(m *model) {
		store, ok := m.store.(comparingStore)
		if !ok {
			return // it need not be one
		}
		u := m.o.Unit
		m.compareAndRemove(store, "missing", "k", "")
		m.insert("", "k", "a", time.Hour)
		m.lookup("", "k", 0)
		m.lookup("", "k", 0)
		m.compareAndRemove(store, "", "k", "")
		m.compareAndRemove(store, "", "k", "b")
		m.compareAndRemove(store, "t", "k", "a")
		m.lookup("", "k", 0)
		m.compareAndSwap("", "k", "a", "b")
		m.compareAndRemove(store, "", "k", "a")
		m.lookup("", "k", 0)
		m.compareAndRemove(store, "", "k", "b")
		m.lookup("", "k", 0)
		m.compareAndRemove(store, "", "k", "b")
		for _, value := range []string{"10.0.0.1:80", "10.0.0.1:80\x00", "x\x00", "", "old"} {
			for _, old := range []string{"x", "10.0.0.1:80\x00", "10.0.0.1:80", value} {
				m.put("", "k", value, u)
				m.compareAndRemove(store, "", "k", old)
				m.lookup("", "k", 0)
			}
		}
		m.put("", "k", "old", u)
		m.wait(u + 2*m.o.Tolerance)
		m.compareAndRemove(store, "", "k", "old")
		if counting, ok := m.store.(countingStore); ok {
			m.count(counting, "")
		}
	}},
	{"tables have names", func(m *model) {
		store, ok := m.store.(listingStore)
		if !ok {
			return // it need not be one
		}
		want := []string{"", "\x00", "a b", "carts", "i}i", "{carts}"}
		for _, table := range want[1:] {
			m.insert(table, "k}i", "v", time.Hour)
		}
		got, err := store.Tables(m.t.Context())
		m.check(err)
		if !slices.Equal(got, want) {
			m.t.Errorf("%s: got %q, want %q", call("Tables"), got, want)
		}
	}},
	{"removing", func(m *model) {
		m.insert("", "k", "v", time.Hour)
		m.remove("", "k")
		m.remove("", "k")
		m.lookup("", "k", time.Hour)
		m.refresh("", "k", time.Hour)
		m.insert("", "k", "w", time.Hour)
		m.lookup("", "k", 0)
	}},
	{"tables are separate", func(m *model) {
		// Pairs that a store must not confuse when it makes one name of them.
		pairs := [][2]string{
			{"", "k"}, {"k", ""}, {"a", "b:c"}, {"a:b", "c"}, {"a/b", "c"}, {"a", "b/c"}, {"a\x00b", "c"}, {"a", "b\x00c"},
			{"1", "11"}, {"11", "1"}, {"A", "k"}, {"a", "k"}, {"", ":k"}, {":", "k"}, {"{a}", "k"},
		}
		for i, pair := range pairs {
			m.insert(pair[0], pair[1], strconv.Itoa(i), time.Hour)
		}
		for _, pair := range pairs {
			m.lookup(pair[0], pair[1], 0)
			m.remove(pair[0], pair[1])
			for _, other := range pairs {
				m.lookup(other[0], other[1], 0)
			}
		}
	}},
	{"odd keys and values", func(m *model) {
		odd := []string{
			"", " ", "\x00", "a\x00b", "a\r\nb", "\n", "\xff\xfe\xfd", "\xed\xa0\x80", "ключ", "\u202e", "k", "K", "*", "?", "[a-z]", "a b",
			"nil", "null", "0", "false", "%s", "{}", `"`, "'", `\`, "$1", strings.Repeat("k", 4<<10),
		}
		for i, s := range odd {
			m.insert("odd", s, odd[len(odd)-1-i], time.Hour)
		}
		for i, s := range odd {
			m.lookup("odd", s, 0)
			m.compareAndSwap("odd", s, odd[len(odd)-1-i], s)
			m.lookup("odd", s, 0)
		}
	}},
	{"large keys and values are stored whole or refused", func(m *model) {
		for _, n := range []int{16 << 10, 64<<10 + 1, 10 << 20} {
			large := strings.Repeat("x", n)
			for _, pair := range [][2]string{{large, "v"}, {"k" + strconv.Itoa(n), large}} {
				stored, err := m.store.Put(m.t.Context(), "", pair[0], pair[1], time.Hour)
				m.check(err)
				value, _, ok, err := m.store.Lookup(m.t.Context(), "", pair[0], 0)
				m.check(err)
				if ok != stored || stored && value != pair[1] || !stored && value != "" {
					m.t.Errorf("%d bytes: stored %t, found %t with %d bytes", n, stored, ok, len(value))
				}
			}
		}
	}},
	{"idle entries", func(m *model) {
		store, ok := m.store.(idleStore)
		if !ok {
			return // it need not be one
		}
		u := m.o.Unit
		m.putIdle(store, "", "k", "v", 2*u, 6*u)
		m.putIdle(store, "", "refused", "v", 0, u)
		m.putIdle(store, "", "refused", "v", u, -1)
		m.putIdle(store, "", "unused", "v", u, 9*u)
		for range 6 {
			m.lookup("", "k", time.Hour)
			m.wait(u / 2)
			m.refresh("", "k", 0)
			m.touch("", "k", time.Hour)
			m.insert("", "k", "w", 2*u)
			m.compareAndSwap("", "k", "v", "v")
			m.wait(u / 2)
		}
		m.wait(2 * m.o.Tolerance)
		m.lookup("", "k", 0)
		m.lookup("", "unused", 0)
		m.putIdle(store, "", "k", "v", u, 2*u)
		m.put("", "k", "w", 9*u) // forgets the rule
		m.lookup("", "k", u)
	}},
	{"random operations", randomOperations},
	{"concurrent increments add up", func(m *model) {
		const goroutines, each = 8, 50
		inParallel(goroutines, func(int) {
			for range each {
				_, ok, err := m.store.Increment(m.t.Context(), "", "n", 1, time.Hour)
				if !ok || err != nil {
					m.t.Errorf("Increment: %t, %v", ok, err)
				}
			}
		})
		if got := m.value("n"); got != strconv.Itoa(goroutines*each) {
			m.t.Errorf("counted to %s, want %d", got, goroutines*each)
		}
	}},
	{"concurrent swaps have one winner", func(m *model) {
		_, err := m.store.Insert(m.t.Context(), "", "k", "0", time.Hour)
		m.check(err)
		for round := range 20 {
			var won atomic.Int32
			inParallel(8, func(int) {
				ok, err := m.store.CompareAndSwap(m.t.Context(), "", "k", strconv.Itoa(round), strconv.Itoa(round+1))
				if err != nil {
					m.t.Errorf("CompareAndSwap: %v", err)
				}
				if ok {
					won.Add(1)
				}
			})
			if got := won.Load(); got != 1 {
				m.t.Errorf("round %d: %d winners", round, got)
			}
		}
	}},
	{"concurrent first insertions have one winner", func(m *model) {
		for round := range 20 {
			key := strconv.Itoa(round)
			var stored atomic.Int32
			var actual [8]string
			inParallel(len(actual), func(g int) {
				if g%2 == 0 {
					_, err := m.store.Insert(m.t.Context(), "", key, strconv.Itoa(g), time.Hour)
					if err != nil {
						m.t.Errorf("Insert: %v", err)
					}
					actual[g] = m.value(key)
					return
				}
				value, _, found, err := m.store.LookupOrInsert(m.t.Context(), "", key, strconv.Itoa(g), time.Hour)
				if err != nil {
					m.t.Errorf("LookupOrInsert: %v", err)
				}
				if !found {
					stored.Add(1)
				}
				actual[g] = value
			})
			for _, value := range actual {
				if value != actual[0] {
					m.t.Errorf("round %d: %q: the goroutines do not agree", round, actual)
					break
				}
			}
			if stored.Load() > 1 {
				m.t.Errorf("round %d: %d insertions say they were first", round, stored.Load())
			}
		}
	}},
	{"concurrent claims have one winner", func(m *model) {
		rounds := 20
		if m.o.Virtual {
			rounds = 200
		}
		for round := range rounds {
			key, bound := strconv.Itoa(round), ""
			for attempt := range 3 { // the first, and then instead of a server that has failed
				var actual [64]string
				inParallel(len(actual), func(g int) {
					value := fmt.Sprintf("%d-%d", attempt, g)
					got, left, err := m.store.Claim(m.t.Context(), "", key, value, bound, time.Hour)
					if err != nil || left <= 0 {
						m.t.Errorf("Claim: %v left, %v", left, err)
					}
					actual[g] = got
				})
				for _, got := range actual {
					if got != actual[0] || !strings.HasPrefix(got, strconv.Itoa(attempt)+"-") {
						m.t.Fatalf("round %d, attempt %d: %q: the goroutines do not agree", round, attempt, actual)
					}
				}
				if got := m.value(key); got != actual[0] {
					m.t.Fatalf("round %d, attempt %d: claimed %q, found %q", round, attempt, actual[0], got)
				}
				bound = actual[0]
			}
		}
	}},
	{"concurrent extensions all count", func(m *model) {
		if m.o.Sliding {
			return // they do not add up
		}
		const goroutines, each = 8, 25
		m.insert("", "k", "v", time.Hour)
		inParallel(goroutines, func(int) {
			for range each {
				if _, err := m.store.Refresh(m.t.Context(), "", "k", time.Minute); err != nil {
					m.t.Errorf("Refresh: %v", err)
				}
			}
		})
		e := m.entries[[2]string{"", "k"}]
		sum := min(time.Hour+goroutines*each*time.Minute, m.o.MaxLifetime) - time.Hour
		e.earliest, e.latest = e.earliest.Add(sum), e.latest.Add(sum)
		if sum < goroutines*each*time.Minute {
			e.latest = time.Now().Add(m.o.MaxLifetime) // what the last extension was cut to
		}
		m.lookup("", "k", 0)
	}},
	{"removed is removed for all", func(m *model) {
		inParallel(8, func(g int) {
			key := strconv.Itoa(g)
			for range 20 {
				if _, err := m.store.Insert(m.t.Context(), "", key, "v", time.Hour); err != nil {
					m.t.Errorf("Insert: %v", err)
				}
				if got := m.value(key); got != "v" {
					m.t.Errorf("inserted, found %q", got)
				}
				if err := m.store.Remove(m.t.Context(), "", key); err != nil {
					m.t.Errorf("Remove: %v", err)
				}
				if got := m.value(key); got != "" {
					m.t.Errorf("removed, found %q", got)
				}
			}
		})
	}},
}

// randomOperations calls random verbs on few keys, with lifetimes from far too
// short to far too long.
func randomOperations(m *model) {
	const seed = 46
	m.t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	u, steps := m.o.Unit, 300
	if m.o.Virtual {
		steps = 20_000
	}
	lifetimes := []time.Duration{-1, 0, 1, u, 2 * u, 3 * u, time.Hour, longest}
	values := []string{"", "a", "b", "12"}
	store, idles := m.store.(idleStore)
	for range steps {
		table, key := []string{"", "t"}[rng.IntN(2)], strconv.Itoa(rng.IntN(4))
		value, d := values[rng.IntN(len(values))], lifetimes[rng.IntN(len(lifetimes))]
		switch rng.IntN(13) {
		case 0:
			m.insert(table, key, value, d)
		case 1:
			m.put(table, key, value, d)
		case 2, 3:
			m.lookup(table, key, d)
		case 4:
			m.refresh(table, key, d)
		case 5:
			m.touch(table, key, d)
		case 6:
			m.remove(table, key)
		case 7:
			m.compareAndSwap(table, key, value, values[rng.IntN(len(values))])
		case 8:
			m.lookupOrInsert(table, key, value, d)
		case 9:
			m.increment(table, key, int64(rng.IntN(10)-5), d)
		case 10:
			if idles {
				m.putIdle(store, table, key, value, d, lifetimes[rng.IntN(len(lifetimes))])
			}
		case 11:
			m.claim(table, key, value, values[rng.IntN(len(values))], d)
		case 12:
			if m.o.Virtual || rng.IntN(4) == 0 {
				m.wait(u / 2)
			}
		}
	}
}

// inParallel calls f in n goroutines and waits for them.
func inParallel(n int, f func(g int)) {
	var wg sync.WaitGroup
	for g := range n {
		wg.Go(func() { f(g) })
	}
	wg.Wait()
}

// value returns the value under a key of the default table, "" if there is
// none.
func (m *model) value(key string) string {
	value, _, _, err := m.store.Lookup(m.t.Context(), "", key, 0)
	if err != nil {
		m.t.Errorf("Lookup(%q): %v", key, err)
	}
	return value
}

// call describes a call for messages.
func call(verb string, args ...any) string {
	var b strings.Builder
	b.WriteString(verb + "(")
	for i, arg := range args {
		if i > 0 {
			b.WriteString(", ")
		}
		if s, ok := arg.(string); ok {
			fmt.Fprintf(&b, "%.60q", s)
		} else {
			fmt.Fprint(&b, arg)
		}
	}
	return b.String() + ")"
}
