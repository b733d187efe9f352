package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
)

// A statusView is the whole at a glance.
type statusView struct {
	Version       string          `json:"version,omitempty"`     // of the program
	Started       time.Time       `json:"started"`               // when the Admin was made
	UptimeSeconds float64         `json:"uptime_seconds"`        // since then
	LastReload    *reloadView     `json:"last_reload,omitempty"` // by way of this API; missing if there was none
	Overrides     int             `json:"overrides"`             // changes of operators in force or dormant
	ReadOnly      bool            `json:"read_only"`             // every change is refused
	Services      []serviceStatus `json:"services"`              // by name
}

// A serviceStatus is a virtual service at a glance.
type serviceStatus struct {
	Name              string  `json:"name"`                // of the virtual service
	Score             float64 `json:"score"`               // its health, 0 to 100
	Color             string  `json:"color"`               // "green", "yellow", "orange" or "red"
	Requests          uint64  `json:"requests"`            // completed since it was made
	RequestsPerSecond float64 `json:"requests_per_second"` // in the last minute
	InFlight          int     `json:"in_flight"`           // requests under way
	PoolsUp           int     `json:"pools_up"`            // pools that can take requests
	Pools             int     `json:"pools"`               // all of its pools
	ServersUp         int     `json:"servers_up"`          // servers that take requests
	Servers           int     `json:"servers"`             // those that are not disabled
}

func getStatus(c *call) (any, error) { return c.status(), nil }

// status returns the whole at a glance.
func (c *call) status() statusView {
	a := c.Admin
	v := statusView{
		Version: a.config.Version, Started: utc(a.begun), UptimeSeconds: time.Since(a.begun).Seconds(),
		LastReload: a.lastReload.Load(), Overrides: a.countOverrides(), ReadOnly: a.config.ReadOnly, Services: []serviceStatus{},
	}
	for _, vs := range a.services() {
		v.Services = append(v.Services, statusOf(vs))
	}
	slices.SortFunc(v.Services, func(a, b serviceStatus) int { return strings.Compare(a.Name, b.Name) })
	return v
}

func statusOf(vs *limpet.VirtualService) serviceStatus {
	h, in, st := vs.Health(), vs.HealthInput(), vs.Stats()
	v := serviceStatus{
		Name: vs.Config().Name, Score: h.Score, Color: h.Color(), Requests: st.Requests, RequestsPerSecond: in.Recent.Rate,
		InFlight: st.InFlight, ServersUp: in.ServersUp, Servers: in.Servers,
	}
	for _, p := range vs.Pools() {
		v.Pools++
		if p.Up() {
			v.PoolsUp++
		}
	}
	return v
}

// A readyView says whether clients are served.
type readyView struct {
	Status string `json:"status"` // "ok" if they are, "unavailable" if not
}

func healthz(*call) (any, error) { return readyView{"ok"}, nil }

// readyz says whether the program serves clients, and whether each service has
// a pool that is up, if it has pools. Nobody is judged here, so it does not say
// why not.
func readyz(c *call) (any, error) {
	values, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("query", "%v", err)
	}
	name := values.Get("vs")
	ready, found := c.config.Ready == nil || c.config.Ready() == nil, name == ""
	for _, vs := range c.services() {
		if name != "" && vs.Config().Name != name {
			continue
		}
		found = true
		s := statusOf(vs)
		ready = ready && (s.Pools == 0 || s.PoolsUp > 0)
	}
	switch {
	case !found:
		return nil, fail(http.StatusNotFound, codeNoService, "no virtual service %s", quote(name))
	case !ready:
		return nil, unavailable("not ready")
	}
	return readyView{"ok"}, nil
}
