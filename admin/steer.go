package admin

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// A serverPatch is what an operator says about a server. What is missing stays
// as it is.
type serverPatch struct {
	State          *string  `json:"state,omitempty"`           // "enabled", "disabled" or "draining"
	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty"` // after which a drain ends whoever is left, more than 0; missing: without limit
	KeepBound      *bool    `json:"keep_bound,omitempty"`      // bound clients may stay while it drains; missing: true
	Ratio          *int     `json:"ratio,omitempty"`           // its share, 1 to 20
}

// The states that callers ask for.
const (
	stateEnabled  = "enabled"
	stateDisabled = "disabled"
	stateDraining = "draining"
)

// The bounds of a patch.
const (
	maxRatio   = 20
	maxTimeout = 365 * 24 * time.Hour
)

// check refuses values that are not allowed.
func (p *serverPatch) check() error {
	if p.State == nil && p.Ratio == nil {
		return badRequest("state", "neither state nor ratio is given")
	}
	if p.State != nil && !slices.Contains([]string{stateEnabled, stateDisabled, stateDraining}, *p.State) {
		return badRequest("state", "%s is not allowed; allowed: enabled, disabled, draining", quote(*p.State))
	}
	drains := p.State != nil && *p.State == stateDraining
	switch t := p.TimeoutSeconds; {
	case t == nil:
	case !drains:
		return badRequest("timeout_seconds", "needs the state draining")
	case !(*t > 0) || *t > maxTimeout.Seconds():
		return badRequest("timeout_seconds", "%v is not above 0 and at most %v", *t, maxTimeout.Seconds())
	}
	if p.KeepBound != nil && !drains {
		return badRequest("keep_bound", "needs the state draining")
	}
	if r := p.Ratio; r != nil && (*r < 1 || *r > maxRatio) {
		return badRequest("ratio", "%d is not between 1 and %d", *r, maxRatio)
	}
	return nil
}

func patchServer(c *call) (any, error) {
	var patch serverPatch
	if err := c.decode(&patch); err != nil {
		return nil, err
	}
	if err := patch.check(); err != nil {
		return nil, err
	}
	c.steering.Lock()
	defer c.steering.Unlock()
	p, err := c.pool()
	if err != nil {
		return nil, err
	}
	s, err := c.server(p)
	if err != nil {
		return nil, err
	}
	if err := c.unchanged(c.serverTag(p, s)); err != nil {
		return nil, err
	}
	c.change.From = steered(s)
	next, err := c.overrideAfter(&patch, p, s)
	if err != nil {
		return nil, err
	}
	c.change.To = next.String()
	if err := c.steer(c.vs, p, s, next); err != nil {
		return nil, err
	}
	c.tagged(c.serverTag(p, s))
	return c.viewServer(p, s), nil
}

// steered describes what operators can change of a server.
func steered(s *lbpool.Server) string {
	state := stateEnabled
	switch s.State() {
	case lbpool.Disabled:
		state = stateDisabled
	case lbpool.Draining:
		state = stateDraining
	}
	return fmt.Sprintf("%s, ratio %d", state, s.Ratio())
}

// serverTag is the tag of what operators can change of a server.
func (a *Admin) serverTag(p *lbpool.Pool, s *lbpool.Server) string {
	var deadline time.Time
	if d, ok := s.DrainStatus(); ok {
		deadline = d.Deadline
	}
	return etag([]any{p.Name(), s.Addr().String(), steered(s), utc(deadline)})
}

// overrideAfter returns the override that a patch makes of the present one.
func (c *call) overrideAfter(patch *serverPatch, p *lbpool.Pool, s *lbpool.Server) (override, error) {
	next := override{ID: randomID(), VS: c.name, Pool: p.Name(), Server: s.Name()}
	if len(serversNamed(p, s.Name())) != 1 {
		next.Server = s.Addr().String()
	}
	if o := c.overrideOf(c.name, p, s); o != nil {
		next = *o
	}
	conf := s.Configured()
	next.Who, next.Since, next.Missing = c.caller.who, wallClock(), time.Time{}
	next.FileDisabled, next.FileRatio = conf.Disabled, conf.Ratio
	if patch.Ratio != nil {
		next.Ratio = *patch.Ratio
	}
	if patch.State == nil {
		return next, nil
	}
	next.State, next.KeepBound, next.Deadline = stateOf(*patch.State), false, time.Time{}
	if next.State != lbpool.Draining {
		return next, nil
	}
	if s.State() == lbpool.Disabled {
		return next, fail(http.StatusConflict, codeConflict, "the server is disabled; it has no clients that could be drained")
	}
	next.KeepBound = patch.KeepBound == nil || *patch.KeepBound
	if patch.TimeoutSeconds != nil {
		next.Deadline = wallClock().Add(time.Duration(math.Ceil(*patch.TimeoutSeconds * float64(time.Second))))
	} else if next.KeepBound && !countable(c.vs.Config(), p) {
		return next, fail(http.StatusUnprocessableEntity, codeUnbounded,
			"the clients bound to this server cannot be counted, so the drain would never end; set timeout_seconds, or keep_bound to false")
	}
	return next, nil
}

func stateOf(word string) lbpool.State {
	switch word {
	case stateDisabled:
		return lbpool.Disabled
	case stateDraining:
		return lbpool.Draining
	}
	return lbpool.Up
}

// countable reports whether the clients that are bound to servers of a pool
// can be counted.
func countable(cfg limpet.Config, p *lbpool.Pool) bool {
	if _, ok := cfg.Tables.(valueCounter); !ok && (len(cfg.Scripts) > 0 || len(cfg.BoundTables) > 0) {
		return false
	}
	profiles := []limpet.PersistenceProfile{profileOf(cfg, p.Name())}
	for _, g := range cfg.PoolGroups {
		if slices.ContainsFunc(g.Members(), func(m lbpool.Member) bool { return p.Is(m.Pool) }) {
			profiles = append(profiles, profileOf(cfg, g.Name()))
		}
	}
	return !slices.ContainsFunc(profiles, func(profile limpet.PersistenceProfile) bool {
		_, counts := profile.(limpet.PersistenceCounter)
		return profile != nil && profile != limpet.NoPersistence && !counts
	})
}

func profileOf(cfg limpet.Config, target string) limpet.PersistenceProfile {
	if profile, ok := cfg.PoolPersistence[target]; ok {
		return profile
	}
	return cfg.Persistence
}

// steer stores an override and puts it in force. Whoever calls it holds
// steering.
func (a *Admin) steer(vs *limpet.VirtualService, p *lbpool.Pool, s *lbpool.Server, next override) error {
	kept := next // without what the configuration says as well
	if conf := s.Configured(); kept.State == lbpool.Up && !conf.Disabled {
		kept.State = lbpool.Down
	}
	if kept.Ratio == max(s.Configured().Ratio, 1) {
		kept.Ratio = 0
	}
	all := slices.DeleteFunc(slices.Clone(a.kept().Overrides), func(o override) bool { return o.ID == next.ID })
	said := append(slices.Clip(all), next)
	if kept.State != lbpool.Down || kept.Ratio != 0 {
		all = append(all, kept)
	}
	if err := a.saveOverrides(all); err != nil {
		return err
	}
	// First all of it, as the program may have said something else; then only
	// what lasts.
	if err := applyTo(vs, p, said); err != nil {
		return err
	}
	return applyTo(vs, p, all)
}

// applyTo puts the overrides of a pool in force.
func applyTo(vs *limpet.VirtualService, p *lbpool.Pool, all []override) error {
	var list []lbpool.Override
	name := vs.Config().Name
	for i := range all {
		if o := &all[i]; o.VS == name && o.Pool == p.Name() {
			list = append(list, o.forPool())
		}
	}
	return p.Override(vs, list...)
}

// ofService returns the overrides for a virtual service.
func ofService(all []override, vs string) (list []limpet.Override) {
	for _, o := range all {
		if o.VS == vs {
			list = append(list, limpet.Override{Pool: o.Pool, Server: o.Server, State: o.State, KeepBound: o.KeepBound, Deadline: o.Deadline, Ratio: o.Ratio})
		}
	}
	return list
}
