package persistence

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Store holds the persistence tables of one virtual service: named tables of strings. The table
// named "" is the default table and always exists; others come into being with the first entry
// stored in them. A missing table is an empty table. Make a Store with [NewStore]; the zero Store
// is not usable.
//
// The methods take a context and return an error because the tables of other stores are elsewhere.
// This one ignores the context, never waits for anything but a lock, and never returns an error. It
// copies the keys and values it keeps, so that an entry never holds on to the message that its key
// was cut from.
//
// All methods may be called concurrently; for one table the guarantees are those of [Table]. Lookup
// and Refresh do not allocate.
type Store struct {
	options Options // with defaults
	main    *Table[string, string]

	mu     sync.Mutex                                        // held to change named
	named  atomic.Pointer[map[string]*Table[string, string]] // never changed, only swapped
	misses atomic.Uint64                                     // in no table

	onDelete func(table, key, value string, cause DeletionCause) // guarded by mu

	refusedLifetime, refusedEntry, refusedTable atomic.Uint64

	saving sync.Mutex // one SaveFile at a time
}

// entryBytes is what an entry costs beyond its key and value: the record (64 bytes), its place and
// link (24, and a quarter to grow), two buckets of the index (16, and up to as many to grow) and the
// rounding of allocations (15).
const entryBytes = 144

// ownerBytes is what an entry costs besides if keys have owners: its owner and link (16 bytes, and a
// quarter to grow) and, if it is the only one of its owner, the share (16) and that in the map (17,
// and up to as many to grow).
const ownerBytes = 96

// NewStore returns a store with an empty default table. Each of its tables is bounded by o. It
// starts no goroutine, and the store needs no closing.
func NewStore(o Options) *Store {
	s := &Store{options: o.withDefaults()}
	s.main = s.newTable()
	s.named.Store(&map[string]*Table[string, string]{})
	return s
}

// Insert stores value under key in the table for lifetime, like [Table.Insert]: the value of a live
// key is kept and its lifetime starts anew. It reports false, and changes nothing, if lifetime is
// zero or negative, a string is longer than the store's options allow, the table would be one too
// many, or it is full and refuses new keys. The error is always nil.
func (s *Store) Insert(_ context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	t := s.tableFor(table, key, value, lifetime)
	if t == nil {
		return false, nil
	}
	granted := t.grant(key, lifetime)
	h := t.locate(key)
	r, _ := t.renew(h, key, granted)
	if r == nil {
		key, value = detach(key, value) // only now: a live key keeps what it has
		r, _, _ = t.store(h, key, value, granted)
	}
	return r != nil, nil
}

// LookupOrInsert is Insert that tells which value the key has afterwards and what is left of its
// lifetime, like [Table.LookupOrInsert]: if it is not found and remaining is zero, it has been
// refused. The error is always nil.
func (s *Store) LookupOrInsert(_ context.Context, table, key, value string, lifetime time.Duration) (actual string, remaining time.Duration, found bool, err error) {
	t := s.tableFor(table, key, value, lifetime)
	if t == nil {
		return "", 0, false, nil
	}
	granted := t.grant(key, lifetime)
	h := t.locate(key)
	r, left := t.renew(h, key, granted)
	if r != nil {
		return r.value, left, true, nil
	}
	key, value = detach(key, value)
	if r, left, found = t.store(h, key, value, granted); r == nil {
		return "", 0, false, nil
	}
	return r.value, left, found, nil
}

// Put stores value under key in the table for lifetime whether or not key is live. It reports
// false, and changes nothing, in the same cases as [Store.Insert]. The error is always nil.
func (s *Store) Put(_ context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	t := s.tableFor(table, key, value, lifetime)
	if t == nil {
		return false, nil
	}
	key, value = detach(key, value)
	return t.Put(key, value, lifetime), nil
}

// PutIdle stores value under key in the table, whether or not key is live, until it has not been
// used for idle, and for atMost altogether, like [Table.PutIdle]. It reports false, and changes
// nothing, in the same cases as [Store.Insert]. The error is always nil.
func (s *Store) PutIdle(_ context.Context, table, key, value string, idle, atMost time.Duration) (bool, error) {
	t := s.tableFor(table, key, value, min(idle, atMost))
	if t == nil {
		return false, nil
	}
	key, value = detach(key, value)
	return t.PutIdle(key, value, idle, atMost), nil
}

// Lookup returns the value under key in the table and what is left of its lifetime after extending
// it by extend, like [Table.Lookup]: zero and negative extend nothing, and if ok is false remaining
// is negative for a key that has expired and zero for one that is missing. The error is always nil.
func (s *Store) Lookup(_ context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		s.misses.Add(1)
		return "", 0, false, nil
	}
	value, remaining, ok = t.Lookup(key, extend)
	return value, remaining, ok, nil
}

// Refresh extends the lifetime of key in the table by extend, like [Table.Refresh], and reports
// whether key is live. The error is always nil.
func (s *Store) Refresh(_ context.Context, table, key string, extend time.Duration) (bool, error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		s.misses.Add(1)
		return false, nil
	}
	return t.Refresh(key, extend), nil
}

// Touch gives key in the table a new lifetime, shorter or longer than before, like [Table.Touch],
// and reports whether key is live. It reports false, and changes nothing, if lifetime is zero or
// negative. The error is always nil.
func (s *Store) Touch(_ context.Context, table, key string, lifetime time.Duration) (bool, error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		s.misses.Add(1)
		return false, nil
	}
	return t.Touch(key, lifetime), nil
}

// Remove removes key from the table; that it is not there is no error. The error is always nil.
func (s *Store) Remove(_ context.Context, table, key string) error {
	if t := s.table(table); t != nil && len(key) <= s.options.MaxKeyBytes {
		t.Remove(key)
	}
	return nil
}

// CompareAndSwap replaces the value under key in the table by new if key is live and its value is
// old, and reports whether it did. The lifetime stays as it is. It reports false also if new is
// longer than the store's options allow, or takes memory that a full table that refuses new keys
// does not have. The error is always nil.
func (s *Store) CompareAndSwap(_ context.Context, table, key, old, new string) (bool, error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		return false, nil
	}
	if len(new) > s.options.MaxValueBytes {
		s.refusedEntry.Add(1)
		return false, nil
	}
	if value, _, ok := t.Peek(key); !ok || value != old {
		return false, nil // before copying
	}
	key, new = detach(key, new)
	return CompareAndSwap(t, key, old, new), nil
}

// Increment adds delta, which may be negative, to the number under key in the table, like the
// function [Increment], and returns the sum. Values are decimal numbers, as [strconv.FormatInt]
// writes them. A live key keeps its lifetime; another is stored with delta for lifetime. Increment
// reports false, and changes nothing, if the value under key is not a decimal number that int64
// holds, and where Insert would be refused. The error is always nil.
func (s *Store) Increment(_ context.Context, table, key string, delta int64, lifetime time.Duration) (sum int64, ok bool, err error) {
	t := s.table(table)
	if t == nil || lifetime > 0 { // else only a live key counts, which checks itself
		if t = s.tableFor(table, key, "", lifetime); t == nil {
			return 0, false, nil
		}
	}
	var digits [20]byte
	_, ok = increment(t, key, lifetime, func(old *record[string, string]) (string, string, bool) {
		sum = delta
		if old != nil {
			n, err := strconv.ParseInt(old.value, 10, 64)
			if err != nil {
				return "", "", false
			}
			sum = saturatingAdd(n, delta)
		}
		text := strconv.AppendInt(digits[:0], sum, 10)
		if len(text) > s.options.MaxValueBytes {
			s.refusedEntry.Add(1)
			return "", "", false
		}
		k, v := detach(key, string(text))
		return k, v, true
	})
	if !ok {
		return 0, false, nil
	}
	return sum, true, nil
}

// OnDelete makes the store call f for each value that leaves a table, after it has left, with the
// cause, like [Table.OnDelete]; nil ends that. Call it before other goroutines use the store.
func (s *Store) OnDelete(f func(table, key, value string, cause DeletionCause)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDelete = f
	s.observeLocked("", s.main)
	for name, t := range *s.named.Load() {
		s.observeLocked(name, t)
	}
}

// observeLocked passes the store's callback on to a table.
func (s *Store) observeLocked(name string, t *Table[string, string]) {
	f := s.onDelete
	if f == nil {
		t.OnDelete(nil)
		return
	}
	t.OnDelete(func(key, value string, cause DeletionCause) { f(name, key, value, cause) })
}

// Tables returns the names of the tables, sorted; the first is "", the default table.
func (s *Store) Tables() []string {
	return append([]string{""}, slices.Sorted(maps.Keys(*s.named.Load()))...)
}

// All returns an iterator over the live entries of the table, like [Table.All]. A missing table has
// none.
func (s *Store) All(table string) iter.Seq2[string, Entry[string]] {
	return func(yield func(string, Entry[string]) bool) {
		if t := s.table(table); t != nil {
			t.All()(yield)
		}
	}
}

// Stats returns the sum of the counters of all tables and of what happened in no table: values
// refused before a table was looked for, and misses in tables that do not exist.
func (s *Store) Stats() Stats {
	sum := s.main.Stats()
	for _, t := range *s.named.Load() {
		sum.add(t.Stats())
	}
	sum.add(Stats{
		Misses:          s.misses.Load(),
		RefusedLifetime: s.refusedLifetime.Load(),
		RefusedEntry:    s.refusedEntry.Load(),
		RefusedTable:    s.refusedTable.Load(),
	})
	return sum
}

// TableStats returns the counters of one table, all zero if it does not exist.
func (s *Store) TableStats(table string) Stats {
	if t := s.table(table); t != nil {
		return t.Stats()
	}
	return Stats{}
}

// table returns the table of that name, nil if there is none.
func (s *Store) table(name string) *Table[string, string] {
	if name == "" {
		return s.main
	}
	return (*s.named.Load())[name]
}

// tableFor returns the table in which an entry is to be stored, made if necessary, or nil if the
// entry is refused.
func (s *Store) tableFor(name, key, value string, lifetime time.Duration) *Table[string, string] {
	o := &s.options
	switch {
	case lifetime <= 0:
		s.refusedLifetime.Add(1)
		return nil
	case len(name) > o.MaxKeyBytes, len(key) > o.MaxKeyBytes, len(value) > o.MaxValueBytes,
		entryCost(key, value) > o.MaxTableBytes:
		s.refusedEntry.Add(1)
		return nil
	}
	if t := s.table(name); t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	named := *s.named.Load()
	if t := named[name]; t != nil {
		return t
	}
	if len(named) >= o.MaxTables {
		s.refusedTable.Add(1)
		return nil
	}
	t := s.newTable()
	more, name := maps.Clone(named), strings.Clone(name)
	more[name] = t
	s.observeLocked(name, t)
	s.named.Store(&more)
	return t
}

func (s *Store) newTable() *Table[string, string] { return newStringTable(s.options) }

// newStringTable returns a table whose memory is bounded. o has its defaults.
func newStringTable(o Options) *Table[string, string] {
	b := budget[string, string]{
		weigh:   entryCost,
		max:     o.MaxTableBytes,
		largest: o.MaxKeyBytes + o.MaxValueBytes + entryBytes,
	}
	if o.Owner != nil {
		b.weigh = func(key, value string) int { return entryCost(key, value) + ownerBytes }
		b.largest += ownerBytes
	}
	return newTable(o, b, nil)
}

// entryCost returns what an entry costs of [Options.MaxTableBytes].
func entryCost(key, value string) int { return len(key) + len(value) + entryBytes }

// detach returns copies of key and value, both in one allocation.
func detach(key, value string) (string, string) {
	var b strings.Builder
	b.Grow(len(key) + len(value))
	b.WriteString(key)
	b.WriteString(value)
	both := b.String()
	return both[:len(key)], both[len(key):]
}
