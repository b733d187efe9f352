package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet/lbpool"
)

// A poolView is a pool and its servers.
type poolView struct {
	Name              string         `json:"name"`               // of the pool
	Up                bool           `json:"up"`                 // it can take requests
	Protocol          string         `json:"protocol"`           // that its servers speak
	States            map[string]int `json:"states"`             // servers by state
	Leases            int            `json:"leases"`             // requests under way
	Queue             queueView      `json:"queue"`              // of requests that wait for a server
	Reselects         uint64         `json:"reselects"`          // tries of another server
	ReselectsRefused  uint64         `json:"reselects_refused"`  // tries that were not made, as there were too many
	DiscoveryFailures uint64         `json:"discovery_failures"` // look-ups of servers that failed
	Changes           []stateCount   `json:"changes"`            // changes of servers' states
	Monitors          []monitorView  `json:"monitors"`           // health monitors
	Servers           []serverView   `json:"servers"`            // in the order of the configuration
}

// A queueView is the queue of a pool.
type queueView struct {
	Length   int    `json:"length"`   // requests that wait
	Limit    int    `json:"limit"`    // of them; 0: there is no queue
	Queued   uint64 `json:"queued"`   // requests that have waited
	Full     uint64 `json:"full"`     // requests refused because it was full
	Timeouts uint64 `json:"timeouts"` // requests that waited too long
	Canceled uint64 `json:"canceled"` // requests whose client left
}

// A stateCount counts how often servers have entered a state.
type stateCount struct {
	To    string `json:"to"`    // the state
	Cause string `json:"cause"` // why
	N     uint64 `json:"n"`     // how often
}

// A monitorView counts the checks of a health monitor.
type monitorView struct {
	Name        string      `json:"name"`         // of the monitor
	Passed      uint64      `json:"passed"`       // checks
	Failed      []countView `json:"failed"`       // checks by reason
	TookSeconds float64     `json:"took_seconds"` // the latest check that passed
}

// A serverView is a server.
type serverView struct {
	Name             string         `json:"name"`                 // or address and port if it has none
	Address          string         `json:"address"`              // with port
	Hostname         string         `json:"hostname,omitempty"`   // configured alias
	State            string         `json:"state"`                // such as "up", "down", "draining" or "disabled"
	Ratio            int            `json:"ratio"`                // its share, 1 to 20
	Leases           int            `json:"leases"`               // requests under way
	Full             bool           `json:"full"`                 // it is at its limits
	Requests         uint64         `json:"requests"`             // since it joined the pool
	Failures         uint64         `json:"failures"`             // requests that it failed to answer
	ServerErrors     uint64         `json:"server_errors"`        // answers with status 5xx
	Ejections        uint64         `json:"ejections"`            // times that passive marking took it out
	FirstByteSeconds float64        `json:"first_byte_seconds"`   // smoothed time until it answers
	SlowStart        float64        `json:"slow_start"`           // share of its ratio that slow start grants, 0 to 1
	Since            time.Time      `json:"since"`                // when it entered its state
	Cause            string         `json:"cause"`                // why: "configured", "monitor", "passive", "operator", "drained" or "discovered"
	Monitor          string         `json:"monitor,omitempty"`    // that found out
	Error            string         `json:"error,omitempty"`      // what failed
	Override         string         `json:"override,omitempty"`   // id of the operator's change that applies
	By               string         `json:"by,omitempty"`         // who made it
	Drain            *drainView     `json:"drain,omitempty"`      // while it is draining
	LastDrain        *lastDrainView `json:"last_drain,omitempty"` // that ended; missing if there was none
}

// A drainView says how far the drain of a server is.
type drainView struct {
	Left      *int      `json:"left"`              // leases and bound clients; null if not known
	Leases    int       `json:"leases"`            // requests under way
	Bound     *int      `json:"bound"`             // clients bound to the server; null if not known
	Counted   bool      `json:"counted"`           // the clients can be counted, and have been
	KeepBound bool      `json:"keep_bound"`        // the operator lets bound clients stay
	Since     time.Time `json:"since"`             // when it began
	Deadline  time.Time `json:"deadline,omitzero"` // when it ends at the latest; missing: never
}

// A lastDrainView says how the last drain of a server ended.
type lastDrainView struct {
	At          time.Time `json:"at"`           // when it ended
	Cause       string    `json:"cause"`        // "empty", or "deadline" if clients were left
	Left        *int      `json:"left"`         // leases and bound clients; null if not known
	Leases      int       `json:"leases"`       // requests under way
	Bound       *int      `json:"bound"`        // clients bound to the server; null if not known
	TookSeconds float64   `json:"took_seconds"` // from its beginning
}

func listPools(c *call) (any, error) {
	var all []poolView
	for _, p := range c.vs.Pools() {
		all = append(all, c.viewPool(p))
	}
	slices.SortFunc(all, func(a, b poolView) int { return strings.Compare(a.Name, b.Name) })
	return listOf(all), nil
}

func getPool(c *call) (any, error) {
	p, err := c.pool()
	if err != nil {
		return nil, err
	}
	v := c.viewPool(p)
	var tags []string
	for _, s := range p.Servers() {
		tags = append(tags, c.serverTag(p, s))
	}
	c.tagged(etag(tags))
	return v, nil
}

func getServer(c *call) (any, error) {
	p, err := c.pool()
	if err != nil {
		return nil, err
	}
	s, err := c.server(p)
	if err != nil {
		return nil, err
	}
	c.tagged(c.serverTag(p, s))
	return c.viewServer(p, s), nil
}

// pool finds the pool that the path names.
func (c *call) pool() (*lbpool.Pool, error) {
	name := c.r.PathValue("pool")
	for _, p := range c.vs.Pools() {
		if p.Name() == name {
			return p, nil
		}
	}
	return nil, fail(http.StatusNotFound, codeNoPool, "no pool %s", quote(name))
}

// server finds the server of a pool that the path names.
func (c *call) server(p *lbpool.Pool) (*lbpool.Server, error) {
	name := c.r.PathValue("server")
	c.change.Target = p.Name() + "/" + name
	found := serversNamed(p, name)
	switch len(found) {
	case 0:
		return nil, fail(http.StatusNotFound, codeNoServer, "no server %s in pool %s", quote(name), quote(p.Name()))
	case 1:
		return found[0], nil
	}
	return nil, fail(http.StatusConflict, codeConflict, "%d servers have the name %s; use address and port", len(found), quote(name))
}

// serversNamed returns the servers with an address and port, or else with a
// name, ignoring case.
func serversNamed(p *lbpool.Pool, name string) (found []*lbpool.Server) {
	for _, s := range p.Servers() {
		if s.Addr().String() == name {
			return []*lbpool.Server{s}
		}
		if strings.EqualFold(s.Name(), name) {
			found = append(found, s)
		}
	}
	return found
}

func (c *call) viewPool(p *lbpool.Pool) poolView {
	st := p.Stats()
	v := poolView{
		Name: p.Name(), Up: p.Up(), Protocol: p.Protocol().String(), States: map[string]int{}, Leases: st.Open,
		Queue:     queueView{st.Waiting, st.QueueLimit, st.Queued, st.QueueFull, st.QueueTimeouts, st.QueueCanceled},
		Reselects: st.Reselects, ReselectsRefused: st.ReselectsSpent, DiscoveryFailures: st.DiscoveryFailures,
		Changes: []stateCount{}, Monitors: []monitorView{}, Servers: []serverView{},
	}
	for _, change := range st.Changes {
		v.Changes = append(v.Changes, stateCount{change.To.String(), change.Cause, change.N})
	}
	for _, m := range st.Monitors {
		row := monitorView{m.Name, m.Passed, []countView{}, m.Took.Seconds()}
		for reason, n := range m.Failed {
			row.Failed = append(row.Failed, countView{reason, n})
		}
		slices.SortFunc(row.Failed, func(a, b countView) int { return strings.Compare(a.Label, b.Label) })
		v.Monitors = append(v.Monitors, row)
	}
	for _, s := range p.Servers() {
		row := c.viewServer(p, s)
		v.States[row.State]++
		v.Servers = append(v.Servers, row)
	}
	return v
}

func (c *call) viewServer(p *lbpool.Pool, s *lbpool.Server) serverView {
	st, change := s.Stats(), s.LastChange()
	v := serverView{
		Name: s.Name(), Address: s.Addr().String(), Hostname: s.Hostname(), State: s.State().String(), Ratio: s.Ratio(),
		Leases: st.Open, Full: s.Full(), Requests: st.Requests, Failures: st.Failures, ServerErrors: st.ServerErrors, Ejections: st.Ejections,
		FirstByteSeconds: st.FirstByte.Seconds(), SlowStart: s.SlowStart(),
		Since: utc(change.At), Cause: change.Cause, Monitor: change.Monitor,
	}
	if change.Err != nil {
		v.Error = change.Err.Error()
	}
	o := c.overrideOf(c.name, p, s)
	if o != nil {
		v.Override, v.By = o.ID, o.Who
	}
	if d, ok := s.DrainStatus(); ok {
		v.Drain = &drainView{
			Left: known(d.Open+d.Bound, d.Counted), Leases: d.Open, Bound: known(d.Bound, d.Counted), Counted: d.Counted,
			KeepBound: o != nil && o.KeepBound, Since: utc(d.Since), Deadline: utc(d.Deadline),
		}
	}
	v.LastDrain = c.Admin.live.lastDrain(p, s)
	return v
}

// known returns a number, nil if it is not known.
func known(n int, ok bool) *int {
	if !ok {
		return nil
	}
	return &n
}
