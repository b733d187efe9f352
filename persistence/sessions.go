package persistence

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Sessions are tables in which profiles store the servers of their clients: a
// [Store], which a [Saver] saves, or a store that several instances share. The
// methods do the same as those of Store. After an error the client is treated
// as unknown, or is not remembered.
//
// A profile uses one table for each of its targets, named profile/NAME/TARGET,
// where NAME is the Table in its configuration ("%" and "/" in it are written
// as %25 and %2F). If Table is set, the profile also looks up entries in the
// table NAME, which earlier versions used for all targets, for one Timeout
// after its creation.
//
// A profile uses two more methods if they exist: PutIdle, as Store has it,
// which MaxAge requires, and CountByValue(ctx, table) (map[string]int, error),
// which counting requires. With MaxAge a profile binds a new client with two
// calls, Claim and PutIdle. If another instance moves the client between the
// two, the server of the first instance wins. A shared store may be asked at
// each look-up of such a binding.
type Sessions interface {
	// Lookup returns a live value and what is left of its lifetime.
	Lookup(ctx context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error)
	// Claim stores a value for lifetime if key is not live or its live value is
	// instead, and returns the value of key afterwards and its remaining
	// lifetime. A value that is found keeps its lifetime; "" as instead
	// replaces nothing. Claim must be atomic.
	Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (actual string, remaining time.Duration, err error)
	// Put stores a value for lifetime.
	Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	// Touch gives a live entry a new lifetime.
	Touch(ctx context.Context, table, key string, lifetime time.Duration) (bool, error)
	// Remove removes an entry.
	Remove(ctx context.Context, table, key string) error
}

// idleSessions are sessions that can end an entry although it is in use.
type idleSessions interface {
	PutIdle(ctx context.Context, table, key, value string, idle, atMost time.Duration) (bool, error)
}

// sessions are tables of clients and their servers, one for each target.
type sessions[K comparable] struct {
	timeout, maxAge time.Duration // maxAge may be 0

	maxEntries, maxPerOwner int // of a table in memory
	make                    func() *Table[K, string]

	shared Sessions // nil: the tables are in memory
	name   string   // of the tables of shared
	text   func(K) string
	parse  func(text string) (K, error) // what text returns
	legacy time.Time                    // until then shared may have entries in the table name

	mu      sync.Mutex                            // guards changes of targets
	targets atomic.Pointer[map[string]*target[K]] // never changed, only swapped
}

// init makes s ready for use and adds the faults. Without a name it uses other,
// which no earlier version used.
func (s *sessions[K]) init(timeout, maxAge time.Duration, shared Sessions, name, other string, faults *fielderr.List) {
	s.timeout, s.maxAge = timeout, maxAge
	s.shared, s.name = shared, other
	if name != "" {
		s.name, s.legacy = strings.Clone(name), time.Now().Add(s.timeout)
	}
	s.targets.Store(&map[string]*target[K]{})
	if shared != nil && s.maxAge > 0 {
		if _, ok := shared.(idleSessions); !ok {
			faults.Addf("maxAge", maxAge, "the sessions cannot keep it, because they have no method PutIdle")
		}
	}
}

// profileTables begins the names of the tables of profiles.
const profileTables = "profile/"

var sessionNames = strings.NewReplacer("%", "%25", "/", "%2F")

// bounds returns the bounds of the tables in memory.
func (s *sessions[K]) bounds() tableBounds {
	b := tableBounds{s.maxEntries, s.maxPerOwner, min(s.maxAge, DefaultMaxLifetime), 0} // as tables do
	if s.maxAge > 0 {
		b.idle = s.timeout
	}
	return b
}

// target returns the target of that name.
func (s *sessions[K]) target(name string) *target[K] {
	if t := (*s.targets.Load())[name]; t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := (*s.targets.Load())[name]; t != nil {
		return t
	}
	t := &target[K]{}
	if s.shared == nil {
		t.current.Store(&targetTable[K]{table: s.make(), bounds: s.bounds()})
	} else {
		t.name = profileTables + sessionNames.Replace(s.name) + "/" + name
		if r, ok := s.shared.(interface{ Reserve(tables ...string) }); ok {
			r.Reserve(t.name)
		}
	}
	more := maps.Clone(*s.targets.Load())
	more[strings.Clone(name)] = t
	s.targets.Store(&more)
	return t
}

// setTargets creates the tables of targets. Other targets stay: another service
// may use them.
func (s *sessions[K]) setTargets(names []string, has func(target, server string) bool) {
	for _, name := range names {
		s.target(name).has.Store(&has)
	}
}

// mayBeFor reports whether a binding that does not name its target may be for
// this one.
func (s *sessions[K]) mayBeFor(target, server string) bool {
	has := s.target(target).has.Load()
	return has == nil || *has == nil || (*has)(target, server)
}

// find returns the server of a client and renews its binding.
func (s *sessions[K]) find(r *http.Request, target string, key K) (server string, remaining time.Duration, err error) {
	t := s.target(target)
	if s.shared != nil {
		return s.findShared(r.Context(), target, t.name, s.text(key))
	}
	for {
		now := t.tableFor(key)
		server, remaining, _ = now.table.Lookup(key, s.timeout)
		if t.current.Load() == now {
			return server, remaining, nil
		}
	}
}

// peek is find without renewing the binding.
func (s *sessions[K]) peek(r *http.Request, target string, key K) (server string, remaining time.Duration, err error) {
	t := s.target(target)
	if s.shared == nil {
		server, remaining, _ = t.current.Load().table.Peek(key)
		return server, remaining, nil
	}
	if p, ok := s.shared.(interface {
		Peek(ctx context.Context, table, key string) (string, time.Duration, bool, error)
	}); ok {
		server, remaining, _, err = p.Peek(r.Context(), t.name, s.text(key))
		return server, remaining, err
	}
	return "", 0, errors.ErrUnsupported
}

// noteFound reports the source of a server that find has found. Shared sessions
// report it themselves.
func (s *sessions[K]) noteFound(r *http.Request, server string) {
	if server != "" && s.shared == nil && r != nil {
		NoteSource(r.Context(), FromMemory)
	}
}

// findShared renews a binding only after a tenth of its timeout, because that
// may be a call to another machine.
func (s *sessions[K]) findShared(ctx context.Context, target, table, key string) (server string, remaining time.Duration, err error) {
	server, left, ok, err := s.shared.Lookup(ctx, table, key, 0)
	switch {
	case err != nil:
		return "", 0, err
	case !ok && !time.Now().Before(s.legacy):
		return "", left, nil
	case !ok:
		server, old, ok, err := s.shared.Lookup(ctx, s.name, key, 0)
		if err != nil || !ok || !s.mayBeFor(target, server) {
			return "", left, err
		}
		actual, err := s.claimShared(ctx, table, key, server, "")
		return actual, old, err
	}
	if left < s.timeout-s.timeout/10 {
		live, err := s.shared.Touch(ctx, table, key, s.timeout)
		if err != nil {
			return server, left, err
		}
		if live && s.maxAge == 0 {
			left = s.timeout
		}
	}
	return server, left, nil
}

// claim binds a client that is not bound, or is bound to instead, to server,
// and returns the server that it is bound to afterwards.
func (s *sessions[K]) claim(r *http.Request, target string, key K, server, instead string) (bound string, err error) {
	t := s.target(target)
	if s.shared != nil {
		return s.claimShared(r.Context(), t.name, s.text(key), server, instead)
	}
	owned := ""
	for {
		now := t.tableFor(key)
		found, _, ok := now.table.Peek(key)
		if bound, err = found, nil; !ok || found == instead {
			if owned == "" {
				owned = strings.Clone(server)
			}
			bound, err = s.claimIn(now.table, key, owned, instead)
		}
		if t.current.Load() == now {
			return bound, err
		}
	}
}

func (s *sessions[K]) claimIn(table *Table[K, string], key K, server, instead string) (bound string, err error) {
	if s.maxAge > 0 {
		bound, _ = claimIdle(table, key, server, instead, s.timeout, s.maxAge)
	} else {
		bound, _ = Claim(table, key, server, instead, s.timeout)
	}
	if bound == "" {
		return server, ErrRefused
	}
	return bound, nil
}

func (s *sessions[K]) claimShared(ctx context.Context, table, key, server, instead string) (bound string, err error) {
	bound, _, err = s.shared.Claim(ctx, table, key, server, instead, s.timeout)
	switch {
	case err != nil:
		return server, err
	case bound == "":
		return server, ErrRefused
	case s.maxAge > 0 && bound == server:
		return bound, stored(s.shared.(idleSessions).PutIdle(ctx, table, key, server, s.timeout, s.maxAge))
	}
	return bound, nil
}

// renew renews the binding of a client, and binds it to server if it is not
// bound.
func (s *sessions[K]) renew(r *http.Request, target string, key K, server string) error {
	if s.shared != nil {
		bound, _, err := s.findShared(r.Context(), target, s.target(target).name, s.text(key))
		if bound != "" || err != nil {
			return err
		}
	} else if s.touch(s.target(target), key) {
		return nil // as nearly always
	}
	_, err := s.claim(r, target, key, server, "")
	return err
}

// touch renews the binding of a client in memory, and reports whether there is
// one.
func (s *sessions[K]) touch(t *target[K], key K) (ok bool) {
	for {
		now := t.tableFor(key)
		ok = now.table.Touch(key, s.timeout)
		if t.current.Load() == now {
			return ok
		}
	}
}

// stored returns err, or the error that a value was not stored.
func stored(ok bool, err error) error {
	if err == nil && !ok {
		return ErrRefused
	}
	return err
}

// put binds a client to server, whatever it was bound to.
func (s *sessions[K]) put(r *http.Request, target string, key K, server string) error {
	t := s.target(target)
	if s.shared != nil {
		ctx, key := r.Context(), s.text(key)
		if bound, _, err := s.findShared(ctx, target, t.name, key); err == nil && bound == server {
			return nil
		}
		if s.maxAge > 0 {
			return stored(s.shared.(idleSessions).PutIdle(ctx, t.name, key, server, s.timeout, s.maxAge))
		}
		return stored(s.shared.Put(ctx, t.name, key, server, s.timeout))
	}
	owned := ""
	for {
		now := t.tableFor(key)
		if bound, _, ok := now.table.Peek(key); !ok || bound != server || !now.table.Touch(key, s.timeout) {
			if owned == "" {
				owned = strings.Clone(server)
			}
			if s.maxAge > 0 {
				ok = now.table.PutIdle(key, owned, s.timeout, s.maxAge)
			} else {
				ok = now.table.Put(key, owned, s.timeout)
			}
			if !ok {
				return ErrRefused
			}
		}
		if t.current.Load() == now {
			return nil
		}
	}
}

// keep renews the binding of a client, if there is one.
func (s *sessions[K]) keep(r *http.Request, target string, key K) error {
	t := s.target(target)
	if s.shared != nil {
		_, err := s.shared.Touch(r.Context(), t.name, s.text(key), s.timeout)
		return err
	}
	s.touch(t, key)
	return nil
}

// forget removes the binding of a client.
func (s *sessions[K]) forget(r *http.Request, target string, key K) error {
	t := s.target(target)
	if s.shared != nil {
		return s.shared.Remove(r.Context(), t.name, s.text(key))
	}
	for {
		now := t.tableFor(key)
		now.table.Remove(key)
		if t.current.Load() == now {
			return nil
		}
	}
}

// count returns how many clients of a target are bound to the servers, or to
// any server if none is given.
func (s *sessions[K]) count(ctx context.Context, target string, servers []string) (n int, err error) {
	t := s.target(target)
	var counts map[string]int
	if s.shared == nil {
		counts = t.countByValue()
	} else {
		counter, ok := s.shared.(interface {
			CountByValue(ctx context.Context, table string) (map[string]int, error)
		})
		if !ok {
			return 0, fmt.Errorf("persistence: counting clients: %w", errors.ErrUnsupported)
		}
		if counts, err = counter.CountByValue(ctx, t.name); err != nil {
			return 0, err
		}
	}
	if len(servers) == 0 {
		for _, m := range counts {
			n += m
		}
	}
	for _, server := range servers {
		n += counts[server]
	}
	return n, nil
}

// source returns where bindings are found, "" if that depends on the store.
func (s *sessions[K]) source() Source {
	if _, ok := s.shared.(*Store); ok || s.shared == nil {
		return FromMemory
	}
	return ""
}

// stats returns the sum of the counters of the tables in memory.
func (s *sessions[K]) stats() (sum Stats) {
	for _, t := range *s.targets.Load() {
		if now := t.current.Load(); now != nil {
			sum.add(now.table.Stats())
		}
	}
	return sum
}

// adopt takes over the tables that old has for targets, or for all if none is
// named, and reports whether it could. Both use the same tables afterwards.
func (s *sessions[K]) adopt(old *sessions[K], targets []string) bool {
	if s.shared != nil || old.shared != nil {
		return s.name == old.name && sameSessions(s.shared, old.shared)
	}
	if len(targets) == 0 {
		targets = slices.Collect(maps.Keys(*old.targets.Load()))
	}
	for _, name := range targets {
		if t := old.target(name); s.take(name, t) {
			t.rebuild(s.bounds(), s.make)
		}
	}
	return true
}

// take uses t as the target of that name, unless there is one with clients.
func (s *sessions[K]) take(name string, t *target[K]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	targets := *s.targets.Load()
	own := targets[name]
	switch {
	case own == t:
		return true
	case own != nil && own.current.Load().table.Len() > 0: // adopted from another
		return false
	}
	more := maps.Clone(targets)
	more[strings.Clone(name)] = t
	s.targets.Store(&more)
	return true
}

// sameSessions reports whether now has the entries of old, or can adopt them.
func sameSessions(now, old Sessions) bool {
	if store, ok := now.(*Store); ok {
		before, ok := old.(*Store)
		return ok && (store.tables == before.tables || store.Adopt(before))
	}
	return now != nil && old != nil && reflect.TypeOf(now) == reflect.TypeOf(old) && reflect.TypeOf(now).Comparable() && now == old
}
