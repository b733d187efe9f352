package lbpool

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrUnknownPool means that a Set has no pool of the given name.
var ErrUnknownPool = errors.New("unknown pool")

// unknownPoolError is ErrUnknownPool with the name.
type unknownPoolError string

func (e unknownPoolError) Error() string { return fmt.Sprintf("pool %q not found", string(e)) }

func (e unknownPoolError) Unwrap() error { return ErrUnknownPool }

// A Set is an immutable set of pools with distinct names. All methods may be called concurrently.
type Set struct {
	pools map[string]*Pool
}

// NewSet returns a set of pools, which may be empty. Nil pools and equal names are errors, all of which it joins.
func NewSet(pools ...*Pool) (*Set, error) {
	s := &Set{pools: make(map[string]*Pool, len(pools))}
	var faults faults
	for i, p := range pools {
		path := fmt.Sprintf("pools[%d]", i)
		if p == nil {
			faults.add(path, "must not be nil")
			continue
		}
		if _, taken := s.pools[p.name]; taken {
			faults.add(path+".name", "%q is already the name of another pool", p.name)
		}
		s.pools[p.name] = p
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return s, nil
}

// Pool returns the pool with the given name.
func (s *Set) Pool(name string) (*Pool, bool) {
	p, ok := s.pools[name]
	return p, ok
}

// Servers returns how many servers of a pool are up and how many it has, disabled ones among them. For an unknown pool
// the error matches ErrUnknownPool.
func (s *Set) Servers(pool string) (up, total int, err error) {
	p, ok := s.pools[pool]
	if !ok {
		return 0, 0, unknownPoolError(pool)
	}
	return len(p.refresh().up), len(p.servers), nil
}

// ServerUp reports whether a server is up. It is named as in Pool.Lookup; one that the pool does not have is not up.
// For an unknown pool the error matches ErrUnknownPool.
func (s *Set) ServerUp(pool, server string, port uint16) (bool, error) {
	p, ok := s.pools[pool]
	if !ok {
		return false, unknownPoolError(pool)
	}
	found, ok := p.Lookup(server, port)
	return ok && found.State() == Up, nil
}

// Find returns the address of a server, which is named as in Pool.Lookup; ok is false for one that the pool does not
// have. For an unknown pool the error matches ErrUnknownPool.
func (s *Set) Find(pool, server string, port uint16) (addr netip.AddrPort, ok bool, err error) {
	p, ok := s.pools[pool]
	if !ok {
		return netip.AddrPort{}, false, unknownPoolError(pool)
	}
	found, ok := p.Lookup(server, port)
	if !ok {
		return netip.AddrPort{}, false, nil
	}
	return found.Addr(), true, nil
}
