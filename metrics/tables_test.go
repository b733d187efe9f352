package metrics_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/histogram"
	"github.com/limpetlb/limpet/metrics"
	"github.com/limpetlb/limpet/persistence"
)

// remoteTables are tables on another machine.
type remoteTables struct {
	*persistence.Store
	stats persistence.RemoteStats
}

func (r *remoteTables) Stats() persistence.RemoteStats { return r.stats }

func serviceWith(t testing.TB, name string, tables limpet.Tables) *site {
	t.Helper()
	vs, err := limpet.New(limpet.Config{Name: name, Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	return &site{vs: vs}
}

func TestRedis(t *testing.T) {
	durations := histogram.New()
	durations.Counts[20] = 7
	tables := &remoteTables{persistence.NewStore(persistence.Options{}), persistence.RemoteStats{
		Up: true, Nodes: []persistence.NodeStats{{Address: "10.0.0.1:6379", Up: true}, {Address: "10.0.0.2:6379"}},
		Calls:    []persistence.RemoteCalls{{Verb: "lookup", Result: "near", N: 3}, {Verb: "store", Result: "failed", N: 2}},
		Duration: durations, Opened: 4, NearEntries: 5, Invalidations: 6, Returned: 8, Dropped: 9, RefusedFull: 10,
	}}
	shared := serviceWith(t, "b", tables)
	e := newExporter(t, metrics.Config{}, serviceWith(t, "a", tables), shared)
	got := scrape(t, e.Handler(), "/metrics", "text/plain")
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{1, "limpet_redis_up", []string{"vs", "a", "node", "10.0.0.1:6379"}},
		{0, "limpet_redis_up", []string{"vs", "a", "node", "10.0.0.2:6379"}},
		{4, "limpet_redis_circuit_opened_total", []string{"vs", "a"}},
		{3, "limpet_redis_calls_total", []string{"vs", "a", "verb", "lookup", "result", "near"}},
		{2, "limpet_redis_calls_total", []string{"vs", "a", "verb", "store", "result", "failed"}},
		{7, "limpet_redis_call_duration_seconds", []string{"vs", "a"}},
		{5, "limpet_redis_near_entries", []string{"vs", "a"}},
		{6, "limpet_redis_near_invalidations_total", []string{"vs", "a"}},
		{8, "limpet_redis_returned_total", []string{"vs", "a"}},
		{9, "limpet_redis_dropped_total", []string{"vs", "a"}},
		{10, "limpet_redis_refusals_total", []string{"vs", "a", "reason", "full"}},
	} {
		if v := value(t, got, c.name, c.labels...); v != c.want {
			t.Errorf("%s %q is %v, want %v", c.name, c.labels, v, c.want)
		}
	}
	for _, m := range got["limpet_redis_up"].GetMetric() {
		if has(m, []string{"vs", "b"}) {
			t.Error("the store of two services is there twice")
		}
	}
}

func TestSnapshots(t *testing.T) {
	store := persistence.NewStore(persistence.Options{})
	saver := &persistence.Saver{Store: store, Path: filepath.Join(t.TempDir(), "tables")}
	lost := &persistence.Saver{Store: persistence.NewStore(persistence.Options{}), Path: filepath.Join(t.TempDir(), "no", "tables")}
	e := newExporter(t, metrics.Config{Savers: func() []*persistence.Saver { return []*persistence.Saver{lost, saver} }},
		serviceWith(t, "a", store), serviceWith(t, "b", lost.Store), serviceWith(t, "c", persistence.NewStore(persistence.Options{})))
	ended, end := context.WithCancel(t.Context())
	end()
	begun := time.Now()
	if err := saver.Run(ended); err != nil {
		t.Fatal(err)
	}
	if err := lost.Run(ended); err == nil {
		t.Fatal("saved to a directory that does not exist")
	}
	got := scrape(t, e.Handler(), "/metrics", "text/plain")
	const at, failures, size = "limpet_table_snapshot_last_success_timestamp_seconds", "limpet_table_snapshot_failures_total", "limpet_table_snapshot_bytes"
	if v := value(t, got, at, "vs", "a"); v < float64(begun.Unix())-1 {
		t.Errorf("saved at %v, before the test began", v)
	}
	if v := value(t, got, size, "vs", "a"); v <= 0 {
		t.Errorf("%v bytes", v)
	}
	if saved, failed := value(t, got, failures, "vs", "a"), value(t, got, failures, "vs", "b"); saved != 0 || failed != 1 {
		t.Errorf("%v and %v failures, want 0 and 1", saved, failed)
	}
	if n := len(got[at].GetMetric()); n != 1 {
		t.Errorf("%d services were saved, want 1", n)
	}
	if n := len(got[failures].GetMetric()); n != 2 {
		t.Errorf("%d services have a saver, want 2", n)
	}
}
