package datascript

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// largest are lists of arguments that are as large as they can be, from the
// string v and the array t of references to it.
var largest = []string{"v", "v, v", "v, v, v", "v, 1, v", "'x', v", "t", "t, v", "unpack(t)", "v, unpack(t)", "'x', t", "v, 1e6", "'%s%s', v", "v, '.', '%0%0'", "v, '.', v", "v, '.-', t"}

// peakScript calls a function again and again and keeps what it gives.
func peakScript(name, args string) string {
	return `local v = ("x"):rep(2^20 - 1)
		local t, kept = {}, {}
		for i = 1, 1500 do t[i] = v end
		for i = 1, 200 do
			local r = {pcall(` + name + ", " + args + `)}
			if not r[1] and i > 3 then break end
			kept[i] = r
		end`
}

// TestPeakBytes searches all functions, with the largest arguments, for one
// that makes more than a script is said to make at most, and runs the worst 64
// at a time: they hold no more than is reckoned with.
func TestPeakBytes(t *testing.T) {
	if testrace.Enabled {
		return // which takes memory of its own
	}
	limiter := newLimiter(t, RateLimit{Count: 1e9})
	env := Env{
		PoolGroups: fakePoolGroups{}, Pools: fakePools{}, StringGroups: fakeStringGroups{}, Geo: fakeGeo{}, Reputations: fakeGeo{}, Tables: discardTables{},
		RateLimiters: map[string]*RateLimiter{"x": limiter}, RateProfile: &RateProfile{Limiter: limiter},
		Limits: Limits{Time: time.Minute, Concurrent: 4, HeldBytes: 64 << 20, Wait: time.Minute},
	}
	e := newEngine(t, env)
	run := func(source string) (uint64, error) {
		s := mustCompile(t, Chunk{Event: HTTPReq, Source: source})
		x := &ableExchange{exchange: newExchange()}
		before := allocated()
		err := e.Run(t.Context(), s, HTTPReq, x)
		made := allocated() - before
		x.vars.Reset()
		return made, err
	}
	type peak struct {
		name, source string
		bytes        uint64
	}
	var peaks []peak
	names := slices.Sorted(maps.Keys(symbols))
	calls := 0
	for i, name := range names {
		if symbols[name].call == nil || name[0] < 'a' || name[0] > 'z' {
			continue
		}
		for j, args := range largest {
			if !*full && (i+j)%24 != 0 {
				continue
			}
			source := peakScript(name, args)
			bytes, err := run(source)
			if pe := (*PanicError)(nil); errors.As(err, &pe) {
				t.Errorf("%s(%s): %v", name, args, err)
			}
			peaks = append(peaks, peak{fmt.Sprintf("%s(%s)", name, args), source, bytes})
			calls++
		}
	}
	slices.SortFunc(peaks, func(a, b peak) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, p := range peaks[:5] {
		t.Logf("%s: %d MiB", p.name, p.bytes>>20)
	}
	// Besides, functions make what they need for a moment.
	const most = defaultAllocBytes + 16<<20
	for _, p := range peaks {
		if p.bytes > most {
			t.Errorf("%s made %d MiB, want at most %d", p.name, p.bytes>>20, most>>20)
		}
	}

	worst := 2
	if *full {
		worst = 20
	}
	reckoned := uint64(env.Limits.Concurrent)*defaultAllocBytes + uint64(env.Limits.HeldBytes)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(reckoned)))
	for _, p := range peaks[:worst] {
		runtime.GC()
		base, top, done := heapObjects(), atomic.Uint64{}, make(chan struct{})
		var watch, wg sync.WaitGroup
		watch.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
					top.Store(max(top.Load(), heapObjects()))
				}
			}
		})
		for range 64 {
			wg.Go(func() { _, _ = run(p.source) })
		}
		wg.Wait()
		close(done)
		watch.Wait()
		held := max(top.Load(), base) - base
		t.Logf("%s, 64 at a time: %d MiB", p.name, held>>20)
		if held > reckoned {
			t.Errorf("%s, 64 at a time: %d MiB, want at most %d", p.name, held>>20, reckoned>>20)
		}
	}
	t.Logf("%d calls", calls)
}

func heapObjects() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
