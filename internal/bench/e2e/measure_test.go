package main

import (
	"os/exec"
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

// Each target whose program is here starts, proxies and stops.
func TestTargets(t *testing.T) {
	for _, program := range []string{"nginx", "wrk", "taskset"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing", program)
		}
	}
	for _, b := range budgets {
		for _, name := range []string{b.of, b.peer} {
			if !strings.Contains(strings.Join(targetNames(), " ")+" ", name+" ") {
				t.Errorf("budget %s names %q, which is no target", b.id, name)
			}
		}
	}
	for name := range goTargets {
		if h, err := goTargets[name]([]string{"127.0.0.1:1", "127.0.0.1:2"}); h == nil || err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
