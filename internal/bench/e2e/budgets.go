package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// A measure is what targets are compared by.
type measure struct {
	name string
	of   func(sample) float64
}

var (
	cpuTime = measure{"CPU µs/request", sample.cpuPerRequest}
	p99     = measure{"p99 ms", func(s sample) float64 { return s.p99.Seconds() * 1e3 }}
)

// A budget is what a target may cost beside another.
type budget struct {
	id       string
	what     measure
	of, peer string
	by       comparison
	max      float64
}

// A comparison says how the costs of two targets become one figure.
type comparison int

const (
	ratio  comparison = iota // the cost over the peer's
	excess                   // the cost less the peer's
)

// All load is full load: each connection sends its next request as soon as it
// has its response.
var budgets = []budget{
	{"E1", cpuTime, "limpet-listing", "caddy-ip-hash", ratio, 0.33},
	{"E1", cpuTime, "limpet-listing", "reverseproxy-listing", ratio, 0.50},
	{"E1", cpuTime, "limpet-listing", "haproxy-lua", ratio, 1.00},
	{"E1", cpuTime, "limpet-listing", "nginx-lua", ratio, 1.40},
	{"E2", cpuTime, "nethttp-hello-listing", "nethttp-hello", ratio, 1.30},
	{"E2", cpuTime, "nethttp-hello-listing", "nethttp-hello", excess, 5},
	{"E2", cpuTime, "nethttp-hello-limpet", "nethttp-hello", ratio, 1.08},
	{"E3", p99, "limpet-listing", "haproxy-lua", ratio, 1.50},
}

// printBudgets prints those whose targets have both been measured.
func printBudgets(w io.Writer, samples map[string][]sample) {
	fmt.Fprint(w, "\nBudgets\n\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, b := range budgets {
		if len(samples[b.of]) == 0 || len(samples[b.peer]) == 0 {
			continue
		}
		of, peer := median(samples[b.of], b.what.of), median(samples[b.peer], b.what.of)
		measured, format := of/peer, "%.2f ×"
		if b.by == excess {
			measured, format = of-peer, "%+.2f"
		}
		verdict := "met"
		if !(measured <= b.max) { // not a number is not met
			verdict = "MISSED"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\tto %s\tat most "+format+"\tmeasured "+format+"\t%s\n", b.id, b.what.name, b.of, b.peer, b.max, measured, verdict)
	}
	tw.Flush()
}
