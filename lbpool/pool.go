package lbpool

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a pool's configuration.
const (
	MaxServers  = 5000 // servers of one pool
	MaxMonitors = 50   // health monitors of one pool
	MaxRatio    = 20   // ratio of one server
)

// Config describes a pool. New copies what it keeps and leaves the value alone.
type Config struct {
	// Name is the pool's name in errors, logs and a Set. It must not be empty.
	Name string
	// Servers are the pool's servers, 1 to MaxServers, in the order in which algorithms see them.
	Servers []ServerConfig
	// DefaultPort is the port of servers whose address names none. 0 means 80, or 443 when Scheme is "https".
	DefaultPort uint16
	// Scheme is how a Transport talks to the servers: "http" or "https". Empty means "http".
	Scheme string
	// Algorithm chooses among the servers that are up. Nil means LeastConnections(). A value belongs to one pool.
	Algorithm Algorithm
	// HealthMonitors check every server, 0 to MaxMonitors of them; a server is up while all of them find it so.
	// Without monitors, servers are up from the start. With monitors they are down until checks succeed, so the
	// pool serves nobody until Run is running.
	HealthMonitors []HealthMonitor
	// Passive takes servers out of service that fail real traffic. The zero value is on, with the defaults it documents.
	Passive Passive
	// Repick says what happens when a wanted server cannot be had. The zero value is RepickImmediately.
	Repick Repick
	// Reselect bounds how often a Transport turns to another server when the first cannot be reached.
	Reselect Reselect
	// Logger gets one record for each change of a server's state. Nil discards.
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
	// Hostname is an alias in look-ups. Several servers may share one.
	Hostname string
	// Ratio is the server's share relative to the others, 1 to MaxRatio. 0 means 1.
	Ratio int
	// Disabled keeps the server out of service until Enable is called.
	Disabled bool
	// MaxConnections bounds the leases in use at a time. 0 means no bound.
	MaxConnections int
}

// Repick is what Acquire does when the server that a Hint wants is down, disabled, gone or full.
type Repick uint8

const (
	// RepickImmediately lets the algorithm choose another server; the lease says why in Unmet.
	RepickImmediately Repick = iota
	// RepickNever refuses with an *UnavailableError.
	RepickNever
)

// String returns "immediately" or "never".
func (r Repick) String() string {
	if r == RepickNever {
		return "never"
	}
	return "immediately"
}

// A Pool is a fixed list of servers among which it chooses. All methods may be called concurrently.
//
// Readers see an immutable snapshot of the servers that are up. Whatever changes a server's state takes the pool's
// lock, builds a new snapshot and swaps it in.
type Pool struct {
	name      string
	scheme    string
	algorithm Algorithm
	passive   Passive
	repick    Repick
	reselect  Reselect
	logger    *slog.Logger
	noServer  error

	servers []*Server
	byAddr  map[netip.AddrPort]*Server
	byHost  map[netip.Addr][]*Server
	byName  map[string][]*Server // lower-cased names, then host names

	running atomic.Bool
	current atomic.Pointer[snapshot]

	mu sync.Mutex // held to change the state of any server
}

// snapshot is what Acquire needs to know. It is never written once it is published.
type snapshot struct {
	up      []*Server
	ejected int       // servers that passive marking holds back
	due     time.Time // when the first of those comes back; zero when there is none
}

// Name returns the pool's name.
func (p *Pool) Name() string { return p.name }

// Servers returns all servers in the configured order. The slice is the caller's.
func (p *Pool) Servers() []*Server { return slices.Clone(p.servers) }

// Lookup finds a server of the pool by its address, its address with port, its name or its host name; the last two
// without regard to case. Port 0 means that none is given: of several servers the first one that is up is returned,
// else the first.
func (p *Pool) Lookup(server string, port uint16) (*Server, bool) {
	if addr, err := parseAddr(server); err == nil {
		return p.lookupAddr(netip.AddrPortFrom(addr, port))
	}
	if addr, err := netip.ParseAddrPort(server); err == nil {
		if port != 0 && port != addr.Port() {
			return nil, false
		}
		return p.lookupAddr(addr)
	}
	return p.prefer(p.byName[strings.ToLower(server)], port)
}

func (p *Pool) lookupAddr(addr netip.AddrPort) (*Server, bool) {
	ip := addr.Addr().Unmap()
	if addr.Port() != 0 {
		s, ok := p.byAddr[netip.AddrPortFrom(ip, addr.Port())]
		return s, ok
	}
	return p.prefer(p.byHost[ip], 0)
}

// prefer returns the first server that is up, else the first, of those that listen on port (0: on any).
func (p *Pool) prefer(servers []*Server, port uint16) (*Server, bool) {
	p.refresh()
	var first *Server
	for _, s := range servers {
		if port != 0 && s.addr.Port() != port {
			continue
		}
		if s.loadState() == Up {
			return s, true
		}
		if first == nil {
			first = s
		}
	}
	return first, first != nil
}

// Acquire chooses a server for one request, or one connection, and counts it as in use until the lease is released.
// It never blocks and does not allocate.
//
// The server that h wants is taken when it is up, not full and not excluded. Otherwise the pool's Repick decides:
// the algorithm chooses and Lease.Unmet tells why, or the error is an *UnavailableError. When no server can be had the
// error matches ErrNoServer.
func (p *Pool) Acquire(h Hint) (Lease, error) {
	snap := p.refresh()
	var unmet Reason
	if h.Server.IsValid() {
		s, reason := p.wanted(&h)
		if reason == ReasonNone {
			return newLease(s, ReasonNone), nil
		}
		if p.repick == RepickNever {
			return Lease{}, &UnavailableError{Pool: p.name, Server: h.Server, Reason: reason}
		}
		unmet = reason
	}
	s := p.choose(snap.up, &h)
	if s == nil {
		return Lease{}, p.noServer
	}
	return newLease(s, unmet), nil
}

// wanted reserves the server that h names, or tells why it cannot be had.
func (p *Pool) wanted(h *Hint) (*Server, Reason) {
	s, ok := p.lookupAddr(h.Server)
	switch {
	case !ok:
		return nil, ReasonGone
	case s.loadState() == Disabled:
		return nil, ReasonDisabled
	case s.loadState() != Up || h.excludes(s):
		return nil, ReasonDown
	case !s.reserve():
		return nil, ReasonFull
	}
	return s, ReasonNone
}

// choose reserves the server that the algorithm chooses. A choice that is full or excluded is put aside and the
// algorithm is asked again without it, so that algorithms may ignore both.
func (p *Pool) choose(up []*Server, h *Hint) *Server {
	for len(up) > 0 {
		s := p.algorithm.Choose(up, *h)
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

// refresh returns the current snapshot, after taking back the servers whose time out of service is over.
func (p *Pool) refresh() *snapshot {
	snap := p.current.Load()
	if snap.due.IsZero() {
		return snap
	}
	now := time.Now()
	if now.Before(snap.due) {
		return snap
	}
	p.update(now, CausePassive, "", nil, func() bool {
		return p.current.Load() == snap // else somebody was faster
	})
	return p.current.Load()
}

// update runs edit under the lock and, if edit reports a change, derives the state of every server from what edit left
// and publishes the snapshot. Then, without the lock, it logs what changed and why.
func (p *Pool) update(now time.Time, cause Cause, monitor string, err error, edit func() bool) {
	for _, c := range p.edit(now, cause, monitor, err, edit) {
		p.logger.LogAttrs(context.Background(), slog.LevelInfo, "server state changed",
			slog.String("pool", p.name), slog.String("server", c.server.name), slog.String("from", c.from.String()),
			slog.String("to", c.to.State.String()), slog.String("cause", c.to.Cause.String()),
			slog.String("monitor", c.to.Monitor), slog.Any("error", c.to.Err))
	}
}

// transition is one server's change of state, kept for the log.
type transition struct {
	server *Server
	from   State
	to     Change
}

func (p *Pool) edit(now time.Time, cause Cause, monitor string, err error, edit func() bool) []transition {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !edit() {
		return nil
	}
	var changed []transition
	up, ejected := p.deriveLocked(now)
	if up == 0 && ejected > 0 {
		// A server that fails some traffic is better than none.
		for _, s := range p.servers {
			s.endEjectionLocked(now)
		}
		up, ejected = p.deriveLocked(now)
	}
	snap := &snapshot{up: make([]*Server, 0, up), ejected: ejected}
	for _, s := range p.servers {
		from := s.loadState()
		switch s.next {
		case Up:
			snap.up = append(snap.up, s)
		case Ejected:
			if snap.due.IsZero() || s.ejectedUntil.Before(snap.due) {
				snap.due = s.ejectedUntil
			}
		}
		if s.next == from {
			continue
		}
		s.change = Change{State: s.next, At: now, Cause: cause, Monitor: monitor, Err: err}
		if from == Ejected && s.next == Up { // its time was over, whatever the occasion
			s.change = Change{State: Up, At: now, Cause: CausePassive}
		}
		s.state.Store(uint32(s.next))
		changed = append(changed, transition{s, from, s.change})
	}
	p.current.Store(snap)
	return changed
}

// deriveLocked sets every server's next state and counts the two kinds that matter.
func (p *Pool) deriveLocked(now time.Time) (up, ejected int) {
	for _, s := range p.servers {
		s.next = s.deriveLocked(now)
		switch s.next {
		case Up:
			up++
		case Ejected:
			ejected++
		}
	}
	return up, ejected
}
