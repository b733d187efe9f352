package lbpool

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
)

const (
	maxParallelChecks = 64        // of one pool
	longOutage        = 10        // failed checks in a row after which a success has a quick start
	maxInterval       = time.Hour // between two tries of a discovery that fails
	flapWindow        = 10        // intervals; a server that is up for less time flaps
)

// A Checker checks servers. Calls may overlap.
//
// If Update brings another Checker for the monitor of the same name, servers
// are checked with it at once. If Adopt does, the results of the old one are
// dropped too, unless StartDown is set. Two checkers are the same if they are
// equal, comparable values, such as the same pointer, or if the new one has a
// method Same(Checker) bool that returns true.
type Checker interface {
	// Check checks one server, once. It returns nil if the server is healthy,
	// else an error, preferably a *CheckError. It must return soon after ctx is
	// done; whatever it returns then is a failure.
	Check(ctx context.Context, server netip.AddrPort) error
}

// CheckerFunc is a function that is a Checker. No two of them are the same, see
// Checker.
type CheckerFunc func(ctx context.Context, server netip.AddrPort) error

// Check implements Checker.
func (f CheckerFunc) Check(ctx context.Context, server netip.AddrPort) error { return f(ctx, server) }

// HealthMonitor says how and how often servers are checked, and how many checks
// in a row change a server's state.
type HealthMonitor struct {
	// Name is the monitor's name in logs and in Change, unique within the pool.
	// Empty means "monitor[i]".
	Name string
	// Checker performs the checks, for example an *HTTPChecker or a
	// *TCPChecker. Required.
	Checker Checker
	// Interval is the time between the starts of regular checks, at most an
	// hour. 0 means 10 seconds.
	Interval time.Duration `default:"10s" min:"0s" max:"1h"`
	// Timeout limits a check; it is less than Interval. 0 means 4 seconds, or
	// half the interval if that is less.
	Timeout time.Duration
	// Successes is how many checks in a row must succeed for the server to go
	// up, at most 50. 0 means 2. The first check of a server decides alone,
	// unless Config.StartDown is set.
	Successes int `default:"2" min:"1" max:"50"`
	// Failures is how many checks in a row must fail for the server to go down,
	// at most 50. 0 means 2. The first check of a server decides alone, unless
	// Config.StartDown is set.
	Failures int `default:"2" min:"1" max:"50"`
	// Port is the port to check. 0 means the server's port. Requests always use
	// the server's port.
	Port uint16
	// DisableQuickStart makes all checks keep to Interval. Without it, checks
	// of a server that failed 10 checks in a row, or of any server while no
	// server of the pool is up, follow one another at once while they succeed,
	// until the server is up.
	DisableQuickStart bool
	// MaxHold is the longest hold-down of a server that flaps. A server that
	// goes down within 10 intervals after it came up stays down for an interval
	// although checks succeed, the next time for two, then four and so on, up
	// to MaxHold. A server that stays up longer starts again with none. If no
	// server of the pool is up, no hold-down applies. 0 means 6 intervals;
	// negative means no hold-down.
	MaxHold time.Duration `negative:"no hold-down"`
}

// validMonitors returns copies with the defaults filled in.
func validMonitors(configs []HealthMonitor, faults *fielderr.List) []HealthMonitor {
	if len(configs) > maxMonitors {
		faults.Addf("healthMonitors", nil, "%d monitors, more than %d", len(configs), maxMonitors)
		return nil
	}
	monitors := make([]HealthMonitor, len(configs))
	owner := make(map[string]string, len(configs))
	for i, m := range configs {
		path := fielderr.Index("healthMonitors", i)
		if m.Name == "" {
			m.Name = fmt.Sprintf("monitor[%d]", i)
		}
		faults.Name(path+".name", m.Name)
		if first, taken := owner[m.Name]; taken {
			faults.Addf(path+".name", m.Name, "already the name of %s", first)
		}
		owner[m.Name] = path
		if isNil(m.Checker) {
			faults.Addf(path+".checker", nil, "missing")
		} else if v, ok := m.Checker.(interface{ validate() error }); ok {
			if err := v.validate(); err != nil {
				faults.AddUnder(path+".checker", err)
			}
		}
		bounds.Check(path, m, faults)
		bounds.SetDefaults(&m)
		if m.Timeout == 0 {
			m.Timeout = min(4*time.Second, m.Interval/2)
		}
		if m.Timeout < 0 || m.Timeout >= m.Interval {
			faults.Addf(path+".timeout", m.Timeout, "not less than the interval, %s", m.Interval)
		}
		if m.MaxHold == 0 {
			m.MaxHold = 6 * m.Interval
		}
		monitors[i] = m
	}
	return monitors
}

// Run checks the servers with the pool's health monitors until ctx is done. It
// blocks, and returns ctx's error when all its goroutines have ended. Servers
// then keep their state, and Run may be called again. Concurrent calls wait,
// and one of them takes over when the running one returns: several owners of a
// pool may all call Run, and the servers are checked once.
//
// A pool makes at most 64 checks at a time. First checks are spread over a
// tenth of the interval, regular ones over all of it. Disabled servers are not
// checked. A check that fails because this machine lacks something, such as a
// free file descriptor, is ignored.
//
// Run also asks the Discoveries, ends drains, and ends ejections on time for
// logs and events; without Run the next request ends them. Update may be called
// while it runs.
func (p *Pool) Run(ctx context.Context) error {
	for {
		p = p.live()
		if err := p.run(ctx); err != nil {
			return err
		}
	}
}

// run is Run until the pool adopts another.
func (p *Pool) run(ctx context.Context) error {
	select {
	case p.running <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.running }()
	var group sync.WaitGroup
	defer group.Wait()
	cancels := make(map[job]context.CancelFunc)
	defer func() {
		for _, cancel := range cancels {
			cancel()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p.next.Load() == nil {
		jobs := p.jobs()
		for j, cancel := range cancels {
			if !jobs[j] {
				cancel()
				delete(cancels, j)
			}
		}
		for j := range jobs {
			if cancels[j] == nil {
				limited, cancel := context.WithCancel(ctx)
				cancels[j] = cancel
				group.Go(func() { j.run(limited) })
			}
		}
		wait := time.Duration(math.MaxInt64)
		if p.pollDrains(ctx) {
			wait = drainPoll
		}
		if due := p.refresh().due; !due.IsZero() {
			wait = min(wait, max(time.Until(due), 0))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.changed:
		case <-timer.C:
		}
	}
	p.notify() // calls of Run that wait can run it
	return nil
}

// A job is a task of Run that has its own goroutine: a check or a search.
type job interface{ run(ctx context.Context) }

// jobs returns the checks of all servers and the searches for servers.
func (p *Pool) jobs() map[job]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[job]bool)
	for _, s := range p.searches {
		all[s] = true
	}
	for _, s := range p.latest.servers {
		for _, c := range s.checks {
			all[c] = true
		}
	}
	return all
}

// check is one monitor's checks of one server. run makes them; the result is
// part of the server's state.
type check struct {
	server  *Server
	monitor atomic.Pointer[HealthMonitor] // changed by Update
	wake    chan struct{}                 // has at most one token: the server was enabled or disabled, or the monitor changed

	// Guarded by the pool's mu.
	known         bool // it was checked, or took over the results of others
	up            bool
	maintenance   bool // reported by the server
	quick         bool // the next check follows a success at once
	passed        int  // in a row
	failed        int  // in a row
	upAt          time.Time
	holdDown      time.Duration // of the latest flap
	holdDownUntil time.Time
}

// watchLocked makes the server's checks those of st. With adopt, results of
// monitors that differ are dropped.
func (s *Server) watchLocked(st *settings, fresh, adopt bool) {
	monitors := st.monitors
	// A new monitor takes over the results of the others.
	health := Unchecked
	if !fresh && (!adopt || st.startDown) {
		health = s.healthLocked()
	}
	checks := make([]*check, len(monitors))
	for i := range monitors {
		m := &monitors[i]
		at := slices.IndexFunc(s.checks, func(c *check) bool { return c.monitor.Load().Name == m.Name })
		other := false
		if at >= 0 {
			before := s.checks[at].monitor.Load()
			other = before.Port != m.Port || !same(before.Checker, m.Checker)
		}
		if at < 0 || other && adopt {
			c := &check{server: s, wake: make(chan struct{}, 1)}
			c.monitor.Store(m)
			c.resetLocked(st.startDown)
			if health != Unchecked {
				c.known, c.up = true, health == Up
			}
			checks[i] = c
			continue
		}
		checks[i] = s.checks[at]
		if before := checks[i].monitor.Swap(m); other || before.Interval != m.Interval {
			checks[i].poke()
		}
	}
	s.checks = checks
}

// healthLocked derives the server's health from its checks: Up, Down,
// Maintenance or Unchecked.
func (s *Server) healthLocked() State {
	passing, unknown, maintenance := 0, 0, false
	for _, c := range s.checks {
		switch {
		case !c.known:
			unknown++
		case c.up:
			passing++
		}
		maintenance = maintenance || c.maintenance
	}
	switch {
	case passing == len(s.checks), passing >= s.pool.latest.minPassing:
		return Up
	case passing+unknown >= s.pool.latest.minPassing && unknown > 0:
		return Unchecked
	case maintenance:
		return Maintenance
	}
	return Down
}

// endHoldDownLocked lets a healthy server come up although it flaps.
func (s *Server) endHoldDownLocked() {
	for _, c := range s.checks {
		c.holdDownUntil = time.Time{}
		c.up = c.up || c.passed >= c.monitor.Load().Successes
	}
}

// resetLocked drops all results. Until there is one, the monitor finds the
// server down, or has no result if down is false.
func (c *check) resetLocked(down bool) {
	c.known = down
	c.up, c.maintenance, c.passed, c.failed = false, false, 0, 0
	c.upAt, c.holdDown, c.holdDownUntil = time.Time{}, 0, time.Time{}
	c.quick = !c.monitor.Load().DisableQuickStart
}

func (c *check) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // run will wake up anyway
	}
}

func (c *check) run(ctx context.Context) {
	slots := c.server.pool.slots
	interval := c.monitor.Load().Interval
	timer := time.NewTimer(rand.N(interval/10 + 1))
	defer timer.Stop()
	// Regular checks are made at fixed times with a random phase, so that those
	// of many servers do not coincide, not even after they have waited for
	// slots.
	beat := time.Now().Add(rand.N(interval))
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		again, checked := c.once(ctx)
		<-slots
		now := time.Now()
		if latest := c.monitor.Load().Interval; latest != interval {
			interval = latest
			beat = now.Add(rand.N(interval))
		}
		if late := now.Sub(beat); late >= 0 {
			beat = now.Add(interval - late%interval) // the next of the fixed times
		}
		switch {
		case !checked:
			timer.Stop() // until woken
		case again:
			timer.Reset(0)
		default:
			timer.Reset(beat.Sub(now))
		}
	}
}

// once checks and records the result. It reports whether the next check should
// follow at once, and whether there was a check, which there is not if the
// server is disabled.
func (c *check) once(ctx context.Context) (again, checked bool) {
	p, m := c.server.pool, c.monitor.Load()
	target := c.server.addr
	if m.Port != 0 {
		target = netip.AddrPortFrom(target.Addr(), m.Port)
	}
	p.mu.Lock()
	epoch, disabled := c.server.epoch, c.server.disabled
	p.mu.Unlock()
	if disabled {
		return false, false
	}
	limited, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	start := time.Now()
	err := m.Checker.Check(c.protocol(target).request(limited), target)
	if ctx.Err() != nil {
		return false, true
	}
	now := time.Now()
	if limited.Err() != nil {
		if checkReason(err) == checkOther {
			err = &CheckError{Reason: checkNoResponse, Detail: "no result within " + m.Timeout.String(), Err: err}
		}
	} else if checkReason(err) == CheckNoResources {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tallyLocked(m, err, now.Sub(start))
		return false, true
	}
	var note error // the reason for a change of state
	if err != nil {
		note = fmt.Errorf("%s: %w", m.Name, err)
	}
	p.update(now, causeMonitor, m.Name, note, func() bool {
		p.tallyLocked(m, err, now.Sub(start))
		if c.server.epoch != epoch {
			return false
		}
		var changed bool
		again, changed = c.recordLocked(now, m, err)
		return changed
	})
	return again, true
}

// A checkTally counts the checks of a monitor.
type checkTally struct {
	passed uint64
	failed map[string]uint64 // by reason
	took   time.Duration
}

// tallyLocked counts a check and its result.
func (p *Pool) tallyLocked(m *HealthMonitor, err error, took time.Duration) {
	t := p.checked[m.Name]
	if t == nil {
		return // an update has taken the monitor away meanwhile
	}
	t.took += took
	if err == nil {
		t.passed++
	} else {
		t.failed[knownReason(checkReason(err))]++
	}
}

// protocol is what the server speaks where it is checked. At another port it
// may speak anything, and most likely HTTP/1.1.
func (c *check) protocol(target netip.AddrPort) Protocol {
	st := c.server.pool.current.Load()
	tls := true
	if checker, ok := c.monitor.Load().Checker.(*HTTPChecker); ok {
		tls = checker.TLS != nil
	}
	if target != c.server.addr || st.protocol == ProtocolH2 && !tls {
		return ProtocolHTTP1
	}
	return st.protocol
}

// recordLocked records a result. It reports whether the next check should
// follow at once, and whether the server's state may change.
func (c *check) recordLocked(now time.Time, m *HealthMonitor, err error) (again, changed bool) {
	up, maintenance := c.up, c.maintenance
	first := !c.known
	c.known = true
	c.maintenance = checkReason(err) == CheckMaintenance
	if err != nil {
		c.passed = 0
		c.failed++
		// One check is enough if the server itself reports maintenance.
		c.up = c.up && c.failed < m.Failures && !c.maintenance
		c.quick = c.failed >= longOutage && !m.DisableQuickStart
		if up && !c.up && !c.maintenance {
			c.holdDownLocked(now, m)
		}
		return false, first || up != c.up || maintenance != c.maintenance
	}
	c.failed = 0
	c.passed++
	ready := first || c.passed >= m.Successes
	c.up = c.up || ready && !now.Before(c.holdDownUntil)
	if c.up && !up {
		c.upAt = now
	}
	// If no server is up, checks follow one another.
	c.quick = (c.quick || len(c.server.pool.current.Load().up) == 0 && !m.DisableQuickStart) && !ready
	// A healthy server in hold-down is a change too: it may be the only one.
	return c.quick, first || up != c.up || maintenance != c.maintenance || ready && !c.up
}

// holdDownLocked starts the hold-down of a server that has just gone down, if
// it flaps.
func (c *check) holdDownLocked(now time.Time, m *HealthMonitor) {
	if c.upAt.IsZero() || now.Sub(c.upAt) > flapWindow*m.Interval || m.MaxHold < 0 {
		c.holdDown = 0
		return
	}
	c.holdDown = min(max(m.Interval, 2*c.holdDown), m.MaxHold)
	c.holdDownUntil = now.Add(c.holdDown)
}
