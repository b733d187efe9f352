package limpet

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/histogram"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// Stats are the counts since the virtual service was made.
type Stats struct {
	Requests       uint64 // that were completed
	PolicyDrops    uint64 // connections and requests that policies refused
	ScriptFailures uint64 // scripts that failed
	RefusedBodies  uint64 // requests that got 413 because the body was longer than its buffer
	HeadBodies     uint64 // requests of whose body scripts saw only the beginning

	InFlight int    // requests under way, without those in Upgraded
	Upgraded int    // requests under way whose connection was upgraded or hijacked, or is a tunnel
	Received uint64 // bytes of the bodies of requests, as far as they were read
	Sent     uint64 // bytes of the bodies of responses, as far as they were written
	// Codes counts requests by the status of the response: itself if it is a
	// common one, such as "404", else its class, such as "4xx"; "499" if the
	// client left before it got an answer, and "0" if there was no response for
	// another reason. There are at most 35 labels. Those that have not occurred
	// are left out.
	Codes []Count
	// Significant counts the reasons in [Record].Significant, of requests and
	// of denied connections, by the text of [Significance]. Those that have not
	// occurred are left out.
	Significant []Count
	// LogDropped counts the records that the Logger did not get because of a
	// rate in [Logging], by class: "significant", "filtered", "other", and
	// "connection" for denied connections. A negative rate drops nothing, as
	// nothing of the class is to be logged.
	LogDropped []Count
	// Duration counts requests by [Record].Duration, except those whose
	// connection was upgraded or hijacked, or became a tunnel.
	Duration Histogram
	// FirstByte counts the requests that a server or a handler has answered, by
	// [Record].FirstByte.
	FirstByte Histogram

	// Counts of connections from [VirtualService.Listener].
	OpenConnections    int    // that are open now
	DeniedConnections  uint64 // that were closed when they were accepted, for any reason
	LimitedConnections uint64 // that exceeded a limit of [ConnectionLimits]
	BadProxyHeaders    uint64 // that should have begun with a PROXY header

	// Counts of servers from [NewServer].
	BadRequests      uint64 // connections whose first request was malformed, had too large a header, or was not complete in time
	FailedHandshakes uint64 // of TLS

	// Listeners has the counts of each call of [VirtualService.Listener], in
	// their order. Those of a listener that is closed stay until another one is
	// made.
	Listeners []ListenerStats

	Hits   uint64 // requests that ended as [OutcomeHit]
	Misses uint64 // requests that ended as [OutcomeMiss] or [OutcomeExpired]
	Repins uint64 // requests whose client was bound to a server that was not available
	// Persistence has the counts of all outcomes for each pool and each group
	// of the configuration, sorted by name.
	Persistence []TargetStats

	// Pools has the counts of what was sent to each pool of the configuration,
	// and to the backup pools of these, sorted by name.
	Pools []PoolTraffic

	// Scripts are the counts of the script engine. They restart with each
	// configuration.
	Scripts datascript.Stats
}

// A Count is how often something has happened, or how much of it there is.
type Count struct {
	Label string // what
	N     uint64 // how often
}

// A Histogram counts durations in buckets: those of Prometheus' native
// histograms of schema 2, which are also exact for classic buckets whose bounds
// are powers of two.
type Histogram = histogram.Snapshot

// An Exemplar is a traced request that a [Histogram] has counted.
type Exemplar = histogram.Exemplar

// PoolTraffic are the counts of what a virtual service has sent to one pool:
// requests by way of its own proxy, or by way of an [lbpool.Transport] of a
// wrapped handler. A pool keeps its counts when an update has one of the same
// name.
type PoolTraffic struct {
	Pool string // the pool's name
	// Codes counts the tries by the status of the server's response, with the
	// labels of [Stats].Codes; "499" if the client left before there was one,
	// and "error" if there was none for another reason.
	Codes []Count
	// ConnectErrors are the tries for which no connection to the server could
	// be made. They are among those with the code "error".
	ConnectErrors uint64
	// Response counts the tries by the time from sending the request to the
	// header of the response.
	Response Histogram
	// QueueWait counts the requests that have joined the pool's queue by the
	// time that they waited.
	QueueWait Histogram
}

// ListenerStats are the counts of one listener from [VirtualService.Listener].
type ListenerStats struct {
	Address  string // at which it listens
	Open     int    // connections that are open now
	Accepted uint64 // connections, those that were refused included
	// Refused counts connections that were closed when they were accepted, by
	// reason: "rule" of network security; "max", "max_per_client", "rate" or
	// "rate_per_client" of [ConnectionLimits]; "proxy_header".
	Refused []Count
	// WithoutRequest are connections whose first request did not come to the
	// handler, as in [Stats].BadRequests. This and the next two fields need
	// [NewServer].
	WithoutRequest uint64
	Handshakes     []Count // of TLS, by version: "1.0" to "1.3"
	// HandshakeErrors counts failed handshakes of TLS by reason: "not_tls",
	// "version", "cipher", "sni" (no certificate for the name), "client_cert",
	// "client_alert", "timeout", "closed" or "other".
	HandshakeErrors []Count
}

// Stats returns the present counts. It reads them one after the other, not at
// one instant.
func (vs *VirtualService) Stats() Stats {
	c, conns := &vs.counters, vs.gate.Stats()
	upgraded := max(c.upgraded.Load(), 0)
	st := Stats{
		PolicyDrops: c.policyDrops.Load(), ScriptFailures: c.scriptFailures.Load(),
		RefusedBodies: c.refusedBodies.Load(), HeadBodies: c.headBodies.Load(),
		InFlight: int(max(vs.active.n.Load()-upgraded, 0)), Upgraded: int(upgraded),
		OpenConnections: conns.Open, DeniedConnections: conns.Denied, LimitedConnections: conns.Limited, BadProxyHeaders: conns.BadHeaders,
		BadRequests: c.badRequests.Load(), FailedHandshakes: c.failedHandshakes.Load(),
		Listeners:   vs.listenerStats(),
		Persistence: vs.targetStats(),
		Pools:       vs.poolTraffic(),
		Scripts:     vs.current.Load().engine.Stats(),
	}
	c.read(&st)
	return st
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

// ScriptStats returns the present counts of each script, for each event that it
// has code for. A script keeps its counts when an update has one of the same
// name.
func (vs *VirtualService) ScriptStats() []datascript.ScriptStats {
	return vs.current.Load().engine.ScriptStats()
}

// counters count what has no pool. Each processor counts its requests in its
// own part.
type counters struct {
	requests  histogram.Striped[requestCounts]
	exemplars histogram.Exemplars // of durations

	upgraded                      atomic.Int64
	policyDrops, scriptFailures   atomic.Uint64
	refusedBodies, headBodies     atomic.Uint64
	badRequests, failedHandshakes atomic.Uint64
	logDropped                    [len(logDropClasses)]atomic.Uint64
}

type requestCounts struct {
	codes               [len(codeLabels)]atomic.Uint64
	outcomes            [outcomeCount]atomic.Uint64
	significant         [significanceCount]atomic.Uint64
	received, sent      atomic.Uint64
	duration, firstByte histogram.Counter
}

// add counts a record, and the bytes of the request's body.
func (c *counters) add(r *Record, received int64) {
	own := c.requests.Own()
	for _, s := range r.Significant {
		own.significant[s].Add(1)
	}
	if r.Connection {
		return
	}
	own.codes[codeOf(r.Status)].Add(1)
	own.outcomes[r.Outcome].Add(1)
	if received > 0 {
		own.received.Add(uint64(received))
	}
	if r.Bytes > 0 {
		own.sent.Add(uint64(r.Bytes))
	}
	if r.ServerStatus != 0 {
		own.firstByte.Observe(r.FirstByte)
	}
	if !r.Hijacked {
		own.duration.Observe(r.Duration)
	}
}

// read sums up the counts of the processors.
func (c *counters) read(st *Stats) {
	var codes [len(codeLabels)]uint64
	var outcomes [outcomeCount]uint64
	var significant [significanceCount]uint64
	st.Duration, st.FirstByte = histogram.New(), histogram.New()
	for own := range c.requests.All() {
		addAll(codes[:], own.codes[:])
		addAll(outcomes[:], own.outcomes[:])
		addAll(significant[:], own.significant[:])
		st.Received += own.received.Load()
		st.Sent += own.sent.Load()
		own.duration.AddTo(&st.Duration)
		own.firstByte.AddTo(&st.FirstByte)
	}
	for _, n := range codes {
		st.Requests += n
	}
	for p, n := range outcomes {
		switch o := Outcome(p); {
		case o == OutcomeHit:
			st.Hits += n
		case o == OutcomeMiss, o == OutcomeExpired:
			st.Misses += n
		case o.repin():
			st.Repins += n
		}
	}
	st.Duration.Exemplars = c.exemplars.All()
	st.Codes = counts(codeLabels[:], codes[:])
	st.Significant = counts(significances, significant[:])
	var dropped [len(logDropClasses)]uint64
	addAll(dropped[:], c.logDropped[:])
	st.LogDropped = counts(logDropClasses[:], dropped[:])
}

func addAll(sums []uint64, own []atomic.Uint64) {
	for i := range own {
		sums[i] += own[i].Load()
	}
}

// counts returns those of a list that are not 0, with their labels.
func counts(labels []string, list []uint64) (all []Count) {
	for i, n := range list {
		if n > 0 {
			all = append(all, Count{labels[i], n})
		}
	}
	return all
}

// codeLabels are the labels of statuses: those that are common, and classes for
// the others, so that what servers send cannot make labels. They are sorted.
// The last one is for tries only.
var codeLabels = [...]string{
	"0", "1xx",
	"200", "201", "204", "206", "2xx",
	"301", "302", "303", "304", "307", "308", "3xx",
	"400", "401", "403", "404", "405", "408", "409", "410", "413", "416", "421", "429", "431", "499", "4xx",
	"500", "501", "502", "503", "504", "5xx",
	"error",
}

const codeError = len(codeLabels) - 1

// codes are the indexes of statuses in codeLabels.
var codes = func() (indexes [600]uint8) {
	for status := 100; status < len(indexes); status++ {
		i := slices.Index(codeLabels[:], strconv.Itoa(status))
		if i < 0 {
			i = slices.Index(codeLabels[:], strconv.Itoa(status/100)+"xx")
		}
		indexes[status] = uint8(i)
	}
	return indexes
}()

// codeOf returns the index of a status in codeLabels. A status that no class
// has is treated as 500 (RFC 9110, section 15).
func codeOf(status int) int {
	switch {
	case uint(status) < uint(len(codes)):
		return int(codes[status])
	case status < 0:
		return 0
	}
	return int(codes[len(codes)-1])
}

// poolTraffic counts what is sent to a pool.
type poolTraffic struct {
	tries     histogram.Striped[tryCounts]
	exemplars histogram.Exemplars // of responses
}

type tryCounts struct {
	codes         [len(codeLabels)]atomic.Uint64
	connectErrors atomic.Uint64
	response      histogram.Counter
	queueWait     histogram.Counter
}

// add counts a try.
func (p *poolTraffic) add(o *lbpool.Outcome) {
	own := p.tries.Own()
	switch {
	case o.Err == nil:
		own.codes[codeOf(o.Status)].Add(1)
		own.response.Observe(o.FirstByte)
	case errors.Is(o.Err, lbpool.ErrConnect):
		own.connectErrors.Add(1)
		own.codes[codeError].Add(1)
	case errors.Is(o.Err, lbpool.ErrAborted):
		own.codes[codeOf(statusClientGone)].Add(1)
	default:
		own.codes[codeError].Add(1)
	}
}

// trafficOf returns the counts of a pool. They outlive configurations.
func (vs *VirtualService) trafficOf(pool string) *poolTraffic {
	t, ok := vs.traffic.Load(pool)
	if !ok {
		t, _ = vs.traffic.LoadOrStore(pool, new(poolTraffic))
	}
	return t.(*poolTraffic)
}

// poolTraffic returns the counts of the pools that requests can go to.
func (vs *VirtualService) poolTraffic() (all []PoolTraffic) {
	names := map[string]bool{}
	for _, p := range vs.Pools() {
		names[p.Name()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row := PoolTraffic{Pool: name, Response: histogram.New(), QueueWait: histogram.New()}
		traffic := vs.trafficOf(name)
		var codes [len(codeLabels)]uint64
		for own := range traffic.tries.All() {
			addAll(codes[:], own.codes[:])
			row.ConnectErrors += own.connectErrors.Load()
			own.response.AddTo(&row.Response)
			own.queueWait.AddTo(&row.QueueWait)
		}
		row.Codes = counts(codeLabels[:], codes[:])
		row.Response.Exemplars = traffic.exemplars.All()
		all = append(all, row)
	}
	return all
}

// A trafficObserver counts what a transport does with the request of a
// transaction.
type trafficObserver shared

// enter returns the transaction and the counts of a pool, nil if the
// transaction is over: a wrapped handler may send its request later.
func (o *trafficObserver) enter(p *lbpool.Pool) (*transaction, *poolTraffic) {
	if !o.rw.users.enter() {
		return nil, nil
	}
	tx := o.tx.Load()
	if tx == nil {
		o.rw.leave()
		return nil, nil
	}
	name := p.Name()
	if t := tx.s.targets[name]; t != nil && t.traffic != nil {
		return tx, t.traffic
	}
	return tx, tx.vs.trafficOf(name) // a backup pool
}

// Queued implements [lbpool.Observer].
func (o *trafficObserver) Queued(p *lbpool.Pool) {
	if tx, _ := o.enter(p); tx != nil {
		if trace := tx.observed(); trace != nil {
			tx.waiting = trace.Begin(stepQueue, p.Name())
		}
		o.rw.leave()
	}
}

// Dequeued implements [lbpool.Observer].
func (o *trafficObserver) Dequeued(p *lbpool.Pool, waited time.Duration) {
	if tx, traffic := o.enter(p); tx != nil {
		traffic.tries.Own().queueWait.Observe(waited)
		if tx.observed() != nil && tx.waiting != nil {
			tx.waiting(nil)
			tx.waiting = nil
		}
		o.rw.leave()
	}
}

// Tried implements [lbpool.Observer].
func (o *trafficObserver) Tried(p *lbpool.Pool, _ *lbpool.Server, outcome lbpool.Outcome) {
	if tx, traffic := o.enter(p); tx != nil {
		traffic.add(&outcome)
		if outcome.Err == nil && tx.observed() != nil {
			tx.keepExemplar(&traffic.exemplars, outcome.FirstByte)
		}
		o.rw.leave()
	}
}

// listenerStats returns the counts of the listeners.
func (vs *VirtualService) listenerStats() (all []ListenerStats) {
	for _, l := range vs.gate.Listeners() {
		all = append(all, ListenerStats{
			Address: l.Address, Open: l.Open, Accepted: l.Accepted, Refused: sortedCounts(l.Refused), WithoutRequest: l.Counts.WithoutRequest.Load(),
			Handshakes: sortedCounts(l.Counts.Handshakes.All()), HandshakeErrors: sortedCounts(l.Counts.HandshakeErrors.All()),
		})
	}
	return all
}

// sortedCounts returns counts, sorted by label.
func sortedCounts(words map[string]uint64) (all []Count) {
	for _, label := range slices.Sorted(maps.Keys(words)) {
		all = append(all, Count{label, words[label]})
	}
	return all
}
