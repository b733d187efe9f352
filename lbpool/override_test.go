package lbpool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
)

func mustOverride(t testing.TB, p *Pool, list ...Override) {
	t.Helper()
	if err := p.Override("operators", list...); err != nil {
		t.Fatal(err)
	}
}

func TestOverrideFaults(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(1)})
	err := p.Override("operators", Override{Server: "a", State: Disabled}, Override{State: Ejected, Ratio: -1, KeepBound: true, Deadline: time.Unix(1, 0)},
		Override{Server: "10.0.0.1", Ratio: 21}, Override{Server: "10.0.0.1:80", State: Disabled})
	var paths []string
	for _, err := range fielderr.Leaves(err) {
		var fault *FieldError
		if !errors.As(err, &fault) {
			t.Fatalf("%v is no FieldError", err)
		}
		paths = append(paths, fault.Path)
	}
	const want = "overrides[1].server overrides[1].state overrides[1].keepBound overrides[1].deadline overrides[1].ratio overrides[2].server overrides[2].ratio"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("faults of %s\nwant %s", got, want)
	}
	if got := states(p); got != "up" {
		t.Errorf("after an error: %s", got)
	}
}

// A server that a discovery brings later was never used as it is configured.
func TestOverrideOfLaterServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		found := make(chan []ServerConfig, 1)
		found <- nil
		p := mustPool(t, Config{Discoveries: []Discovery{{Interval: time.Second, Finder: FinderFunc(func(context.Context) ([]ServerConfig, error) {
			list := <-found
			found <- list
			return list, nil
		})}}})
		var events []string
		defer p.Watch(func(e Event) { events = append(events, e.From.String()+" "+e.Change.State.String()) })()
		mustOverride(t, p, Override{Server: "Second", State: Disabled}, Override{Server: "[::ffff:10.0.0.3]:80", State: Draining, Ratio: 5})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		<-found
		list := servers(3)
		list[1].Name = "second"
		found <- list
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := states(p); got != "up disabled disabled" { // the drain is over, as it has no request
			t.Errorf("states %s", got)
		}
		if got := p.Servers()[2].Ratio(); got != 5 {
			t.Errorf("ratio %d", got)
		}
		for _, e := range events {
			if strings.HasSuffix(e, "draining") {
				continue
			}
			if strings.HasPrefix(e, "up") {
				t.Errorf("a server with an override was up: %s", events)
			}
		}
		stop()
		<-done
	})
}

// An update, or an adoption with the same override, does not begin a drain
// again, whether it goes on or is over.
func TestOverrideGoesOnWithDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(2)})
		s := p.Servers()[0]
		lease := mustAcquire(t, p, Hint{Server: s.Addr()})
		begun := time.Now()
		o := Override{Server: s.Name(), State: Draining, Deadline: begun.Add(time.Hour)}
		mustOverride(t, p, o)
		for range 5 {
			time.Sleep(time.Minute)
			next := mustPool(t, Config{Servers: servers(2)})
			mustOverride(t, next, o)
			if err := next.Adopt(p); err != nil {
				t.Fatal(err)
			}
			mustOverride(t, next, o)
			p = next
			if st, ok := p.Servers()[0].DrainStatus(); !ok || !st.Since.Equal(begun) || !st.Deadline.Equal(o.Deadline) || st.Open != 1 {
				t.Fatalf("drain: %+v, %t", st, ok)
			}
		}
		o.Deadline = o.Deadline.Add(time.Hour)
		mustOverride(t, p, o)
		if st, ok := s.DrainStatus(); !ok || !st.Since.Equal(begun) || !st.Deadline.Equal(o.Deadline) {
			t.Errorf("with another deadline: %+v, %t", st, ok)
		}
		lease.Release(Outcome{Status: 200})
		if got := states(p); got != "disabled up" {
			t.Fatalf("after the last request: %s", got)
		}
		mustOverride(t, p, o)
		mustUpdate(t, p, Config{Servers: servers(2)})
		if got := states(p); got != "disabled up" {
			t.Errorf("a drain that was over began again: %s", got)
		}
		if st, ok := s.DrainStatus(); ok {
			t.Errorf("a drain that was over began again: %+v", st)
		}
		mustOverride(t, p)
		if got := states(p); got != "up up" {
			t.Errorf("without the override: %s", got)
		}
	})
}

// The effects of overrides do not go to another process, which has overrides of
// its own.
func TestOverrideAtHandover(t *testing.T) {
	before := mustPool(t, Config{Servers: servers(3)})
	mustOverride(t, before, Override{Server: "10.0.0.1:80", State: Disabled, Ratio: 3})
	before.Servers()[1].Disable()
	if err := before.Servers()[1].SetRatio(4); err != nil {
		t.Fatal(err)
	}
	state, err := before.MarshalState()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]Override{nil, {{Server: "10.0.0.2:80", State: Up, Ratio: 5}}} {
		p := mustPool(t, Config{Servers: servers(3)})
		mustOverride(t, p, list...)
		if err := p.RestoreState(state); err != nil {
			t.Fatal(err)
		}
		want, ratio := "up disabled up", 4
		if len(list) > 0 {
			want, ratio = "up up up", 5
		}
		if got := states(p); got != want || p.Servers()[0].Ratio() != 1 || p.Servers()[1].Ratio() != ratio {
			t.Errorf("with %d overrides: %s, ratios %d, %d", len(list), got, p.Servers()[0].Ratio(), p.Servers()[1].Ratio())
		}
	}
}

// overrideModel is the simple twin: what each server must be, one at a time.
type overrideModel struct {
	configured map[netip.AddrPort]ServerConfig
	list       []Override
	servers    map[netip.AddrPort]*modelServer
}

type modelServer struct {
	disabled bool
	draining bool
	ratio    int
	by       Override
}

// find searches the list from its end.
func (m *overrideModel) find(addr netip.AddrPort, name string) (found Override) {
	for _, o := range m.list {
		if strings.EqualFold(o.Server, name) || o.Server == addr.String() {
			found = o
		}
	}
	return found
}

// configure brings servers and their overrides to what is configured.
func (m *overrideModel) configure(members map[netip.AddrPort]ServerConfig, again bool) {
	for addr, c := range members {
		s, before := m.servers[addr], m.configured[addr]
		fresh := s == nil
		if fresh {
			s = &modelServer{disabled: c.Disabled, ratio: max(c.Ratio, 1)}
			m.servers[addr] = s
		}
		o := m.find(addr, c.Name)
		edited := fresh || before.Disabled != c.Disabled || before.Ratio != c.Ratio
		if before.Disabled != c.Disabled {
			s.disabled, s.draining = c.Disabled, false
		}
		switch {
		case o.Ratio > 0 && (again || edited || o != s.by):
			s.ratio = o.Ratio
		case o.Ratio == 0 && (before.Ratio != c.Ratio || s.by.Ratio > 0):
			s.ratio = max(c.Ratio, 1)
		}
		if s.by.State != Down && s.by.State != o.State {
			s.disabled, s.draining = c.Disabled, false
		}
		if again || edited || o != s.by {
			switch o.State {
			case Up:
				s.disabled, s.draining = false, false
			case Disabled:
				s.disabled, s.draining = true, false
			case Draining:
				s.draining = !s.disabled
			}
		}
		s.by = o
	}
	for addr := range m.servers {
		if _, ok := members[addr]; !ok {
			delete(m.servers, addr)
		}
	}
	m.configured = members
}

func (m *overrideModel) state(addr netip.AddrPort) string {
	switch s := m.servers[addr]; {
	case s.disabled:
		return "disabled"
	case s.draining:
		return "draining"
	}
	return "up"
}

func TestOverrideTwin(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 17))
		m := &overrideModel{servers: map[netip.AddrPort]*modelServer{}}
		var p *Pool
		var leases []Lease
		log := ""
		for step := range 40 {
			var list []ServerConfig
			members := map[netip.AddrPort]ServerConfig{}
			for i := range 4 {
				if i > 0 && rng.IntN(4) == 0 {
					continue
				}
				c := ServerConfig{Address: fmt.Sprintf("10.0.0.%d:80", i+1), Disabled: rng.IntN(4) == 0, Ratio: rng.IntN(3)}
				c.Name = []string{"", fmt.Sprintf("s%d", i), fmt.Sprintf("s%d", i+4)}[rng.IntN(3)]
				list = append(list, c)
				members[addrPort(c.Address)] = c
			}
			var overrides []Override
			for range rng.IntN(5) {
				i := rng.IntN(4)
				o := Override{State: []State{Down, Up, Disabled, Draining}[rng.IntN(4)], Ratio: rng.IntN(3) * 7}
				o.Server = []string{fmt.Sprintf("10.0.0.%d:80", i+1), fmt.Sprintf("S%d", i), fmt.Sprintf("s%d", i+4)}[rng.IntN(3)]
				if o.State == Draining && rng.IntN(2) == 0 {
					o.Deadline = time.Now().Add(time.Hour).Round(0).UTC()
				}
				overrides = append(overrides, o)
			}
			op := rng.IntN(6)
			if p == nil {
				op = 0
			}
			log += fmt.Sprintf("\n%d: op %d, servers %+v, overrides %+v", step, op, list, overrides)
			switch op {
			case 0, 1: // another pool takes over
				next := mustPool(t, Config{Servers: list})
				if p != nil {
					if err := next.Adopt(p); err != nil {
						t.Fatal(err)
					}
				}
				p = next
				m.configure(members, false)
			case 2:
				mustUpdate(t, p, Config{Servers: list})
				m.configure(members, false)
			case 3: // the same list again
				mustOverride(t, p, m.list...)
				m.configure(m.configured, true)
			default:
				mustOverride(t, p, overrides...)
				m.list = overrides
				m.configure(m.configured, true)
			}
			for _, s := range p.Servers() {
				if s.State().Usable() { // a request keeps each drain going
					leases = append(leases, mustAcquire(t, p, Hint{Server: s.Addr()}))
				}
				got := fmt.Sprintf("%s, ratio %d", s.State(), s.Ratio())
				want := fmt.Sprintf("%s, ratio %d", m.state(s.Addr()), m.servers[s.Addr()].ratio)
				if got != want && !(m.servers[s.Addr()].draining && s.Open() == 0) {
					t.Fatalf("seed %d: server %s (%s) is %s, want %s:%s", seed, s.Addr(), s.Name(), got, want, log)
				}
				if m.servers[s.Addr()].draining && s.State() == Disabled {
					m.servers[s.Addr()].disabled, m.servers[s.Addr()].draining = true, false // it had no request
				}
			}
		}
		for i := range leases {
			leases[i].Release(Outcome{Status: 200})
		}
	}
}
