package acceptance_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// TestIndependence has two virtual services in one process, with different
// settings and the same names for everything, which are used at the same time.
// Neither may have an effect on the other.
func TestIndependence(t *testing.T) {
	const rounds = 50
	script := `-- HTTP_REQ
local key = avi.http.get_header("X-Key")
if avi.vs.table_lookup(key) then avi.http.response(409, {}, "known") return end
if avi.vs.reqvar.left or left then avi.http.response(409, {}, "left behind") return end
left, avi.vs.reqvar.left = key, key
avi.vs.table_insert(key, avi.vs.name(), 60)
avi.vs.analytics.counter("requests")
local n = 0
for i = 1, LOOPS do n = n + 1 end
avi.http.add_header("X-Loops", tostring(n))
`
	type side struct {
		name string
		vs   *limpet.VirtualService
		log  logged
		recs *records
	}
	build := func(name string, loops int, cfg limpet.Config) *side {
		s := &side{name: name, recs: newRecords()}
		cfg.Name, cfg.OnComplete, cfg.Logger = name, s.recs.add, s.log.logger(slog.LevelInfo)
		cfg.Scripts = []limpet.Script{compile(t, "same", strings.ReplaceAll(script, "LOOPS", fmt.Sprint(loops)))}
		cfg.Pools = []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, name, " ", r.Header.Get("X-Loops"), " ", r.Header.Get("X-Forwarded-For"))
		})}
		s.vs = newVirtualService(t, cfg)
		return s
	}
	generous := build("generous", 20_000, limpet.Config{
		Scripting: limpet.Scripting{Limits: datascript.Limits{Instructions: 10_000_000, Time: testwait.Limit}}, Clients: limpet.Clients{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
	})
	strict := build("strict", 20_000, limpet.Config{
		Scripting: limpet.Scripting{Limits: datascript.Limits{Instructions: 10_000, Time: testwait.Limit}}, Logging: limpet.Logging{SignificantRate: -1},
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "rate", Action: policy.RateLimit{
			Limit: policy.RateLimiterConfig{Rate: policy.Rate{Count: rounds / 2, Period: time.Hour}},
		}}}},
	})
	request := func(s *side, i int) (int, string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Key", fmt.Sprint("key ", i))
		r.Header.Set("X-Forwarded-For", "198.51.100.7")
		w := httptest.NewRecorder()
		s.vs.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	var wg sync.WaitGroup
	for _, s := range []*side{generous, strict} {
		wg.Go(func() {
			statuses := map[int]int{}
			for i := range rounds {
				status, body := request(s, i)
				statuses[status]++
				if want := "generous 20000 198.51.100.7, 192.0.2.1"; status == 200 && body != want {
					t.Errorf("%s: %q, want %q", s.name, body, want)
				}
			}
			want := map[int]int{200: rounds}
			if s == strict { // each script is stopped; half of the requests do not come that far
				want = map[int]int{500: rounds / 2, 429: rounds - rounds/2}
			}
			if diff := cmp.Diff(want, statuses); diff != "" {
				t.Errorf("%s: %s", s.name, diff)
			}
		})
	}
	wg.Wait()
	for _, s := range []*side{generous, strict} {
		stats := s.vs.Stats()
		failures, runs, lines := uint64(0), uint64(rounds), rounds
		if s == strict {
			failures, runs, lines = rounds/2, rounds/2, 0
		}
		if stats.Requests != rounds || stats.ScriptFailures != failures || stats.Scripts.Runs != runs {
			t.Errorf("%s: %+v", s.name, stats)
		}
		if m := s.vs.Metrics(); len(m) != 1 || m[0].Value != float64(runs) {
			t.Errorf("%s: metrics %v", s.name, m)
		}
		if got := len(s.log.lines(t)); got != lines {
			t.Errorf("%s: %d lines", s.name, got)
		}
		for _, rec := range s.recs.take(t, rounds) {
			if rec.VirtualService != s.name {
				t.Errorf("%s has a record of %s", s.name, rec.VirtualService)
			}
		}
	}
	// One is changed and shut down, and the other goes on.
	if err := strict.vs.Update(limpet.Config{}); err != nil {
		t.Fatal(err)
	}
	if err := strict.vs.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, _ := request(generous, rounds); status != 200 {
		t.Errorf("status %d after the other was shut down", status)
	}
}

// TestCardinality invents hosts, paths, methods, clients, cookies, keys, script
// errors and names of metrics. What a program can export of it, and the memory
// behind it, must not grow with them.
func TestCardinality(t *testing.T) {
	n := 30_000
	if testrace.Enabled {
		n = 3_000
	}
	if testing.Short() {
		n = 3_000
	}
	const bound = 1_000 // series above the static ones
	vs := newVirtualService(t, limpet.Config{
		Logger: slog.New(slog.NewJSONHandler(struct{ io.Writer }{io.Discard}, nil)), // formats all
		Pools:  []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})}, Transport: answering(ok),
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "rate", Action: policy.RateLimit{
			Limit: policy.RateLimiterConfig{Rate: policy.Rate{Count: 1_000_000, Period: time.Second}}, PerClient: true,
		}}}},
		Clients: limpet.Clients{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		Tables:  persistence.NewStore(persistence.Options{MaxEntries: bound}),
		Scripts: []limpet.Script{failOpen(onRequest(t, "invents", `
local name = avi.http.get_header("X-Name")
avi.vs.table_insert(name, name, 1)
avi.vs.log("saw ", name)
if avi.http.get_header("X-Fail") then error("fails over " .. name) end
avi.vs.analytics.counter("counter " .. name)
avi.vs.analytics.gauge("gauge " .. name, avi.vs.analytics.SET, 1)
`))},
	})
	send := func(from, to int) {
		for i := from; i < to; i++ {
			r := httptest.NewRequest(fmt.Sprint("METHOD", i), fmt.Sprintf("http://host-%d.example/path/%d?query=%d", i, i, i), nil)
			r.Header.Set("X-Name", fmt.Sprint("name-", i))
			r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
			r.Header.Set(fmt.Sprint("X-", i), "x")
			if i%3 == 0 {
				r.Header.Set("X-Fail", "1")
			}
			w := httptest.NewRecorder()
			vs.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Fatalf("status %d", w.Code)
			}
		}
	}
	series := func() int { // all that has a name of its own, and all numbers
		return len(vs.Metrics()) + strings.Count(fmt.Sprintf("%+v", vs.Stats()), ":") + strings.Count(fmt.Sprintf("%+v", vs.Health()), ":")
	}
	heap := func() int64 {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	send(0, 1) // with which the counts of the pool's bindings begin
	static := series()
	send(1, n/3)
	first, before := series(), heap()
	send(n/3, n)
	last, after := series(), heap()
	t.Logf("%d static series, %d after %d requests, %d after %d; heap %d KiB, then %d KiB", static, first, n/3, last, n, before>>10, after>>10)
	if last != first || last-static > bound || last-static < bound/2 {
		t.Errorf("%d static series, %d after %d requests, %d after %d", static, first, n/3, last, n)
	}
	if grown := after - before; grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if failures := vs.Stats().ScriptFailures; failures < uint64(n/3) {
		t.Errorf("%d failures", failures)
	}
}
