package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// dormantFor is how long an override waits for a server that is gone.
const dormantFor = 24 * time.Hour

// An override is what an operator says about a server, in the state file.
type override struct {
	ID        string       `json:"id"`
	VS        string       `json:"vs"`
	Pool      string       `json:"pool"`
	Server    string       `json:"server"`         // name, or address and port if several have the name
	State     lbpool.State `json:"state,omitzero"` // Up, Disabled or Draining; Down: not said
	KeepBound bool         `json:"keep_bound,omitempty"`
	Deadline  time.Time    `json:"deadline,omitzero"`
	Ratio     int          `json:"ratio,omitempty"` // 0: not said
	Who       string       `json:"who"`
	Since     time.Time    `json:"since"`
	Missing   time.Time    `json:"missing,omitzero"` // since when there is no such server

	// What the configuration said then. If it changes, it wins.
	FileDisabled bool `json:"file_disabled,omitempty"`
	FileRatio    int  `json:"file_ratio,omitempty"`
}

// valid reports the faults of an override from a file.
func (o *override) valid() error { return o.forPool().Validate() }

func (o *override) forPool() lbpool.Override {
	return lbpool.Override{Server: o.Server, State: o.State, KeepBound: o.KeepBound, Deadline: o.Deadline, Ratio: o.Ratio}
}

// String describes what is said.
func (o override) String() string {
	var words []string
	if o.State != lbpool.Down {
		words = append(words, wordOf(o.State))
	}
	if !o.Deadline.IsZero() {
		words = append(words, "until "+o.Deadline.Format(time.RFC3339))
	}
	if o.Ratio != 0 {
		words = append(words, fmt.Sprintf("ratio %d", o.Ratio))
	}
	return cmp.Or(strings.Join(words, ", "), "as configured")
}

// wordOf is the inverse of stateOf; "" for a state that is not said.
func wordOf(s lbpool.State) string {
	switch s {
	case lbpool.Down:
		return ""
	case lbpool.Up:
		return stateEnabled
	}
	return s.String()
}

// An overrideView is what an operator says about a server.
type overrideView struct {
	ID        string    `json:"id"`                // for DELETE
	VS        string    `json:"vs"`                // the virtual service
	Pool      string    `json:"pool"`              // the pool
	Server    string    `json:"server"`            // name, or address and port
	State     string    `json:"state,omitempty"`   // "enabled", "disabled" or "draining"; missing: as configured
	KeepBound bool      `json:"keep_bound"`        // bound clients may stay while it drains
	Deadline  time.Time `json:"deadline,omitzero"` // of a drain; missing: none
	Ratio     int       `json:"ratio,omitempty"`   // missing: as configured
	Who       string    `json:"who"`               // said so
	Since     time.Time `json:"since"`             // when
	Active    bool      `json:"active"`            // the server exists; else it is dormant
	Missing   time.Time `json:"missing,omitzero"`  // since when there is no such server; it is dropped after a day
}

// Overrides returns what operators have said about the servers of a virtual
// service, for [limpet.Config].Overrides. Call it whenever a configuration is
// built, so that no request goes to a server that an operator has disabled.
func (a *Admin) Overrides(vs string) []limpet.Override { return ofService(a.kept().Overrides, vs) }

// Apply puts what operators have changed into a configuration that is to be
// put in force: it sets Overrides, and edits IPGroups. Call it before
// [limpet.New] and [limpet.VirtualService.Update]. Without it, Run repeats the
// changes within a second after an update.
func (a *Admin) Apply(cfg *limpet.Config) {
	name := cmp.Or(cfg.Name, "limpet")
	cfg.Overrides = a.Overrides(name)
	if cfg.IPGroups != nil {
		a.repeatEdits(name, cfg.IPGroups)
	}
}

func (a *Admin) countOverrides() int { return len(a.kept().Overrides) }

// overrideOf returns the override of a server, nil if there is none.
func (a *Admin) overrideOf(vs string, p *lbpool.Pool, s *lbpool.Server) *override {
	for _, o := range a.kept().Overrides {
		if o.VS == vs && o.Pool == p.Name() && slices.Contains(serversNamed(p, o.Server), s) {
			return &o
		}
	}
	return nil
}

// find returns what an override is about; ok is false if that does not exist.
func (a *Admin) find(o *override) (vs *limpet.VirtualService, p *lbpool.Pool, s *lbpool.Server, ok bool) {
	if vs, ok = a.service(o.VS); !ok {
		return nil, nil, nil, false
	}
	for _, p := range vs.Pools() {
		if p.Name() != o.Pool {
			continue
		}
		if found := serversNamed(p, o.Server); len(found) > 0 {
			return vs, p, found[0], true
		}
		return vs, p, nil, false
	}
	return vs, nil, nil, false
}

func listOverrides(c *call) (any, error) {
	all := c.kept().Overrides
	c.tagged(etag(all))
	var views []overrideView
	for _, o := range all {
		_, _, _, active := c.Admin.find(&o)
		views = append(views, overrideView{
			o.ID, o.VS, o.Pool, o.Server, wordOf(o.State), o.KeepBound, o.Deadline, o.Ratio, o.Who, o.Since, active, o.Missing,
		})
	}
	return listOf(views), nil
}

func clearOverrides(c *call) (any, error) {
	return c.clear(func(override) bool { return true })
}

func clearOverride(c *call) (any, error) {
	id := c.r.PathValue("id")
	c.change.Target = id
	if !slices.ContainsFunc(c.kept().Overrides, func(o override) bool { return o.ID == id }) {
		return nil, fail(http.StatusNotFound, codeNoOverride, "no override %s", quote(id))
	}
	return c.clear(func(o override) bool { return o.ID == id })
}

// clear ends overrides: their servers become what the configuration says.
func (c *call) clear(which func(override) bool) (any, error) {
	c.steering.Lock()
	defer c.steering.Unlock()
	before := c.kept().Overrides
	if err := c.unchanged(etag(before)); err != nil {
		return nil, err
	}
	var gone []string
	for _, o := range before {
		if which(o) {
			gone = append(gone, o.Pool+"/"+o.Server)
			c.change.VS, c.change.From = o.VS, o.String()
		}
	}
	if len(gone) > 1 {
		c.change.VS, c.change.From = "", fmt.Sprintf("%d overrides", len(gone))
	}
	c.change.Target, c.change.To = strings.Join(gone, ", "), "as configured"
	if err := c.saveOverrides(slices.DeleteFunc(slices.Clone(before), which)); err != nil {
		return nil, err
	}
	c.repeatOverrides(true)
	return clearedView{len(gone)}, nil
}

// A clearedView says how many overrides have ended.
type clearedView struct {
	Cleared int `json:"cleared"` // overrides
}

// saveOverrides stores the overrides. Whoever calls it holds steering.
func (a *Admin) saveOverrides(all []override) error {
	next := *a.kept()
	next.Overrides = all
	return a.save(&next)
}

// repeatOverrides puts the overrides in force where an update has dropped them.
// Without all, it looks only at services that have overrides.
func (a *Admin) repeatOverrides(all bool) {
	for _, vs := range a.services() {
		cfg := vs.Config()
		if list := a.Overrides(cfg.Name); !all && len(list) == 0 || slices.Equal(list, cfg.Overrides) && !all {
			continue
		}
		for _, p := range vs.Pools() {
			_ = applyTo(vs, p, a.kept().Overrides) // they have been checked
		}
	}
}

// settle ends overrides that the configuration contradicts, and those whose
// server has been gone for a day.
func (a *Admin) settle() {
	a.steering.Lock()
	defer a.steering.Unlock()
	before := a.kept().Overrides
	var after []override
	for _, o := range before {
		if next, keep := a.settled(o); keep {
			after = append(after, next)
		}
	}
	if !slices.Equal(before, after) {
		if a.saveOverrides(after) != nil {
			return // it was logged; the next turn tries again
		}
		a.repeatOverrides(true)
		return
	}
	a.repeatOverrides(false)
}

// settled returns what is left of an override.
func (a *Admin) settled(o override) (next override, keep bool) {
	_, _, s, ok := a.find(&o)
	next = o
	if !ok {
		if next.Missing.IsZero() {
			next.Missing = wallClock()
		}
		keep = time.Since(next.Missing) < dormantFor
		if !keep {
			a.noteOwn("override dropped", o.VS, o.Pool+"/"+o.Server, o.String(), "")
		}
		return next, keep
	}
	next.Missing = time.Time{}
	conf := s.Configured()
	if conf.Disabled != o.FileDisabled {
		next.State, next.KeepBound, next.Deadline, next.FileDisabled = lbpool.Down, false, time.Time{}, conf.Disabled
	}
	if conf.Ratio != o.FileRatio {
		next.Ratio, next.FileRatio = 0, conf.Ratio
	}
	if said := o.String(); said != next.String() {
		a.noteOwn("override ended by the configuration", o.VS, o.Pool+"/"+o.Server, said, next.String())
	}
	return next, next.State != lbpool.Down || next.Ratio != 0
}
