package persistence

import "github.com/limpetlb/limpet/internal/enumtext"

// A DeletionCause says why an entry left its table.
type DeletionCause uint8

const (
	// Removed means that Remove removed the entry.
	Removed DeletionCause = iota
	// Replaced means that the key got another value, by Put, PutIdle, Claim,
	// CompareAndSwap or Increment.
	Replaced
	// Expired means that the table found the entry past its deadline and freed
	// its memory, which may be long after the deadline.
	Expired
	// Evicted means that a live entry made room for another one.
	Evicted
)

var deletionCauseWords = []string{Removed: "removed", Replaced: "replaced", Expired: "expired", Evicted: "evicted"}

// String returns "removed", "replaced", "expired" or "evicted", and "invalid"
// for other values.
func (c DeletionCause) String() string { return enumtext.String(c, deletionCauseWords) }

// MarshalText returns what String returns, and an error for other values.
func (c DeletionCause) MarshalText() ([]byte, error) { return enumtext.Marshal(c, deletionCauseWords) }

// UnmarshalText accepts the texts of MarshalText. Case, blanks, "-" and "_" do
// not matter. The error lists the texts.
func (c *DeletionCause) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(c, text, deletionCauseWords)
}

// A deletion has the arguments of a callback.
type deletion[K comparable, V any] struct {
	key   K
	value V
	cause DeletionCause
}

// OnDelete makes the table call f with each value that leaves it and the cause,
// after the value has left. Nil ends that. Values that left earlier are not
// reported.
//
// f runs on the goroutine of the call that deleted the value, just before that
// call returns. No lock is taken: f may use the table. Concurrent deletions are
// reported concurrently, so the later of two values of one key may be reported
// first.
func (t *Table[K, V]) OnDelete(f func(key K, value V, cause DeletionCause)) {
	if f == nil {
		t.onDelete.Store(nil)
		return
	}
	t.onDelete.Store(&f)
}

// A change has the arguments of a callback.
type change[K comparable] struct {
	key     K
	written bool
}

// watch makes the table call f after each change: with written, the key has got
// another value or was removed by Remove; otherwise only its lifetime has
// changed. Expiry and eviction are no changes. Nil ends that. f is called like
// that of OnDelete.
func (t *Table[K, V]) watch(f func(key K, written bool)) {
	if f == nil {
		t.onChange.Store(nil)
		return
	}
	t.onChange.Store(&f)
}

// noteLocked notes a change, to be reported when the lock is not held any more.
func (s *shard[K, V]) noteLocked(key K, written bool) {
	if s.watched {
		s.changed = append(s.changed, change[K]{key, written})
	}
}

// lock locks s for writing.
func (t *Table[K, V]) lock(s *shard[K, V]) {
	s.mu.Lock()
	s.report = t.onDelete.Load() != nil
	s.watched = t.onChange.Load() != nil
}

// unlock unlocks s and reports what was deleted and what has changed.
func (t *Table[K, V]) unlock(s *shard[K, V]) {
	deleted, changed := s.deleted, s.changed
	s.deleted, s.changed = nil, nil
	s.mu.Unlock()
	if len(deleted) > 0 {
		if f := t.onDelete.Load(); f != nil {
			for _, d := range deleted {
				(*f)(d.key, d.value, d.cause)
			}
		}
	}
	if len(changed) > 0 {
		if f := t.onChange.Load(); f != nil {
			for _, c := range changed {
				(*f)(c.key, c.written)
			}
		}
	}
}
