package redisstore

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/limpetlb/limpet/persistence"
)

// Attempts to reach a server that is down.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second

	// writeBackTimeout bounds the time for writing entries in memory back to
	// the server before calls go there again.
	writeBackTimeout = 2 * time.Second
	// writeBackWorkers is how many calls do that at a time.
	writeBackWorkers = 32

	// settled is how long the server must have worked before an error that it
	// answers is worth a quick attempt.
	settled = 10 * time.Second
)

// A circuit is closed, with a link to the server, or open, with a local store
// and the cause.
type circuit struct {
	link  *link
	local *localStore
	cause error
	since time.Time
	first chan struct{} // until the first attempt has ended, which closes it
}

// A localStore has the tables in memory while the circuit is open. For each
// call it first copies the value of the key from the near cache.
type localStore struct {
	*persistence.Store
	number uint64   // starts at 1
	copies sync.Map // of nearKey: entries that other instances may have changed, and that were not stored, claimed or touched here
}

func (s *Store) newLocalStore() *localStore {
	return &localStore{Store: persistence.NewStore(s.config.Options), number: s.localStores.Add(1)}
}

// copyFromNear stores a value of the near cache, unless the key is live.
func (m *localStore) copyFromNear(table, key, value string, left time.Duration, changed bool) {
	ctx := context.Background()
	if _, _, live, err := m.Lookup(ctx, table, key, 0); live || err != nil {
		return
	}
	if changed {
		m.copies.Store(nearKey{strings.Clone(table), strings.Clone(key)}, nil)
	}
	_, _ = m.Insert(ctx, table, key, value, left)
}

// current returns the circuit. The first calls of a store make it connect, and
// wait for that as long as for an answer.
func (s *Store) current(ctx context.Context) *circuit {
	c := s.circuit.Load()
	if c.first == nil {
		return c
	}
	wait := c.since.Add(s.config.Timeout)
	if c.since.IsZero() {
		if c = s.begin(c); c.first == nil {
			return c
		}
		wait = c.since.Add(s.config.Timeout)
	}
	if left := time.Until(wait); left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-c.first:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return s.circuit.Load()
}

// begin starts the first attempt to connect.
func (s *Store) begin(c *circuit) *circuit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.circuit.Load() != c || s.closed {
		return s.circuit.Load()
	}
	begun := &circuit{local: c.local, cause: c.cause, since: time.Now(), first: c.first}
	s.circuit.Store(begun)
	s.connecting.Go(func() { s.connect(0, nil, begun.since) })
	return begun
}

// lost opens the circuit, unless it is open: a call got no answer, or one that
// says that the server does not work.
func (s *Store) lost(c *circuit, cause error) {
	now, pause := time.Now(), firstPause
	if now.Sub(c.since) < settled && isReply(cause) {
		pause = lastPause / 2 // the next call would get the same answer
	}
	cause = s.config.explained(cause)
	s.mu.Lock()
	opened := &circuit{local: s.newLocalStore(), cause: cause, since: now}
	if s.closed || !s.circuit.CompareAndSwap(c, opened) {
		s.mu.Unlock()
		return
	}
	s.opened.Add(1)
	s.outages.lost(cause)
	s.connecting.Go(func() { s.connect(pause, c.link, now) })
	s.mu.Unlock()
	c.link.cut() // late answers are dropped
	if s.near != nil {
		s.near.invalidate(nil)
	}
}

// connect tries to reach the server until it works, and then closes the
// circuit. old is the previous link.
func (s *Store) connect(pause time.Duration, old *link, since time.Time) {
	if old != nil {
		old.close()
	}
	for {
		if pause > 0 && !s.sleep(pause/2+rand.N(pause)) {
			return
		}
		pause = min(max(2*pause, firstPause), lastPause)
		err := s.attempt(since)
		if err == nil {
			return
		}
		now := time.Now()
		s.mu.Lock()
		var notes note
		if !s.closed {
			notes = s.outages.failed(now, since, err)
		}
		if c := s.circuit.Load(); c.local != nil {
			s.circuit.Store(&circuit{local: c.local, cause: err, since: c.since})
			if c.first != nil {
				close(c.first)
			}
		}
		s.mu.Unlock()
		s.logNote(notes)
	}
}

func (s *Store) log(level slog.Level, message string, attrs ...slog.Attr) {
	//nolint:sloglint // each caller has a constant
	s.config.Logger.LogAttrs(context.Background(), level, message, append([]slog.Attr{slog.String("prefix", s.config.Prefix)}, attrs...)...)
}

func (s *Store) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closing.Done():
		return false
	}
}

// attempt connects, makes a look-up, writes the entries in memory back, and
// closes the circuit.
func (s *Store) attempt(since time.Time) error {
	l := &link{}
	stop := context.AfterFunc(s.closing, l.cut)
	defer stop()
	if err := l.connect(s.config, s.near); err != nil {
		return s.config.unreachable(err)
	}
	back := writeBack{
		store: s, link: l, local: s.circuit.Load().local, seed: maphash.MakeSeed(), given: make(map[uint64]struct{}),
	}
	err := s.probe(l)
	if err == nil {
		err = back.run()
	}
	if err != nil {
		l.close()
		return s.config.unreachable(err)
	}
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.close()
		return ErrClosed
	}
	before := s.circuit.Load()
	s.circuit.Store(&circuit{link: l, since: now})
	if before.first != nil {
		close(before.first)
	}
	notes, begins := s.outages.found(now, since)
	s.mu.Unlock()
	if begins {
		s.connecting.Go(s.logShortOutages)
	}
	for _, n := range notes {
		s.logNote(n)
	}
	// Calls that began before the circuit was closed have stored more. Entries
	// left over from before are skipped: they may have been removed by now.
	if err = back.run(); err == nil && s.sleep(firstPause) {
		err = back.run()
	}
	if n := back.dropped; n > 0 && s.closing.Err() == nil {
		s.dropped.Add(n)
		attrs := []slog.Attr{slog.Uint64("entries", n)}
		if err != nil {
			attrs = append(attrs, slog.Any("error", s.config.explained(err)))
		}
		s.log(slog.LevelWarn, "persistence entries dropped", attrs...)
	}
	return nil
}

// probe makes a call that changes nothing. The result of the second one
// applies: the first may have had to load the script.
func (s *Store) probe(l *link) error {
	for range 2 {
		ctx, cancel := context.WithTimeout(s.closing, s.config.Timeout)
		_, err := l.run(ctx, saving, s.names("", ""), s.arguments("lookup", "0", "0", "0"), s.calls.Add(1))
		cancel()
		if err != nil && !isForeign(err) {
			return err
		}
	}
	return nil
}

// A writeBack writes the entries of a local store to the server, where they are
// not live, and caches what the server then has. Copies that may be older than
// the server's entries go to the near cache alone. It may run several times,
// and skips what it has done.
type writeBack struct {
	store   *Store
	link    *link
	local   *localStore
	seed    maphash.Seed
	given   map[uint64]struct{} // hashes of table, key and value
	again   bool                // it has run, and calls go to the server
	dropped uint64              // entries that the server refused, or that were left over
}

type localEntry struct {
	table, key, value string
	left              time.Duration
}

// run returns the error that ended it, except at writeBackTimeout, which bounds
// it.
func (h *writeBack) run() error {
	s := h.store
	ctx, cancel := context.WithTimeout(s.closing, writeBackTimeout)
	defer cancel()
	entries := make(chan localEntry)
	var workers sync.WaitGroup
	var failed error
	var once sync.Once
	var returned atomic.Uint64
	for range writeBackWorkers {
		workers.Go(func() {
			for e := range entries {
				args := s.arguments("store", append([]string{"add", e.value, micros(e.left), "0"}, s.bounds()...)...)
				near := s.nearOf(e.table)
				t := near.begin(e.table, e.key, true)
				a, err := h.link.run(ctx, storing, s.names(e.table, e.key), args, s.calls.Add(1))
				if h.learn(near, t, e, a, err); err != nil {
					h.keep(e.table, e.key)
				}
				switch {
				case err == nil && a.status == statusFound:
					returned.Add(1)
				case err == nil || isForeign(err) || isOOM(err):
				case ctx.Err() == nil:
					once.Do(func() { failed = err })
					cancel()
				}
			}
		})
	}
	found := uint64(0)
	tables, _ := h.local.Tables(ctx) // in memory: no error
	for _, table := range tables {
		for key, e := range h.local.All(table) {
			hash := maphash.Comparable(h.seed, [3]string{table, key, e.Value})
			if _, ok := h.given[hash]; ok {
				continue
			}
			if _, ok := h.local.copies.Load(nearKey{table, key}); ok {
				h.keep(table, key)
				continue
			}
			h.given[hash] = struct{}{}
			found++
			select {
			case entries <- localEntry{table, key, e.Value, e.Remaining}:
			case <-ctx.Done():
				h.keep(table, key)
			}
		}
	}
	close(entries)
	workers.Wait()
	s.returned.Add(returned.Load())
	h.dropped += found - returned.Load()
	h.again = true
	return failed
}

// learn caches the server's entry after an entry was written back.
func (h *writeBack) learn(near *nearCache, t ticket, e localEntry, a answer, err error) {
	f, value, left := unknown, "", int64(0)
	if err == nil && a.status == statusFound {
		if value, err = a.text(0); err == nil {
			left, err = a.number(1)
		}
		if err == nil {
			f = written // and so not served: its use may have to extend it
		}
	}
	near.end(t, e.table, e.key, f, value, time.Duration(left)*time.Microsecond)
}

// keep caches an entry that is not written back. Once calls go to the server,
// they know better.
func (h *writeBack) keep(table, key string) {
	if h.again {
		return
	}
	h.store.nearOf(table).keep(table, key, h.local.number, func() (string, time.Duration, bool) {
		value, left, ok, err := h.local.Lookup(context.Background(), table, key, 0)
		return value, left, ok && err == nil
	})
}

// isForeign reports whether the server says that a key has another type.
func isForeign(err error) bool { return hasPrefix(err, "WRONGTYPE") }

// isOOM reports whether the server refuses to store because it has no memory
// left.
func isOOM(err error) bool { return hasPrefix(err, "OOM") }

// isReply reports whether the server has answered with an error.
func isReply(err error) bool {
	var e *rueidis.RedisError
	return errors.As(err, &e)
}

func hasPrefix(err error, prefix string) bool {
	var e *rueidis.RedisError
	return errors.As(err, &e) && strings.HasPrefix(e.Error(), prefix)
}
