package lbpool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestHTTPCheckerMaintenance(t *testing.T) {
	var status atomic.Int64
	var body atomic.Value
	server := newServerOn(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		io.WriteString(w, body.Load().(string))
	})
	codes := []StatusRange{{503, 503}}
	tests := []struct {
		name    string
		checker *HTTPChecker
		status  int64
		body    string
		want    string
		ok      bool
	}{
		{"code", &HTTPChecker{Maintenance: codes}, 503, "", CheckMaintenance, false},
		{"code goes before accepted codes", &HTTPChecker{Maintenance: codes, Accept: codes}, 503, "", CheckMaintenance, false},
		{"another code", &HTTPChecker{Maintenance: codes}, 500, "", checkStatusMismatch, false},
		{"good", &HTTPChecker{Maintenance: codes, MaintenanceKeyword: "closed"}, 200, "open", checkOther, true},
		{"keyword", &HTTPChecker{MaintenanceKeyword: "closed"}, 200, "is closed today", CheckMaintenance, false},
		{"keyword with a code that is not accepted", &HTTPChecker{MaintenanceKeyword: "closed"}, 500, "is closed today", CheckMaintenance, false},
		{"no keyword with a code that is not accepted", &HTTPChecker{MaintenanceKeyword: "closed"}, 500, "is broken", checkStatusMismatch, false},
		{"keyword and the other", &HTTPChecker{MaintenanceKeyword: "closed", Keyword: "today"}, 200, "open today", checkOther, true},
		{"the other is missing", &HTTPChecker{MaintenanceKeyword: "closed", Keyword: "today"}, 200, "open", checkPayloadMismatch, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status.Store(test.status)
			body.Store(test.body)
			err := test.checker.Check(t.Context(), server)
			var fault *CheckError
			if (err == nil) != test.ok || err != nil && (!errors.As(err, &fault) || fault.Reason != test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

func TestTCPCheckerMaintenance(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, text := range []string{"220 ready\r\n", "220 maintenance\r\n", "220 maint"} {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, text)
			conn.Close()
		}
	}()
	c := &TCPChecker{Expect: "\n", Maintenance: "maintenance"}
	for _, want := range []string{"", `maintenance: "maintenance" found`, `payload mismatch: "\n" not found`} {
		err := c.Check(t.Context(), address2(ln))
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	<-done
	if _, err := New(monitors(HealthMonitor{Checker: &TCPChecker{Maintenance: "x"}})); err == nil {
		t.Error("a maintenance text without an expected one was accepted")
	}
}

func TestMaintenanceState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		p := mustPool(t, Config{Servers: servers(2), HealthMonitors: []HealthMonitor{{Checker: w, Failures: 3}}})
		defer running(t, p)()
		time.Sleep(15 * time.Second)
		s := p.Servers()[0]
		w.set(s, &CheckError{Reason: CheckMaintenance, Detail: "status 503"})
		time.Sleep(11 * time.Second) // one check says it
		if got := states(p); got != "maintenance up" {
			t.Fatalf("states %s", got)
		}
		if c := s.LastChange(); c.Cause != causeMonitor || checkReason(c.Err) != CheckMaintenance {
			t.Errorf("LastChange = %+v", c)
		}
		if l := mustAcquire(t, p, Hint{Server: s.Addr()}); l.Unmet != ReasonMaintenance {
			t.Errorf("unmet %q", l.Unmet)
		}
		w.set(s, errSick)
		time.Sleep(11 * time.Second)
		if s.State() != Down {
			t.Errorf("it does not say so any more: %s", s.State())
		}
		w.set(s, nil)
		time.Sleep(21 * time.Second)
		if s.State() != Up {
			t.Errorf("healthy again: %s, want it up without a hold", s.State())
		}
	})
}

func TestMinMonitorsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wards := []*ward{newWard(), newWard(), newWard()}
		cfg := Config{Servers: servers(2), MinMonitorsUp: 2}
		for _, w := range wards {
			cfg.HealthMonitors = append(cfg.HealthMonitors, HealthMonitor{Checker: w, MaxHold: -1})
		}
		p := mustPool(t, cfg)
		defer running(t, p)()
		s := p.Servers()[0]
		for _, test := range []struct {
			sick []error // by monitor
			want State
		}{
			{[]error{nil, nil, nil}, Up},
			{[]error{nil, errSick, nil}, Up},
			{[]error{nil, errSick, errSick}, Down},
			{[]error{nil, errSick, &CheckError{Reason: CheckMaintenance}}, Maintenance},
			{[]error{nil, nil, &CheckError{Reason: CheckMaintenance}}, Up},
			{[]error{errSick, errSick, errSick}, Down},
			{[]error{errSick, nil, nil}, Up},
		} {
			for i, err := range test.sick {
				wards[i].set(s, err)
			}
			time.Sleep(time.Minute)
			if got := s.State(); got != test.want {
				t.Errorf("%v: %s, want %s", test.sick, got, test.want)
			}
		}
	})
	for n, want := range map[int]string{
		-1: `minMonitorsUp: -1: negative`,
		2:  `minMonitorsUp: 2: more than 1, the number of health monitors`,
	} {
		cfg := monitors(HealthMonitor{Checker: healthy})
		cfg.MinMonitorsUp = n
		if _, err := New(cfg); err == nil || err.Error() != want {
			t.Errorf("%d: %v, want %s", n, err, want)
		}
	}
}

// TestFlapDamping lets a server go up and down for ten minutes. It must be held
// longer and longer, while its neighbour serves; alone it must not.
func TestFlapDamping(t *testing.T) {
	for _, n := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			var d diary
			w := newWard()
			p := mustPool(t, Config{
				Servers: servers(n), OnEvent: d.write,
				HealthMonitors: []HealthMonitor{{Checker: w, Interval: time.Second, Successes: 2, Failures: 3, MaxHold: time.Minute}},
			})
			defer running(t, p)()
			s := p.Servers()[0]
			start := time.Now()
			for time.Since(start) < 10*time.Minute {
				w.set(s, nil)
				time.Sleep(4 * time.Second)
				w.set(s, errSick)
				time.Sleep(4 * time.Second)
			}
			w.set(s, nil)
			downs := 0
			var downAt time.Time
			var longest time.Duration
			d.mu.Lock()
			for _, e := range d.events {
				if e.Server != s {
					continue
				}
				if e.Change.State == Down {
					downs, downAt = downs+1, e.Change.At
				} else if !downAt.IsZero() {
					longest = max(longest, e.Change.At.Sub(downAt))
				}
			}
			d.mu.Unlock()
			switch {
			case n == 2 && (downs < 5 || downs > 20 || longest > 75*time.Second || longest < 50*time.Second):
				t.Errorf("down %d times in ten minutes of flapping, for %s at most", downs, longest)
			case n == 1 && (downs < 60 || longest > 10*time.Second):
				t.Errorf("the only server was down %d times, for %s at most: nobody gains by that", downs, longest)
			}
			time.Sleep(2 * time.Minute)
			if s.State() != Up {
				t.Errorf("two minutes after the flapping: %s", s.State())
			}
			time.Sleep(time.Minute) // good behaviour is rewarded
			w.set(s, errSick)
			time.Sleep(5 * time.Second)
			w.set(s, nil)
			time.Sleep(4 * time.Second)
			if s.State() != Up {
				t.Errorf("after a single failure: %s", s.State())
			}
		})
	}
}

func TestHTTPCheckerSNI(t *testing.T) {
	var asked atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	server.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		asked.Store(h.ServerName)
		return nil, nil
	}}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, test := range []struct {
		host, name string
		want       string
		ok         bool
	}{
		{"example.com", "", "example.com", true},
		{"example.com:8443", "", "example.com", true},
		{"other.test", "example.com", "example.com", true},
		{"other.test", "", "other.test", false}, // the certificate is not good for it
		{"", "", "", true},                      // but for 127.0.0.1
		{"127.0.0.1", "", "", true},
	} {
		asked.Store("nothing")
		config := &tls.Config{RootCAs: roots, ServerName: test.name}
		err := (&HTTPChecker{Host: test.host, TLS: config}).Check(t.Context(), address(server))
		if (err == nil) != test.ok || asked.Load() != test.want {
			t.Errorf("host %q, name %q: asked for %q, %v", test.host, test.name, asked.Load(), err)
		}
		if config.ServerName != test.name {
			t.Error("the caller's configuration was changed")
		}
	}
}

func TestCheckerFunc(t *testing.T) {
	var f Checker = CheckerFunc(func(_ context.Context, server netip.AddrPort) error {
		if server.Port() == 81 {
			return errSick
		}
		return nil
	})
	if f.Check(t.Context(), addrPort("10.0.0.1:80")) != nil || f.Check(t.Context(), addrPort("10.0.0.1:81")) != errSick {
		t.Error("the function was not asked")
	}
}

func TestPassiveErrorShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustPool(t, Config{Servers: servers(3), Passive: Passive{Failures: 5, ErrorShare: 30, ServerErrors: true}})
		s := p.Servers()[0]
		request := func(status int) {
			t.Helper()
			mustAcquire(t, p, Hint{Server: s.Addr()}).Release(Outcome{Status: status})
		}
		for range 4 { // a third fails, but of few requests
			request(200)
			request(200)
			request(500)
		}
		if s.State() != Up {
			t.Fatal("12 requests were enough")
		}
		time.Sleep(11 * time.Second) // another window
		for range 20 {
			request(200)
		}
		for range 3 { // less than the share
			for range 2 {
				request(200)
			}
			request(500)
		}
		if s.State() != Up {
			t.Fatal("a tenth was enough")
		}
		for i := 0; s.State() == Up && i < 100; i++ {
			request(200)
			request(500)
		}
		if st := s.Stats(); s.State() != Ejected || st.ServerErrors < 12 || st.ServerErrors > 25 {
			t.Errorf("%s after half of many requests failed: %+v", s.State(), st)
		}
		time.Sleep(10 * time.Second)
		if s.State() != Up {
			t.Error("does not come back")
		}
		request(200)
		request(500)
		request(500)
		if s.State() != Up {
			t.Error("what was before its ejection counts again")
		}
	})
	_, err := New(Config{Name: "web", Servers: servers(1), Passive: Passive{ErrorShare: 101, Window: -1, MinRequests: -1}})
	if want := `passive.errorShare: 101: more than 100` + "\npassive.window: -1ns: negative\npassive.minRequests: -1: less than 1"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
