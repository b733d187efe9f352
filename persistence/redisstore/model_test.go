package redisstore

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/persistence"
)

// A twin does what one table of a store does, on a clock that the test moves.
// The server is told that clock's time, so every microsecond counts. The clock
// runs an hour and more ahead of the server's own, which therefore never frees
// an entry too early.
type twin struct {
	t       *testing.T
	store   *Store
	o       persistence.Options // with defaults
	now     int64               // microseconds
	entries map[string]*twinEntry
}

type twinEntry struct {
	value        string
	deadline     int64
	idle, latest int64 // 0: none
}

func (w *twin) live(key string) *twinEntry {
	e := w.entries[key]
	if e != nil && e.deadline <= w.now {
		delete(w.entries, key)
		return nil
	}
	return e
}

func (w *twin) grant(d time.Duration) int64 {
	return upward(min(max(d, w.o.MinLifetime), w.o.MaxLifetime))
}

func upward(d time.Duration) int64 { return int64((d + time.Microsecond - 1) / time.Microsecond) }

func (w *twin) until(e *twinEntry, d int64) int64 {
	if e.latest > 0 {
		return min(w.now+d, e.latest)
	}
	return w.now + d
}

func (w *twin) extend(e *twinEntry, d time.Duration) {
	longest := upward(w.o.MaxLifetime)
	to := e.deadline
	switch {
	case e.idle > 0:
		to = min(w.now+e.idle, e.latest)
	case d <= 0:
	case w.o.Sliding:
		to = w.now + upward(min(d, w.o.MaxLifetime))
	default:
		to = min(e.deadline+upward(min(d, w.o.MaxLifetime)), w.now+longest)
	}
	e.deadline = max(e.deadline, to)
}

func (w *twin) same(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (w *twin) left(e *twinEntry) time.Duration {
	return time.Duration(e.deadline-w.now) * time.Microsecond
}

// step does an operation that chance chooses and compares what comes back.
func (w *twin) step(rng *rand.Rand) {
	w.t.Helper()
	ctx := w.t.Context()
	pick := func(d []time.Duration) time.Duration { return d[rng.IntN(len(d))] }
	durations := []time.Duration{-1, 0, 1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour, 300 * time.Hour, math.MaxInt64}
	keys := []string{"", "a", "b", "c", "key\x00with}\r\n\xff"}
	values := []string{"", "x", "7", "-12", "10.0.0.1:80", "9223372036854775807"}
	key, value, d := keys[rng.IntN(len(keys))], values[rng.IntN(len(values))], pick(durations)
	e := w.live(key)
	check := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	switch rng.IntN(15) {
	case 0, 1:
		ok, err := w.store.Insert(ctx, "t", key, value, d)
		check(err)
		w.same("Insert", ok, d > 0)
		if ok && e != nil {
			e.deadline = w.until(e, w.grant(d))
		} else if ok {
			w.entries[key] = &twinEntry{value: value, deadline: w.now + w.grant(d)}
		}
	case 2:
		ok, err := w.store.Put(ctx, "t", key, value, d)
		check(err)
		w.same("Put", ok, d > 0)
		if ok {
			w.entries[key] = &twinEntry{value: value, deadline: w.now + w.grant(d)}
		}
	case 3, 4:
		got, left, ok, err := w.store.Lookup(ctx, "t", key, d)
		check(err)
		w.same("Lookup", ok, e != nil)
		if e != nil {
			w.extend(e, d)
			w.same("Lookup: value", got, e.value)
			w.same("Lookup: remaining", left, w.left(e))
		}
	case 5:
		ok, err := w.store.Refresh(ctx, "t", key, d)
		check(err)
		w.same("Refresh", ok, e != nil)
		if e != nil {
			w.extend(e, d)
		}
	case 6:
		check(w.store.Remove(ctx, "t", key))
		delete(w.entries, key)
	case 7:
		other := values[rng.IntN(len(values))]
		ok, err := w.store.CompareAndSwap(ctx, "t", key, other, value)
		check(err)
		w.same("CompareAndSwap", ok, e != nil && e.value == other)
		if ok {
			e.value = value
		}
	case 8:
		if d > 0 && d <= time.Hour {
			w.now += upward(d)
		}
	case 9: // around the deadline
		if e != nil && e.deadline-w.now < int64(time.Hour/time.Microsecond) {
			w.now = e.deadline - 1 + rng.Int64N(3)
		}
	case 10:
		deltas := []int64{0, 1, -1, 1000, 1<<53 + 1, math.MaxInt64, math.MinInt64}
		delta := deltas[rng.IntN(len(deltas))]
		sum, ok, err := w.store.Increment(ctx, "t", key, delta, d)
		check(err)
		if e == nil {
			w.same("Increment: ok", ok, d > 0)
			if ok {
				w.same("Increment", sum, delta)
				w.entries[key] = &twinEntry{value: strconv.FormatInt(delta, 10), deadline: w.now + w.grant(d)}
			}
			return
		}
		n, err := strconv.ParseInt(e.value, 10, 64)
		w.same("Increment: ok", ok, err == nil)
		if ok {
			total := new(big.Int).Add(big.NewInt(n), big.NewInt(delta))
			if total.Cmp(big.NewInt(math.MaxInt64)) > 0 {
				total.SetInt64(math.MaxInt64)
			} else if total.Cmp(big.NewInt(math.MinInt64)) < 0 {
				total.SetInt64(math.MinInt64)
			}
			w.same("Increment", sum, total.Int64())
			e.value = total.String()
		}
	case 11:
		got, left, found, err := w.store.LookupOrInsert(ctx, "t", key, value, d)
		check(err)
		w.same("LookupOrInsert: found", found, d > 0 && e != nil)
		if d <= 0 {
			return
		}
		if e == nil {
			e = &twinEntry{value: value}
			w.entries[key] = e
		}
		e.deadline = w.until(e, w.grant(d))
		w.same("LookupOrInsert: value", got, e.value)
		w.same("LookupOrInsert: remaining", left, w.left(e))
	case 12:
		ok, err := w.store.Touch(ctx, "t", key, d)
		check(err)
		w.same("Touch", ok, d > 0 && e != nil)
		if ok {
			e.deadline = w.until(e, w.grant(d))
		}
	case 14:
		instead := values[rng.IntN(len(values))]
		got, left, err := w.store.Claim(ctx, "t", key, value, instead, d)
		check(err)
		if d <= 0 {
			w.same("Claim: remaining", left, time.Duration(0))
			return
		}
		if e == nil || instead != "" && e.value == instead {
			e = &twinEntry{value: value, deadline: w.now + w.grant(d)}
			w.entries[key] = e
		}
		w.same("Claim: value", got, e.value)
		w.same("Claim: remaining", left, w.left(e))
	case 13:
		atMost := pick(durations)
		ok, err := w.store.PutIdle(ctx, "t", key, value, d, atMost)
		check(err)
		w.same("PutIdle", ok, d > 0 && atMost > 0)
		if ok {
			e := &twinEntry{value: value, idle: w.grant(d), latest: w.now + w.grant(atMost)}
			e.deadline = w.until(e, min(e.idle, w.grant(atMost)))
			w.entries[key] = e
		}
	}
}

// compare compares the results of Range and CountByValue.
func (w *twin) compare() {
	w.t.Helper()
	type entry = persistence.Entry[string]
	got, want, counts := map[string]entry{}, map[string]entry{}, map[string]int{}
	if err := w.store.Range(w.t.Context(), "t", func(key string, e entry) bool { got[key] = e; return true }); err != nil {
		w.t.Fatal(err)
	}
	for _, key := range slices.Collect(keysOf(w.entries)) {
		if e := w.live(key); e != nil {
			want[key] = entry{Value: e.value, Remaining: w.left(e)}
			counts[e.value]++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("Range (-want +got):\n%s", diff)
	}
	count, err := w.store.CountByValue(w.t.Context(), "t")
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(counts, count); diff != "" {
		w.t.Fatalf("CountByValue (-want +got):\n%s", diff)
	}
}

func keysOf[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestAgainstTwin runs with all 200 seeds of 10,000 operations where time is
// plenty; see modelSeeds.
func TestAgainstTwin(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := []persistence.Options{
		{},
		{Sliding: true},
		{MaxLifetime: 10 * time.Second, MinLifetime: 2 * time.Second},
		{MaxLifetime: 3 * time.Microsecond, Sliding: true},
	}
	const workers = 8
	steps := 10_000
	if testing.Short() {
		steps = 1500
	}
	queue := make(chan int)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for seed := range queue {
				if t.Failed() {
					continue
				}
				t.Run(strconv.Itoa(seed), func(t *testing.T) {
					o := options[seed%len(options)]
					w := &twin{t: t, now: time.Now().Add(time.Hour).UnixMicro(), entries: make(map[string]*twinEntry)}
					w.store = open(t, server, Config{
						Prefix: "model" + strconv.Itoa(worker) + "-" + strconv.Itoa(seed), Options: o, NearEntries: -1,
					})
					defer w.store.Close()
					w.store.clock = func() int64 { return w.now }
					w.o = w.store.config.Options
					rng := rand.New(rand.NewPCG(uint64(seed), 46))
					for i := range steps {
						w.step(rng)
						if i%500 == 0 {
							w.compare()
						}
					}
					w.compare()
				})
			}
		})
	}
	for seed := range modelSeeds() {
		queue <- seed
	}
	close(queue)
	wg.Wait()
}
