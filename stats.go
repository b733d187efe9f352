package limpet

import (
	"slices"
	"sync/atomic"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/policy"
)

// Stats are the counts since the virtual service was made.
type Stats struct {
	Requests       uint64 // that were completed
	PolicyDrops    uint64 // connections and requests that policies refused
	ScriptFailures uint64 // scripts that failed
	RefusedBodies  uint64 // requests that got 413 because the body was longer than its buffer
	HeadBodies     uint64 // requests of whose body scripts saw only the beginning

	// Counts of connections from [VirtualService.Listener].
	OpenConnections    int    // that are open now
	DeniedConnections  uint64 // that were closed when they were accepted, for any reason
	LimitedConnections uint64 // that exceeded a limit of [ConnectionLimits]
	BadProxyHeaders    uint64 // that should have begun with a PROXY header

	// Counts of servers from [NewServer].
	BadRequests      uint64 // connections whose first request was malformed, had too large a header, or was not complete in time
	FailedHandshakes uint64 // of TLS

	Hits   uint64 // requests that ended as [OutcomeHit]
	Misses uint64 // requests that ended as [OutcomeMiss] or [OutcomeExpired]
	Repins uint64 // requests whose client was bound to a server that was not available
	// Persistence has the counts of all outcomes for each pool and each group
	// of the configuration, sorted by name.
	Persistence []TargetStats

	// Scripts are the counts of the script engine. They restart with each
	// configuration.
	Scripts datascript.Stats
}

// Stats returns the present counts.
func (vs *VirtualService) Stats() Stats {
	c, conns := &vs.counters, vs.gate.Stats()
	return Stats{
		Requests: c.requests.Load(), PolicyDrops: c.policyDrops.Load(), ScriptFailures: c.scriptFailures.Load(),
		RefusedBodies: c.refusedBodies.Load(), HeadBodies: c.headBodies.Load(),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Repins: c.repins.Load(),
		OpenConnections: conns.Open, DeniedConnections: conns.Denied, LimitedConnections: conns.Limited, BadProxyHeaders: conns.BadHeaders,
		BadRequests: c.badRequests.Load(), FailedHandshakes: c.failedHandshakes.Load(),
		Persistence: vs.targetStats(),
		Scripts:     vs.current.Load().engine.Stats(),
	}
}

// PolicyStats are the counts of each rule, including rules in dry run, in the
// order of the configuration. A rule keeps its counts when an update has a rule
// of the same name and kind.
type PolicyStats struct {
	NetworkSecurity []policy.RuleStats // of connections, or of requests where there is no listener of ours
	HTTPSecurity    []policy.RuleStats // of requests
	HTTPRequest     []policy.RuleStats // of requests
	HTTPResponse    []policy.RuleStats // of responses
}

// PolicyStats returns the present counts of the rules.
func (vs *VirtualService) PolicyStats() PolicyStats {
	s := vs.current.Load()
	return PolicyStats{
		NetworkSecurity: s.network.Stats(), HTTPSecurity: s.security.Stats(),
		HTTPRequest: s.request.Stats(), HTTPResponse: s.response.Stats(),
	}
}

type counters struct {
	requests, policyDrops, scriptFailures, hits, misses, repins atomic.Uint64
	refusedBodies, headBodies                                   atomic.Uint64
	badRequests, failedHandshakes                               atomic.Uint64
}

func (c *counters) add(r *Record) {
	if !r.Connection {
		c.requests.Add(1)
	}
	if slices.Contains(r.Significant, PolicyDrop) {
		c.policyDrops.Add(1)
	}
	switch p := r.Outcome; {
	case p == OutcomeHit:
		c.hits.Add(1)
	case p == OutcomeMiss, p == OutcomeExpired:
		c.misses.Add(1)
	case p.repin():
		c.repins.Add(1)
	}
}
