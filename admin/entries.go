package admin

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limpetlb/limpet/persistence"
)

// An entryQuery asks for entries. At most one of Key, ID, Prefix, Server and
// Value may be given; without any, it asks for all.
type entryQuery struct {
	Table  string  `json:"table,omitempty"`  // empty: the default table
	Key    *string `json:"key,omitempty"`    // exactly this one
	ID     *string `json:"id,omitempty"`     // exactly this one, as an answer names it
	Prefix *string `json:"prefix,omitempty"` // of keys
	Server *string `json:"server,omitempty"` // name, or address and port, of a server that entries name
	Value  *string `json:"value,omitempty"`  // of entries
	Limit  int     `json:"limit,omitempty"`  // entries on a page, 1 to 1000; missing: 100
	Cursor string  `json:"cursor,omitempty"` // where to go on: next of the page before
	Reveal bool    `json:"reveal,omitempty"` // keys and values in clear; role Reveal
}

// An entryView is an entry of a table.
type entryView struct {
	ID               string  `json:"id"`                   // stands for the key, until the process ends
	KeyHash          string  `json:"key_hash"`             // the same for the same key, until the process ends
	Key              *string `json:"key,omitempty"`        // if it is to be revealed
	Value            *string `json:"value,omitempty"`      // if it names a server, or is to be revealed
	ValueHash        string  `json:"value_hash,omitempty"` // if the value is missing
	RemainingSeconds float64 `json:"remaining_seconds"`    // until the entry's time is over
}

// only returns how many of the ways to choose entries are given.
func given(texts ...*string) (n int) {
	for _, text := range texts {
		if text != nil {
			n++
		}
	}
	return n
}

func queryEntries(c *call) (any, error) {
	var q entryQuery
	if err := c.decode(&q); err != nil {
		return nil, err
	}
	limit, err := limitOf(q.Limit)
	switch {
	case err != nil:
		return nil, err
	case given(q.Key, q.ID, q.Prefix, q.Server, q.Value) > 1:
		return nil, badRequest("body", "more than one of key, id, prefix, server and value")
	case q.Reveal && c.caller.role < Reveal:
		return nil, fail(http.StatusForbidden, codeRole, "keys and values in clear need the role %s", Reveal)
	}
	store, err := able[entryScanner](c)
	if err == nil {
		err = c.knowsTable(q.Table)
	}
	if err != nil {
		return nil, err
	}
	show := c.shower(&q)
	if q.Key != nil || q.ID != nil {
		return c.oneEntry(store, &q, show)
	}
	scan, err := c.newScan(store, &q, limit)
	if err != nil {
		return nil, err
	}
	if strings.Contains(c.r.Header.Get("Accept"), "application/x-ndjson") {
		return c.allEntries(scan, q.Table, show)
	}
	return c.entryPage(scan, show)
}

// shower returns a function that makes views of entries.
func (c *call) shower(q *entryQuery) func(persistence.Item) entryView {
	names := serverNames(c.vs)
	return func(i persistence.Item) entryView {
		v := entryView{ID: c.seal.seal(q.Table, i.Key), KeyHash: c.seal.hash(q.Table, i.Key), RemainingSeconds: i.Remaining.Seconds()}
		if q.Reveal {
			v.Key = &i.Key
		}
		if _, ok := names[i.Value]; ok || q.Reveal {
			v.Value = &i.Value
		} else {
			v.ValueHash = c.seal.hash(q.Table, i.Value)
		}
		return v
	}
}

// keyOf returns the key that a caller gives, in clear or sealed.
func (c *call) keyOf(table string, key, id *string) (string, error) {
	if key != nil {
		return *key, nil
	}
	plain, ok := c.seal.open(table, *id)
	if !ok {
		return "", badRequest("id", "not an id that this process has given for this table")
	}
	return plain, nil
}

// oneEntry answers with the entry with a key, if there is one.
func (c *call) oneEntry(store entryScanner, q *entryQuery, show func(persistence.Item) entryView) (any, error) {
	key, err := c.keyOf(q.Table, q.Key, q.ID)
	if err != nil {
		return nil, err
	}
	value, remaining, ok, err := store.Peek(c.r.Context(), q.Table, key)
	if err != nil {
		return nil, storeFault(err)
	}
	var all []entryView
	if ok {
		all = append(all, show(persistence.Item{Key: key, Value: value, Remaining: remaining}))
	}
	return listOf(all), nil
}

// A scan goes through the entries of a table: once, or once for each value
// that names a server.
type scan struct {
	store  entryScanner
	table  string
	o      persistence.ScanOptions
	values []string // one after the other
	at     int      // in values
}

// newScan returns a scan that continues at the cursor of a query.
func (c *call) newScan(store entryScanner, q *entryQuery, limit int) (*scan, error) {
	s := &scan{store: store, table: q.Table, o: persistence.ScanOptions{Limit: limit}, values: []string{""}}
	switch {
	case q.Prefix != nil:
		s.o.Prefix = *q.Prefix
	case q.Value != nil && *q.Value == "":
		return nil, badRequest("value", "empty")
	case q.Value != nil:
		s.values = []string{*q.Value}
	case q.Server != nil:
		values, err := c.valuesNamed(*q.Server)
		if err != nil {
			return nil, err
		}
		s.values = values
	}
	if q.Cursor == "" {
		return s, nil
	}
	at, cursor, ok := strings.Cut(q.Cursor, ".")
	n, err := strconv.Atoi(at)
	if err != nil || !ok || n < 0 || n >= len(s.values) || strconv.Itoa(n) != at {
		return nil, badRequest("cursor", "not a cursor of this query")
	}
	s.at, s.o.Cursor = n, cursor
	return s, nil
}

// valuesNamed returns the values that name a server of the service.
func (c *call) valuesNamed(server string) (values []string, err error) {
	for _, p := range c.vs.Pools() {
		for _, s := range serversNamed(p, server) {
			values = append(values, valuesOf(s)...)
		}
	}
	if len(values) == 0 {
		return nil, fail(http.StatusNotFound, codeNoServer, "no server %s in the pools of %s", quote(server), quote(c.name))
	}
	slices.Sort(values)
	return slices.Compact(values), nil
}

// page returns the next entries; more is false after the last.
func (s *scan) page(ctx context.Context) (items []persistence.Item, more bool, err error) {
	o := s.o
	o.Value = s.values[s.at]
	items, next, err := s.store.Scan(ctx, s.table, o)
	if err != nil {
		return nil, false, storeFault(err)
	}
	if s.o.Cursor = next; next == "" {
		s.at++
	}
	return items, s.at < len(s.values), nil
}

// cursor is where the next page begins.
func (s *scan) cursor() string { return fmt.Sprintf("%d.%s", s.at, s.o.Cursor) }

// entryPage answers with a page.
func (c *call) entryPage(s *scan, show func(persistence.Item) entryView) (any, error) {
	out := list[entryView]{Items: []entryView{}}
	items, more, err := s.page(c.r.Context())
	if err != nil {
		return nil, err
	}
	for _, i := range items {
		out.Items = append(out.Items, show(i))
	}
	if more {
		out.Next = s.cursor()
	}
	return out, nil
}

// paced is how many times as long as it works a long scan rests, so that it
// takes a quarter of one processor at most.
const paced = 3

// rest waits after work that began at a time; false: the caller is gone.
func (c *call) rest(begun time.Time) bool {
	t := time.NewTimer(paced * time.Since(begun))
	defer t.Stop()
	select {
	case <-c.r.Context().Done():
		return false
	case <-t.C:
		return true
	}
}

// allEntries writes all entries, one a line. A problem on the way is the last
// line.
func (c *call) allEntries(s *scan, table string, show func(persistence.Item) entryView) (any, error) {
	leave, err := c.enterScan(table)
	if err != nil {
		return nil, err
	}
	defer leave()
	s.o.Limit = maxLimit
	var out *streamWriter
	for more := true; more; {
		begun := time.Now()
		var items []persistence.Item
		items, more, err = s.page(c.r.Context())
		switch {
		case err != nil && out == nil:
			return nil, err
		case err != nil:
			_ = out.text(string(encode(problemOf(err))))
			return streamed{}, nil
		case out == nil:
			out = c.beginStream("application/x-ndjson")
		}
		var lines strings.Builder
		for _, i := range items {
			lines.Write(encode(show(i)))
		}
		if lines.Len() > 0 && out.text(lines.String()) != nil || more && !c.rest(begun) {
			return streamed{}, nil
		}
	}
	return streamed{}, nil
}

// An entryPut is an entry to be stored.
type entryPut struct {
	Table           string  `json:"table,omitempty"`   // empty: the default table
	Key             string  `json:"key"`               // not empty
	Value           string  `json:"value"`             // such as the name of a server
	LifetimeSeconds float64 `json:"lifetime_seconds"`  // more than 0
	Replace         bool    `json:"replace,omitempty"` // an entry with this key loses its value; else that is a conflict
}

// A storedView says under which names an entry was stored.
type storedView struct {
	ID      string `json:"id"`       // stands for the key, until the process ends
	KeyHash string `json:"key_hash"` // as in lists
}

func (e *entryPut) check() error {
	switch {
	case e.Key == "":
		return badRequest("key", "missing")
	case !(e.LifetimeSeconds > 0):
		return badRequest("lifetime_seconds", "%v is not above 0", e.LifetimeSeconds)
	}
	return nil
}

// lifetime is LifetimeSeconds as far as a duration can be.
func (e *entryPut) lifetime() time.Duration {
	return time.Duration(min(e.LifetimeSeconds*float64(time.Second), math.MaxInt64/2))
}

func putEntry(c *call) (any, error) {
	var e entryPut
	if err := c.decode(&e); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	store, err := able[entryWriter](c)
	if err != nil {
		return nil, err
	}
	hash := c.seal.hash(e.Table, e.Key)
	c.change.Target, c.change.To = "table "+quote(e.Table)+" key "+hash, "stored"
	var stored, found bool
	if e.Replace {
		stored, err = store.Put(c.r.Context(), e.Table, e.Key, e.Value, e.lifetime())
	} else {
		stored, found, err = c.insert(store, &e)
	}
	switch {
	case err != nil:
		return nil, storeFault(err)
	case found:
		return nil, fail(http.StatusConflict, codeConflict, "there is an entry with this key; use replace")
	case !stored:
		return nil, invalid("key", "the table refuses the entry: a text is too long, or there is no room")
	}
	return storedView{c.seal.seal(e.Table, e.Key), hash}, nil
}

// insert stores an entry unless there is one. That one is only looked at, as
// inserting would renew it.
func (c *call) insert(store entryWriter, e *entryPut) (stored, found bool, err error) {
	if s, ok := store.(entryScanner); ok {
		if _, _, found, err := s.Peek(c.r.Context(), e.Table, e.Key); err != nil || found {
			return false, found, err
		}
	}
	_, remaining, found, err := store.LookupOrInsert(c.r.Context(), e.Table, e.Key, e.Value, e.lifetime())
	return remaining > 0, found, err
}

// An entryDelete says which entries are to be deleted: exactly one of Key, ID
// and Server is given.
type entryDelete struct {
	Table  string  `json:"table,omitempty"`  // empty: the default table
	Key    *string `json:"key,omitempty"`    // this one
	ID     *string `json:"id,omitempty"`     // this one, as an answer names it
	Server *string `json:"server,omitempty"` // all that name the server; needs all
	All    bool    `json:"all,omitempty"`    // must be true with server
}

// A deletedView says how many entries were deleted.
type deletedView struct {
	Deleted int `json:"deleted"` // entries
}

func deleteEntries(c *call) (any, error) {
	var d entryDelete
	if err := c.decode(&d); err != nil {
		return nil, err
	}
	switch {
	case given(d.Key, d.ID, d.Server) != 1:
		return nil, badRequest("body", "needs one of key, id and server")
	case (d.Server != nil) != d.All:
		return nil, badRequest("all", "must be true with server, and only then")
	}
	store, err := able[entryRemover](c)
	if err == nil {
		err = c.knowsTable(d.Table)
	}
	if err != nil {
		return nil, err
	}
	if d.Server != nil {
		return c.deleteOf(store, d.Table, *d.Server)
	}
	return c.deleteOne(store, &d)
}

func (c *call) deleteOne(store entryRemover, d *entryDelete) (any, error) {
	key, err := c.keyOf(d.Table, d.Key, d.ID)
	if err != nil {
		return nil, err
	}
	c.change.Target, c.change.To = "table "+quote(d.Table)+" key "+c.seal.hash(d.Table, key), "deleted"
	value, _, ok, err := store.Peek(c.r.Context(), d.Table, key)
	if err == nil && ok {
		ok, err = store.CompareAndRemove(c.r.Context(), d.Table, key, value)
	}
	switch {
	case err != nil:
		return nil, storeFault(err)
	case !ok:
		return nil, fail(http.StatusNotFound, codeNoEntry, "no entry with this key")
	}
	return deletedView{1}, nil
}

// deleteOf deletes the entries that name a server. An entry that has got
// another server since it was read stays.
func (c *call) deleteOf(store entryRemover, table, server string) (any, error) {
	c.change.Target = "table " + quote(table) + " entries of " + quote(server)
	leave, err := c.enterScan(table)
	if err != nil {
		return nil, err
	}
	defer leave()
	s, err := c.newScan(store, &entryQuery{Table: table, Server: &server}, maxLimit)
	if err != nil {
		return nil, err
	}
	n := 0
	defer func() { c.change.To = fmt.Sprintf("%d deleted", n) }()
	for more := true; more; {
		begun := time.Now()
		var items []persistence.Item
		if items, more, err = s.page(c.r.Context()); err != nil {
			return nil, err
		}
		for _, i := range items {
			removed, err := store.CompareAndRemove(c.r.Context(), table, i.Key, i.Value)
			if err != nil {
				return nil, storeFault(err)
			}
			if removed {
				n++
			}
		}
		if more && !c.rest(begun) {
			break
		}
	}
	return deletedView{n}, nil
}
