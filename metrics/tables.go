package metrics

import (
	"github.com/limpetlb/limpet/persistence"
)

// tables collects the tables of a store in memory.
func tables(s *scrape, vs string, store *persistence.Store) {
	names, _ := store.Tables(nil)
	for _, name := range names {
		st := store.TableStats(name)
		s.value(tableEntries, float64(st.Entries), vs, name)
		s.value(tableBytes, float64(st.Bytes), vs, name)
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
