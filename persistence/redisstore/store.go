package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/limpetlb/limpet/internal/histogram"
	"github.com/limpetlb/limpet/persistence"
)

// A Store has the persistence tables of one virtual service, on a server that
// its instances share. Its methods do the same as those of persistence.Store
// and may be called concurrently. Create one with [New], and close it.
//
// All methods take a context, which bounds the wait for the server in addition
// to [Config.Timeout], and return its error if it ends first. While the server
// is unavailable they follow [Config.WhenDown]; the error, if any, is then
// [ErrUnavailable]. A [*ForeignError] means that the server has something other
// than an entry under the name; [ErrClosed] means that the store has been
// closed. A call without an answer may have been executed, and may have been
// executed again in memory.
//
// Unlike tables in memory, a look-up does not report that an entry has expired:
// it is missing.
type Store struct {
	config Config // with defaults
	near   *nearCache
	clock  func() int64 // in tests, the server's time in microseconds; nil: its own

	circuit atomic.Pointer[circuit]

	closing    context.Context // ends when the store is closed
	close      context.CancelFunc
	connecting sync.WaitGroup

	mu            sync.Mutex // guards changes of circuit
	closed        bool
	outages       outages  // outages to log
	outOfMemory   reminder // about the server's memory, and when it last refused an entry because it had none
	outOfMemoryAt time.Time
	sweeps        map[string]string // by table, where the next sweep begins

	localStores                                                            atomic.Uint64 // created so far
	calls, answered, nearHits, locals, failures, opened, returned, dropped atomic.Uint64
	refusedLifetime, refusedEntry, refusedFull                             atomic.Uint64
	counted                                                                histogram.Striped[callCounts]
}

// New returns a store that connects to its server at its first call. The error
// joins a [*FieldError] for each fault of c. A server that cannot be reached is
// not an error; see [Store.Ping]. The store runs goroutines from its first call
// until Close.
func New(c Config) (*Store, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{config: c, sweeps: make(map[string]string)}
	if c.NearEntries > 0 {
		s.near = newNearCache(c.Prefix, c.Options, c.NearEntries, c.NearAge)
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.circuit.Store(&circuit{local: s.newLocalStore(), cause: errNotConnected, first: make(chan struct{})})
	return s, nil
}

// Close drops the connections and waits until the goroutines of the store have
// ended, except one that ends within a second if the server is a cluster.
// Waiting calls end; later ones return [ErrClosed]. Close may be called more
// than once; the error is always nil.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.close()
	c := s.circuit.Load()
	if c.link != nil {
		s.circuit.Store(&circuit{local: s.newLocalStore(), cause: ErrClosed, since: time.Now()})
	}
	s.mu.Unlock()
	if c.link != nil {
		c.link.close()
	}
	s.connecting.Wait()
	return nil
}

// Ping returns nil if the server is available, and otherwise the reason. The
// first call connects, and waits for at most [Config.Timeout].
func (s *Store) Ping(ctx context.Context) error {
	_, _, err := s.ask(ctx, &call{script: saving, verb: "lookup", value: -1, args: []string{"0", "0", "0"}, must: true})
	if foreign := (*ForeignError)(nil); errors.As(err, &foreign) {
		return nil
	}
	return err
}

// Insert stores value under key in the table for lifetime; a live key keeps its
// value and starts the new lifetime. It returns false, and changes nothing, if
// lifetime is zero or negative, a string is longer than the options allow, the
// table is full and refuses new keys, or the server has no memory.
func (s *Store) Insert(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	_, left, _, local, err := s.store(ctx, "insert", table, key, value, lifetime, 0)
	if local != nil {
		return local.Insert(ctx, table, key, value, lifetime)
	}
	return left > 0, err
}

// LookupOrInsert is Insert that also returns the value of key afterwards and
// its remaining lifetime. If found is false and remaining is zero, the value
// was refused.
func (s *Store) LookupOrInsert(ctx context.Context, table, key, value string, lifetime time.Duration) (actual string, remaining time.Duration, found bool, err error) {
	actual, remaining, found, local, err := s.store(ctx, "insert", table, key, value, lifetime, 0)
	if local != nil {
		return local.LookupOrInsert(ctx, table, key, value, lifetime)
	}
	return actual, remaining, found, err
}

// Put stores value under key in the table for lifetime whether or not key is
// live. It returns false in the same cases as [Store.Insert].
func (s *Store) Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	_, left, _, local, err := s.store(ctx, "put", table, key, value, lifetime, 0)
	if local != nil {
		return local.Put(ctx, table, key, value, lifetime)
	}
	return left > 0, err
}

// PutIdle stores value under key in the table, whether or not key is live,
// until it has not been used for idle, and no longer than atMost. Look-ups of
// such an entry always go to the server. PutIdle returns false in the same
// cases as [Store.Insert].
func (s *Store) PutIdle(ctx context.Context, table, key, value string, idle, atMost time.Duration) (bool, error) {
	if idle <= 0 {
		atMost = 0 // refused
	}
	_, left, _, local, err := s.store(ctx, "put", table, key, value, atMost, idle)
	if local != nil {
		return local.PutIdle(ctx, table, key, value, idle, atMost)
	}
	return left > 0, err
}

// Lookup returns the value of key in the table and its remaining lifetime after
// extending it by extend. Zero and negative extend nothing. See
// [Config.MinExtension] for look-ups that the near cache may answer.
func (s *Store) Lookup(ctx context.Context, table, key string, extend time.Duration) (value string, remaining time.Duration, ok bool, err error) {
	value, remaining, ok, local, err := s.lookup(ctx, table, key, extend, true)
	if local != nil {
		return local.Lookup(ctx, table, key, extend)
	}
	return value, remaining, ok, err
}

// Refresh extends the lifetime of key in the table by extend, like Lookup, and
// reports whether key is live.
func (s *Store) Refresh(ctx context.Context, table, key string, extend time.Duration) (bool, error) {
	_, _, ok, local, err := s.lookup(ctx, table, key, extend, false)
	if local != nil {
		return local.Refresh(ctx, table, key, extend)
	}
	return ok, err
}

// Touch gives key in the table a new lifetime, shorter or longer than before,
// and reports whether key is live. It returns false, and changes nothing, if
// lifetime is zero or negative.
func (s *Store) Touch(ctx context.Context, table, key string, lifetime time.Duration) (bool, error) {
	if !s.fits(table, key, "") {
		return false, nil
	}
	granted := s.grant(lifetime)
	if granted == 0 {
		return false, nil
	}
	a, local, err := s.ask(ctx, &call{
		script: saving, verb: "touch", table: table, key: key, writes: true, value: 0, left: 1, args: []string{micros(granted)},
	})
	if local != nil {
		return local.Touch(ctx, table, key, lifetime)
	}
	return a.status == statusFound, err
}

// Remove removes key from the table. A missing key is no error.
func (s *Store) Remove(ctx context.Context, table, key string) error {
	if len(table) > s.config.Options.MaxKeyBytes || len(key) > s.config.Options.MaxKeyBytes {
		return nil
	}
	_, local, err := s.ask(ctx, &call{script: saving, verb: "remove", table: table, key: key, writes: true, value: -1})
	if local != nil {
		err = local.Remove(ctx, table, key)
		s.near.forget(table, key)
		return err
	}
	return err
}

// Claim stores value under key in the table for lifetime if key is not live, or
// if its live value is instead; "" as instead replaces nothing. It returns the
// value of key afterwards and its remaining lifetime. Of concurrent calls, also
// of other instances, one stores its value and all return it. A value that is
// found keeps its lifetime. If actual is empty and remaining is zero, value was
// refused, as by [Store.Insert]. Claim always asks the server.
//
// A value claimed in memory is written back to the server after the outage
// unless the key is live there: the first instance to write it back determines
// the value, and the others adopt it.
func (s *Store) Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (actual string, remaining time.Duration, err error) {
	if !s.fits(table, key, value) {
		return "", 0, nil
	}
	granted := s.grant(lifetime)
	if granted == 0 {
		return "", 0, nil
	}
	if len(instead) > s.config.Options.MaxValueBytes {
		instead = "" // no key has it
	}
	a, local, err := s.ask(ctx, &call{
		script: storing, verb: "claim", table: table, key: key, writes: true, value: 0, left: 1, looks: true,
		args: append([]string{value, micros(granted), instead}, s.bounds()...),
	})
	if local != nil {
		return local.Claim(ctx, table, key, value, instead, lifetime)
	}
	if err != nil || a.status != statusFound {
		return "", 0, err
	}
	actual, err = a.text(0)
	n, err2 := a.number(1)
	return actual, time.Duration(n) * time.Microsecond, errors.Join(err, err2)
}

// CompareAndSwap replaces the value of key in the table by new if key is live
// and its value is old, and reports whether it did. The lifetime does not
// change. It also returns false if new is longer than the options allow, or the
// server has no memory.
func (s *Store) CompareAndSwap(ctx context.Context, table, key, old, new string) (bool, error) {
	if !s.fits(table, key, new) {
		return false, nil
	}
	a, local, err := s.ask(ctx, &call{
		script: storing, verb: "swap", table: table, key: key, writes: true, value: 0, left: 1, keeps: true, args: []string{old, new},
	})
	if local != nil {
		return local.CompareAndSwap(ctx, table, key, old, new)
	}
	return a.status == statusFound, err
}

// Increment adds delta, which may be negative, to the number under key in the
// table and returns the sum. A sum outside the range of int64 becomes the end
// of the range. Values are decimal numbers, as [strconv.FormatInt] formats
// them. A live key keeps its lifetime; another is stored with delta for
// lifetime. Increment returns false, and changes nothing, if the value of key
// is not a decimal int64, and in the same cases as [Store.Insert].
func (s *Store) Increment(ctx context.Context, table, key string, delta int64, lifetime time.Duration) (sum int64, ok bool, err error) {
	if !s.fits(table, key, "") {
		return 0, false, nil
	}
	granted := time.Duration(0)
	if lifetime > 0 { // else only a live key counts
		granted = s.grant(lifetime)
	}
	args := append([]string{strconv.FormatInt(delta, 10), micros(granted), strconv.Itoa(s.config.Options.MaxValueBytes)}, s.bounds()...)
	a, local, err := s.ask(ctx, &call{
		script: storing, verb: "increment", table: table, key: key, writes: true, value: 0, left: 1, keeps: true, args: args,
	})
	if local != nil {
		return local.Increment(ctx, table, key, delta, lifetime)
	}
	if err != nil || a.status != statusFound {
		return 0, false, err
	}
	text, err := a.text(0)
	if err == nil {
		sum, err = strconv.ParseInt(text, 10, 64)
	}
	return sum, err == nil, err
}

// store makes a call of verb store. left is zero if value was refused.
func (s *Store) store(ctx context.Context, how, table, key, value string, lifetime, idle time.Duration) (actual string, left time.Duration, found bool, local *persistence.Store, err error) {
	if !s.fits(table, key, value) {
		return "", 0, false, nil, nil
	}
	granted := s.grant(lifetime)
	if granted == 0 {
		return "", 0, false, nil, nil
	}
	if idle > 0 {
		idle = s.grant(idle)
	}
	args := append([]string{how, value, micros(granted), micros(idle)}, s.bounds()...)
	a, local, err := s.ask(ctx, &call{
		script: storing, verb: "store", table: table, key: key, writes: true, value: 0, left: 1, args: args,
	})
	if local != nil || err != nil || a.status != statusFound {
		return "", 0, false, local, err
	}
	actual, err = a.text(0)
	n, err2 := a.number(1)
	was, err3 := a.number(2)
	return actual, time.Duration(n) * time.Microsecond, was == 1, nil, errors.Join(err, err2, err3)
}

// lookup makes a call of verb lookup, unless the near cache has the answer.
func (s *Store) lookup(ctx context.Context, table, key string, extend time.Duration, wanted bool) (value string, left time.Duration, ok bool, local *persistence.Store, err error) {
	o := &s.config.Options
	if len(table) > o.MaxKeyBytes || len(key) > o.MaxKeyBytes {
		return "", 0, false, nil, nil
	}
	if value, left, ok := s.nearOf(table).lookup(table, key); ok && s.gain(left, extend) <= s.config.MinExtension {
		s.nearHits.Add(1)
		s.counted.Own().add("lookup", resultNear)
		persistence.NoteSource(ctx, persistence.FromNear)
		return value, left, true, nil, nil
	}
	extend = min(max(extend, 0), o.MaxLifetime)
	returns := "0"
	if wanted || s.nearOf(table) != nil {
		returns = "1"
	}
	c := &call{
		script: saving, verb: "lookup", table: table, key: key, writes: extend > 0, value: 0, left: 1, looks: true,
		args: []string{micros(extend), micros(s.config.MinExtension), returns},
	}
	a, local, err := s.ask(ctx, c)
	if local != nil {
		persistence.NoteSource(ctx, persistence.FromLocal)
	}
	if local != nil || err != nil || a.status != statusFound {
		return "", 0, false, local, err
	}
	persistence.NoteSource(ctx, persistence.FromStore)
	value, err = a.text(0)
	n, err2 := a.number(1)
	return value, time.Duration(n) * time.Microsecond, true, nil, errors.Join(err, err2)
}

// gain returns by how much an extension by extend would lengthen the remaining
// lifetime left.
func (s *Store) gain(left, extend time.Duration) time.Duration {
	longest := s.config.Options.MaxLifetime
	switch {
	case extend <= 0:
		return 0
	case s.config.Options.Sliding:
		return max(0, min(extend, longest)-left)
	}
	return max(0, min(extend, longest-left))
}

// A call is a call of the script.
type call struct {
	script     *rueidis.Lua
	verb       string
	table, key string
	args       []string

	writes bool // whether the entry may change
	looks  bool // whether the third field says if it has
	keeps  bool // whether an entry that is not found stays as it is
	value  int  // the field of the answer with the entry's value; -1: none
	left   int  // the field with the remaining lifetime
	must   bool // whether the server has to answer
}

// ask sends a call to the server, and counts it. If the server is unavailable,
// ask returns the local store that answers instead, or an error.
func (s *Store) ask(ctx context.Context, c *call) (answer, *persistence.Store, error) {
	a, local, err := s.send(ctx, c)
	s.counted.Own().add(c.verb, resultOf(local, err))
	return a, local, err
}

func (s *Store) send(ctx context.Context, c *call) (answer, *persistence.Store, error) {
	if err := ctx.Err(); err != nil && c.must {
		return answer{}, nil, err
	}
	now := s.current(ctx)
	if now.link == nil {
		return s.instead(c, now)
	}
	near := s.nearOf(c.table)
	t := near.begin(c.table, c.key, c.writes)
	bounded, cancel := context.WithTimeout(ctx, s.config.Timeout)
	begun := time.Now()
	a, err := now.link.run(bounded, c.script, s.names(c.table, c.key), s.arguments(c.verb, c.args...), s.calls.Add(1))
	cancel()
	s.counted.Own().duration.Observe(time.Since(begun))
	if err == nil && a.status > statusForeign {
		s.answered.Add(1)
		return a, nil, s.learn(near, t, c, a)
	}
	if c.verb == "remove" {
		near.end(t, c.table, c.key, absent, "", 0) // even if the server did not get the call: the near cache must not restore it
	} else {
		near.end(t, c.table, c.key, unknown, "", 0)
	}
	foreign := &ForeignError{Table: c.table, Key: c.key, Name: name(s.config.Prefix, c.table, entryKind, c.key)}
	switch {
	case err == nil && a.status == statusLarge:
		foreign.Detail = "the value is longer than 1 MiB"
		return answer{}, nil, foreign
	case err == nil:
		foreign.Detail = "the hash is not an entry"
		return answer{}, nil, foreign
	case isForeign(err):
		foreign.Detail = "the server has another type of value there"
		return answer{}, nil, foreign
	case isOOM(err):
		s.refusedFull.Add(1)
		s.warnOfMemory(err)
		return answer{}, nil, nil
	case ctx.Err() != nil:
		return answer{}, nil, fmt.Errorf("redisstore: table %.100q: %w", c.table, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		err = errTimeout
	}
	s.failures.Add(1)
	s.lost(now, err)
	if open := s.circuit.Load(); open.link == nil {
		return s.instead(c, open)
	}
	// It is back already, but a second call might repeat a change.
	return s.instead(c, &circuit{local: s.newLocalStore(), cause: s.config.explained(err)})
}

// learn updates the near cache from an answer about an entry.
func (s *Store) learn(near *nearCache, t ticket, c *call, a answer) error {
	f, value, left := absent, "", int64(0)
	switch {
	case a.status == statusRefused:
		s.refusedFull.Add(1)
	case c.verb == "drop" && a.status == statusFound: // it is absent now
	case a.status == statusNone && c.keeps, c.value < 0 && c.verb != "remove":
		f = unknown
	case a.status == statusFound && c.value >= 0:
		var err error
		if value, err = a.text(c.value); err == nil {
			left, err = a.number(c.left)
		}
		renewed, idles := int64(1), int64(0)
		if c.looks && err == nil {
			if renewed, err = a.number(2); err == nil {
				idles, err = a.number(3)
			}
		}
		if err != nil {
			near.end(t, c.table, c.key, unknown, "", 0)
			return fmt.Errorf("redisstore: %w", err)
		}
		f = written
		if renewed == 0 && idles == 0 {
			f = read
		}
	}
	near.end(t, c.table, c.key, f, value, time.Duration(left)*time.Microsecond)
	return nil
}

// instead returns the local store that answers while the circuit is open, after
// copying to it the value of the entry that the instance saw last, or an error.
func (s *Store) instead(c *call, open *circuit) (answer, *persistence.Store, error) {
	if s.closing.Err() != nil {
		return answer{}, nil, ErrClosed
	}
	if s.whenDown(c.table) == FailClosed || c.must || open.local == nil {
		return answer{}, nil, fmt.Errorf("redisstore: table %.100q: %w: %w", c.table, ErrUnavailable, open.cause)
	}
	s.locals.Add(1)
	if c.verb != "remove" {
		s.near.copyOut(c.table, c.key, open.local.number, func(value string, left time.Duration, changed bool) {
			open.local.copyFromNear(c.table, c.key, value, left, changed)
		})
	}
	switch {
	case c.script == storing, c.verb == "touch", c.verb == "remove":
		open.local.copies.Delete(nearKey{c.table, c.key})
	}
	return answer{}, open.local.Store, nil
}

// warnOfMemory logs that the server has no memory for new entries.
func (s *Store) warnOfMemory(err error) {
	now := time.Now()
	s.mu.Lock()
	if now.Sub(s.outOfMemoryAt) >= time.Minute {
		s.outOfMemory = reminder{}
	}
	s.outOfMemoryAt = now
	due := s.outOfMemory.due(now)
	s.mu.Unlock()
	if due {
		s.log(slog.LevelWarn, "persistence store without memory", slog.Any("error", s.config.explained(err)))
	}
}

// whenDown returns the behaviour of calls for a table while the server is
// unavailable.
func (s *Store) whenDown(table string) WhenDown {
	if when, ok := s.config.TablesWhenDown[table]; ok {
		return when
	}
	return s.config.WhenDown
}

// nearOf returns the near cache for a table. A table that fails closed has
// none: each look-up asks the server.
func (s *Store) nearOf(table string) *nearCache {
	if s.near == nil || s.whenDown(table) == FailClosed {
		return nil
	}
	return s.near
}

// fits reports whether the strings are within the bounds of the options.
func (s *Store) fits(table, key, value string) bool {
	o := &s.config.Options
	if len(table) > o.MaxKeyBytes || len(key) > o.MaxKeyBytes || len(value) > o.MaxValueBytes {
		s.refusedEntry.Add(1)
		return false
	}
	return true
}

// grant returns the lifetime of an entry, zero if it is refused.
func (s *Store) grant(d time.Duration) time.Duration {
	if d <= 0 {
		s.refusedLifetime.Add(1)
		return 0
	}
	return min(max(d, s.config.Options.MinLifetime), s.config.Options.MaxLifetime)
}

// names returns the names of the keys that the script uses.
func (s *Store) names(table, key string) []string {
	p := s.config.Prefix
	return []string{name(p, table, entryKind, key), name(p, table, indexKind, ""), name(p, table, countsKind, "")}
}

// arguments returns the arguments of the script, without the number of the
// call.
func (s *Store) arguments(verb string, args ...string) []string {
	now := ""
	if s.clock != nil {
		now = strconv.FormatInt(s.clock(), 10)
	}
	o := &s.config.Options
	return append([]string{"", now, verb, micros(o.MaxLifetime), strconv.Itoa(MaxValueBytes), digit(o.Sliding)}, args...)
}

// bounds returns the arguments that bound a table.
func (s *Store) bounds() []string {
	o := &s.config.Options
	return []string{strconv.Itoa(o.MaxEntries), digit(o.WhenFull == persistence.RefuseNew)}
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// micros returns d in microseconds, rounded up.
func micros(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Microsecond-1)/time.Microsecond), 10)
}
