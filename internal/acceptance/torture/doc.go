// Package torture has tests of everything that may move a client to another
// server: each way to stick beside each event, and many at random. It has no
// code of its own.
package torture
