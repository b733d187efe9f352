package persistence

import (
	"fmt"
	"strings"
	"time"
)

// carried is what is sent of an entry. left and latest count from now.
type carried struct {
	value              string
	left, idle, latest time.Duration
}

// A carrier has entries that a Sender sends and a Receiver stores.
type carrier interface {
	// same reports whether another one has the same entries.
	same(other carrier) bool
	// kind says what it is: only the same kind can take its entries over.
	kind() string
	tables() []string
	keys(table string, yield func(key string) bool)
	get(table, key string) (carried, bool)
	// watch calls f after each change. Nil ends that.
	watch(f func(table, key string, written bool))
	// set stores what get has returned, missing or not. If the key is its own,
	// it only gets a longer lifetime, and only with the same value.
	set(table, key string, c carried, missing, own bool)
}

// carrierOf returns the carrier of a store or of a target of a profile; nil if
// it has none, as with entries on a server.
func carrierOf(of any, target string) carrier {
	switch p := of.(type) {
	case *Store:
		return storeCarrier{p}
	case *ClientIP:
		return targetCarrierOf(&p.clients, target, fmt.Sprintf("clientIP %d %d", p.mask4, p.mask6))
	case *AppCookie:
		return targetCarrierOf(&p.sessions, target, "appCookie "+p.name)
	case *HTTPCookie:
		return keyCarrier{p}
	}
	return nil
}

// A storeCarrier carries the tables of a store.
type storeCarrier struct{ *Store }

func (c storeCarrier) same(other carrier) bool {
	o, ok := other.(storeCarrier)
	return ok && o.Store.tables == c.Store.tables
}

func (c storeCarrier) kind() string     { return "store" }
func (c storeCarrier) tables() []string { return c.names() }

func (c storeCarrier) watch(f func(table, key string, written bool)) { c.Store.watch(f) }

func (c storeCarrier) keys(table string, yield func(key string) bool) {
	for key := range c.All(table) {
		if !yield(key) {
			return
		}
	}
}

func (c storeCarrier) get(table, key string) (carried, bool) {
	if t := c.table(table); t != nil {
		return carry(t, key)
	}
	return carried{}, false
}

func (c storeCarrier) set(table, key string, e carried, missing, own bool) {
	if missing {
		if t := c.table(table); t != nil && !own {
			unset(t, key)
		}
		return
	}
	if strings.HasPrefix(table, profileTables) {
		c.Reserve(table)
	}
	c.write(table, key, e.value, e.left, func(t *Table[string, string]) bool {
		key, value := detach(key, e.value)
		set(t, key, carried{value, e.left, e.idle, e.latest}, own)
		return !t.closed.Load()
	})
}

// A targetCarrier carries the table of a target of a profile.
type targetCarrier[K comparable] struct {
	of     *sessions[K]
	target *target[K]
	named  string
}

func targetCarrierOf[K comparable](of *sessions[K], target, kind string) carrier {
	if store, ok := of.shared.(*Store); ok {
		return storeCarrier{store}
	}
	if of.shared != nil {
		return nil
	}
	return targetCarrier[K]{of, of.target(target), kind}
}

func (c targetCarrier[K]) same(other carrier) bool {
	o, ok := other.(targetCarrier[K])
	return ok && o.target == c.target
}

func (c targetCarrier[K]) kind() string     { return c.named }
func (c targetCarrier[K]) tables() []string { return []string{""} }

func (c targetCarrier[K]) keys(_ string, yield func(key string) bool) {
	now := c.target.current.Load()
	for _, t := range []*Table[K, string]{now.before, now.table} {
		if t == nil {
			continue
		}
		for key := range t.All() {
			if !yield(c.of.text(key)) {
				return
			}
		}
	}
}

func (c targetCarrier[K]) get(_, text string) (e carried, ok bool) {
	key, err := c.of.parse(text)
	if err != nil {
		return carried{}, false
	}
	for {
		now := c.target.tableFor(key)
		if e, ok = carry(now.table, key); c.target.current.Load() == now {
			return e, ok
		}
	}
}

func (c targetCarrier[K]) watch(f func(table, key string, written bool)) {
	c.target.rebuilding.Lock()
	defer c.target.rebuilding.Unlock()
	t := c.target.current.Load().table
	if f == nil {
		t.watch(nil)
		return
	}
	t.watch(func(key K, written bool) { f("", c.of.text(key), written) })
}

func (c targetCarrier[K]) set(_, text string, e carried, missing, own bool) {
	key, err := c.of.parse(text)
	if err != nil {
		return
	}
	c.target.rebuilding.Lock()
	defer c.target.rebuilding.Unlock()
	now := c.target.current.Load()
	switch b := now.bounds; {
	case missing && own:
		return
	case missing:
		unset(now.table, key)
		return
	case b.maxAge == 0:
		e.idle, e.latest = 0, 0
	case e.idle == 0: // the other process had no MaxAge
		e.idle, e.latest = b.idle, b.maxAge
	default:
		e.idle, e.latest = b.idle, min(e.latest, b.maxAge)
	}
	e.value = strings.Clone(e.value)
	set(now.table, key, e, own)
}

// A keyCarrier carries the random key of a cookie profile.
type keyCarrier struct{ *HTTPCookie }

func (c keyCarrier) same(other carrier) bool { return c == other }
func (c keyCarrier) kind() string            { return "httpCookie " + c.config.Name }
func (c keyCarrier) tables() []string        { return []string{""} }

func (c keyCarrier) watch(func(table, key string, written bool)) {}

func (c keyCarrier) secret() []byte {
	for _, k := range c.HTTPCookie.keys.Load().keys {
		if k.random != nil {
			return k.random
		}
	}
	return nil
}

func (c keyCarrier) keys(_ string, yield func(key string) bool) {
	if c.secret() != nil {
		yield(randomKeyID)
	}
}

func (c keyCarrier) get(_, _ string) (carried, bool) {
	secret := c.secret()
	return carried{value: string(secret)}, secret != nil
}

func (c keyCarrier) set(_, _ string, e carried, missing, _ bool) {
	key, err := newCookieKey(randomKeyID, []byte(e.value))
	if missing || err != nil || len(e.value) != 32 {
		return
	}
	key.random = []byte(e.value)
	c.adoptKeys([]cookieKey{key})
}

// carry returns what is sent of the entry under key.
func carry[K comparable](t *Table[K, string], key K) (c carried, ok bool) {
	now := t.now()
	r, left := t.peek(key, func() time.Duration { return now })
	if r == nil || left <= 0 {
		return carried{}, false
	}
	c = carried{value: r.value, left: left}
	if r.idleRule != nil {
		c.idle, c.latest = r.idleRule.idle, r.idleRule.latest-now
	}
	return c, true
}

// set stores an entry of another process, without evicting others. With the
// same value, the longer lifetime applies. Watchers are not told.
func set[K comparable](t *Table[K, string], key K, c carried, own bool) {
	h := t.locateOwned(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	h.watched = false
	now := t.now()
	until := expiry{deadline: now + min(c.left, t.lifetimes.max)}
	if c.idle > 0 {
		until.idleRule = &idleRule{min(c.idle, t.lifetimes.max), now + min(c.latest, t.lifetimes.max)}
		until.deadline = min(until.deadline, until.idleRule.latest)
	}
	live := h.acquireLocked(h.tag, key, now)
	switch {
	case until.deadline <= now:
	case live.entry != nil && live.value == c.value:
		live.deadline = max(live.deadline, live.cut(until.deadline))
	case live.entry != nil && own:
	case live.entry == nil && (own || !h.hasRoomLocked(h.costOf(key, c.value)) || h.ownerIsFullLocked(h.owner)):
	default:
		if t.storeLocked(h, now, live, key, c.value, until) != nil && live.entry == nil {
			h.writes.restored++
		}
		return // which has released it, or deleted it
	}
	h.releaseLocked(live)
}

// unset removes the entry under key, which another process has removed.
// Watchers are not told.
func unset[K comparable](t *Table[K, string], key K) {
	h := t.locate(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	h.watched = false
	if live := h.acquireLocked(h.tag, key, t.now()); live.entry != nil {
		h.deleteLocked(live.entry, Removed)
	}
}
