package admin

import (
	"slices"
	"strings"

	"github.com/limpetlb/limpet"
)

// A countView is how often something has happened.
type countView struct {
	Label string `json:"label"` // what
	N     uint64 `json:"n"`     // how often
}

func countsOf(list []limpet.Count) []countView {
	all := make([]countView, len(list))
	for i, c := range list {
		all[i] = countView{c.Label, c.N}
	}
	return all
}

// A timesView sums up a histogram of durations. Quantiles are the upper bounds
// of the buckets that they fall into; they are missing if nothing was counted.
type timesView struct {
	Count      uint64   `json:"count"`                 // durations
	SumSeconds float64  `json:"sum_seconds"`           // all together
	P50Seconds *float64 `json:"p50_seconds,omitempty"` // half were not longer
	P95Seconds *float64 `json:"p95_seconds,omitempty"` // 95 % were not longer
	P99Seconds *float64 `json:"p99_seconds,omitempty"` // 99 % were not longer
}

func timesOf(h limpet.Histogram) timesView {
	v := timesView{Count: h.Count(), SumSeconds: h.Sum.Seconds()}
	if v.Count > 0 {
		v.P50Seconds, v.P95Seconds, v.P99Seconds = quantile(h, 0.5), quantile(h, 0.95), quantile(h, 0.99)
	}
	return v
}

// quantile returns the bound of the bucket with a quantile. Above the last
// bound it is that one.
func quantile(h limpet.Histogram, q float64) *float64 {
	rank, sum := q*float64(h.Count()), uint64(0)
	for i, n := range h.Counts {
		if sum += n; float64(sum) >= rank {
			s := h.Bounds[min(i, len(h.Bounds)-1)].Seconds()
			return &s
		}
	}
	return nil
}

// A serviceView is a virtual service and its counts.
type serviceView struct {
	serviceStatus
	Upgraded         int                `json:"upgraded"`          // requests under way whose connection was upgraded
	ReceivedBytes    uint64             `json:"received_bytes"`    // of the bodies of requests
	SentBytes        uint64             `json:"sent_bytes"`        // of the bodies of responses
	Codes            []countView        `json:"codes"`             // requests by status
	Significant      []countView        `json:"significant"`       // reasons for which records deserve a look
	LogDropped       []countView        `json:"log_dropped"`       // records that were not logged because of a rate, by class
	Duration         timesView          `json:"duration"`          // of requests
	FirstByte        timesView          `json:"first_byte"`        // time until responses began
	PolicyDrops      uint64             `json:"policy_drops"`      // connections and requests that policies refused
	ScriptFailures   uint64             `json:"script_failures"`   // scripts that failed
	Connections      connectionsView    `json:"connections"`       // of all listeners
	Listeners        []listenerView     `json:"listeners"`         // each of them
	Persistence      []persistenceView  `json:"persistence"`       // outcomes of bindings, by pool and group
	Traffic          []trafficView      `json:"traffic"`           // what was sent, by pool
	DefaultPool      string             `json:"default_pool"`      // of requests for which nothing chooses another; empty if there is none
	PoolGroups       []string           `json:"pool_groups"`       // names
	Scripts          []string           `json:"scripts"`           // names, in the order in which they run
	Limits           scriptLimitsView   `json:"script_limits"`     // of each run of a script
	ConnectionLimits connectionCapsView `json:"connection_limits"` // of the listeners
	Remote           *remoteView        `json:"remote"`            // its store on another machine; null if it has none
}

// connectionsView counts connections.
type connectionsView struct {
	Open             int    `json:"open"`              // now
	Denied           uint64 `json:"denied"`            // closed when they were accepted
	Limited          uint64 `json:"limited"`           // above a limit
	BadProxyHeaders  uint64 `json:"bad_proxy_headers"` // without the PROXY header that was due
	BadRequests      uint64 `json:"bad_requests"`      // whose first request was malformed
	FailedHandshakes uint64 `json:"failed_handshakes"` // of TLS
}

// connectionCapsView are the limits of connections; 0 is no limit.
type connectionCapsView struct {
	Max          int `json:"max"`            // connections at a time
	MaxPerClient int `json:"max_per_client"` // of one client
}

// A listenerView counts the connections of a listener.
type listenerView struct {
	Address         string      `json:"address"`          // at which it listens
	Open            int         `json:"open"`             // connections now
	Accepted        uint64      `json:"accepted"`         // connections
	Refused         []countView `json:"refused"`          // by reason
	WithoutRequest  uint64      `json:"without_request"`  // whose first request did not come
	Handshakes      []countView `json:"handshakes"`       // of TLS, by version
	HandshakeErrors []countView `json:"handshake_errors"` // of TLS, by reason
}

// A persistenceView counts the outcomes of bindings to the servers of one pool
// or one group of pools.
type persistenceView struct {
	Target   string      `json:"target"`   // the pool or the group
	Outcomes []countView `json:"outcomes"` // such as "hit" or "repin:down"; "none" if nothing asked for a binding
	Sources  []countView `json:"sources"`  // where bindings were found
}

// A trafficView counts what was sent to a pool.
type trafficView struct {
	Pool          string      `json:"pool"`           // its name
	Codes         []countView `json:"codes"`          // tries by status
	ConnectErrors uint64      `json:"connect_errors"` // tries without a connection
	Response      timesView   `json:"response"`       // time to the header of responses
	QueueWait     timesView   `json:"queue_wait"`     // time in the pool's queue
}

// scriptLimitsView are the limits of each run of a script.
type scriptLimitsView struct {
	Instructions int     `json:"instructions"` // of the virtual machine; 0: default
	TimeSeconds  float64 `json:"time_seconds"` // 0: default
	AllocBytes   int     `json:"alloc_bytes"`  // 0: default
	Concurrent   int     `json:"concurrent"`   // scripts at a time; 0: default
}

func listServices(c *call) (any, error) {
	var all []serviceView
	for _, vs := range c.services() {
		all = append(all, viewService(vs))
	}
	slices.SortFunc(all, func(a, b serviceView) int { return strings.Compare(a.Name, b.Name) })
	return listOf(all), nil
}

func getService(c *call) (any, error) { return viewService(c.vs), nil }

func viewService(vs *limpet.VirtualService) serviceView {
	st, cfg := vs.Stats(), vs.Config()
	v := serviceView{
		serviceStatus: statusOf(vs), Upgraded: st.Upgraded, ReceivedBytes: st.Received, SentBytes: st.Sent,
		Codes: countsOf(st.Codes), Significant: countsOf(st.Significant), LogDropped: countsOf(st.LogDropped),
		Duration: timesOf(st.Duration), FirstByte: timesOf(st.FirstByte), PolicyDrops: st.PolicyDrops, ScriptFailures: st.ScriptFailures,
		Connections: connectionsView{
			st.OpenConnections, st.DeniedConnections, st.LimitedConnections, st.BadProxyHeaders, st.BadRequests, st.FailedHandshakes,
		},
		Listeners: []listenerView{}, Persistence: []persistenceView{}, Traffic: []trafficView{}, PoolGroups: []string{}, Scripts: []string{},
		DefaultPool: cfg.DefaultPool,
		Limits:      scriptLimitsView{cfg.Limits.Instructions, cfg.Limits.Time.Seconds(), cfg.Limits.AllocBytes, cfg.Limits.Concurrent},

		ConnectionLimits: connectionCapsView{cfg.Connections.Max, cfg.Connections.MaxPerClient},
		Remote:           viewRemote(cfg),
	}
	if v.DefaultPool == "" && len(cfg.Pools) > 0 {
		v.DefaultPool = cfg.Pools[0].Name()
	}
	for _, g := range cfg.PoolGroups {
		v.PoolGroups = append(v.PoolGroups, g.Name())
	}
	for _, s := range cfg.Scripts {
		v.Scripts = append(v.Scripts, s.Name())
	}
	for _, l := range st.Listeners {
		v.Listeners = append(v.Listeners, listenerView{
			l.Address, l.Open, l.Accepted, countsOf(l.Refused), l.WithoutRequest, countsOf(l.Handshakes), countsOf(l.HandshakeErrors),
		})
	}
	for _, t := range st.Persistence {
		v.Persistence = append(v.Persistence, viewPersistence(t))
	}
	for _, t := range st.Pools {
		v.Traffic = append(v.Traffic, trafficView{t.Pool, countsOf(t.Codes), t.ConnectErrors, timesOf(t.Response), timesOf(t.QueueWait)})
	}
	return v
}

func viewPersistence(t limpet.TargetStats) persistenceView {
	v := persistenceView{Target: t.Target, Outcomes: []countView{}, Sources: []countView{}}
	for o, n := range t.Outcomes {
		label := o.String()
		if label == "" {
			label = "none"
		}
		v.Outcomes = append(v.Outcomes, countView{label, n})
	}
	for s, n := range t.Sources {
		v.Sources = append(v.Sources, countView{string(s), n})
	}
	byLabel := func(a, b countView) int { return strings.Compare(a.Label, b.Label) }
	slices.SortFunc(v.Outcomes, byLabel)
	slices.SortFunc(v.Sources, byLabel)
	return v
}
