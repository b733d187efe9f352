package persistence

import (
	"sync"
	"sync/atomic"
	"time"
)

// A target is where the servers of one target are kept. Profiles that have adopted one another share
// it, so that requests under way in the old one are not lost.
//
// When its table gets other bounds, a new table takes the place of the old one at once, and the entries
// are moved: each one by the first request that asks for it, or by rebuild. A request that has used the
// table that was replaced meanwhile does the same again with the new one, whether it has found something
// or not.
type target[K comparable] struct {
	name    string                         // of the table of shared sessions
	current atomic.Pointer[targetTable[K]] // in memory, else nil
	has     atomic.Pointer[func(target, server string) bool]

	claiming   sync.Mutex // held by claims in memory with maxAge
	moving     sync.Mutex // held to move an entry
	rebuilding sync.Mutex
}

// A targetTable is the table of a target and its bounds, and the one before as long as that has entries.
type targetTable[K comparable] struct {
	table, before *Table[K, string]
	bounds, was   bounds
}

// bounds are what entries depend on. idle is 0 without maxAge, as then each use brings its own.
type bounds struct {
	maxEntries, maxPerOwner int
	maxAge, idle            time.Duration
}

// tableFor returns the table, with the entry under key in it if there is one. The caller
// uses it, and again if another has taken its place by then.
func (t *target[K]) tableFor(key K) *targetTable[K] {
	now := t.current.Load()
	if now.before != nil {
		t.move(now, key)
	}
	return now
}

// rebuild gives the table other bounds, if they are others.
func (t *target[K]) rebuild(b bounds, make func() *Table[K, string]) {
	t.rebuilding.Lock()
	defer t.rebuilding.Unlock()
	was := t.current.Load()
	if was.bounds == b {
		return
	}
	next := &targetTable[K]{make(), was.table, b, was.bounds}
	t.current.Store(next)
	for key := range was.table.All() {
		t.move(next, key)
	}
	t.current.Store(&targetTable[K]{table: next.table, bounds: b})
}

// move moves the entry under key from the table before.
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

// countByValue returns how many clients each server has. One that is moved just now may be in it twice, but
// is not left out.
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
