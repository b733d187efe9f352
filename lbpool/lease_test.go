package lbpool

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

func TestAcquireWanted(t *testing.T) {
	tests := []struct {
		name    string
		wanted  string
		exclude bool
		prepare func(s []*Server)
		reason  Reason
	}{
		{"none", "", false, nil, ReasonNone},
		{"up", "10.0.0.2:80", false, nil, ReasonNone},
		{"any port", "10.0.0.2:0", false, nil, ReasonNone},
		{"mapped", "[::ffff:10.0.0.2]:80", false, nil, ReasonNone},
		{"disabled", "10.0.0.2:80", false, func(s []*Server) { s[1].Disable() }, ReasonDisabled},
		{"excluded", "10.0.0.2:80", true, nil, ReasonDown},
		{"gone", "10.9.9.9:80", false, nil, ReasonGone},
		{"other port", "10.0.0.2:81", false, nil, ReasonGone},
		{"full", "10.0.0.2:80", false, func(s []*Server) { s[1].reserve() }, ReasonFull},
	}
	for _, repick := range []Repick{RepickImmediately, RepickNever} {
		for _, test := range tests {
			t.Run(repick.String()+"/"+test.name, func(t *testing.T) {
				list := servers(3)
				list[1].MaxConnections = 1
				p := mustPool(t, Config{Servers: list, Repick: repick, Algorithm: RoundRobin()})
				var h Hint
				if test.wanted != "" {
					h.Server = addrPort(test.wanted)
				}
				if test.exclude {
					h.Exclude = []*Server{p.Servers()[1]}
				}
				if test.prepare != nil {
					test.prepare(p.Servers())
				}
				l, err := p.Acquire(h)
				if l.Unmet != test.reason {
					t.Errorf("Unmet = %v, want %v", l.Unmet, test.reason)
				}
				if repick == RepickNever && test.reason != ReasonNone {
					var unavailable *unavailableError
					if !errors.As(err, &unavailable) || !errors.Is(err, ErrNoServer) {
						t.Fatalf("Acquire: %v, want an unavailableError", err)
					}
					want := &unavailableError{Pool: "web", Server: h.Server, Reason: test.reason}
					if *unavailable != *want {
						t.Errorf("error %v, want %v", unavailable, want)
					}
					if text := fmt.Sprintf("pool \"web\": server %s is %s", h.Server, test.reason); err.Error() != text {
						t.Errorf("error %q, want %q", err, text)
					}
					l.Release(Outcome{}) // there is no server to give back
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if taken := l.Server.Addr() == addrPort("10.0.0.2:80"); taken != (test.reason == ReasonNone && test.wanted != "") {
					t.Errorf("got server %s, unmet %q", l.Server.Addr(), l.Unmet)
				}
			})
		}
	}
}

func TestAcquireNoServer(t *testing.T) {
	list := servers(2)
	list[0].MaxConnections = 1
	list[1].Disabled = true
	for name, algorithm := range algorithms() {
		t.Run(name, func(t *testing.T) {
			p := mustPool(t, Config{Servers: list, Algorithm: algorithm})
			l := mustAcquire(t, p, Hint{})
			for _, test := range []struct {
				hint Hint
				full bool
			}{{Hint{}, true}, {Hint{Server: addrPort("10.0.0.1:80")}, true}, {Hint{Exclude: p.Servers()}, false}} {
				want := `pool "web": no server available`
				if test.full {
					want += ": all are full"
				}
				_, err := p.Acquire(test.hint)
				if !errors.Is(err, ErrNoServer) || errors.Is(err, ErrFull) != test.full || err.Error() != want {
					t.Errorf("Acquire(%v) = %v, want %s", test.hint, err, want)
				}
			}
			l.Release(Outcome{})
			mustAcquire(t, p, Hint{}).Release(Outcome{})
			p.Servers()[0].Disable()
			if _, err := p.Acquire(Hint{}); !errors.Is(err, ErrNoServer) || errors.Is(err, ErrFull) {
				t.Errorf("all disabled: %v", err)
			}
		})
	}
}

func TestReleaseOnce(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(1)})
	s := p.Servers()[0]
	first := mustAcquire(t, p, Hint{})
	twin := first
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { first.Release(Outcome{}) })
		group.Go(func() { twin.Release(Outcome{}) })
	}
	group.Wait()
	second := mustAcquire(t, p, Hint{}) // very likely with the first one's ticket
	first.Release(Outcome{})
	twin.Release(Outcome{})
	if n := s.Open(); n != 1 {
		t.Fatalf("Open = %d with one lease in use, want 1", n)
	}
	second.Release(Outcome{})
	if n := s.Open(); n != 0 {
		t.Errorf("Open = %d after all releases, want 0", n)
	}
}

func TestMaxConnectionsIsNeverExceeded(t *testing.T) {
	for name, algorithm := range algorithms() {
		t.Run(name, func(t *testing.T) {
			list := servers(3)
			for i := range list {
				list[i].MaxConnections = i + 1
			}
			p := mustPool(t, Config{Servers: list, Algorithm: algorithm})
			var granted, refused atomic.Int64
			var group sync.WaitGroup
			for range 16 {
				group.Go(func() {
					for i := range 500 {
						l, err := p.Acquire(Hint{})
						if err != nil {
							refused.Add(1)
							continue
						}
						granted.Add(1)
						if n := l.Server.Open(); n > int(l.Server.limit.Load()) {
							t.Errorf("Open = %d, limit %d", n, l.Server.limit.Load())
						}
						if i%3 == 0 {
							l.Server.pool.Lookup("10.0.0.1", 0)
						}
						l.Release(Outcome{})
					}
				})
			}
			group.Wait()
			if granted.Load() == 0 || granted.Load()+refused.Load() != 8000 {
				t.Errorf("granted %d, refused %d of 8000", granted.Load(), refused.Load())
			}
			// With nobody else about, exactly as many as fit are granted.
			for range 1 + 2 + 3 {
				mustAcquire(t, p, Hint{})
			}
			if _, err := p.Acquire(Hint{}); !errors.Is(err, ErrNoServer) {
				t.Errorf("the seventh lease: %v, want ErrNoServer", err)
			}
		})
	}
}

func TestStats(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(1)})
	s := p.Servers()[0]
	held := mustAcquire(t, p, Hint{})
	serve(t, p, Outcome{Status: 200, FirstByte: 800})
	serve(t, p, Outcome{Status: 503, FirstByte: 1600})
	serve(t, p, Outcome{Err: errors.New("reset")})
	serve(t, p, Outcome{Err: ErrAborted})
	serve(t, p, Outcome{Err: fmt.Errorf("left: %w", context.Canceled)})
	want := ServerStats{Open: 1, Requests: 6, Failures: 1, ServerErrors: 1, FirstByte: 900}
	if diff := cmp.Diff(want, s.Stats()); diff != "" {
		t.Errorf("Stats (-want +got):\n%s", diff)
	}
	held.Release(Outcome{})
}

func TestEnableDisable(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(2), Algorithm: RoundRobin()})
	s := p.Servers()[0]
	held := mustAcquire(t, p, Hint{Server: s.Addr()})
	s.Disable()
	s.Disable()
	if got := states(p); got != "disabled up" {
		t.Fatalf("states = %s", got)
	}
	if c := s.LastChange(); c.State != Disabled || c.Cause != causeOperator || c.Err != nil {
		t.Errorf("LastChange = %+v", c)
	}
	for range 4 {
		if serve(t, p, Outcome{}) == s {
			t.Error("a disabled server got a request")
		}
	}
	if s.Open() != 1 {
		t.Errorf("Open = %d, the lease in use is gone", s.Open())
	}
	held.Release(Outcome{})
	s.Enable()
	if got := states(p); got != "up up" {
		t.Fatalf("states = %s", got)
	}
	seen := map[*Server]int{}
	for range 4 {
		seen[serve(t, p, Outcome{})]++
	}
	if seen[s] != 2 {
		t.Errorf("enabled server got %d of 4 requests, want 2", seen[s])
	}
}

// TestPoolUnderChange enables and disables while leases come and go: nobody may
// get a server from a list older than the call, and no count may be lost.
func TestPoolUnderChange(t *testing.T) {
	for name, algorithm := range algorithms() {
		t.Run(name, func(t *testing.T) {
			p := mustPool(t, Config{Servers: ratios(1, 2, 3, 4), Algorithm: algorithm})
			list := p.Servers()
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					for i := range 2000 {
						l, err := p.Acquire(Hint{Server: list[i%4].Addr()})
						if err != nil {
							t.Errorf("Acquire: %v", err)
							return
						}
						if l.Server == list[3] && l.Unmet == ReasonNone && i%4 != 3 {
							t.Errorf("wanted server %d, got 3", i%4)
						}
						l.Release(Outcome{Err: []error{nil, errors.New("reset")}[i%2]})
					}
				})
			}
			group.Go(func() {
				for i := range 2000 {
					list[i%3].Disable()
					list[i%3].Enable()
				}
			})
			group.Wait()
			for _, s := range list {
				if s.Open() != 0 {
					t.Errorf("%s: Open = %d, want 0", s.Name(), s.Open())
				}
			}
		})
	}
}

func TestStrings(t *testing.T) {
	for _, test := range []struct {
		got  fmt.Stringer
		want string
	}{
		{ReasonNone, "none"}, {ReasonDown, "down"}, {ReasonDisabled, "disabled"}, {ReasonDraining, "draining"}, {ReasonGone, "gone"}, {ReasonFull, "full"}, {ReasonMaintenance, "maintenance"}, {Reason(9), "invalid"},
		{Up, "up"}, {Down, "down"}, {Disabled, "disabled"}, {Ejected, "ejected"}, {Draining, "draining"}, {Maintenance, "maintenance"}, {Removed, "removed"}, {State(9), "invalid"},
		{RepickImmediately, "immediately"}, {RepickNever, "never"}, {RepickAfterFailures, "after failures"}, {Repick(9), "invalid"},
		{LastInFirstOut, "last in first out"}, {FirstInFirstOut, "first in first out"}, {QueueOrder(9), "invalid"},
		{HashClient, "client"}, {HashCustom, "custom"}, {HashKey(9), "invalid"},
		{FailRespond, "respond"}, {FailBackup, "backup"}, {FailKind(9), "invalid"},
	} {
		if test.got.String() != test.want {
			t.Errorf("%#v.String() = %q, want %q", test.got, test.got, test.want)
		}
	}
}

// TestText reads the names of all constants as configuration files spell them,
// and writes them again. The names with commas were those of earlier releases.
func TestText(t *testing.T) {
	type value interface {
		encoding.TextMarshaler
		fmt.Stringer
	}
	for name, test := range map[string]struct {
		texts []string
		want  value
		bad   string
	}{
		"state":        {[]string{"ejected", " Ejected", "EJECTED"}, Ejected, `"x" is not one of down, up, disabled, ejected, draining, maintenance, removed, unchecked`},
		"fail action":  {[]string{"redirect", "Redirect"}, FailRedirect, `"x" is not one of respond, close, redirect, backup`},
		"queue order":  {[]string{"first in first out", "firstInFirstOut", "first-in-first-out", "first in, first out"}, FirstInFirstOut, `"x" is not one of last in first out, first in first out`},
		"hash key":     {[]string{"client and port", "clientAndPort", "client_and_port"}, HashClientPort, `"x" is not one of client, client and port, uri, header, custom`},
		"repick":       {[]string{"after failures", "afterFailures", "after_failures"}, RepickAfterFailures, `"x" is not one of immediately, never, after failures`},
		"reason":       {[]string{"gone", "Gone"}, ReasonGone, `"x" is not one of none, down, disabled, draining, gone, full, maintenance`},
		"no reason":    {[]string{"none"}, ReasonNone, `"x" is not one of none, down, disabled, draining, gone, full, maintenance`},
		"default kind": {[]string{"respond"}, FailRespond, `"x" is not one of respond, close, redirect, backup`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range test.texts {
				v := reflect.New(reflect.TypeOf(test.want))
				if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil || v.Elem().Interface() != test.want {
					t.Errorf("UnmarshalText(%q) = %v, %v, want %v", text, v.Elem(), err, test.want)
				}
			}
			if text, err := test.want.MarshalText(); err != nil || string(text) != test.texts[0] || test.want.String() != test.texts[0] {
				t.Errorf("MarshalText = %q, %v, String = %q, want %q", text, err, test.want, test.texts[0])
			}
			v := reflect.New(reflect.TypeOf(test.want))
			if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte("x")); err == nil || err.Error() != test.bad {
				t.Errorf("UnmarshalText(x): %v, want %s", err, test.bad)
			}
			v.Elem().SetUint(99)
			if _, err := v.Elem().Interface().(encoding.TextMarshaler).MarshalText(); err == nil {
				t.Error("MarshalText of 99: no error")
			}
		})
	}
}

func TestAcquireDoesNotAllocate(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	for name, algorithm := range algorithms() {
		for hint, h := range map[string]Hint{"free": {}, "wanted": {Server: addrPort("10.0.0.7:80")}, "gone": {Server: addrPort("10.9.9.9:80"), Client: netip.MustParseAddr("192.0.2.1")}} {
			p := mustPool(t, Config{Servers: ratios(1, 2, 3, 4, 5, 1, 1, 1), Algorithm: algorithm})
			n := testing.AllocsPerRun(1000, func() {
				l, err := p.Acquire(h)
				if err != nil {
					t.Fatal(err)
				}
				l.Release(Outcome{Status: 200, FirstByte: 1000})
			})
			if n != 0 {
				t.Errorf("%s, %s: %v allocations", name, hint, n)
			}
		}
	}
}

// TestAcquireAgainstTwin drives a pool through random acquisitions, releases
// and changes of state, and compares what it grants with a list of plain
// structs.
func TestAcquireAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type twin struct {
			ratio, limit, open int
			disabled           bool
		}
		n := rapid.IntRange(1, 6).Draw(t, "servers")
		list, twins := servers(n), make([]twin, n)
		for i := range list {
			twins[i] = twin{ratio: rapid.IntRange(1, maxRatio).Draw(t, "ratio"), limit: rapid.IntRange(0, 3).Draw(t, "limit")}
			list[i].Ratio, list[i].MaxConnections = twins[i].ratio, twins[i].limit
		}
		p, err := New(Config{Name: "web", Servers: list, Passive: Passive{Disabled: true}})
		if err != nil {
			t.Fatal(err)
		}
		all := p.Servers()
		index := map[*Server]int{}
		for i, s := range all {
			index[s] = i
		}
		type held struct {
			lease Lease
			at    int
		}
		var leases []held
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				var h Hint
				for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, n, rapid.ID[int]).Draw(t, "exclude") {
					h.Exclude = append(h.Exclude, all[i])
				}
				least := -1
				for i, s := range twins {
					if s.disabled || s.limit > 0 && s.open >= s.limit || h.excludes(all[i]) {
						continue
					}
					if least < 0 || s.open*twins[least].ratio < twins[least].open*s.ratio {
						least = i
					}
				}
				l, err := p.Acquire(h)
				if least < 0 {
					if !errors.Is(err, ErrNoServer) {
						t.Fatalf("got %v, %v, want no server", l.Server, err)
					}
					return
				}
				if err != nil {
					t.Fatalf("%v, want a server as good as %d", err, least)
				}
				at := index[l.Server]
				got := twins[at]
				if got.disabled || got.limit > 0 && got.open >= got.limit || h.excludes(l.Server) {
					t.Fatalf("got server %d, which is not to be had: %+v", at, got)
				}
				if got.open*twins[least].ratio != twins[least].open*got.ratio {
					t.Fatalf("got server %d (%+v), want one like %d (%+v)", at, got, least, twins[least])
				}
				twins[at].open++
				leases = append(leases, held{l, at})
			},
			"release": func(t *rapid.T) {
				if len(leases) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(leases)-1).Draw(t, "lease")
				leases[i].lease.Release(Outcome{})
				twins[leases[i].at].open--
				leases = append(leases[:i], leases[i+1:]...)
			},
			"disable": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "server")
				all[i].Disable()
				twins[i].disabled = true
			},
			"enable": func(t *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(t, "server")
				all[i].Enable()
				twins[i].disabled = false
			},
			"": func(t *rapid.T) {
				for i, s := range all {
					if s.Open() != twins[i].open {
						t.Fatalf("server %d: Open = %d, want %d", i, s.Open(), twins[i].open)
					}
				}
			},
		})
	})
}
