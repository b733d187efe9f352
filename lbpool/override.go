package lbpool

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// An Override is what an operator says about a server. It takes the place of
// what the configuration says; see [Pool.Override].
type Override struct {
	// Server is the name of the server, ignoring case, or its address with
	// port. Required.
	Server string
	// State is Up, Disabled or Draining, with the effect of Enable, Disable or
	// Drain. The zero value leaves the state to the configuration.
	State State
	// KeepBound lets clients that are bound to a draining server use it, as
	// DrainBound does. It needs Draining.
	KeepBound bool
	// Deadline is when a drain ends at the latest. The zero time waits without
	// limit. It needs Draining.
	Deadline time.Time
	// Ratio is the server's share relative to the others, 1 to 20. 0 leaves it
	// to the configuration.
	Ratio int `min:"0" max:"20"`
}

var errNoPort = errors.New("an address needs its port")

// Validate reports the faults of an override: it joins a [*FieldError] for
// each.
func (o Override) Validate() error {
	var faults fielderr.List
	switch _, err := netip.ParseAddr(o.Server); {
	case o.Server == "":
		faults.Addf("server", nil, "missing")
	case err == nil:
		faults.Add("server", o.Server, errNoPort)
	}
	switch o.State {
	case Down, Up, Disabled, Draining:
	default:
		faults.Addf("state", o.State, "want up, disabled or draining")
	}
	if o.State != Draining && o.KeepBound {
		faults.Addf("keepBound", true, "needs the state draining")
	}
	if o.State != Draining && !o.Deadline.IsZero() {
		faults.Addf("deadline", o.Deadline, "needs the state draining")
	}
	bounds.Check("", o, &faults)
	return faults.Err()
}

// An overrideList is the overrides of one source. It is never changed.
type overrideList struct {
	by    any
	list  []Override
	index map[string]int // in list, by the lower-case name or the address with port of the server
}

func newOverrideList(by any, list []Override) *overrideList {
	w := &overrideList{by, slices.Clone(list), make(map[string]int, len(list))}
	for i := range w.list {
		o := &w.list[i]
		o.Deadline = o.Deadline.Round(0).UTC() // so that equal ones are ==
		key := strings.ToLower(o.Server)
		if addr, err := netip.ParseAddrPort(o.Server); err == nil {
			key = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).String()
		}
		w.index[key] = i
	}
	return w
}

// about returns the override of a server.
func (w *overrideList) about(s *Server) (o Override, ok bool) {
	i, ok := w.index[s.host]
	j, named := w.index[strings.ToLower(s.label.Load().name)]
	switch {
	case named && (!ok || j > i):
		return w.list[j], true
	case ok:
		return w.list[i], true
	}
	return Override{}, false
}

// Override replaces the overrides that come from by, any comparable value, with
// a list, which may be empty. An error joins a [*FieldError] for each fault;
// then nothing changes.
//
// Each call repeats what the list says, even if Enable, Disable, Drain or
// SetRatio has been called since. A drain goes on, and is not begun again if it
// is over; it gets the deadline of the list. An override stays for servers that
// Update, Adopt or a Discovery brings later: these are never used as the
// configuration says. An override for a server that the pool does not have is
// dormant. A server whose override is taken away becomes what the configuration
// says. Like Drain, the state Draining leaves a server as it is that the
// configuration or a call has disabled.
//
// Of several overrides for one server, the last one applies. Of several
// sources, the one whose list has changed last does.
func (p *Pool) Override(by any, overrides ...Override) error {
	var faults fielderr.List
	for i := range overrides {
		faults.AddUnder(fielderr.Index("overrides", i), overrides[i].Validate())
	}
	if err := faults.Err(); err != nil {
		return err
	}
	w := newOverrideList(by, overrides)
	p.updateLive(causeOperator, func(p *Pool) bool {
		p.setOverridesLocked(w)
		return p.applyOverridesLocked()
	})
	p = p.live()
	p.notify()
	for _, s := range p.current.Load().servers {
		if s.loadState() == Draining {
			s.endIdleDrain(context.Background(), false)
		}
	}
	return nil
}

// setOverridesLocked replaces the overrides of the source of w. Those that are
// new come last; those that are the same keep their place.
func (p *Pool) setOverridesLocked(w *overrideList) {
	at := slices.IndexFunc(p.overrides, func(other *overrideList) bool { return other.by == w.by })
	if at >= 0 {
		if slices.Equal(p.overrides[at].list, w.list) {
			return
		}
		p.overrides = slices.Delete(p.overrides, at, at+1)
	}
	if len(w.list) > 0 {
		p.overrides = append(p.overrides, w)
	}
}

// overrideLocked returns the override that applies to a server.
func (p *Pool) overrideLocked(s *Server) Override {
	for _, w := range slices.Backward(p.overrides) {
		if o, ok := w.about(s); ok {
			return o
		}
	}
	return Override{}
}

// applyOverridesLocked applies the overrides to all servers, and reports
// whether any has changed.
func (p *Pool) applyOverridesLocked() (changed bool) {
	for _, s := range p.latest.servers {
		if s.applyOverrideLocked() {
			changed = true
		}
	}
	return changed
}

// applyOverrideLocked makes the server what its override says, or what the
// configuration says if the override is gone. It reports whether it changed
// anything.
func (s *Server) applyOverrideLocked() (changed bool) {
	before, now := s.override, s.pool.overrideLocked(s)
	s.override = now
	ratio := int(s.ratio.Load())
	switch {
	case now.Ratio > 0:
		s.setRatioLocked(now.Ratio)
	case before.Ratio > 0:
		s.setRatioLocked(max(s.configured.Ratio, 1))
	}
	changed = int(s.ratio.Load()) != ratio
	if before.State != Down && before.State != now.State && (now.State == Down || now.State == Draining) {
		changed = s.setDisabledLocked(s.configured.Disabled) || changed
	}
	switch now.State {
	case Up, Disabled:
		changed = s.setDisabledLocked(now.State == Disabled) || changed
	case Draining:
		changed = s.overrideDrainLocked(now) || changed
	}
	return changed
}

// overrideDrainLocked begins the drain of an override, or goes on with it.
func (s *Server) overrideDrainLocked(o Override) bool {
	d := drain{on: true, keepBound: o.KeepBound, since: time.Now(), deadline: o.Deadline}
	if s.drain.on {
		d.since = s.drain.since
	}
	if s.disabled || d == s.drain {
		return false
	}
	s.drainLocked(d)
	return true
}
