package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

// A budget is what an operation of limpet's may cost.
type budget struct {
	id    string
	group *regexp.Regexp // matches the names of benchmarks without their impl
	of    string         // the impl that has the budget; empty where there is none
	unit  string         // what counts
	by    comparison
	peer  string // the impl it is compared with; empty if by itself
	max   float64
	why   string // what the peer is, or what the budget stands for
}

// A comparison says how a cost and a peer's, measured in one run, become one
// figure.
type comparison int

const (
	ratio  comparison = iota // the cost over the peer's
	excess                   // the cost less the peer's
	itself                   // the cost, without a peer
)

func re(s string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + s + `)$`) }

// budgets are the guarantees, but for those about whole proxies, which the
// command e2e has. docs/operations/performance.md tells how they were met.
var budgets = []budget{
	{"T1", re(`Table/op=lookup/entries=.*-2`), "limpet", "ns/op", ratio, "expirable", 0.27, "look-up of a live entry"},
	{"T1", re(`Table/op=lookup/entries=.*-2`), "limpet", "ns/op", ratio, "ttlcache", 0.20, "look-up of a live entry"},
	{"T1", re(`Table/op=lookup/entries=.*-2`), "limpet", "ns/op", ratio, "otter", 0.80, "look-up of a live entry"},
	{"T1", re(`Table/op=lookup/entries=.*`), "limpet", "allocs/op", itself, "", 0, "look-up of a live entry"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "ns/op", ratio, "expirable", 0.20, "look-up that extends the lifetime"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "ns/op", ratio, "ttlcache", 0.15, "look-up that extends the lifetime"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "ns/op", ratio, "ristretto", 0.20, "look-up that extends the lifetime"},
	{"T2", re(`Table/op=extend/entries=.*-2`), "limpet", "ns/op", ratio, "otter", 0.70, "look-up that extends the lifetime"},
	{"T2", re(`Table/op=extend/entries=.*`), "limpet", "allocs/op", itself, "", 0, "look-up that extends the lifetime"},
	{"T3", re(`Table/op=mixed/entries=.*-2`), "limpet", "ns/op", ratio, "expirable", 0.30, "nine look-ups, one insert"},
	{"T3", re(`Table/op=mixed/entries=.*-2`), "limpet", "ns/op", ratio, "otter", 0.70, "nine look-ups, one insert"},
	{"T3", re(`Table/op=insert/entries=.*-2`), "limpet", "ns/op", ratio, "expirable", 1.00, "insert of a new key into a full table"},
	{"T3", re(`Table/op=insert/entries=.*-2`), "limpet", "ns/op", ratio, "otter", 1.00, "insert of a new key into a full table"},
	{"T3", re(`Table/op=insert/entries=.*`), "limpet", "allocs/op", itself, "", 3, "insert of a new key into a full table, the key included"},
	{"T4", re(`TableMemory-1`), "limpet", "B/entry", itself, "", 180, "a million entries, keys and values included"},
	{"T4", re(`TableMemory-1`), "limpet", "GC-ms", ratio, "otter", 1.60, "a full collection with a million entries"},
	{"T4", re(`TableFlood-1`), "limpet", "%lost", itself, "", 0.1, "entries in use after a flood of keys that are used once"},

	// Hits, near misses and far misses each have to meet these. Only spread
	// lists have the last one: a trie reaches the entries of a clustered list
	// in fewer cache misses.
	{"G1", re(`IPGroup/.*/entries=10-1`), "limpet", "ns/op", ratio, "bart.Lite", 1.20, "a short list"},
	{"G1", re(`IPGroup/.*/entries=(1k|100k|1M)-1`), "limpet", "ns/op", ratio, "bart.Lite", 1.00, "a long list"},
	{"G1", re(`IPGroup/.*/entries=(1k|100k)-1`), "limpet", "ns/op", ratio, "cidranger", 0.15, "a long list"},
	{"G1", re(`IPGroup/.*/list=spread/entries=100k-1`), "limpet", "ns/op", ratio, "bart.Lite", 0.50, "a list of which a trie misses the caches"},
	{"G1", re(`IPGroup/.*`), "limpet", "allocs/op", itself, "", 0, "any list"},
	{"G1", re(`Memory/100000-1`), "", "×bart.Lite", itself, "", 0.30, "memory of a list of IPv4 and IPv6 networks"},
	{"G1", re(`Read/1000000-1`), "", "ns/op", itself, "", 2e9, "a million prefixes, from text to group"},
	{"G2", re(`Country-1`), "", "×decode", itself, "", 0.30, "the country of an address; the peer decodes the record each time"},
	{"G2", re(`Country-1`), "", "allocs/op", itself, "", 0, "the country of an address"},

	{"L1", re(`Acquire/roundrobin/servers=100/.*-2`), "", "ns/op", itself, "", 200, "a server of a hundred, taken and given back"},
	{"L1", re(`Acquire/(leastconnections|consistenthash)/servers=100/.*-2`), "", "ns/op", itself, "", 400, "a server of a hundred, taken and given back"},
	{"L1", re(`Acquire/(roundrobin|leastconnections|consistenthash)/servers=100/.*-2`), "", "allocs/op", itself, "", 0, "a server of a hundred, taken and given back"},

	{"S1", re(`Listing-1`), "limpet", "ns/op", ratio, "naive", 0.30, "both events of the listing; naive: stock Lua, a new environment for each"},
	{"S1", re(`Listing-1`), "limpet", "allocs/op", itself, "", 5, "both events of the listing"},
	{"S1", re(`Trivial-1`), "", "allocs/op", itself, "", 0, "a script that does next to nothing"},
	{"S2", re(`Listing-1`), "limpet", "ns/op", ratio, "unlimited", 1.10, "what the limits cost on events"},
	{"S2", re(`Loops-1`), "limpet", "ns/op", ratio, "unlimited", 1.25, "what the limits cost on loops"},
	{"S3", re(`Patterns/op=(find|match|gsub)-1`), "limpet", "ns/op", ratio, "gopher-lua", 0.30, "functions of patterns, on a short subject"},

	{"E2", re(`Wrap-1`), "unconfigured", "allocs/op", excess, "bare", 3, "no configuration around a handler"},
	{"O1", re(`Wrap-1`), "unconfigured", "ns/op", excess, "bare", 1000, "no configuration around a handler"},
}

// measured is the figure that a run has for the budget and a group.
func (b budget) measured(r results, group string) (float64, bool) {
	of, ok := r.median(group, b.of, b.unit)
	if !ok || b.by == itself {
		return of, ok
	}
	peer, ok := r.median(group, b.peer, b.unit)
	if b.by == excess {
		return of - peer, ok
	}
	return of / peer, ok && peer > 0
}

// text is a figure of the budget's, with its unit.
func (b budget) text(v float64) string {
	switch {
	case b.by == ratio:
		return fmt.Sprintf("%.2f ×", v)
	case b.by == excess:
		return fmt.Sprintf("%+.4g %s", v, b.unit)
	case b.unit == "ns/op" && v >= 1e8:
		return fmt.Sprintf("%.2f s", v/1e9)
	case strings.HasPrefix(b.unit, "×"):
		return fmt.Sprintf("%.2f %s", v, b.unit)
	}
	return fmt.Sprintf("%.4g %s", v, b.unit)
}

// against says what a figure is compared with.
func (b budget) against() string {
	if b.by == ratio && b.unit != "ns/op" {
		return b.peer + ", " + b.unit
	}
	return b.peer
}

// printBudgets prints what is guaranteed and what was measured, and returns how
// many budgets are missed. A run that is complete misses those that it has no
// figures for.
func printBudgets(w io.Writer, now, old results, complete bool) (missed int) {
	fmt.Fprint(w, "\nBudgets\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "id\tbenchmark\tcompared with\tbudget\tmeasured\t")
	if old != nil {
		fmt.Fprint(tw, "before\t")
	}
	fmt.Fprintln(tw, "\t")
	for _, b := range budgets {
		type row struct{ group, measured, before, verdict string }
		var rows []row
		for _, group := range slices.Sorted(maps.Keys(now)) {
			if !b.group.MatchString(group) {
				continue
			}
			v, ok := b.measured(now, group)
			if !ok {
				continue
			}
			r := row{group, b.text(v), "", "met"}
			if v > b.max {
				r.verdict = "MISSED"
				missed++
			}
			if v, ok := b.measured(old, group); ok {
				r.before = b.text(v)
			}
			rows = append(rows, r)
		}
		if len(rows) == 0 && complete {
			rows = append(rows, row{b.group.String(), "not measured", "", "MISSED"})
			missed++
		}
		// One row is enough where all say the same.
		if n := len(rows) - 1; n > 0 && !slices.ContainsFunc(rows, func(r row) bool { r.group = rows[0].group; return r != rows[0] }) {
			rows = rows[:1]
			rows[0].group += fmt.Sprintf(" and %d more", n)
		}
		for _, r := range rows {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t", b.id, r.group, b.against(), b.text(b.max), r.measured)
			if old != nil {
				fmt.Fprintf(tw, "%s\t", r.before)
			}
			fmt.Fprintf(tw, "%s\t%s\n", r.verdict, b.why)
		}
	}
	tw.Flush()
	return missed
}
