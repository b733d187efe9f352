package metrics

import (
	"context"
	"reflect"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/persistence"
)

// stores collects the tables of a service, wherever they are.
func (e *Exporter) stores(s *scrape, vs string, t limpet.Tables, shared *shared) {
	switch store := t.(type) {
	case *persistence.Store:
		if shared.addStore(store) {
			tables(s, vs, store)
			e.snapshots(s, vs, store)
		}
	case interface {
		Stats() persistence.RemoteStats
	}:
		if !reflect.ValueOf(store).Comparable() || shared.addStore(t) {
			remote(s, vs, store.Stats())
		}
	}
}

// snapshots collects what saves the tables of a store.
func (e *Exporter) snapshots(s *scrape, vs string, store *persistence.Store) {
	if e.config.Savers == nil {
		return
	}
	for _, saver := range e.config.Savers() {
		if saver.Store != store {
			continue
		}
		st := saver.Stats()
		if !st.LastSuccess.IsZero() {
			s.value(snapshotTime, seconds(st.LastSuccess), vs)
			s.value(snapshotBytes, float64(st.Bytes), vs)
		}
		s.count(snapshotFailures, st.Failures, vs)
		return
	}
}

// remote collects a store on another machine.
func remote(s *scrape, vs string, st persistence.RemoteStats) {
	for _, n := range st.Nodes {
		s.flag(redisUp, st.Up && n.Up, vs, n.Address)
	}
	s.count(redisOpened, st.Opened, vs)
	for _, c := range st.Calls {
		s.count(redisCalls, c.N, vs, c.Verb, c.Result)
	}
	s.histogram(redisDuration, st.Duration, vs)
	s.value(redisNear, float64(st.NearEntries), vs)
	s.count(redisInvalidations, st.Invalidations, vs)
	s.count(redisReturned, st.Returned, vs)
	s.count(redisDropped, st.Dropped, vs)
	s.count(redisRefusals, st.RefusedLifetime, vs, "lifetime")
	s.count(redisRefusals, st.RefusedEntry, vs, "entry")
	s.count(redisRefusals, st.RefusedFull, vs, "full")
}

// tables collects the tables of a store in memory.
func tables(s *scrape, vs string, store *persistence.Store) {
	names, _ := store.Tables(context.Background())
	o := store.Options()
	for _, name := range names {
		st := store.TableStats(name)
		s.value(tableEntries, float64(st.Entries), vs, name)
		s.value(tableBytes, float64(st.Bytes), vs, name)
		s.value(tableEntriesLimit, float64(o.MaxEntries), vs, name)
		s.value(tableBytesLimit, float64(o.MaxTableBytes), vs, name)
		s.count(tableLookups, st.Hits, vs, name, "hit")
		s.count(tableLookups, st.Misses-min(st.Expired, st.Misses), vs, name, "miss")
		s.count(tableLookups, st.Expired, vs, name, "expired")
		s.count(tableStores, st.Inserts-min(st.Restored, st.Inserts), vs, name, "insert")
		s.count(tableStores, st.Replacements, vs, name, "replace")
		s.count(tableStores, st.Restored, vs, name, "restore")
		s.count(tableDeletions, st.Removals, vs, name, "removed")
		s.count(tableDeletions, st.Expirations, vs, name, "expired")
		s.count(tableDeletions, st.Evictions-min(st.OwnerEvictions, st.Evictions), vs, name, "evicted")
		s.count(tableDeletions, st.OwnerEvictions, vs, name, "evicted_own")
		s.count(tableRefusals, st.RefusedLifetime, vs, name, "lifetime")
		s.count(tableRefusals, st.RefusedEntry, vs, name, "entry")
		s.count(tableRefusals, st.RefusedFull, vs, name, "full")
		s.count(tableRefusals, st.RefusedOwner, vs, name, "owner")
	}
}
