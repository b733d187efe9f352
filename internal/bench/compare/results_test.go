package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const output = `goos: linux
cpu: Some Processor
BenchmarkTable/op=lookup/entries=64k/impl=limpet-2         	 100	 50.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=lookup/entries=64k/impl=otter-2          	 100	 100.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=lookup/entries=64k/impl=limpet-2         	 100	 60.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=lookup/entries=64k/impl=limpet-2         	 100	 70.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=lookup/entries=64k/impl=limpet           	 100	 60.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkTable/op=extend/entries=1M/impl=limpet            	 100	 60.0 ns/op	 16 B/op	 1 allocs/op
BenchmarkTableMemory/impl=limpet 	 1	 150.0 B/entry	 12.0 GC-ms
BenchmarkTableMemory/impl=otter 	 1	 160.0 B/entry	 5.0 GC-ms
BenchmarkListing/impl=limpet 	 100	 30.0 ns/op
BenchmarkListing/impl=naive 	 100	 40.0 ns/op
BenchmarkWrap/impl=bare 	 100	 8.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkWrap/impl=unconfigured 	 100	 608.0 ns/op	 400 B/op	 4 allocs/op
BenchmarkAcquire/roundrobin/servers=100/idle-2 	 100	 250.0 ns/op
BenchmarkAcquire/roundrobin/servers=1000/idle-2 	 100	 250.0 ns/op
BenchmarkRead/1000000 	 1	 1234567890 ns/op
BenchmarkGrowth/rules=1 	 1	 2000 ns/op
BenchmarkGrowth/rules=10000 	 1	 50000 ns/op
BenchmarkGrowth/rules=100 	 1	 2500 ns/op
BenchmarkGrowth/rules=1-2 	 1	 1000 ns/op
BenchmarkGrowth/rules=100-2 	 1	 1100 ns/op
PASS
`

func parsed(t *testing.T, text string) results {
	t.Helper()
	r, err := parse(strings.NewReader(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResults(t *testing.T) {
	now := parsed(t, output)
	if m, ok := now.median("Table/op=lookup/entries=64k-2", "limpet", "ns/op"); m != 60 || !ok {
		t.Errorf("median %v, %v; all: %v", m, ok, now)
	}
	if r, ok := now.ratio("Table/op=lookup/entries=64k-2", "limpet", "otter"); r != 0.6 || !ok {
		t.Errorf("ratio %v, %v", r, ok)
	}
	var b strings.Builder
	printGroups(&b, now, now)
	if want := "otter    100     0          0  0.60 ×  0.60 ×"; !strings.Contains(b.String(), want) {
		t.Errorf("the report lacks %q:\n%s", want, b.String())
	}
	if strings.Contains(b.String(), "Growth") {
		t.Errorf("growth is among the groups:\n%s", b.String())
	}
}

// squeeze makes one space of several.
func squeeze(s string) string { return regexp.MustCompile(` +`).ReplaceAllString(s, " ") }

func TestBudgets(t *testing.T) {
	now, old := parsed(t, output), parsed(t, strings.ReplaceAll(output, "100.0 ns/op", "120.0 ns/op"))
	var b strings.Builder
	missed := printBudgets(&b, now, old, false)
	for _, want := range []string{
		"T1 Table/op=lookup/entries=64k-2 otter 0.80 × 0.60 × 0.50 × met",
		"T1 Table/op=lookup/entries=64k-1 and 1 more 0 allocs/op 0 allocs/op 0 allocs/op met",
		"T2 Table/op=extend/entries=1M-1 0 allocs/op 1 allocs/op 1 allocs/op MISSED",
		"T4 TableMemory-1 180 B/entry 150 B/entry 150 B/entry met",
		"T4 TableMemory-1 otter, GC-ms 1.60 × 2.40 × 2.40 × MISSED",
		"G1 Read/1000000-1 2.00 s 1.23 s 1.23 s met",
		"L1 Acquire/roundrobin/servers=100/idle-2 200 ns/op 250 ns/op 250 ns/op MISSED",
		"S1 Listing-1 naive 0.30 × 0.75 × 0.75 × MISSED",
		"E2 Wrap-1 bare +3 allocs/op +4 allocs/op +4 allocs/op MISSED",
		"O1 Wrap-1 bare +1000 ns/op +600 ns/op +600 ns/op met",
	} {
		if !strings.Contains(squeeze(b.String()), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
	if got := strings.Count(b.String(), "MISSED"); missed != 5 || got != 5 {
		t.Errorf("%d budgets missed, %d reported, want 5:\n%s", missed, got, b.String())
	}
}

// A complete run misses the budgets that it has no figures for.
func TestNotMeasured(t *testing.T) {
	var b strings.Builder
	if missed := printBudgets(&b, results{}, nil, true); missed != len(budgets) || strings.Count(b.String(), "not measured") != missed {
		t.Errorf("%d missed of %d:\n%s", missed, len(budgets), b.String())
	}
	if missed := printBudgets(&b, results{}, nil, false); missed != 0 {
		t.Errorf("%d missed in a run of a part", missed)
	}
}

func TestBudgetsOfGroups(t *testing.T) {
	for group, want := range map[string][]float64{
		"IPGroup/op=hit/family=IPv4/list=spread/entries=10-1":           {1.20, 0},
		"IPGroup/op=near-miss/family=IPv6/list=clustered/entries=1k-1":  {1.00, 0.15, 0},
		"IPGroup/op=far-miss/family=IPv6/list=clustered/entries=100k-1": {1.00, 0.15, 0},
		"IPGroup/op=far-miss/family=IPv6/list=spread/entries=100k-1":    {1.00, 0.15, 0.50, 0},
		"IPGroup/op=hit/family=IPv4/list=spread/entries=1M-1":           {1.00, 0},
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

func TestGrowth(t *testing.T) {
	var b strings.Builder
	printGrowth(&b, parsed(t, output))
	want := `
Growth: the time of a request, as the ratio to that with the least

| rules | 1 | 100 | 10,000 |
|---|---|---|---|
| GOMAXPROCS=1, 2.00 µs | 1.00 | 1.25 | 25 |
| GOMAXPROCS=2, 1.00 µs | 1.00 | 1.10 | |
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	if printGrowth(&b, results{}); b.Len() > 0 {
		t.Errorf("a table of nothing: %s", &b)
	}
}

// What is saved is read again as medians.
func TestBaseline(t *testing.T) {
	now := parsed(t, output)
	dir := t.TempDir()
	saved, missing := filepath.Join(dir, "saved"), filepath.Join(dir, "missing")
	if err := saveTo(saved, now, []byte(output)); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(saved); !strings.Contains(string(text), "\ncpu: Some Processor\n") ||
		!strings.Contains(string(text), "\nBenchmarkTable/op=lookup/entries=64k/impl=limpet-2 3 60 ns/op 0 B/op 0 allocs/op\n") {
		t.Errorf("saved:\n%s", text)
	}
	want := results{}
	for group, impls := range now {
		want[group] = map[string]map[string][]float64{}
		for impl, samples := range impls {
			want[group][impl] = map[string][]float64{}
			for unit := range samples {
				m, _ := now.median(group, impl, unit)
				want[group][impl][unit] = []float64{m}
			}
		}
	}
	want["Read/1000000-1"][""]["ns/op"][0] = 1.23457e9 // six digits are enough
	for _, tt := range []struct{ name, baseline, standing string }{
		{"named", saved, missing},
		{"standing", "", saved},
	} {
		old, err := readBaseline(tt.baseline, tt.standing)
		if diff := cmp.Diff(want, old); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
	}
	if old, err := readBaseline("", missing); old != nil || err != nil {
		t.Errorf("no standing baseline: %v, %v", old, err)
	}
	if _, err := readBaseline(missing, saved); err == nil {
		t.Error("no error for a named baseline that is not there")
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("PASS\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readBaseline(empty, saved); err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("a baseline without results: %v", err)
	}
}

// The standing baseline, if there is one, has a figure for each budget: it is
// of a whole run, and of the benchmarks as they are named now.
func TestStandingBaseline(t *testing.T) {
	old, err := readBaseline("", filepath.Join("..", standing))
	if err != nil {
		t.Fatal(err)
	}
	if old == nil {
		t.Skip("there is no standing baseline")
	}
	var b strings.Builder
	printBudgets(&b, old, nil, true)
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, "not measured") {
			t.Errorf("the baseline has no figure for %s", line)
		}
	}
}

// Suites name benchmarks that exist, and each group of a budget belongs to one
// of them.
func TestSuites(t *testing.T) {
	var names []string
	for _, s := range suites {
		files, err := filepath.Glob(filepath.Join("..", s.dir, s.pkg, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", s.pkg, files, err)
		}
		var source bytes.Buffer
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(text)
		}
		for _, name := range s.benchmarks {
			if !strings.Contains(source.String(), fmt.Sprintf("\nfunc Benchmark%s(b *testing.B) {", name)) {
				t.Errorf("%s has no benchmark %s", s.pkg, name)
			}
		}
		names = append(names, s.benchmarks...)
	}
	for _, b := range budgets {
		name := regexp.MustCompile(`\w+`).FindString(strings.TrimPrefix(b.group.String(), "^(?:"))
		if !slices.Contains(names, name) {
			t.Errorf("budget %s of %s: no suite has it", b.id, b.group)
		}
	}
}

func TestPattern(t *testing.T) {
	s := suite{benchmarks: []string{"Memory", "Read"}, sub: "^1000$"}
	for bench, want := range map[string]string{
		".":              "^Benchmark(Memory|Read)$/^1000$",
		"Read":           "^Benchmark(Read)$/^1000$",
		"BenchmarkRead$": "^Benchmark(Read)$/^1000$",
		"Read|Mem/16":    "^Benchmark(Memory|Read)$/16",
		"Table":          "",
	} {
		if got, err := s.pattern(bench); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", bench, got, err, want)
		}
	}
	if _, err := s.pattern("("); err == nil {
		t.Error("no error for a bad expression")
	}
}
