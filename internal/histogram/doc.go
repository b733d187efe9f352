// Package histogram counts durations in buckets, cheaply and from many
// goroutines at a time. The buckets are those of Prometheus' native histograms
// of schema 2, whose bounds include the powers of two, so that a reader can
// also make a classic histogram of them without an error.
package histogram
