package redisstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/limpetlb/limpet/internal/exactaddr"
	"github.com/limpetlb/limpet/persistence"
)

// pageBytes is about how much one call of Range or CountByValue asks for.
const pageBytes = 4 << 20

// Range calls f with the live entries of the table, in no order and at most
// once per key, until f returns false. Each call to the server returns about a
// hundred entries. An entry that is live and unchanged throughout is visited;
// one that changes meanwhile may be visited or not, with its old or new value
// and lifetime. Range uses about twenty-five bytes of memory per key. A value
// that is an address with port and a zero byte is shown without that byte. f
// may use the store.
//
// While the server is unavailable Range visits the table in memory, or returns
// [ErrUnavailable]. If the server has evicted the index of the table, the error
// after the last visit says that entries may be missing.
func (s *Store) Range(ctx context.Context, table string, f func(key string, e persistence.Entry[string]) bool) error {
	seen, seed := make(map[uint64]struct{}), maphash.MakeSeed() // the server may bring an entry twice
	local, err := s.pages(ctx, table, "entries", 3, false, func(p *resultPage, key, value, score string) bool {
		left := p.remaining(score)
		if left <= 0 {
			return true
		}
		hash := maphash.String(seed, key)
		if _, ok := seen[hash]; ok {
			return true
		}
		seen[hash] = struct{}{}
		return f(key, persistence.Entry[string]{Value: exactaddr.Shown(value), Remaining: left})
	})
	if local != nil {
		for key, e := range local.All(table) {
			e.Value = exactaddr.Shown(e.Value)
			if !f(key, e) {
				break
			}
		}
	}
	return err
}

// sweepEntries is about how many entries a call of CountByValue examines, and
// sweepWidth how many of them at a time on the server.
const (
	sweepEntries = 10_000
	sweepWidth   = 500
)

// CountByValue returns how many live entries of the table have each value. The
// server maintains the counts. The cost is that of the values, about a hundred
// per call to the server, of the entries that have expired since the last write
// to the table, and of ten thousand entries that are examined. Entries that the
// server has evicted to free memory, or that were deleted by other programs,
// are no longer counted once they have been examined: at the first call in
// tables of up to ten thousand entries, in larger ones after as many calls as
// it takes to examine all. A value that is an address with port and a zero byte
// is counted as that without the byte.
//
// While the server is unavailable CountByValue returns [ErrUnavailable], also
// for tables that fail open, because other instances may have entries. It also
// returns an error if the server has evicted the index of the table, until the
// longest lifetime is over.
func (s *Store) CountByValue(ctx context.Context, table string) (map[string]int, error) {
	for {
		a, _, err := s.ask(ctx, &call{script: saving, verb: "purge", table: table, value: -1, keeps: true, must: true})
		if err != nil {
			return nil, err
		}
		if n, err := a.number(0); err != nil {
			return nil, err
		} else if n == 0 {
			break
		}
	}
	if err := s.sweep(ctx, table); err != nil {
		return nil, err
	}
	byValue := make(map[string]int) // the server may bring a value twice
	_, err := s.pages(ctx, table, "counts", 2, true, func(_ *resultPage, value, count, _ string) bool {
		if n, err := strconv.Atoi(count); err == nil && n > 0 {
			byValue[value] = n
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int, len(byValue))
	for value, n := range byValue {
		counts[exactaddr.Shown(value)] += n
	}
	return counts, nil
}

// sweep makes the server examine some entries of the table, from where the last
// sweep of the store ended.
func (s *Store) sweep(ctx context.Context, table string) error {
	s.mu.Lock()
	cursor, ok := s.sweeps[table]
	s.mu.Unlock()
	if !ok {
		cursor = "0"
	}
	for examined := int64(0); examined < sweepEntries; {
		a, _, err := s.ask(ctx, &call{
			script: saving, verb: "sweep", table: table, value: -1, keeps: true, must: true, args: []string{cursor, strconv.Itoa(sweepWidth)},
		})
		if err != nil {
			return err
		}
		n, err := a.number(1)
		if err == nil {
			cursor, err = a.text(0)
		}
		if err != nil {
			return err
		}
		if examined += max(n, 1); cursor == "0" {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cursor == "0" {
		delete(s.sweeps, table)
	} else {
		s.sweeps[table] = cursor
	}
	return nil
}

// pages calls f for the groups of two or three strings in the pages that a verb
// returns until f returns false.
func (s *Store) pages(ctx context.Context, table, verb string, group int, must bool, f func(p *resultPage, first, second, third string) bool) (*persistence.Store, error) {
	width, complete := strconv.Itoa(s.pageWidth()), true
	for cursor := "0"; ; {
		a, local, err := s.ask(ctx, &call{
			script: saving, verb: verb, table: table, value: -1, keeps: true, must: must, args: []string{cursor, width},
		})
		if local != nil || err != nil {
			return local, err
		}
		p, err := readPage(a)
		if err != nil {
			return nil, err
		}
		complete = complete && p.complete
		goOn := true
		err = p.each(group, func(first, second, third string) bool {
			goOn = f(&p, first, second, third)
			return goOn
		})
		if err != nil || !goOn {
			return nil, err
		}
		if cursor = p.cursor; cursor == "0" {
			break
		}
	}
	if !complete {
		return nil, fmt.Errorf("redisstore: table %.100q: %w", table, errIncomplete)
	}
	return nil, nil
}

// pageWidth is how many entries one call to the server may return.
func (s *Store) pageWidth() int {
	o := &s.config.Options
	return min(max(pageBytes/(o.MaxKeyBytes+o.MaxValueBytes), 1), 100)
}

// A resultPage is an answer with a page: the cursor of the next one, the
// server's time, the strings, whether the server knows all entries, and how
// many it has examined.
type resultPage struct {
	cursor   string
	now      int64
	texts    []rueidis.RedisMessage
	complete bool
	examined int
}

func readPage(a answer) (p resultPage, err error) {
	if len(a.fields) < 5 {
		return p, errMismatch
	}
	if p.cursor, err = a.text(0); err != nil {
		return p, err
	}
	if p.now, err = a.number(1); err != nil {
		return p, err
	}
	if p.texts, err = a.fields[2].ToArray(); err != nil {
		return p, err
	}
	complete, err := a.number(3)
	examined, err2 := a.number(4)
	p.complete, p.examined = complete == 1, int(examined)
	return p, errors.Join(err, err2)
}

// each calls f for the groups of two or three strings until f returns false.
func (p *resultPage) each(group int, f func(first, second, third string) bool) (err error) {
	for texts := p.texts; len(texts) >= group; texts = texts[group:] {
		var found [3]string
		for i := range group {
			if found[i], err = texts[i].ToString(); err != nil {
				return fmt.Errorf("redisstore: %w", err)
			}
		}
		if !f(found[0], found[1], found[2]) {
			return nil
		}
	}
	return nil
}

// remaining returns what was left of an entry at the server's time, given its
// deadline; 0 if the deadline is not a number.
func (p *resultPage) remaining(score string) time.Duration {
	deadline, err := strconv.ParseFloat(score, 64)
	if err != nil {
		return 0
	}
	return time.Duration(int64(deadline)-p.now) * time.Microsecond
}
