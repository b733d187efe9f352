package policy

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/tokenbucket"
)

func mustRateLimiter(t testing.TB, cfg RateLimiterConfig) *RateLimiter {
	t.Helper()
	l, err := NewRateLimiter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRateLimiterFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  RateLimiterConfig
		want []string
	}{
		{"zero", RateLimiterConfig{}, []string{"count: 0: less than 1"}},
		{"all", RateLimiterConfig{Rate{1e9 + 1, time.Millisecond, -1}, -1, 129}, []string{
			"count: 1000000001: more than 1000000000", "period: 1ms: less than 1s", "burst: -1: negative",
			"maxKeys: -1: less than 1", "ipv6Bits: 129: more than 128"}},
		{"for ever", RateLimiterConfig{Rate: Rate{1, time.Hour, 1e9}}, []string{"burst: 1000000000 tokens at 1 in 1h0m0s take more than 73 years to come"}},
		{"greatest", RateLimiterConfig{Rate{1e9, 1e9 * time.Second, 1e9}, 1 << 24, 128}, nil},
		{"slowest", RateLimiterConfig{Rate: Rate{Count: 1, Period: 1e9 * time.Second}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewRateLimiter(c.cfg)
			if got := lines(err); len(got) != len(c.want) || len(got) > 0 && !equalLines(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func equalLines(a, b []string) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestRateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustRateLimiter(t, RateLimiterConfig{Rate: Rate{Count: 1000, Period: 10 * time.Second, Burst: 5}})
		for i := range 1000 {
			if !l.Allow("a") {
				t.Fatalf("event %d is refused", i+1)
			}
		}
		if l.Allow("a") || !l.Allow("b") {
			t.Error("the 1001st event passes, or keys share a bucket")
		}
		time.Sleep(10 * time.Millisecond)
		if !l.Allow("a") || l.Allow("a") {
			t.Error("not one token after an interval")
		}
		if l.AllowN("c", 1001) || !l.AllowN("c", 999) || l.AllowN("c", 2) || !l.AllowN("c", 0) || !l.AllowN("c", 1) || l.AllowN("c", -5) || l.AllowN("c", math.MaxInt) {
			t.Error("AllowN")
		}
		time.Sleep(time.Hour)
		if !l.AllowN("a", 1000) || l.Allow("a") {
			t.Error("a bucket holds more, or less, than the burst")
		}
		if allowed, limited := l.Stats(); allowed != 1000+1+1+2+1 || limited != 1+1+3+1 {
			t.Errorf("allowed %d, limited %d", allowed, limited)
		}
	})
}

func TestRateLimiterAddr(t *testing.T) {
	l := mustRateLimiter(t, RateLimiterConfig{Rate: Rate{Count: 1, Period: time.Hour}})
	for _, c := range []struct {
		addr string
		want bool
	}{
		{"192.0.2.1", true}, {"192.0.2.1", false}, {"::ffff:192.0.2.1", false}, {"192.0.2.2", true},
		{"2001:db8::1", true}, {"2001:db8::2", false}, {"2001:db8:0:0:ffff::", false}, {"2001:db8:0:1::1", true}, {"fe80::1%eth0", true}, {"fe80::1%eth1", false},
	} {
		if got := l.AllowAddr(netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%s: %v", c.addr, got)
		}
	}
	if !l.AllowAddr(netip.Addr{}) || l.AllowAddr(netip.Addr{}) {
		t.Error("invalid addresses do not share a bucket")
	}
	whole := mustRateLimiter(t, RateLimiterConfig{Rate: Rate{Count: 1, Period: time.Hour}, IPv6Bits: 128})
	if !whole.AllowAddr(netip.MustParseAddr("2001:db8::1")) || !whole.AllowAddr(netip.MustParseAddr("2001:db8::2")) {
		t.Error("IPv6Bits")
	}
}

// admissions are the times at which one key was allowed.
type admissions []int64

// excess is by how many events the admissions exceed rate × time + burst in
// the worst interval. It is found from each admission to each later one, in
// one pass: the bucket of real numbers that would just have allowed them.
func (a admissions) excess(r Rate) float64 {
	capacity := float64(max(r.Count, r.Burst))
	rate := float64(r.Count) / float64(r.Period)
	worst, used, last := 0.0, 0.0, int64(0)
	for _, at := range a {
		used = max(0, used-rate*float64(at-last)) + 1
		last = at
		worst = max(worst, used-capacity)
	}
	return worst
}

// No key ever gets more than its rate, however few slots there are, however
// many keys, and whatever the clock does; and with slots enough, none gets
// less.
func TestRateLimiterNeverExceeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{
			Count:  rapid.SampledFrom([]int{1, 2, 3, 7, 100, 999_999, 1e9}).Draw(t, "count"),
			Period: rapid.SampledFrom([]time.Duration{time.Second, 3 * time.Second, time.Hour}).Draw(t, "period"),
			Burst:  rapid.SampledFrom([]int{0, 1, 5, 1000}).Draw(t, "burst"),
		}
		keys := rapid.IntRange(1, 200).Draw(t, "keys")
		maxKeys := rapid.SampledFrom([]int{8, 64, 1 << 16}).Draw(t, "maxKeys")
		l, err := NewRateLimiter(RateLimiterConfig{Rate: r, MaxKeys: maxKeys})
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		allowed := make([]admissions, keys)
		exact := make([]bucketTwin, keys)
		interval := max(1, int64(r.Period)/int64(r.Count))
		now, backwards := int64(0), rapid.Bool().Draw(t, "backwards")
		for range 3000 {
			now += random.Int64N(2*interval/int64(1+random.IntN(keys+1)) + 1)
			at := now
			if backwards && random.IntN(8) == 0 {
				at = max(0, now-random.Int64N(3*interval+1)) // a caller that read the clock and was delayed
			}
			k := random.IntN(keys)
			ok := l.take(uint64(k+1)*0x9e3779b97f4a7c15, 1, at)
			if ok {
				allowed[k] = append(allowed[k], at)
			}
			if !backwards && maxKeys == 1<<16 {
				if want := exact[k].take(r, now); ok != want {
					t.Fatalf("key %d at %d: %v, want %v", k, now, ok, want)
				}
			}
		}
		for k, a := range allowed {
			slices.Sort(a) // the guarantee is about times of decisions, in whatever order they are made
			if e := a.excess(r); e > 1e-6 {
				t.Fatalf("key %d exceeds %+v by %v", k, r, e)
			}
		}
	})
}

// bucketTwin counts tokens instead of time.
type bucketTwin struct {
	taken []int64 // when, for each token that has not come back
}

func (b *bucketTwin) take(r Rate, now int64) bool {
	interval := (int64(r.Period) + int64(r.Count) - 1) / int64(r.Count)
	// Tokens come back one after the other, each an interval after the one
	// before.
	for len(b.taken) > 0 && b.taken[0] <= now {
		b.taken = b.taken[1:]
	}
	if len(b.taken) >= max(r.Count, r.Burst) {
		// Full but for a fraction: the next token comes back at taken[0].
		return false
	}
	back := now
	if n := len(b.taken); n > 0 {
		back = b.taken[n-1]
	}
	b.taken = append(b.taken, back+interval)
	return true
}

// Ten million keys that a client invents take no more memory than the cap, and
// do not bring anybody, known or new, above the rate.
func TestRateLimiterInventedKeys(t *testing.T) {
	n := 10_000_000
	if testrace.Enabled || testing.Short() {
		n = 100_000
	}
	r := Rate{Count: 10}
	l := mustRateLimiter(t, RateLimiterConfig{Rate: r, MaxKeys: 1 << 12})
	r.Period = time.Second
	var victim admissions
	var key [8]byte
	total := 0
	for i := range n {
		now := int64(i) * 1000 // a million keys a second
		binary.LittleEndian.PutUint64(key[:], uint64(i))
		if l.take(l.hash(key[:]), 1, now) {
			total++
		}
		if i%1000 == 0 && l.take(1, 1, now) {
			victim = append(victim, now)
		}
	}
	if e := victim.excess(r); e > 1e-6 {
		t.Errorf("a key exceeds its rate by %v", e)
	}
	slots := l.table.Slots()
	if slots > 1<<12 {
		t.Errorf("%d slots", slots)
	}
	// All keys together cannot have got more than all buckets there are.
	seconds := float64(n) / 1e6
	if most := float64(slots) * 10 * (seconds + 1); float64(total) > most {
		t.Errorf("%d events are more than %v", total, most)
	}
	if after := int64(n)*1000 + int64(2*time.Second); !l.take(12345, 10, after) {
		t.Error("full again after a pause, a bucket does not hold its tokens")
	}
}

// Callers in parallel do not get more than one alone.
func TestRateLimiterParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustRateLimiter(t, RateLimiterConfig{Rate: Rate{Count: 50, Burst: 80}})
		b, begin := tokenbucket.NewBucket(l.table.Size()), time.Now()
		var fromKey, fromBucket atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 200 {
					if l.Allow("k") {
						fromKey.Add(1)
					}
					if b.Take(int64(time.Since(begin))) {
						fromBucket.Add(1)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		// Burst, and 50 a second for the 1.99 s from the first to the last
		// event.
		if k, want := fromKey.Load(), int64(80+99); k != want || fromBucket.Load() != want {
			t.Errorf("%d and %d, want %d", k, fromBucket.Load(), want)
		}
	})
}

func TestRateLimiterPeek(t *testing.T) {
	l := mustRateLimiter(t, RateLimiterConfig{Rate: Rate{Count: 1, Period: time.Hour}})
	for range 2 {
		if !l.table.Peek(7, 0) {
			t.Error("peek takes tokens")
		}
	}
	if !l.take(7, 1, 0) || l.table.Peek(7, 0) || l.take(7, 1, 0) {
		t.Error("peek does not see that the token is gone")
	}
}

func BenchmarkRateLimiter(b *testing.B) {
	l := mustRateLimiter(b, RateLimiterConfig{Rate: Rate{Count: 1000}})
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = "192.0.2." + strconv.Itoa(i)
	}
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			l.Allow(keys[i%len(keys)])
		}
	})
	b.Run("address", func(b *testing.B) {
		addr := netip.MustParseAddr("2001:db8::1")
		b.ReportAllocs()
		for b.Loop() {
			l.AllowAddr(addr)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				l.Allow(keys[i%len(keys)])
			}
		})
	})
}
