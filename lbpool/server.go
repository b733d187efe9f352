package lbpool

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/enumtext"
)

// State says whether a server takes new requests, and if not, why.
type State uint8

const (
	// Down means that the health monitors do not find the server healthy.
	Down State = iota
	// Up means that the server takes new requests.
	Up
	// Disabled means that the server was disabled: by configuration, by
	// Disable, or at the end of Drain. It is not checked.
	Disabled
	// Ejected means that passive marking took the server out for a while
	// because requests to it failed.
	Ejected
	// Draining means that the server takes no new clients, and will be disabled
	// when it has none left or after a timeout.
	Draining
	// Maintenance means that the server itself, in answer to a health check,
	// asks not to be used now.
	Maintenance
	// Removed means that the server no longer belongs to its pool. Leases may
	// still be in use.
	Removed
	// Unchecked means that the health monitors have not checked the server yet,
	// because it is new or was just enabled. It takes new requests, like one
	// that is Up.
	Unchecked
)

// Usable reports whether a server in this state takes new requests, which is Up
// or Unchecked. It may be full.
func (s State) Usable() bool { return s == Up || s == Unchecked }

var stateNames = []string{"down", "up", "disabled", "ejected", "draining", "maintenance", "removed", "unchecked"}

// String returns the name: "down", "up", "disabled", "ejected", "draining",
// "maintenance", "removed" or "unchecked"; "invalid" for other values.
func (s State) String() string { return enumtext.String(s, stateNames) }

// MarshalText returns the name. It fails for a value without a name.
func (s State) MarshalText() ([]byte, error) { return enumtext.Marshal(s, stateNames) }

// UnmarshalText reads a name, without regard to case, blanks, "-" and "_". The
// error for another text lists the names.
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
	// Cause is "configured" (New, Update or Adopt), "monitor" (a health
	// monitor), "passive" (passive marking ejected the server or took it back),
	// "operator" (Enable, Disable, Drain or SetRatio), "drained" (a drain
	// ended) or "discovered" (a Discovery found the server, or no longer finds
	// it).
	Cause   string
	Monitor string // the name of the health monitor if Cause is "monitor", else ""
	// Err is the failure behind the change, nil for a change to the better.
	// HTTPChecker and TCPChecker return a *CheckError, which it wraps.
	Err error
}

// ServerStats are the counters of a server. They start at zero when the server
// joins its pool; Update keeps them.
type ServerStats struct {
	Open         int           // leases in use
	Requests     uint64        // leases granted
	Failures     uint64        // leases released with a failure of the server
	ServerErrors uint64        // leases released with a status of 500 to 599
	Ejections    uint64        // times that passive marking took the server out
	FirstByte    time.Duration // smoothed time to first byte; 0 before the first answer
}

// A Server is one server of a pool. All methods may be called concurrently.
// Update keeps the same *Server for the same address and port.
type Server struct {
	pool *Pool
	addr netip.AddrPort
	host string // addr as a URL spells it
	id   uint64 // hash of host, for consistent hashing

	label atomic.Pointer[label]

	// Guarded by pool.mu.
	configured   ServerConfig // by the latest New or Update
	override     Override     // that was applied last; zero: none
	checks       []*check
	disabled     bool
	removed      bool
	drain        drain
	boundCounts  map[*counter]boundCount // while it drains; replaced, never changed
	drainOver    bool                    // scratch of Pool.edit: the drain timed out
	epoch        uint64                  // counts Enable and Disable, to discard the results of checks begun before
	ejectedUntil time.Time               // zero: not ejected
	ejectedFor   time.Duration
	upSince      time.Time // when slow start began; zero: not in slow start
	next         State     // scratch of Pool.edit
	change       Change

	failureRun failureRun

	freed bool // the queue has a note; guarded by pool.queue.mu

	_ [64]byte // keeps the fields above, which are rarely written, off the cache lines below

	// Algorithms read these of all servers: they fit into one cache line.
	open      atomic.Int64
	limit     atomic.Int64 // of open; 0: none
	weight    atomic.Int64 // ratio * ramp
	firstByte atomic.Int64 // smoothed
	sampled   atomic.Int64 // when firstByte was last measured, on the pool's clock
	ratio     atomic.Int32
	ramp      atomic.Int32 // share of the ratio that slow start grants, out of fullRamp
	state     atomic.Uint32
	failing   atomic.Int32 // failures in a row, as failureRun counts them
	rate      rateLimit

	keepsBound   atomic.Bool  // drain.keepBound, for requests
	unreachable  atomic.Int32 // failures in a row since the server's state last changed, for RepickAfterFailures
	work         atomic.Int64 // bytes of responses still to come, for LeastLoad
	rampTurns    atomic.Uint64
	requests     atomic.Uint64
	failures     atomic.Uint64
	serverErrors atomic.Uint64
	ejections    atomic.Uint64
	bestByte     atomic.Int64 // the least firstByte there was, for FewestServers
	errorShare   errorShare
}

// label is the names of a server. It is never written once it is published.
type label struct{ name, hostname string }

func newServer(p *Pool, addr netip.AddrPort) *Server {
	s := &Server{pool: p, addr: addr, host: addr.String()}
	s.id = hashText(s.host)
	s.ramp.Store(fullRamp)
	s.change = Change{State: Down, At: time.Now(), Cause: causeConfigured}
	return s
}

// configureLocked applies c and the server's override. The effects of Enable,
// Disable, Drain and SetRatio stay, unless c differs from the configuration
// before in that point.
func (s *Server) configureLocked(c ServerConfig, st *settings, fresh, adopt bool) {
	name := c.Name
	if name == "" {
		name = s.host
	}
	s.label.Store(&label{name, c.Hostname})
	s.limit.Store(int64(c.MaxConnections))
	s.rate.set(c.MaxRate)
	edited := fresh || s.configured.Ratio != c.Ratio || s.configured.Disabled != c.Disabled
	if fresh || s.configured.Ratio != c.Ratio && s.override.Ratio == 0 {
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
	if edited || s.override != s.pool.overrideLocked(s) {
		s.applyOverrideLocked()
	}
}

// Addr returns the server's address and port.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Name returns the configured name, or the address and port.
func (s *Server) Name() string { return s.live().label.Load().name }

// Hostname returns the configured alias, or "".
func (s *Server) Hostname() string { return s.live().label.Load().hostname }

// Configured returns what the configuration or the discovery says about the
// server, whatever Enable, Disable, Drain and SetRatio have said since. A Ratio
// of 0 means 1.
func (s *Server) Configured() ServerConfig {
	s = s.live()
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.configured
}

// Ratio returns the server's share relative to the others, 1 to 20.
func (s *Server) Ratio() int { return int(s.live().ratio.Load()) }

// SetRatio changes the server's share, 1 to 20, for new requests. It applies
// until Update is called with a Ratio that differs from the configured one.
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

// Full reports whether the server can take no request now because of
// MaxConnections or MaxRate.
func (s *Server) Full() bool { return s.live().full() }

func (s *Server) full() bool {
	limit := s.openLimit()
	return limit > 0 && s.open.Load() >= limit || s.rate.exhausted(s.pool)
}

// State returns the server's state.
func (s *Server) State() State {
	s = s.live()
	s.pool.refresh()
	return s.loadState()
}

// LastChange returns the change that led to the server's state.
func (s *Server) LastChange() Change {
	s = s.live()
	s.pool.refresh()
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.change
}

// Stats returns the counters. It reads them one after the other, not at one
// instant.
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

// Enable ends Disable and Drain. A server that was draining, or has no health
// monitors, takes requests at once, as before. Otherwise it is Unchecked, takes
// requests too, and Run checks it at once; with Config.StartDown it is Down
// until checks succeed. An enabled server is left as it is.
func (s *Server) Enable() { s.setDisabled(false) }

// Disable stops new requests to the server. Leases in use stay valid, and
// health checks stop.
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
		return true // checks went on during the drain
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

// deriveLocked computes the state from its parts, in the order of their
// precedence.
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

// openLimit is MaxConnections as far as slow start allows; 0: no limit.
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
