package persistence

import (
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/exactaddr"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// ScanOptions say which entries of a table [Store.Scan] returns, and how many
// at a time. The zero value means the first page of all.
type ScanOptions struct {
	// Cursor is where to continue: what Scan has returned as next. Empty means
	// the beginning.
	Cursor string
	// Prefix selects the entries whose keys begin with it.
	Prefix string
	// Value selects the entries with this value, as Scan shows it. Empty means
	// any value.
	Value string
	// Limit is how many items a page has at most. Zero means 100. A store on
	// another machine may return more, if it could not continue in between.
	Limit int `default:"100" min:"0" max:"4_096"`
	// Examine is how many entries a call examines at most. Zero means 4,096. So
	// with Prefix or Value a page may have few items, or none, although others
	// follow.
	Examine int `default:"4_096" min:"0" max:"4_096"`
}

// An Item is an entry with its key.
type Item struct {
	// Key is the key of the entry.
	Key string
	// Value is its value for reading: the address of a server that shares its
	// address with others is shown as "address:port".
	Value string
	// Remaining is the time until the entry's deadline, more than zero.
	Remaining time.Duration
}

// scanWidth is how many slots are examined per lock.
const scanWidth = 256

// Scan returns a page of the live entries of the table, and as next the Cursor
// of the following page, "" after the last. It neither extends entries nor
// marks them as used, and counts nothing.
//
// The store remembers nothing between the pages. An entry that lives through
// all of them with one value is on at least one, and is on several if its place
// has changed. An entry that is stored, removed, expires or gets another value
// meanwhile may or may not appear. A missing table has no entries.
//
// The error joins a [*FieldError] for each fault of o, such as a cursor that
// Scan of a table like this one has not returned.
func (s *Store) Scan(_ context.Context, table string, o ScanOptions) (items []Item, next string, err error) {
	t := s.table(table)
	missing := t == nil
	if missing {
		t = s.main // has as many shards
	}
	var faults fielderr.List
	bounds.Check("", o, &faults)
	bounds.SetDefaults(&o)
	shard, from, ok := parseCursor(o.Cursor, len(t.shards))
	if !ok {
		faults.Addf("cursor", o.Cursor, "not a cursor that Scan has returned for this table")
	}
	if err := faults.ErrIn(o); err != nil || missing {
		return nil, "", err
	}
	for left := o.Examine; shard < len(t.shards); {
		if left == 0 || len(items) == o.Limit {
			return items, formatCursor(shard, from), nil
		}
		sh, width := &t.shards[shard], min(scanWidth, left)
		sh.mu.Lock()
		// Downwards, like countLocked: an entry that moves while nobody holds
		// the lock comes from the end, and moves down.
		from = min(from, len(sh.slots))
		to := max(0, from-width)
		left -= from - to
		for now := t.now(); from > to && len(items) < o.Limit; {
			from--
			r := sh.slots[from].entry
			if !strings.HasPrefix(r.key, o.Prefix) || o.Value != "" && exactaddr.Shown(r.value) != o.Value {
				continue
			}
			if remaining := r.left(now); remaining > 0 {
				items = append(items, Item{r.key, exactaddr.Shown(r.value), remaining})
			}
		}
		sh.mu.Unlock()
		if from == 0 {
			shard, from = shard+1, math.MaxInt
		}
	}
	return items, "", nil
}

// formatCursor returns the cursor that continues below a slot of a shard.
func formatCursor(shard, from int) string {
	if from == math.MaxInt {
		return strconv.Itoa(shard)
	}
	return strconv.Itoa(shard) + "." + strconv.Itoa(from)
}

// parseCursor is the inverse of formatCursor, for a table of that many shards.
// The empty cursor is the first.
func parseCursor(cursor string, shards int) (shard, from int, ok bool) {
	if cursor == "" {
		return 0, math.MaxInt, true
	}
	first, second, within := strings.Cut(cursor, ".")
	shard, err := strconv.Atoi(first)
	from = math.MaxInt
	if err == nil && within {
		from, err = strconv.Atoi(second)
	}
	return shard, from, err == nil && 0 <= shard && shard < shards && from > 0 && formatCursor(shard, from) == cursor
}

// Peek returns the same as [Store.Lookup] without side effects: it does not
// extend, delete or count anything, and is no use of the entry. The error is
// always nil.
func (s *Store) Peek(_ context.Context, table, key string) (value string, remaining time.Duration, ok bool, err error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		return "", 0, false, nil
	}
	value, remaining, ok = t.Peek(key)
	return value, remaining, ok, nil
}

// CompareAndRemove removes key from the table if it is live and its value is
// old, as Lookup returns it or as Scan shows it, and reports whether it did. So
// an entry that has got another value since it was read stays. The error is
// always nil.
func (s *Store) CompareAndRemove(_ context.Context, table, key, old string) (bool, error) {
	t := s.table(table)
	if t == nil || len(key) > s.options.MaxKeyBytes {
		return false, nil
	}
	h := t.locate(key)
	t.lock(h.shard)
	defer t.unlock(h.shard)
	if r, _ := h.index.find(h.tag, key); r == nil || r.value != old && exactaddr.Shown(r.value) != old {
		return false, nil
	}
	held := h.acquireLocked(h.tag, key, t.now())
	if held.entry == nil {
		return false, nil
	}
	h.deleteLocked(held.entry, Removed)
	return true, nil
}

// Tables returns the names of the tables, sorted; the first is "", the default
// table. The error is always nil.
func (s *Store) Tables(context.Context) ([]string, error) { return s.names(), nil }

func (s *Store) names() []string {
	return append([]string{""}, slices.Sorted(maps.Keys(*s.named.Load()))...)
}
