package redisstore

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
)

// A board knows which value each key must have: the number of its last move.
// Moves of one key follow one another.
type board struct {
	t    *testing.T
	keys []boardKey
}

type boardKey struct {
	mu    sync.Mutex
	moved []time.Time // when the moves had been answered
}

func newBoard(t *testing.T, keys int) *board { return &board{t: t, keys: make([]boardKey, keys)} }

// move stores the next value of a key, as often as it takes.
func (b *board) move(ctx context.Context, s *Store, key int) {
	k := &b.keys[key]
	k.mu.Lock()
	defer k.mu.Unlock()
	value := strconv.Itoa(len(k.moved) + 1)
	for {
		ok, err := s.Put(ctx, "", strconv.Itoa(key), value, time.Hour)
		if ok && err == nil {
			break
		}
		if !errors.Is(err, ErrUnavailable) {
			b.t.Errorf("Put: %t, %v", ok, err)
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	k.moved = append(k.moved, time.Now())
}

// known returns how many moves of a key had been answered at a time.
func (b *board) known(key int, at time.Time) int {
	k := &b.keys[key]
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.moved)
	for n > 0 && k.moved[n-1].After(at) {
		n--
	}
	return n
}

// stale returns how many keys a store finds with an older value than the last
// one. All messages are past.
func (b *board) stale(ctx context.Context, s *Store) int {
	b.t.Helper()
	testwait.Until(b.t, "connection", func() bool { return s.Ping(ctx) == nil && s.Stats().Up })
	n := 0
	for key := range b.keys {
		value, _, _, err := s.Lookup(ctx, "", strconv.Itoa(key), 0)
		if err != nil {
			b.t.Fatal(err)
		}
		if got, _ := strconv.Atoi(value); got < len(b.keys[key].moved) {
			n++
		}
	}
	return n
}

// moves is how many values a test of the near cache changes: a million with
// -long.
func moves() int {
	switch {
	case *long:
		return 1_000_000
	case testing.Short():
		return 1_000
	}
	return 6_000
}

// Clients were sent to servers that they had left long ago, for the rest of the
// lifetime: the server had forgotten which keys an instance remembers, and did
// not tell the instance because it had caused that by its own look-ups.
func TestNothingStale(t *testing.T) {
	t.Parallel()
	for _, tt := range some([]struct {
		name    string
		server  []string
		config  Config
		stores  int
		keys    int
		disturb func(*redistest.Server) // now and then
		without bool                    // messages
	}{
		{"full table of tracked keys", []string{"--tracking-table-max-keys", "100"}, Config{NearAge: time.Hour}, 3, 2000, nil, false},
		{"many instances", []string{"--tracking-table-max-keys", "1000"}, Config{NearAge: time.Hour, NearEntries: 64}, 17, 1000, nil, false},
		{"broken connections", []string{"--tracking-table-max-keys", "100"}, Config{NearAge: time.Hour}, 3, 500, func(s *redistest.Server) {
			s.Command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}, false},
		{"lost messages", nil, Config{NearAge: 100 * time.Millisecond}, 3, 500, nil, true},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := redistest.Start(t, tt.server...)
			b := newBoard(t, tt.keys)
			tt.config.Addresses = []string{server.Addr}
			if tt.without {
				tt.config.Addresses[0] = withoutMessages(t, server.Addr)
			}
			stores := make([]*Store, tt.stores)
			for i := range stores {
				stores[i] = open(t, server, tt.config)
			}
			mover := open(t, server, Config{WhenDown: FailClosed})
			var left, old, hits atomic.Int64
			left.Store(int64(moves()))
			var disturbing sync.Mutex
			var wg sync.WaitGroup
			for worker := range max(8, tt.stores) {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(worker), 1))
					s := stores[worker%len(stores)]
					by := s
					if tt.disturb != nil {
						by = mover // an instance without a server stores in its memory
					}
					for left.Add(-1) >= 0 {
						b.move(ctx, by, rng.IntN(tt.keys))
						for range 3 {
							key := rng.IntN(tt.keys)
							at := time.Now().Add(-tt.config.NearAge)
							value, _, _, err := s.Lookup(ctx, "", strconv.Itoa(key), 0)
							if err != nil {
								t.Error(err)
								return
							}
							if got, _ := strconv.Atoi(value); by == s && got < b.known(key, at) {
								old.Add(1)
							}
						}
						if n := left.Load(); tt.disturb != nil && n%1000 == 999 {
							disturbing.Lock()
							tt.disturb(server)
							disturbing.Unlock()
						}
					}
				})
			}
			wg.Wait()
			if tt.without {
				<-time.After(tt.config.NearAge)
			}
			stale := 0
			for _, s := range stores {
				stale += b.stale(ctx, s)
				hits.Add(int64(s.Stats().NearHits))
			}
			t.Logf("%d moves, %d near hits, %d stale afterwards of %d, %d too old meanwhile", moves(), hits.Load(), stale, tt.stores*tt.keys, old.Load())
			if stale > 0 || old.Load() > 0 {
				t.Errorf("%d stale afterwards, %d too old meanwhile", stale, old.Load())
			}
			if hits.Load() == 0 {
				t.Error("the near cache has not taken part")
			}
		})
	}
}

// With all defaults the server's table of tracked keys was full from seventeen
// instances on, each of which looked up keys of its own. Here all figures are a
// hundredth of that, but for -long and -short.
func TestNothingStaleFromSeventeenInstances(t *testing.T) {
	const instances = 17
	part := 100
	if testing.Short() {
		part = 400
	}
	ctx, each := t.Context(), DefaultNearEntries/part
	c := Config{NearEntries: each, NearAge: time.Hour}
	args := []string{"--tracking-table-max-keys", strconv.Itoa(1_000_000 / part)}
	if *long {
		each, c, args = DefaultNearEntries, Config{}, nil
	}
	server := redistest.Start(t, args...)
	all := func(f func(n, i int)) {
		for n := range instances {
			var wg sync.WaitGroup
			for g := range 64 {
				wg.Go(func() {
					for i := g; i < each; i += 64 {
						f(n, i)
					}
				})
			}
			wg.Wait()
		}
	}
	mover := open(t, server, Config{NearEntries: -1})
	stores := make([]*Store, instances)
	for n := range stores {
		stores[n] = open(t, server, c)
	}
	put := func(value string) func(n, i int) {
		return func(n, i int) {
			if ok, err := mover.Put(ctx, strconv.Itoa(n), strconv.Itoa(i), value, time.Hour); !ok || err != nil {
				t.Error(ok, err)
			}
		}
	}
	var old atomic.Int64
	look := func(want string) func(n, i int) {
		return func(n, i int) {
			value, _, _, err := stores[n].Lookup(ctx, strconv.Itoa(n), strconv.Itoa(i), 0)
			if err != nil {
				t.Error(err)
			}
			if value != want {
				old.Add(1)
			}
		}
	}
	all(put("old"))
	all(look("old"))
	all(put("new"))
	for _, s := range stores {
		s.Ping(ctx) // the messages are past
	}
	all(look("new"))
	t.Logf("%d stale of %d", old.Load(), instances*each)
	if old.Load() > 0 {
		t.Errorf("%d stale of %d", old.Load(), instances*each)
	}
}

// What changes a whole database, or the server's place, must not leave old
// values behind.
func TestNothingStaleAfter(t *testing.T) {
	t.Parallel()
	const keys = 50
	const age = time.Second
	for _, tt := range some([]struct {
		name   string
		change func(t *testing.T, server *redistest.Server)
		want   string
	}{
		{"FLUSHALL", func(_ *testing.T, s *redistest.Server) { s.Command("FLUSHALL") }, ""},
		{"FLUSHDB ASYNC", func(_ *testing.T, s *redistest.Server) { s.Command("FLUSHDB", "ASYNC") }, ""},
		{"SWAPDB, without a message", func(_ *testing.T, s *redistest.Server) {
			s.Command("SWAPDB", "0", "1")
			<-time.After(age)
		}, ""},
		{"DEL", func(_ *testing.T, s *redistest.Server) {
			for i := range keys {
				s.Command("DEL", name(DefaultPrefix, "", entryKind, strconv.Itoa(i)))
			}
		}, ""},
		{"RENAME", func(_ *testing.T, s *redistest.Server) {
			for i := range keys {
				s.Command("RENAME", name(DefaultPrefix, "", entryKind, strconv.Itoa(i)), "elsewhere")
			}
		}, ""},
		{"RESTORE", func(_ *testing.T, s *redistest.Server) {
			s.Command("HSET", "template", "v", "new", "d", "9000000000000000")
			for i := range keys {
				s.Command("COPY", "template", name(DefaultPrefix, "", entryKind, strconv.Itoa(i)), "REPLACE")
			}
		}, "new"},
		{"expiry", func(_ *testing.T, s *redistest.Server) {
			for i := range keys {
				s.Command("PEXPIRE", name(DefaultPrefix, "", entryKind, strconv.Itoa(i)), "1")
			}
			<-time.After(5 * time.Millisecond)
		}, ""},
		{"resynchronisation", func(t *testing.T, s *redistest.Server) {
			// The server becomes a replica of an empty one, and a master again.
			other := redistest.Start(t, "--repl-diskless-sync-delay", "0")
			host, port, _ := net.SplitHostPort(other.Addr)
			s.Command("REPLICAOF", host, port)
			testwait.Until(t, "synchronisation", func() bool { return strings.Contains(s.Command("INFO", "replication"), "master_link_status:up") })
			s.Command("REPLICAOF", "NO", "ONE")
		}, ""},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := redistest.Start(t)
			c := Config{NearAge: time.Hour}
			if strings.HasPrefix(tt.name, "SWAPDB") {
				c.NearAge = age
			}
			s := open(t, server, c)
			for range 2 { // the message about the first may come late
				for i := range keys {
					s.Put(ctx, "", strconv.Itoa(i), "old", time.Hour)
				}
				s.Ping(ctx)
				for i := range keys {
					s.Lookup(ctx, "", strconv.Itoa(i), 0)
				}
			}
			before := s.Stats().NearHits
			for i := range keys {
				s.Lookup(ctx, "", strconv.Itoa(i), 0)
			}
			if hits := s.Stats().NearHits - before; hits != keys && c.NearAge > age {
				t.Fatalf("%d near hits of %d", hits, keys)
			}
			tt.change(t, server)
			testwait.Until(t, "connection", func() bool { return s.Ping(ctx) == nil })
			for i := range keys {
				if value, _, _, err := s.Lookup(ctx, "", strconv.Itoa(i), 0); value != tt.want || err != nil {
					t.Fatalf("key %d has %q, %v, want %q", i, value, err, tt.want)
				}
			}
		})
	}
}

// A demoted master: another server takes over while connections to the old one
// stay. What the new one is told must not be hidden by what the near cache
// remembers.
func TestNothingStaleAfterFailover(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	first, second := redistest.Start(t, "--repl-diskless-sync-delay", "0"), redistest.Start(t, "--repl-diskless-sync-delay", "0")
	follow := func(a, b *redistest.Server) {
		host, port, _ := net.SplitHostPort(b.Addr)
		a.Command("REPLICAOF", host, port)
		testwait.Until(t, "synchronisation", func() bool { return strings.Contains(a.Command("INFO", "replication"), "master_link_status:up") })
	}
	s := open(t, first, Config{})
	s.Put(ctx, "", "k", "old", time.Hour)
	follow(second, first)
	testwait.Until(t, "near hits", func() bool {
		before := s.Stats().NearHits
		s.Lookup(ctx, "", "k", 0)
		return s.Stats().NearHits > before
	})
	second.Command("REPLICAOF", "NO", "ONE")
	follow(first, second)
	other := open(t, second, Config{})
	other.Put(ctx, "", "k", "new", time.Hour)
	testwait.Until(t, "replication", func() bool {
		return strings.Contains(first.Command("HGET", name(DefaultPrefix, "", entryKind, "k"), "v"), "new")
	})
	testwait.Until(t, "message", func() bool {
		value, _, _, err := s.Lookup(ctx, "", "k", 0)
		up := s.Stats().Up // else the demoted server refuses to work, and the value is what this instance saw last
		return value != "old" || err != nil || !up
	})
	t.Logf("%v", s.Ping(ctx))
}

// Servers forget scripts: on SCRIPT FLUSH, on a restart, and some when they
// have too many. That must not look like a loss.
func TestForgottenScripts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	s := open(t, server, Config{})
	for i := range 200 {
		if i%20 == 0 {
			server.Command("SCRIPT", "FLUSH")
		}
		value := strconv.Itoa(i)
		if ok, err := s.Put(ctx, "", "k", value, time.Hour); !ok || err != nil {
			t.Errorf("Put: %t, %v", ok, err)
		}
		if got, _, _, err := s.Lookup(ctx, "", "k", 0); got != value || err != nil {
			t.Errorf("Lookup: %q, %v, want %q", got, err, value)
		}
	}
	if st := s.Stats(); !st.Up || st.Opened > 0 || st.Local > 0 {
		t.Errorf("%+v", st)
	}
}

// A caller may give up a write that the server carries out later. What was read
// in between must not stay.
func TestWriteGivenUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, direct := open(t, server, Config{NearAge: time.Hour}), open(t, server, Config{NearEntries: -1})
	ctx := t.Context()
	s.Put(ctx, "", "k", "before", time.Hour)
	done := 0
	for n := range 20 {
		value := strconv.Itoa(n)
		s.Lookup(ctx, "", "k", 0)
		server.Pause()
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		if _, err := s.Put(short, "", "k", value, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put: %v", err)
		}
		cancel()
		var wg sync.WaitGroup
		wg.Go(func() { s.Lookup(ctx, "", "k", 0) })
		server.Resume()
		wg.Wait()
		s.Ping(ctx)
		want, _, _, err := direct.Lookup(ctx, "", "k", 0)
		if err != nil {
			t.Fatal(err)
		}
		if want == value {
			done++
		}
		if got, _, _, err := s.Lookup(ctx, "", "k", 0); got != want || err != nil {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	if done == 0 {
		t.Error("the server has carried out none of the writes")
	}
}

// Look-ups of bans and logins that must not be wrong were answered from the
// near cache, for two seconds after the server had fallen silent.
func TestFailClosedAlwaysAsks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	for _, tt := range []struct {
		name   string
		config Config
		table  string
		near   bool
	}{
		{"all tables", Config{WhenDown: FailClosed}, "t", false},
		{"one table", Config{TablesWhenDown: map[string]WhenDown{"t": FailClosed}}, "t", false},
		{"another table", Config{TablesWhenDown: map[string]WhenDown{"t": FailClosed}}, "u", true},
		{"an exception", Config{WhenDown: FailClosed, TablesWhenDown: map[string]WhenDown{"u": FailOpen}}, "u", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Prefix = strings.ReplaceAll(tt.name, " ", "-")
			s := open(t, server, tt.config)
			s.Put(ctx, tt.table, "k", "v", time.Hour)
			s.Ping(ctx)
			for range 10 {
				if value, _, ok, err := s.Lookup(ctx, tt.table, "k", 0); value != "v" || !ok || err != nil {
					t.Errorf("%q, %t, %v", value, ok, err)
				}
			}
			if st := s.Stats(); (st.NearHits > 0) != tt.near || (st.NearEntries > 0) != tt.near {
				t.Errorf("%d near hits, %d near entries", st.NearHits, st.NearEntries)
			}
		})
	}
}

// An instance that stores a value and looks nothing up must still know it when
// the server goes. No message of the server makes it forget: most say that
// another instance has renewed the entry.
func TestOwnWritesAreRemembered(t *testing.T) {
	t.Parallel()
	for _, tt := range some([]struct {
		name string
		do   func(ctx context.Context, s, other *Store)
		want string
	}{
		{"Put", func(ctx context.Context, s, _ *Store) { s.Put(ctx, "", "k", "v", time.Hour) }, "v"},
		{"Put again", func(ctx context.Context, s, _ *Store) {
			s.Put(ctx, "", "k", "u", time.Hour)
			s.Ping(ctx)
			s.Put(ctx, "", "k", "v", time.Hour)
		}, "v"},
		{"Insert", func(ctx context.Context, s, _ *Store) { s.Insert(ctx, "", "k", "v", time.Hour) }, "v"},
		{"Claim", func(ctx context.Context, s, _ *Store) { s.Claim(ctx, "", "k", "v", "", time.Hour) }, "v"},
		{"Claim instead", func(ctx context.Context, s, _ *Store) {
			s.Claim(ctx, "", "k", "u", "", time.Hour)
			s.Ping(ctx)
			s.Claim(ctx, "", "k", "v", "u", time.Hour)
		}, "v"},
		{"Claim of another's", func(ctx context.Context, s, other *Store) {
			other.Put(ctx, "", "k", "v", time.Hour)
			s.Claim(ctx, "", "k", "u", "", time.Hour)
		}, "v"},
		{"Touch", func(ctx context.Context, s, other *Store) {
			other.Put(ctx, "", "k", "v", time.Hour)
			s.Touch(ctx, "", "k", time.Hour)
		}, "v"},
		{"CompareAndSwap", func(ctx context.Context, s, other *Store) {
			other.Put(ctx, "", "k", "u", time.Hour)
			s.CompareAndSwap(ctx, "", "k", "u", "v")
		}, "v"},
		{"Increment", func(ctx context.Context, s, _ *Store) {
			s.Increment(ctx, "", "k", 1, time.Hour)
			s.Ping(ctx)
			s.Increment(ctx, "", "k", 1, time.Hour)
		}, "2"},
		{"removed by another", func(ctx context.Context, s, other *Store) {
			s.Put(ctx, "", "k", "v", time.Hour)
			s.Ping(ctx)
			s.Lookup(ctx, "", "k", 0)
			other.Remove(ctx, "", "k")
		}, "v"},
		{"removed by another, which shows", func(ctx context.Context, s, other *Store) {
			s.Put(ctx, "", "k", "v", time.Hour)
			other.Remove(ctx, "", "k")
			s.Ping(ctx)
			s.Lookup(ctx, "", "k", 0)
		}, ""},
		{"renewed by another", func(ctx context.Context, s, other *Store) {
			s.Put(ctx, "", "k", "v", time.Hour)
			s.Ping(ctx)
			other.Touch(ctx, "", "k", 2*time.Hour)
		}, "v"},
		{"looked up, and renewed by another", func(ctx context.Context, s, other *Store) {
			other.Put(ctx, "", "k", "v", time.Hour)
			s.Lookup(ctx, "", "k", 0)
			other.Lookup(ctx, "", "k", time.Hour)
		}, "v"},
		{"moved by another", func(ctx context.Context, s, other *Store) {
			s.Claim(ctx, "", "k", "u", "", time.Hour)
			other.Claim(ctx, "", "k", "v", "u", time.Hour)
		}, "u"},
		{"moved by another, which shows", func(ctx context.Context, s, other *Store) {
			s.Claim(ctx, "", "k", "u", "", time.Hour)
			other.Claim(ctx, "", "k", "v", "u", time.Hour)
			s.Ping(ctx)
			s.Lookup(ctx, "", "k", 0)
		}, "v"},
		{"expired", func(ctx context.Context, s, other *Store) {
			s.Put(ctx, "", "k", "v", 300*time.Millisecond)
			s.Ping(ctx)
			other.Touch(ctx, "", "k", time.Hour)
			s.Ping(ctx)
			<-time.After(300 * time.Millisecond)
		}, ""},
		{"removed while it was remembered only", func(ctx context.Context, s, other *Store) {
			s.Put(ctx, "", "k", "v", time.Hour)
			other.Touch(ctx, "", "k", time.Hour)
			s.Ping(ctx)
			s.Remove(ctx, "", "k")
		}, ""},
		{"removed, but the caller gave up", func(ctx context.Context, s, _ *Store) {
			s.Put(ctx, "", "k", "v", time.Hour)
			given, cancel := context.WithCancel(ctx)
			cancel()
			s.Remove(given, "", "k")
		}, ""},
		{"of the empty name, with a count", func(ctx context.Context, s, _ *Store) {
			s.Put(ctx, "", "", "x", time.Hour)
			s.Put(ctx, "", "k", "v", time.Hour)
			s.CountByValue(ctx, "")
			s.Ping(ctx)
			if value, _, _, _ := s.Lookup(ctx, "", "", 0); value != "x" {
				s.Remove(ctx, "", "k")
			}
		}, "v"},
		{"removed", func(ctx context.Context, s, _ *Store) {
			s.Put(ctx, "", "k", "v", time.Hour)
			s.Remove(ctx, "", "k")
		}, ""},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := redistest.Start(t)
			s, other := open(t, server, Config{}), open(t, server, Config{})
			tt.do(ctx, s, other)
			s.Ping(ctx) // the messages about it are past
			server.Kill()
			testwait.Until(t, "loss", func() bool { return s.Ping(ctx) != nil })
			if value, _, _, err := s.Lookup(ctx, "", "k", 0); value != tt.want || err != nil {
				t.Errorf("%q, %v, want %q", value, err, tt.want)
			}
		})
	}
}

// withoutMessages forwards connections to a server and takes its messages out.
func withoutMessages(t *testing.T, upstream string) (addr string) {
	t.Helper()
	return relay(t, upstream, func(down io.Writer, up io.Reader) {
		r := bufio.NewReader(up)
		for {
			message, err := respMessage(r, nil)
			if err != nil {
				return
			}
			if message[0] != '>' {
				if _, err := down.Write(message); err != nil {
					return
				}
			}
		}
	})
}

// respMessage appends a message of the server to b.
func respMessage(r *bufio.Reader, b []byte) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	b = append(b, line...)
	n, notNumber := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	if notNumber != nil || n < 0 {
		return b, nil //nolint:nilerr // a line that has no number has no message behind it
	}
	switch line[0] {
	case '$', '!', '=':
		text := make([]byte, n+2)
		_, err = io.ReadFull(r, text)
		return append(b, text...), err
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return b, nil
	}
	for range n {
		if b, err = respMessage(r, b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
