package datascript

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testrace"
)

// largest are lists of arguments that are as large as they can be, from the
// string v, the array t of references to it and the table k that has it under
// many keys.
var largest = []string{
	"v", "v, v", "v, v, v", "v, 1, v", "'x', v", "t", "t, v", "unpack(t)", "v, unpack(t)", "'x', t", "v, 1e6", "'%s%s', v", "v, '.', '%0%0'", "v, '.', v", "v, '.-', t",
	"k", "k, v", "'x', k", "200, k, v", "v, v, t", "v, k, t", "",
}

// largeTexts are what else v is, for functions that take text apart.
var largeTexts = []string{
	`("%41"):rep((2^20 - 1) / 3)`, `(","):rep(2^20 - 1)`, `("a=b; "):rep((2^20 - 1) / 5)`, `("a=b&"):rep(2^18 - 1)`, `("QUJD"):rep(2^18 - 1)`,
	`("/a"):rep(2^19 - 1)`, `("\1"):rep(2^20 - 1)`, `("%d"):rep(2^19 - 1)`, `("()"):rep(2^19 - 1)`,
}

// peakScript calls a function again and again and keeps what it gives, until
// the script ends by one of its budgets.
func peakScript(text, function, args string) string {
	other := ""
	if strings.Contains(args, "w") {
		other = "local w = v:sub(1, -2) .. v:sub(-1)"
	}
	return `local v = ` + text + `
		local t, k, kept = {}, {}, {}
		for i = 1, 1500 do t[i] = v end
		for i = 1, 500 do k["k" .. i] = v end
		` + other + `
		local f = ` + function + `
		for i = 1, 1e9 do kept[i] = {pcall(f, ` + cmp.Or(args, "nil") + `)} end`
}

// peakExchange is an exchange with bodies of 32 MiB, as many as a script can
// ask for, that are there already.
type peakExchange struct{ *ableExchange }

// largeBody is made by the test, not by each process of the package.
var largeBody = sync.OnceValue(func() []byte { return bytes.Repeat([]byte("q"), 32<<20) })

func (peakExchange) RequestBody() ([]byte, bool)  { return largeBody(), true }
func (peakExchange) ResponseBody() ([]byte, bool) { return largeBody(), true }
func (peakExchange) SetUserID(string)             {}
func (peakExchange) SetHashKey(string)            {}

// A peak is a script and what it came to make.
type peak struct {
	name, function, source, request string
	event                           Event
	bytes                           uint64
}

// peakCalls are all functions with the largest arguments and in the largest
// exchanges.
func peakCalls() (all []peak) {
	fitting := map[string][]string{
		"string.rep": {"'x'", "3"}, "string.gsub": {"'x'", "'x'", "'y'", "9"}, "string.find": {"'x'", "'x'", "1", "true"}, "string.match": {"'x'", "'(x)'"},
		"string.format": {"'%s%q%5.1f'", "'x'", "'x'", "1"}, "table.concat": {"{1, 2}", "','", "1", "2"}, "table.insert": {"{}", "1", "1"}, "select": {"1", "2"},
		"unpack": {"{}", "1", "3"}, "os.date": {"'x'", "1"}, "string.gmatch": {"'x'", "'x'"}, "setmetatable": {"{}", "{}"}, "rawset": {"{}", "1", "2"},
	}
	for _, f := range typedArguments {
		fitting[f.name] = strings.Split(f.arguments, "|")
	}
	functions := maps.Clone(plainOperators)
	for _, name := range functionNames() {
		if !isOperator(name) {
			functions[name] = name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		ev := HTTPReq
		if s := symbols[name]; s != nil {
			for _, ev = range []Event{HTTPReq, HTTPResp, HTTPReqData, HTTPRespData, RespFailed} {
				if s.events.has(ev) {
					break
				}
			}
		}
		add := func(text, args, request string, ev Event) {
			all = append(all, peak{
				name:     strings.TrimPrefix(fmt.Sprintf("%s(%s)", name, args), "avi.") + " " + cmp.Or(strings.TrimPrefix(text, largeText), request),
				function: name, source: peakScript(text, functions[name], args), request: request, event: ev,
			})
		}
		fits := fitting[name]
		replaced := func(i int, by string) string {
			list := slices.Clone(fits)
			list[i] = by
			return strings.Join(list, ", ")
		}
		if slices.Contains(unsupportedNames, name) {
			add(largeText, "v, t, k", "plain", ev)
			continue
		}
		for _, args := range largest {
			add(largeText, args, "plain", ev)
		}
		for i := range fits {
			for _, by := range []string{"v", "t", "k", "1e6", "2^53", "-1"} {
				add(largeText, replaced(i, by), "plain", ev)
			}
		}
		lists := []string{"v"}
		if !strings.HasPrefix(name, "avi.") {
			lists = []string{"v", "v, w", "v, '='", "'x', v"}
		}
		for _, text := range largeTexts {
			for _, args := range lists {
				add(text, args, "plain", ev)
			}
			for i := range fits {
				add(text, replaced(i, "v"), "plain", ev)
			}
		}
		if !strings.HasPrefix(name, "avi.http") {
			continue
		}
		for _, request := range slices.Sorted(maps.Keys(sizedRequests)) {
			for _, args := range []string{"", "'x'", "'X-Long'", "avi.HTTP_REQUEST", "true", strings.Join(fits, ", ")} {
				add("'x'", args, request, ev)
				if s := symbols[name]; ev == HTTPReq && s != nil && s.events.has(HTTPResp) {
					add("'x'", args, request, HTTPResp)
				}
			}
		}
	}
	return all
}

const largeText = `("x"):rep(2^20 - 1)`

// TestPeakBytes searches all functions, with the largest arguments, for one
// that makes more than a script is said to make at most, and runs the worst 64
// at a time: they hold no more than is reckoned with.
func TestPeakBytes(t *testing.T) {
	if testrace.Enabled {
		return // which takes memory of its own
	}
	limiter := newLimiter(t, RateLimit{Count: 1e9})
	env := Env{
		PoolGroups: fakePoolGroups{}, Pools: fakePools{}, StringGroups: fakeStringGroups{}, IPGroups: fakeGroups{}, Geo: fakeGeo{}, Reputations: fakeGeo{}, Tokens: fakeTokens{}, Tables: discardTables{},
		RateLimiters: map[string]*RateLimiter{"x": limiter}, RateProfile: &RateProfile{Limiter: limiter},
		Limits: Limits{Time: time.Minute, Concurrent: 4, HeldBytes: 64 << 20, Wait: time.Minute},
	}
	whole := newEngine(t, env)
	// Most calls make little. A look at the beginning tells.
	env.Limits.Instructions = defaultInstructions / 5
	beginning := newEngine(t, env)
	const little = 8 << 20
	prepare := func(p peak) *measured {
		m := &measured{ableExchange: &ableExchange{exchange: newExchange()}}
		m.respond(200, "10.1.1.1:80")
		sizedRequests[p.request](m, 1<<20)
		m.EditRequest() // whose copy is the host's
		return m
	}
	run := func(e *Engine, p peak, m *measured) (uint64, error) {
		s := mustCompile(t, Chunk{Event: p.event, Source: p.source})
		largeBody() // is there already
		before := allocated()
		err := e.Run(t.Context(), s, p.event, peakExchange{m.ableExchange})
		made := allocated() - before
		m.vars.Reset()
		return made, err
	}
	calls := peakCalls()
	if !*full {
		var some []peak
		step := 97
		if testing.Short() {
			step = 970
		}
		for i := 0; i < len(calls); i += step {
			some = append(some, calls[i])
		}
		calls = some
	}
	ends, ran := map[string]int{}, 0
	var peaks []peak
	for _, p := range calls {
		var err error
		if p.bytes, err = run(beginning, p, prepare(p)); p.bytes > little {
			p.bytes, err = run(whole, p, prepare(p))
			ran++
		}
		if pe := (*PanicError)(nil); errors.As(err, &pe) {
			t.Errorf("%s: %v", p.name, err)
		}
		if be := (*BudgetError)(nil); errors.As(err, &be) {
			ends[be.Budget]++
		} else if err != nil {
			ends["other"]++
		} else {
			ends["none"]++
		}
		peaks = append(peaks, p)
	}
	slices.SortStableFunc(peaks, func(a, b peak) int { return cmp.Compare(b.bytes, a.bytes) })
	// Besides, functions make what they need for a moment.
	const most = defaultAllocBytes + mostBytes
	seen := map[string]bool{}
	worst := slices.DeleteFunc(slices.Clone(peaks), func(p peak) bool {
		defer func() { seen[p.function] = true }()
		return seen[p.function]
	})
	t.Logf("%d calls of %d functions, %d of which until the end; ended by %v", len(peaks), len(seen), ran, ends)
	for i, p := range worst {
		if i < 20 || p.bytes > most {
			t.Logf("%s: %.1f MiB, %.2f of AllocBytes", p.name, float64(p.bytes)/(1<<20), float64(p.bytes)/defaultAllocBytes)
		}
		if p.bytes > most {
			t.Errorf("%s made %d MiB, want at most %d", p.name, p.bytes>>20, most>>20)
		}
	}

	worst = worst[:min(len(worst), 20)]
	switch {
	case testing.Short():
		worst = nil
	case !*full:
		worst = worst[:1]
	}
	reckoned := uint64(env.Limits.Concurrent)*defaultAllocBytes + uint64(env.Limits.HeldBytes)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(reckoned)))
	for _, p := range worst {
		exchanges := make([]*measured, 64) // which are the host's
		for i := range exchanges {
			exchanges[i] = prepare(p)
		}
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
		for _, m := range exchanges {
			wg.Go(func() { _, _ = run(whole, p, m) })
		}
		wg.Wait()
		close(done)
		watch.Wait()
		held := max(top.Load(), base) - base
		t.Logf("%s, 64 at a time: %d MiB, %.2f of the formula", p.name, held>>20, float64(held)/float64(reckoned))
		if held > reckoned {
			t.Errorf("%s, 64 at a time: %d MiB, want at most %d", p.name, held>>20, reckoned>>20)
		}
	}
}

func heapObjects() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
