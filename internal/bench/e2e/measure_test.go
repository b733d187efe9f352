package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const report1 = `Running 1s test @ http://127.0.0.1:1/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.08ms    1.02ms  25.16ms   88.43%
    Req/Sec    15.61k     1.22k   17.04k    80.00%
  Latency Distribution
     50%    1.82ms
     75%    2.31ms
     90%    2.99ms
     99%  912.00us
  15633 requests in 1.00s, 3.89MB read
Requests/sec:  15517.12
Transfer/sec:      3.86MB
`

func TestParseWrk(t *testing.T) {
	got, err := parseWrk(report1)
	want := sample{requests: 15633, rate: 15517.12, p50: 1820 * time.Microsecond, p99: 912 * time.Microsecond}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sample{})); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, bad := range map[string]string{
		"errors":     report1 + "  Non-2xx or 3xx responses: 3\n",
		"timeouts":   report1 + "  Socket errors: connect 0, read 1, write 0, timeout 0\n",
		"nothing":    "",
		"no answers": strings.Replace(report1, "15633 requests", "0 requests", 1),
	} {
		if s, err := parseWrk(bad); err == nil {
			t.Errorf("%s: no error, %v", name, s)
		}
	}
}

// Each Go target answers what its server, or its own handler, says.
func TestGoTargets(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello from a server") }))
	defer upstream.Close()
	addr := strings.TrimPrefix(upstream.URL, "http://")
	for _, target := range targets {
		if target.program != "" {
			continue
		}
		make, ok := goTargets[target.name]
		if !ok {
			t.Errorf("%s is not made anywhere", target.name)
			continue
		}
		h, err := make([]string{addr, addr[:strings.Index(addr, ":")] + ":1"})
		if err != nil {
			t.Errorf("%s: %v", target.name, err)
			continue
		}
		proxy := httptest.NewServer(h)
		res, err := http.Get(proxy.URL)
		if err != nil {
			t.Errorf("%s: %v", target.name, err)
		} else if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 || !strings.HasPrefix(string(body), "hello from") {
			t.Errorf("%s: %s %q", target.name, res.Status, body)
		}
		proxy.Close()
	}
}

// Budgets name targets, and configurations can be made.
func TestTargets(t *testing.T) {
	for _, b := range budgets {
		for _, name := range []string{b.of, b.peer} {
			if !slices.Contains(targetNames(), name) {
				t.Errorf("budget %s names %q, which is no target", b.id, name)
			}
		}
	}
	for _, target := range targets {
		for _, name := range append([]string{target.config}, target.files...) {
			if name == "" {
				continue
			}
			text, err := configs.ReadFile("configs/" + name)
			if err != nil {
				t.Error(err)
				continue
			}
			out, err := expand(name, string(text), map[string]any{"Dir": "/dir", "Listen": "127.0.0.1:1", "Upstreams": []string{"127.0.0.1:2", "127.0.0.1:3"}})
			if err != nil || len(out) == 0 {
				t.Errorf("%s: %q, %v", name, out, err)
			}
		}
	}
}

func TestBudgets(t *testing.T) {
	took := func(cpu, p99 time.Duration) []sample {
		return []sample{{requests: 1000, cpu: 1000 * cpu, p99: p99}, {requests: 1000, cpu: 1000 * cpu, p99: p99}, {requests: 1, cpu: time.Hour, p99: time.Hour}}
	}
	var b strings.Builder
	printBudgets(&b, map[string][]sample{
		"limpet-listing":        took(40*time.Microsecond, 9*time.Millisecond),
		"haproxy-lua":           took(50*time.Microsecond, 5*time.Millisecond),
		"nethttp-hello":         took(20*time.Microsecond, time.Millisecond),
		"nethttp-hello-listing": took(25*time.Microsecond, time.Millisecond),
	})
	want := `
Budgets

E1  CPU µs/request  limpet-listing         to haproxy-lua    at most 1.00 ×  measured 0.80 ×  met
E2  CPU µs/request  nethttp-hello-listing  to nethttp-hello  at most 1.30 ×  measured 1.25 ×  met
E2  CPU µs/request  nethttp-hello-listing  to nethttp-hello  at most +5.00   measured +5.00   met
E3  p99 ms          limpet-listing         to haproxy-lua    at most 1.50 ×  measured 1.80 ×  MISSED
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
