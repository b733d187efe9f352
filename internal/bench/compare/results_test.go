package main

import (
	"slices"
	"strings"
	"testing"
)

const output = `goos: linux
BenchmarkTable/op=lookup/entries=64k/impl=limpet-2         	 100	 50.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=lookup/entries=64k/impl=otter-2          	 100	 100.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=lookup/entries=64k/impl=limpet-2         	 100	 60.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=lookup/entries=64k/impl=limpet-2         	 100	 70.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkListing 	 100	 30.0 ns/op
BenchmarkListingNaive 	 100	 40.0 ns/op
BenchmarkAcquire/roundrobin/servers=100/idle-2 	 100	 250.0 ns/op
BenchmarkAcquire/roundrobin/servers=1000/idle-2 	 100	 250.0 ns/op
PASS
`

func TestResults(t *testing.T) {
	now, err := parse(strings.NewReader(output), "test")
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := now.median("Table/op=lookup/entries=64k-2", "limpet", "ns/op"); m != 60 || !ok {
		t.Errorf("median %v, %v; all: %v", m, ok, now)
	}
	if r, ok := now.ratio("Table/op=lookup/entries=64k-2", "limpet", "otter"); r != 0.6 || !ok {
		t.Errorf("ratio %v, %v", r, ok)
	}
	var b strings.Builder
	printGroups(&b, now, now)
	if missed := printBudgets(&b, now); missed != 2 {
		t.Errorf("%d budgets missed, want those of the listing and of round robin", missed)
	}
	for _, want := range []string{"otter    100     0          0  0.60 ×  0.60 ×", "Listing-1", "0.75      MISSED", "250       MISSED", "0.60      met"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}

// A budget that matches no benchmark would never be missed.
func TestBudgetsOfGroups(t *testing.T) {
	for group, want := range map[string][]float64{
		"IPGroup/op=hit/family=IPv4/list=spread/entries=10-1":           {1.20},
		"IPGroup/op=near-miss/family=IPv6/list=clustered/entries=1k-1":  {1.00, 0.15},
		"IPGroup/op=far-miss/family=IPv6/list=clustered/entries=100k-1": {1.00, 0.15},
		"IPGroup/op=far-miss/family=IPv6/list=spread/entries=100k-1":    {1.00, 0.15, 0.50},
		"IPGroup/op=hit/family=IPv4/list=spread/entries=1M-1":           {1.00},
		"IPGroup/op=hit/family=IPv4/list=spread/entries=1M-2":           nil,
	} {
		var got []float64
		for _, b := range budgets {
			if b.group.MatchString(group) {
				got = append(got, b.max)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: budgets %v, want %v", group, got, want)
		}
	}
}
