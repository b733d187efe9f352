package admin

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/policy"
)

// A groupView is a group that rules and scripts name.
type groupView struct {
	Name      string     `json:"name"`                // of the group
	Kind      string     `json:"kind"`                // "ip", "string list" or "string map"
	Entries   int        `json:"entries"`             // without edits
	Countries []string   `json:"countries,omitempty"` // codes, of an IP group
	ASNs      []uint32   `json:"asns,omitempty"`      // autonomous systems, of an IP group
	Edits     []editView `json:"edits"`               // of operators; string groups have none
}

// An editView is an operator's change of an IP group.
type editView struct {
	Entry  string    `json:"entry"`          // address or prefix
	Remove bool      `json:"remove"`         // the group does not contain it; else it does
	Until  time.Time `json:"until,omitzero"` // missing: for ever
}

// A groupEdit is a change of an IP group, in the state file.
type groupEdit struct {
	VS     string    `json:"vs"`
	Group  string    `json:"group"`
	Entry  string    `json:"entry"`
	Remove bool      `json:"remove,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

func listGroups(c *call) (any, error) {
	var all []groupView
	cfg := c.vs.Config()
	if cfg.IPGroups != nil {
		for _, name := range cfg.IPGroups.Names() {
			if g, ok := viewIPGroup(cfg.IPGroups, name); ok {
				all = append(all, g)
			}
		}
	}
	if cfg.StringGroups != nil {
		for _, name := range cfg.StringGroups.Names() {
			if g, ok := cfg.StringGroups.Group(name); ok {
				all = append(all, viewStringGroup(g))
			}
		}
	}
	slices.SortStableFunc(all, func(a, b groupView) int { return strings.Compare(a.Name, b.Name) })
	return listOf(all), nil
}

func viewIPGroup(set *ipgroup.Set, name string) (groupView, bool) {
	g, ok := set.Group(name)
	if !ok {
		return groupView{}, false
	}
	v := groupView{Name: name, Kind: "ip", Entries: g.Len(), Countries: g.Countries(), ASNs: g.ASNs(), Edits: []editView{}}
	edits, _ := set.Edits(name)
	for _, e := range edits {
		v.Edits = append(v.Edits, editView{e.Entry, e.Remove, utc(e.Until)})
	}
	return v, true
}

func viewStringGroup(g *policy.StringGroup) groupView {
	return groupView{Name: g.Name(), Kind: "string " + strings.TrimPrefix(g.Kind().String(), "string "), Entries: g.Len(), Edits: []editView{}}
}

// group finds the IP group that the path names.
func (c *call) group() (*ipgroup.Set, groupView, error) {
	name := c.r.PathValue("group")
	c.change.Target = name
	if set := c.vs.Config().IPGroups; set != nil {
		if v, ok := viewIPGroup(set, name); ok {
			return set, v, nil
		}
	}
	return nil, groupView{}, fail(http.StatusNotFound, codeNoGroup, "no IP group %s", quote(name))
}

func getGroup(c *call) (any, error) {
	name, cfg := c.r.PathValue("group"), c.vs.Config()
	_, v, err := c.group()
	if err != nil && cfg.StringGroups != nil {
		if g, ok := cfg.StringGroups.Group(name); ok {
			v, err = viewStringGroup(g), nil
		}
	}
	if err != nil {
		return nil, err
	}
	c.tagged(etag(v.Edits))
	return v, nil
}

// A groupPatch changes an IP group.
type groupPatch struct {
	Add        []string `json:"add,omitempty"`         // addresses and prefixes that the group is to contain
	Remove     []string `json:"remove,omitempty"`      // those that it is not to contain
	ForSeconds *float64 `json:"for_seconds,omitempty"` // how long, more than 0; missing: for ever
}

func editGroup(c *call) (any, error) {
	var patch groupPatch
	if err := c.decode(&patch); err != nil {
		return nil, err
	}
	if len(patch.Add)+len(patch.Remove) == 0 {
		return nil, badRequest("add", "neither add nor remove is given")
	}
	var until time.Time
	if t := patch.ForSeconds; t != nil {
		if !(*t > 0) || *t > maxTimeout.Seconds() {
			return nil, badRequest("for_seconds", "%v is not above 0 and at most %v", *t, maxTimeout.Seconds())
		}
		until = wallClock().Add(time.Duration(*t * float64(time.Second)))
	}
	c.change.To = strings.TrimSpace("+" + strings.Join(patch.Add, " +") + " -" + strings.Join(patch.Remove, " -"))
	return c.changeGroup(func(set *ipgroup.Set, name string) error {
		return set.Edit(name, patch.Add, patch.Remove, until)
	})
}

// changeGroup changes the edits of a group, and stores them. If they cannot be
// stored, they are as before.
func (c *call) changeGroup(change func(set *ipgroup.Set, name string) error) (any, error) {
	c.steering.Lock()
	defer c.steering.Unlock()
	set, v, err := c.group()
	if err != nil {
		return nil, err
	}
	if err := c.unchanged(etag(v.Edits)); err != nil {
		return nil, err
	}
	before, err := set.Edits(v.Name)
	if err == nil {
		err = change(set, v.Name)
	}
	if err != nil {
		return nil, err
	}
	after, err := set.Edits(v.Name)
	if err == nil {
		err = c.saveEdits(c.name, v.Name, after)
	}
	if err != nil {
		_ = set.Revert(v.Name)
		putEdits(set, v.Name, before)
		return nil, err
	}
	v, _ = viewIPGroup(set, v.Name)
	c.tagged(etag(v.Edits))
	return v, nil
}

// saveEdits stores the edits of a group. Whoever calls it holds steering.
func (a *Admin) saveEdits(vs, group string, edits []ipgroup.Edit) error {
	next := *a.kept()
	next.Edits = slices.DeleteFunc(slices.Clone(next.Edits), func(e groupEdit) bool { return e.VS == vs && e.Group == group })
	for _, e := range edits {
		next.Edits = append(next.Edits, groupEdit{vs, group, e.Entry, e.Remove, utc(e.Until)})
	}
	return a.save(&next)
}

// putEdits makes edits that were made before.
func putEdits(set *ipgroup.Set, group string, edits []ipgroup.Edit) {
	for _, e := range edits {
		add, remove := []string{e.Entry}, []string(nil)
		if e.Remove {
			add, remove = remove, add
		}
		_ = set.Edit(group, add, remove, e.Until) // fails if it has just ended
	}
}

// repeatEdits makes the stored edits of a service in its groups.
func (a *Admin) repeatEdits(vs string, set *ipgroup.Set) {
	for _, e := range a.kept().Edits {
		if e.VS == vs {
			putEdits(set, e.Group, []ipgroup.Edit{{Entry: e.Entry, Remove: e.Remove, Until: e.Until}})
		}
	}
}

// pruneEdits forgets edits that have ended, and makes the others again in
// groups that an update of a service has brought.
func (a *Admin) pruneEdits() {
	a.steering.Lock()
	defer a.steering.Unlock()
	before, now := a.kept().Edits, time.Now()
	after := slices.DeleteFunc(slices.Clone(before), func(e groupEdit) bool { return !e.Until.IsZero() && !now.Before(e.Until) })
	if len(after) < len(before) {
		next := *a.kept()
		next.Edits = after
		_ = a.save(&next) // which logs an error; the next turn tries again
	}
	if len(after) == 0 {
		return
	}
	edited := map[string]*ipgroup.Set{}
	for _, vs := range a.services() {
		cfg := vs.Config()
		if cfg.IPGroups != nil && a.edited[cfg.Name] != cfg.IPGroups {
			a.repeatEdits(cfg.Name, cfg.IPGroups)
		}
		edited[cfg.Name] = cfg.IPGroups
	}
	a.edited = edited
}

// A groupRevert says which edits are to end.
type groupRevert struct {
	Entries []string `json:"entries,omitempty"` // missing: all
}

func revertGroup(c *call) (any, error) {
	var r groupRevert
	if _, err := c.decodeOptional(&r); err != nil {
		return nil, err
	}
	if r.Entries != nil && len(r.Entries) == 0 {
		return nil, badRequest("entries", "empty; leave it out to end all edits")
	}
	c.change.To = "reverted " + cmp.Or(strings.Join(r.Entries, " "), "all")
	return c.changeGroup(func(set *ipgroup.Set, name string) error { return set.Revert(name, r.Entries...) })
}

// A groupTest asks which groups contain an address.
type groupTest struct {
	Address string `json:"address"` // of a client
}

// A groupTestResult says which groups contain an address.
type groupTestResult struct {
	Address string       `json:"address"`           // as it is compared
	Label   string       `json:"label,omitempty"`   // of the address in logs
	Country string       `json:"country,omitempty"` // its code
	Groups  []groupMatch `json:"groups"`            // that contain it, and those that an edit takes it from
}

// A groupMatch says why a group contains an address, or not.
type groupMatch struct {
	Name     string `json:"name"`     // of the group
	Contains bool   `json:"contains"` // the address
	Entry    string `json:"entry"`    // that decides
}

func testGroups(c *call) (any, error) {
	var t groupTest
	if err := c.decode(&t); err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddr(t.Address)
	if err != nil {
		return nil, badRequest("address", "%s is not an address", quote(t.Address))
	}
	addr, cfg := addr.Unmap().WithZone(""), c.vs.Config()
	v := groupTestResult{Address: addr.String(), Groups: []groupMatch{}}
	if cfg.Geo != nil {
		v.Country, _ = cfg.Geo.Locate(addr, "")
	}
	if cfg.IPGroups == nil {
		return v, nil
	}
	for _, name := range cfg.IPGroups.Names() {
		g, ok := cfg.IPGroups.Group(name)
		if !ok {
			continue
		}
		if entry, in := g.Match(addr); in || entry != "" {
			v.Groups = append(v.Groups, groupMatch{name, in, entry})
		}
	}
	v.Label = cmp.Or(cfg.IPGroups.Label(addr, nil), v.Country)
	return v, nil
}
