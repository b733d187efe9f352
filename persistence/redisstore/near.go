package redisstore

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/limpetlb/limpet/persistence"
)

// A nearCache stores the values that the store has seen. It serves them while
// the server guarantees to report changes, but no longer than age. It also
// stores values that it may not serve, for an outage of the server.
//
// The server tracks what the connection reads in a script, and sends the name
// of a key when it changes. That message may overtake the answer that it makes
// obsolete on its way through the client, and calls overlap. So each call gets
// a ticket before it is sent, and its answer is served only if nothing happened
// to the key since: no message, and no own write that began, ended or is in
// progress. Tickets are for stripes of keys, not for single keys. A nil
// nearCache stores nothing.
//
// A message says that an entry has changed, not how: mostly another instance
// has renewed it. So the cache keeps the value as a copy, which it does not
// serve, but which is better than nothing during an outage. The copy is dropped
// when the server says that the entry is absent, when this store removes the
// entry, at the end of its lifetime, and when the cache is full. A copy may be
// older than the server's entry, or the entry may have been removed there: it
// is not written back after an outage, unless this store has stored, claimed or
// touched it meanwhile.
//
// The server also sends a message about each of the store's own writes, after
// its answer. (NOLOOP would end that, but then a server whose tracking table is
// full drops keys without a message to the instance that is reading just then.)
// The first message after an own write therefore does not mean that another
// instance has changed the entry; a second one, or one that may be a second
// one, does.
type nearCache struct {
	prefix  string
	age     time.Duration
	start   time.Time
	entries *persistence.Table[nearKey, nearEntry]
	epoch   atomic.Uint64 // starts at 1; values read in an earlier one are not served
	seed    maphash.Seed
	stripes [4096]stripe

	invalidations atomic.Uint64 // messages about single keys, and about all
}

type nearKey struct{ table, key string }

type nearEntry struct {
	value    string
	epoch    uint64        // 0: never served
	sent     time.Duration // since start, when the call that read the value was sent
	own      bool          // the store wrote the value and no message has come since
	changed  bool          // another instance may have changed the entry since
	copiedTo uint64        // the number of the local store that has the value too; 0: none
}

type stripe struct {
	mu      sync.Mutex
	changes uint64 // messages and writes
	writes  uint64 // of the store: begun or ended
	writers int
}

// A ticket belongs to one call.
type ticket struct {
	stripe  *stripe
	changes uint64
	written uint64 // writes of the stripe
	epoch   uint64
	writes  bool
	sent    time.Time
}

// maxNearBytes is the greatest length of key and value together, with the
// table's name.
const maxNearBytes = 1 << 10

func newNearCache(prefix string, o persistence.Options, entries int, age time.Duration) *nearCache {
	n := &nearCache{
		prefix:  prefix,
		age:     age,
		start:   time.Now(),
		entries: persistence.NewTable[nearKey, nearEntry](persistence.Options{MaxEntries: entries, MaxLifetime: o.MaxLifetime}),
		seed:    maphash.MakeSeed(),
	}
	n.epoch.Store(1)
	return n
}

// lookup returns a value that may be served, and its remaining lifetime.
func (n *nearCache) lookup(table, key string) (value string, left time.Duration, ok bool) {
	if n == nil {
		return "", 0, false
	}
	e, left, ok := n.entries.Lookup(nearKey{table, key}, 0)
	if !ok || e.epoch != n.epoch.Load() || time.Since(n.start)-e.sent >= n.age {
		return "", 0, false
	}
	return e.value, left, true
}

// begin returns the ticket of a call that is about to be sent. Until end, the
// value of a key that it may write is not served.
func (n *nearCache) begin(table, key string, writes bool) ticket {
	if n == nil {
		return ticket{sent: time.Now()}
	}
	k := nearKey{table, key}
	s := n.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if writes {
		s.writers++
		s.writes++
		s.changes++
		if e, left, ok := n.entries.Peek(k); ok && e.epoch != 0 {
			e.epoch = 0
			n.entries.Put(n.own(k), e, left)
		}
	}
	return ticket{stripe: s, changes: s.changes, written: s.writes, epoch: n.epoch.Load(), writes: writes, sent: time.Now()}
}

// A finding is the result of a call for an entry.
type finding uint8

const (
	unknown finding = iota // the call has failed
	absent                 // there is no entry
	written                // the call has written what it found
	read                   // the call has only read
)

// end ends a ticket and stores what the call has found.
func (n *nearCache) end(t ticket, table, key string, f finding, value string, left time.Duration) {
	if n == nil {
		return
	}
	k := nearKey{table, key}
	t.stripe.mu.Lock()
	defer t.stripe.mu.Unlock()
	others := t.stripe.writers
	quiet, alone := t.stripe.changes == t.changes, t.stripe.writes == t.written
	if t.writes {
		t.stripe.writers--
		others--
		t.stripe.writes++
		t.stripe.changes++
	}
	alone = alone && others == 0
	switch f {
	case absent:
		if t.writes || alone {
			n.entries.Remove(k)
		}
	case written, read:
		e := nearEntry{value: value}
		switch {
		case f == written:
			e.own = quiet
		case quiet && others == 0:
			e.epoch, e.sent = t.epoch, t.sent.Sub(n.start)
		case alone:
			e.changed = true // perhaps, by now
		default:
			return // another call has a newer result
		}
		left -= time.Since(t.sent)
		if left <= 0 || len(table)+len(key)+len(value) > maxNearBytes {
			n.entries.Remove(k)
			return
		}
		n.entries.Put(n.own(k), e, left)
	}
}

// invalidate stops serving the values that the server says have changed, or all
// values for nil: the connection is broken, or the server has dropped its
// tracking table.
func (n *nearCache) invalidate(names []rueidis.RedisMessage) {
	n.invalidations.Add(uint64(max(len(names), 1)))
	if names == nil {
		n.epoch.Add(1)
		return
	}
	for _, m := range names {
		text, err := m.ToString()
		if err != nil {
			n.epoch.Add(1)
		} else if table, key, ok := parseName(n.prefix, entryKind, text); ok {
			n.changed(nearKey{table, key})
		}
	}
}

// changed handles a message that an entry has changed.
func (n *nearCache) changed(k nearKey) {
	s := n.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	if e, left, ok := n.entries.Peek(k); ok && (e.epoch != 0 || e.own || !e.changed) {
		e.epoch, e.own, e.changed = 0, false, !e.own
		n.entries.Put(n.own(k), e, left)
	}
}

// copyOut invalidates the tickets of an entry's stripe, and calls then with the
// value of a live entry, unless the local store of that number has it already.
// changed says whether another instance may have changed the entry since.
func (n *nearCache) copyOut(table, key string, number uint64, then func(value string, left time.Duration, changed bool)) {
	if n == nil {
		return
	}
	k := nearKey{table, key}
	s := n.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.changes++
	if e, left, ok := n.entries.Peek(k); ok && e.copiedTo != number {
		then(e.value, left, e.changed)
		e.epoch, e.copiedTo = 0, number
		n.entries.Put(n.own(k), e, left)
	}
}

// keep stores the value that the local store of that number has for an entry,
// for the next outage, unless the cache has learned more since copyOut. It is
// not served.
func (n *nearCache) keep(table, key string, number uint64, has func() (value string, left time.Duration, ok bool)) {
	if n == nil {
		return
	}
	k := nearKey{table, key}
	s := n.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, _, ok := n.entries.Peek(k); ok && e.copiedTo != number {
		return
	}
	if value, left, ok := has(); ok && len(table)+len(key)+len(value) <= maxNearBytes {
		n.entries.Put(n.own(k), nearEntry{value: value, changed: true, copiedTo: number}, left)
	}
}

// forget drops an entry and invalidates the tickets of its stripe.
func (n *nearCache) forget(table, key string) {
	if n == nil {
		return
	}
	k := nearKey{table, key}
	s := n.stripe(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.changes++
	n.entries.Remove(k)
}

func (n *nearCache) stripe(k nearKey) *stripe {
	return &n.stripes[maphash.Comparable(n.seed, k)%uint64(len(n.stripes))]
}

// own returns a copy of a key, which keeps no other memory alive.
func (n *nearCache) own(k nearKey) nearKey {
	return nearKey{strings.Clone(k.table), strings.Clone(k.key)}
}
