package lbpool

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// A pool that adopts another one lends it its configuration and from then on forwards to it: so servers, leases, queues and
// everything learnt stay where they are, and both handles mean the same pool. Pool.next is where a pool forwards to.

// adopting is held by Adopt, which needs the locks of two pools.
var adopting sync.Mutex

// Adopt puts p in the place of old: for a configuration that was built anew while the old one is in use. Afterwards p and
// old are two handles on one pool that has the configuration of p, its name among it, and the state of old. Requests in
// progress go on, and none fails because of it.
//
// Servers with the same address and port are the same servers, as for Update: values of either pool may be used on. They keep
// leases, counters, statistics, slow start and ejections, and the effects of Enable, Disable, Drain and SetRatio; if those
// were called on p's servers too, p's apply. The findings of a health monitor are kept if the monitor of p has the same name,
// port and Checker. Otherwise the new monitor has not checked the server yet, and the server is Unchecked; with StartDown the
// server keeps its state until that monitor has checked it. Requests in old's queue keep their places. The servers that
// old's Discoveries have found stay, as after Update.
//
// Leases of p's servers that were granted before are not counted any more; so Adopt is best called before p is used.
// A pool adopts one other at most, and is adopted by one at most: else the error says so and nothing changes. Adopting
// itself, or once more what it has adopted, does nothing. Concurrent calls of all methods of both pools are allowed.
func (p *Pool) Adopt(old *Pool) error { return adoptAll([]adoption{{p, old}}) }

// Adopt lets each pool of s adopt the pool of the same name in old, if there is another one of that name, as [Pool.Adopt] says.
// A pool of s that is in use already, by another virtual service for instance, stays as it is. If the pool in old has been adopted by
// another one, the error says so and nothing changes.
func (s *Set) Adopt(old *Set) error {
	var all []adoption
	for _, name := range slices.Sorted(maps.Keys(s.pools)) {
		if before, ok := old.pools[name]; ok && !s.pools[name].used() {
			all = append(all, adoption{s.pools[name], before})
		}
	}
	return adoptAll(all)
}

// used reports whether the pool has adopted another, has granted a lease, or runs.
func (p *Pool) used() bool {
	if p.next.Load() != nil || len(p.running) > 0 {
		return true
	}
	return slices.ContainsFunc(p.current.Load().servers, func(s *Server) bool { return s.requests.Load() > 0 })
}

// An adoption is what Adopt is called for.
type adoption struct{ pool, old *Pool }

// fault tells why the adoption must not be. It is called with adopting held.
func (a adoption) fault() error {
	switch {
	case a.pool.next.Load() != nil:
		return fmt.Errorf("pool %q: cannot adopt %q: it has adopted another pool", a.pool.Name(), a.old.Name())
	case a.old.adopted:
		return fmt.Errorf("pool %q: cannot adopt %q: another pool has adopted it", a.pool.Name(), a.old.Name())
	}
	return nil
}

func adoptAll(all []adoption) error {
	announce, err := prepareAll(all)
	for _, f := range announce {
		f()
	}
	return err
}

// prepareAll carries out adoptions, and returns what is to be done when no lock is held any more.
func prepareAll(all []adoption) (announce []func(), err error) {
	adopting.Lock()
	defer adopting.Unlock()
	all = slices.DeleteFunc(all, func(a adoption) bool { return a.pool.live() == a.old.live() })
	for _, a := range all {
		err = errors.Join(err, a.fault())
	}
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		state := a.old.live()
		a.old.adopted = true
		st, changed := a.pool.moveInto(state)
		announce = append(announce, func() {
			a.pool.wakeAll()
			state.wakeAll()
			st.announce(state, changed)
			a.pool.notify() // Run goes on with the other
			state.notify()
		})
	}
	return announce, nil
}

// moveInto configures state as p is configured and makes p forward to it.
func (p *Pool) moveInto(state *Pool) (*settings, []transition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := *p.latest.settings
	if _, plain := st.algorithm.(*leastConnections); plain {
		st.algorithm = nil // the one in use goes on, if it is the same
	}
	defer p.next.Store(state)
	return state.edit(time.Now(), causeConfigured, "", nil, func() bool {
		state.completeLocked(&st)
		state.configured = p.configured
		state.counts = slices.Concat(state.counts, p.counts)
		state.rebuildLocked(&st, true)
		for addr, s := range state.latest.byAddr {
			if fresh := p.latest.byAddr[addr]; fresh != nil {
				s.overrideLocked(fresh)
			}
		}
		return true
	})
}

// overrideLocked repeats what was done to other by hand.
func (s *Server) overrideLocked(other *Server) {
	if ratio := other.Ratio(); ratio != max(other.configured.Ratio, 1) {
		s.setRatioLocked(ratio)
	}
	switch {
	case other.drain.on && !s.disabled:
		s.drain, s.boundCounts = other.drain, nil
	case other.disabled != other.configured.Disabled:
		s.setDisabledLocked(other.disabled)
	}
}

// Is reports whether p and other are handles on the same pool: equal, or one has adopted the other.
func (p *Pool) Is(other *Pool) bool {
	return p == other || p != nil && other != nil && p.live() == other.live()
}

// live returns the pool that p forwards to, which is p unless it has adopted another.
func (p *Pool) live() *Pool {
	for next := p.next.Load(); next != nil; next = p.next.Load() {
		p = next
	}
	return p
}

// live returns the server that s is now, which is another if its pool has adopted one.
func (s *Server) live() *Server {
	if s.pool.next.Load() == nil {
		return s
	}
	if now := s.pool.live().current.Load().byAddr[s.addr]; now != nil {
		return now
	}
	return s
}
