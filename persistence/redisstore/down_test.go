package redisstore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/persistence"
)

// A nowhere address refuses connections.
func nowhere(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestDown stops the server in two ways: its connections break, or it does not
// answer.
func TestDown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		take, give func(*redistest.Server)
		keeps      bool // what the server had
	}{
		{"killed", (*redistest.Server).Kill, (*redistest.Server).Restart, false},
		{"silent", (*redistest.Server).Pause, (*redistest.Server).Resume, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := redistest.Start(t)
			const timeout = time.Second
			s := open(t, server, Config{Timeout: timeout, TablesWhenDown: map[string]WhenDown{"auth": FailClosed}})
			for _, table := range []string{"", "auth"} {
				if ok, err := s.Insert(ctx, table, "before", "10.0.0.1:80", time.Hour); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			tt.take(server)

			// The first call waits, and no other does.
			start := time.Now()
			value, left, ok, err := s.Lookup(ctx, "", "before", time.Minute)
			first := time.Since(start)
			if value != "10.0.0.1:80" || left < time.Hour-time.Minute || !ok || err != nil {
				t.Errorf("what was seen before: %q, %v, %t, %v", value, left, ok, err)
			}
			start = time.Now()
			const n = 100 // which a busy machine can return in the time there is for it
			for i := range n {
				if ok, err := s.Insert(ctx, "", "during"+strconv.Itoa(i), "10.0.0.2:80", time.Hour); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			each := time.Since(start) / n
			t.Logf("the first call took %v with a timeout of %v, later ones %v", first, timeout, each)
			if each > timeout/2 { // as most that wait would take
				t.Errorf("later calls took %v each", each)
			}
			s.Remove(ctx, "", "during0")
			if _, _, ok, _ := s.Lookup(ctx, "", "during0", 0); ok {
				t.Error("a removal had no effect in memory")
			}
			if _, _, _, err := s.Lookup(ctx, "auth", "before", 0); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrClosed) {
				t.Errorf("a table that fails closed: %v", err)
			}
			if ok, err := s.Insert(ctx, "auth", "k", "v", time.Hour); ok || !errors.Is(err, ErrUnavailable) {
				t.Errorf("a table that fails closed: %t, %v", ok, err)
			}
			if err := s.Ping(ctx); !errors.Is(err, ErrUnavailable) {
				t.Errorf("Ping: %v", err)
			}
			if st := s.Stats(); st.Up || st.Opened != 1 || st.Local < n || st.Failures == 0 {
				t.Errorf("%+v", st)
			}

			tt.give(server)
			took := testwait.Until(t, "recovery", func() bool { return s.Stats().Up })
			t.Logf("recovered %v after the server", took)
			if value, _, ok, err := s.Lookup(ctx, "", "during1", 0); value != "10.0.0.2:80" || !ok || err != nil {
				t.Errorf("what was stored meanwhile: %q, %t, %v", value, ok, err)
			}
			if _, _, ok, err := s.Lookup(ctx, "auth", "before", 0); ok != tt.keeps || err != nil {
				t.Errorf("what was stored before: %t, %v", ok, err)
			}
			if got := s.Stats().Returned; got < n-1 {
				t.Errorf("%d entries returned", got)
			}
		})
	}
}

// TestSharedStoreWins says what happens to a key that got two values: one on
// the server, one in memory.
func TestSharedStoreWins(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	s := open(t, server, Config{Timeout: time.Second, NearEntries: -1})
	s.Put(ctx, "", "k", "shared", time.Hour)
	server.Pause()
	s.Put(ctx, "", "k", "local", 2*time.Hour)
	if value, _, _, err := s.Lookup(ctx, "", "k", 0); value != "local" || err != nil {
		t.Errorf("while the server is down: %q, %v", value, err)
	}
	server.Resume()
	testwait.Until(t, "recovery", func() bool { return s.Stats().Up })
	// The call that was given up may have been carried out by the server when
	// it went on: it was a Put with this value.
	value, _, ok, err := s.Lookup(ctx, "", "k", 0)
	if !ok || err != nil || value != "shared" && value != "local" {
		t.Errorf("%q, %t, %v", value, ok, err)
	}

	// Without a call under way the answer is clear.
	server.Stop()
	s.Lookup(ctx, "", "k", 0) // opens the circuit
	s.Put(ctx, "", "k", "other", 2*time.Hour)
	server.Restart()
	testwait.Until(t, "recovery", func() bool { return s.Stats().Up })
	if again, _, ok, err := s.Lookup(ctx, "", "k", 0); again != value || !ok || err != nil {
		t.Errorf("%q, %t, %v; the server had %q", again, ok, err, value)
	}
}

// TestStartWithoutServer starts before the server does.
func TestStartWithoutServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	server.Kill()
	var logged lockedBuffer
	s, err := New(Config{Addresses: []string{server.Addr}, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if ok, err := s.Insert(ctx, "t", "k", "v", time.Hour); !ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	server.Restart()
	testwait.Until(t, "connection", func() bool { return s.Stats().Up })
	direct := open(t, server, Config{})
	if value, left, ok, err := direct.Lookup(ctx, "t", "k", 0); value != "v" || left > time.Hour || !ok || err != nil {
		t.Errorf("the other instance finds %q, %v, %t, %v", value, left, ok, err)
	}
	testwait.Until(t, "message", func() bool { return strings.Contains(logged.String(), "persistence store found") })
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestFailures goes through all verbs of a store without a server.
func TestFailures(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, when := range []WhenDown{FailOpen, FailClosed} {
		t.Run(when.String(), func(t *testing.T) {
			s, err := New(Config{Addresses: []string{nowhere(t)}, WhenDown: when})
			if err != nil {
				t.Fatal(err)
			}
			verbs := map[string]func() error{
				"Insert":         func() error { _, err := s.Insert(ctx, "", "k", "7", time.Hour); return err },
				"Put":            func() error { _, err := s.Put(ctx, "", "k", "7", time.Hour); return err },
				"PutIdle":        func() error { _, err := s.PutIdle(ctx, "", "k", "7", time.Hour, time.Hour); return err },
				"LookupOrInsert": func() error { _, _, _, err := s.LookupOrInsert(ctx, "", "k", "7", time.Hour); return err },
				"Lookup":         func() error { _, _, _, err := s.Lookup(ctx, "", "k", time.Hour); return err },
				"Refresh":        func() error { _, err := s.Refresh(ctx, "", "k", time.Hour); return err },
				"Touch":          func() error { _, err := s.Touch(ctx, "", "k", time.Hour); return err },
				"Remove":         func() error { return s.Remove(ctx, "", "k") },
				"CompareAndSwap": func() error { _, err := s.CompareAndSwap(ctx, "", "k", "7", "8"); return err },
				"Claim":          func() error { _, _, err := s.Claim(ctx, "", "k", "7", "", time.Hour); return err },
				"Increment":      func() error { _, _, err := s.Increment(ctx, "", "n", 1, time.Hour); return err },
				"CountByValue":   func() error { _, err := s.CountByValue(ctx, ""); return err },
				"Range": func() error {
					return s.Range(ctx, "", func(string, persistence.Entry[string]) bool { return false })
				},
			}
			for name, verb := range verbs {
				fails := when == FailClosed || name == "CountByValue" // a count of one instance is a wrong one
				if err := verb(); errors.Is(err, ErrUnavailable) != fails || err != nil && !fails {
					t.Errorf("%s: %v", name, err)
				}
			}
			s.Close()
			for name, verb := range verbs {
				if err := verb(); !errors.Is(err, ErrClosed) {
					t.Errorf("%s after Close: %v", name, err)
				}
			}
		})
	}
}

// TestCallerGivesUp must not take the end of the caller's context for a failure
// of the server.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, server, Config{})
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _, _, err := s.Lookup(ctx, "", "k", time.Hour)
	server.Resume()
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if st := s.Stats(); !st.Up || st.Opened != 0 {
		t.Errorf("%+v", st)
	}
}

// TestClose closes a store that is used, with a server that answers and with
// one that does not.
func TestClose(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		t.Run(strconv.FormatBool(silent), func(t *testing.T) {
			server := redistest.Start(t)
			s := open(t, server, Config{})
			const clients = 16
			errs := make([]error, clients)
			var started, wg sync.WaitGroup
			started.Add(clients)
			for i := range clients {
				wg.Go(func() {
					var once sync.Once
					for n := 0; errs[i] == nil; n++ {
						_, _, errs[i] = s.Increment(context.Background(), "", strconv.Itoa(i), 1, time.Hour)
						if n > 10 || silent {
							once.Do(started.Done)
						}
					}
					once.Do(started.Done)
				})
				if silent && i == clients/2 {
					server.Pause()
				}
			}
			if !silent {
				started.Wait()
			}
			start := time.Now()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			wg.Wait()
			if took := time.Since(start); took >= ampleTimeout { // what calls may take
				t.Errorf("closing took %v", took)
			} else {
				t.Logf("closing took %v", took)
			}
			if silent {
				server.Resume()
			}
			if i := slices.IndexFunc(errs, func(err error) bool { return !errors.Is(err, ErrClosed) }); i >= 0 {
				t.Errorf("client %d: %v", i, errs[i])
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
