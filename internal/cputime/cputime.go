// Package cputime measures how long the processor has worked for a thread.
// Tests that bound what something costs use it in place of the clock, which
// also counts what other programs do meanwhile.
package cputime
