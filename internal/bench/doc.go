// Package bench compares limpet with what its users would pick instead, in one
// run. It is a module of its own, so that nobody inherits the peers.
//
// Benchmarks are named operation/size/impl=name. The command compare runs them
// in interleaved passes and prints, for each operation, the medians and
// limpet's ratio to each peer, beside the budget if there is one. The command
// e2e compares proxies under load.
package bench
