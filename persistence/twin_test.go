package persistence

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

// verbs is what a table of strings and a table of a store have in common.
type verbs interface {
	Insert(key, value string, lifetime time.Duration) bool
	Put(key, value string, lifetime time.Duration) bool
	Lookup(key string, extend time.Duration) (string, time.Duration, bool)
	Refresh(key string, extend time.Duration) bool
	Remove(key string)
	CompareAndSwap(key, old, new string) bool
	LookupOrInsert(key, value string, lifetime time.Duration) (string, time.Duration, bool)
	PutIdle(key, value string, idle, atMost time.Duration) bool
	Touch(key string, lifetime time.Duration) bool
	Increment(key string, delta int64, lifetime time.Duration) (int64, bool)
	Claim(key, value, instead string, lifetime time.Duration) (string, time.Duration)
	CountByValue() map[string]int
	All() iter.Seq2[string, Entry[string]]
	Stats() Stats
	table() *Table[string, string] // nil if it does not exist yet
}

type tableVerbs struct{ *Table[string, string] }

func (t tableVerbs) Remove(key string)             { t.Table.Remove(key) }
func (t tableVerbs) table() *Table[string, string] { return t.Table }
func (t tableVerbs) CompareAndSwap(key, old, new string) bool {
	return CompareAndSwap(t.Table, key, old, new)
}

func (t tableVerbs) Claim(key, value, instead string, lifetime time.Duration) (string, time.Duration) {
	return Claim(t.Table, key, value, instead, lifetime)
}

func (t tableVerbs) CountByValue() map[string]int { return CountByValue(t.Table) }

// Increment does with strings what the function Increment does with numbers.
func (t tableVerbs) Increment(key string, delta int64, lifetime time.Duration) (int64, bool) {
	var sum int64
	_, ok := increment(t.Table, key, lifetime, func(old *entry[string, string]) (string, string, bool) {
		sum = delta
		if old != nil {
			n, err := strconv.ParseInt(old.value, 10, 64)
			if err != nil {
				return "", "", false
			}
			sum = saturatingAdd(n, delta)
		}
		return key, strconv.FormatInt(sum, 10), true
	})
	if !ok {
		return 0, false
	}
	return sum, true
}

type storeVerbs struct {
	store *Store
	name  string
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (s storeVerbs) Insert(key, value string, lifetime time.Duration) bool {
	return must(s.store.Insert(context.Background(), s.name, key, value, lifetime))
}

func (s storeVerbs) Put(key, value string, lifetime time.Duration) bool {
	return must(s.store.Put(context.Background(), s.name, key, value, lifetime))
}

func (s storeVerbs) Lookup(key string, extend time.Duration) (string, time.Duration, bool) {
	value, remaining, ok, err := s.store.Lookup(context.Background(), s.name, key, extend)
	must(0, err)
	return value, remaining, ok
}

func (s storeVerbs) Refresh(key string, extend time.Duration) bool {
	return must(s.store.Refresh(context.Background(), s.name, key, extend))
}

func (s storeVerbs) Remove(key string) {
	must(0, s.store.Remove(context.Background(), s.name, key))
}

func (s storeVerbs) CompareAndSwap(key, old, new string) bool {
	return must(s.store.CompareAndSwap(context.Background(), s.name, key, old, new))
}

func (s storeVerbs) LookupOrInsert(key, value string, lifetime time.Duration) (string, time.Duration, bool) {
	actual, remaining, found, err := s.store.LookupOrInsert(context.Background(), s.name, key, value, lifetime)
	must(0, err)
	return actual, remaining, found
}

func (s storeVerbs) PutIdle(key, value string, idle, atMost time.Duration) bool {
	return must(s.store.PutIdle(context.Background(), s.name, key, value, idle, atMost))
}

func (s storeVerbs) Touch(key string, lifetime time.Duration) bool {
	return must(s.store.Touch(context.Background(), s.name, key, lifetime))
}

func (s storeVerbs) Increment(key string, delta int64, lifetime time.Duration) (int64, bool) {
	sum, ok, err := s.store.Increment(context.Background(), s.name, key, delta, lifetime)
	must(0, err)
	return sum, ok
}

func (s storeVerbs) Claim(key, value, instead string, lifetime time.Duration) (string, time.Duration) {
	actual, remaining, err := s.store.Claim(context.Background(), s.name, key, value, instead, lifetime)
	must(0, err)
	return actual, remaining
}

func (s storeVerbs) CountByValue() map[string]int {
	return must(s.store.CountByValue(context.Background(), s.name))
}

func (s storeVerbs) All() iter.Seq2[string, Entry[string]] { return s.store.All(s.name) }
func (s storeVerbs) Stats() Stats                          { return s.store.TableStats(s.name) }
func (s storeVerbs) table() *Table[string, string]         { return s.store.table(s.name) }

// A twin does what a table does, slowly and with unlimited room, and compares.
type twin struct {
	tb interface {
		Helper()
		Fatalf(string, ...any)
	}
	real    verbs
	start   time.Time
	max     time.Duration
	min     time.Duration
	sliding bool
	entries map[string]*twinEntry
}

type twinEntry struct {
	value    string
	deadline *big.Int // nanoseconds since start
	idle     time.Duration
	latest   *big.Int // nil: none
}

// until returns the entry's deadline for a lifetime of d.
func (w *twin) until(e *twinEntry, d time.Duration) *big.Int {
	deadline := w.after(w.grant(d))
	if e.latest != nil && deadline.Cmp(e.latest) > 0 {
		return e.latest
	}
	return deadline
}

func newTwin(tb interface {
	Helper()
	Fatalf(string, ...any)
}, real verbs, o Options) *twin {
	w := &twin{tb: tb, real: real, start: time.Now(), max: DefaultMaxLifetime, sliding: o.Sliding, entries: map[string]*twinEntry{}}
	if o.MaxLifetime > 0 {
		w.max = o.MaxLifetime
	}
	w.max = min(w.max, 10*365*24*time.Hour)
	if o.MinLifetime > 0 {
		w.min = min(o.MinLifetime, w.max)
	}
	return w
}

// after returns the deadline that is d from now.
func (w *twin) after(d time.Duration) *big.Int {
	now := big.NewInt(int64(time.Since(w.start)))
	return now.Add(now, big.NewInt(int64(d)))
}

// left returns what is left of e, and whether that is more than nothing.
func (w *twin) left(e *twinEntry) (time.Duration, bool) {
	left := new(big.Int).Sub(e.deadline, w.after(0))
	return time.Duration(left.Int64()), left.Sign() > 0
}

// peek returns the live entry under key.
func (w *twin) peek(key string) *twinEntry {
	if e := w.entries[key]; e != nil {
		if _, ok := w.left(e); ok {
			return e
		}
	}
	return nil
}

// live returns the live entry under key and forgets an expired one.
func (w *twin) live(key string) *twinEntry {
	e := w.peek(key)
	if e == nil {
		delete(w.entries, key)
	}
	return e
}

func (w *twin) grant(d time.Duration) time.Duration {
	if d < w.min {
		d = w.min
	}
	if d > w.max {
		d = w.max
	}
	return d
}

func (w *twin) extend(e *twinEntry, d time.Duration) {
	if e.latest != nil {
		if next := w.until(e, e.idle); next.Cmp(e.deadline) > 0 {
			e.deadline = next
		}
		return
	}
	if d <= 0 {
		return
	}
	base := e.deadline
	if w.sliding {
		base = w.after(0)
	}
	next := new(big.Int).Add(base, big.NewInt(int64(d)))
	if latest := w.after(w.max); next.Cmp(latest) > 0 {
		next = latest
	}
	if next.Cmp(e.deadline) > 0 {
		e.deadline = next
	}
}

func (w *twin) same(what string, got, want any) {
	w.tb.Helper()
	if got != want {
		w.tb.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (w *twin) insert(key, value string, lifetime time.Duration) {
	w.tb.Helper()
	w.same(fmt.Sprintf("Insert(%q, %q, %d)", key, value, lifetime), w.real.Insert(key, value, lifetime), lifetime > 0)
	if lifetime <= 0 {
		return
	}
	if e := w.live(key); e != nil {
		e.deadline = w.until(e, lifetime)
	} else {
		w.entries[key] = &twinEntry{value: value, deadline: w.after(w.grant(lifetime))}
	}
}

func (w *twin) put(key, value string, lifetime time.Duration) {
	w.tb.Helper()
	w.same(fmt.Sprintf("Put(%q, %q, %d)", key, value, lifetime), w.real.Put(key, value, lifetime), lifetime > 0)
	if lifetime > 0 {
		w.entries[key] = &twinEntry{value: value, deadline: w.after(w.grant(lifetime))}
	}
}

func (w *twin) putIdle(key, value string, idle, atMost time.Duration) {
	w.tb.Helper()
	want := idle > 0 && atMost > 0
	w.same(fmt.Sprintf("PutIdle(%q, %q, %d, %d)", key, value, idle, atMost), w.real.PutIdle(key, value, idle, atMost), want)
	if want {
		e := &twinEntry{value: value, idle: w.grant(idle), latest: w.after(w.grant(atMost))}
		e.deadline = w.until(e, idle)
		w.entries[key] = e
	}
}

func (w *twin) touch(key string, lifetime time.Duration) {
	w.tb.Helper()
	e := w.peek(key)
	want := e != nil && lifetime > 0
	w.same(fmt.Sprintf("Touch(%q, %d)", key, lifetime), w.real.Touch(key, lifetime), want)
	if want {
		e.deadline = w.until(e, lifetime)
	}
}

func (w *twin) lookupOrInsert(key, value string, lifetime time.Duration) {
	w.tb.Helper()
	actual, left, found := w.real.LookupOrInsert(key, value, lifetime)
	what := fmt.Sprintf("LookupOrInsert(%q, %q, %d)", key, value, lifetime)
	if lifetime <= 0 {
		w.same(what, Entry[string]{actual, left}, Entry[string]{})
		w.same(what, found, false)
		return
	}
	e := w.live(key)
	w.same(what+": found", found, e != nil)
	if e == nil {
		e = &twinEntry{value: value}
		w.entries[key] = e
	}
	e.deadline = w.until(e, lifetime)
	want, _ := w.left(e)
	w.same(what, Entry[string]{actual, left}, Entry[string]{e.value, want})
}

func (w *twin) claim(key, value, instead string, lifetime time.Duration) {
	w.tb.Helper()
	actual, left := w.real.Claim(key, value, instead, lifetime)
	what := fmt.Sprintf("Claim(%q, %q, %q, %d)", key, value, instead, lifetime)
	if lifetime <= 0 {
		w.same(what, Entry[string]{actual, left}, Entry[string]{})
		return
	}
	e := w.live(key)
	if e == nil || instead != "" && e.value == instead {
		e = &twinEntry{value: value, deadline: w.after(w.grant(lifetime))}
		w.entries[key] = e
	}
	want, _ := w.left(e)
	w.same(what, Entry[string]{actual, left}, Entry[string]{e.value, want})
}

func (w *twin) increment(key string, delta int64, lifetime time.Duration) {
	w.tb.Helper()
	what := fmt.Sprintf("Increment(%q, %d, %d)", key, delta, lifetime)
	e := w.peek(key)
	n := new(big.Int)
	refused := e == nil && lifetime <= 0
	if e != nil {
		if _, ok := n.SetString(e.value, 10); !ok {
			refused = true
		}
	}
	sum, ok := w.real.Increment(key, delta, lifetime)
	w.same(what+": ok", ok, !refused)
	if refused {
		return
	}
	n.Add(n, big.NewInt(delta))
	switch {
	case n.Cmp(big.NewInt(math.MaxInt64)) > 0:
		n.SetInt64(math.MaxInt64)
	case n.Cmp(big.NewInt(math.MinInt64)) < 0:
		n.SetInt64(math.MinInt64)
	}
	w.same(what, sum, n.Int64())
	if e == nil {
		e = &twinEntry{deadline: w.after(w.grant(lifetime))}
		w.entries[key] = e
	}
	e.value = n.String()
}

// count compares the counts of live entries by value.
func (w *twin) count() {
	w.tb.Helper()
	want := map[string]int{}
	for key := range w.entries {
		if e := w.peek(key); e != nil {
			want[e.value]++
		}
	}
	if diff := cmp.Diff(want, w.real.CountByValue()); diff != "" {
		w.tb.Fatalf("CountByValue (-want +got):\n%s", diff)
	}
}

func (w *twin) lookup(key string, extend time.Duration) {
	w.tb.Helper()
	value, left, ok := w.real.Lookup(key, extend)
	was := w.entries[key]
	e := w.live(key)
	what := fmt.Sprintf("Lookup(%q, %d)", key, extend)
	w.same(what+": ok", ok, e != nil)
	if e == nil {
		w.same(what+": value", value, "")
		if left != 0 { // else it is missing, or was swept before
			if was == nil {
				w.tb.Fatalf("%s: remaining %d of a missing key", what, left)
			}
			want, _ := w.left(was)
			w.same(what+": remaining", left, min(want, -1))
		}
		return
	}
	w.extend(e, extend)
	want, _ := w.left(e)
	w.same(what+": value", value, e.value)
	w.same(what+": remaining", left, want)
}

func (w *twin) refresh(key string, extend time.Duration) {
	w.tb.Helper()
	e := w.live(key)
	w.same(fmt.Sprintf("Refresh(%q, %d)", key, extend), w.real.Refresh(key, extend), e != nil)
	if e != nil {
		w.extend(e, extend)
	}
}

func (w *twin) remove(key string) {
	w.real.Remove(key)
	delete(w.entries, key)
}

func (w *twin) compareAndSwap(key, old, new string) {
	w.tb.Helper()
	e := w.peek(key) // a store may or may not drop an expired entry here
	want := e != nil && e.value == old
	w.same(fmt.Sprintf("CompareAndSwap(%q, %q, %q)", key, old, new), w.real.CompareAndSwap(key, old, new), want)
	if want {
		e.value = new
	}
}

// compare checks everything that can be seen without changing it.
func (w *twin) compare() {
	w.tb.Helper()
	seen := map[string]bool{}
	for key, got := range w.real.All() {
		e := w.peek(key)
		if e == nil || seen[key] {
			w.tb.Fatalf("All: yields %q, live %t, twice %t", key, e != nil, seen[key])
		}
		seen[key] = true
		left, _ := w.left(e)
		w.same("All: entry of "+strconv.Quote(key), got, Entry[string]{e.value, left})
	}
	for key := range w.entries {
		if w.peek(key) != nil && !seen[key] {
			w.tb.Fatalf("All: %q is missing", key)
		}
	}
	t := w.real.table()
	if t == nil {
		return
	}
	checkInvariants(w.tb, t)
	for _, key := range []string{"a", "b"} {
		value, left, ok := t.Peek(key)
		if e := w.peek(key); e != nil {
			want, _ := w.left(e)
			w.same("Peek", Entry[string]{value, left}, Entry[string]{e.value, want})
		} else if ok || left > 0 || value != "" {
			w.tb.Fatalf("Peek(%q) = %q, %v, %t of a key that is not live", key, value, left, ok)
		}
	}
	stats := w.real.Stats()
	w.same("Stats: entries", stats.Entries, t.Len())
	if stats.Inserts != uint64(stats.Entries)+stats.Removals+stats.Expirations+stats.Evictions {
		w.tb.Fatalf("Stats do not add up: %+v", stats)
	}
}

var (
	twinKeys      = []string{"", "a", "b", "c", "d", "e", "f", "10.0.0.7", "key\x00with\r\n\xff"}
	twinValues    = []string{"", "x", "7", "10.0.0.1:80"}
	twinDeltas    = []int64{0, 1, -1, 1000, math.MaxInt64, math.MinInt64}
	twinDurations = []time.Duration{
		-1 << 63, -1, 0, 1, 2, 1000, time.Millisecond, time.Second, 5 * time.Second,
		DefaultLifetime, time.Hour, DefaultMaxLifetime, 365 * 24 * time.Hour, 1<<63 - 1,
	}
	twinOptions = []Options{
		{},
		{Sliding: true},
		{MaxLifetime: 10 * time.Second, MinLifetime: 2 * time.Second},
		{MaxLifetime: 3, Sliding: true},
		{MaxLifetime: lifetimeCeiling, WhenFull: RefuseNew},
		{MinLifetime: lifetimeCeiling},
		{Owner: func(key string) string { return key[:min(len(key), 1)] }},
	}
)

// step performs the operation that four numbers name; they are taken modulo
// what there is.
func (w *twin) step(op, key, value, duration byte) {
	w.tb.Helper()
	k := twinKeys[int(key)%len(twinKeys)]
	v := twinValues[int(value)%len(twinValues)]
	d := twinDurations[int(duration)%len(twinDurations)]
	switch op % 17 {
	case 0, 1:
		w.insert(k, v, d)
	case 2:
		w.put(k, v, d)
	case 3, 4:
		w.lookup(k, d)
	case 5:
		w.refresh(k, d)
	case 6:
		w.remove(k)
	case 7:
		w.compareAndSwap(k, v, twinValues[int(value>>4)%len(twinValues)])
	case 8:
		if d > 0 && d <= time.Hour {
			advance(d)
		}
	case 9: // a hair around a deadline
		if e := w.entries[k]; e != nil {
			if left, _ := w.left(e); left > 1 {
				advance(min(left-1+time.Duration(value%3), time.Hour))
			}
		}
	case 10, 11:
		w.increment(k, twinDeltas[int(value)%len(twinDeltas)], d)
	case 12:
		w.lookupOrInsert(k, v, d)
	case 13:
		w.touch(k, d)
	case 14:
		w.putIdle(k, v, d, twinDurations[int(value>>4)%len(twinDurations)])
	case 15:
		w.count()
	case 16:
		w.claim(k, v, twinValues[int(value>>4)%len(twinValues)], d)
	}
}

func TestTableAgainstTwin(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			o := rapid.SampledFrom(twinOptions).Draw(t, "options")
			var real verbs
			if rapid.Bool().Draw(t, "store") {
				real = storeVerbs{NewStore(o), rapid.SampledFrom([]string{"", "t"}).Draw(t, "table")}
			} else {
				real = tableVerbs{NewTable[string, string](o)}
			}
			w := newTwin(t, real, o)
			t.Repeat(map[string]func(*rapid.T){
				"": func(t *rapid.T) { w.compare() },
				"step": func(t *rapid.T) {
					b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "step")
					w.step(b[0], b[1], b[2], b[3])
				},
			})
		})
	})
}

// TestTableAgainstTwinLong trades rapid's shrinking for length.
func TestTableAgainstTwinLong(t *testing.T) {
	t.Parallel()
	seeds, steps := 200, 10_000
	if testrace.Enabled {
		seeds = 10
	}
	if testing.Short() {
		seeds = len(twinOptions)
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 46))
			o := twinOptions[seed%len(twinOptions)]
			var real verbs = tableVerbs{NewTable[string, string](o)}
			if seed%2 == 1 {
				real = storeVerbs{NewStore(o), "t"}
			}
			w := newTwin(t, real, o)
			for i := range steps {
				r := rng.Uint32()
				w.step(byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
				if i%100 == 0 {
					w.compare()
				}
			}
			w.compare()
		})
	}
}

// FuzzTableOps reads four bytes as an operation and the first byte as the
// options.
func FuzzTableOps(f *testing.F) {
	f.Add([]byte{0})                                                                         // nothing happens
	f.Add([]byte{0, 0, 1, 1, 9, 0, 1, 2, 7, 3, 1, 0, 2})                                     // insert, insert again, lookup with 0
	f.Add([]byte{1, 0, 1, 1, 7, 3, 1, 0, 13, 8, 0, 0, 10, 3, 1, 0, 2})                       // sliding; extend by the greatest duration
	f.Add([]byte{2, 0, 1, 1, 0, 0, 1, 1, 1, 2, 1, 1, 2})                                     // lifetimes that are refused
	f.Add([]byte{3, 0, 1, 1, 3, 9, 1, 0, 0, 3, 1, 0, 2, 9, 1, 1, 0, 3, 1, 0, 2})             // one before the deadline, and at it
	f.Add([]byte{4, 0, 1, 1, 13, 8, 0, 0, 10, 5, 1, 0, 13, 7, 1, 0x21, 0, 6, 1, 0, 0})       // longest lifetimes, swap, remove
	f.Add([]byte{129, 0, 8, 3, 9, 7, 8, 0x03, 0, 2, 8, 0, 3, 9, 8, 1, 0, 7, 8, 0x10, 0})     // a store's table; swap after expiry
	f.Add([]byte{0, 0, 1, 1, 3, 0, 2, 1, 3, 0, 3, 1, 9, 8, 0, 0, 9, 0, 4, 1, 9, 3, 1, 0, 2}) // swept by an insert before it is looked up
	f.Add([]byte{0, 10, 1, 4, 9, 11, 1, 1, 2, 10, 1, 5, 0, 10, 1, 5, 0, 10, 1, 2, 0})        // a counter at both ends of its range
	f.Add([]byte{128, 0, 1, 1, 9, 10, 1, 1, 9, 0, 2, 2, 9, 10, 2, 1, 2})                     // increments of what is no number, and of what is
	f.Add([]byte{0, 14, 1, 0x91, 7, 9, 1, 0, 0, 3, 1, 0, 12, 13, 1, 0, 13, 8, 0, 0, 9})      // an idle lifetime extended to its end
	f.Add([]byte{0, 12, 1, 1, 9, 12, 1, 2, 8, 15, 0, 0, 0, 6, 1, 0, 0, 15, 0, 0, 0})         // counts from the first call on
	f.Add([]byte{128, 16, 1, 1, 9, 16, 1, 2, 9, 16, 1, 0x12, 8, 8, 0, 0, 9, 16, 1, 0x13, 9}) // a first claim, a second, one instead, one that finds nothing
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) == 0 || len(ops) > 4096 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			o := twinOptions[int(ops[0]&127)%len(twinOptions)]
			var real verbs = tableVerbs{NewTable[string, string](o)}
			if ops[0]&128 != 0 {
				real = storeVerbs{NewStore(o), "t"}
			}
			w := newTwin(t, real, o)
			for op := range slices.Chunk(ops[1:], 4) {
				if len(op) == 4 {
					w.step(op[0], op[1], op[2], op[3])
				}
			}
			w.compare()
		})
	})
}
