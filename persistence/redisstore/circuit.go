package redisstore

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/limpetlb/limpet/persistence"
)

// Attempts to reach a server that is down.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second

	// returning bounds how long what was stored in memory is given to the server before calls go there again.
	returning = 2 * time.Second
	// returners is how many calls do that at a time.
	returners = 32
)

// A circuit is closed, with a link to the server, or open, with a local store and the cause.
type circuit struct {
	link  *link
	local *persistence.Store
	cause error
	since time.Time
	first chan struct{} // until the first attempt has ended, which closes it
}

// current returns the circuit. The first calls of a store make it connect, and wait for that as long as for an answer.
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
	s.connecting.Go(func() { s.connect(0, nil) })
	return begun
}

// lost opens the circuit, unless that has been done: a call got no answer, or one that says that the server does not work.
func (s *Store) lost(c *circuit, cause error) {
	s.mu.Lock()
	opened := &circuit{local: persistence.NewStore(s.config.Options), cause: cause, since: time.Now()}
	if s.closed || !s.circuit.CompareAndSwap(c, opened) {
		s.mu.Unlock()
		return
	}
	s.opened.Add(1)
	s.connecting.Go(func() { s.connect(firstPause, c.link) })
	s.mu.Unlock()
	c.link.cut() // whatever comes late finds nobody
	if s.near != nil {
		s.near.invalidate(nil)
	}
	s.config.Logger.LogAttrs(context.Background(), slog.LevelWarn, "persistence store lost", slog.String("prefix", s.config.Prefix), slog.Any("error", cause))
}

// connect tries to reach the server until it works, and closes the circuit then. old is the link before.
func (s *Store) connect(pause time.Duration, old *link) {
	if old != nil {
		old.close()
	}
	for {
		if pause > 0 && !s.sleep(pause/2+rand.N(pause)) {
			return
		}
		pause = min(max(2*pause, firstPause), lastPause)
		err := s.attempt()
		if err == nil {
			return
		}
		s.mu.Lock()
		if c := s.circuit.Load(); c.local != nil {
			s.circuit.Store(&circuit{local: c.local, cause: err, since: c.since})
			if c.first != nil {
				close(c.first)
			}
		}
		s.mu.Unlock()
	}
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

// attempt connects, has the server do a look-up in time, gives it what is stored in memory, and closes the circuit.
func (s *Store) attempt() error {
	l := &link{}
	stop := context.AfterFunc(s.closing, l.cut)
	defer stop()
	if err := l.connect(s.config, s.near); err != nil {
		return err
	}
	err := s.probe(l)
	if err == nil {
		err = s.giveBack(l, s.circuit.Load().local)
	}
	if err != nil {
		l.close()
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		l.close()
		return ErrClosed
	}
	before := s.circuit.Load()
	s.circuit.Store(&circuit{link: l, since: time.Now()})
	if before.first != nil {
		close(before.first)
	}
	s.mu.Unlock()
	s.config.Logger.LogAttrs(context.Background(), slog.LevelInfo, "persistence store found", slog.String("prefix", s.config.Prefix),
		slog.Duration("after", time.Since(before.since)))
	return nil
}

// probe makes a call that changes nothing. The second one counts: the first one may have had to bring the script.
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

// giveBack stores the entries of a local store on the server, where they are not live.
func (s *Store) giveBack(l *link, local *persistence.Store) error {
	ctx, cancel := context.WithTimeout(s.closing, returning)
	defer cancel()
	type entry struct {
		table, key, value string
		left              time.Duration
	}
	entries := make(chan entry)
	var workers sync.WaitGroup
	var failed error
	var once sync.Once
	for range returners {
		workers.Go(func() {
			for e := range entries {
				args := s.arguments("store", append([]string{"add", e.value, micros(e.left), "0"}, s.bounds()...)...)
				_, err := l.run(ctx, storing, s.names(e.table, e.key), args, s.calls.Add(1))
				switch {
				case err == nil:
					s.returned.Add(1)
				case isForeign(err), isOOM(err):
				case ctx.Err() == nil:
					once.Do(func() { failed = err })
					cancel()
				}
			}
		})
	}
feed:
	for _, table := range local.Tables() {
		for key, e := range local.All(table) {
			select {
			case entries <- entry{table, key, e.Value, e.Remaining}:
			case <-ctx.Done():
				break feed
			}
		}
	}
	close(entries)
	workers.Wait()
	return failed
}

// isForeign reports whether the server says that a key has another type.
func isForeign(err error) bool { return hasPrefix(err, "WRONGTYPE") }

// isOOM reports whether the server refuses to store because it has no memory left.
func isOOM(err error) bool { return hasPrefix(err, "OOM") }

func hasPrefix(err error, prefix string) bool {
	var e *rueidis.RedisError
	return errors.As(err, &e) && strings.HasPrefix(e.Error(), prefix)
}
