package limpet

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// errNotCounted means that the clients bound to a server cannot be counted:
// they carry the binding themselves, or the store cannot count.
var errNotCounted = errors.New("clients are not counted")

// countBound lets a pool count the clients that are bound to its draining
// servers, until stop is called.
func (vs *VirtualService) countBound(pool *lbpool.Pool) (stop func()) {
	every := time.Second
	if _, memory := vs.current.Load().Tables.(*persistence.Store); !memory {
		every = 5 * time.Second // each time is a call to another machine
	}
	return pool.CountBound(vs.boundTo(pool), every)
}

// boundTables returns the tables in which clients are counted.
func (s *snapshot) boundTables() []string {
	if s.BoundTables == nil && len(s.Scripts) > 0 {
		return []string{""}
	}
	return s.BoundTables
}

// countTables counts the entries of the bound tables whose value is one of the
// names of a server.
func (s *snapshot) countTables(ctx context.Context, servers []string) (n int, err error) {
	for _, table := range s.boundTables() {
		t, ok := s.Tables.(interface {
			CountByValue(ctx context.Context, table string) (map[string]int, error)
		})
		if !ok {
			return 0, errNotCounted
		}
		counts, err := t.CountByValue(ctx, table)
		if err != nil {
			return 0, err
		}
		for _, name := range servers {
			n += counts[name]
		}
	}
	return n, nil
}

// boundTo returns a function that counts the persistence entries which bind
// clients to a server of the pool: those of the tables whose values name
// servers, and those of the profiles.
func (vs *VirtualService) boundTo(pool *lbpool.Pool) func(ctx context.Context, servers ...string) (int, error) {
	return func(ctx context.Context, servers ...string) (n int, err error) {
		s := vs.current.Load()
		if !slices.ContainsFunc(s.Pools, pool.Is) {
			return 0, errNotCounted // an update has taken it away, or has brought another handle that is asked soon
		}
		if n, err = s.countTables(ctx, servers); err != nil {
			return 0, err
		}
		for _, t := range s.targets {
			if t.profile == nil || !t.has(pool) {
				continue
			}
			if t.counter == nil {
				return 0, errNotCounted
			}
			names := servers
			if t.group != nil {
				names = slices.Clone(servers) // as they may have been bound before the pool was in the group
				for _, name := range servers {
					names = append(names, t.member(pool, name))
				}
			}
			more, err := t.counter.Count(ctx, t.name, names...)
			if err != nil {
				return 0, err
			}
			n += more
		}
		return n, nil
	}
}
