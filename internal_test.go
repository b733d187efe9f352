package limpet

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestThrottle(t *testing.T) {
	const rate = 10
	second := time.Unix(1_000_000, 0)
	var th throttle
	for i, step := range []struct {
		at         time.Duration
		n, want    int
		suppressed int64 // as told by those that pass
	}{
		{0, 3, 3, 0},
		{900 * time.Millisecond, 1000, rate - 3, 0},
		{time.Second, 1000, rate, 993},
		{10 * time.Second, 1, 1, 990},
		{10 * time.Second, 1000, rate - 1, 0},
	} {
		var passed int
		var suppressed int64
		for range step.n {
			n, ok := th.pass(second.Add(step.at), rate)
			if suppressed += n; ok {
				passed++
			}
		}
		if passed != step.want || suppressed != step.suppressed {
			t.Errorf("step %d: %d passed and told of %d, want %d and %d", i, passed, suppressed, step.want, step.suppressed)
		}
	}
	for rate, want := range map[int]bool{0: true, -1: false} {
		if _, ok := th.pass(second, rate); ok != want {
			t.Errorf("rate %d: passes: %v, want %v", rate, ok, want)
		}
	}
}

// Who denies connections has a line of his own, whatever the others do.
func TestDenials(t *testing.T) {
	var d denials
	second := time.Unix(1_000_000, 0)
	for i, step := range []struct {
		denier     string
		at         time.Duration
		n, want    int
		suppressed int64
	}{
		{"a", 0, 1000, 1, 0},
		{"b", 0, 3, 1, 0},
		{"a", 900 * time.Millisecond, 1000, 0, 0},
		{"a", time.Second, 10, 1, 1999},
		{"b", 10 * time.Second, 1, 1, 2},
		{"a", 10 * time.Second, 1, 1, 9},
	} {
		var passed int
		var suppressed int64
		for range step.n {
			n, ok := d.of(step.denier).pass(second.Add(step.at), deniedRate(0))
			if suppressed += n; ok {
				passed++
			}
		}
		if passed != step.want || suppressed != step.suppressed {
			t.Errorf("step %d: %d passed and told of %d, want %d and %d", i, passed, suppressed, step.want, step.suppressed)
		}
	}
	if deniedRate(1000) != 1 || deniedRate(-1) != -1 {
		t.Error("the rate of denials")
	}
}

func TestSettleConnection(t *testing.T) {
	for _, test := range []struct {
		name       string
		connection []string
		want       http.Header
	}{
		{"none", nil, http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}}},
		{"close", []string{"close"}, http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}}},
		{"one", []string{"a"}, http.Header{"B": {"2"}, "Upgrade": {"x"}}},
		{"several", []string{"close, a ,, b", "c"}, http.Header{"Upgrade": {"x"}}},
		{"upgrade", []string{"keep-alive, UPGRADE, b"}, http.Header{"A": {"1"}, "Upgrade": {"x"}, "Connection": {"Upgrade"}}},
		{"itself", []string{"connection, upgrade"}, http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}, "Connection": {"Upgrade"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{"A": {"1"}, "B": {"2"}, "Upgrade": {"x"}}
			if test.connection != nil {
				h["Connection"] = test.connection
			}
			settleConnection(h)
			if diff := cmp.Diff(test.want, h); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The zero values of the configuration mean what their documentation says.
func TestAcceptRules(t *testing.T) {
	for _, test := range []struct {
		name          string
		cfg           Config
		write, header time.Duration
	}{
		{"defaults", Config{}, 60 * time.Second, 5 * time.Second},
		{"for ever", Config{Clients: Clients{Connections: ConnectionLimits{WriteTimeout: -1}}}, 0, 5 * time.Second},
		{"as set", Config{Clients: Clients{
			Connections: ConnectionLimits{WriteTimeout: time.Second}, ProxyProtocol: ProxyProtocol{HeaderTimeout: time.Minute},
		}}, time.Second, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			vs, err := New(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := vs.current.Load().accept
			if r.WriteTimeout != test.write || r.HeaderTimeout != test.header {
				t.Errorf("write timeout %v, header timeout %v", r.WriteTimeout, r.HeaderTimeout)
			}
			if r.Judge != nil || r.FromProxy != nil || r.Allow != nil || r.AllowClient != nil {
				t.Error("something is asked about each connection, though nothing is configured")
			}
		})
	}
}
