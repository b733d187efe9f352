package acceptance_test

import (
	"bytes"
	"testing"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/redistest"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/persistence/redisstore"
)

// TestSharedAddressElsewhere has clients that stick to servers of one machine
// go on at another process, which got the entries from a snapshot or has them
// on the same Redis. The port that limpet keeps in an entry must go with it.
func TestSharedAddressElsewhere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		tables func(t *testing.T) (first limpet.Tables, second func() limpet.Tables)
	}{
		{"snapshot", func(t *testing.T) (limpet.Tables, func() limpet.Tables) {
			first, second := persistence.NewStore(persistence.Options{}), persistence.NewStore(persistence.Options{})
			return first, func() limpet.Tables {
				var b bytes.Buffer
				if _, err := first.WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				if _, err := second.ReadFrom(&b); err != nil {
					t.Fatal(err)
				}
				return second
			}
		}},
		{"Redis", func(t *testing.T) (limpet.Tables, func() limpet.Tables) {
			server := redistest.Start(t)
			open := func() limpet.Tables {
				store, err := redisstore.New(redisstore.Config{Addresses: []string{server.Addr}, Timeout: testwait.Limit})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { store.Close() })
				return store
			}
			return open(), open
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, script := readme(t)
			f := startFleet(t, true, "")
			visitors := make([]visitor, 12)
			visit := func(tables limpet.Tables) {
				vs, err := limpet.New(limpet.Config{
					Pools:   []*lbpool.Pool{newPool(t, lbpool.Config{Name: "my_pool", Servers: f.configs()})},
					Scripts: []limpet.Script{compile(t, "stick", script)}, Tables: tables,
				})
				if err != nil {
					t.Fatal(err)
				}
				for i := range visitors {
					visitors[i].n = i
					f.visit(t, &visitors[i], "http://www.example.com/", throughHandler(vs), byAddress)
				}
			}
			first, second := tt.tables(t)
			visit(first)
			visit(first)
			visit(second())
			for i, v := range visitors {
				if v.servers[0] != v.servers[1] || v.servers[0] != v.servers[2] {
					t.Errorf("client %d was on servers %v", i, v.servers)
				}
			}
		})
	}
}
