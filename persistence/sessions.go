package persistence

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// Sessions are tables in which a profile keeps the servers of its clients: a [Store], which a
// [Saver] saves, or a store that several instances share. The methods do what those of Store do. If
// they return an error the client is not known, or not remembered.
type Sessions interface {
	// Lookup returns a live value and what is left of its lifetime.
	Lookup(ctx context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error)
	// Put stores a value for lifetime.
	Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	// Touch gives a live entry a new lifetime.
	Touch(ctx context.Context, table, key string, lifetime time.Duration) (bool, error)
	// Remove removes an entry.
	Remove(ctx context.Context, table, key string) error
}

// sessions is a table of clients and their servers, or stands for one elsewhere.
type sessions[K comparable] struct {
	*Table[K, string]
	timeout time.Duration

	shared Sessions // nil: the Table is used
	table  string
	text   func(K) string
}

// find returns the server of a client and starts the timeout anew.
func (s sessions[K]) find(r *http.Request, key K) (server string, ok bool) {
	if s.shared == nil {
		server, _, ok = s.Lookup(key, s.timeout)
		return server, ok
	}
	return s.findShared(r.Context(), s.text(key))
}

// findShared starts the timeout anew only when a tenth of it is over, because that may be a call to
// another machine.
func (s sessions[K]) findShared(ctx context.Context, key string) (server string, ok bool) {
	server, left, ok, err := s.shared.Lookup(ctx, s.table, key, 0)
	if !ok || err != nil {
		return "", false
	}
	if left < s.timeout-s.timeout/10 {
		_, _ = s.shared.Touch(ctx, s.table, key, s.timeout) // else it expires, which is no worse than not to find it
	}
	return server, true
}

// bind remembers the server of a client and starts the timeout anew.
func (s sessions[K]) bind(r *http.Request, key K, server string) {
	if s.shared != nil {
		ctx, key := r.Context(), s.text(key)
		if bound, ok := s.findShared(ctx, key); !ok || bound != server {
			_, _ = s.shared.Put(ctx, s.table, key, server, s.timeout) // a client not remembered is a new client
		}
		return
	}
	if bound, _, ok := s.Peek(key); ok && bound == server && s.Touch(key, s.timeout) {
		return // as nearly always
	}
	s.Put(key, strings.Clone(server), s.timeout)
}

// forget forgets a client.
func (s sessions[K]) forget(r *http.Request, key K) {
	if s.shared != nil {
		_ = s.shared.Remove(r.Context(), s.table, s.text(key)) // else it expires
		return
	}
	s.Remove(key)
}
