// Command e2e measures what a proxied request costs: limpet with the listing of
// the published use case, limpet without a script, and what people would use
// instead, in front of the same servers.
//
// Each proxy runs alone on one processor, the load and the servers on the
// others. Rounds are interleaved, so that a machine that slows down slows all;
// what is printed are medians, and ratios to limpet with the listing.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("e2e: ")
	var (
		serve       = flag.String("serve", "", "be the Go target of this name (used by the program itself)")
		listen      = flag.String("listen", "", "with -serve: the address to listen on")
		upstreams   = flag.String("upstreams", "", "with -serve: the servers' addresses, separated by commas")
		rounds      = flag.Int("rounds", 3, "how often each target is measured")
		length      = flag.Duration("length", 5*time.Second, "how long each measurement takes, after a warm-up of a fifth of it")
		connections = flag.Int("connections", 32, "how many connections send requests")
		only        = flag.String("only", "", "targets to measure, separated by commas; empty means all")
		profile     = flag.String("profile", "", "with -serve: write a CPU profile of 5 seconds to this file")
	)
	flag.Parse()
	if *serve != "" {
		if err := serveTarget(*serve, *listen, strings.Split(*upstreams, ","), *profile); err != nil {
			log.Fatal(err)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	if err := run(ctx, *rounds, *length, *connections, *only); err != nil {
		log.Fatal(err)
	}
}

// run measures all targets and prints the table.
func run(ctx context.Context, rounds int, length time.Duration, connections int, only string) error {
	chosen := targets
	if only != "" {
		names := strings.Split(only, ",")
		chosen = slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return !slices.Contains(names, t.name) })
		if len(chosen) != len(names) {
			return fmt.Errorf("-only %s: some are unknown; there are %s", only, strings.Join(targetNames(), ", "))
		}
	}
	if err := checkPrograms(chosen); err != nil {
		return err
	}
	b, err := newBench(ctx, connections)
	if err != nil {
		return err
	}
	defer b.close()
	samples := map[string][]sample{}
	for round := range rounds {
		for _, t := range chosen {
			s, err := b.measure(ctx, t, length)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			log.Printf("round %d: %-24s %s", round+1, t.name, s)
			samples[t.name] = append(samples[t.name], s)
		}
	}
	report(os.Stdout, chosen, samples, connections)
	printBudgets(os.Stdout, samples)
	return nil
}

// checkPrograms says which programs are missing, and how to get them.
func checkPrograms(chosen []target) error {
	packages := map[string]string{"wrk": "wrk", "nginx": "nginx", "taskset": "util-linux"}
	for _, t := range chosen {
		if t.program != "" {
			packages[t.program] = t.debian
		}
	}
	var missing []string
	for program, debian := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, strings.Fields(debian)...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return errors.New("missing programs; install them with: sudo apt-get install --no-install-recommends " + strings.Join(slices.Compact(missing), " "))
}

// report prints the medians.
func report(w io.Writer, chosen []target, samples map[string][]sample, connections int) {
	fmt.Fprintf(w, "\nMedians of %d interleaved rounds, one processor for the proxy, %d connections.\n\n", len(samples[chosen[0].name]), connections)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "target\t%s\trequests/CPU s\trequests/s\tp50 ms\t%s\tRSS MiB\tCPU ratio\t\n", cpuTime.name, p99.name)
	first := median(samples[chosen[0].name], cpuTime.of)
	for _, t := range chosen {
		list := samples[t.name]
		cpu := median(list, cpuTime.of)
		fmt.Fprintf(tw, "%s\t%.1f\t%.0f\t%.0f\t%.2f\t%.2f\t%.0f\t%.2f ×\t\n", t.name, cpu, 1e6/cpu,
			median(list, func(s sample) float64 { return s.rate }),
			median(list, func(s sample) float64 { return s.p50.Seconds() * 1e3 }),
			median(list, p99.of),
			median(list, func(s sample) float64 { return float64(s.rss) / (1 << 20) }),
			first/cpu)
	}
	tw.Flush()
	fmt.Fprintf(w, "\nThe ratio is the CPU time of %s over that of the target.\n", chosen[0].name)
}

func median(list []sample, of func(sample) float64) float64 {
	values := make([]float64, len(list))
	for i, s := range list {
		values[i] = of(s)
	}
	slices.SortFunc(values, cmp.Compare)
	n := len(values)
	return (values[n/2] + values[(n-1)/2]) / 2
}
