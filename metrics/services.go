package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// process collects what belongs to no service.
func (e *Exporter) process(s *scrape) {
	s.value(buildInfo, 1, e.build[0], e.build[1], e.build[2])
	e.mu.Lock()
	r := e.reload
	e.mu.Unlock()
	if r.known {
		s.flag(reloadOK, r.ok)
		s.count(reloads, r.succeeded, "success")
		s.count(reloads, r.failed, "failure")
	}
	if !r.at.IsZero() {
		s.value(reloadTime, seconds(r.at))
	}
	if e.config.LogDrops != nil {
		s.count(logDropped, e.config.LogDrops(), "", "", "queue")
	}
}

// seconds returns a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixNano()) / float64(time.Second) }

// services collects what belongs to services.
func (e *Exporter) services(s *scrape, servers Detail) {
	list := slices.Clone(e.config.Services())
	configs := map[*limpet.VirtualService]limpet.Config{}
	for _, vs := range list {
		configs[vs] = vs.Config()
	}
	slices.SortFunc(list, func(a, b *limpet.VirtualService) int { return strings.Compare(configs[a].Name, configs[b].Name) })
	var shared shared
	for _, vs := range list {
		c := configs[vs]
		service(s, vs, c.Name, e.config.ScriptNames)
		pools := vs.Pools()
		slices.SortFunc(pools, func(a, b *lbpool.Pool) int { return strings.Compare(a.Name(), b.Name()) })
		for _, p := range pools {
			if shared.add(p) {
				pool(s, c.Name, p, servers)
			}
		}
		e.stores(s, c.Name, c.Tables, &shared)
		rules(s, vs.PolicyStats(), c.Name)
		groups(s, c)
	}
}

// shared has what has been collected and must not be again: pools and tables
// of several services.
type shared struct {
	pools  map[string][]*lbpool.Pool // by name
	stores map[limpet.Tables]bool
}

func (d *shared) add(p *lbpool.Pool) bool {
	if slices.ContainsFunc(d.pools[p.Name()], p.Is) {
		return false
	}
	if d.pools == nil {
		d.pools = map[string][]*lbpool.Pool{}
	}
	d.pools[p.Name()] = append(d.pools[p.Name()], p)
	return true
}

func (d *shared) addStore(s limpet.Tables) bool {
	if d.stores[s] {
		return false
	}
	if d.stores == nil {
		d.stores = map[limpet.Tables]bool{}
	}
	d.stores[s] = true
	return true
}

// classes of codes are there before the first response of a class, so that
// rates begin at 0.
var classes = []string{"2xx", "3xx", "4xx", "5xx"}

func service(s *scrape, vs *limpet.VirtualService, name string, scriptNames int) {
	st := vs.Stats()
	s.counts(requests, st.Codes, classes, name)
	s.histogram(duration, st.Duration, name)
	s.histogram(firstByte, st.FirstByte, name)
	s.value(inFlight, float64(st.InFlight), name)
	s.value(upgraded, float64(st.Upgraded), name)
	s.count(received, st.Received, name)
	s.count(sent, st.Sent, name)
	s.counts(significant, st.Significant, nil, name)
	for _, c := range st.LogDropped {
		s.count(logDropped, c.N, name, c.Label, "rate")
	}
	for _, t := range st.Persistence {
		for _, o := range slices.Sorted(maps.Keys(t.Outcomes)) {
			s.count(outcomes, t.Outcomes[o], name, t.Target, cmp.Or(o.String(), "none"))
		}
		for _, source := range slices.Sorted(maps.Keys(t.Sources)) {
			s.count(sources, t.Sources[source], name, t.Target, string(source))
		}
	}
	h := vs.Health()
	s.value(healthScore, h.Score, name)
	s.value(healthPenalty, 100-h.Performance, name, "performance")
	s.value(healthPenalty, h.Resources, name, "resources")
	s.value(healthPenalty, h.Anomaly, name, "anomaly")
	s.value(healthPenalty, h.Security, name, "security")

	for _, l := range merged(st.Listeners) {
		s.value(connections, float64(l.Open), name, l.Address)
		s.count(accepted, l.Accepted, name, l.Address)
		s.counts(refused, l.Refused, nil, name, l.Address)
		s.count(withoutRequest, l.WithoutRequest, name, l.Address)
		s.counts(handshakes, l.Handshakes, nil, name, l.Address)
		s.counts(handshakeErrors, l.HandshakeErrors, nil, name, l.Address)
	}
	for _, p := range st.Pools {
		s.counts(poolRequests, p.Codes, classes, name, p.Pool)
		s.count(connectErrors, p.ConnectErrors, name, p.Pool)
		s.histogram(poolResponse, p.Response, name, p.Pool)
		if p.QueueWait.Count() > 0 {
			s.histogram(queueWait, p.QueueWait, name, p.Pool)
		}
	}
	s.count(scriptStates, st.Scripts.Created, name)
	for _, st := range vs.ScriptStats() {
		event := st.Event.String()
		s.count(scriptRuns, st.Runs, name, st.Script, event)
		s.count(scriptInstructions, st.Instructions, name, st.Script, event)
		s.value(scriptSeconds, st.Time.Seconds(), name, st.Script, event)
		for _, kind := range slices.Sorted(maps.Keys(st.Failures)) {
			s.count(scriptFailures, st.Failures[kind], name, st.Script, event, kind)
		}
	}
	custom(s, name, vs.Metrics(), scriptNames)
}

// custom collects what scripts count.
func custom(s *scrape, name string, metrics []datascript.Metric, limit int) {
	slices.SortFunc(metrics, func(a, b datascript.Metric) int { return strings.Compare(a.Name, b.Name) })
	for i, m := range metrics {
		if i == limit {
			break
		}
		f := customTotal
		if m.Gauge {
			f = customValue
		}
		s.value(f, m.Value, name, strings.ToValidUTF8(m.Name, "\uFFFD"))
	}
	s.value(customHidden, float64(max(len(metrics)-limit, 0)), name)
}

// states are all states of servers.
var states = func() (all []lbpool.State) {
	for s := lbpool.State(0); ; s++ {
		if _, err := s.MarshalText(); err != nil {
			return all
		}
		all = append(all, s)
	}
}()

func pool(s *scrape, vs string, p *lbpool.Pool, detail Detail) {
	name, st, servers := p.Name(), p.Stats(), p.Servers()
	in := make([]int, len(states))
	for _, server := range servers {
		in[server.State()]++
	}
	for _, state := range states {
		s.value(poolServers, float64(in[state]), vs, name, state.String())
	}
	s.value(poolLeases, float64(st.Open), vs, name)
	if st.QueueLimit > 0 {
		s.value(queueLength, float64(st.Waiting), vs, name)
		s.value(queueLimit, float64(st.QueueLimit), vs, name)
		s.count(queueRefused, st.QueueFull, vs, name, "full")
		s.count(queueRefused, st.QueueTimeouts, vs, name, "timeout")
		s.count(queueRefused, st.QueueCanceled, vs, name, "client_gone")
	}
	s.count(reselects, st.Reselects, vs, name)
	s.count(reselectsRefused, st.ReselectsSpent, vs, name)
	s.count(discoveryFailures, st.DiscoveryFailures, vs, name)
	for _, c := range st.Changes {
		s.count(stateChanges, c.N, vs, name, c.To.String(), c.Cause)
	}
	for _, m := range st.Monitors {
		s.count(checks, m.Passed, vs, name, m.Name, "passed")
		for _, reason := range slices.Sorted(maps.Keys(m.Failed)) {
			s.count(checks, m.Failed[reason], vs, name, m.Name, reason)
		}
		s.value(checkSeconds, m.Took.Seconds(), vs, name, m.Name)
	}
	if detail != ServersNone {
		labels := labelsOf(servers)
		for i, server := range servers {
			one(s, server, detail, vs, name, labels[i])
		}
	}
}

// labelsOf returns what tells the servers of a pool apart: their names, with
// the address and port if another one has the same name.
func labelsOf(servers []*lbpool.Server) []string {
	labels, times := make([]string, len(servers)), map[string]int{}
	for i, server := range servers {
		labels[i] = server.Name()
		times[labels[i]]++
	}
	for i, server := range servers {
		if address := server.Addr().String(); times[labels[i]] > 1 && labels[i] != address {
			labels[i] += " " + address
		}
	}
	return labels
}

// one collects the metrics of a single server.
func one(s *scrape, server *lbpool.Server, detail Detail, labels ...string) {
	state := server.State()
	if state != lbpool.Disabled && state != lbpool.Draining {
		s.flag(serverUp, state.Usable(), labels...)
	}
	if drain, ok := server.DrainStatus(); ok {
		s.value(drainLeft, float64(drain.Open), append(labels[:3:3], "leases")...)
		if drain.Counted {
			s.value(drainLeft, float64(drain.Bound), append(labels[:3:3], "bound")...)
		}
		if !drain.Deadline.IsZero() {
			s.value(drainDeadline, seconds(drain.Deadline), labels...)
		}
	}
	if detail != ServersFull {
		return
	}
	st := server.Stats()
	s.count(serverRequests, st.Requests, labels...)
	s.count(serverFailures, st.Failures, labels...)
	s.value(serverLeases, float64(st.Open), labels...)
	s.value(serverFirstByte, st.FirstByte.Seconds(), labels...)
}

func rules(s *scrape, st limpet.PolicyStats, vs string) {
	for _, part := range []struct {
		policy string
		rules  []policy.RuleStats
	}{
		{"network_security", st.NetworkSecurity}, {"http_security", st.HTTPSecurity},
		{"http_request", st.HTTPRequest}, {"http_response", st.HTTPResponse},
	} {
		for _, r := range part.rules {
			s.count(ruleHits, r.Hits, vs, part.policy, r.Name, "false")
			s.count(ruleDrops, r.Drops, vs, part.policy, r.Name, "false")
			s.count(ruleErrors, r.Errors, vs, part.policy, r.Name, "false")
			if r.WouldHits > 0 {
				s.count(ruleHits, r.WouldHits, vs, part.policy, r.Name, "true")
				s.count(ruleDrops, r.WouldDrops, vs, part.policy, r.Name, "true")
			}
			if r.Allowed+r.Limited > 0 {
				s.count(rateLimits, r.Allowed, vs, r.Name, "allowed")
				s.count(rateLimits, r.Limited, vs, r.Name, "limited")
			}
		}
	}
}

func groups(s *scrape, c limpet.Config) {
	if c.IPGroups != nil {
		for _, name := range c.IPGroups.Names() {
			if g, ok := c.IPGroups.Group(name); ok {
				s.value(groupSize, float64(g.Len()), c.Name, name, "ip")
			}
		}
	}
	if c.StringGroups != nil {
		for _, name := range c.StringGroups.Names() {
			if g, ok := c.StringGroups.Group(name); ok {
				s.value(groupSize, float64(g.Len()), c.Name, name, "string")
			}
		}
	}
}

// merged adds up listeners at the same address: an address that was closed and
// opened again.
func merged(listeners []limpet.ListenerStats) (all []limpet.ListenerStats) {
	for _, l := range listeners {
		i := slices.IndexFunc(all, func(o limpet.ListenerStats) bool { return o.Address == l.Address })
		if i < 0 {
			all = append(all, l)
			continue
		}
		o := &all[i]
		o.Open += l.Open
		o.Accepted += l.Accepted
		o.WithoutRequest += l.WithoutRequest
		o.Refused = sum(o.Refused, l.Refused)
		o.Handshakes = sum(o.Handshakes, l.Handshakes)
		o.HandshakeErrors = sum(o.HandshakeErrors, l.HandshakeErrors)
	}
	return all
}

func sum(a, b []limpet.Count) []limpet.Count {
	all := slices.Clone(a)
	for _, c := range b {
		if i := slices.IndexFunc(all, func(o limpet.Count) bool { return o.Label == c.Label }); i >= 0 {
			all[i].N += c.N
		} else {
			all = append(all, c)
		}
	}
	return all
}
