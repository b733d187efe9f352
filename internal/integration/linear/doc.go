// Package linear tests that the stores of persistence entries are linearizable:
// whatever calls overlap, some order of them explains all answers. It has tests
// only.
package linear
