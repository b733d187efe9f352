package tokenbucket

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func mustSize(t testing.TB, count int, period time.Duration, burst int) Size {
	t.Helper()
	s, err := NewSize(count, period, burst)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSizeFaults(t *testing.T) {
	if _, err := NewSize(1, time.Hour, 1e9); err == nil || err.Error() != "1000000000 tokens at 1 in 1h0m0s take more than 73 years to come" {
		t.Error(err)
	}
}

func TestBucket(t *testing.T) {
	b := NewBucket(mustSize(t, 2, time.Second, 3))
	for i := range 3 {
		if !b.Peek(0) || !b.Take(0) {
			t.Fatalf("token %d is missing", i)
		}
	}
	half := int64(500 * time.Millisecond)
	if b.Peek(0) || b.Take(0) || b.Take(half-1) || !b.Take(half) || b.Take(half) {
		t.Error("tokens do not come twice a second")
	}
}

func TestBucketParallel(t *testing.T) {
	b := NewBucket(mustSize(t, 1000, time.Hour, 0))
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Take(0) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1000 {
		t.Errorf("%d tokens of 1000", taken.Load())
	}
}

// A key that is new to a full table gets no more than the bucket whose place
// it takes: however many keys there are, all together take no more than the
// buckets hold, and what comes.
func TestTableIsBounded(t *testing.T) {
	const keys, rounds = 20_000, 10
	table := NewTable(mustSize(t, 1, 24*time.Hour, 0), 512)
	order := rand.New(rand.NewPCG(1, 2))
	taken := 0
	for range rounds {
		for range keys {
			if table.Take((order.Uint64N(keys)+1)*0x9e3779b97f4a7c15, 1, 0) {
				taken++
			}
		}
	}
	if taken != 512 || table.Slots() != 512 {
		t.Errorf("%d tokens taken, %d buckets", taken, table.Slots())
	}
}

func TestTable(t *testing.T) {
	table := NewTable(mustSize(t, 3, time.Second, 0), 8)
	if !table.Peek(7, 0) || table.Slots() != 0 {
		t.Error("a table that was not used is not full")
	}
	for i, step := range []struct {
		hash uint64
		n    int
		want bool
	}{
		{7, 4, false}, {7, 3, true}, {7, 1, false}, {7, 0, false}, {9, 0, true}, {9, -1, true}, {9, 1 << 40, false}, {9, 2, true}, {9, 2, false}, {9, 1, true},
	} {
		if got := table.Take(step.hash, step.n, 0); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if now := int64(time.Second); !table.Take(7, 2, now) || table.Take(7, 2, now) {
		t.Error("a second is not worth three tokens, or nearly so")
	}
}

func TestFail(t *testing.T) {
	table := NewTable(mustSize(t, 2, time.Minute, 0), 8)
	minute := int64(time.Minute)
	table.Fail(7, 0)
	if !table.Peek(7, 0) {
		t.Error("limited after one failure of two")
	}
	table.Fail(7, 0)
	table.Fail(7, 0)
	if table.Peek(7, minute-1) || !table.Take(7, 1, minute) || table.Peek(7, minute) {
		t.Error("not limited for a minute, with one token then")
	}
}

func TestTableAllocs(t *testing.T) {
	table := NewTable(mustSize(t, 1, time.Second, 0), 8)
	table.Take(1, 1, 0)
	if n := testing.AllocsPerRun(100, func() { table.Take(1, 1, 0); table.Peek(1, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzTable(f *testing.F) {
	f.Add(uint64(1), 1, int64(0)) // the plainest
	f.Add(^uint64(0), 1<<62, int64(1<<60))
	f.Fuzz(func(t *testing.T, hash uint64, n int, now int64) {
		if now < 0 || now > 1<<60 {
			return
		}
		table := NewTable(mustSize(t, 5, time.Second, 0), 1)
		if ok := table.Take(hash, n, now); ok != (n <= 5) {
			t.Errorf("Take(%d, %d, %d) is %v", hash, n, now, ok)
		}
	})
}
