package lbpool

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// A pool that adopts another one gives it its configuration and from then on
// forwards to it: servers, leases, queues and health stay where they are, and
// both handles mean the same pool. Pool.next is the pool to forward to.

// adopting serialises Adopt, which needs the locks of two pools.
var adopting sync.Mutex

// Adopt replaces old by p, for a configuration that was built again while the
// old one is in use. Afterwards p and old are two handles of one pool, which
// has the configuration of p, including its name, and the state of old.
// Requests in progress go on, and none fails because of it.
//
// Servers with the same address and port are the same servers, as for Update,
// and values from either pool stay valid. They keep leases, counters, slow
// start and ejections, and the effects of Enable, Disable, Drain and SetRatio;
// if those were called on p's servers too, p's apply. The results of a health
// monitor are kept if the monitor of p has the same name, port and Checker.
// Otherwise the server is Unchecked until the new monitor has checked it; with
// StartDown it keeps its state until then. Requests in old's queue keep their
// order. Servers that old's Discoveries have found stay, as after Update.
//
// Leases of p's servers from before are no longer counted, so call Adopt before
// p is used. A pool can adopt one other pool, and be adopted once; otherwise
// Adopt returns an error and changes nothing. Adopting itself, or the same pool
// again, does nothing. All methods of both pools may be called concurrently.
func (p *Pool) Adopt(old *Pool) error { return adoptAll([]adoption{{p, old}}) }

// Adopt lets each pool of s adopt the pool of the same name in old, if there is
// another one, as [Pool.Adopt] does. A pool of s that is already in use, for
// example by another virtual service, stays as it is. If a pool in old was
// adopted by another pool, Adopt returns an error and changes nothing.
func (s *Set) Adopt(old *Set) error {
	var all []adoption
	for _, name := range slices.Sorted(maps.Keys(s.pools)) {
		if before, ok := old.pools[name]; ok && !s.pools[name].used() {
			all = append(all, adoption{s.pools[name], before})
		}
	}
	return adoptAll(all)
}

// used reports whether the pool has adopted another, has granted a lease, or
// runs.
func (p *Pool) used() bool {
	if p.next.Load() != nil || len(p.running) > 0 {
		return true
	}
	return slices.ContainsFunc(p.current.Load().servers, func(s *Server) bool { return s.requests.Load() > 0 })
}

// An adoption is the arguments of one Adopt.
type adoption struct{ pool, old *Pool }

// fault returns why the adoption is not allowed. It is called with adopting
// locked.
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

// prepareAll performs adoptions, and returns functions to call when no lock is
// held any more.
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
func (p *Pool) moveInto(state *Pool) (*settings, changes) {
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
		state.watchers = slices.Concat(state.watchers, p.watchers)
		for _, w := range p.overrides {
			state.setOverridesLocked(w)
		}
		state.rebuildLocked(&st, true)
		for addr, s := range state.latest.byAddr {
			if fresh := p.latest.byAddr[addr]; fresh != nil {
				s.repeatLocked(fresh)
			}
		}
		return true
	})
}

// repeatLocked repeats the Enable, Disable, Drain and SetRatio calls on other,
// but not the effects of its override, which the pool repeats.
func (s *Server) repeatLocked(other *Server) {
	if ratio := other.Ratio(); other.override.Ratio == 0 && ratio != max(other.configured.Ratio, 1) {
		s.setRatioLocked(ratio)
	}
	switch {
	case other.override.State != Down:
	case other.drain.on && !s.disabled:
		s.drainLocked(other.drain)
	case other.disabled != other.configured.Disabled:
		s.setDisabledLocked(other.disabled)
	}
}

// Is reports whether p and other are handles of the same pool: they are equal,
// or one has adopted the other.
func (p *Pool) Is(other *Pool) bool {
	return p == other || p != nil && other != nil && p.live() == other.live()
}

// live returns the pool that p forwards to, which is p unless it has adopted
// another.
func (p *Pool) live() *Pool {
	for next := p.next.Load(); next != nil; next = p.next.Load() {
		p = next
	}
	return p
}

// live returns the current server for s, which is another one if its pool has
// adopted a pool.
func (s *Server) live() *Server {
	if s.pool.next.Load() == nil {
		return s
	}
	if now := s.pool.live().current.Load().byAddr[s.addr]; now != nil {
		return now
	}
	return s
}
