// Command compare runs the benchmarks in interleaved passes and prints medians
// and ratios: of limpet to each peer, and of this run to a baseline.
//
// All that runs in one pass runs within minutes on the same machine, so ratios
// mean something where times do not. A baseline is compared by its ratios too.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

// suites are the packages whose benchmarks compare something; dir is relative
// to the module of the benchmarks.
var suites = []struct{ dir, pkg, bench, cpu string }{
	{".", ".", ".", "1,2"},
	{"../..", "./lbpool", "^BenchmarkAcquire$", "2"},
	{"../..", "./ipgroup/geoip", "^BenchmarkCountry$", "1"},
	{"../..", "./policy", "^BenchmarkThousandRules$", "1"},
	{"../..", "./datascript", "^Benchmark(Listing|ListingNaive|ListingUnlimited|Loops|LoopsUnlimited)$", "1"},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("compare: ")
	var (
		bench    = flag.String("bench", ".", "the benchmarks to run, as for go test")
		count    = flag.Int("count", 5, "the number of passes")
		length   = flag.String("benchtime", "200ms", "as for go test")
		baseline = flag.String("baseline", "", "a file of an earlier run, to compare ratios with")
		save     = flag.String("save", "", "write the raw results to this file, to be a baseline")
		strict   = flag.Bool("strict", false, "exit with status 1 if a budget is missed")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	raw, err := run(ctx, *bench, *count, *length)
	if err == nil && *save != "" {
		err = os.WriteFile(*save, raw, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
	now, err := parse(bytes.NewReader(raw), "this run")
	if err != nil {
		log.Fatal(err)
	}
	var old results
	if *baseline != "" {
		text, err := os.ReadFile(*baseline)
		if err != nil {
			log.Fatal(err)
		}
		if old, err = parse(bytes.NewReader(text), *baseline); err != nil {
			log.Fatal(err)
		}
	}
	printGroups(os.Stdout, now, old)
	if missed := printBudgets(os.Stdout, now); missed > 0 && *strict {
		log.Fatalf("%d budgets are missed", missed)
	}
}

// run runs the benchmarks, pass after pass, and returns what they print.
func run(ctx context.Context, bench string, count int, length string) ([]byte, error) {
	var all bytes.Buffer
	for pass := range count {
		for _, s := range suites {
			pattern := bench
			if bench == "." {
				pattern = s.bench
			}
			log.Printf("pass %d of %d: %s", pass+1, count, s.pkg)
			cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchmem", "-benchtime", length,
				"-cpu", s.cpu, "-timeout", "30m", s.pkg)
			cmd.Dir = s.dir
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("go test %s: %w\n%s%s", s.pkg, err, out, stderr.String())
			}
			all.Write(out)
		}
	}
	return all.Bytes(), nil
}
