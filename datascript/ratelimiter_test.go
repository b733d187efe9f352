package datascript

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

func newLimiter(t testing.TB, limit RateLimit) *RateLimiter {
	t.Helper()
	l, err := NewRateLimiter(limit)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, RateLimit{Count: 10, Period: time.Second, Burst: 20})
		for i := range 20 {
			if l.Exceed("k", 1) {
				t.Fatalf("exceeded after %d", i)
			}
		}
		if !l.Exceed("k", 1) || l.Exceed("k", 0) || l.Exceed("other", 20) || !l.Exceed("other", 1) {
			t.Error("the bucket is not empty, or not the key's own")
		}
		if l.Exceed("k", -5) || !l.Exceed("k", 1) {
			t.Error("a negative number fills the bucket")
		}
		time.Sleep(300 * time.Millisecond)
		if l.Exceed("k", 3) || !l.Exceed("k", 1) {
			t.Error("300 ms are not worth 3 tokens")
		}
		time.Sleep(time.Hour)
		if !l.Exceed("k", 21) || l.Exceed("k", 20) || !l.Exceed("k", 1) {
			t.Error("an hour is not worth a full bucket")
		}
	})
}

func TestRateLimitFaults(t *testing.T) {
	_, err := NewRateLimiter(RateLimit{Count: 0, Period: -1, Burst: -1, Keys: 1 << 30})
	for _, want := range []string{"count: 0: less than 1", "period: -1ns: less than 1µs", "burst: -1: negative", "keys: 1073741824: more than 16777216"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

// Scripts that name the same limiter share its buckets.
func TestRateLimiterShared(t *testing.T) {
	e := newEngine(t, Env{RateLimiters: map[string]*RateLimiter{"x": newLimiter(t, RateLimit{Count: 1, Period: time.Hour})}})
	for i, want := range []string{"false", "true"} {
		x := newExchange()
		s, err := Compile(fmt.Sprint("script ", i), Chunk{Event: HTTPReq, Source: "avi.vs.log(avi.vs.ratelimit.exceed('x', 'key'))"})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(t.Context(), s, HTTPReq, x); err != nil || x.logged()[0] != want {
			t.Errorf("script %d: %q, %v, want %s", i, x.logs, err, want)
		}
		x.vars.Reset()
	}
}

// The limiter agrees with a bucket that is kept by the book.
func TestRateLimiterTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 50).Draw(t, "count")
		burst := rapid.IntRange(0, 100).Draw(t, "burst")
		l, err := NewRateLimiter(RateLimit{Count: count, Period: time.Second, Burst: burst})
		if err != nil {
			t.Fatal(err)
		}
		type twin struct {
			tokens float64
			at     time.Duration
		}
		twins := map[string]*twin{}
		now := time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(t, "calls") {
			now += time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond
			key := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "key")
			n := rapid.IntRange(0, 20).Draw(t, "n")
			w := twins[key]
			if w == nil {
				w = &twin{float64(max(count, burst)), now}
				twins[key] = w
			}
			if now > w.at {
				w.tokens = min(float64(max(count, burst)), w.tokens+(now-w.at).Seconds()*float64(count))
				w.at = now
			}
			want := w.tokens < float64(n)
			if d := w.tokens - float64(n); d > -1e-3 && d < 1e-3 {
				// Either answer is right; take the limiter's.
				want = l.exceed(key, n, now)
			} else if got := l.exceed(key, n, now); got != want {
				t.Fatalf("exceed(%q, %d) at %v is %v, want %v with %v tokens", key, n, now, got, want, w.tokens)
			}
			if !want {
				w.tokens -= float64(n)
			}
		}
	})
}

// Parallel callers get no token twice.
func TestRateLimiterParallel(t *testing.T) {
	const tokens = 1000
	l := newLimiter(t, RateLimit{Count: tokens, Period: 1e5 * time.Hour})
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range tokens {
				if !l.Exceed("k", 1) {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != tokens {
		t.Errorf("%d tokens of %d", n, tokens)
	}
}

// Who spends too much is not forgotten in a flood of other keys, and the
// flood takes no memory.
func TestRateLimiterFlood(t *testing.T) {
	l := newLimiter(t, RateLimit{Count: 100, Period: 1e5 * time.Hour, Keys: 1024})
	if l.Exceed("offender", 100) {
		t.Fatal("exceeded at once")
	}
	for i := range 1_000_000 {
		l.Exceed(strconv.Itoa(i), 1)
	}
	if !l.Exceed("offender", 1) {
		t.Error("the offender was forgotten")
	}
	if got, want := l.table.Slots(), 1024; got != want {
		t.Errorf("%d buckets, want %d", got, want)
	}
	if n := testing.AllocsPerRun(1000, func() { l.Exceed("another key", 1) }); n != 0 && !testrace.Enabled {
		t.Errorf("%v allocations", n)
	}
}

// With more active keys than buckets, each newcomer got a full bucket: 20,000
// keys with a token a day each were allowed 200,000 requests in ten rounds.
func TestRateLimiterFullTable(t *testing.T) {
	l := newLimiter(t, RateLimit{Count: 1, Period: 24 * time.Hour, Keys: 512})
	allowed := 0
	for range 10 {
		for i := range 20_000 {
			if !l.exceed(strconv.Itoa(i), 1, 0) {
				allowed++
			}
		}
	}
	if allowed != 512 {
		t.Errorf("%d requests were allowed, want 512", allowed)
	}
}

func BenchmarkRateLimiter(b *testing.B) {
	l := newLimiter(b, RateLimit{Count: 1000})
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = "203.0.113." + strconv.Itoa(i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		l.Exceed(keys[i&(len(keys)-1)], 1)
		i++
	}
}

// BenchmarkRateLimitEnforced is what a request costs that a script turns away
// by avi.vs.rate_limit.
func BenchmarkRateLimitEnforced(b *testing.B) {
	limiter := newLimiter(b, RateLimit{Count: 1, Period: 1e5 * time.Hour})
	e := newEngine(b, Env{RateProfile: &RateProfile{Limiter: limiter, Action: RateClose}})
	s := mustCompile(b, Chunk{Event: HTTPReq, Source: `avi.vs.rate_limit(avi.RL_CUSTOM_STRING, avi.vs.client_ip())`})
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Run(b.Context(), s, HTTPReq, newExchange()); err != nil {
			b.Fatal(err)
		}
	}
}
