package datascripttest

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/exactaddr"
)

var _ datascript.Tables = (*Tables)(nil)

// DefaultMaxLifetime bounds what is left of an entry's lifetime in [Tables]
// that do not say otherwise.
const DefaultMaxLifetime = 7 * 24 * time.Hour

// Tables are persistence tables in memory, on a clock of their own: time stands
// still but for [Tables.Advance]. The zero value is ready for use; it must not
// be copied after that. Its methods may be called concurrently; its fields must
// not be set meanwhile.
//
// The rules are those of the real tables. Inserting a live key keeps its value
// and starts its lifetime anew. Lookups and refreshes add to what is left of a
// lifetime; an extension of 0 adds nothing.
type Tables struct {
	// Now, if it is set, is the clock that Advance adds to.
	Now func() time.Time
	// MaxLifetime is the most that can be left of a lifetime. Zero means
	// [DefaultMaxLifetime], a negative value no bound.
	MaxLifetime time.Duration
	// Full makes the tables refuse new keys. Live keys are still renewed.
	Full bool
	// Err, if it is set, is what every call returns: the error of a store that
	// is out of reach.
	Err error

	mu      sync.Mutex
	ahead   time.Duration // of Now
	entries map[tableKey]tableEntry
}

type tableKey struct{ table, key string }

type tableEntry struct {
	value   string
	expires time.Time // the entry is dead at that moment
}

// An Entry is a live persistence entry.
type Entry struct {
	Table    string        // empty for the default table
	Key      string        // unique in its table
	Value    string        // never changed by Insert; "address:port" where servers of a pool share an address
	Lifetime time.Duration // what is left of it
}

// Advance moves the clock by d. A negative d moves it back.
func (t *Tables) Advance(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ahead += d
}

// Set stores entries, in place of those under the same keys. Lifetime is what
// is left of the entry; one that is not positive removes it.
func (t *Tables) Set(entries ...Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		if k := (tableKey{e.Table, e.Key}); e.Lifetime > 0 {
			t.putLocked(k, e.Value, e.Lifetime)
		} else {
			delete(t.entries, k)
		}
	}
}

// Entries returns the live entries, in the order of tables and keys. The slice
// is the caller's.
func (t *Tables) Entries() []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.nowLocked()
	var live []Entry
	for k, e := range t.entries {
		if left := e.expires.Sub(now); left > 0 {
			live = append(live, Entry{k.table, k.key, exactaddr.Shown(e.value), left})
		}
	}
	slices.SortFunc(live, compareEntries)
	return live
}

func compareEntries(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Key, b.Key))
}

// Insert stores an entry, or renews the lifetime of a live one and keeps its
// value. It reports false, and changes nothing, if lifetime is not positive, or
// if the key is new and Full is set. The error is Err.
func (t *Tables) Insert(_ context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Err != nil || lifetime <= 0 {
		return false, t.Err
	}
	k := tableKey{table, key}
	if e, left := t.findLocked(k); left > 0 {
		value = e.value
	} else if t.Full {
		return false, nil
	}
	t.putLocked(k, value, lifetime)
	return true, nil
}

// Lookup returns a live entry and what is left of its lifetime, after adding
// extend to it if that is positive. If ok is false, remaining is negative for
// an entry that expired so long ago, and 0 if there never was one. The error is
// Err.
func (t *Tables) Lookup(_ context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Err != nil {
		return "", 0, false, t.Err
	}
	k := tableKey{table, key}
	e, left := t.findLocked(k)
	if left <= 0 {
		return "", left, false, nil
	}
	if extend > 0 {
		left = t.putLocked(k, e.value, sum(left, extend))
	}
	return e.value, left, true, nil
}

// Refresh adds extend to the lifetime of a live entry, and reports whether
// there was one. The error is Err.
func (t *Tables) Refresh(ctx context.Context, table, key string, extend time.Duration) (bool, error) {
	_, _, ok, err := t.Lookup(ctx, table, key, extend)
	return ok, err
}

// Remove removes an entry if there is one. The error is Err.
func (t *Tables) Remove(_ context.Context, table, key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Err == nil {
		delete(t.entries, tableKey{table, key})
	}
	return t.Err
}

// findLocked returns an entry, live or not, and what is left of its lifetime:
// negative from its end on, 0 if there is no entry.
func (t *Tables) findLocked(k tableKey) (tableEntry, time.Duration) {
	e, ok := t.entries[k]
	if !ok {
		return e, 0
	}
	if left := e.expires.Sub(t.nowLocked()); left != 0 {
		return e, left
	}
	return e, -1
}

// putLocked stores an entry and returns the lifetime it got.
func (t *Tables) putLocked(k tableKey, value string, lifetime time.Duration) time.Duration {
	switch {
	case t.MaxLifetime == 0:
		lifetime = min(lifetime, DefaultMaxLifetime)
	case t.MaxLifetime > 0:
		lifetime = min(lifetime, t.MaxLifetime)
	}
	if t.entries == nil {
		t.entries = map[tableKey]tableEntry{}
	}
	t.entries[k] = tableEntry{value, t.nowLocked().Add(lifetime)}
	return lifetime
}

func (t *Tables) nowLocked() time.Time {
	now := time.Unix(0, 0)
	if t.Now != nil {
		now = t.Now()
	}
	return now.Add(t.ahead)
}

// sum adds two positive lifetimes; what is too long becomes the longest.
func sum(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
