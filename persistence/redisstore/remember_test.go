package redisstore

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
)

// away waits until every store has lost its server.
func away(t *testing.T, stores []*Store) {
	t.Helper()
	for _, s := range stores {
		testwait.Until(t, "loss", func() bool { s.Ping(t.Context()); return !s.Stats().Up })
	}
}

func back(t *testing.T, stores []*Store) {
	t.Helper()
	for _, s := range stores {
		testwait.Until(t, "recovery", func() bool { return s.Ping(t.Context()) == nil && s.Stats().Up })
	}
}

// An instance forgot each client that another instance had renewed last, and
// sent it to another server once Redis was gone. It also forgot in a second
// outage what it had looked up in the first one.
func TestEveryInstanceRemembers(t *testing.T) {
	t.Parallel()
	const keys = 20
	for _, tt := range some([]struct {
		name  string
		renew func(ctx context.Context, s *Store, key string) error
	}{
		{"Insert", func(ctx context.Context, s *Store, key string) error {
			_, err := s.Insert(ctx, "", key, "another", time.Hour)
			return err
		}},
		{"Touch", func(ctx context.Context, s *Store, key string) error {
			_, err := s.Touch(ctx, "", key, time.Hour)
			return err
		}},
		{"Claim", func(ctx context.Context, s *Store, key string) error {
			_, _, err := s.Claim(ctx, "", key, "another", "", time.Hour)
			return err
		}},
		{"Claim and Touch", func(ctx context.Context, s *Store, key string) error {
			if _, _, err := s.Claim(ctx, "", key, "another", "", time.Hour); err != nil {
				return err
			}
			_, err := s.Touch(ctx, "", key, time.Hour)
			return err
		}},
		{"Lookup", func(ctx context.Context, s *Store, key string) error {
			_, _, _, err := s.Lookup(ctx, "", key, time.Hour)
			return err
		}},
		{"Refresh", func(ctx context.Context, s *Store, key string) error {
			_, err := s.Refresh(ctx, "", key, time.Hour)
			return err
		}},
	}) {
		for _, instances := range []int{2, 3} {
			t.Run(tt.name+", "+strconv.Itoa(instances)+" instances", func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				server := redistest.Start(t)
				stores := make([]*Store, instances)
				for i := range stores {
					stores[i] = open(t, server, Config{Timeout: 5 * time.Second})
				}
				for key := range keys {
					stores[key%instances].Put(ctx, "", strconv.Itoa(key), "v"+strconv.Itoa(key), time.Hour)
				}
				for round := range 2 * instances {
					for key := range keys {
						s := stores[(round+key)%instances]
						if err := tt.renew(ctx, s, strconv.Itoa(key)); err != nil {
							t.Fatal(err)
						}
						s.Lookup(ctx, "", strconv.Itoa(key), 0)
					}
				}
				for range 2 { // outages, with nothing looked up between them
					server.Kill()
					away(t, stores)
					for i, s := range stores {
						for key := range keys {
							want := "v" + strconv.Itoa(key)
							if value, left, _, err := s.Lookup(ctx, "", strconv.Itoa(key), 0); value != want || left <= 0 || err != nil {
								t.Errorf("instance %d: %q, %v, %v, want %q", i, value, left, err, want)
							}
						}
					}
					server.Restart()
					back(t, stores)
				}
			})
		}
	}
}

// clients are bound to servers through several instances, as a profile binds
// them.
type clients struct {
	t      *testing.T
	stores []*Store
	count  int
	next   atomic.Int64 // server for a client that is not bound
}

// visit returns the server that a client is sent to.
func (c *clients) visit(s *Store, client int) string {
	ctx, key := c.t.Context(), strconv.Itoa(client)
	value, _, ok, err := s.Lookup(ctx, "", key, 0)
	if ok && err == nil {
		_, err = s.Touch(ctx, "", key, time.Hour)
	} else if err == nil {
		value, _, err = s.Claim(ctx, "", key, "server "+strconv.FormatInt(c.next.Add(1), 10), "", time.Hour)
	}
	if err != nil {
		c.t.Error(err)
	}
	return value
}

// bind binds all clients, and has each instance see all of them.
func (c *clients) bind() []string {
	bound := make([]string, c.count)
	testwait.Until(c.t, "one server for each client", func() bool {
		agree := true
		for range 2 {
			for client := range bound {
				for _, s := range c.stores {
					value := c.visit(s, client)
					agree = agree && value == bound[client]
					bound[client] = value
				}
			}
		}
		return agree
	})
	return bound
}

// Nine of fifteen clients moved when Redis was gone, and then flapped: the
// instances had different servers for them.
func TestClientsDoNotFlap(t *testing.T) {
	t.Parallel()
	for _, tt := range some([]struct {
		name       string
		take, give func(*redistest.Server)
		most       int // moves of a client
	}{
		{"silent", (*redistest.Server).Pause, (*redistest.Server).Resume, 0},
		{"restarted", (*redistest.Server).Stop, (*redistest.Server).Restart, 0},
		{"restarted without its data", (*redistest.Server).Kill, (*redistest.Server).Restart, 1},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			c := &clients{t: t, count: 15}
			for range 2 {
				c.stores = append(c.stores, open(t, server, Config{Timeout: time.Second}))
			}
			last := c.bind()
			moves := make([]int, c.count)
			turn := 0
			traffic := func(rounds int) {
				for range rounds {
					for client := range last {
						if value := c.visit(c.stores[(turn+client)%2], client); value != last[client] {
							last[client] = value
							moves[client]++
						}
					}
					turn++
				}
			}
			for range 2 {
				tt.take(server)
				traffic(20)
				away(t, c.stores)
				traffic(20)
				tt.give(server)
				testwait.Until(t, "recovery", func() bool {
					traffic(1)
					return c.stores[0].Stats().Up && c.stores[1].Stats().Up
				})
				traffic(20)
				for client := range last {
					for i, s := range c.stores {
						if value := c.visit(s, client); value != last[client] {
							t.Errorf("client %d: instance %d has %q, want %q", client, i, value, last[client])
						}
					}
					if moves[client] > tt.most {
						t.Errorf("client %d has moved %d times", client, moves[client])
					}
					moves[client] = 0
				}
			}
		})
	}
}

// TestGivenBack: a copy that is older than what the server has, or that another
// instance has removed, must not come back through the instance that still
// remembers it.
func TestGivenBack(t *testing.T) {
	t.Parallel()
	look := func(ctx context.Context, s *Store) { s.Lookup(ctx, "", "k", time.Hour) }
	touch := func(ctx context.Context, s *Store) { s.Touch(ctx, "", "k", 2*time.Hour) }
	claim := func(ctx context.Context, s *Store) { s.Claim(ctx, "", "k", "mine", "", time.Hour) }
	move := func(ctx context.Context, s *Store) { s.Claim(ctx, "", "k", "mine", "old", time.Hour) }
	put := func(ctx context.Context, s *Store) { s.Put(ctx, "", "k", "mine", time.Hour) }
	remove := func(ctx context.Context, s *Store) { s.Remove(ctx, "", "k") }
	renewed := func(ctx context.Context, s *Store) { s.Touch(ctx, "", "k", time.Hour) }
	moved := func(ctx context.Context, s *Store) { s.Claim(ctx, "", "k", "new", "old", time.Hour) }
	nothing := func(context.Context, *Store) {}
	for _, tt := range some([]struct {
		name     string
		other    func(ctx context.Context, s *Store) // what the other instance does, before
		here     func(ctx context.Context, s *Store) // what this one does meanwhile
		lost     bool                                // whether the server has lost its data
		want     string                              // afterwards, at both instances
		wantNext string                              // in the next outage
	}{
		{"moved, looked up", moved, look, false, "new", "new"},
		{"moved, renewed", moved, touch, false, "new", "new"},
		{"moved, claimed", moved, claim, false, "new", "new"},
		{"moved, moved again", moved, move, false, "new", "new"},
		{"moved, replaced", moved, put, false, "new", "new"},
		{"moved, removed", moved, remove, false, "new", "new"},
		{"renewed, moved", renewed, move, false, "old", "old"},
		{"removed, looked up", remove, look, false, "", ""},
		{"removed, renewed", remove, touch, false, "old", "old"},
		{"removed, claimed", remove, claim, false, "old", "old"},
		{"removed, replaced", remove, put, false, "mine", "mine"},
		{"lost", nothing, look, true, "old", "old"},
		{"lost, removed", nothing, remove, true, "", ""},
		{"lost, moved", nothing, move, true, "mine", "mine"},
		{"renewed, lost, moved", renewed, move, true, "mine", "mine"},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server := redistest.Start(t)
			c := Config{Timeout: 5 * time.Second}
			s, other := open(t, server, c), open(t, server, c)
			s.Put(ctx, "", "k", "old", time.Hour)
			s.Ping(ctx)
			tt.other(ctx, other)
			s.Ping(ctx) // the messages are past
			stop := server.Stop
			if tt.lost {
				stop = server.Kill
			}
			stop()
			away(t, []*Store{s})
			if value, _, _, err := s.Lookup(ctx, "", "k", 0); value != "old" || err != nil {
				t.Errorf("meanwhile: %q, %v", value, err)
			}
			tt.here(ctx, s)
			server.Restart()
			back(t, []*Store{s})
			fresh := open(t, server, c)
			for i, s := range []*Store{fresh, s} {
				if value, _, _, err := s.Lookup(ctx, "", "k", 0); value != tt.want || err != nil {
					t.Errorf("instance %d: %q, %v, want %q", i, value, err, tt.want)
				}
			}
			server.Kill()
			away(t, []*Store{s})
			if value, _, _, err := s.Lookup(ctx, "", "k", 0); value != tt.wantNext || err != nil {
				t.Errorf("next time: %q, %v, want %q", value, err, tt.wantNext)
			}
		})
	}
}

// slowly forwards connections to a server. While now and then is true, answers
// take 60 milliseconds longer now and then.
func slowly(t *testing.T, upstream string, nowAndThen *atomic.Bool) (addr string) {
	t.Helper()
	var answers atomic.Int64
	return relayReads(t, upstream, func([]byte) bool {
		if nowAndThen.Load() && answers.Add(1)%100 == 0 {
			<-time.After(60 * time.Millisecond)
		}
		return true
	})
}

// Answers that take longer than the timeout now and then took Redis for lost,
// seven times in twelve seconds, and each time clients moved.
func TestSlowAnswersMoveNobody(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var slow atomic.Bool
	c := &clients{t: t, count: 15}
	for range 2 {
		s, err := New(Config{Addresses: []string{slowly(t, server.Addr, &slow)}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c.stores = append(c.stores, s)
	}
	back(t, c.stores)
	bound := c.bind()
	slow.Store(true)
	var moves atomic.Int64
	const openings = 7
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			s := c.stores[worker%2]
			for start := time.Now(); s.Stats().Opened < openings && time.Since(start) < ampleTimeout; {
				for client, want := range bound {
					if c.visit(s, client) != want {
						moves.Add(1)
					}
				}
				<-time.After(time.Millisecond)
			}
		})
	}
	wg.Wait()
	for i, s := range c.stores {
		if n := s.Stats().Opened; n < openings {
			t.Errorf("instance %d: lost %d times only", i, n)
		}
	}
	if n := moves.Load(); n > 0 {
		t.Errorf("%d moves", n)
	}
}
