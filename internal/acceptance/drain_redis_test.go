package acceptance_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// countedStore notes how its entries were counted last.
type countedStore struct {
	*redisstore.Store
	errors, zeros atomic.Int64
}

func (s *countedStore) CountByValue(ctx context.Context, table string) (map[string]int, error) {
	counts, err := s.Store.CountByValue(ctx, table)
	switch {
	case err != nil:
		s.errors.Add(1)
	case len(counts) == 0:
		s.zeros.Add(1)
	}
	return counts, err
}

// TestDrainOverRedis drains a server that clients are bound to on Redis. The
// drain ends by itself when the last entry has expired, and not while Redis is
// away, when nobody knows how many there are.
func TestDrainOverRedis(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(t *testing.T, c *limpet.Config, store *countedStore)
	}{
		{"entries of a script", func(t *testing.T, c *limpet.Config, store *countedStore) {
			c.Tables = store
			c.Scripts = []limpet.Script{compile(t, "stick", "-- HTTP_RESP\n"+
				`avi.vs.table_insert("client", avi.pool.server_ip(), 3)`)}
		}},
		{"entries of a profile", func(t *testing.T, c *limpet.Config, store *countedStore) {
			profile, err := persistence.NewClientIP(persistence.ClientIPConfig{Sessions: store, Timeout: 3 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			c.Persistence = profile
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			redis, err := redisstore.New(redisstore.Config{Addresses: []string{server.Addr}, Timeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { redis.Close() })
			store := &countedStore{Store: redis}
			events, recs := make(chan lbpool.Event, 100), newRecords()
			pool := newPool(t, lbpool.Config{
				Name: "my_pool", Servers: startServers(t, 2), Drain: lbpool.DrainPolicy{KeepBound: true},
				OnEvent: func(e lbpool.Event) { events <- e },
			})
			c := limpet.Config{Pools: []*lbpool.Pool{pool}, OnComplete: recs.add}
			tt.edit(t, &c, store)
			vs, site := serve(t, http1, c)
			running(t, vs)
			if status, _ := get(t, site.client(t), site.URL); status != http.StatusOK {
				t.Fatal(status)
			}
			bound, _, _ := pool.Lookup(recs.next(t).Server.String(), 0)
			bound.Drain(-1)
			if e := testwait.Receive(t, events, "the drain"); e.Change.State != lbpool.Draining {
				t.Fatalf("event %+v", e)
			}

			server.Pause()
			testwait.Until(t, "a count that fails", func() bool { return store.errors.Load() > 0 })
			if store.zeros.Load() > 0 || bound.State() != lbpool.Draining {
				t.Errorf("%v while Redis is away", bound.State())
			}
			server.Resume()
			e := testwait.Receive(t, events, "the end of the drain")
			if !e.Drained || e.Server != bound || e.Open != 0 || e.Bound != 0 || store.zeros.Load() == 0 {
				t.Errorf("event %+v, counted %d times as none", e, store.zeros.Load())
			}
		})
	}
}
