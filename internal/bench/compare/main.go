// Command compare runs the benchmarks in interleaved passes and prints medians
// and ratios: of limpet to each peer, and of this run to a baseline.
//
// All that runs in one pass runs within minutes on the same machine, so ratios
// mean something where times do not. A baseline is compared by its ratios too.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
)

// A suite are benchmarks of a package that compare something, or are compared.
type suite struct {
	dir, pkg   string   // dir is relative to the module of the benchmarks
	benchmarks []string // their names
	sub        string   // which parts of them, as a regular expression; empty means all
	cpu        string
	length     string // as for go test; empty means the default
}

var suites = []suite{
	// A fixed number of operations needs one collection of a full table, where
	// a time needs one for each guess at the number. It is large enough for
	// what the collection leaves cold to weigh little.
	{".", ".", []string{"Table"}, "", "1,2", "2000000x"},
	{".", ".", []string{"TableMemory"}, "", "1", "1x"},
	{".", ".", []string{"TableFlood", "IPGroup"}, "", "1", "100ms"},
	{".", ".", []string{"Growth"}, "", "1,2", ""},
	{"../..", "./internal/acceptance", []string{"Wrap"}, "", "1", ""},
	{"../..", "./lbpool", []string{"Acquire"}, "./^servers=100$", "2", ""},
	{"../..", "./ipgroup", []string{"Memory", "Read"}, "^(100000|1000000)$", "1", ""},
	{"../integration", "./geoip", []string{"Country"}, "", "1", ""},
	{"../..", "./policy", []string{"ThousandRules"}, "", "1", ""},
	{"../..", "./datascript", []string{"Listing", "Trivial", "Loops", "Patterns"}, "", "1", ""},
}

// pattern is what go test has to run of the suite: those benchmarks that bench
// selects, a regular expression for each level of names. It is empty if there
// are none.
func (s suite) pattern(bench string) (string, error) {
	top, sub, _ := strings.Cut(bench, "/")
	re, err := regexp.Compile(top)
	if err != nil {
		return "", err
	}
	var chosen []string
	for _, name := range s.benchmarks {
		if re.MatchString("Benchmark" + name) {
			chosen = append(chosen, name)
		}
	}
	if len(chosen) == 0 {
		return "", nil
	}
	pattern := "^Benchmark(" + strings.Join(chosen, "|") + ")$"
	if sub = cmp.Or(sub, s.sub); sub != "" {
		pattern += "/" + sub
	}
	return pattern, nil
}

// standing is the baseline that runs are compared with if no other is named.
const standing = "baseline.txt"

func main() {
	log.SetFlags(0)
	log.SetPrefix("compare: ")
	var (
		bench    = flag.String("bench", ".", "the benchmarks to run, as for go test")
		count    = flag.Int("count", 5, "the number of passes")
		length   = flag.String("benchtime", "200ms", "as for go test, where a benchmark has no number of operations of its own")
		baseline = flag.String("baseline", "", "a file of an earlier run, to compare ratios with; empty means "+standing+", if there is one")
		save     = flag.String("save", "", "write the medians to this file, to be a baseline")
		strict   = flag.Bool("strict", false, "exit with status 1 if a budget is missed")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	old, err := readBaseline(*baseline, standing)
	if err != nil {
		log.Fatal(err)
	}
	raw, err := run(ctx, *bench, *count, *length)
	if err != nil {
		log.Fatal(err)
	}
	now, err := parse(bytes.NewReader(raw), "this run")
	if err == nil && len(now) == 0 {
		err = fmt.Errorf("-bench %s: there is no such benchmark", *bench)
	}
	if err != nil {
		log.Fatal(err)
	}
	printGroups(os.Stdout, now, old)
	printGrowth(os.Stdout, now)
	missed := printBudgets(os.Stdout, now, old, *bench == ".")
	if *save != "" {
		if err := saveTo(*save, now, raw); err != nil {
			log.Fatal(err)
		}
	}
	if missed > 0 && *strict {
		log.Fatalf("%d budgets are missed", missed)
	}
}

// readBaseline reads the file of an earlier run. Without a name it is the
// standing baseline; if that does not exist, there is none, and no error.
func readBaseline(name, standing string) (results, error) {
	text, err := os.ReadFile(cmp.Or(name, standing))
	if name == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old, err := parse(bytes.NewReader(text), cmp.Or(name, standing))
	if err == nil && len(old) == 0 {
		err = fmt.Errorf("%s: no results of benchmarks", cmp.Or(name, standing))
	}
	return old, err
}

// saveTo writes the medians of a run to a file; raw is what go test printed.
func saveTo(name string, r results, raw []byte) error {
	cpu := "unknown"
	if m := regexp.MustCompile(`(?m)^cpu: (.*)$`).FindSubmatch(raw); m != nil {
		cpu = string(m[1])
	}
	var out bytes.Buffer
	r.write(&out, cpu)
	return os.WriteFile(name, out.Bytes(), 0o644)
}

// run runs the benchmarks, pass after pass, and returns what they print.
func run(ctx context.Context, bench string, count int, length string) ([]byte, error) {
	var all bytes.Buffer
	for pass := range count {
		for _, s := range suites {
			pattern, err := s.pattern(bench)
			if err != nil {
				return nil, fmt.Errorf("-bench %s: %w", bench, err)
			}
			if pattern == "" {
				continue
			}
			log.Printf("pass %d of %d: %s %s", pass+1, count, s.pkg, strings.Join(s.benchmarks, " "))
			cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchmem",
				"-benchtime", cmp.Or(s.length, length), "-cpu", s.cpu, "-timeout", "30m", s.pkg)
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
