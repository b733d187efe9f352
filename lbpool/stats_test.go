package lbpool

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestStatsOfMonitors checks what checks are counted, by which reasons, and for
// how long.
func TestStatsOfMonitors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := newWard(), newWard()
		w.setDelay(100 * time.Millisecond)
		cfg := Config{Name: "web", Servers: servers(1), HealthMonitors: []HealthMonitor{
			{Name: "page", Checker: w, Interval: 10 * time.Second}, {Name: "port", Checker: other, Interval: time.Hour},
		}}
		p := mustPool(t, cfg)
		defer running(t, p)()
		s := p.Servers()[0]
		next := func(err error) {
			w.set(s, err)
			for n := len(w.times(s)); len(w.times(s)) == n; {
				time.Sleep(time.Second)
			}
			time.Sleep(time.Second) // it is over
		}
		next(nil)
		next(&CheckError{Reason: checkStatusMismatch})
		next(&CheckError{Reason: "of this program"})
		next(errSick)
		next(&CheckError{Reason: CheckNoResources})
		next(nil)
		time.Sleep(6 * time.Minute) // the first check of the other comes within a tenth of its interval
		want := func(got MonitorStats) MonitorStats {
			return MonitorStats{Name: "page", Passed: got.Passed, Failed: map[string]uint64{
				checkStatusMismatch: 1, checkOther: 2, CheckNoResources: 1,
			}, Took: time.Duration(got.Passed+4) * 100 * time.Millisecond}
		}
		got := p.Stats().Monitors
		if len(got) != 2 || got[0].Passed+4 != uint64(len(w.times(s))) {
			t.Fatalf("monitors %+v after %d checks", got, len(w.times(s)))
		}
		if diff := cmp.Diff([]MonitorStats{want(got[0]), {Name: "port", Passed: 1, Failed: map[string]uint64{}}}, got); diff != "" {
			t.Errorf("monitors (-want +got):\n%s", diff)
		}

		// A monitor of the same name keeps its counts; others begin at 0.
		cfg.HealthMonitors[1].Name = "socket"
		if err := p.Update(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(0)
		after := p.Stats().Monitors
		if after[0].Passed < got[0].Passed || after[0].Failed[checkOther] != 2 || after[1].Name != "socket" || after[1].Passed > 1 {
			t.Errorf("after an update: %+v", after)
		}
	})
}

// TestStatsOfChanges checks that changes are counted by state and cause, and
// that the first states are none.
func TestStatsOfChanges(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(3), Queue: Queue{Length: 7}})
	if st := p.Stats(); st.Changes != nil || st.QueueLimit != 7 {
		t.Errorf("of a new pool: %+v", st)
	}
	a, b := p.Servers()[0], p.Servers()[1]
	a.Disable()
	a.Enable()
	b.Disable()
	a.Drain(time.Hour) // nobody uses it
	if err := p.Update(Config{Name: "web", Servers: servers(4)[1:]}); err != nil {
		t.Fatal(err)
	}
	want := []ChangeCount{
		{Up, causeConfigured, 1}, {Up, causeOperator, 1}, {Disabled, causeDrained, 1}, {Disabled, causeOperator, 2},
		{Draining, causeOperator, 1}, {Removed, causeConfigured, 1},
	}
	if diff := cmp.Diff(want, p.Stats().Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestWatch checks that watchers get what OnEvent gets until they are stopped,
// and stay when the pool is adopted.
func TestWatch(t *testing.T) {
	var first, second, own diary
	p := mustPool(t, Config{Servers: servers(2), OnEvent: own.write})
	stop := p.Watch(first.write)
	defer p.Watch(second.write)()
	p.Servers()[0].Disable()
	stop()
	stop() // again
	p.Servers()[0].Enable()

	next := mustPool(t, Config{Servers: servers(2)})
	var third diary
	defer next.Watch(third.write)()
	mustAdopt(t, next, p)
	next.Servers()[0].Drain(time.Hour)
	for _, test := range []struct {
		name   string
		diary  *diary
		states []State
	}{
		{"OnEvent", &own, []State{Disabled, Up}},
		{"stopped", &first, []State{Disabled}},
		{"adopted", &second, []State{Disabled, Up, Draining, Disabled}},
		{"of the new pool", &third, []State{Draining, Disabled}},
	} {
		var got []State
		for _, e := range test.diary.events {
			got = append(got, e.Change.State)
		}
		if diff := cmp.Diff(test.states, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	if last := third.events[1]; !last.Drained {
		t.Errorf("%+v has not Drained set", last)
	}
}

// TestWatchConcurrently lets watchers come and go while servers change.
func TestWatchConcurrently(t *testing.T) {
	p := mustPool(t, Config{Servers: servers(2)})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				p.Watch(func(Event) { p.Stats() })()
			}
		})
		all.Go(func() {
			for range 200 {
				p.Servers()[0].Disable()
				p.Servers()[0].Enable()
			}
		})
	}
	all.Wait()
	if left := p.watching(); len(left) > 0 {
		t.Errorf("%d watchers are left", len(left))
	}
}

// TestDrainBound checks that bound clients stay though the pool's policy is
// another, and that the status says how many there are.
func TestDrainBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(2)})
		s := p.Servers()[0]
		bound, known := 3, false
		var mu sync.Mutex
		set := func(n int, k bool) {
			mu.Lock()
			defer mu.Unlock()
			bound, known = n, k
		}
		defer p.CountBound(func(context.Context, ...string) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if !known {
				return 0, errors.New("store is away")
			}
			return bound, nil
		}, time.Second)()
		defer running(t, p)()
		status := func(want DrainStatus) {
			t.Helper()
			if got, ok := s.DrainStatus(); !ok || got != want {
				t.Errorf("status %+v, %t; want %+v", got, ok, want)
			}
		}
		if got, ok := s.DrainStatus(); ok {
			t.Errorf("status of a server that is up: %+v", got)
		}
		since := time.Now()
		s.DrainBound(time.Hour)
		time.Sleep(3 * time.Second)
		status(DrainStatus{Since: since, Deadline: since.Add(time.Hour)}) // the count has failed
		set(3, true)
		time.Sleep(2 * time.Second)
		held := mustAcquire(t, p, Hint{Server: s.Addr()})
		if held.Server != s || held.Unmet != ReasonNone {
			t.Errorf("a bound client got %s, unmet %q", held.Server.Name(), held.Unmet)
		}
		if serve(t, p, Outcome{}) == s {
			t.Error("a new client got the draining server")
		}
		status(DrainStatus{Since: since, Deadline: since.Add(time.Hour), Open: 1, Bound: 3, Counted: true})
		held.Release(Outcome{})

		// It survives another process, and Drain takes the word back.
		state, err := p.MarshalState()
		if err != nil {
			t.Fatal(err)
		}
		heir := mustPool(t, Config{Servers: servers(2)})
		if err := heir.RestoreState(state); err != nil {
			t.Fatal(err)
		}
		if l := mustAcquire(t, heir, Hint{Server: s.Addr()}); l.Unmet != ReasonNone {
			t.Errorf("in another process: unmet %q", l.Unmet)
		}
		if got, ok := heir.Servers()[0].DrainStatus(); !ok || !got.Since.Equal(since) || !got.Deadline.Equal(since.Add(time.Hour)) {
			t.Errorf("in another process: %+v, %t", got, ok)
		}

		set(0, true)
		time.Sleep(2 * time.Second)
		if _, ok := s.DrainStatus(); ok || s.State() != Disabled || s.LastChange().Cause != causeDrained {
			t.Errorf("with nobody bound: %s, %+v", s.State(), s.LastChange())
		}
		set(3, true)
		s.Enable()
		s.DrainBound(-1)
		s.Drain(-1)
		if l := mustAcquire(t, p, Hint{Server: s.Addr()}); l.Unmet != ReasonDraining && l.Unmet != ReasonDisabled {
			t.Errorf("after Drain: unmet %q", l.Unmet)
		}
	})
}

// sightings is an Observer that writes down what it is called with.
type sightings struct {
	queued, left int
	waited       time.Duration
	tried        []Outcome
	servers      []netip.AddrPort
}

func (s *sightings) Queued(*Pool)                      { s.queued++ }
func (s *sightings) Dequeued(_ *Pool, d time.Duration) { s.left++; s.waited += d }
func (s *sightings) Tried(_ *Pool, server *Server, o Outcome) {
	s.servers = append(s.servers, server.Addr())
	s.tried = append(s.tried, o)
}

// TestObserverTries checks that an observer sees every try, with what came of
// it.
func TestObserverTries(t *testing.T) {
	t.Parallel()
	dead, busy, ok := refusing(t), newBack(t, says(503)), newBack(t, says(200))
	p := mustPool(t, Config{
		Servers:   []ServerConfig{{Address: dead.String()}, {Address: busy.addr.String()}, {Address: ok.addr.String()}},
		Algorithm: custom(func(up []*Server) *Server { return up[0] }), Reselect: Reselect{Codes: unavailable},
	})
	var seen sightings
	route := &Route{Pool: p, Observer: &seen}
	r, err := http.NewRequestWithContext(WithRoute(t.Context(), route), "GET", "http://h/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := new(Transport).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if diff := cmp.Diff([]netip.AddrPort{dead, busy.addr, ok.addr}, seen.servers, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Fatalf("tries (-want +got):\n%s", diff)
	}
	if o := seen.tried[0]; !errors.Is(o.Err, ErrConnect) || o.Status != 0 || o.FirstByte != 0 {
		t.Errorf("of a server that cannot be reached: %+v", o)
	}
	for i, status := range []int{503, 200} {
		if o := seen.tried[i+1]; o.Err != nil || o.Status != status || o.FirstByte <= 0 {
			t.Errorf("of a server that answers %d: %+v", status, o)
		}
	}
	if seen.queued != 0 {
		t.Errorf("queued %d times", seen.queued)
	}
}

// TestObserverQueue checks that an observer sees how long requests wait, and
// that those whose clients leave are counted.
func TestObserverQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: limited(1), Queue: Queue{Length: 5, Timeout: time.Minute}})
		held := mustAcquire(t, p, Hint{})
		tr := &Transport{Base: simulated{newWard()}}
		send := func(ctx context.Context) (*sightings, error) {
			seen := new(sightings)
			r, err := http.NewRequestWithContext(WithRoute(ctx, &Route{Pool: p, Wait: true, Observer: seen}), "GET", "http://h/", nil)
			if err != nil {
				return seen, err
			}
			_, err = tr.RoundTrip(r)
			return seen, err
		}
		ctx, leave := context.WithTimeout(t.Context(), 2*time.Second)
		defer leave()
		seen, err := send(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || seen.queued != 1 || seen.left != 1 || seen.waited != 2*time.Second || len(seen.tried) > 0 {
			t.Errorf("a client that leaves: %+v, %v", seen, err)
		}
		time.AfterFunc(3*time.Second, func() { held.Release(Outcome{}) })
		seen, err = send(t.Context())
		if err != nil || seen.queued != 1 || seen.waited != 3*time.Second || len(seen.tried) != 1 || seen.tried[0].Status != 200 {
			t.Errorf("a client that waits: %+v, %v", seen, err)
		}
		seen, err = send(t.Context())
		if err != nil || seen.queued != 0 || len(seen.tried) != 1 {
			t.Errorf("a client that need not wait: %+v, %v", seen, err)
		}
		if st := p.Stats(); st.Queued != 2 || st.QueueCanceled != 1 || st.QueueTimeouts != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}
