// Package metrics exports what virtual services count, for Prometheus.
//
// An [Exporter] reads [limpet.VirtualService.Stats] and the statistics of
// pools, tables, rules, groups and scripts when it is asked for them. Requests
// do not pass through it. Serve its Handler at /metrics, or register it with a
// registry of your own.
//
// All names begin with "limpet_". The values of labels come from the
// configuration or from a closed set: what clients and servers send never
// makes a new series. docs/reference/metrics.md lists all metrics.
package metrics
