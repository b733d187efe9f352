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

// A nearCache remembers the values that the store has seen. It serves them as long as the server has promised to tell of changes, but
// no longer than age; it also keeps those that it may not serve, for the time when the server is down.
//
// The server tracks what the connection reads in a script, and sends the name of a key once it changes. That message may overtake
// the answer that it makes obsolete on its way through the client, and calls overlap. So each call gets a ticket before it is sent, and
// its answer is served only if nothing happened to the key since: no message, and no write of ours begun, under way or ended.
// Tickets are not kept for single keys but for stripes of them. A nil nearCache remembers nothing.
//
// A message says that an entry has changed, not how: mostly another instance has renewed it. So what was remembered stays as a copy that is
// not served but is better than nothing once the server is away. It goes when the server says that the entry is absent, when this
// store removes the entry, at the end of its lifetime, and when the cache is full. A copy may be older than what the server has, or
// have been removed there: it is not given to the server when that is back, unless this store has stored, claimed
// or touched it meanwhile.
//
// The server sends a message about the store's own writes, too, after their answers. (It could be told not to. But then a table of
// tracked keys that is full makes it forget keys without a message to the instance that reads just then.) The first message after a
// write of ours therefore does not tell that somebody else has changed the entry; another one, or one that cannot be told from
// another one, does.
type nearCache struct {
	prefix  string
	age     time.Duration
	start   time.Time
	entries *persistence.Table[nearKey, nearEntry]
	epoch   atomic.Uint64 // begins at 1; what was read in an earlier one is not served
	seed    maphash.Seed
	stripes [4096]stripe
}

type nearKey struct{ table, key string }

type nearEntry struct {
	value    string
	epoch    uint64        // 0: never served
	sent     time.Duration // since start, when the call that read the value was sent
	own      bool          // whether the store wrote the value and no message has come since
	changed  bool          // whether somebody else may have changed the entry since
	copiedTo uint64        // the number of the memory that has the value, too; 0: none
}

type stripe struct {
	mu      sync.Mutex
	changes uint64 // messages, and what is counted in writes
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

// maxNearBytes is the greatest length of key and value together, with the table's name.
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

// lookup returns a value that may be served, and what is left of its lifetime.
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

// begin returns the ticket of a call that is about to be sent. Until end, what is remembered of a key that it may write is not served.
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

// What a call has found out about an entry.
type finding uint8

const (
	unknown finding = iota // the call has failed
	absent                 // there is no entry
	written                // the call has written what it found
	read                   // the call has only read
)

// end takes the ticket back and remembers what the call has found.
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
			e.changed = true // by now, perhaps
		default:
			return // another call knows better
		}
		left -= time.Since(t.sent)
		if left <= 0 || len(table)+len(key)+len(value) > maxNearBytes {
			n.entries.Remove(k)
			return
		}
		n.entries.Put(n.own(k), e, left)
	}
}

// invalidate ends the serving of what the server says has changed, or of everything for nil: the connection is broken, or the server has
// forgotten.
func (n *nearCache) invalidate(names []rueidis.RedisMessage) {
	if names == nil {
		n.epoch.Add(1)
		return
	}
	for _, m := range names {
		text, err := m.ToString()
		if err != nil {
			n.epoch.Add(1)
		} else if table, key, ok := parseName(n.prefix, text); ok {
			n.changed(nearKey{table, key})
		}
	}
}

// changed notes that the server says that an entry has changed.
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

// lend spoils the tickets of an entry's stripe, and calls then with what is remembered of a live entry, unless the memory of that number
// has it already. changed tells whether somebody else may have changed the entry since.
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

// keep remembers what the memory of that number has of an entry, for the next time the server is away, unless more has been learned since
// it was lent. It is not served.
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

// forget drops an entry and spoils the tickets of its stripe.
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

// own returns a key that holds on to nothing else.
func (n *nearCache) own(k nearKey) nearKey {
	return nearKey{strings.Clone(k.table), strings.Clone(k.key)}
}
