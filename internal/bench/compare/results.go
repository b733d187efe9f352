package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// results are samples by group, impl and unit. A group is the name of a
// benchmark without its impl.
type results map[string]map[string]map[string][]float64

// parse reads the output of go test -bench.
func parse(r io.Reader, name string) (results, error) {
	all := results{}
	reader := benchfmt.NewReader(r, name)
	for reader.Scan() {
		res, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue // metadata; what is not understood is go test's other output
		}
		group, impl := split(string(res.Name))
		if all[group] == nil {
			all[group] = map[string]map[string][]float64{}
		}
		if all[group][impl] == nil {
			all[group][impl] = map[string][]float64{}
		}
		for _, v := range res.Values {
			value, unit := v.Value, v.Unit
			if v.OrigUnit != "" {
				value, unit = v.OrigValue, v.OrigUnit
			}
			all[group][impl][unit] = append(all[group][impl][unit], value)
		}
	}
	return all, reader.Err()
}

// split takes the impl out of a benchmark's name. The number of processors is
// always part of the group; go test leaves out a 1.
func split(name string) (group, impl string) {
	base, gomaxprocs := benchfmt.Name(name).Parts()
	procs := "-1"
	parts := make([]string, 0, len(gomaxprocs))
	for _, p := range gomaxprocs {
		switch {
		case p[0] == '-':
			procs = string(p)
		case strings.HasPrefix(string(p), "/impl="):
			impl = string(p[len("/impl="):])
		default:
			parts = append(parts, string(p))
		}
	}
	return string(base) + strings.Join(parts, "") + procs, impl
}

// write writes the medians as go test would, to be parsed again.
func (r results) write(out *bytes.Buffer, cpu string) {
	fmt.Fprintf(out, "goos: %s\ngoarch: %s\ncpu: %s\ngo: %s\n", runtime.GOOS, runtime.GOARCH, cpu, runtime.Version())
	for _, group := range slices.Sorted(maps.Keys(r)) {
		for _, impl := range slices.Sorted(maps.Keys(r[group])) {
			procs := strings.LastIndexByte(group, '-')
			name := group[:procs]
			if impl != "" {
				name += "/impl=" + impl
			}
			samples := r[group][impl]
			passes := 0
			for _, values := range samples {
				passes = max(passes, len(values))
			}
			fmt.Fprintf(out, "Benchmark%s%s %d", name, group[procs:], passes)
			for _, unit := range units(samples) {
				m, _ := r.median(group, impl, unit)
				fmt.Fprintf(out, " %.6g %s", m, unit)
			}
			fmt.Fprintln(out)
		}
	}
}

// units are those of the samples, those of every benchmark first.
func units(samples map[string][]float64) []string {
	return slices.SortedFunc(maps.Keys(samples), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

// median is the middle of the samples of a unit.
func (r results) median(group, impl, unit string) (float64, bool) {
	values := r[group][impl][unit]
	if len(values) == 0 {
		return 0, false
	}
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95).Center, true
}

// first is the impl that others are compared with.
func first(impls map[string]map[string][]float64) string {
	for _, name := range []string{"limpet", "listing"} {
		if _, ok := impls[name]; ok {
			return name
		}
	}
	return ""
}

// printGroups prints what was measured, group by group, but for growth.
func printGroups(w io.Writer, now, old results) {
	for _, group := range slices.Sorted(maps.Keys(now)) {
		if growthGroup.MatchString(group) {
			continue
		}
		impls := now[group]
		base := first(impls)
		all := map[string][]float64{}
		for _, samples := range impls {
			maps.Copy(all, samples)
		}
		columns := units(all)
		fmt.Fprintf(w, "\n%s\n", group)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(tw, "\t%s\tratio\t", strings.Join(columns, "\t"))
		if old != nil {
			fmt.Fprint(tw, "before\t")
		}
		fmt.Fprintln(tw)
		for _, impl := range slices.SortedFunc(maps.Keys(impls), func(a, b string) int {
			if a == base || b == base {
				return cmp.Compare(b2i(b == base), b2i(a == base))
			}
			return cmp.Compare(a, b)
		}) {
			fmt.Fprintf(tw, "%s\t", cmp.Or(impl, "-"))
			for _, unit := range columns {
				if m, ok := now.median(group, impl, unit); ok {
					fmt.Fprintf(tw, "%.4g\t", m)
				} else {
					fmt.Fprint(tw, "\t")
				}
			}
			fmt.Fprintf(tw, "%s\t", now.ratioText(group, base, impl))
			if old != nil {
				fmt.Fprintf(tw, "%s\t", old.ratioText(group, base, impl))
			}
			fmt.Fprintln(tw)
		}
		tw.Flush()
	}
}

func rank(unit string) int {
	return slices.Index([]string{"B/op", "allocs/op"}, unit) + 2*b2i(unit != "ns/op" && unit != "B/op" && unit != "allocs/op") // ns/op first
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ratio is the time of one impl over that of another.
func (r results) ratio(group, of, peer string) (float64, bool) {
	a, ok := r.median(group, of, "ns/op")
	b, okPeer := r.median(group, peer, "ns/op")
	return a / b, ok && okPeer && b > 0
}

func (r results) ratioText(group, of, peer string) string {
	if of == "" || of == peer {
		return ""
	}
	if ratio, ok := r.ratio(group, of, peer); ok {
		return fmt.Sprintf("%.2f ×", ratio)
	}
	return ""
}
