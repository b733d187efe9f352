package limpet

import (
	"slices"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/lbpool"
)

// An Override is what an operator says about a server of a pool, see
// [Config].Overrides and [lbpool.Pool.Override]. It applies from the New or
// Update that has it to the first Update that does not, also to servers that
// are found later. If the pool or the server does not exist, it is dormant.
//
// It belongs to the virtual service, also if others share the pool. Before you
// discard a virtual service whose pools you go on using, update it without
// Overrides.
type Override struct {
	// Pool is the name of the pool. Required.
	Pool string
	// Server is the name of the server, ignoring case, or its address with
	// port. Required.
	Server string
	// State is [lbpool.Up], [lbpool.Disabled] or [lbpool.Draining]. The zero
	// value leaves the state to the configuration.
	State lbpool.State
	// KeepBound lets clients that are bound to a draining server use it,
	// whatever the pool's DrainPolicy says. It needs Draining.
	KeepBound bool
	// Deadline is when a drain ends at the latest. The zero time waits without
	// limit. It needs Draining.
	Deadline time.Time
	// Ratio is the server's share relative to the others, 1 to 20. 0 leaves it
	// to the configuration.
	Ratio int `min:"0" max:"20"`
}

// ofPool returns the override for the pool.
func (o *Override) ofPool() lbpool.Override {
	return lbpool.Override{Server: o.Server, State: o.State, KeepBound: o.KeepBound, Deadline: o.Deadline, Ratio: o.Ratio}
}

func checkOverrides(overrides []Override, faults *fielderr.List) {
	for i := range overrides {
		o, path := &overrides[i], fielderr.Index("overrides", i)
		if o.Pool == "" {
			faults.Addf(path+".pool", nil, "missing")
		}
		faults.AddUnder(path, o.ofPool().Validate())
	}
}

// override applies overrides, which have been checked, to the pools.
func (s *snapshot) override(vs *VirtualService, overrides []Override) {
	of := map[string][]lbpool.Override{}
	for i := range overrides {
		o := &overrides[i]
		of[o.Pool] = append(of[o.Pool], o.ofPool())
	}
	for _, p := range s.allPools() {
		_ = p.Override(vs, of[p.Name()]...)
	}
}

// leave takes the overrides of the virtual service away from pools that the new
// configuration does not have.
func (s *snapshot) leave(vs *VirtualService, now *snapshot) {
	pools := now.allPools()
	for _, p := range s.allPools() {
		if !slices.ContainsFunc(pools, p.Is) {
			_ = p.Override(vs)
		}
	}
}
