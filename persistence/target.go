package persistence

import (
	"sync"
	"sync/atomic"
	"time"
)

// A target has the bindings of one target. Profiles that have adopted one
// another share it, so that requests in progress in the old one lose nothing.
//
// When its table gets other bounds, a new table replaces the old one at once,
// and the entries are moved: each by the first request that asks for it, or by
// rebuild. A request that used a table that was replaced in the meantime
// repeats its operation with the new one, whether it found an entry or not.
type target[K comparable] struct {
	name    string                         // of the table of shared sessions
	current atomic.Pointer[targetTable[K]] // in memory, else nil
	has     atomic.Pointer[func(target, server string) bool]

	moving     sync.Mutex // locked to move an entry
	rebuilding sync.Mutex
}

// A targetTable is the table of a target and its bounds, and the previous table
// while that has entries.
type targetTable[K comparable] struct {
	table, before *Table[K, string]
	bounds, was   tableBounds
}

// tableBounds are the settings that entries depend on. idle is 0 without
// maxAge, because each use then names its own extension.
type tableBounds struct {
	maxEntries, maxPerOwner int
	maxAge, idle            time.Duration
}

// tableFor returns the table, after moving the entry under key to it. The
// caller uses it, and repeats that if another table has replaced it by then.
func (t *target[K]) tableFor(key K) *targetTable[K] {
	now := t.current.Load()
	if now.before != nil {
		t.move(now, key)
	}
	return now
}

// rebuild gives the table other bounds, if they differ.
func (t *target[K]) rebuild(b tableBounds, make func() *Table[K, string]) {
	t.rebuilding.Lock()
	defer t.rebuilding.Unlock()
	was := t.current.Load()
	if was.bounds == b {
		return
	}
	next := &targetTable[K]{make(), was.table, b, was.bounds}
	next.table.onChange.Store(was.table.onChange.Load())
	t.current.Store(next)
	for key := range was.table.All() {
		t.move(next, key)
	}
	t.current.Store(&targetTable[K]{table: next.table, bounds: b})
}

// move moves the entry under key from the previous table.
func (t *target[K]) move(to *targetTable[K], key K) {
	t.moving.Lock()
	defer t.moving.Unlock()
	now := to.before.now()
	r, left := to.before.peek(key, to.before.now)
	if r == nil || left <= 0 {
		return
	}
	if _, _, ok := to.table.Peek(key); !ok {
		age := to.bounds.maxAge
		if r.idleRule != nil && age > 0 { // it began maxAge before its latest end
			age += r.idleRule.latest - now - to.was.maxAge
		}
		switch {
		case to.bounds.maxAge == 0:
			to.table.Put(key, r.value, left)
		case age > 0:
			to.table.PutIdle(key, r.value, to.bounds.idle, age)
		}
	}
	to.before.Remove(key)
}

// countByValue returns how many clients each server has. A client that is being
// moved may be counted twice, but not left out.
func (t *target[K]) countByValue() map[string]int {
	for {
		now := t.current.Load()
		var counts map[string]int
		if now.before != nil {
			counts = CountByValue(now.before)
		}
		counts = addCounts(counts, CountByValue(now.table))
		if t.current.Load() == now {
			return counts
		}
	}
}

func addCounts(to, more map[string]int) map[string]int {
	if to == nil {
		return more
	}
	for server, n := range more {
		to[server] += n
	}
	return to
}
