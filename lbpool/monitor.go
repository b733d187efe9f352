package lbpool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	maxParallelChecks = 64 // of one pool
	longOutage        = 10 // failed checks in a row after which the first success earns a quick start
	maxInterval       = time.Hour
	maxInARow         = 50
)

// ErrRunning is the error of Run while another call of it is running.
var ErrRunning = errors.New("health monitors are already running")

// A Checker checks servers. It is called concurrently.
type Checker interface {
	// Check checks one server, once. It returns nil if the server is healthy and otherwise says why not, if possible
	// with a *CheckError. It must return soon after ctx is done; what it returns after that counts as a failure.
	Check(ctx context.Context, server netip.AddrPort) error
}

// HealthMonitor says how servers are checked, how often, and how many checks in a row change a server's state.
type HealthMonitor struct {
	// Name is the monitor's name in logs and in Change, unique within the pool. Empty means "monitor[i]".
	Name string
	// Checker does the checking; *HTTPChecker and *TCPChecker are at hand. Required.
	Checker Checker
	// Interval is the time between the starts of regular checks, at most an hour. 0 means 10 seconds.
	Interval time.Duration
	// Timeout is how long a check may take, less than Interval. 0 means 4 seconds, or half the interval if that is less.
	Timeout time.Duration
	// Successes is how many checks in a row must succeed for the server to go up, at most 50. 0 means 2.
	Successes int
	// Failures is how many checks in a row must fail for the server to go down, at most 50. 0 means 2.
	Failures int
	// Port is the port to check. 0 means the server's. Traffic goes to the server's port in any case.
	Port uint16
	// DisableQuickStart keeps to Interval always. Otherwise the checks of a server that is new, was enabled again or
	// was out for 10 checks follow one another at once while they succeed, until the server is up.
	DisableQuickStart bool
}

// validMonitors returns copies with the defaults filled in.
func validMonitors(configs []HealthMonitor, faults *faults) []HealthMonitor {
	if len(configs) > MaxMonitors {
		faults.add("health_monitors", "%d monitors, want at most %d", len(configs), MaxMonitors)
		return nil
	}
	monitors := make([]HealthMonitor, len(configs))
	owner := make(map[string]string, len(configs))
	for i, m := range configs {
		path := fmt.Sprintf("health_monitors[%d]", i)
		if m.Name == "" {
			m.Name = fmt.Sprintf("monitor[%d]", i)
		}
		if first, taken := owner[m.Name]; taken {
			faults.add(path+".name", "%q is already the name of %s", m.Name, first)
		}
		owner[m.Name] = path
		if isNil(m.Checker) {
			faults.add(path+".checker", "must not be nil")
		} else if v, ok := m.Checker.(interface{ validate() error }); ok {
			if err := v.validate(); err != nil {
				faults.add(path+".checker", "%w", err)
			}
		}
		if m.Interval == 0 {
			m.Interval = 10 * time.Second
		}
		if m.Interval < 0 || m.Interval > maxInterval {
			faults.add(path+".interval", "%s is not within 0 to %s", m.Interval, maxInterval)
		}
		if m.Timeout == 0 {
			m.Timeout = min(4*time.Second, m.Interval/2)
		}
		if m.Timeout < 0 || m.Timeout >= m.Interval {
			faults.add(path+".timeout", "%s is not less than the interval, %s", m.Timeout, m.Interval)
		}
		m.Successes = inARow(m.Successes, path+".successes", faults)
		m.Failures = inARow(m.Failures, path+".failures", faults)
		monitors[i] = m
	}
	return monitors
}

func inARow(n int, path string, faults *faults) int {
	if n == 0 {
		return 2
	}
	if n < 0 || n > maxInARow {
		faults.add(path, "%d is not within 1 to %d", n, maxInARow)
	}
	return n
}

// Run checks the servers with the pool's health monitors until ctx is done. It blocks, and returns ctx's error when
// all its goroutines have ended; or ErrRunning at once if it is running already. Servers keep their last state when it
// returns, and it may be called again.
//
// At most 64 checks of a pool are under way at a time. First checks are spread over a tenth of the interval, regular
// ones over all of it. Disabled servers are not checked. A check that this machine lacks the means for, such as a free
// file descriptor, changes nothing.
func (p *Pool) Run(ctx context.Context) error {
	if !p.running.CompareAndSwap(false, true) {
		return fmt.Errorf("pool %q: %w", p.name, ErrRunning)
	}
	defer p.running.Store(false)
	slots := make(chan struct{}, maxParallelChecks)
	var group sync.WaitGroup
	for _, s := range p.servers {
		for _, c := range s.checks {
			group.Go(func() { c.run(ctx, slots) })
		}
	}
	<-ctx.Done()
	group.Wait()
	return ctx.Err()
}

// check is one monitor's view of one server. run alone measures; the verdict is part of the server's state.
type check struct {
	server  *Server
	monitor *HealthMonitor
	target  netip.AddrPort
	wake    chan struct{} // holds at most one token: the server was enabled or disabled

	// Guarded by the pool's mu.
	up     bool
	quick  bool // the next success is followed up at once
	passed int  // in a row
	failed int  // in a row
}

func newCheck(s *Server, m *HealthMonitor) *check {
	c := &check{server: s, monitor: m, target: s.addr, wake: make(chan struct{}, 1)}
	if m.Port != 0 {
		c.target = netip.AddrPortFrom(s.addr.Addr(), m.Port)
	}
	c.resetLocked()
	return c
}

// resetLocked forgets all results.
func (c *check) resetLocked() {
	c.up, c.passed, c.failed = false, 0, 0
	c.quick = !c.monitor.DisableQuickStart
}

func (c *check) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // it will wake up anyway
	}
}

func (c *check) run(ctx context.Context, slots chan struct{}) {
	interval := c.monitor.Interval
	timer := time.NewTimer(rand.N(interval/10 + 1))
	defer timer.Stop()
	// Regular checks keep to a beat with a random phase, so that those of many servers do not come in step, and do not
	// get into step by queueing for slots either.
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
		if late := now.Sub(beat); late >= 0 {
			beat = now.Add(interval - late%interval) // the next beat in step
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

// once checks and records the result. It reports whether the next check should follow at once, and whether there was
// one at all: not if the server is disabled.
func (c *check) once(ctx context.Context) (again, checked bool) {
	p := c.server.pool
	p.mu.Lock()
	epoch, disabled := c.server.epoch, c.server.disabled
	p.mu.Unlock()
	if disabled {
		return false, false
	}
	limited, cancel := context.WithTimeout(ctx, c.monitor.Timeout)
	defer cancel()
	err := c.monitor.Checker.Check(limited, c.target)
	if ctx.Err() != nil {
		return false, true
	}
	if limited.Err() != nil {
		if checkReason(err) == CheckOther {
			err = &CheckError{Reason: CheckNoResponse, Detail: "no result within " + c.monitor.Timeout.String(), Err: err}
		}
	} else if checkReason(err) == CheckNoResources {
		return false, true
	}
	var note error // why the server changes its state
	if err != nil {
		note = fmt.Errorf("%s: %w", c.monitor.Name, err)
	}
	p.update(time.Now(), CauseMonitor, c.monitor.Name, note, func() bool {
		if c.server.epoch != epoch {
			return false
		}
		before := c.up
		again = c.recordLocked(err)
		return c.up != before
	})
	return again, true
}

// recordLocked counts a result and reports whether the next check should follow at once.
func (c *check) recordLocked(err error) (again bool) {
	if err != nil {
		c.passed = 0
		c.failed++
		c.up = c.up && c.failed < c.monitor.Failures
		c.quick = c.failed >= longOutage && !c.monitor.DisableQuickStart
		return false
	}
	c.failed = 0
	c.passed++
	c.up = c.up || c.passed >= c.monitor.Successes
	c.quick = c.quick && !c.up
	return c.quick
}
