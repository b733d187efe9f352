package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

func TestConfigFaults(t *testing.T) {
	pool := poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})
	script := onRequest(t, "script", "")
	for _, test := range []struct {
		name string
		cfg  limpet.Config
		want []string // beginnings of the lines
	}{
		{"name", limpet.Config{Name: "two\nlines"}, []string{`name: "two\nlines": not printable text`}},
		{"nil pool", limpet.Config{Pools: []*lbpool.Pool{pool, nil}}, []string{"pools[1]"}},
		{"equal pools", limpet.Config{Pools: []*lbpool.Pool{pool, pool}}, []string{`pools[1]`}},
		{"default pool", limpet.Config{Pools: []*lbpool.Pool{pool}, DefaultPool: "other"}, []string{`defaultPool: "other": there is no such pool`}},
		{"default pool without pools", limpet.Config{DefaultPool: "other"}, []string{`defaultPool: "other": there is no such pool`}},
		{"persistence without pools", limpet.Config{Persistence: &profile{}}, []string{"persistence: there is no pool"}},
		{
			"network security", limpet.Config{Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{Name: "a"}, {Action: policy.ActionReset}}}},
			[]string{"networkSecurity[0].action: ", "networkSecurity[1].name: "},
		},
		{
			"HTTP security", limpet.Config{Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "a", Action: policy.Respond{Status: 42}}, {Name: "b"}}}},
			[]string{"httpSecurity[0].action.status: ", "httpSecurity[1].action: "},
		},
		{
			"groups that are not there", limpet.Config{Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
				Name: "a", Action: policy.ActionReset, Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
			}}}},
			[]string{"networkSecurity[0].match.clientIP"},
		},
		{"nil script", limpet.Config{Scripts: []limpet.Script{{}}}, []string{"scripts[0].script: missing"}},
		{"equal scripts", limpet.Config{Scripts: []limpet.Script{script, script}}, []string{`scripts[1]: a second script named "script", after scripts[0]`}},
		{
			"error mode", limpet.Config{Scripts: []limpet.Script{{Script: script.Script, OnError: 7}}},
			[]string{"scripts[0].onError: 7: not one of fail closed, fail open"},
		},
		{"limits", limpet.Config{Scripting: limpet.Scripting{Limits: datascript.Limits{CallDepth: 1 << 30}}}, []string{"limits.callDepth: "}},
		{"client header", limpet.Config{Clients: limpet.Clients{ClientHeader: "X Real IP"}}, []string{`clientHeader: "X Real IP": not the name of a header`}},
		{"client index", limpet.Config{Clients: limpet.Clients{ClientIndex: -1001, TrustedProxies: loopback}}, []string{"clientIndex: -1001: less than -1000"}},
		{"client index without proxies", limpet.Config{Clients: limpet.Clients{ClientIndex: 1}}, []string{"clientIndex: 1: without effect"}},
		{
			"PROXY protocol", limpet.Config{Clients: limpet.Clients{ProxyProtocol: limpet.ProxyProtocol{HeaderTimeout: -1}}},
			[]string{"proxyProtocol.headerTimeout: -1ns: negative"},
		},
		{
			"PROXY protocol from nowhere", limpet.Config{Clients: limpet.Clients{ProxyProtocol: limpet.ProxyProtocol{From: make([]netip.Prefix, 1)}}},
			[]string{"proxyProtocol.from[0]: not a network"},
		},
		{
			"connections", limpet.Config{Clients: limpet.Clients{Connections: limpet.ConnectionLimits{
				Max: 2_000_000_000, MaxPerClient: -1, IPv4Bits: 33, IPv6Bits: -1, Exceeded: 9,
				Rate: policy.Rate{Burst: 1}, RatePerClient: policy.Rate{Count: 1, Period: 1},
			}}},
			[]string{
				"connections.max: 2000000000: more than 1073741824", "connections.maxPerClient: ", "connections.ipv4Bits: 33: more than 32", "connections.ipv6Bits: ",
				"connections.exceeded: ", "connections.rate.count: 0", "connections.ratePerClient.period: ",
			},
		},
		{"policy error mode", limpet.Config{Policies: limpet.Policies{PoliciesOnError: 7}}, []string{"policiesOnError: 7: not one of fail closed, fail open"}},
		{"trusted proxies", limpet.Config{Clients: limpet.Clients{TrustedProxies: []netip.Prefix{{}, netip.MustParsePrefix("::/0"), {}}}}, []string{"trustedProxies[0]: ", "trustedProxies[2]: "}},
		{
			"all at once", limpet.Config{
				Name: "\x00", DefaultPool: "other", Persistence: &profile{}, Clients: limpet.Clients{ClientHeader: "X Y",
					TrustedProxies: make([]netip.Prefix, 1)},
				Policies: limpet.Policies{
					NetworkSecurity: make([]policy.NetworkRule, 1), HTTPSecurity: make([]policy.SecurityRule, 1),
				},
				Scripts: make([]limpet.Script, 2), Scripting: limpet.Scripting{Limits: datascript.Limits{CallDepth: 1 << 30}},
			},
			[]string{
				"name: ", "defaultPool: ", "persistence: ", "networkSecurity[0].name: ", "networkSecurity[0].action: ",
				"httpSecurity[0].name: ", "httpSecurity[0].action: ", "scripts[0].script: ", "scripts[1].script: ",
				"limits.callDepth: ", "clientHeader: ", "trustedProxies[0]: ",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			vs, err := limpet.New(test.cfg)
			if err == nil || vs != nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Errorf("%d faults, want %d:\n%v", len(lines), len(test.want), err)
			}
			for _, want := range test.want {
				n := 0
				for _, line := range lines {
					if strings.HasPrefix(line, want) {
						n++
					}
				}
				if n == 0 {
					t.Errorf("no fault of %q in:\n%v", want, err)
				}
			}
		})
	}

	_, err := limpet.New(limpet.Config{Policies: limpet.Policies{NetworkSecurity: make([]policy.NetworkRule, 1)}})
	if _, ok := errors.AsType[*limpet.FieldError](err); !ok {
		t.Errorf("the policy's own error is not to be had: %v", err)
	}
}

func TestZeroConfig(t *testing.T) {
	recs := newRecords()
	vs, site := serve(t, http1, limpet.Config{OnComplete: recs.add})
	// There is no server to go to.
	if status, _ := get(t, site.client(t), site.URL); status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
	if rec := recs.next(t); rec.VirtualService != "limpet" || !errors.Is(rec.Error, lbpool.ErrNoServer) {
		t.Errorf("record: %+v", rec)
	}
	other := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})))
	if status, _ := get(t, other.client(t), other.URL); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}

func TestUpdateRefused(t *testing.T) {
	cfg := limpet.Config{
		Pools:   []*lbpool.Pool{poolOf(t, startServers(t, 1)...)},
		Scripts: []limpet.Script{onResponse(t, "version", `avi.http.add_header("X-Version", "1")`)},
	}
	vs, site := serve(t, http1, cfg)
	check := func(version string) {
		t.Helper()
		res, body := fetch(t, site.client(t), newRequest(t, "GET", site.URL, nil))
		if res.StatusCode != 200 || body != "server 1" || res.Header.Get("X-Version") != version {
			t.Errorf("%s %q %v", res.Status, body, res.Header)
		}
	}
	check("1")
	bad := cfg
	bad.Scripts = []limpet.Script{onResponse(t, "version", `avi.http.add_header("X-Version", "2")`)}
	bad.DefaultPool = "nowhere"
	if err := vs.Update(bad); err == nil {
		t.Fatal("no error")
	}
	check("1")
	// The slices of a configuration are its virtual service's own.
	cfg.Scripts[0] = bad.Scripts[0]
	cfg.Pools[0] = nil
	check("1")
	good := bad
	good.Pools, good.DefaultPool = []*lbpool.Pool{poolOf(t, startServers(t, 1)...)}, ""
	if err := vs.Update(good); err != nil {
		t.Fatal(err)
	}
	check("2")
	if got := vs.Stats().Requests; got != 4 {
		t.Errorf("%d requests counted, want 4", got)
	}
}

// Entries outlive a configuration if the tables do, and those of a virtual
// service without tables always do.
func TestUpdateKeepsEntries(t *testing.T) {
	servers := startServers(t, 3)
	recs := newRecords()
	cfg := limpet.Config{Scripts: []limpet.Script{compile(t, "Custom Persistence", customPersistence)}, OnComplete: recs.add}
	cfg.Pools = []*lbpool.Pool{poolOf(t, servers...)}
	vs, site := serve(t, http1, cfg)
	c := site.client(t)
	get(t, c, site.URL)
	first := recs.next(t)
	for range 3 {
		cfg.Pools = []*lbpool.Pool{poolOf(t, servers...)}
		if err := vs.Update(cfg); err != nil {
			t.Fatal(err)
		}
		get(t, c, site.URL)
		if rec := recs.next(t); rec.Outcome != limpet.OutcomeHit || rec.Server != first.Server {
			t.Errorf("%v on %v, want a hit on %v", rec.Outcome, rec.Server, first.Server)
		}
	}
}

// TestUpdateUnderLoad updates as fast as it can, now and then with a bad
// configuration. No request fails, and each sees one configuration from its
// beginning to its end.
func TestUpdateUnderLoad(t *testing.T) {
	t.Parallel()
	updates := 300
	if testrace.Enabled {
		updates = 60
	}
	if testing.Short() {
		updates = 15
	}
	servers := startServers(t, 3)
	version := func(v string, servers ...lbpool.ServerConfig) limpet.Config {
		return limpet.Config{
			Pools: []*lbpool.Pool{poolOf(t, servers...)},
			Scripts: []limpet.Script{
				compile(t, "Custom Persistence", customPersistence),
				compile(t, "version", fmt.Sprintf(`-- HTTP_REQ
avi.vs.reqvar.version = %q

-- HTTP_RESP
avi.http.add_header("X-Versions", avi.vs.reqvar.version .. %q)
`, v, v)),
			},
		}
	}
	vs, site := serve(t, http1, version("0", servers...))

	ctx, stop := context.WithCancel(t.Context())
	var requests atomic.Int64
	var wg sync.WaitGroup
	for range 6 {
		c := site.client(t)
		wg.Go(func() {
			for ctx.Err() == nil {
				res, body, err := try(c, newRequest(t, "GET", site.URL, nil))
				if err != nil || res.StatusCode != 200 || !strings.HasPrefix(body, "server ") {
					t.Errorf("%v %q %v", res, body, err)
					return
				}
				if v := res.Header.Get("X-Versions"); len(v) == 0 || len(v)%2 != 0 || v[:len(v)/2] != v[len(v)/2:] {
					t.Errorf("versions %q", v)
				}
				requests.Add(1)
			}
		})
	}
	for i := range updates {
		// The server that is left out is another one each time.
		cfg := version(fmt.Sprint(i), servers[i%3], servers[(i+1)%3])
		if i%5 == 0 {
			cfg.DefaultPool = "nowhere"
		}
		if err := vs.Update(cfg); (err != nil) != (i%5 == 0) {
			t.Errorf("update %d: %v", i, err)
		}
		for before := requests.Load(); requests.Load() < before+5 && !t.Failed(); {
			runtime.Gosched()
		}
	}
	stop()
	wg.Wait()
	if st := vs.Stats(); st.Requests != uint64(requests.Load()) || st.ScriptFailures != 0 {
		t.Errorf("%d requests, stats %+v", requests.Load(), st)
	}
}

// counting is a checker that finds every server healthy and counts.
type counting struct {
	n     atomic.Int64
	lasts time.Duration // how long a check goes on after it was told to stop
}

func (c *counting) Check(ctx context.Context, _ netip.AddrPort) error {
	c.n.Add(1)
	if c.lasts > 0 {
		<-ctx.Done()
		<-time.After(c.lasts)
	}
	return nil
}

func monitoredPool(t *testing.T, name string, c lbpool.Checker) *lbpool.Pool {
	t.Helper()
	return newPool(t, lbpool.Config{
		Name: name, Servers: []lbpool.ServerConfig{{Address: "10.0.0.1"}},
		HealthMonitors: []lbpool.HealthMonitor{{Name: "m", Checker: c, Interval: time.Minute, Timeout: 30 * time.Second}},
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a, b counting
		poolA, poolB := monitoredPool(t, "a", &a), monitoredPool(t, "b", &b)
		vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{poolA}})
		update := func(pools ...*lbpool.Pool) {
			t.Helper()
			if err := vs.Update(limpet.Config{Pools: pools}); err != nil {
				t.Fatal(err)
			}
		}
		// checked reports which pools are checked within an hour.
		checked := func() (a1, b1 bool) {
			na, nb := a.n.Load(), b.n.Load()
			time.Sleep(time.Hour)
			return a.n.Load() > na, b.n.Load() > nb
		}
		want := func(wantA, wantB bool) {
			t.Helper()
			if gotA, gotB := checked(); gotA != wantA || gotB != wantB {
				t.Errorf("checked: a %v, b %v; want %v, %v", gotA, gotB, wantA, wantB)
			}
		}
		want(false, false)

		for range 2 { // it may be run again
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- vs.Run(ctx) }()
			synctest.Wait()
			if err := vs.Run(ctx); err != limpet.ErrRunning {
				t.Errorf("a second run: %v", err)
			}
			want(true, false)
			update(poolA, poolB)
			want(true, true)
			update(poolB)
			want(false, true)
			update()
			want(false, false)
			update(poolA)
			want(true, false)
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			want(false, false)
		}
	})
}

// A pool may leave and come back faster than its checks end.
func TestRunWhenPoolReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := counting{lasts: 5 * time.Second}
		pool := monitoredPool(t, "slow", &slow)
		with := limpet.Config{Pools: []*lbpool.Pool{pool}}
		vs := newVirtualService(t, with)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- vs.Run(ctx) }()
		for slow.n.Load() == 0 {
			time.Sleep(time.Second)
		}
		if err := vs.Update(limpet.Config{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := vs.Update(with); err != nil {
			t.Fatal(err)
		}
		before := slow.n.Load()
		time.Sleep(time.Hour)
		if slow.n.Load() == before {
			t.Error("the pool is not checked any more")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestClientAddress sees who the client is taken for, by policies, by
// scripts, and in the record.
func TestClientAddress(t *testing.T) {
	const peer = "127.0.0.1"
	for _, test := range []struct {
		name, trusted, header string
		send                  http.Header
		want                  string
	}{
		{"nobody is trusted", "", "", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, peer},
		{"another proxy is trusted", "10.0.0.0/8", "", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, peer},
		{"one proxy", "127.0.0.0/8", "", http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9"},
		{"no header", "127.0.0.0/8", "", http.Header{}, peer},
		{"chain", "127.0.0.0/8 10.0.0.0/8", "", http.Header{"X-Forwarded-For": {"6.6.6.6, 203.0.113.9", "10.1.1.1, 10.2.2.2"}}, "203.0.113.9"},
		{"IPv6", "127.0.0.0/8", "", http.Header{"X-Forwarded-For": {"2001:db8::1"}}, "2001:db8::1"},
		{"mapped IPv4", "127.0.0.0/8", "", http.Header{"X-Forwarded-For": {"::ffff:203.0.113.9"}}, "203.0.113.9"},
		{"garbage", "127.0.0.0/8 10.0.0.0/8", "", http.Header{"X-Forwarded-For": {"203.0.113.9, junk, 10.1.1.1"}}, "10.1.1.1"},
		{"the other header", "127.0.0.0/8", "", http.Header{"Forwarded": {"for=203.0.113.9"}}, peer},
		{"Forwarded", "127.0.0.0/8", "Forwarded", http.Header{"Forwarded": {`for=6.6.6.6, for="[2001:db8::1]:4711";proto=https`}}, "2001:db8::1"},
		{"Forwarded, by another case", "127.0.0.0/8", "forwarded", http.Header{"Forwarded": {"for=203.0.113.9"}}, "203.0.113.9"},
		{
			"a header removed by another", "127.0.0.0/8", "",
			http.Header{"X-Forwarded-For": {"203.0.113.9"}, "Connection": {"X-Forwarded-For"}}, "203.0.113.9",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var trusted []netip.Prefix
			for p := range strings.FieldsSeq(test.trusted) {
				trusted = append(trusted, netip.MustParsePrefix(p))
			}
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Clients: limpet.Clients{
					TrustedProxies: trusted, ClientHeader: test.header,
				}, OnComplete: recs.add,
				Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
					Name: "others", Action: policy.Respond{Status: 403},
					Match: policy.Match{ClientIP: &policy.IPMatch{Op: policy.IsNotIn, Addrs: []netip.Addr{netip.MustParseAddr(test.want)}}},
				}, {
					Name: "other peers", Action: policy.Respond{Status: 403},
					Match: policy.Match{SourceIP: &policy.IPMatch{Op: policy.IsNotIn, Addrs: []netip.Addr{netip.MustParseAddr(peer)}}},
				}}},
				Scripts: []limpet.Script{onResponse(t, "echo", `avi.http.add_header("X-Client", avi.vs.client_ip())`)},
			})
			site := startSite(t, http1, listen(t, ""), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.RemoteAddr, peer+":") {
					t.Errorf("RemoteAddr was rewritten to %s", r.RemoteAddr)
				}
			})))
			r := newRequest(t, "GET", site.URL, nil)
			r.Header = test.send.Clone()
			res, _ := fetch(t, site.client(t), r)
			if res.StatusCode != 200 || res.Header.Get("X-Client") != test.want {
				t.Errorf("%s, client %q", res.Status, res.Header.Get("X-Client"))
			}
			rec := recs.next(t)
			if rec.Client.Addr().String() != test.want || rec.Source.Addr().String() != peer || rec.Local.String() != site.Addr {
				t.Errorf("record: client %v, source %v, local %v", rec.Client, rec.Source, rec.Local)
			}
		})
	}
}

// TestForwardingHeaders checks what a server is told about the client.
func TestForwardingHeaders(t *testing.T) {
	t.Parallel()
	type header = http.Header
	var got atomic.Pointer[header]
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { got.Store(&r.Header) })
	forged := header{
		"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Host": {"forged.example"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=1.1.1.1"},
	}
	built := header{"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"example.com"}, "X-Forwarded-Proto": {"http"}}
	with := func(name string, values ...string) header {
		h := built.Clone()
		h[name] = values
		return h
	}
	for _, test := range []struct {
		name    string
		trusted bool
		send    header
		script  string
		want    header
	}{
		{"nothing sent", false, nil, "", built},
		{"nothing sent by a trusted proxy", true, nil, "", built},
		{"forged", false, forged, "", built},
		{"forged, behind a script", false, forged, `avi.http.add_header("X-Other", "1")`, with("X-Other", "1")},
		{"forged on several lines", false, header{"X-Forwarded-For": {"1.1.1.1", "2.2.2.2, 3.3.3.3"}}, "", built},
		{"Forwarded forged", false, header{"Forwarded": {"for=1.1.1.1", "for=2.2.2.2"}}, "", built},
		{"trusted chain", true, header{"X-Forwarded-For": {"1.1.1.1"}}, "", with("X-Forwarded-For", "1.1.1.1, 127.0.0.1")},
		{
			"trusted chain on two lines", true, header{"X-Forwarded-For": {"1.1.1.1", "2.2.2.2"}}, "",
			with("X-Forwarded-For", "1.1.1.1, 2.2.2.2, 127.0.0.1"),
		},
		{
			"trusted chain, to be removed by Connection", true, header{"X-Forwarded-For": {"1.1.1.1"}, "Connection": {"X-Forwarded-For"}}, "",
			with("X-Forwarded-For", "1.1.1.1, 127.0.0.1"),
		},
		{"trusted host", true, header{"X-Forwarded-Host": {"outer.example"}}, "", with("X-Forwarded-Host", "outer.example")},
		{"trusted protocol", true, header{"X-Forwarded-Proto": {"https"}}, "", with("X-Forwarded-Proto", "https")},
		{"trusted Forwarded", true, header{"Forwarded": {"for=1.1.1.1"}}, "", with("Forwarded", "for=1.1.1.1")},
		{
			"trusted, behind a script", true, header{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Proto": {"https"}},
			`avi.http.add_header("X-Other", "1")`,
			header{"X-Forwarded-For": {"1.1.1.1, 127.0.0.1"}, "X-Forwarded-Host": {"example.com"}, "X-Forwarded-Proto": {"https"}, "X-Other": {"1"}},
		},
		{
			"script sets For", false, header{"X-Forwarded-For": {"1.1.1.1"}}, `avi.http.replace_header("X-Forwarded-For", "9.9.9.9")`,
			with("X-Forwarded-For", "9.9.9.9"),
		},
		{
			"script sets For to what was sent", false, header{"X-Forwarded-For": {"9.9.9.9"}}, `avi.http.replace_header("X-Forwarded-For", "9.9.9.9")`,
			with("X-Forwarded-For", "9.9.9.9"),
		},
		{
			"script sets Proto to what was sent", false, header{"X-Forwarded-Proto": {"https"}}, `avi.http.replace_header("X-Forwarded-Proto", "https")`,
			with("X-Forwarded-Proto", "https"),
		},
		{"script sets Proto", false, nil, `avi.http.replace_header("X-Forwarded-Proto", "https")`, with("X-Forwarded-Proto", "https")},
		{"script sets Host", false, nil, `avi.http.replace_header("X-Forwarded-Host", "set.example")`, with("X-Forwarded-Host", "set.example")},
		{"script sets Forwarded", false, nil, `avi.http.replace_header("Forwarded", "for=_hidden")`, with("Forwarded", "for=_hidden")},
		{
			"script sets For of a trusted proxy", true, header{"X-Forwarded-For": {"1.1.1.1"}}, `avi.http.replace_header("X-Forwarded-For", "9.9.9.9")`,
			with("X-Forwarded-For", "9.9.9.9"),
		},
		{"script changes the host", false, nil, `avi.http.replace_header("Host", "inner.example")`, built},
		{
			"script fails open", false, forged, `avi.http.replace_header("X-Forwarded-For", "9.9.9.9") error("")`, built,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := limpet.Config{Pools: []*lbpool.Pool{pool}}
			if test.trusted {
				cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			}
			if test.script != "" {
				cfg.Scripts = []limpet.Script{failOpen(onRequest(t, "script", test.script))}
			}
			_, site := serve(t, http1, cfg)
			r := newRequest(t, "GET", site.URL, nil)
			r.Host = "example.com"
			if test.send != nil {
				r.Header = test.send.Clone()
			}
			r.Header.Set("User-Agent", "")
			if res, _ := fetch(t, site.client(t), r); res.StatusCode != 200 {
				t.Fatal(res.Status)
			}
			if diff := cmp.Diff(test.want, *got.Load()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestForwardedProtoOverTLS(t *testing.T) {
	var got atomic.Value
	for _, p := range []protocol{http1TLS, http2TLS} {
		_, site := serve(t, p, limpet.Config{Pools: []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) {
			got.Store(r.Header.Get("X-Forwarded-Proto"))
		})}})
		if get(t, site.client(t), site.URL); got.Load() != "https" {
			t.Errorf("%s: %v", p, got.Load())
		}
	}
}

// Servers get paths and queries as clients wrote them, however odd. Only what
// ends a query for many of them is encoded.
func TestURIPassesUntouched(t *testing.T) {
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	for _, scripted := range []bool{false, true} {
		cfg := limpet.Config{Pools: []*lbpool.Pool{pool}}
		if scripted {
			cfg.Scripts = []limpet.Script{onRequest(t, "edit", `avi.http.add_header("X-Edited", "1")`)}
		}
		_, site := serve(t, http1, cfg)
		for _, uri := range []string{
			"/?a=1;b=2", "/?a=%zz", "/?a=%", "/?%", "/?a=1&;&b", "/?a+b=c%2Bd", "/?a=b=c==", "/??", "/?/../?", "/?%00%0a",
			"/?a=\"<>\\^`{|}", "/?\xff\xfe", "/?a=1#", "/?", "/?&&&", "/?a[]=1&a[]=2",
			"/a%2fb%2Fc", "/a//b/../c/./d", "/a;b=c/d", "/%7Euser/%e4", "/a:b@c!$&'()*+,;=", "//example.com/", "/%",
		} {
			c := site.dial(t, "")
			r := send(t, c, "GET "+uri+" HTTP/1.1\nHost: example.com\nConnection: close\n\n")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			rest, _ := endOf(t, res.Body)
			res.Body.Close()
			if uri == "/%" || uri == "/?a=1#" { // where a fragment begins is where some servers end the target
				if res.StatusCode != http.StatusBadRequest {
					t.Errorf("%q: %s", uri, res.Status)
				}
				continue
			}
			if rest != uri {
				t.Errorf("scripted %v: the server got %q, want %q", scripted, rest, uri)
			}
		}
	}
}
