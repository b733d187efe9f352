package acceptance_test

import (
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

func TestDefaultHealth(t *testing.T) {
	calm := limpet.Traffic{Requests: 100, Rate: 10, FirstByte: time.Second}
	for _, test := range []struct {
		name string
		in   limpet.HealthInput
		want limpet.Health // without the score
	}{
		{"nothing has happened", limpet.HealthInput{}, limpet.Health{Performance: 100}},
		{"all is well", limpet.HealthInput{Requests: 1000, Servers: 3, ServersUp: 3, Recent: calm, Before: calm}, limpet.Health{Performance: 100}},
		{"failures and slowness", limpet.HealthInput{Requests: 1000, Failed: 100, Slow: 200}, limpet.Health{Performance: 80}},
		{"nothing works", limpet.HealthInput{Requests: 10, Failed: 10, Servers: 2}, limpet.Health{Performance: 0, Resources: 25}},
		{"no server is up, and nobody has noticed", limpet.HealthInput{Servers: 2}, limpet.Health{Performance: 0, Resources: 25}},
		{"one of four is down", limpet.HealthInput{Servers: 4, ServersUp: 3}, limpet.Health{Performance: 100, Resources: 6.25}},
		{"half at their limits", limpet.HealthInput{Servers: 2, ServersUp: 2, Saturated: 0.5}, limpet.Health{Performance: 100, Resources: 12.5}},
		{"scripts refused", limpet.HealthInput{Requests: 100, Busy: 20}, limpet.Health{Performance: 100, Resources: 5}},
		{"twice the load is no anomaly", limpet.HealthInput{Requests: 300, Recent: limpet.Traffic{Requests: 200, Rate: 20}, Before: calm}, limpet.Health{Performance: 100}},
		{"six times the load", limpet.HealthInput{Requests: 700, Recent: limpet.Traffic{Requests: 600, Rate: 60}, Before: calm}, limpet.Health{Performance: 100, Anomaly: 5}},
		{"a hundred times as slow", limpet.HealthInput{Requests: 700, Recent: limpet.Traffic{Requests: 100, Rate: 10, FirstByte: 100 * time.Second}, Before: calm}, limpet.Health{Performance: 100, Anomaly: 10}},
		{"too little to compare", limpet.HealthInput{Requests: 199, Recent: limpet.Traffic{Requests: 99, Rate: 99}, Before: calm}, limpet.Health{Performance: 100}},
		{"a few drops", limpet.HealthInput{Requests: 9, Drops: 9}, limpet.Health{Performance: 100}},
		{"half dropped", limpet.HealthInput{Requests: 100, Connections: 100, Drops: 100}, limpet.Health{Performance: 100, Security: 50}},
		{"all dropped", limpet.HealthInput{Connections: 100, Drops: 100}, limpet.Health{Performance: 100, Security: 100}},
	} {
		test.want.Score = max(0, test.want.Performance-test.want.Resources-test.want.Anomaly-test.want.Security)
		if diff := cmp.Diff(test.want, limpet.DefaultHealth(test.in), approximately); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

var approximately = cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })

func TestHealthColor(t *testing.T) {
	for score, want := range map[float64]string{100: "green", 85: "green", 84.9: "yellow", 65: "yellow", 64: "orange", 1: "orange", 0.5: "red", 0: "red"} {
		if got := (limpet.Health{Score: score}).Color(); got != want {
			t.Errorf("%v is %s, want %s", score, got, want)
		}
	}
}

// Frequent drops lower the security row, and no other; a while after they
// have ended it is as before.
func TestHealthSecurity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vs := newVirtualService(t, limpet.Config{
			Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "blacklist", Action: policy.Close{}, Match: policy.Match{
				Path: &policy.PathMatch{Op: policy.Equals, Values: []string{"/bad"}},
			}}}},
		})
		h := vs.Wrap(http.HandlerFunc(byQuery))
		want := func(when string, want limpet.Health) {
			t.Helper()
			if diff := cmp.Diff(want, vs.Health(), approximately); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		for range 100 {
			visit(h, "/")
		}
		want("without drops", limpet.Health{Score: 100, Performance: 100})
		for range 100 {
			drop(h)
		}
		want("half dropped", limpet.Health{Score: 50, Performance: 100, Security: 50})
		time.Sleep(4 * time.Minute)
		want("four minutes later", limpet.Health{Score: 50, Performance: 100, Security: 50})
		for range 100 {
			visit(h, "/?500")
		}
		want("and failures", limpet.Health{Score: 100 - 100.0/3 - 100.0/3, Performance: 100 - 100.0/3, Security: 100.0 / 3})
		time.Sleep(time.Minute + 10*time.Second)
		want("after the drops", limpet.Health{Performance: 0})
		time.Sleep(5 * time.Minute)
		want("after the failures", limpet.Health{Score: 100, Performance: 100})
	})
}

// drop sends a request whose connection is closed, which panics without one.
func drop(h http.Handler) {
	defer func() { _ = recover() }()
	visit(h, "/bad")
}

func TestHealthInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := []lbpool.ServerConfig{{Address: "127.0.0.1:1", MaxConnections: 1}, {Address: "127.0.0.1:2"}, {Address: "127.0.0.1:3", Disabled: true}}
		pool := poolOf(t, servers...)
		lease, err := pool.Acquire(lbpool.Hint{Server: pool.Servers()[0].Addr()})
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release(lbpool.Outcome{})
		var in limpet.HealthInput
		vs := newVirtualService(t, limpet.Config{
			Pools:       []*lbpool.Pool{pool},
			Logging:     limpet.Logging{SlowResponse: time.Second},
			HealthScore: func(i limpet.HealthInput) limpet.Health { in = i; return limpet.Health{Score: 42} },
		})
		h := vs.Wrap(http.HandlerFunc(byQuery))
		for range 60 { // four minutes
			visit(h, "/")
			visit(h, "/?slow")
			time.Sleep(time.Second)
		}
		visit(h, "/?500")
		for range 6 {
			time.Sleep(10 * time.Second)
			visit(h, "/")
		}
		if got := vs.Health(); got.Score != 42 {
			t.Errorf("the configured score is not used: %v", got)
		}
		want := limpet.HealthInput{
			// The first ten seconds are over five minutes ago.
			Window: 290 * time.Second, Requests: 122, Failed: 1, Slow: 58,
			Recent: limpet.Traffic{Requests: 6, Rate: 6.0 / 50}, Before: limpet.Traffic{Requests: 116, Rate: 116.0 / 240, FirstByte: 1500 * time.Millisecond},
			Servers: 2, ServersUp: 2, Saturated: 0.5,
		}
		if diff := cmp.Diff(want, in, approximately); diff != "" {
			t.Errorf("input (-want +got):\n%s", diff)
		}
	})
}
