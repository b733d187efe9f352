package limpet

import (
	"context"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

// watchedCounting counts a normal request while somebody watches significant
// ones.
func watchedCounting(t testing.TB) *counting {
	c := newCounting(t)
	t.Cleanup(c.vs.Watch(true, func(*Record) { t.Error("a normal request was watched") }))
	return c
}

// Neither the counts of a normal request nor somebody who watches significant
// ones cost it an allocation.
func TestCountingAllocatesNothing(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates itself")
	}
	c := watchedCounting(t)
	if n := testing.AllocsPerRun(1000, c.count); n != 0 {
		t.Errorf("counting a request allocates %v times", n)
	}
}

// BenchmarkWatch measures what somebody who watches significant requests costs
// a normal one. The goal is 200 ns.
func BenchmarkWatch(b *testing.B) {
	c := watchedCounting(b)
	b.ReportAllocs()
	for b.Loop() {
		c.vs.emit(c.tx.s, context.Background(), &c.record, nil)
	}
}
