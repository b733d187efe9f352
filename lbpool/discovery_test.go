package lbpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/limpetlb/limpet/internal/testwait"
)

// directory is a Finder that finds what it is told to.
type directory struct {
	mu    sync.Mutex
	list  []ServerConfig
	err   error
	deaf  bool // does not answer
	asked []time.Time
}

func (d *directory) Find(ctx context.Context) ([]ServerConfig, error) {
	d.mu.Lock()
	d.asked = append(d.asked, time.Now())
	list, err, deaf := d.list, d.err, d.deaf
	d.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return list, err
}

func (d *directory) set(edit func(*directory)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	edit(d)
}

// times returns when it was asked since the last call.
func (d *directory) times() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := d.asked
	d.asked = nil
	return asked
}

func names(p *Pool) string {
	var list []string
	for _, s := range p.Servers() {
		list = append(list, s.Name())
	}
	return strings.Join(list, " ")
}

func TestDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events diary
		d := &directory{list: []ServerConfig{{Address: "10.1.0.1"}, {Address: "10.1.0.2:81", Ratio: 3}}}
		p := mustPool(t, Config{Discoveries: []Discovery{{Finder: d}}, OnEvent: events.write})
		if _, err := p.Acquire(Hint{}); !errors.Is(err, ErrNoServer) || errors.Is(err, ErrFull) {
			t.Errorf("before Run: %v", err)
		}
		stop := running(t, p)
		synctest.Wait()
		if got := names(p); got != "10.1.0.1:80 10.1.0.2:81" || p.Servers()[1].Ratio() != 3 {
			t.Fatalf("servers %s", got)
		}
		second := p.Servers()[1]
		held := mustAcquire(t, p, Hint{Server: second.Addr()})

		// An answer changes what it changes and nothing else.
		d.set(func(d *directory) { d.list = []ServerConfig{{Address: "10.1.0.2:81", Ratio: 3}, {Address: "10.1.0.3"}} })
		time.Sleep(30 * time.Second)
		if got := names(p); got != "10.1.0.2:81 10.1.0.3:80" || p.Servers()[0] != second || second.Open() != 1 {
			t.Errorf("after a change: %s, %d open", got, second.Open())
		}
		held.Release(Outcome{})

		// No answer, a refusal and nonsense change nothing, and are asked about
		// soon again.
		for name, edit := range map[string]func(*directory){
			"error":    func(d *directory) { d.err = errSick },
			"deaf":     func(d *directory) { d.deaf = true },
			"nonsense": func(d *directory) { d.list = []ServerConfig{{Address: "10.1.0.9"}, {Address: "nonsense"}} },
			"port 0":   func(d *directory) { d.list = []ServerConfig{{Address: "10.1.0.9:0"}} },
			"twice":    func(d *directory) { d.list = []ServerConfig{{Address: "10.1.0.9"}, {Address: "10.1.0.9:80"}} },
		} {
			before, failures := d.list, p.Stats().DiscoveryFailures
			d.set(edit)
			time.Sleep(30 * time.Second)
			d.times()
			time.Sleep(5 * time.Minute)
			// Ten, or eleven with what is taken off, and five more if the first
			// failure was a moment ago.
			if n := len(d.times()); n < 9 || n > 16 {
				t.Errorf("%s: asked %d times in five minutes, want 9 to 16", name, n)
			}
			if got := names(p); got != "10.1.0.2:81 10.1.0.3:80" {
				t.Errorf("%s: %s", name, got)
			}
			if n := p.Stats().DiscoveryFailures - failures; n < 10 {
				t.Errorf("%s: %d failures", name, n)
			}
			d.set(func(d *directory) { d.list, d.err, d.deaf = before, nil, false })
			time.Sleep(time.Minute)
		}

		// No servers is an answer as well.
		d.set(func(d *directory) { d.list = nil })
		time.Sleep(30 * time.Second)
		if got := names(p); got != "" || second.State() != Removed || second.LastChange().Cause != causeDiscovered {
			t.Errorf("without servers: %q, %+v", got, second.LastChange())
		}
		if _, err := p.Acquire(Hint{}); !errors.Is(err, ErrNoServer) {
			t.Errorf("without servers: %v", err)
		}
		stop()
		d.times()
		time.Sleep(time.Hour)
		if n := len(d.times()); n != 0 {
			t.Errorf("asked %d times after Run", n)
		}
		events.mu.Lock()
		defer events.mu.Unlock()
		var got []string
		for _, e := range events.events {
			got = append(got, fmt.Sprintf("%s %s %s", e.Server.Addr(), e.Change.State, e.Change.Cause))
		}
		want := []string{
			"10.1.0.1:80 up discovered", "10.1.0.2:81 up discovered", "10.1.0.3:80 up discovered", "10.1.0.1:80 removed discovered",
			"10.1.0.2:81 removed discovered", "10.1.0.3:80 removed discovered",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestDiscoveryRetries checks how soon a Finder is asked again that has never
// known anything.
func TestDiscoveryRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := &directory{err: errSick}
		p := mustPool(t, Config{
			Discoveries: []Discovery{{Name: "catalogue", Finder: d}}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		stop := running(t, p)
		time.Sleep(14 * time.Second)
		times := d.times()
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			if len(times) < 4 {
				t.Fatalf("asked %d times", len(times))
			}
			if gap := times[i+1].Sub(times[i]); gap > want || gap < want*9/10-1 {
				t.Errorf("gap %d is %s, want %s or up to a tenth less", i, gap, want)
			}
		}
		d.set(func(d *directory) { d.err, d.list = nil, servers(1) })
		time.Sleep(30 * time.Second)
		stop()
		if got := names(p); got != "10.0.0.1:80" {
			t.Errorf("servers %s", got)
		}
		for _, want := range []string{
			`level=WARN msg="server discovery failed" pool=web discovery=catalogue error=sick`,
			`level=INFO msg="server discovery works again" pool=web discovery=catalogue`,
		} {
			if n := strings.Count(log.String(), want); n != 1 {
				t.Errorf("%d times in the log: %s\n%s", n, want, &log)
			}
		}
	})
}

func TestDiscoveryAndUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		first := &directory{list: []ServerConfig{{Address: "10.1.0.1"}, {Address: "10.0.0.1", Ratio: 9}, {Address: "10.1.0.2", Name: "ONE"}}}
		cfg := Config{
			Servers: []ServerConfig{{Address: "10.0.0.1", Name: "one"}}, HealthMonitors: []HealthMonitor{{Checker: w}},
			Discoveries: []Discovery{{Name: "dns", Finder: first, Interval: time.Minute}}, MinServersUp: 3,
		}
		p := mustPool(t, cfg)
		defer running(t, p)()
		time.Sleep(30 * time.Second)
		// What is configured comes first; what was found is checked like it.
		if got := names(p); got != "one 10.1.0.1:80 10.1.0.2:80" || p.Servers()[0].Ratio() != 1 {
			t.Fatalf("servers %s", got)
		}
		if got := states(p); got != "up up up" || !p.Up() {
			t.Fatalf("states %s", got)
		}
		found := p.Servers()[1:]

		// Another finder under the same name is asked at once, and what is
		// known stands until it has answered.
		second := &directory{deaf: true}
		cfg.Discoveries = []Discovery{{Name: "dns", Finder: second, Interval: time.Minute, Timeout: 10 * time.Second}}
		cfg.DefaultPort = 80
		mustUpdate(t, p, cfg)
		synctest.Wait()
		if len(second.times()) != 1 || !slices.Equal(p.Servers()[1:], found) || states(p) != "up up up" {
			t.Errorf("right after the update: %s", names(p))
		}
		second.set(func(d *directory) {
			d.deaf, d.list = false, []ServerConfig{{Address: "10.1.0.2"}, {Address: "10.1.0.3"}}
		})
		time.Sleep(30 * time.Second)
		if got := names(p); got != "one 10.1.0.2:80 10.1.0.3:80" || p.Servers()[1] != found[1] || states(p) != "up up up" {
			t.Errorf("after the answer: %s, states %s", got, states(p))
		}
		n := len(first.times())
		time.Sleep(10 * time.Minute)
		if again := len(first.times()); again != 0 || n == 0 {
			t.Errorf("the finder that was replaced is asked %d more times", again)
		}
		cfg.Discoveries, cfg.MinServersUp = nil, 0
		mustUpdate(t, p, cfg)
		if got := names(p); got != "one" {
			t.Errorf("without discoveries: %s", got)
		}
		second.times()
		time.Sleep(10 * time.Minute)
		if n := len(second.times()); n != 0 {
			t.Errorf("a finder that is gone is asked %d times", n)
		}
	})
}

func TestDiscoveryOfTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(MaxServers)
		p := mustPool(t, Config{Servers: all[:10], Discoveries: []Discovery{
			{Finder: FinderFunc(func(context.Context) ([]ServerConfig, error) { return all[5:], nil })},
			{Finder: FinderFunc(func(context.Context) ([]ServerConfig, error) { return []ServerConfig{{Address: "192.0.2.1"}}, nil })},
			{Finder: FinderFunc(func(context.Context) ([]ServerConfig, error) { return servers(MaxServers + 1), nil })},
		}})
		stop := running(t, p)
		time.Sleep(time.Minute)
		stop()
		if n := len(p.Servers()); n != MaxServers {
			t.Errorf("%d servers", n)
		}
		if n := p.Stats().DiscoveryFailures; n < 10 {
			t.Errorf("%d failures: servers were left out silently", n)
		}
	})
}

func TestDiscoveryFaults(t *testing.T) {
	d := &directory{}
	var none *directory
	for want, discoveries := range map[string][]Discovery{
		`discoveries: 51 discoveries, more than 50`:                                          make([]Discovery, 51),
		`discoveries[0].finder: missing`:                                                     {{}},
		`discoveries[1].finder: missing`:                                                     {{Finder: d}, {Finder: none}},
		`discoveries[1].name: "x": already the name of discoveries[0]`:                       {{Name: "x", Finder: d}, {Name: "x", Finder: d}},
		`discoveries[0].interval: -1ns: negative`:                                            {{Finder: d, Interval: -1}},
		`discoveries[0].timeout: 2h0m0s: more than 1h0m0s`:                                   {{Finder: d, Timeout: 2 * time.Hour}},
		`discoveries[0].finder.name: "": not a name`:                                         {{Finder: &DNSFinder{}}},
		`discoveries[0].finder.name: "a b": not a name`:                                      {{Finder: &DNSFinder{Name: "a b"}}},
		`discoveries[0].finder.name: "a:b:c": not a name with or without a port`:             {{Finder: &DNSFinder{Name: "a:b:c"}}},
		`discoveries[0].finder.name: "a:0": does not end in a port of 1 to 65535`:            {{Finder: &DNSFinder{Name: "a:0"}}},
		`discoveries[0].finder.name: "_a._tcp.b:1": not a name`:                              {{Finder: &DNSFinder{Name: "_a._tcp.b:1", SRV: true}}},
		`discoveries[0].finder.name: "10.0.0.1:80": an address, which need not be looked up`: {{Finder: &DNSFinder{Name: "10.0.0.1:80"}}},
		`discoveries[0].finder.network: "tcp": none of "ip", "ip4" and "ip6"`:                {{Finder: &DNSFinder{Name: "a", Network: "tcp"}}},
		`discoveries[0].finder.server.name: "x": a name cannot be that of several servers`:   {{Finder: &DNSFinder{Name: "a", Server: ServerConfig{Name: "x"}}}},
		`discoveries[0].finder.server.ratio: 21: more than 20`:                               {{Finder: &DNSFinder{Name: "a", Server: ServerConfig{Ratio: 21}}}},
	} {
		_, err := New(Config{Name: "web", Discoveries: discoveries})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// listenOnOnePort listens on n addresses of loopback with the same port, as
// servers behind a name do.
func listenOnOnePort(t *testing.T, n int) []net.Listener {
	t.Helper()
	for range 20 {
		var listeners []net.Listener
		port := 0
		for i := range n {
			ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 3, byte(i+1)), Port: port})
			if err != nil {
				break // somebody else has that port there
			}
			port = ln.Addr().(*net.TCPAddr).Port
			listeners = append(listeners, ln)
		}
		if len(listeners) == n {
			return listeners
		}
		for _, ln := range listeners {
			ln.Close()
		}
	}
	t.Fatalf("no port is free on %d addresses", n)
	return nil
}

// TestDNSDiscoveryUnderLoad is a pool behind a name whose addresses change,
// which does not exist for a while, and whose name server is slow or silent:
// requests notice nothing.
func TestDNSDiscoveryUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDNSServer(t)
	listeners := listenOnOnePort(t, 3)
	var addrs []netip.AddrPort
	for _, ln := range listeners {
		server := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hello")
		})}}
		server.Start()
		t.Cleanup(server.Close)
		addrs = append(addrs, address(server))
	}
	port := addrs[0].Port()
	point := func(to ...netip.AddrPort) {
		d.set(func(d *dnsServer) {
			d.addrs["app.test"] = nil
			for _, a := range to {
				d.addrs["app.test"] = append(d.addrs["app.test"], a.Addr().String())
			}
		})
	}
	point(addrs[0])
	tr := newTransport(t)
	tr.Pool = mustPool(t, Config{Discoveries: []Discovery{{
		Finder:   &DNSFinder{Name: fmt.Sprintf("app.test:%d", port), Resolver: d.resolver()},
		Interval: 10 * time.Millisecond, Timeout: 100 * time.Millisecond,
	}}})
	defer running(t, tr.Pool)()
	testwait.Until(t, "the first answer", tr.Pool.Up)

	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var served atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				resp, err := tr.RoundTrip(request(t.Context(), "GET", nil, &Route{Pool: tr.Pool}))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Error(err)
				}
				resp.Body.Close()
				served.Add(1)
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	defer group.Wait()
	defer cancel()
	// p99 lets the load go on for a while, or longer if something is to be
	// seen, and returns how long requests take.
	p99 := func(more int64) time.Duration {
		mu.Lock()
		took = took[:0]
		mu.Unlock()
		from := served.Load()
		testwait.Until(t, "requests", func() bool { return served.Load() >= from+more || t.Failed() })
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	for i := range 10 {
		to := addrs[(i+1)%3]
		point(addrs[i%3], to)
		testwait.Until(t, "both servers", func() bool { return len(tr.Pool.Servers()) == 2 })
		point(to)
		testwait.Until(t, "the new server alone", func() bool { s := tr.Pool.Servers(); return len(s) == 1 && s[0].Addr() == to })
	}
	quiet := p99(500)
	for name, edit := range map[string]func(*dnsServer){
		"NXDOMAIN": func(d *dnsServer) { d.rcode = dnsmessage.RCodeNameError },
		"SERVFAIL": func(d *dnsServer) { d.rcode = dnsmessage.RCodeServerFailure },
		"silent":   func(d *dnsServer) { d.silent = true },
		"slow":     func(d *dnsServer) { d.delay = 5 * time.Second },
	} {
		failures := tr.Pool.Stats().DiscoveryFailures
		d.set(edit)
		testwait.Until(t, "failures of the DNS: "+name, func() bool { return tr.Pool.Stats().DiscoveryFailures >= failures+3 })
		now := p99(500)
		for again := 0; now > 10*quiet+200*time.Millisecond && again < 10; again++ {
			now = min(now, p99(500))
		}
		if now > 10*quiet+200*time.Millisecond {
			t.Errorf("%s: 99 of 100 requests take up to %s, before up to %s", name, now, quiet)
		}
		if n := len(tr.Pool.Servers()); n != 1 {
			t.Errorf("%s: %d servers", name, n)
		}
		d.set(func(d *dnsServer) { d.rcode, d.silent, d.delay = dnsmessage.RCodeSuccess, false, 0 })
	}
}
