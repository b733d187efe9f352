package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var growthGroup = regexp.MustCompile(`^Growth/(\w+)=(\d+)-(\d+)$`)

// printGrowth prints how the time of a request grows with what is configured,
// as the ratio to that with the least of it: a table in Markdown, for
// docs/operations/performance.md.
func printGrowth(w io.Writer, now results) {
	type cell struct{ procs, size int }
	what := map[string]map[cell]float64{}
	for group := range now {
		m := growthGroup.FindStringSubmatch(group)
		if m == nil {
			continue
		}
		size, errSize := strconv.Atoi(m[2])
		procs, errProcs := strconv.Atoi(m[3])
		ns, ok := now.median(group, "", "ns/op")
		if errSize != nil || errProcs != nil || !ok {
			continue
		}
		if what[m[1]] == nil {
			what[m[1]] = map[cell]float64{}
		}
		what[m[1]][cell{procs, size}] = ns
	}
	if len(what) == 0 {
		return
	}
	fmt.Fprint(w, "\nGrowth: the time of a request, as the ratio to that with the least\n")
	for _, name := range slices.Sorted(maps.Keys(what)) {
		times := what[name]
		var procs, sizes []int
		for c := range times {
			procs, sizes = append(procs, c.procs), append(sizes, c.size)
		}
		slices.Sort(procs)
		slices.Sort(sizes)
		procs, sizes = slices.Compact(procs), slices.Compact(sizes)
		fmt.Fprintf(w, "\n| %s |", name)
		for _, size := range sizes {
			fmt.Fprintf(w, " %s |", thousands(size))
		}
		fmt.Fprintf(w, "\n|%s\n", strings.Repeat("---|", 1+len(sizes)))
		for _, p := range procs {
			least := times[cell{p, sizes[0]}]
			fmt.Fprintf(w, "| GOMAXPROCS=%d, %.2f µs |", p, least/1e3)
			for _, size := range sizes {
				switch grown := times[cell{p, size}] / least; {
				case !(grown > 0): // not measured
					fmt.Fprint(w, " |")
				case grown < 10:
					fmt.Fprintf(w, " %.2f |", grown)
				default:
					fmt.Fprintf(w, " %.0f |", grown)
				}
			}
			fmt.Fprintln(w)
		}
	}
}

// thousands is n with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
