package lbpool

import (
	"log/slog"
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

// Config describes a pool. New copies what it keeps and leaves the value alone.
type Config struct {
	// Name is the pool's name in errors, logs and a Set. It must not be empty.
	Name string
	// Servers are the pool's servers, 1 to MaxServers, in the order in which algorithms see them. There need be none if
	// there are Discoveries.
	Servers []ServerConfig
	// Discoveries find further servers, in the DNS for instance, 0 to 50 of them. These servers come after
	// Servers, up to MaxServers in all; of servers with the same address the first one is taken. Only Run asks them: until
	// it has, there are no such servers.
	Discoveries []Discovery
	// DefaultPort is the port of servers whose address names none. 0 means 80, or 443 when Scheme is "https".
	DefaultPort uint16
	// Scheme is how a Transport talks to the servers: "http" or "https". Empty means "http".
	Scheme string
	// RewriteHost makes a Transport send a server's Hostname as the Host of requests, with the port unless that is the
	// default of Scheme. A server without a Hostname gets the Host that the request has.
	RewriteHost bool
	// KeepPort makes a Transport connect to the port at which the client's connection was accepted, if net/http has put
	// that into the request's context, and not to the server's own. It suits a virtual service that listens on several
	// ports. The server's own port remains a part of its identity, and is what health monitors check.
	KeepPort bool
	// Algorithm chooses among the servers that are up. Nil means LeastConnections(). A value belongs to one pool.
	Algorithm Algorithm
	// HealthMonitors check every server, 0 to 50 of them, while Run is running; a server is up while all of them
	// find it so. Until its first check a server is Unchecked, and used like one that is up; the first check decides alone.
	// Without monitors, servers are up.
	HealthMonitors []HealthMonitor
	// StartDown keeps servers Down, not Unchecked, until as many checks as usual have succeeded. Then a pool with monitors
	// serves nobody until Run is running.
	StartDown bool
	// Passive takes servers out of service that fail real traffic. The zero value is on, with the defaults it documents.
	Passive Passive
	// MinMonitorsUp is how many health monitors must find a server healthy for it to be up. 0 means all.
	MinMonitorsUp int
	// MinServersUp is how many servers must be up for the pool to serve anybody. 0 means 1.
	MinServersUp int
	// SlowStart is how long the share of a server that comes up grows, linearly, from next to nothing to its ratio; its
	// MaxConnections grow alike. At most five hours. 0 gives servers their full share at once. Servers that are up from
	// the start are not held back.
	SlowStart time.Duration
	// Repick says what happens when a wanted server cannot be had. The zero value is RepickImmediately.
	Repick Repick
	// RepickFailures is the number of failures for RepickAfterFailures. 0 means 3.
	RepickFailures int
	// Drain says who may still use a draining server. The zero value: only the requests that are under way.
	Drain DrainPolicy
	// Queue lets requests wait for servers that are at their limits. The zero value is off.
	Queue Queue
	// Reselect says when and how often a Transport turns to another server.
	Reselect Reselect
	// BodyIdleTimeout is how long a server may send nothing of a response's body whose length it has told, while a
	// Transport's caller waits for it. Then the body fails with an error that matches ErrTimeout, and counts as a failure
	// of the server. 0 means 60 seconds, negative for ever.
	BodyIdleTimeout time.Duration
	// StreamIdleTimeout is the same for bodies that may be streams: those of unknown length, and those that come while
	// the request's body is still being sent. An upgraded connection is closed when nothing has passed in either
	// direction for that long. 0 means an hour, negative for ever.
	StreamIdleTimeout time.Duration
	// FailAction is what the owner of the pool wants done with requests for which no server can be had. Only
	// FailBackup is carried out here, by a Transport. The zero value is a response with status 503.
	FailAction FailAction
	// OnEvent is told of each change of a server's state. It is called without locks, by whoever caused the change,
	// hence concurrently, and should not take long. Nil: nobody is told.
	OnEvent func(Event)
	// Logger gets one record for each change of a server's state: at level Warn for a server that goes down or is ejected, at
	// level Info for others. Nil discards.
	Logger *slog.Logger
}

// ServerConfig describes one server of a pool.
type ServerConfig struct {
	// Address is an IP address with or without a port: "10.0.0.1", "10.0.0.1:8080", "::1" or "[::1]:80". Address and
	// port together identify the server and must be unique within the pool. IPv4-mapped IPv6 addresses become IPv4.
	Address string
	// Name is another way to name the server in look-ups, unique within the pool without regard to case. It must
	// not read as an IP address. Empty means the address and port.
	Name string
	// Hostname is an alias in look-ups, and what Config.RewriteHost sends. Several servers may share one.
	Hostname string
	// Ratio is the server's share relative to the others, 1 to 20. 0 means 1.
	Ratio int
	// Disabled keeps the server out of service until Enable is called.
	Disabled bool
	// MaxConnections bounds the leases in use at a time. 0 means no bound.
	MaxConnections int
	// MaxRate bounds the leases granted in a second. A tenth of them, but at least one, may be granted at once. 0 means
	// no bound.
	MaxRate int
}

// Repick is what Acquire does when the server that a Hint wants is down, disabled, gone or full.
type Repick uint8

const (
	// RepickImmediately lets the algorithm choose another server; the lease says why in Unmet.
	RepickImmediately Repick = iota
	// RepickNever refuses the request with an error that matches ErrNoServer.
	RepickNever
	// RepickAfterFailures keeps to a server that is down, as if it were up, until Config.RepickFailures requests in a
	// row have failed there; then it is like RepickImmediately. Servers that are disabled, gone or full are replaced at
	// once.
	RepickAfterFailures
)

var repicks = []string{"immediately", "never", "after failures"}

// String returns the name: "immediately", "never" or "after failures"; "invalid" for other values.
func (r Repick) String() string { return enumtext.String(r, repicks) }

// MarshalText returns the name. It fails for a value without a name.
func (r Repick) MarshalText() ([]byte, error) { return enumtext.Marshal(r, repicks) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The error for another text lists the names.
func (r *Repick) UnmarshalText(text []byte) error { return enumtext.Unmarshal(r, text, repicks) }

// A Pool is a list of servers among which it chooses. All methods may be called concurrently.
//
// Readers see an immutable snapshot of the pool's settings and of the servers that are up. Whatever changes a server's
// state takes the pool's lock, builds a new snapshot and swaps it in.
type Pool struct {
	born     time.Time
	current  atomic.Pointer[snapshot]
	next     atomic.Pointer[Pool] // the pool that this one has adopted and forwards to; nil: none
	running  chan struct{}        // holds a token while a Run is at work
	slots    chan struct{}        // holds a token for each check under way
	changed  chan struct{}        // holds at most one token: Run has something new to look after
	waiting  atomic.Int64         // requests in the queue
	queue    waitQueue
	retrying atomic.Int64
	counters poolCounters

	adopted bool // by another pool; guarded by adopting

	mu         sync.Mutex                 // held to change the state of any server, and the servers themselves
	latest     *layout                    // the latest, as in the current snapshot
	configured []member                   // the configured servers, without those that were found
	searches   []*search                  // for further servers
	counts     []*counter                 // of bound clients; never changed, only replaced
	surplus    int                        // servers that were found and are too many
	left       map[netip.AddrPort]*Server // removed servers, some of which have leases in use
	leaving    []*Server                  // servers that have just been removed
	reordered  bool                       // some ratio has changed
}

// snapshot is what Acquire needs to know. It is never written once it is published.
type snapshot struct {
	*layout
	up      []*Server
	ejected int       // servers that passive marking holds back
	short   bool      // fewer servers are up than MinServersUp asks for
	due     time.Time // when time itself changes something; zero when it does not
}

// Name returns the pool's name.
func (p *Pool) Name() string { return p.live().current.Load().name }

// Servers returns all servers in the configured order. The slice is the caller's.
func (p *Pool) Servers() []*Server { return slices.Clone(p.live().current.Load().servers) }

// Up reports whether the pool has a server that is up, and as many as MinServersUp asks for. They may all be full.
func (p *Pool) Up() bool {
	snap := p.refresh()
	return len(snap.up) > 0 && !snap.short
}

// FailAction returns what the pool's owner wants done with requests for which no server can be had.
func (p *Pool) FailAction() FailAction { return p.live().current.Load().fail }

// PoolStats is a reading of a pool's counters, which start at zero when it is made and outlive Update.
type PoolStats struct {
	Up                int    // servers that take new requests: those that are up or unchecked
	Unchecked         int    // of those, how many have not been checked yet
	Total             int    // servers, disabled ones among them
	Open              int    // leases in use
	Waiting           int    // requests in the queue
	Queued            uint64 // requests that have had to wait
	QueueTimeouts     uint64 // of those, how many waited in vain
	QueueFull         uint64 // requests that found the queue full
	Reselects         uint64 // further servers tried by Transports
	ReselectsSpent    uint64 // further servers not tried because too many were being tried
	DiscoveryFailures uint64 // how often a Finder did not know
}

type poolCounters struct{ queued, queueTimeouts, queueFull, reselects, reselectsSpent, discoveryFailures atomic.Uint64 }

// Stats returns a reading of the counters. They are read one after the other, not at one instant.
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
	return PoolStats{
		Up: len(snap.up), Unchecked: unchecked, Total: len(snap.servers), Open: snap.open(), Waiting: int(p.waiting.Load()),
		Queued: c.queued.Load(), QueueTimeouts: c.queueTimeouts.Load(), QueueFull: c.queueFull.Load(),
		Reselects: c.reselects.Load(), ReselectsSpent: c.reselectsSpent.Load(),
		DiscoveryFailures: c.discoveryFailures.Load(),
	}
}

// open counts the leases in use.
func (l *layout) open() (n int) {
	for _, s := range l.servers {
		n += s.Open()
	}
	return n
}

// clock is the time since the pool was made, in nanoseconds, which no change of the wall clock moves.
func (p *Pool) clock() int64 { return int64(time.Since(p.born)) }

// notify tells Run that there is something new.
func (p *Pool) notify() {
	select {
	case p.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// Lookup finds a server of the pool by its address, its address with port, its name or its host name; the last two
// without regard to case. Port 0 means that none is given. When several servers fit, because they share the address or
// the host name, shared is true, and the first of them that is up is returned, else the first.
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

// looksLikeIP reports whether text may be an IP address, with or without a port. What a script looks up often is none,
// such as the key of an entry, and errors cost more than this.
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

// has reports whether a server has the address, or one of those at it if the port is 0.
func (l *layout) has(addr netip.AddrPort) bool {
	_, _, ok := l.lookupAddr(addr)
	return ok
}

// prefer returns the first server that is up, else the first, of those that listen on port (0: on any). It reports
// whether there are several.
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

// Acquire chooses a server for one request, or one connection, and counts it as in use until the lease is released.
// It never blocks and does not allocate; AcquireWait waits for its turn.
//
// The server that h wants is taken when it is up, not full and not excluded. Otherwise the pool's Repick decides:
// the algorithm chooses another server, or Acquire returns an error that matches ErrNoServer. Lease.Unmet gives the reason in
// both cases. When no server is available the error matches ErrNoServer, and ErrFull too if that is because servers are at their limits.
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

// wanted reserves the server that h names, or tells why it cannot be had.
func (snap *snapshot) wanted(h *Hint) (s *Server, shared bool, unmet Reason) {
	s, shared, unmet = snap.find(h)
	if unmet == ReasonNone && !s.reserve() {
		unmet = ReasonFull
	}
	return s, shared, unmet
}

// find finds the server that h names, and tells why it cannot be had even if it is not full. It reports whether several
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

// A preference is how good one of several servers at an address is for a request: the greater the better.
type preference struct {
	rank  int8 // 2: up; 1: not up, but may be taken; 0: must not be taken
	score uint64
}

func (c preference) less(other preference) bool {
	return c.rank < other.rank || c.rank == other.rank && c.score < other.score
}

// tied returns the server for h among several at one address: the one with the highest score, a hash of the server and of
// what h goes by, of those that are up.
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

// tie hashes what decides between servers that share an address.
func (h *Hint) tie() uint64 {
	if h.Tie != "" {
		return hashText(h.Tie)
	}
	return hashAddr(h.Client)
}

// standing tells why a server that is wanted must not be taken, ReasonNone if it may unless it is full.
func (snap *snapshot) reasonAgainst(s *Server, h *Hint) Reason {
	reason := ReasonNone
	switch s.loadState() {
	case Up, Unchecked:
	case Draining:
		if !snap.drain.KeepBound {
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

// refusesRepick reports whether a request must do without a server rather than go to another one than s.
func (snap *snapshot) refusesRepick(s *Server, reason Reason) bool {
	switch snap.repick {
	case RepickNever:
		return true
	case RepickAfterFailures:
		return (reason == ReasonDown || reason == ReasonMaintenance) && s.unreachable.Load() < snap.repickFailures
	}
	return false
}

// whyNone tells whether no server is up, or those that are cannot take a request now.
func (snap *snapshot) whyNone(h *Hint) error {
	for _, s := range snap.up {
		if !h.excludes(s) {
			return snap.full
		}
	}
	return snap.noServer
}

// choose reserves the server that the algorithm chooses. A choice that is full or excluded is put aside and the
// algorithm is asked again without it, so that algorithms may ignore both.
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
		// Algorithms may know a list by its identity, hence a fresh slice and never one that is used again.
		rest := make([]*Server, 0, len(up))
		for _, other := range up {
			if other != s && h.Allows(other) {
				rest = append(rest, other)
			}
		}
		if len(rest) == len(up) { // the algorithm's choice is not one of those it was given
			return nil
		}
		up = rest
	}
	return nil
}

// refresh returns the current snapshot, after doing what is due: taking back servers whose time out of service is over,
// ending drains, raising the shares of servers in slow start.
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
		return p.current.Load() == snap // else somebody was faster
	})
	return p.current.Load()
}

// update runs edit under the lock and, if edit reports a change, derives the state of every server from what edit left
// and publishes the snapshot. Then, without the lock, it makes known what changed and why.
func (p *Pool) update(now time.Time, cause string, monitor string, err error, edit func() bool) {
	st, changed := p.edit(now, cause, monitor, err, edit)
	if st == nil {
		return
	}
	p.wakeAll()
	st.announce(p, changed)
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

func (p *Pool) edit(now time.Time, cause string, monitor string, err error, edit func() bool) (*settings, []transition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !edit() {
		return nil, nil
	}
	up, ejected := p.deriveLocked(now)
	if up == 0 {
		// A server that fails some traffic, or is up and down by turns, is better than none.
		for _, s := range p.latest.servers {
			s.endEjectionLocked(now)
			s.endHoldDownLocked()
		}
		up, ejected = p.deriveLocked(now)
	}
	before := p.current.Load()
	snap := &snapshot{layout: p.latest, up: make([]*Server, 0, up), ejected: ejected, short: up < p.latest.minServers}
	var changed []transition
	for _, s := range p.latest.servers {
		if s.next.Usable() {
			snap.up = append(snap.up, s)
		}
		from := s.loadState()
		if c, ok := s.enterLocked(Change{State: s.next, At: now, Cause: cause, Monitor: monitor, Err: err}); ok {
			changed = append(changed, c)
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
			changed = append(changed, c)
		}
	}
	p.leaving = nil
	if before != nil && !p.reordered && slices.Equal(before.up, snap.up) {
		snap.up = before.up // so that algorithms need not begin anew
	}
	p.reordered = false
	p.current.Store(snap)
	return p.latest.settings, changed
}

// expect notes that something is due at a time; the zero time says that nothing is.
func (snap *snapshot) expect(at time.Time) {
	if !at.IsZero() && (snap.due.IsZero() || at.Before(snap.due)) {
		snap.due = at
	}
}

// enterLocked makes to the server's state, unless it has that state already.
func (s *Server) enterLocked(to Change) (transition, bool) {
	from := s.loadState()
	over := s.drainOver
	s.drainOver = false
	if to.State == from {
		return transition{}, false
	}
	switch {
	case over && to.State == Disabled: // its time was over, whatever the occasion
		to = Change{State: Disabled, At: to.At, Cause: causeDrained}
	case from == Ejected && to.State.Usable():
		to = Change{State: to.State, At: to.At, Cause: causePassive}
	}
	s.change = to
	s.unreachable.Store(0)
	s.state.Store(uint32(to.State))
	return transition{s, from, to}, true
}

// deriveLocked sets every server's next state and counts the two kinds that matter.
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
