package persistence

import (
	"context"
	"iter"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/exactaddr"
)

// A Store has the persistence tables of one virtual service: named tables of
// strings. The table named "" is the default table and always exists. Other
// tables are created with the first entry stored in them; a table without
// entries may be replaced by another. A missing table is an empty table. Create
// a Store with [NewStore]; the zero Store is not usable.
//
// The methods take a context and return an error because other stores are
// remote. This one ignores the context, waits only for locks, and never returns
// an error. It copies the keys and values it stores, so an entry does not keep
// the request in memory that its key is part of.
//
// All methods may be called concurrently; each table guarantees the same as a
// [Table]. Lookup and Refresh do not allocate.
type Store struct {
	*tables // shared by stores of which one has adopted the other
}

// tables are the content of a store.
type tables struct {
	options Options // with defaults
	main    *Table[string, string]

	mu     sync.Mutex                                        // guards changes of named
	named  atomic.Pointer[map[string]*Table[string, string]] // never changed, only swapped
	misses atomic.Uint64                                     // in no table
	swept  atomic.Int64                                      // when all named tables were, by main's clock; 0: never

	onDelete      func(table, key, value string, cause DeletionCause) // guarded by mu
	onChange      func(table, key string, written bool)               // guarded by mu
	droppedStats  Stats                                               // of dropped tables; guarded by mu
	reservedNames map[string]bool                                     // names of Reserve; guarded by mu
	reserved      atomic.Int64                                        // how many these are

	refusedLifetime, refusedEntry, refusedTable atomic.Uint64

	saving sync.Mutex // one SaveFile at a time
}

// entryBytes is the cost of an entry beyond the memory of its key and value:
// the entry (64 bytes), its slot, link and list (25, and a quarter to grow) and
// two buckets of the index (16, and up to as many to grow).
const entryBytes = 128

// ownerBytes is the additional cost of an entry if keys have owners: its share
// and link (12 bytes, and a quarter to grow) and, if it is the only one of its
// owner, the share, its link and number (36, and a quarter to grow) and those
// in the map (17, and up to as many to grow).
const ownerBytes = 96

// sweepPause is the least time between two sweeps of all named tables.
const sweepPause = 100 * time.Millisecond

// NewStore returns a store with an empty default table. Each of its tables is
// bounded by o. It panics if o has a fault. It starts no goroutine, and the
// store needs no closing.
func NewStore(o Options) *Store {
	s := &Store{&tables{options: o.withDefaults()}}
	s.main = s.newTable()
	s.named.Store(&map[string]*Table[string, string]{})
	return s
}

// Insert stores value under key in the table for lifetime, like [Table.Insert]:
// a live key keeps its value and starts a new lifetime. It returns false, and
// changes nothing, if lifetime is zero or negative, a string is longer than the
// options of the store allow, there would be too many tables, or the table is
// full and refuses new keys. The error is always nil.
func (s *Store) Insert(_ context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	r, _, _ := s.insert(table, key, value, lifetime)
	return r != nil, nil
}

// LookupOrInsert is Insert that also returns the value of key afterwards and
// its remaining lifetime, like [Table.LookupOrInsert]. If found is false and
// remaining is zero, the value was refused. The error is always nil.
func (s *Store) LookupOrInsert(_ context.Context, table, key, value string, lifetime time.Duration) (actual string, remaining time.Duration, found bool, err error) {
	r, left, found := s.insert(table, key, value, lifetime)
	if r == nil {
		return "", 0, false, nil
	}
	return r.value, left, found, nil
}

// insert gives key a new lifetime, and a value if it is not live. It returns
// nil if it is refused.
func (s *Store) insert(table, key, value string, lifetime time.Duration) (r *entry[string, string], left time.Duration, found bool) {
	copied := false
	s.write(table, key, value, lifetime, func(t *Table[string, string]) bool {
		granted := t.grant(key, lifetime)
		h := t.locate(key)
		if r, left = t.renew(h, key, granted); r != nil {
			found = true
			return true
		}
		if !copied { // only now: a live key keeps what it has
			key, value = detach(key, value)
			copied = true
		}
		r, left, found = t.store(h, key, value, granted)
		return r != nil
	})
	return r, left, found
}

// Put stores value under key in the table for lifetime whether or not key is
// live. It returns false, and changes nothing, in the same cases as
// [Store.Insert]. The error is always nil.
func (s *Store) Put(_ context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	return s.put(table, key, value, lifetime, func(t *Table[string, string], key, value string) bool {
		return t.Put(key, value, lifetime)
	}), nil
}

// PutIdle stores value under key in the table, whether or not key is live,
// until it has not been used for idle, and no longer than atMost, like
// [Table.PutIdle]. It returns false, and changes nothing, in the same cases as
// [Store.Insert]. The error is always nil.
func (s *Store) PutIdle(_ context.Context, table, key, value string, idle, atMost time.Duration) (bool, error) {
	return s.put(table, key, value, min(idle, atMost), func(t *Table[string, string], key, value string) bool {
		return t.PutIdle(key, value, idle, atMost)
	}), nil
}

// put copies key and value, and stores the copies.
func (s *Store) put(table, key, value string, lifetime time.Duration, store func(t *Table[string, string], key, value string) bool) bool {
	copied := false
	return s.write(table, key, value, lifetime, func(t *Table[string, string]) bool {
		if !copied {
			key, value = detach(key, value)
			copied = true
		}
		return store(t, key, value)
	})
}

// Claim stores value under key in the table for lifetime if key is not live, or
// if its live value is instead; "" as instead replaces nothing. It returns the
// value of key afterwards and its remaining lifetime, like the function
// [Claim]. A value that is found keeps its lifetime. remaining is zero if value
// was refused, in the same cases as by [Store.Insert]. The error is always nil.
func (s *Store) Claim(_ context.Context, table, key, value, instead string, lifetime time.Duration) (actual string, remaining time.Duration, err error) {
	copied := false
	s.write(table, key, value, lifetime, func(t *Table[string, string]) bool {
		granted := t.grant(key, lifetime)
		h := t.locate(key)
		r, left := findOther(t, h, key, instead)
		if r == nil {
			if !copied {
				key, value = detach(key, value)
				copied = true
			}
			if r, left = claim(t, h, key, value, instead, granted); r == nil {
				return false
			}
		}
		actual, remaining = r.value, left
		return true
	})
	return actual, remaining, nil
}

// Lookup returns the value of key in the table and its remaining lifetime after
// extending it by extend, like [Table.Lookup]. Zero and negative extend
// nothing. If ok is false, remaining is negative for a key that has expired and
// zero for a missing one. The error is always nil.
func (s *Store) Lookup(_ context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		s.misses.Add(1)
		return "", 0, false, nil
	}
	value, remaining, ok = t.Lookup(key, extend)
	return value, remaining, ok, nil
}

// Refresh extends the lifetime of key in the table by extend, like
// [Table.Refresh], and reports whether key is live. The error is always nil.
func (s *Store) Refresh(_ context.Context, table, key string, extend time.Duration) (bool, error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		s.misses.Add(1)
		return false, nil
	}
	return t.Refresh(key, extend), nil
}

// Touch gives key in the table a new lifetime, shorter or longer than before,
// like [Table.Touch], and reports whether key is live. It returns false, and
// changes nothing, if lifetime is zero or negative. The error is always nil.
func (s *Store) Touch(_ context.Context, table, key string, lifetime time.Duration) (bool, error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		s.misses.Add(1)
		return false, nil
	}
	return t.Touch(key, lifetime), nil
}

// Remove removes key from the table. A missing key is no error; the error is
// always nil.
func (s *Store) Remove(_ context.Context, table, key string) error {
	if t := s.table(table); t != nil && len(key) <= s.options.MaxKeyBytes {
		t.Remove(key)
	}
	return nil
}

// CompareAndSwap replaces the value of key in the table by new if key is live
// and its value is old, and reports whether it did. The lifetime does not
// change. It also returns false if new is longer than the options of the store
// allow, or if a full table that refuses new keys has no memory for it. The
// error is always nil.
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

// Increment adds delta, which may be negative, to the number under key in the
// table, like the function [Increment], and returns the sum. Values are decimal
// numbers, as [strconv.FormatInt] formats them. A live key keeps its lifetime;
// another is stored with delta for lifetime. Increment returns false, and
// changes nothing, if the value of key is not a decimal int64, and in the same
// cases as [Store.Insert]. The error is always nil.
func (s *Store) Increment(_ context.Context, table, key string, delta int64, lifetime time.Duration) (sum int64, ok bool, err error) {
	var digits [20]byte
	next := func(old *entry[string, string]) (string, string, bool) {
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
	}
	add := func(t *Table[string, string]) bool {
		_, ok := increment(t, key, lifetime, next)
		return ok
	}
	if t := s.table(table); t != nil && lifetime <= 0 {
		ok = add(t) // if the key is live, which then is not stored
	} else {
		ok = s.write(table, key, "", lifetime, add)
	}
	if !ok {
		return 0, false, nil
	}
	return sum, true, nil
}

// OnDelete makes the store call f with each value that leaves a table and the
// cause, like [Table.OnDelete]. Nil ends that. Call it before other goroutines
// use the store.
func (s *Store) OnDelete(f func(table, key, value string, cause DeletionCause)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDelete = f
	s.observeLocked("", s.main)
	for name, t := range *s.named.Load() {
		s.observeLocked(name, t)
	}
}

// watch makes the store call f after each change in a table, like Table.watch.
func (s *Store) watch(f func(table, key string, written bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onChange = f
	s.observeLocked("", s.main)
	for name, t := range *s.named.Load() {
		s.observeLocked(name, t)
	}
}

// observeLocked gives a table the callbacks of the store.
func (s *Store) observeLocked(name string, t *Table[string, string]) {
	if f := s.onDelete; f != nil {
		t.OnDelete(func(key, value string, cause DeletionCause) { f(name, key, value, cause) })
	} else {
		t.OnDelete(nil)
	}
	if f := s.onChange; f != nil {
		t.watch(func(key string, written bool) { f(name, key, written) })
	} else {
		t.watch(nil)
	}
}

// All returns an iterator over the live entries of the table, like [Table.All].
// A missing table has none.
func (s *Store) All(table string) iter.Seq2[string, Entry[string]] {
	return func(yield func(string, Entry[string]) bool) {
		if t := s.table(table); t != nil {
			t.All()(yield)
		}
	}
}

// Stats returns the sum of the counters of all tables, and of calls that
// reached no table: values refused before a table was looked up, and misses in
// tables that do not exist.
func (s *Store) Stats() Stats {
	sum := s.main.Stats()
	s.mu.Lock()
	sum.add(s.droppedStats)
	named := *s.named.Load()
	s.mu.Unlock()
	for _, t := range named {
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

// Range calls f with the live entries of the table, in no order, until f
// returns false. Unlike [Store.All] it shows values for reading: the address of
// a server that shares its address with others is shown as "address:port". f
// may use the store. The error is always nil.
func (s *Store) Range(_ context.Context, table string, f func(key string, e Entry[string]) bool) error {
	for key, e := range s.All(table) {
		e.Value = exactaddr.Shown(e.Value)
		if !f(key, e) {
			break
		}
	}
	return nil
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

// write stores an entry with store in a table, created if necessary, and
// reports whether it succeeded. It calls store again if the table was dropped
// in the meantime.
func (s *Store) write(table, key, value string, lifetime time.Duration, store func(*Table[string, string]) bool) bool {
	for {
		t := s.tableFor(table, key, value, lifetime)
		if t == nil {
			return false
		}
		if store(t) {
			return true
		}
		if !t.closed.Load() {
			return false
		}
	}
}

// tableFor returns the table for an entry, created if necessary, or nil if the
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
	if len(*s.named.Load())-int(s.reserved.Load()) >= o.MaxTables {
		s.sweepNamed() // which calls back, so without the lock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	named := *s.named.Load()
	if t := named[name]; t != nil {
		return t
	}
	more := maps.Clone(named)
	if len(more)-len(s.reservedNames) >= o.MaxTables && !s.dropEmptyLocked(more) {
		s.refusedTable.Add(1)
		return nil
	}
	return s.makeLocked(more, name)
}

// makeLocked adds a table to named, which replaces the present tables.
func (s *Store) makeLocked(named map[string]*Table[string, string], name string) *Table[string, string] {
	t := s.newTable()
	name = strings.Clone(name)
	named[name] = t
	s.observeLocked(name, t)
	s.named.Store(&named)
	return t
}

// Reserve creates tables that [Options.MaxTables] does not count and that are
// not replaced when they are empty. Use it for names that the program chooses;
// profiles call it for theirs.
func (s *Store) Reserve(tables ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range tables {
		if name == "" || s.reservedNames[name] {
			continue
		}
		if s.reservedNames == nil {
			s.reservedNames = make(map[string]bool)
		}
		s.reservedNames[strings.Clone(name)] = true
		s.reserved.Add(1)
		if named := *s.named.Load(); named[name] == nil {
			s.makeLocked(maps.Clone(named), name)
		}
	}
}

// sweepNamed frees some expired entries of the named tables, at most once per
// sweepPause.
func (s *Store) sweepNamed() {
	now, last := s.main.now(), s.swept.Load()
	if last != 0 && now-time.Duration(last) < sweepPause || !s.swept.CompareAndSwap(last, int64(max(now, 1))) {
		return
	}
	for _, t := range *s.named.Load() {
		t.sweepSome()
	}
}

// dropEmptyLocked removes an empty table from named, and reports whether there
// was one. Its counters stay in the sums.
func (s *Store) dropEmptyLocked(named map[string]*Table[string, string]) bool {
	for name, t := range named {
		if !s.reservedNames[name] && t.closeIfEmpty() {
			delete(named, name)
			s.droppedStats.add(t.Stats())
			return true
		}
	}
	return false
}

func (s *Store) newTable() *Table[string, string] { return newStringTable(s.options) }

// newStringTable returns a table whose memory is bounded. o has its defaults.
func newStringTable(o Options) *Table[string, string] {
	b := budget[string, string]{
		costOf:  entryCost,
		max:     o.MaxTableBytes,
		largest: allocated(o.MaxKeyBytes+o.MaxValueBytes) + entryBytes,
	}
	if o.Owner != nil {
		b.costOf = func(key, value string) int { return entryCost(key, value) + ownerBytes }
		b.largest += ownerBytes
	}
	return newTable(o, b, nil)
}

// entryCost returns the cost of an entry, against [Options.MaxTableBytes].
func entryCost(key, value string) int { return allocated(len(key)+len(value)) + entryBytes }

// detach returns copies of key and value, both in one allocation.
func detach(key, value string) (string, string) {
	var b strings.Builder
	b.Grow(len(key) + len(value))
	b.WriteString(key)
	b.WriteString(value)
	both := b.String()
	return both[:len(key)], both[len(key):]
}
