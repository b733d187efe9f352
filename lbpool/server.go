package lbpool

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/enumtext"
)

// State is whether a server takes new requests, and if not, why.
type State uint8

const (
	// Down means that the health monitors have not found the server healthy.
	Down State = iota
	// Up means that the server takes new requests.
	Up
	// Disabled means that the server was disabled, by configuration, by Disable, or at the end of Drain. It is not checked.
	Disabled
	// Ejected means that passive marking holds the server back for a while because it failed real traffic.
	Ejected
	// Draining means that the server takes no new clients and will be disabled once it has none left, or in due time.
	Draining
	// Maintenance means that the server itself has said, in answer to a health check, that it is not to be used now.
	Maintenance
	// Removed means that the server is no longer one of its pool's. Leases may still be in use.
	Removed
	// Unchecked means that the health monitors have not checked the server yet, since it is new or was just enabled. It
	// takes new requests, like one that is Up.
	Unchecked
)

// Usable reports whether a server in this state takes new requests: whether it is Up or Unchecked. It may still be full.
func (s State) Usable() bool { return s == Up || s == Unchecked }

var stateNames = []string{"down", "up", "disabled", "ejected", "draining", "maintenance", "removed", "unchecked"}

// String returns the name: "down", "up", "disabled", "ejected", "draining", "maintenance", "removed" or "unchecked"; "invalid" for other values.
func (s State) String() string { return enumtext.String(s, stateNames) }

// MarshalText returns the name. It fails for a value without a name.
func (s State) MarshalText() ([]byte, error) { return enumtext.Marshal(s, stateNames) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The error for another text lists the names.
func (s *State) UnmarshalText(text []byte) error { return enumtext.Unmarshal(s, text, stateNames) }

// The values of Change.Cause.
const (
	causeConfigured = "configured"
	causeMonitor    = "monitor"
	causePassive    = "passive"
	causeOperator   = "operator"
	causeDrained    = "drained"
	causeDiscovered = "discovered"
)

// Change is a server's last change of state.
type Change struct {
	State State     // the new state
	At    time.Time // when the server entered it
	// Cause is "configured" (New, Update or Adopt), "monitor" (a health monitor), "passive" (passive marking ejected the
	// server or took it back), "operator" (Enable, Disable, Drain or SetRatio), "drained" (a drain ended) or "discovered" (a
	// Discovery found the server, or no longer finds it).
	Cause   string
	Monitor string // the name of the health monitor if Cause is "monitor", else ""
	// Err is the failure behind the change, nil for a change to the better. HTTPChecker and TCPChecker return a *CheckError,
	// which it wraps.
	Err error
}

// ServerStats is a reading of a server's counters, which start at zero when the server joins its pool and outlive
// Update.
type ServerStats struct {
	Open         int           // leases in use
	Requests     uint64        // leases granted
	Failures     uint64        // leases released with a failure of the server's
	ServerErrors uint64        // leases released with a status of 500 to 599
	Ejections    uint64        // how often passive marking took the server out
	FirstByte    time.Duration // smoothed time to first byte; 0 before the first answer
}

// A Server is one server of a pool. All methods may be called concurrently. A server stays the same value for as long as
// the pool has one with its address and port, whatever else Update changes.
type Server struct {
	pool *Pool
	addr netip.AddrPort
	host string // addr as a URL spells it
	id   uint64 // hash of host: the server's place in a consistent hash

	label atomic.Pointer[label]

	// Guarded by pool.mu.
	configured   ServerConfig // as New or Update had it last
	checks       []*check
	disabled     bool
	removed      bool
	drain        drain
	boundCounts  map[*counter]boundCount // of clients bound to it while it drains; never changed, only replaced
	drainOver    bool                    // scratch of Pool.edit: the drain's time was over
	epoch        uint64                  // counts Enable and Disable, so that checks begun before are discarded
	ejectedUntil time.Time               // zero: not ejected
	ejectedFor   time.Duration
	upSince      time.Time // when slow start began; zero: not in slow start
	next         State     // scratch of Pool.edit
	change       Change

	failureRun failureRun

	freed bool // there is a note for the queue; guarded by pool.queue.mu

	_ [64]byte // what follows is used for each request: keep it off the lines of what is not

	// What algorithms look at in all servers fits into one line.
	open      atomic.Int64
	limit     atomic.Int64 // of open; 0: none
	weight    atomic.Int64 // ratio * ramp
	firstByte atomic.Int64 // smoothed
	sampled   atomic.Int64 // when firstByte was last measured, on the pool's clock
	ratio     atomic.Int32
	ramp      atomic.Int32 // share of the ratio that slow start grants, out of fullRamp
	state     atomic.Uint32
	failing   atomic.Int32 // failures in a row that matter; see failureRun
	rate      rateLimit

	unreachable  atomic.Int32 // failures in a row since the server's state last changed, for RepickAfterFailures
	work         atomic.Int64 // bytes of answers that are still to come, for LeastLoad
	rampTurns    atomic.Uint64
	requests     atomic.Uint64
	failures     atomic.Uint64
	serverErrors atomic.Uint64
	ejections    atomic.Uint64
	bestByte     atomic.Int64 // what firstByte is when the server is at ease, for FewestServers
	errorShare   errorShare
}

// label is what a server can be called. It is never written once it is published.
type label struct{ name, hostname string }

func newServer(p *Pool, addr netip.AddrPort) *Server {
	s := &Server{pool: p, addr: addr, host: addr.String()}
	s.id = hashText(s.host)
	s.ramp.Store(fullRamp)
	s.change = Change{State: Down, At: time.Now(), Cause: causeConfigured}
	return s
}

// configureLocked makes the server what c says. What Enable, Disable, Drain and SetRatio have said since the last time
// stands, unless c says something else than it said then.
func (s *Server) configureLocked(c ServerConfig, st *settings, fresh, adopt bool) {
	name := c.Name
	if name == "" {
		name = s.host
	}
	s.label.Store(&label{name, c.Hostname})
	s.limit.Store(int64(c.MaxConnections))
	s.rate.set(c.MaxRate)
	if fresh || s.configured.Ratio != c.Ratio {
		s.setRatioLocked(max(c.Ratio, 1))
	}
	if fresh {
		s.disabled = c.Disabled
	} else if s.configured.Disabled != c.Disabled {
		s.setDisabledLocked(c.Disabled)
	}
	s.configured = c
	s.removed = false
	s.watchLocked(st, fresh, adopt)
}

// Addr returns the server's address and port.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Name returns the configured name, or the address and port.
func (s *Server) Name() string { return s.live().label.Load().name }

// Hostname returns the configured alias, or "".
func (s *Server) Hostname() string { return s.live().label.Load().hostname }

// Ratio returns the server's share relative to the others, 1 to 20.
func (s *Server) Ratio() int { return int(s.live().ratio.Load()) }

// SetRatio changes the server's share, 1 to 20, for requests to come; others stay where they are. It holds until
// Update is called with another ratio than the one configured now.
func (s *Server) SetRatio(ratio int) error {
	if ratio < 1 || ratio > maxRatio {
		return fmt.Errorf("pool %q: server %s: ratio %d is not within 1 to %d", s.pool.Name(), s.Name(), ratio, maxRatio)
	}
	s = s.live()
	s.pool.update(time.Now(), causeOperator, "", nil, func() bool {
		s.setRatioLocked(ratio)
		return true
	})
	return nil
}

func (s *Server) setRatioLocked(ratio int) {
	if int32(ratio) == s.ratio.Load() {
		return
	}
	s.ratio.Store(int32(ratio))
	s.weight.Store(int64(ratio) * int64(s.ramp.Load()))
	s.pool.reordered = true
}

// Open returns the number of leases in use.
func (s *Server) Open() int { return int(s.live().open.Load()) }

// Full reports whether the server can take no request now, because of MaxConnections or MaxRate.
func (s *Server) Full() bool { return s.live().full() }

func (s *Server) full() bool {
	limit := s.openLimit()
	return limit > 0 && s.open.Load() >= limit || s.rate.exhausted(s.pool)
}

// State returns whether the server takes new requests.
func (s *Server) State() State {
	s = s.live()
	s.pool.refresh()
	return s.loadState()
}

// LastChange tells how the server came to its state.
func (s *Server) LastChange() Change {
	s = s.live()
	s.pool.refresh()
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.change
}

// Stats returns a reading of the counters. They are read one after the other, not at one instant.
func (s *Server) Stats() ServerStats {
	s = s.live()
	return ServerStats{
		Open:         s.Open(),
		Requests:     s.requests.Load(),
		Failures:     s.failures.Load(),
		ServerErrors: s.serverErrors.Load(),
		Ejections:    s.ejections.Load(),
		FirstByte:    time.Duration(s.firstByte.Load()),
	}
}

// Enable ends Disable and Drain. A server that was draining is back at once. One that was disabled is too; if there are
// health monitors it is Unchecked, and is checked at once when Run is running. With Config.StartDown it is down until
// checks succeed. An enabled server is left as it is.
func (s *Server) Enable() { s.setDisabled(false) }

// Disable keeps new requests from the server. Leases in use are left alone, and health checks stop.
func (s *Server) Disable() { s.setDisabled(true) }

func (s *Server) setDisabled(disabled bool) {
	s = s.live()
	s.pool.update(time.Now(), causeOperator, "", nil, func() bool { return s.setDisabledLocked(disabled) })
}

// setDisabledLocked reports whether it changed anything.
func (s *Server) setDisabledLocked(disabled bool) bool {
	if s.removed || s.disabled == disabled && !s.drain.on {
		return false
	}
	drained := s.drain.on
	s.drain = drain{}
	s.disabled = disabled
	if drained && !disabled {
		return true // it has been checked all the time
	}
	s.epoch++
	s.ejectedUntil, s.ejectedFor = time.Time{}, 0
	s.clearFailures()
	for _, c := range s.checks {
		c.resetLocked(s.pool.latest.startDown)
		c.poke()
	}
	return true
}

func (s *Server) loadState() State { return State(s.state.Load()) }

// usable reports whether the server takes new requests.
func (s *Server) usable() bool { return s.loadState().Usable() }

// deriveLocked works out the state from its parts, in the order in which they hide one another.
func (s *Server) deriveLocked(now time.Time) State {
	if s.removed {
		return Removed
	}
	if s.drain.overdue(now) {
		s.drain = drain{}
		s.disabled, s.drainOver = true, true
	}
	if s.disabled {
		return Disabled
	}
	health := s.healthLocked()
	if !health.Usable() {
		return health
	}
	if now.Before(s.ejectedUntil) {
		return Ejected
	}
	if s.drain.on {
		return Draining
	}
	return health
}

// openLimit is MaxConnections as far as slow start grants it; 0: none.
func (s *Server) openLimit() int64 {
	limit := s.limit.Load()
	if ramp := s.ramp.Load(); limit > 0 && ramp < fullRamp {
		limit = max(1, limit*int64(ramp)/fullRamp)
	}
	return limit
}

// reserve counts one more lease, unless the server is full.
func (s *Server) reserve() bool {
	if limit := s.openLimit(); limit == 0 {
		s.open.Add(1)
	} else {
		for {
			n := s.open.Load()
			if n >= limit {
				return false
			}
			if s.open.CompareAndSwap(n, n+1) {
				break
			}
		}
	}
	if !s.rate.take(s.pool) {
		s.open.Add(-1)
		return false
	}
	s.requests.Add(1)
	return true
}
