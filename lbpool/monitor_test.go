package lbpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errSick = errors.New("sick")

// ward is a Checker that says what it is told to, and remembers when it was
// asked.
type ward struct {
	mu     sync.Mutex
	sick   map[netip.AddrPort]error
	checks map[netip.AddrPort][]time.Time
	delay  time.Duration

	active, most atomic.Int64
}

func newWard() *ward {
	return &ward{sick: map[netip.AddrPort]error{}, checks: map[netip.AddrPort][]time.Time{}}
}

func (w *ward) Check(ctx context.Context, server netip.AddrPort) error {
	n := w.active.Add(1)
	defer w.active.Add(-1)
	for most := w.most.Load(); n > most && !w.most.CompareAndSwap(most, n); most = w.most.Load() {
	}
	w.mu.Lock()
	w.checks[server] = append(w.checks[server], time.Now())
	err, delay := w.sick[server], w.delay
	w.mu.Unlock()
	select {
	case <-time.After(delay):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *ward) set(s *Server, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sick[s.Addr()] = err
}

// setDelay changes how long checks take from now on.
func (w *ward) setDelay(delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = delay
}

func (w *ward) times(s *Server) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.checks[s.Addr()]
}

// running runs p's monitors until the returned function is called.
func running(t *testing.T, p *Pool) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want the context's error", err)
		}
	}
}

func TestMonitorQuickStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		w.delay = 10 * time.Millisecond
		p := mustPool(t, Config{Servers: servers(2), StartDown: true, HealthMonitors: []HealthMonitor{{Name: "basic", Checker: w, Successes: 3}}})
		list := p.Servers()
		w.set(list[1], errSick)
		if got := states(p); got != "down down" {
			t.Fatalf("before Run: %s", got)
		}
		if _, err := p.Acquire(Hint{}); !errors.Is(err, ErrNoServer) {
			t.Errorf("Acquire before any check: %v", err)
		}
		start := time.Now()
		stop := running(t, p)
		time.Sleep(1100 * time.Millisecond) // a tenth of the interval, and three checks
		if got := states(p); got != "up down" {
			t.Errorf("after quick start: %s", got)
		}
		times := w.times(list[0])
		if len(times) < 3 || times[0].Sub(start) > time.Second || times[2].Sub(times[0]) != 20*time.Millisecond {
			t.Errorf("checks at %v, want three back to back within a second", times)
		}
		if c := list[0].LastChange(); c.Cause != causeMonitor || c.Monitor != "basic" || c.Err != nil {
			t.Errorf("LastChange = %+v", c)
		}
		time.Sleep(31 * time.Second)
		if n := len(w.times(list[0])); n < 6 || n > 7 {
			t.Errorf("%d checks in 32 seconds, want 3 and one each 10 s", n)
		}
		if n := len(w.times(list[1])); n < 4 || n > 5 {
			t.Errorf("%d checks of the sick server, want no haste", n)
		}
		stop()
		n := len(w.times(list[0]))
		time.Sleep(time.Minute)
		if len(w.times(list[0])) != n {
			t.Error("checks go on after Run returned")
		}
		if got := states(p); got != "up down" {
			t.Errorf("after Run: %s, want the last state kept", got)
		}
	})
}

// TestMonitorFirstCheck starts with monitors whose interval is long: nobody is
// refused because of the start itself, and the first check of a server decides
// alone, whatever the thresholds.
func TestMonitorFirstCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		var d diary
		monitors := []HealthMonitor{{Name: "basic", Checker: w, Interval: 30 * time.Second, Successes: 5, Failures: 5}}
		p := mustPool(t, Config{Servers: servers(3), HealthMonitors: monitors, OnEvent: d.write})
		list := p.Servers()
		w.set(list[1], errSick)
		w.set(list[2], &CheckError{Reason: CheckMaintenance})
		set, err := NewSet(p)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			l, err := p.Acquire(Hint{})
			if err != nil {
				t.Fatalf("before any check: %v", err)
			}
			l.Release(Outcome{})
		}
		if up, err := set.ServerUp("web", "10.0.0.2", 0); states(p) != "unchecked unchecked unchecked" || !p.Up() || !up || err != nil {
			t.Errorf("before Run: %s, up %t and %t, %v", states(p), p.Up(), up, err)
		}
		if st := p.Stats(); st.Up != 3 || st.Unchecked != 3 {
			t.Errorf("before Run: %+v", st)
		}
		defer running(t, p)()
		time.Sleep(3100 * time.Millisecond) // a tenth of the interval: one check each
		if got := states(p); got != "up down maintenance" {
			t.Errorf("after one check: %s", got)
		}
		if st := p.Stats(); st.Up != 1 || st.Unchecked != 0 {
			t.Errorf("after one check: %+v", st)
		}
		// A server that is enabled again is used at once, too, and a server
		// that is new in an update. Enable wakes the checks, so they must take
		// time: the states are read before the next result.
		w.setDelay(time.Second)
		list[1].Disable()
		list[1].Enable()
		if got := states(p); got != "up unchecked maintenance" {
			t.Errorf("enabled: %s", got)
		}
		mustUpdate(t, p, Config{Servers: servers(4), HealthMonitors: monitors})
		if got := states(p); got != "up unchecked maintenance unchecked" {
			t.Errorf("updated: %s", got)
		}
	})
}

// TestUncheckedServerFails has a server that was never checked refuse
// connections: passive marking takes it out.
func TestUncheckedServerFails(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(2), HealthMonitors: []HealthMonitor{{Checker: newWard()}}})
	s := p.Servers()[0]
	for range 3 {
		mustAcquire(t, p, Hint{Server: s.Addr()}).Release(Outcome{Err: ErrConnect})
	}
	if got := states(p); got != "ejected unchecked" {
		t.Errorf("states %s", got)
	}
}

func TestMonitorThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		monitor := HealthMonitor{Name: "basic", Checker: w, Interval: time.Second, Successes: 2, Failures: 3, DisableQuickStart: true}
		p := mustPool(t, Config{Servers: servers(1), StartDown: true, HealthMonitors: []HealthMonitor{monitor}})
		s := p.Servers()[0]
		defer running(t, p)()
		// One character for each check: what it says, and the state expected
		// after it.
		script := []struct {
			sick bool
			want State
		}{
			{false, Down}, {true, Down}, {false, Down}, {false, Up},
			{true, Up}, {true, Up}, {false, Up}, {true, Up}, {true, Up}, {true, Down},
			{true, Down}, {false, Down}, {true, Down}, {false, Down}, {false, Up},
		}
		for i, step := range script {
			if step.sick {
				w.set(s, errSick)
			} else {
				w.set(s, nil)
			}
			for len(w.times(s)) == i {
				time.Sleep(100 * time.Microsecond)
			}
			synctest.Wait()
			if got := s.State(); got != step.want {
				t.Fatalf("after check %d (sick %v): %s, want %s", i, step.sick, got, step.want)
			}
			if i == 9 {
				if c := s.LastChange(); !errors.Is(c.Err, errSick) || c.Err.Error() != "basic: sick" || c.State != Down {
					t.Errorf("LastChange = %+v", c)
				}
			}
		}
		times := w.times(s)
		for i := 2; i < len(times); i++ { // the first gap is random
			if gap := times[i].Sub(times[i-1]); gap != time.Second {
				t.Errorf("gap %d is %s, want 1s", i, gap)
			}
		}
	})
}

// TestMonitorFlapping is a server that is well and sick by turns, faster than
// it can be followed.
func TestMonitorFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes strings.Builder
		var mu sync.Mutex
		logger := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return changes.Write(b)
		}), nil))
		w := newWard()
		monitor := HealthMonitor{Checker: w, Interval: time.Second, Successes: 2, Failures: 3}
		p := mustPool(t, Config{Servers: servers(1), HealthMonitors: []HealthMonitor{monitor}, Logger: logger})
		s := p.Servers()[0]
		defer running(t, p)()
		for i := range 400 {
			w.set(s, []error{nil, errSick}[i%2])
			time.Sleep(1500 * time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		if n, checks := strings.Count(changes.String(), "\n"), len(w.times(s)); n == 0 || n > checks/3 {
			t.Errorf("%d changes of state in %d checks, more than a third", n, checks)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestMonitorQuickAfterLongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		p := mustPool(t, Config{Servers: servers(1), HealthMonitors: []HealthMonitor{{Checker: w, Successes: 3}}})
		s := p.Servers()[0]
		w.set(s, errSick)
		defer running(t, p)()
		for len(w.times(s)) < longOutage {
			time.Sleep(time.Second)
		}
		w.set(s, nil)
		time.Sleep(11 * time.Second)
		if s.State() != Up {
			t.Error("still down one interval after a long outage")
		}
	})
}

func TestMonitorTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		late := checkFunc(func(ctx context.Context, server netip.AddrPort) error {
			_ = w.Check(ctx, server)
			return nil // says yes, but too late
		})
		p := mustPool(t, Config{Servers: servers(1), HealthMonitors: []HealthMonitor{{Checker: late, Interval: 5 * time.Second, Timeout: time.Second}}})
		s := p.Servers()[0]
		defer running(t, p)()
		time.Sleep(20 * time.Second)
		if s.State() != Up {
			t.Fatal("down while checks are quick")
		}
		w.mu.Lock()
		w.delay = time.Minute
		w.mu.Unlock()
		time.Sleep(12 * time.Second)
		if s.State() != Down {
			t.Fatal("up while checks time out")
		}
		var fault *CheckError
		if c := s.LastChange(); !errors.As(c.Err, &fault) || fault.Reason != checkNoResponse {
			t.Errorf("LastChange = %+v", c)
		}
	})
}

func TestMonitorLocalShortageChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		p := mustPool(t, Config{Servers: servers(1), HealthMonitors: []HealthMonitor{{Checker: w, Interval: time.Second}}})
		s := p.Servers()[0]
		defer running(t, p)()
		time.Sleep(3 * time.Second)
		w.set(s, networkCheckError(syscall.EMFILE))
		n := len(w.times(s))
		time.Sleep(10 * time.Second)
		if s.State() != Up || len(w.times(s)) < n+9 {
			t.Errorf("state %s after %d checks without file descriptors", s.State(), len(w.times(s))-n)
		}
	})
}

func TestMonitorAllMustPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newWard(), newWard()
		p := mustPool(t, Config{Servers: servers(1), HealthMonitors: []HealthMonitor{{Name: "a", Checker: a}, {Name: "b", Checker: b, Port: 9000}}})
		s := p.Servers()[0]
		onPort := &Server{addr: addrPort("10.0.0.1:9000")}
		b.set(onPort, errSick)
		defer running(t, p)()
		time.Sleep(30 * time.Second)
		if s.State() != Down || len(b.times(s)) != 0 || len(b.times(onPort)) == 0 {
			t.Errorf("state %s with one of two monitors failing", s.State())
		}
		b.set(onPort, nil)
		time.Sleep(30 * time.Second)
		if s.State() != Up || s.LastChange().Monitor != "b" {
			t.Errorf("state %s with both passing", s.State())
		}
	})
}

func TestMonitorDisabledServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		list := servers(2)
		list[1].Disabled = true
		p := mustPool(t, Config{Servers: list, HealthMonitors: []HealthMonitor{{Checker: w}}})
		all := p.Servers()
		defer running(t, p)()
		time.Sleep(time.Minute)
		if got := states(p); got != "up disabled" || len(w.times(all[1])) != 0 {
			t.Fatalf("states %s, %d checks of the disabled server", got, len(w.times(all[1])))
		}
		w.setDelay(time.Second) // Enable wakes the check: the states are read before its result
		all[1].Enable()
		if got := states(p); got != "up unchecked" {
			t.Errorf("just enabled: %s, want it to be used until it is checked", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := states(p); got != "up up" || len(w.times(all[1])) != 1 {
			t.Errorf("after its check, which is made at once: %s, %d checks", got, len(w.times(all[1])))
		}
		all[0].Disable()
		synctest.Wait()
		n := len(w.times(all[0]))
		time.Sleep(time.Minute)
		if len(w.times(all[0])) != n {
			t.Error("a disabled server is checked")
		}
	})
}

// TestMonitorStaleResult disables and enables a server while it is being
// checked: what that check finds is not used.
func TestMonitorStaleResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		w.delay = 2 * time.Second
		p := mustPool(t, Config{Servers: servers(1), HealthMonitors: []HealthMonitor{{Checker: w, Successes: 1}}})
		s := p.Servers()[0]
		defer running(t, p)()
		for len(w.times(s)) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		s.Disable()
		s.Enable()
		w.set(s, errSick)
		time.Sleep(1999 * time.Millisecond) // that check succeeds
		synctest.Wait()
		if s.State() != Unchecked {
			t.Errorf("state %s from a check begun before Disable", s.State())
		}
	})
}

func TestMonitorManyServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		w.delay = 50 * time.Millisecond
		p := mustPool(t, Config{Servers: servers(1000), HealthMonitors: []HealthMonitor{{Checker: w, Interval: 2 * time.Second}}})
		stop := running(t, p)
		time.Sleep(10 * time.Second)
		if got := strings.Count(states(p), "up"); got != 1000 {
			t.Errorf("%d of 1000 up", got)
		}
		if most := w.most.Load(); most > maxParallelChecks || most < 10 {
			t.Errorf("up to %d checks in parallel, more than %d", most, maxParallelChecks)
		}
		// In the steady state the checks fill the interval: a tenth of it holds
		// about a tenth of them.
		start := time.Now()
		time.Sleep(2 * time.Second)
		var tenths [10]int
		for _, s := range p.Servers() {
			for _, at := range w.times(s) {
				if i := int(at.Sub(start) / (200 * time.Millisecond)); at.After(start) && i < 10 {
					tenths[i]++
				}
			}
		}
		for i, n := range tenths {
			if n > 250 {
				t.Errorf("tenth %d holds %d of 1000 checks: they are not spread: %v", i, n, tenths)
			}
		}
		stop()
	})
}

// TestRunTakesOver is a pool with several owners: one runs its monitors, and
// when that one stops another does.
func TestRunTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		p := mustPool(t, Config{Servers: servers(2), HealthMonitors: []HealthMonitor{{Checker: w}}})
		s := p.Servers()[0]
		checks := func() int {
			before := len(w.times(s))
			time.Sleep(time.Minute)
			return len(w.times(s)) - before
		}
		first := running(t, p)
		time.Sleep(time.Minute)
		second, third := running(t, p), running(t, p)
		if n := checks(); n != 6 {
			t.Errorf("%d checks in a minute with three owners, want 6", n)
		}
		third() // one that waits may leave
		first()
		w.set(s, errSick)
		if n := checks(); n < 5 || n > 8 {
			t.Errorf("%d checks in a minute after the first owner has left, want about 6", n)
		}
		if got := states(p); got != "down up" {
			t.Errorf("states %s: nobody has noticed", got)
		}
		second()
		if n := checks(); n != 0 {
			t.Errorf("%d checks with nobody running", n)
		}
		first = running(t, p)
		if n := checks(); n < 5 {
			t.Errorf("%d checks of a new owner", n)
		}
		first()
	})
}

func TestRunStopsDuringChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		w.delay = 3 * time.Second
		p := mustPool(t, Config{Servers: servers(200), HealthMonitors: []HealthMonitor{{Checker: w}}})
		stop := running(t, p)
		time.Sleep(2 * time.Second) // all slots taken, the others queue
		start := time.Now()
		stop()
		if d := time.Since(start); d != 0 {
			t.Errorf("Run took %s to return", d)
		}
		if w.active.Load() != 0 {
			t.Error("a check outlived Run")
		}
		if got := strings.Count(states(p), "up"); got != 0 {
			t.Errorf("%d up from checks that were cut off", got)
		}
	})
}

func TestLogging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		p := mustPool(t, Config{Servers: servers(2), Logger: logger})
		if buf.Len() != 0 {
			t.Errorf("New logged: %s", &buf)
		}
		fail(t, p.Servers()[0], 3)
		time.Sleep(10 * time.Second)
		p.Servers()[0].State()
		p.Servers()[1].Disable()
		p.Servers()[0].Disable()
		p.Servers()[1].Enable()
		want := ""
		for _, line := range []string{
			`level=WARN msg="server state changed" pool=web server=10.0.0.1:80 from=up to=ejected cause=passive error="connection reset by peer"`,
			`level=INFO msg="server state changed" pool=web server=10.0.0.1:80 from=ejected to=up cause=passive`,
			`level=INFO msg="server state changed" pool=web server=10.0.0.2:80 from=up to=disabled cause=operator`,
			`level=INFO msg="server state changed" pool=web server=10.0.0.1:80 from=up to=disabled cause=operator`,
			`level=ERROR msg="pool is down" pool=web up=0 servers=2`,
			`level=INFO msg="server state changed" pool=web server=10.0.0.2:80 from=disabled to=up cause=operator`,
			`level=INFO msg="pool is up" pool=web up=1 servers=2`,
		} {
			want += fmt.Sprintln(line)
		}
		if buf.String() != want {
			t.Errorf("log:\n%swant:\n%s", &buf, want)
		}
	})
}
