package limpet

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLogDrop(t *testing.T) {
	var c counters
	second := time.Unix(1_000_000, 0)
	logged := func(at time.Time, n int) (lines int) {
		for range n {
			if c.logDrop(at) {
				lines++
			}
		}
		return lines
	}
	for i, test := range []struct {
		at      time.Duration
		n, want int
	}{
		{0, 3, 3},
		{900 * time.Millisecond, 1000, maxDropLines - 3},
		{time.Second, 1000, maxDropLines},
		{10 * time.Second, 1, 1},
		{10 * time.Second, 1000, maxDropLines - 1},
	} {
		if got := logged(second.Add(test.at), test.n); got != test.want {
			t.Errorf("step %d: %d lines, want %d", i, got, test.want)
		}
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
