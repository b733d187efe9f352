package redisstore

import (
	"errors"
	"fmt"
)

var (
	// ErrUnavailable says that the server could not be asked, and that the table does not have another answer. The error that
	// wraps it names the table and the cause. It may have asked in vain or not at all: what a call was to change may have
	// been changed or not. It has a method Unavailable that returns true, for which a virtual service answers 503.
	ErrUnavailable error = unavailable{}

	// ErrClosed is returned by all calls of a Store that has been closed.
	ErrClosed = errors.New("redisstore: the store is closed")

	errNotConnected = errors.New("not connected yet")
	errTimeout      = errors.New("no answer in time")
	errIncomplete   = errors.New("the server has dropped the index or the counts of the table (see maxmemory-policy), so that some entries are missing there")
	errMismatch     = errors.New("the answer belongs to another call")
)

type unavailable struct{}

func (unavailable) Error() string     { return "the server is not available" }
func (unavailable) Unavailable() bool { return true }

// A ForeignError says that what the server has under the name of an entry was not stored by this package, or is longer than
// [MaxValueBytes]. Neither the store nor the server fails because of it, and nothing has been changed.
type ForeignError struct {
	// Table and Key name the entry.
	Table, Key string
	// Name is the name of the key on the server.
	Name string
	// Detail tells what was found.
	Detail string
}

// Error names the table, the key and what was found; long names are cut.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("redisstore: table %.100q, key %.100q: %s", e.Table, e.Key, e.Detail)
}
