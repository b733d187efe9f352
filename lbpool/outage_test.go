package lbpool

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// simulated is a transport whose servers are not there: those that a ward says
// are sick refuse connections.
type simulated struct{ ward *ward }

func (s simulated) RoundTrip(r *http.Request) (*http.Response, error) {
	s.ward.mu.Lock()
	defer s.ward.mu.Unlock()
	if s.ward.sick[netip.MustParseAddrPort(r.URL.Host)] != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// TestFlappingCostsLittle sends traffic to a pool of which one server is well
// and sick by turns, every second and a half for ten minutes.
func TestFlappingCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		var events diary
		p := mustPool(t, Config{
			Servers: servers(3), OnEvent: events.write,
			HealthMonitors: []HealthMonitor{{Checker: w, Interval: time.Second, Successes: 2, Failures: 3}},
		})
		defer running(t, p)()
		time.Sleep(10 * time.Second)
		flapping := p.Servers()[0]
		tr := &Transport{Pool: p, Base: simulated{w}}
		requests, failed := 0, 0
		for i := range 400 {
			w.set(flapping, []error{nil, errSick}[i%2])
			for range 30 {
				time.Sleep(50 * time.Millisecond)
				requests++
				resp, err := tr.RoundTrip(request(t.Context(), "POST", bytes.NewReader([]byte("hello")), &Route{Pool: p}))
				if err != nil || resp.StatusCode != 200 {
					failed++
				}
			}
		}
		events.mu.Lock()
		defer events.mu.Unlock()
		changes := 0
		for _, e := range events.events {
			if e.Server == flapping && e.Change.Cause == causeMonitor {
				changes++
			}
		}
		if checks := len(w.times(flapping)); failed*1000 > requests || changes > checks/3 {
			t.Errorf("%d of %d requests failed; %d changes of state in %d checks", failed, requests, changes, checks)
		}
	})
}

// TestAllDownAndOneBack has all servers fail, and one return. Meanwhile
// requests are refused at once, although there is a queue; then they are served
// no later than one interval after the server is well again, and a tenth of a
// second.
func TestAllDownAndOneBack(t *testing.T) {
	for _, outage := range []time.Duration{30 * time.Second, 10 * time.Minute} { // short, and long enough for quick checks
		synctest.Test(t, func(t *testing.T) {
			const interval = 5 * time.Second
			w := newWard()
			p := mustPool(t, Config{
				Servers: servers(5), HealthMonitors: []HealthMonitor{{Checker: w, Interval: interval}}, Queue: Queue{Length: 100, Timeout: time.Minute},
			})
			defer running(t, p)()
			tr := &Transport{Pool: p, Base: simulated{w}}
			time.Sleep(time.Minute)
			for _, s := range p.Servers() {
				w.set(s, errSick)
			}
			time.Sleep(outage)
			try := func() error {
				_, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: p, Wait: true}))
				return err
			}
			start := time.Now()
			for range 1000 {
				if err := try(); !errors.Is(err, ErrNoServer) {
					t.Fatalf("all are down: %v", err)
				}
			}
			if d, n := time.Since(start), p.Stats().Waiting; d != 0 || n != 0 {
				t.Errorf("a thousand refusals took %s, and %d requests wait", d, n)
			}
			back := p.Servers()[3]
			w.set(back, nil)
			start = time.Now()
			for try() != nil && time.Since(start) < time.Hour {
				time.Sleep(10 * time.Millisecond)
			}
			if d := time.Since(start); d > interval+100*time.Millisecond {
				t.Errorf("out for %s: served %s after the server is well again, the interval is %s", outage, d, interval)
			}
		})
	}
}

// TestConsistentHashChiSquare checks the distribution of many keys once; random
// pools have a test of their own.
func TestConsistentHashChiSquare(t *testing.T) {
	const keys = 100_000
	p := hashPool(t, ratios(1, 1, 1, 1, 1, 2, 2, 3, 4, 4), byKey)
	got := map[netip.AddrPort]int{}
	for i := range keys {
		l := mustAcquire(t, p, Hint{Key: fmt.Sprintf("client %d", i)})
		got[l.Server.Addr()]++
		l.Release(Outcome{})
	}
	chi := 0.0
	for _, s := range p.Servers() {
		want := keys * float64(s.Ratio()) / 20
		chi += math.Pow(float64(got[s.Addr()])-want, 2) / want
	}
	if chi > 27.88 { // p = 0.001 with nine degrees of freedom
		t.Errorf("chi-square %.1f of %v", chi, got)
	}
}
