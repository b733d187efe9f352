package lbpool

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// State is whether a server takes new requests, and if not, why.
type State uint8

const (
	// Down means that a health monitor has not (yet) found the server healthy.
	Down State = iota
	// Up means that the server takes new requests.
	Up
	// Disabled means that the server was disabled by configuration or by Disable. It is not checked.
	Disabled
	// Ejected means that passive marking holds the server back for a while because it failed real traffic.
	Ejected
)

// String returns "down", "up", "disabled" or "ejected".
func (s State) String() string {
	return [...]string{"down", "up", "disabled", "ejected"}[s&3]
}

// Cause is what brought about a change of state.
type Cause uint8

const (
	// CauseConfigured means that the state is the one the server started with.
	CauseConfigured Cause = iota
	// CauseMonitor means that a health monitor changed its mind.
	CauseMonitor
	// CausePassive means that passive marking took the server out or let it back in.
	CausePassive
	// CauseOperator means that Enable or Disable was called.
	CauseOperator
)

// String returns "configured", "monitor", "passive" or "operator".
func (c Cause) String() string {
	return [...]string{"configured", "monitor", "passive", "operator"}[c&3]
}

// Change describes how a server came to its state.
type Change struct {
	State   State     // the state it entered
	At      time.Time // when
	Cause   Cause     // what did it
	Monitor string    // the health monitor's name when Cause is CauseMonitor
	Err     error     // the failure that did it, nil for a change to the better; a *CheckError for the built-in checkers
}

// ServerStats is a reading of a server's counters, which start at zero when its pool is made.
type ServerStats struct {
	Open         int           // leases in use
	Requests     uint64        // leases granted
	Failures     uint64        // leases released with a failure of the server's
	ServerErrors uint64        // leases released with a status of 500 to 599
	Ejections    uint64        // how often passive marking took the server out
	FirstByte    time.Duration // smoothed time to first byte; 0 before the first answer
}

// A Server is one server of a pool. All methods may be called concurrently.
type Server struct {
	pool     *Pool
	addr     netip.AddrPort
	host     string // addr as a URL spells it
	name     string
	hostname string
	ratio    int64
	limit    int64 // of open; 0: none
	checks   []*check

	// Guarded by pool.mu.
	disabled     bool
	epoch        uint64    // counts Enable and Disable, so that checks begun before are discarded
	ejectedUntil time.Time // zero: not ejected
	ejectedFor   time.Duration
	next         State // scratch of Pool.update
	change       Change

	_ [64]byte // what follows is written for each request: keep it off the line of what is only read

	open         atomic.Int64
	state        atomic.Uint32
	failing      atomic.Int32 // consecutive failures
	requests     atomic.Uint64
	failures     atomic.Uint64
	serverErrors atomic.Uint64
	ejections    atomic.Uint64
	firstByte    atomic.Int64
}

func newServer(p *Pool, addr netip.AddrPort, c ServerConfig, monitors []HealthMonitor) *Server {
	s := &Server{
		pool:     p,
		addr:     addr,
		host:     addr.String(),
		name:     c.Name,
		hostname: c.Hostname,
		ratio:    int64(max(c.Ratio, 1)),
		limit:    int64(c.MaxConnections),
		disabled: c.Disabled,
	}
	if s.name == "" {
		s.name = s.host
	}
	for i := range monitors {
		s.checks = append(s.checks, newCheck(s, &monitors[i]))
	}
	s.change = Change{State: Down, At: time.Now(), Cause: CauseConfigured}
	return s
}

// Addr returns the server's address and port.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Name returns the configured name, or the address and port.
func (s *Server) Name() string { return s.name }

// Hostname returns the configured alias, or "".
func (s *Server) Hostname() string { return s.hostname }

// Ratio returns the server's share relative to the others, 1 to MaxRatio.
func (s *Server) Ratio() int { return int(s.ratio) }

// Open returns the number of leases in use.
func (s *Server) Open() int { return int(s.open.Load()) }

// Full reports whether as many leases are in use as MaxConnections allows.
func (s *Server) Full() bool { return s.limit > 0 && s.open.Load() >= s.limit }

// State returns whether the server takes new requests.
func (s *Server) State() State {
	s.pool.refresh()
	return s.loadState()
}

// LastChange tells how the server came to its state.
func (s *Server) LastChange() Change {
	s.pool.refresh()
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.change
}

// Stats returns a reading of the counters. They are read one after the other, not at one instant.
func (s *Server) Stats() ServerStats {
	return ServerStats{
		Open:         s.Open(),
		Requests:     s.requests.Load(),
		Failures:     s.failures.Load(),
		ServerErrors: s.serverErrors.Load(),
		Ejections:    s.ejections.Load(),
		FirstByte:    time.Duration(s.firstByte.Load()),
	}
}

// Enable ends Disable. Without health monitors the server is up at once; with them it is down until checks succeed,
// which begin at once when Run is running. An enabled server is left as it is.
func (s *Server) Enable() { s.setDisabled(false) }

// Disable keeps new requests from the server. Leases in use are left alone, and health checks stop.
func (s *Server) Disable() { s.setDisabled(true) }

func (s *Server) setDisabled(disabled bool) {
	changed := false
	s.pool.update(time.Now(), CauseOperator, "", nil, func() bool {
		changed = s.disabled != disabled
		if !changed {
			return false
		}
		s.disabled = disabled
		s.epoch++
		s.ejectedUntil, s.ejectedFor = time.Time{}, 0
		s.failing.Store(0)
		for _, c := range s.checks {
			c.resetLocked()
		}
		return true
	})
	if changed {
		for _, c := range s.checks {
			c.poke()
		}
	}
}

func (s *Server) loadState() State { return State(s.state.Load()) }

// deriveLocked works out the state from its parts, in the order in which they hide one another.
func (s *Server) deriveLocked(now time.Time) State {
	if s.disabled {
		return Disabled
	}
	for _, c := range s.checks {
		if !c.up {
			return Down
		}
	}
	if now.Before(s.ejectedUntil) {
		return Ejected
	}
	return Up
}

// reserve counts one more lease, unless the server is full.
func (s *Server) reserve() bool {
	if s.limit == 0 {
		s.open.Add(1)
	} else {
		for {
			n := s.open.Load()
			if n >= s.limit {
				return false
			}
			if s.open.CompareAndSwap(n, n+1) {
				break
			}
		}
	}
	s.requests.Add(1)
	return true
}
