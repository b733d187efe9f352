package acceptance_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// vanishing is a store whose entries are gone once they have been looked up.
type vanishing struct{ *persistence.Store }

func (v vanishing) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	value, remaining, ok, err := v.Store.Lookup(ctx, table, key, extend)
	_ = v.Store.Remove(ctx, table, key)
	return value, remaining, ok, err
}

// An entry may expire, or another client remove it, between the look-up of the
// published listing and its selection. That is no reason to fail.
func TestEntryExpiresBeforeSelection(t *testing.T) {
	for _, test := range []struct {
		name, script string
		status       int
		persistence  limpet.Outcome
	}{
		{"published listing", customPersistence, 200, limpet.OutcomeHit},
		{"removed by the script", "-- HTTP_REQ\navi.vs.table_lookup('key') avi.vs.table_remove('key') avi.pool.select('my_pool', 'key')", 500, 0},
		{"another key", "-- HTTP_REQ\navi.vs.table_lookup('key') avi.pool.select('my_pool', 'other')", 500, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := persistence.NewStore(persistence.Options{})
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools:     []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"}, lbpool.ServerConfig{Address: "10.0.0.2"})},
				Transport: answering(ok), Tables: vanishing{store}, OnComplete: recs.add,
				Scripts: []limpet.Script{compile(t, "script", test.script)},
			})
			for range 4 {
				for _, key := range []string{"192.0.2.11234", "key"} {
					if inserted, err := store.Insert(t.Context(), "", key, "10.0.0.2", time.Minute); !inserted || err != nil {
						t.Fatal(inserted, err)
					}
				}
				w := httptest.NewRecorder()
				vs.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				rec := recs.next(t)
				if w.Code != test.status || test.status == 200 && (rec.Outcome != test.persistence || rec.Server.String() != "10.0.0.2:80") {
					t.Errorf("status %d, %v, server %v, script errors %v", w.Code, rec.Outcome, rec.Server, rec.ScriptErrors)
				}
				for key := range store.All("") {
					_ = store.Remove(t.Context(), "", key)
				}
			}
		})
	}
}
