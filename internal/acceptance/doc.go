// Package acceptance has tests of the whole product, over real sockets, that
// are too large for the packages they judge. It has no code of its own. The
// tests of what may move a client to another server are in torture.
package acceptance
