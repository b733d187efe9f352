package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/redis/rueidis"
)

var (
	// ErrUnavailable means that the server did not answer, and that the table
	// has no other answer. The error that wraps it names the table and the
	// cause. The store may have sent the call or not, so a change may have been
	// made or not. The error has a method Unavailable that returns true, for
	// which a virtual service responds with 503.
	ErrUnavailable error = unavailable{}

	// ErrClosed is the error of all calls of a Store that has been closed.
	ErrClosed = errors.New("redisstore: the store is closed")

	errNotConnected = errors.New("not connected yet")
	errTimeout      = errors.New("no answer in time")
	errIncomplete   = errors.New("the server has dropped the index or the counts of the table (see maxmemory-policy), so that some entries are missing there")
	errMismatch     = errors.New("the answer belongs to another call")
)

type unavailable struct{}

func (unavailable) Error() string     { return "the server is not available" }
func (unavailable) Unavailable() bool { return true }

// A ForeignError means that the server's value under the name of an entry was
// not stored by this package, or is longer than [MaxValueBytes]. The store and
// the server go on working, and nothing has been changed.
type ForeignError struct {
	// Table and Key name the entry.
	Table, Key string
	// Name is the name of the key on the server.
	Name string
	// Detail says what was found, for people.
	Detail string
}

// Error names the table, the key and the detail; long names are cut.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("redisstore: table %.100q, key %.100q: %s", e.Table, e.Key, e.Detail)
}

// echoes is where a server begins to repeat a command that it does not
// understand, with the password or with keys.
const echoes = ", with args beginning with"

// explained returns err with advice for operators and without secrets: the text
// of a server or a proxy may repeat what was sent to it.
func (c *Config) explained(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	shown, _, _ := strings.Cut(text, echoes)
	if c.Password != "" {
		shown = strings.ReplaceAll(shown, string(c.Password), redacted)
	}
	if errors.Is(err, rueidis.ErrNoCache) || isTooOld(text) {
		shown = "the server is too old or does not speak RESP3: Redis 7.0 or Valkey 7.2 is needed (" + shown + ")"
	}
	if shown == text {
		return err
	}
	return errors.New(shown)
}

// unreachable returns the explained error of an attempt to reach the server.
func (c *Config) unreachable(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", errTimeout, err)
	case c.TLS == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		err = fmt.Errorf("the server has closed the connection, perhaps because it expects TLS: %w", err)
	}
	return c.explained(err)
}

// isTooOld reports whether an error text is that of a server that lacks a
// needed feature.
func isTooOld(text string) bool {
	text = strings.ToLower(text)
	for _, part := range []string{"unknown command", "unknown subcommand", "error compiling script", "wrong number of arguments for 'hello'"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
