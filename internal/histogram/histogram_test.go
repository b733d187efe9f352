package histogram

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// slowIndex finds the bucket of a duration by the definition, without rounding:
// the first i for which d <= 2^(i/4) s, which is d^4 <= 2^i s^4.
func slowIndex(d time.Duration) int {
	fourth := new(big.Int).Exp(big.NewInt(max(int64(d), 0)), big.NewInt(4), nil)
	second := new(big.Int).Exp(big.NewInt(int64(time.Second)), big.NewInt(4), nil)
	for i := range nBounds {
		power := First*octave + i
		left, right := new(big.Int).Set(fourth), new(big.Int).Set(second)
		if power < 0 {
			left.Lsh(left, uint(-power))
		} else {
			right.Lsh(right, uint(power))
		}
		if left.Cmp(right) <= 0 {
			return i
		}
	}
	return nBounds
}

// The bucket of a duration is that of the definition: at each bound, just below
// and above it, at powers of two and for random durations of all sizes.
func TestIndex(t *testing.T) {
	tried := []time.Duration{math.MinInt64, -1, 0, 1, math.MaxInt64}
	for i := range nBounds {
		for off := time.Duration(-3); off <= 3; off++ {
			tried = append(tried, bounds[i]+off)
		}
	}
	for power := range 63 {
		tried = append(tried, 1<<power-1, 1<<power, 1<<power+1)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		tried = append(tried, time.Duration(math.Exp2(random.Float64()*63)))
	}
	for _, d := range tried {
		if got, want := Index(d), slowIndex(d); got != want {
			t.Errorf("%d ns is in bucket %d, not %d", d, got, want)
		}
	}
}

// A reader gets the counts of a slow twin, though many goroutines count.
func TestCount(t *testing.T) {
	var counters Striped[Counter]
	const goroutines, each = 8, 2000
	want, sum := New(), time.Duration(0)
	var all sync.WaitGroup
	for g := range goroutines {
		random := rand.New(rand.NewPCG(3, uint64(g)))
		durations := make([]time.Duration, each)
		for i := range durations {
			durations[i] = time.Duration(math.Exp2(random.Float64() * 44))
			want.Counts[slowIndex(durations[i])]++
			sum += durations[i]
		}
		all.Go(func() {
			for _, d := range durations {
				counters.Own().Observe(d)
			}
		})
	}
	all.Wait()
	got := New()
	for c := range counters.All() {
		c.AddTo(&got)
	}
	if !slices.Equal(got.Counts, want.Counts) || got.Sum != sum || got.Count() != goroutines*each {
		t.Errorf("%d counts %v, sum %v; want %d, %v, %v", got.Count(), got.Counts, got.Sum, goroutines*each, want.Counts, sum)
	}
}

// The sum begins at 0 again, and is never negative.
func TestSumWraps(t *testing.T) {
	var a, b Counter
	for range 3 {
		a.Observe(math.MaxInt64)
	}
	b.Observe(math.MaxInt64)
	b.Observe(-time.Hour)
	got := New()
	a.AddTo(&got)
	b.AddTo(&got)
	if want := time.Duration(math.MaxInt64 - 3); got.Sum != want { // 4 times the most, in steps of 2^63
		t.Errorf("sum %d, want %d", got.Sum, want)
	}
	if got.Counts[0] != 1 || got.Counts[Buckets-1] != 4 {
		t.Errorf("%d below and %d above all bounds, want 1 and 4", got.Counts[0], got.Counts[Buckets-1])
	}
}

// There is one exemplar for each power of two, the latest.
func TestExemplars(t *testing.T) {
	var e Exemplars
	if all := e.All(); all != nil {
		t.Errorf("%v before the first", all)
	}
	for _, d := range []time.Duration{time.Hour * 2, 600 * time.Millisecond, time.Microsecond, 900 * time.Millisecond, time.Second, time.Second + 1} {
		e.Keep(Exemplar{TraceID: d.String(), Value: d})
	}
	var got []string
	for _, x := range e.All() {
		got = append(got, x.TraceID)
	}
	// A second is the bound of its octave, and the octave of 600 ms.
	if want := []string{"1µs", "1s", "1.000000001s", "2h0m0s"}; !slices.Equal(got, want) {
		t.Errorf("exemplars %v, want %v", got, want)
	}
}

// Counting allocates nothing once each processor has its counter.
func TestObserveAllocates(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector lets sync.Pool drop what it is given")
	}
	var counters Striped[Counter]
	if n := testing.AllocsPerRun(1000, func() { counters.Own().Observe(time.Second) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkObserve counts from one goroutine, and from one on each processor.
func BenchmarkObserve(b *testing.B) {
	var counters Striped[Counter]
	b.Run("one", func(b *testing.B) {
		for d := time.Duration(0); b.Loop(); d += 1234567 {
			counters.Own().Observe(d & (1<<33 - 1))
		}
	})
	b.Run("all", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for d := time.Duration(0); pb.Next(); d += 1234567 {
				counters.Own().Observe(d & (1<<33 - 1))
			}
		})
	})
}
