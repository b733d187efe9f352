// Package testrace reports whether tests run under the race detector, which
// makes programs slower, allocates, and lets [sync.Pool] drop part of what it
// is given: long tests do less under it, and tests that count allocations or
// bytes do not run.
package testrace
