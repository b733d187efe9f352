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

// lock locks s for writing.
func (t *Table[K, V]) lock(s *shard[K, V]) {
	s.mu.Lock()
	s.report = t.onDelete.Load() != nil
}

// unlock unlocks s and reports what was deleted.
func (t *Table[K, V]) unlock(s *shard[K, V]) {
	deleted := s.deleted
	s.deleted = nil
	s.mu.Unlock()
	if len(deleted) == 0 {
		return
	}
	if f := t.onDelete.Load(); f != nil {
		for _, d := range deleted {
			(*f)(d.key, d.value, d.cause)
		}
	}
}
