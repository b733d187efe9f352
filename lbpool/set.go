package lbpool

import (
	"fmt"
	"maps"
	"net/netip"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// unknownPool is the error for a name that a Set does not have.
func unknownPool(name string) error { return fmt.Errorf("pool %q not found", name) }

// A Set is an immutable set of pools and pool groups with distinct names. All
// methods may be called concurrently.
type Set struct {
	pools  map[string]*Pool
	groups map[string]*Group
}

// NewSet returns a set of pools, which may be empty. Nil pools and duplicate
// names are faults; the error joins a [*FieldError] for each.
func NewSet(pools ...*Pool) (*Set, error) {
	s := &Set{pools: make(map[string]*Pool, len(pools))}
	var faults fielderr.List
	for i, p := range pools {
		path := fielderr.Index("pools", i)
		if p == nil {
			faults.Addf(path, nil, "missing")
			continue
		}
		if _, taken := s.pools[p.Name()]; taken {
			faults.Addf(path+".name", p.Name(), "already the name of another pool")
		}
		s.pools[p.Name()] = p
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	return s, nil
}

// WithGroups returns a set that contains the groups as well. Their pools need
// not be in the set. Nil groups and names that are taken are faults; the error
// joins a [*FieldError] for each.
func (s *Set) WithGroups(groups ...*Group) (*Set, error) {
	with := &Set{pools: s.pools, groups: maps.Clone(s.groups)}
	if with.groups == nil {
		with.groups = make(map[string]*Group, len(groups))
	}
	var faults fielderr.List
	for i, g := range groups {
		path := fielderr.Index("groups", i)
		if g == nil {
			faults.Addf(path, nil, "missing")
			continue
		}
		if _, taken := with.pools[g.name]; taken {
			faults.Addf(path+".name", g.name, "already the name of a pool")
		}
		if _, taken := with.groups[g.name]; taken {
			faults.Addf(path+".name", g.name, "already the name of another group")
		}
		with.groups[g.name] = g
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	return with, nil
}

// Pool returns the pool with the given name.
func (s *Set) Pool(name string) (*Pool, bool) {
	p, ok := s.pools[name]
	return p, ok
}

// Group returns the pool group with the given name.
func (s *Set) Group(name string) (*Group, bool) {
	g, ok := s.groups[name]
	return g, ok
}

// Select returns the pool with the given name or, if it is the name of a group,
// the pool that Group.Select chooses for label and h. A pool ignores the label.
// An unknown name is an error.
func (s *Set) Select(name, label string, h Hint) (*Pool, error) {
	if p, ok := s.pools[name]; ok {
		return p, nil
	}
	if g, ok := s.groups[name]; ok {
		return g.Select(label, h)
	}
	return nil, unknownPool(name)
}

// Servers returns how many servers of a pool or group are up and how many it
// has, including disabled ones. An unknown name is an error.
func (s *Set) Servers(pool string) (up, total int, err error) {
	if g, ok := s.groups[pool]; ok {
		up, total = g.Servers()
		return up, total, nil
	}
	p, ok := s.pools[pool]
	if !ok {
		return 0, 0, unknownPool(pool)
	}
	snap := p.refresh()
	return len(snap.up), len(snap.servers), nil
}

// ServerUp reports whether a server of a pool or group takes new requests:
// whether it is up or unchecked. Name it as for Pool.Lookup; a server that is
// not found is not up. An unknown pool is an error.
func (s *Set) ServerUp(pool, server string, port uint16) (bool, error) {
	found, _, err := s.lookup(pool, server, port)
	return err == nil && found != nil && found.State().Usable(), err
}

// Find returns the address and port of a server of a pool or group. Name it as
// for Pool.Lookup; ok is false if it is not found. If several servers match,
// shared is true and the address is that of the one which Pool.Lookup prefers.
// An unknown pool is an error.
func (s *Set) Find(pool, server string, port uint16) (addr netip.AddrPort, shared, ok bool, err error) {
	found, shared, err := s.lookup(pool, server, port)
	if err != nil || found == nil {
		return netip.AddrPort{}, false, false, err
	}
	return found.Addr(), shared, true, nil
}

// lookup returns nil for a server that is not found.
func (s *Set) lookup(pool, server string, port uint16) (found *Server, shared bool, err error) {
	if g, ok := s.groups[pool]; ok {
		found, shared, _ = g.Lookup(server, port)
	} else if p, ok := s.pools[pool]; ok {
		found, shared, _ = p.Lookup(server, port)
	} else {
		return nil, false, unknownPool(pool)
	}
	return found, shared, nil
}
