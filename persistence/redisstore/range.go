package redisstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/limpetlb/limpet/persistence"
)

// pageBytes is about how much is asked for in one call of Range and CountByValue.
const pageBytes = 4 << 20

// Range calls f for the live entries of the table, in no order, until f returns false. Each call to the server brings about a hundred.
// An entry that is live and unchanged throughout is visited at least once; one that is changed meanwhile may be visited twice or not, and
// with the value and lifetime it had. f may use the store. While the server cannot be asked Range visits the table in memory, or
// returns [ErrUnavailable].
func (s *Store) Range(ctx context.Context, table string, f func(key string, e persistence.Entry[string]) bool) error {
	local, err := s.pages(ctx, table, "entries", func(now int64, member, score string) bool {
		digits, rest, ok := strings.Cut(member, ":")
		n, err := strconv.Atoi(digits)
		deadline, err2 := strconv.ParseFloat(score, 64)
		if !ok || err != nil || err2 != nil || n < 0 || n > len(rest) {
			return true // not ours
		}
		left := time.Duration(int64(deadline)-now) * time.Microsecond
		return left <= 0 || f(rest[n:], persistence.Entry[string]{Value: rest[:n], Remaining: left})
	})
	if local != nil {
		for key, e := range local.All(table) {
			if !f(key, e) {
				break
			}
		}
	}
	return err
}

// CountByValue returns how many live entries of the table have each value. The server keeps count, so the cost is that of the
// entries that have expired since somebody last wrote to the table, and of the values: about a hundred of them with each call. Entries
// that the server has evicted to free memory count until their deadline.
func (s *Store) CountByValue(ctx context.Context, table string) (map[string]int, error) {
	counts := make(map[string]int)
	for {
		a, local, err := s.ask(ctx, &call{script: saving, verb: "purge", table: table, value: -1, keeps: true})
		if local != nil {
			return local.CountByValue(ctx, table)
		}
		if err != nil {
			return nil, err
		}
		if n, err := a.number(0); err != nil || n == 0 {
			break
		}
	}
	local, err := s.pages(ctx, table, "counts", func(_ int64, value, count string) bool {
		if n, err := strconv.Atoi(count); err == nil && n > 0 {
			counts[value] = n
		}
		return true
	})
	if local != nil {
		return local.CountByValue(ctx, table)
	}
	return counts, err
}

// pages calls f for the pairs of the pages that a verb returns until f returns false.
func (s *Store) pages(ctx context.Context, table, verb string, f func(now int64, first, second string) bool) (*persistence.Store, error) {
	o := &s.config.Options
	width := strconv.Itoa(min(max(pageBytes/(o.MaxKeyBytes+o.MaxValueBytes), 1), 100))
	for cursor := "0"; ; {
		a, local, err := s.ask(ctx, &call{script: saving, verb: verb, table: table, value: -1, keeps: true, args: []string{cursor, width}})
		if local != nil || err != nil {
			return local, err
		}
		now, pairs, err := page(a, &cursor)
		if err != nil {
			return nil, err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			first, err := pairs[i].ToString()
			second, err2 := pairs[i+1].ToString()
			if err == nil && err2 == nil && !f(now, first, second) {
				return nil, nil
			}
		}
		if cursor == "0" {
			return nil, nil
		}
	}
}

// page reads an answer with a page: the cursor of the next one, the server's time, and the pairs.
func page(a answer, cursor *string) (now int64, pairs []rueidis.RedisMessage, err error) {
	if len(a.fields) < 3 {
		return 0, nil, errMismatch
	}
	if *cursor, err = a.text(0); err != nil {
		return 0, nil, err
	}
	if now, err = a.number(1); err != nil {
		return 0, nil, err
	}
	pairs, err = a.fields[2].ToArray()
	return now, pairs, err
}
