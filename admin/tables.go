package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// What a store may be able to do. [persistence.Store] and redisstore.Store can
// do all but the last.
type (
	tableLister interface {
		Tables(ctx context.Context) ([]string, error)
	}
	valueCounter interface {
		CountByValue(ctx context.Context, table string) (map[string]int, error)
	}
	entryScanner interface {
		Scan(ctx context.Context, table string, o persistence.ScanOptions) ([]persistence.Item, string, error)
		Peek(ctx context.Context, table, key string) (value string, remaining time.Duration, ok bool, err error)
	}
	entryRemover interface {
		entryScanner
		CompareAndRemove(ctx context.Context, table, key, old string) (bool, error)
	}
	entryWriter interface {
		LookupOrInsert(ctx context.Context, table, key, value string, lifetime time.Duration) (actual string, remaining time.Duration, found bool, err error)
		Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error)
	}
	tableMeasurer interface {
		TableStats(table string) persistence.Stats
		Options() persistence.Options
	}
)

// able returns the store of the service that the path names, if it can do what
// T needs.
func able[T any](c *call) (T, error) {
	store, ok := c.vs.Config().Tables.(T)
	if !ok {
		return store, notSupported("the store of %s cannot do that", quote(c.name))
	}
	return store, nil
}

// storeFault returns the problem that the error of a store stands for.
func storeFault(err error) error {
	faults := faultsOf(err)
	if len(faults) == 0 {
		return unavailable("the store: %v", err)
	}
	p := badRequest(faults[0].Path, "%s", faults[0].Message)
	p.Fields = faults
	return p
}

// A tableView is a table. The numbers are null if the store does not have them
// at hand.
type tableView struct {
	Name    string      `json:"name"`    // empty for the default table
	Entries *int        `json:"entries"` // stored; null if not known
	Bytes   *int        `json:"bytes"`   // that they use; null if not known
	Limits  *tableCaps  `json:"limits"`  // null if not known
	Counts  *tableCount `json:"counts"`  // since the table was made; null if not known
}

// tableCaps are the limits of a table.
type tableCaps struct {
	Entries int `json:"entries"` // at most
	Bytes   int `json:"bytes"`   // at most
}

// tableCount has the counters of a table.
type tableCount struct {
	Hits            uint64 `json:"hits"`             // look-ups that found an entry
	Misses          uint64 `json:"misses"`           // look-ups that found none
	Expired         uint64 `json:"expired"`          // misses that found one whose time was over
	Inserts         uint64 `json:"inserts"`          // new entries
	Restored        uint64 `json:"restored"`         // inserts from a snapshot
	Replacements    uint64 `json:"replacements"`     // values that took the place of others
	Removals        uint64 `json:"removals"`         // entries removed
	Expirations     uint64 `json:"expirations"`      // entries whose time was over
	Evictions       uint64 `json:"evictions"`        // entries removed to make room
	OwnerEvictions  uint64 `json:"owner_evictions"`  // evictions for an entry of the same owner
	RefusedLifetime uint64 `json:"refused_lifetime"` // values with no lifetime
	RefusedEntry    uint64 `json:"refused_entry"`    // values with a key or a text that was too long
	RefusedFull     uint64 `json:"refused_full"`     // values for which there was no room
	RefusedOwner    uint64 `json:"refused_owner"`    // values whose owner had too many
}

func listTables(c *call) (any, error) {
	store, err := able[tableLister](c)
	if err != nil {
		return nil, err
	}
	names, err := store.Tables(c.r.Context())
	if err != nil {
		return nil, storeFault(err)
	}
	all := make([]tableView, len(names))
	for i, name := range names {
		all[i] = viewTable(store, name)
	}
	return listOf(all), nil
}

func viewTable(store any, name string) tableView {
	m, ok := store.(tableMeasurer)
	if !ok {
		return tableView{Name: name}
	}
	st, o := m.TableStats(name), m.Options()
	return tableView{
		Name: name, Entries: &st.Entries, Bytes: &st.Bytes, Limits: &tableCaps{o.MaxEntries, o.MaxTableBytes},
		Counts: &tableCount{
			st.Hits, st.Misses, st.Expired, st.Inserts, st.Restored, st.Replacements, st.Removals, st.Expirations, st.Evictions,
			st.OwnerEvictions, st.RefusedLifetime, st.RefusedEntry, st.RefusedFull, st.RefusedOwner,
		},
	}
}

// knowsTable refuses the name of a table that a store in memory does not have.
// With other stores, such a table has no entries.
func (c *call) knowsTable(name string) error {
	store, ok := c.vs.Config().Tables.(*persistence.Store)
	if !ok {
		return nil
	}
	names, err := store.Tables(c.r.Context())
	if err == nil && !slices.Contains(names, name) {
		return fail(http.StatusNotFound, codeNoTable, "no table %s", quote(name))
	}
	return err
}

// A countsView has the entries of a table by server.
type countsView struct {
	Table   string        `json:"table"`   // its name
	Servers []serverCount `json:"servers"` // that entries name
	Others  int           `json:"others"`  // entries with other values
}

// A serverCount is how many entries name a server.
type serverCount struct {
	Pool    string `json:"pool"`    // the first with such a server
	Server  string `json:"server"`  // its name
	Address string `json:"address"` // with port
	Value   string `json:"value"`   // of the entries
	Entries int    `json:"entries"` // how many
}

func countEntries(c *call) (any, error) {
	table := c.query.Get("table")
	store, err := able[valueCounter](c)
	if err == nil {
		err = c.knowsTable(table)
	}
	if err != nil {
		return nil, err
	}
	leave, err := c.enterScan(table)
	if err != nil {
		return nil, err
	}
	defer leave()
	counts, err := store.CountByValue(c.r.Context(), table)
	if err != nil {
		return nil, storeFault(err)
	}
	names := serverNames(c.vs)
	v := countsView{Table: table, Servers: []serverCount{}}
	for value, n := range counts {
		if s, ok := names[value]; ok {
			v.Servers = append(v.Servers, serverCount{s.pool, s.server.Name(), s.server.Addr().String(), value, n})
		} else {
			v.Others += n
		}
	}
	slices.SortFunc(v.Servers, func(a, b serverCount) int { return strings.Compare(a.Value, b.Value) })
	return v, nil
}

// A namedServer is a server that a value names.
type namedServer struct {
	pool   string
	server *lbpool.Server
}

// serverNames returns the values of entries that name servers: address and
// port, name, address, and alias.
func serverNames(vs *limpet.VirtualService) map[string]namedServer {
	names := map[string]namedServer{}
	for _, p := range vs.Pools() {
		for _, s := range p.Servers() {
			for _, value := range valuesOf(s) {
				if _, ok := names[value]; !ok {
					names[value] = namedServer{p.Name(), s}
				}
			}
		}
	}
	return names
}

// valuesOf returns the values of entries that may name a server.
func valuesOf(s *lbpool.Server) []string {
	all := []string{s.Addr().String(), s.Name(), s.Addr().Addr().String(), s.Hostname()}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(value string) bool { return value == "" })
}

// A busySet has the tables that are scanned now.
type busySet struct {
	mu   sync.Mutex
	busy map[string]bool
}

// add reports whether the table was not scanned yet.
func (b *busySet) add(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[key] {
		return false
	}
	if b.busy == nil {
		b.busy = map[string]bool{}
	}
	b.busy[key] = true
	return true
}

func (b *busySet) remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.busy, key)
}

// enterScan keeps several callers from scanning one table at a time.
func (c *call) enterScan(table string) (leave func(), err error) {
	key := c.name + "\x00" + table
	if !c.scans.add(key) {
		return nil, retry(fail(http.StatusTooManyRequests, codeTooMany, "somebody scans this table now"), unavailableRetry)
	}
	return func() { c.scans.remove(key) }, nil
}
