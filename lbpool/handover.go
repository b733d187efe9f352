package lbpool

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// poolState is what MarshalState writes. Its durations are from, or to, the
// moment of writing; 0 means none.
type poolState struct {
	Servers     []serverState
	Discoveries []discoveryState `json:",omitempty"`
}

// maxStateErr bounds the text of an error in a serverState, whose Checker may
// return any.
const maxStateErr = 1 << 10

// serverState is what a pool knows about a server.
type serverState struct {
	Addr     netip.AddrPort
	Disabled toConfigured[bool]
	Ratio    toConfigured[int]
	Draining bool `json:",omitempty"`
	// Of the drain: how long it has lasted, its timeout, and whether bound
	// clients stay whatever the pool's policy says.
	Drained   time.Duration `json:",omitempty"`
	Timeout   time.Duration `json:",omitempty"`
	KeepBound bool          `json:",omitempty"`

	EjectedFor time.Duration `json:",omitempty"`
	Ejected    time.Duration `json:",omitempty"` // what is left of that
	Failing    int32         `json:",omitempty"`
	Up         time.Duration `json:",omitempty"` // since slow start began

	State   State
	Since   time.Duration
	Cause   string
	Monitor string `json:",omitempty"`
	Err     string `json:",omitempty"`

	Checks []checkState `json:",omitempty"`
}

// A toConfigured is a setting that a program may have changed, and what it was
// configured to be.
type toConfigured[T comparable] struct{ Now, Configured T }

// applies reports whether the setting of another process is to be repeated
// where it is configured like that.
func (c toConfigured[T]) applies(configured T) bool {
	return c.Configured == configured && c.Now != configured
}

// checkState is a check.
type checkState struct {
	Monitor                    string
	Port                       uint16 `json:",omitempty"`
	Up, Maintenance            bool
	Passed, Failed             int
	UpFor, HoldDown, HoldUntil time.Duration `json:",omitempty"`
}

// discoveryState is what a Discovery has found.
type discoveryState struct {
	Name  string
	Found []ServerConfig
}

// MarshalState returns what the pool knows about its servers, for
// [Pool.RestoreState] of a pool in another process that takes the place of this
// one: the results of health monitors, ejections and slow start, the effects of
// Enable, Disable, Drain and SetRatio, and the servers that Discoveries have
// found. It leaves out leases and counters.
func (p *Pool) MarshalState() ([]byte, error) {
	p.refresh()
	var all poolState
	p.lockLive(func(p *Pool) {
		now := time.Now()
		for _, s := range p.latest.servers {
			all.Servers = append(all.Servers, s.stateLocked(now))
		}
		for _, s := range p.searches {
			if len(s.found) > 0 {
				all.Discoveries = append(all.Discoveries, discoveryState{s.discovery.Load().Name, s.found})
			}
		}
	})
	return json.Marshal(all)
}

func (s *Server) stateLocked(now time.Time) serverState {
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return max(now.Sub(t), 1)
	}
	until := func(t time.Time) time.Duration { return max(t.Sub(now), 0) }
	st := serverState{
		Addr:       s.addr,
		Disabled:   toConfigured[bool]{s.disabled, s.configured.Disabled},
		Ratio:      toConfigured[int]{int(s.ratio.Load()), max(s.configured.Ratio, 1)},
		Draining:   s.drain.on,
		EjectedFor: s.ejectedFor,
		Ejected:    until(s.ejectedUntil),
		Failing:    s.failing.Load(),
		Up:         since(s.upSince),
		State:      s.change.State, Since: now.Sub(s.change.At), Cause: s.change.Cause, Monitor: s.change.Monitor,
	}
	// The other process has the overrides itself.
	if o := s.override.State; o == Up || o == Disabled {
		st.Disabled.Now = st.Disabled.Configured
	}
	if s.override.Ratio > 0 {
		st.Ratio.Now = st.Ratio.Configured
	}
	if s.drain.on {
		st.Drained, st.KeepBound = since(s.drain.since), s.drain.keepBound
		if !s.drain.deadline.IsZero() {
			st.Timeout = max(until(s.drain.deadline), 1)
		}
	}
	if s.change.Err != nil {
		st.Err = s.change.Err.Error()
		st.Err = st.Err[:min(len(st.Err), maxStateErr)]
	}
	for _, c := range s.checks {
		if m := c.monitor.Load(); c.known {
			st.Checks = append(st.Checks, checkState{
				Monitor: m.Name, Port: m.Port, Up: c.up, Maintenance: c.maintenance, Passed: c.passed, Failed: c.failed,
				UpFor: since(c.upAt), HoldDown: c.holdDown, HoldUntil: until(c.holdDownUntil),
			})
		}
	}
	return st
}

// RestoreState makes servers what [Pool.MarshalState] has returned in another
// process, where they have the same address and port. Call it before Run. What
// the other process had changed by Disable, Drain and SetRatio applies where
// both are configured alike. The results of a health monitor apply if this pool
// has one of the same name and port, until its own checks have others. Servers
// that the Discoveries of the other process have found belong to those of the
// same names here, until these have asked. An error changes nothing.
func (p *Pool) RestoreState(state []byte) error {
	var all poolState
	if err := json.Unmarshal(state, &all); err != nil {
		return fmt.Errorf("pool %q: state: %w", p.Name(), err)
	}
	now := time.Now()
	p.live().update(now, causeConfigured, "", nil, func() bool {
		p := p.live()
		for _, d := range all.Discoveries {
			p.restoreFoundLocked(d)
		}
		for i := range all.Servers {
			if s := p.latest.byAddr[all.Servers[i].Addr]; s != nil {
				s.restoreLocked(now, &all.Servers[i])
				s.applyOverrideLocked()
			}
		}
		return true
	})
	p.lockLive(func(p *Pool) {
		for i := range all.Servers {
			st := &all.Servers[i]
			if s := p.latest.byAddr[st.Addr]; s != nil && s.change.State == st.State {
				s.change.At, s.change.Cause, s.change.Monitor = now.Add(-st.Since), st.Cause, st.Monitor
				if s.change.Err = nil; st.Err != "" {
					s.change.Err = errors.New(st.Err)
				}
			}
		}
	})
	p.live().notify()
	return nil
}

// restoreFoundLocked gives a search that has found nothing yet the servers of
// another process.
func (p *Pool) restoreFoundLocked(d discoveryState) {
	for _, s := range p.searches {
		if s.discovery.Load().Name != d.Name || len(s.found) > 0 || checkFound(d.Found, p.latest.port) != nil {
			continue
		}
		s.found = d.Found
		p.rebuildLocked(p.latest.settings, false)
	}
}

func (s *Server) restoreLocked(now time.Time, st *serverState) {
	ago := func(d time.Duration) time.Time {
		if d <= 0 {
			return time.Time{}
		}
		return now.Add(-d)
	}
	if ratio := st.Ratio; ratio.applies(max(s.configured.Ratio, 1)) && ratio.Now >= 1 && ratio.Now <= maxRatio {
		s.setRatioLocked(ratio.Now)
	}
	if st.Disabled.applies(s.configured.Disabled) {
		s.setDisabledLocked(st.Disabled.Now)
	}
	if s.disabled {
		return
	}
	d := drain{}
	if st.Draining {
		d = drain{on: true, keepBound: st.KeepBound, since: now.Add(-st.Drained)}
		if st.Timeout > 0 {
			d.deadline = now.Add(st.Timeout)
		}
	}
	s.drainLocked(d)
	s.ejectedFor, s.ejectedUntil, s.upSince = st.EjectedFor, time.Time{}, ago(st.Up)
	if st.Ejected > 0 {
		s.ejectedUntil = now.Add(st.Ejected)
	}
	s.failureRun.begin(s, int(st.Failing))
	for _, c := range s.checks {
		m := c.monitor.Load()
		at := slices.IndexFunc(st.Checks, func(k checkState) bool { return k.Monitor == m.Name && k.Port == m.Port })
		if at < 0 {
			continue
		}
		k := st.Checks[at]
		c.known, c.up, c.maintenance, c.passed, c.failed = true, k.Up, k.Maintenance, k.Passed, k.Failed
		c.upAt, c.holdDown, c.holdDownUntil = ago(k.UpFor), k.HoldDown, now.Add(k.HoldUntil)
		c.quick = k.Failed >= longOutage && !m.DisableQuickStart
	}
}
