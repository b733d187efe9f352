package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/exactaddr"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/persistence"
)

// Scan returns a page of the live entries of the table, and as next the Cursor
// of the following page, "" after the last, as persistence.Store does. The
// cursor is that of the server. A page may have about a hundred items more than
// Limit, because the server cannot continue in between.
//
// Scan always asks the server, and never the near cache. While the server is
// unavailable it returns [ErrUnavailable], also for tables that fail open. If
// the server has evicted the index of the table, the last page comes with an
// error that says that entries may be missing.
//
// A fault of o is a [*FieldError].
func (s *Store) Scan(ctx context.Context, table string, o persistence.ScanOptions) (items []persistence.Item, next string, err error) {
	var faults fielderr.List
	bounds.Check("", o, &faults)
	bounds.SetDefaults(&o)
	cursor := "0"
	if o.Cursor != "" {
		cursor = o.Cursor
		if n, err := strconv.ParseUint(cursor, 10, 64); err != nil || n == 0 || strconv.FormatUint(n, 10) != cursor {
			faults.Addf("cursor", cursor, "not a cursor that Scan has returned for this table")
		}
	}
	if err := faults.ErrIn(o); err != nil {
		return nil, "", err
	}
	filtered := o.Prefix != "" || o.Value != ""
	for left := o.Examine; left > 0 && len(items) < o.Limit; {
		width := min(s.pageWidth(), left)
		if !filtered {
			width = min(width, o.Limit-len(items))
		}
		a, _, err := s.ask(ctx, &call{
			script: saving, verb: "entries", table: table, value: -1, keeps: true, must: true,
			args: []string{cursor, strconv.Itoa(width), o.Prefix, o.Value, exactaddr.Marked(o.Value)},
		})
		if err != nil {
			return nil, "", err
		}
		p, err := readPage(a)
		if err != nil {
			return nil, "", err
		}
		err = p.each(3, func(key, value, score string) bool {
			remaining := p.remaining(score)
			value = exactaddr.Shown(value)
			if remaining > 0 && strings.HasPrefix(key, o.Prefix) && (o.Value == "" || value == o.Value) {
				items = append(items, persistence.Item{Key: key, Value: value, Remaining: remaining})
			}
			return true
		})
		if err != nil {
			return nil, "", err
		}
		if p.cursor == "0" {
			if !p.complete {
				err = fmt.Errorf("redisstore: table %.100q: %w", table, errIncomplete)
			}
			return items, "", err
		}
		cursor = p.cursor
		left -= max(p.examined, 1)
	}
	return items, cursor, nil
}

// Peek returns what Lookup returns, from the server and never from the near
// cache, without extending the entry, and counts it only in the calls of
// [Store.Stats]. While the server is unavailable it returns [ErrUnavailable],
// also for tables that fail open.
func (s *Store) Peek(ctx context.Context, table, key string) (value string, remaining time.Duration, ok bool, err error) {
	if len(table) > s.config.Options.MaxKeyBytes || len(key) > s.config.Options.MaxKeyBytes {
		return "", 0, false, nil
	}
	a, _, err := s.ask(ctx, &call{script: saving, verb: "peek", table: table, key: key, value: -1, keeps: true, must: true})
	if err != nil || a.status != statusFound {
		return "", 0, false, err
	}
	value, err = a.text(0)
	n, err2 := a.number(1)
	return value, time.Duration(n) * time.Microsecond, true, errors.Join(err, err2)
}

// CompareAndRemove removes key from the table if it is live and its value is
// old, as Lookup returns it or as Scan shows it, and reports whether it did. So
// an entry that has got another value since it was read stays. While the server
// is unavailable it returns [ErrUnavailable], also for tables that fail open.
func (s *Store) CompareAndRemove(ctx context.Context, table, key, old string) (bool, error) {
	o := &s.config.Options
	if len(table) > o.MaxKeyBytes || len(key) > o.MaxKeyBytes {
		return false, nil
	}
	a, _, err := s.ask(ctx, &call{
		script: saving, verb: "drop", table: table, key: key, writes: true, value: -1, keeps: true, must: true,
		args: []string{old, exactaddr.Marked(old)},
	})
	return a.status == statusFound, err
}

// tablesWidth is how many names the server examines in a call of Tables.
const tablesWidth = 1000

// Tables returns the names of the tables of all instances, sorted; the first is
// "", the default table. A table whose entries have all expired may still be
// among them.
//
// The server examines all its names, also those of other programs, a thousand
// at a time: about a second for a million. The user needs the command SCAN,
// which Redis does not restrict to a prefix. While the server is unavailable
// Tables returns [ErrUnavailable].
func (s *Store) Tables(ctx context.Context) (tables []string, err error) {
	defer func() { s.counted.Own().add("tables", resultOf(nil, err)) }()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := s.current(ctx)
	if now.link == nil {
		_, _, err := s.instead(&call{verb: "tables", must: true}, now)
		return nil, err
	}
	found := map[string]struct{}{"": {}}
	for _, node := range now.link.client.Nodes() { // of a cluster, each has some of the names
		for cursor := uint64(0); ; {
			bounded, cancel := context.WithTimeout(ctx, s.config.Timeout)
			page, err := node.Do(bounded, node.B().Scan().Cursor(cursor).
				Match("{"+s.config.Prefix+"/*}"+string(indexKind)).Count(tablesWidth).Type("zset").Build()).AsScanEntry()
			cancel()
			switch {
			case err == nil:
			case ctx.Err() != nil:
				return nil, fmt.Errorf("redisstore: tables: %w", ctx.Err())
			default:
				return nil, fmt.Errorf("redisstore: tables: %w: %w", ErrUnavailable, s.config.explained(err))
			}
			for _, text := range page.Elements {
				if table, key, ok := parseName(s.config.Prefix, indexKind, text); ok && key == "" {
					found[table] = struct{}{}
				}
			}
			if cursor = page.Cursor; cursor == 0 {
				break
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}
