package lbpool

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errReset = errors.New("connection reset by peer")

// fail makes s fail n times in a row.
func fail(t *testing.T, s *Server, n int) {
	t.Helper()
	for range n {
		l := mustAcquire(t, s.pool, Hint{Server: s.Addr()})
		if l.Server != s {
			t.Fatalf("wanted %s, got %s: %s", s.Name(), l.Server.Name(), l.Unmet)
		}
		l.Release(Outcome{Err: errReset})
	}
}

func TestPassiveEjectsAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(3), Algorithm: RoundRobin()})
		s := p.Servers()[1]
		fail(t, s, 2)
		if got := states(p); got != "up up up" {
			t.Fatalf("after two failures: %s", got)
		}
		before := time.Now()
		fail(t, s, 1)
		if got := states(p); got != "up ejected up" {
			t.Fatalf("after three failures: %s", got)
		}
		if c := s.LastChange(); c.Cause != causePassive || !errors.Is(c.Err, errReset) || !c.At.Equal(before) {
			t.Errorf("LastChange = %+v", c)
		}
		if l := mustAcquire(t, p, Hint{Server: s.Addr()}); l.Unmet != ReasonDown {
			t.Errorf("wanting an ejected server: unmet %q, want down", l.Unmet)
		}
		for range 9 {
			if serve(t, p, Outcome{}) == s {
				t.Fatal("an ejected server got a request")
			}
		}
		time.Sleep(10*time.Second - 1)
		if s.State() != Ejected {
			t.Error("came back too early")
		}
		time.Sleep(time.Nanosecond)
		seen := 0 // nobody asks for its state: traffic alone brings it back
		for range 3 {
			if serve(t, p, Outcome{}) == s {
				seen++
			}
		}
		if seen != 1 || s.State() != Up {
			t.Errorf("after its time: %d of 3 requests, %s", seen, s.State())
		}
		if c := s.LastChange(); c.Cause != causePassive || c.Err != nil || c.State != Up {
			t.Errorf("LastChange = %+v", c)
		}
		if n := s.Stats().Ejections; n != 1 {
			t.Errorf("Ejections = %d", n)
		}
	})
}

func TestPassiveTimeGrowsAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(2), Passive: Passive{Failures: 2, Time: time.Second, MaxTime: 5 * time.Second}})
		s := p.Servers()[0]
		out := func() time.Duration {
			t.Helper()
			start := time.Now()
			for s.State() == Ejected {
				time.Sleep(100 * time.Millisecond)
			}
			return time.Since(start)
		}
		fail(t, s, 2)
		for _, want := range []time.Duration{1, 2, 4, 5, 5} {
			if got := out(); got != want*time.Second {
				t.Errorf("out for %s, want %s", got, want*time.Second)
			}
			fail(t, s, 1) // on probation: one is enough
		}
		out()
		time.Sleep(6 * time.Second) // good for longer than it was out
		l := mustAcquire(t, p, Hint{Server: s.Addr()})
		l.Release(Outcome{Status: 200})
		fail(t, s, 1)
		if s.State() != Up {
			t.Error("a success did not clear the probation")
		}
		fail(t, s, 1)
		if got := out(); got != time.Second {
			t.Errorf("out for %s after good behaviour, want 1s", got)
		}
	})
}

func TestPassiveWhatCounts(t *testing.T) {
	dialTimeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	on, off := Passive{Failures: 1}, Passive{Disabled: true, Failures: 1}
	tests := []struct {
		name    string
		passive Passive
		outcome Outcome
		ejected bool
	}{
		{"success", on, Outcome{Status: 200}, false},
		{"broken connection", on, Outcome{Err: errReset}, true},
		{"broken after the header", on, Outcome{Err: errReset, Status: 200, FirstByte: 1}, true},
		{"disabled", off, Outcome{Err: errReset}, false},
		{"client left", on, Outcome{Err: fmt.Errorf("x: %w", ErrAborted)}, false},
		{"connect time-out", on, Outcome{Err: dialTimeout}, true},
		{"answer too late", on, Outcome{Err: os.ErrDeadlineExceeded}, false},
		{"answer too late, wrapped", on, Outcome{Err: fmt.Errorf("x: %w", ErrTimeout)}, false},
		{"answer too late, counted", Passive{Failures: 1, Timeouts: true}, Outcome{Err: os.ErrDeadlineExceeded}, true},
		{"500", on, Outcome{Status: 500}, false},
		{"500, counted", Passive{Failures: 1, ServerErrors: true}, Outcome{Status: 500}, true},
		{"599, counted", Passive{Failures: 1, ServerErrors: true}, Outcome{Status: 599}, true},
		{"501, what the client wants is not supported", Passive{Failures: 1, ServerErrors: true}, Outcome{Status: 501}, false},
		{"505, what the client speaks is not supported", Passive{Failures: 1, ServerErrors: true}, Outcome{Status: 505}, false},
		{"499, counted", Passive{Failures: 1, ServerErrors: true}, Outcome{Status: 499}, false},
		{"no file descriptors here", on, Outcome{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}}, false},
		{"refused", on, Outcome{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := mustPool(t, Config{Servers: servers(2), Passive: test.passive})
			s := serve(t, p, test.outcome)
			if got := s.State() == Ejected; got != test.ejected {
				t.Errorf("state %s, want ejected %v", s.State(), test.ejected)
			}
		})
	}
}

// TestPassiveOneClient has clients ask for what breaks a server, such as a page
// that crashes: three answers that broke off took a healthy server away from
// everybody, and one client could ask for them again and again.
func TestPassiveOneClient(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	type use struct {
		client string // may be empty
		err    error
	}
	many := func(n int, format string) (uses []use) {
		for i := range n {
			client := format
			if strings.Contains(format, "%") {
				client = fmt.Sprintf(format, i)
			}
			uses = append(uses, use{client, errReset})
		}
		return uses
	}
	for _, test := range []struct {
		name      string
		passive   Passive
		uses      []use
		ejected   bool
		ejections uint64
	}{
		{"one client", Passive{}, many(1000, "192.0.2.1"), false, 0},
		{"one client in many addresses", Passive{}, many(1000, "2001:db8::%x"), false, 0},
		{"two clients in turn", Passive{}, slices.Concat(many(1, "192.0.2.1"), many(1, "192.0.2.2"), many(1, "192.0.2.1"), many(1, "::ffff:192.0.2.2")), false, 0},
		{"three clients", Passive{}, many(3, "192.0.2.%d"), true, 1},
		{"three networks", Passive{}, many(3, "2001:db8:0:%x::1"), true, 1},
		{"three clients, and one is served", Passive{}, []use{{"192.0.2.1", errReset}, {"192.0.2.2", errReset}, {"192.0.2.9", nil}, {"192.0.2.3", errReset}, {"192.0.2.3", errReset}}, false, 0},
		{"nobody knows the clients", Passive{}, many(3, ""), true, 1},
		{"no connection", Passive{}, []use{{"192.0.2.1", refused}, {"192.0.2.1", refused}, {"192.0.2.1", refused}}, true, 1},
		{"no connection after broken answers", Passive{}, []use{{"192.0.2.1", errReset}, {"192.0.2.1", errReset}, {"192.0.2.1", refused}}, false, 0},
		{"no connection, two clients", Passive{}, []use{{"192.0.2.1", errReset}, {"192.0.2.2", errReset}, {"192.0.2.1", refused}}, true, 1},
		{"a single client", Passive{SameClient: true}, many(3, "192.0.2.1"), true, 1},
		{"one failure is enough", Passive{Failures: 1}, many(1, "192.0.2.1"), true, 1},
		{"many failures", Passive{Failures: 100}, slices.Concat(many(99, "192.0.2.%d"), many(99, "192.0.2.0")), false, 0},
		{"many failures of many clients", Passive{Failures: 100}, many(100, "192.0.2.%d"), true, 1},
		{"server errors", Passive{ServerErrors: true}, []use{{"192.0.2.1", errStatus}, {"192.0.2.1", errStatus}, {"192.0.2.1", errStatus}}, false, 0},
		{"on probation, one client", Passive{}, slices.Concat(many(3, "192.0.2.%d"), []use{{"", errWait}}, many(1000, "192.0.2.9")), false, 1},
		{"on probation, two clients", Passive{}, slices.Concat(many(3, "192.0.2.%d"), []use{{"", errWait}}, many(2, "192.0.2.%d")), true, 2},
		{"on probation, no connection", Passive{}, slices.Concat(many(3, "192.0.2.%d"), []use{{"", errWait}, {"192.0.2.9", refused}}), true, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := mustPool(t, Config{Servers: servers(2), Passive: test.passive})
				s := p.Servers()[0]
				for _, use := range test.uses {
					o := Outcome{Err: use.err}
					switch use.err {
					case errWait:
						time.Sleep(10 * time.Second)
						continue
					case errStatus:
						o = Outcome{Status: 503}
					case nil:
						o = Outcome{Status: 200}
					}
					h := Hint{Server: s.Addr()}
					if use.client != "" {
						h.Client = netip.MustParseAddr(use.client)
					}
					l := mustAcquire(t, p, h)
					if l.Server != s {
						t.Fatalf("the server is %s before its last use", s.State())
					}
					l.Release(o)
				}
				if got := s.State() == Ejected; got != test.ejected || s.Stats().Ejections != test.ejections {
					t.Errorf("state %s after %d ejections, want ejected %v, %d", s.State(), s.Stats().Ejections, test.ejected, test.ejections)
				}
			})
		})
	}
}

// What a use of a server may be besides an error.
var errWait, errStatus = errors.New("ten seconds later"), errors.New("status 503")

func TestPassiveNeutralOutcomesKeepTheCount(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(2)})
	s := p.Servers()[0]
	fail(t, s, 2)
	mustAcquire(t, p, Hint{Server: s.Addr()}).Release(Outcome{Err: ErrAborted})
	fail(t, s, 1)
	if s.State() != Ejected {
		t.Error("an aborted request cleared the count")
	}
}

// TestPassiveShare is about a pool of which all, or most, servers fail.
func TestPassiveShare(t *testing.T) {
	tests := []struct {
		servers, failing, share, want int
	}{
		{1, 1, 0, 0},
		{1, 1, 100, 0},
		{2, 2, 0, 1},
		{2, 2, 1, 1}, // at least one
		{3, 3, 0, 1},
		{3, 3, 100, 2}, // never the last
		{4, 4, 0, 2},
		{10, 6, 0, 5},
		{10, 10, 30, 3},
		{10, 2, 50, 2},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%d of %d fail, %d percent", test.failing, test.servers, test.share), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := mustPool(t, Config{Servers: servers(test.servers), Passive: Passive{MaxShare: test.share}})
				for range 4 {
					for _, s := range p.Servers()[:test.failing] {
						if s.State() == Up {
							fail(t, s, 1)
						}
					}
				}
				if got := strings.Count(states(p), "ejected"); got != test.want {
					t.Errorf("%d ejected, want %d", got, test.want)
				}
				time.Sleep(10 * time.Second)
				if got := strings.Count(states(p), "up"); got != test.servers {
					t.Errorf("%d up after the time, want all", got)
				}
			})
		})
	}
}

func TestPassiveDisabledServersDoNotCount(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(3)})
	list := p.Servers()
	list[0].Disable()
	list[1].Disable()
	fail(t, list[2], 5)
	if list[2].State() != Up {
		t.Error("the last server that is up was ejected")
	}
	list[1].Enable()
	fail(t, list[2], 1)
	if list[2].State() != Ejected {
		t.Error("with another one up it should be ejected")
	}
	list[1].Disable() // now the ejected one is better than none
	if got := states(p); got != "disabled disabled up" {
		t.Errorf("states = %s", got)
	}
	if c := list[2].LastChange(); c.Cause != causePassive {
		t.Errorf("LastChange = %+v", c)
	}
}

func TestPassiveOldNewsIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(2)})
		s := p.Servers()[0]
		var late []Lease
		for range 5 {
			late = append(late, mustAcquire(t, p, Hint{Server: s.Addr()}))
		}
		fail(t, s, 3)
		for i, l := range late { // under way when it was ejected
			l.Release(Outcome{Err: []error{nil, errReset}[i%2]})
		}
		time.Sleep(10 * time.Second)
		if s.State() != Up {
			t.Fatal("late failures made the time longer")
		}
		fail(t, s, 1)
		if s.State() != Ejected {
			t.Error("a late success ended the probation")
		}
	})
}

func TestPassiveConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(10), Passive: Passive{Failures: 1, Time: time.Millisecond, MaxTime: 5 * time.Millisecond}})
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 200 {
					l, err := p.Acquire(Hint{})
					if err != nil {
						t.Errorf("Acquire: %v", err)
						return
					}
					l.Release(Outcome{Err: errReset})
					if n := strings.Count(states(p), "ejected"); n > 5 {
						t.Errorf("%d of 10 ejected", n)
					}
					time.Sleep(100 * time.Microsecond)
				}
			})
		}
		group.Wait()
		time.Sleep(time.Second)
		if got := strings.Count(states(p), "up"); got != 10 {
			t.Errorf("%d up in the end, want 10", got)
		}
	})
}
