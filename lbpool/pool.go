package lbpool

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/enumtext"
)

// MaxServers is the greatest number of servers of a pool.
const MaxServers = 5000

const (
	maxMonitors    = 50 // of a pool
	maxDiscoveries = 50 // of a pool
	maxRatio       = 20 // of a server
)

// Config describes a pool. New copies it.
type Config struct {
	// Name is the pool's name in errors, logs and a Set. Required.
	Name string
	// Servers are the pool's servers, 1 to 5000, in the order in which
	// algorithms see them. The list may be empty if there are Discoveries.
	Servers []ServerConfig
	// Discoveries find further servers, for example in the DNS; 0 to 50 of
	// them. The servers they find come after Servers, up to MaxServers in all.
	// If several have the same address, the first is taken. Only Run asks the
	// Discoveries, so there are no such servers before it runs.
	Discoveries []Discovery
	// DefaultPort is the port of servers whose Address has none. 0 means 80, or
	// 443 if Scheme is "https".
	DefaultPort uint16
	// Scheme is the protocol a Transport uses to the servers: "http" or
	// "https". Empty means "http".
	Scheme string
	// Protocol is the version of HTTP that a Transport speaks to the servers,
	// and that an HTTPChecker speaks to them. The zero value is ProtocolHTTP1.
	// Servers of gRPC need ProtocolH2, with Scheme "https", or ProtocolH2C,
	// with Scheme "http".
	Protocol Protocol
	// RewriteHost makes a Transport send the server's Hostname as the Host of
	// requests, with the port unless it is the default of Scheme. For a server
	// without a Hostname the Host of the request stays.
	RewriteHost bool
	// KeepPort makes a Transport connect to the port at which the client's
	// connection was accepted, if net/http has put it into the request's
	// context, instead of the server's port. Use it for a virtual service that
	// listens on several ports. Health monitors still check the server's port,
	// and the server is still identified by it.
	KeepPort bool
	// Algorithm chooses among the servers that are up. Nil means
	// LeastConnections(). Do not share a value between pools.
	Algorithm Algorithm
	// HealthMonitors check every server while Run is running; 0 to 50 of them.
	// A server is up while all of them find it healthy. A server that has not
	// been checked is Unchecked and gets requests like one that is up; its
	// first check decides alone. Without monitors all servers are up.
	HealthMonitors []HealthMonitor
	// StartDown makes new servers Down instead of Unchecked, until as many
	// checks as usual have succeeded. A pool with monitors then serves no
	// requests before Run is running.
	StartDown bool
	// Passive takes a server out of service when real requests to it fail. The
	// zero value is on, with the defaults documented there.
	Passive Passive
	// MinMonitorsUp is how many health monitors must find a server healthy for
	// it to be up. 0 means all.
	MinMonitorsUp int `min:"0"`
	// MinServersUp is how many servers must be up for the pool to serve
	// requests. 0 means 1.
	MinServersUp int `min:"0"`
	// SlowStart is the time in which the share of a server that comes up grows,
	// linearly, from almost nothing to its ratio; its MaxConnections grow
	// alike. At most five hours. 0 gives it the full share at once. It does not
	// apply to servers that are up when the pool is made.
	SlowStart time.Duration `min:"0s" max:"5h"`
	// Repick says what to do when the server that a Hint names is not
	// available. The zero value is RepickImmediately.
	Repick Repick
	// RepickFailures is the number of failures for RepickAfterFailures. 0 means
	// 3.
	RepickFailures int `default:"3" min:"1" max:"2147483647"`
	// Drain says which requests may still use a draining server. The zero
	// value: only those in progress.
	Drain DrainPolicy
	// Queue lets requests wait for servers that are at their limits. The zero
	// value is off.
	Queue Queue
	// Reselect says when a Transport tries another server, and how often.
	Reselect Reselect
	// BodyIdleTimeout is how long a server may send nothing while a reader
	// waits for the body of its response. After that reading fails with an
	// error that matches ErrTimeout, and the server has a failure. It applies
	// to bodies of known length. 0 means 60 seconds; negative means no limit.
	BodyIdleTimeout time.Duration `default:"60s" negative:"no limit"`
	// StreamIdleTimeout is the same limit for bodies that may be streams: those
	// of unknown length, and those that arrive while the request body is still
	// being sent. An upgraded connection is closed after this time without data
	// in either direction. 0 means an hour; negative means no limit.
	StreamIdleTimeout time.Duration `default:"1h" negative:"no limit"`
	// FailAction says what to do with requests for which no server is
	// available. A Transport performs FailBackup; the owner of the pool
	// performs the others. The zero value is a response with status 503.
	FailAction FailAction
	// OnEvent is called for each change of a server's state. It is called
	// without locks, on the goroutine that caused the change, so calls may
	// overlap, and it should return soon. Nil ignores events.
	OnEvent func(Event)
	// Logger gets one record for each change of a server's state: at level Warn
	// when a server goes down or is ejected, else at level Info. It gets
	// another one when the pool goes down, at level Error, and when it is up
	// again, at level Info; see [Pool.Up]. Nil discards.
	Logger *slog.Logger
}

// ServerConfig describes one server of a pool.
type ServerConfig struct {
	// Address is an IP address with or without a port: "10.0.0.1",
	// "10.0.0.1:8080", "::1" or "[::1]:80". Address and port identify the
	// server and must be unique within the pool. IPv4-mapped IPv6 addresses
	// become IPv4.
	Address string
	// Name is another name of the server for look-ups, unique within the pool,
	// ignoring case. It must not be an IP address. Empty means the address and
	// port.
	Name string
	// Hostname is an alias for look-ups, and the Host that Config.RewriteHost
	// sends. Several servers may share one.
	Hostname string
	// Ratio is the server's share relative to the others, 1 to 20. The zero
	// value means 1; a file must not have 0.
	Ratio int `default:"1" min:"1" max:"20"`
	// Disabled keeps the server out of service until Enable is called.
	Disabled bool
	// MaxConnections limits the leases in use at a time. 0 means no limit.
	MaxConnections int `min:"0"`
	// MaxRate limits the leases granted per second. A tenth of them, but at
	// least one, may be granted at once. 0 means no limit.
	MaxRate int `min:"0"`
}

// Repick is what Acquire does when the server that a Hint names is down,
// disabled, gone or full. See [Reselect] for what happens when a server fails
// that a request was sent to.
type Repick uint8

const (
	// RepickImmediately lets the algorithm choose another server. Lease.Unmet
	// gives the reason.
	RepickImmediately Repick = iota
	// RepickNever refuses the request with an error that matches ErrNoServer.
	RepickNever
	// RepickAfterFailures keeps using a server that is down, as if it were up,
	// until Config.RepickFailures requests in a row have failed there; after
	// that it is RepickImmediately. A server that is disabled, gone or full is
	// replaced at once.
	RepickAfterFailures
)

var repicks = []string{"immediately", "never", "after failures"}

// String returns the name: "immediately", "never" or "after failures";
// "invalid" for other values.
func (r Repick) String() string { return enumtext.String(r, repicks) }

// MarshalText returns the name. It fails for a value without a name.
func (r Repick) MarshalText() ([]byte, error) { return enumtext.Marshal(r, repicks) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
func (r *Repick) UnmarshalText(text []byte) error { return enumtext.Unmarshal(r, text, repicks) }

// A Pool chooses among its servers. All methods may be called concurrently.
//
// Readers use an immutable snapshot of the pool's settings and of the servers
// that are up. A change of a server's state takes the pool's lock, builds a new
// snapshot and swaps it in.
type Pool struct {
	born     time.Time
	current  atomic.Pointer[snapshot]
	next     atomic.Pointer[Pool] // the pool that this one has adopted and forwards to; nil: none
	running  chan struct{}        // has a token while a Run is working
	slots    chan struct{}        // has a token for each check in progress
	changed  chan struct{}        // has at most one token: wakes Run
	waiting  atomic.Int64         // requests in the queue
	queue    waitQueue
	retrying atomic.Int64
	counters poolCounters

	adopted bool // by another pool; guarded by adopting

	mu         sync.Mutex                 // locked to change the servers or their states
	latest     *layout                    // the latest, as in the current snapshot
	configured []member                   // the configured servers, without discovered ones
	searches   []*search                  // for further servers
	counts     []*counter                 // of bound clients; replaced, never changed
	surplus    int                        // servers that were found beyond MaxServers
	left       map[netip.AddrPort]*Server // removed servers with leases in use
	leaving    []*Server                  // servers that have just been removed
	reordered  bool                       // some ratio has changed
	changes    map[changeKey]uint64       // of servers' states, counted
	checked    map[string]*checkTally     // by the name of the monitor
	watchers   []*func(Event)             // of Watch; replaced, never changed
	overrides  []*overrideList            // the overrides of each source; the last one that has one applies
}

// snapshot is the state of a pool that Acquire reads. It is never written once
// it is published.
type snapshot struct {
	*layout
	up      []*Server
	ejected int       // servers that passive marking keeps out
	short   bool      // fewer servers are up than MinServersUp asks for
	due     time.Time // when time will change some state; zero: never
}

// Name returns the pool's name.
func (p *Pool) Name() string { return p.live().current.Load().name }

// Protocol returns the protocol of the pool's servers.
func (p *Pool) Protocol() Protocol { return p.live().current.Load().protocol }

// Servers returns all servers in the configured order. The caller owns the
// slice.
func (p *Pool) Servers() []*Server { return slices.Clone(p.live().current.Load().servers) }

// Up reports whether the pool has at least one server that is up, and no fewer
// than MinServersUp. They may all be full.
func (p *Pool) Up() bool {
	return p.refresh().serves()
}

// serves reports whether the pool is up.
func (snap *snapshot) serves() bool { return len(snap.up) > 0 && !snap.short }

// FailAction returns Config.FailAction with the defaults filled in.
func (p *Pool) FailAction() FailAction { return p.live().current.Load().fail }

// PoolStats are the counters of a pool. They start at zero when the pool is
// made; Update keeps them.
type PoolStats struct {
	Up                int    // servers that take new requests: those that are up or unchecked
	Unchecked         int    // of those, the ones that have not been checked yet
	Total             int    // all servers, including disabled ones
	Open              int    // leases in use
	Waiting           int    // requests in the queue
	Queued            uint64 // requests that have waited in the queue
	QueueTimeouts     uint64 // of those, how many waited until the timeout
	QueueCanceled     uint64 // of those, how many ended while they waited, because their client left
	QueueFull         uint64 // requests that found the queue full
	Reselects         uint64 // further servers tried by Transports
	ReselectsSpent    uint64 // further servers not tried because the retry budget was spent
	DiscoveryFailures uint64 // failed calls of Finders
	QueueLimit        int    // Queue.Length: how many requests may wait
	// Changes counts the changes of servers' states. Those that have not
	// occurred are left out. The first states of a new pool are no changes.
	Changes []ChangeCount
	// Monitors counts the checks of each health monitor, in the configured
	// order. A monitor keeps its counts when Update has one of the same name.
	Monitors []MonitorStats
}

// A ChangeCount is how often servers of a pool have entered a state for one
// cause.
type ChangeCount struct {
	To    State  // the state
	Cause string // as in Change.Cause
	N     uint64 // how often
}

// MonitorStats are the counts of a health monitor.
type MonitorStats struct {
	Name   string // the monitor's name
	Passed uint64 // checks that found a server healthy
	// Failed counts the other checks by CheckError.Reason. A reason that only a
	// Checker of the program has is counted as "other". Reasons that have not
	// occurred are left out. Checks that failed for CheckNoResources have
	// changed no state.
	Failed map[string]uint64
	Took   time.Duration // all checks together
}

type poolCounters struct {
	queued, queueTimeouts, queueCanceled, queueFull, reselects, reselectsSpent, discoveryFailures atomic.Uint64
}

// Stats returns the counters. It reads them one after the other, not at one
// instant.
func (p *Pool) Stats() PoolStats {
	p = p.live()
	snap := p.refresh()
	c := &p.counters
	unchecked := 0
	for _, s := range snap.up {
		if s.loadState() == Unchecked {
			unchecked++
		}
	}
	changes, monitors := p.tallies()
	return PoolStats{
		Up: len(snap.up), Unchecked: unchecked, Total: len(snap.servers), Open: snap.open(), Waiting: int(p.waiting.Load()),
		Queued: c.queued.Load(), QueueTimeouts: c.queueTimeouts.Load(), QueueCanceled: c.queueCanceled.Load(), QueueFull: c.queueFull.Load(),
		Reselects: c.reselects.Load(), ReselectsSpent: c.reselectsSpent.Load(),
		DiscoveryFailures: c.discoveryFailures.Load(),
		QueueLimit:        snap.queue.Length, Changes: changes, Monitors: monitors,
	}
}

// A changeKey is what changes of servers' states are counted by.
type changeKey struct {
	to    State
	cause string
}

// tallies returns the counts of changes, sorted, and of checks.
func (p *Pool) tallies() (changes []ChangeCount, monitors []MonitorStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, n := range p.changes {
		changes = append(changes, ChangeCount{k.to, k.cause, n})
	}
	slices.SortFunc(changes, func(a, b ChangeCount) int {
		return cmp.Or(cmp.Compare(a.To, b.To), strings.Compare(a.Cause, b.Cause))
	})
	for i := range p.latest.monitors {
		t := p.checked[p.latest.monitors[i].Name]
		monitors = append(monitors, MonitorStats{p.latest.monitors[i].Name, t.passed, maps.Clone(t.failed), t.took})
	}
	return changes, monitors
}

// open counts the leases in use.
func (l *layout) open() (n int) {
	for _, s := range l.servers {
		n += s.Open()
	}
	return n
}

// clock is the time since the pool was made, in nanoseconds, which no change of
// the wall clock moves.
func (p *Pool) clock() int64 { return int64(time.Since(p.born)) }

// notify wakes Run.
func (p *Pool) notify() {
	select {
	case p.changed <- struct{}{}:
	default: // Run will wake up anyway
	}
}

// Lookup finds a server of the pool by its address, its address with port, its
// name or its host name; names ignore case. Port 0 means any port. If several
// servers match, because they share the address or the host name, shared is
// true, and Lookup returns the first of them that is up, or else the first.
func (p *Pool) Lookup(server string, port uint16) (s *Server, shared, ok bool) {
	l := p.refresh()
	if !looksLikeIP(server) {
		return prefer(l.byName[strings.ToLower(server)], port)
	}
	if addr, err := parseAddr(server); err == nil {
		return l.lookupAddr(netip.AddrPortFrom(addr, port))
	}
	if addr, err := netip.ParseAddrPort(server); err == nil {
		if port != 0 && port != addr.Port() {
			return nil, false, false
		}
		return l.lookupAddr(addr)
	}
	return prefer(l.byName[strings.ToLower(server)], port)
}

// looksLikeIP reports whether text may be an IP address, with or without a
// port. Scripts often look up texts that are not, such as keys of entries, and
// parse errors are slower than this.
func looksLikeIP(text string) bool {
	if strings.Contains(text, ":") {
		return true
	}
	const octet = 3 // digits
	return len(text)-strings.LastIndexByte(text, '.') <= 1+octet
}

func (l *layout) lookupAddr(addr netip.AddrPort) (s *Server, shared, ok bool) {
	ip := addr.Addr().Unmap()
	if addr.Port() != 0 {
		s, ok := l.byAddr[netip.AddrPortFrom(ip, addr.Port())]
		return s, false, ok
	}
	return prefer(l.byHost[ip], 0)
}

// has reports whether a server has the address, or one of those at it if the
// port is 0.
func (l *layout) has(addr netip.AddrPort) bool {
	_, _, ok := l.lookupAddr(addr)
	return ok
}

// prefer returns the first server that is up, or else the first, of those that
// listen on port (0: on any). It reports whether there are several.
func prefer(servers []*Server, port uint16) (s *Server, shared, ok bool) {
	for _, other := range servers {
		switch {
		case port != 0 && other.addr.Port() != port:
		case s == nil:
			s = other
		default:
			shared = true
			if !s.usable() && other.usable() {
				s = other
			}
		}
	}
	return s, shared, s != nil
}

// Acquire chooses a server for one request, or one connection. The lease counts
// as in use until it is released. Acquire never blocks and does not allocate;
// AcquireWait waits in the queue.
//
// Acquire takes the server that h names if it is up, not full and not excluded.
// Otherwise the pool's Repick decides: the algorithm chooses another server, or
// Acquire returns an error that matches ErrNoServer. Lease.Unmet gives the
// reason in both cases. If no server is available the error matches
// ErrNoServer, and ErrFull too if the servers that are up are at their limits.
func (p *Pool) Acquire(h Hint) (Lease, error) {
	p = p.live()
	snap := p.refresh()
	if snap.short {
		return Lease{}, snap.noServer
	}
	var unmet Reason
	var shared bool
	if h.Server.IsValid() {
		s, several, reason := snap.wanted(&h)
		if reason == ReasonNone {
			return newLease(s, &h, ReasonNone, several), nil
		}
		if snap.refusesRepick(s, reason) {
			return Lease{Unmet: reason, Shared: several}, &unavailableError{Pool: snap.name, Server: h.Server, Reason: reason}
		}
		unmet, shared = reason, several
	}
	s := p.choose(snap, &h)
	if s == nil {
		return Lease{}, snap.whyNone(&h)
	}
	return newLease(s, &h, unmet, shared), nil
}

// wanted reserves the server that h names, or returns the reason why that is
// not possible.
func (snap *snapshot) wanted(h *Hint) (s *Server, shared bool, unmet Reason) {
	s, shared, unmet = snap.find(h)
	if unmet == ReasonNone && !s.reserve() {
		unmet = ReasonFull
	}
	return s, shared, unmet
}

// find returns the server that h names, and the reason why it must not be used,
// which is ReasonNone for one that is full. shared reports whether several
// servers share the address that h names.
func (snap *snapshot) find(h *Hint) (s *Server, shared bool, unmet Reason) {
	if h.Server.Port() == 0 {
		if here := snap.byHost[h.Server.Addr().Unmap()]; len(here) > 1 {
			s, _, unmet = snap.tied(here, h)
			return s, true, unmet
		}
	}
	s, _, ok := snap.lookupAddr(h.Server)
	if !ok {
		return nil, false, ReasonGone
	}
	return s, false, snap.reasonAgainst(s, h)
}

// A preference ranks the servers that share an address, for one request. The
// greatest is taken.
type preference struct {
	rank  int8 // 2: up; 1: not up, but may be taken; 0: must not be taken
	score uint64
}

func (c preference) less(other preference) bool {
	return c.rank < other.rank || c.rank == other.rank && c.score < other.score
}

// tied returns the server for h among several at one address: of those that are
// up, the one with the highest hash of the server and of h's Tie.
func (snap *snapshot) tied(here []*Server, h *Hint) (best *Server, lead preference, unmet Reason) {
	key := h.tie()
	for _, s := range here {
		reason := snap.reasonAgainst(s, h)
		c := preference{score: mix(key ^ s.id)}
		if reason == ReasonNone {
			c.rank = 1
			if s.usable() {
				c.rank = 2
			}
		}
		if best == nil || lead.less(c) {
			best, lead, unmet = s, c, reason
		}
	}
	return best, lead, unmet
}

// tie hashes Tie, or the client's address.
func (h *Hint) tie() uint64 {
	if h.Tie != "" {
		return hashText(h.Tie)
	}
	return hashAddr(h.Client)
}

// reasonAgainst returns why a wanted server must not be used; ReasonNone if it
// may be used unless it is full.
func (snap *snapshot) reasonAgainst(s *Server, h *Hint) Reason {
	reason := ReasonNone
	switch s.loadState() {
	case Up, Unchecked:
	case Draining:
		if !snap.drain.KeepBound && !s.keepsBound.Load() {
			reason = ReasonDraining
		}
	case Disabled:
		reason = ReasonDisabled
	case Removed:
		reason = ReasonGone
	case Maintenance:
		reason = ReasonMaintenance
	default:
		reason = ReasonDown
	}
	switch {
	case h.excludes(s):
		if reason == ReasonNone {
			reason = ReasonDown
		}
	case snap.repick == RepickAfterFailures && snap.refusesRepick(s, reason):
		reason = ReasonNone
	}
	return reason
}

// refusesRepick reports whether a request for s must fail rather than go to
// another server.
func (snap *snapshot) refusesRepick(s *Server, reason Reason) bool {
	switch snap.repick {
	case RepickNever:
		return true
	case RepickAfterFailures:
		return (reason == ReasonDown || reason == ReasonMaintenance) && s.unreachable.Load() < snap.repickFailures
	}
	return false
}

// whyNone returns the error for a request for which the algorithm found no
// server.
func (snap *snapshot) whyNone(h *Hint) error {
	for _, s := range snap.up {
		if !h.excludes(s) {
			return snap.full
		}
	}
	return snap.noServer
}

// choose reserves the server that the algorithm chooses. If that one is full or
// excluded, the algorithm is called again with a list without it, so algorithms
// may ignore both.
func (p *Pool) choose(snap *snapshot, h *Hint) *Server {
	up := snap.up
	for len(up) > 0 {
		s := snap.algorithm.Choose(up, *h)
		if s == nil || s.pool != p {
			return nil
		}
		if !h.excludes(s) && s.reserve() {
			return s
		}
		// Algorithms recognise a list by its identity, so each list is a new
		// slice.
		rest := make([]*Server, 0, len(up))
		for _, other := range up {
			if other != s && h.Allows(other) {
				rest = append(rest, other)
			}
		}
		if len(rest) == len(up) { // the algorithm chose a server that is not in the list
			return nil
		}
		up = rest
	}
	return nil
}

// refresh returns the current snapshot, after it has done what is due: end
// ejections and drains, and raise the shares of servers in slow start.
func (p *Pool) refresh() *snapshot {
	p = p.live()
	snap := p.current.Load()
	if snap.due.IsZero() {
		return snap
	}
	now := time.Now()
	if now.Before(snap.due) {
		return snap
	}
	p.update(now, causePassive, "", nil, func() bool {
		return p.current.Load() == snap // else another goroutine was faster
	})
	return p.current.Load()
}

// update runs edit under the lock. If edit reports a change, it derives the
// state of every server and publishes the snapshot. Then, without the lock, it
// announces the changes.
func (p *Pool) update(now time.Time, cause string, monitor string, err error, edit func() bool) {
	st, changed := p.edit(now, cause, monitor, err, edit)
	if st == nil {
		return
	}
	p.wakeAll()
	st.announce(p, changed)
}

// updateLive is update of the pool that p forwards to, now and without an error
// behind it.
func (p *Pool) updateLive(cause string, edit func(*Pool) bool) {
	for moved := true; moved; {
		p = p.live()
		p.update(time.Now(), cause, "", nil, func() bool {
			moved = p.next.Load() != nil
			return !moved && edit(p)
		})
	}
}

// lockLive calls f with the pool that p forwards to, which is locked.
func (p *Pool) lockLive(f func(*Pool)) {
	for {
		p = p.live()
		p.mu.Lock()
		if p.next.Load() == nil {
			break
		}
		p.mu.Unlock()
	}
	defer p.mu.Unlock()
	f(p)
}

func (p *Pool) edit(now time.Time, cause string, monitor string, err error, edit func() bool) (*settings, changes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !edit() {
		return nil, changes{}
	}
	up, ejected := p.deriveLocked(now)
	if up == 0 {
		// A server that fails some requests, or flaps, is better than none.
		for _, s := range p.latest.servers {
			s.endEjectionLocked(now)
			s.endHoldDownLocked()
		}
		up, ejected = p.deriveLocked(now)
	}
	before := p.current.Load()
	snap := &snapshot{layout: p.latest, up: make([]*Server, 0, up), ejected: ejected, short: up < p.latest.minServers}
	changed := changes{isUp: up > 0 && !snap.short, up: up, total: len(p.latest.servers)}
	changed.wasUp = changed.isUp
	if before != nil {
		changed.wasUp = before.serves()
	}
	for _, s := range p.latest.servers {
		if s.next.Usable() {
			snap.up = append(snap.up, s)
		}
		from := s.loadState()
		if c, ok := s.enterLocked(Change{State: s.next, At: now, Cause: cause, Monitor: monitor, Err: err}); ok {
			changed.servers = append(changed.servers, c)
			if before != nil {
				p.countLocked(c.to)
			}
		}
		switch {
		case !s.next.Usable():
			s.upSince = time.Time{}
		case !from.Usable() && from != Draining && before != nil && p.latest.slowStart > 0:
			s.upSince = now
		}
		snap.expect(s.rampLocked(now, p.latest.slowStart))
		snap.expect(s.drain.deadline)
		if s.next == Ejected {
			snap.expect(s.ejectedUntil)
		}
	}
	for _, s := range p.leaving {
		if c, ok := s.enterLocked(Change{State: Removed, At: now, Cause: cause}); ok {
			changed.servers = append(changed.servers, c)
			p.countLocked(c.to)
		}
	}
	p.leaving = nil
	if before != nil && !p.reordered && slices.Equal(before.up, snap.up) {
		snap.up = before.up // algorithms recognise the list
	}
	p.reordered = false
	p.current.Store(snap)
	return p.latest.settings, changed
}

// countLocked counts a change of a server's state.
func (p *Pool) countLocked(to Change) {
	if p.changes == nil {
		p.changes = make(map[changeKey]uint64)
	}
	p.changes[changeKey{to.State, to.Cause}]++
}

// expect notes that something is due at a time; the zero time means nothing.
func (snap *snapshot) expect(at time.Time) {
	if !at.IsZero() && (snap.due.IsZero() || at.Before(snap.due)) {
		snap.due = at
	}
}

// enterLocked changes the server's state to to.State. It reports whether that
// is a change.
func (s *Server) enterLocked(to Change) (transition, bool) {
	from := s.loadState()
	over := s.drainOver
	s.drainOver = false
	if to.State == from {
		return transition{}, false
	}
	switch {
	case over && to.State == Disabled: // the drain timed out, whatever caused this update
		to = Change{State: Disabled, At: to.At, Cause: causeDrained}
	case from == Ejected && to.State.Usable():
		to = Change{State: to.State, At: to.At, Cause: causePassive}
	}
	s.change = to
	s.unreachable.Store(0)
	s.state.Store(uint32(to.State))
	return transition{s, from, to}, true
}

// deriveLocked sets the next state of every server and counts those that are up
// or ejected.
func (p *Pool) deriveLocked(now time.Time) (up, ejected int) {
	for _, s := range p.latest.servers {
		s.next = s.deriveLocked(now)
		switch s.next {
		case Up, Unchecked:
			up++
		case Ejected:
			ejected++
		}
	}
	return up, ejected
}
