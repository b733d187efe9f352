package acceptance_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// saying answers with the status that the path names, after it has read the
// request, and with three bytes if there may be a body.
func saying(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	w.WriteHeader(status)
	if status != 204 && status != 304 {
		_, _ = io.WriteString(w, "abc")
	}
}

// counted makes counts of labels, each followed by its number.
func counted(list ...any) (counts []limpet.Count) {
	for i := 0; i < len(list); i += 2 {
		counts = append(counts, limpet.Count{Label: list[i].(string), N: uint64(list[i+1].(int))})
	}
	return counts
}

// beneath matches the requests whose path begins with a prefix.
func beneath(prefix string) policy.Match {
	return policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{prefix}}}
}

// Requests are counted by status, with a closed set of labels, and so are the
// tries at servers, whatever an update replaces.
func TestStatsOfTraffic(t *testing.T) {
	ok, dead := startServer(t, "127.0.1.1:0", http.HandlerFunc(saying)), deadAddr(t, "127.0.1.2:0")
	cfg := func() limpet.Config {
		return limpet.Config{
			Pools: []*lbpool.Pool{
				newPool(t, lbpool.Config{Name: "web", Servers: []lbpool.ServerConfig{{Address: ok}}}),
				newPool(t, lbpool.Config{Name: "lost", Servers: []lbpool.ServerConfig{{Address: dead}}, FailAction: lbpool.FailAction{
					Kind: lbpool.FailBackup, Backup: newPool(t, lbpool.Config{Name: "spare", Servers: []lbpool.ServerConfig{{Address: ok}}}),
				}}),
			},
			Policies: limpet.Policies{
				HTTPSecurity: []policy.SecurityRule{{Name: "no", Match: beneath("/no"), Action: policy.Respond{Status: 403}}},
				HTTPRequest:  []policy.RequestRule{{Name: "lost", Match: beneath("/lost"), Action: policy.Modify{Pool: policy.SwitchPool{Name: "lost"}}}},
			},
		}
	}
	recs := newRecords()
	first := cfg()
	first.OnComplete = recs.add
	vs, site := serve(t, http1, first)
	client := site.client(t)
	ask := func(path, body string) {
		t.Helper()
		method, from := "GET", io.Reader(nil)
		if body != "" {
			method, from = "POST", strings.NewReader(body)
		}
		fetch(t, client, newRequest(t, method, site.URL+path, from))
	}
	for _, path := range []string{"/200", "/200", "/204", "/299", "/404", "/418", "/503", "/599", "/999", "/no"} {
		ask(path, "")
	}
	ask("/200", "0123456789")
	ask("/lost", "") // its only server cannot be reached
	second := cfg()  // with other pools
	second.OnComplete = recs.add
	if err := vs.Update(second); err != nil {
		t.Fatal(err)
	}
	ask("/200", "")
	recs.take(t, 13)
	st := vs.Stats()
	codes := counted("200", 4, "204", 1, "2xx", 1, "403", 1, "404", 1, "4xx", 1, "502", 1, "503", 1, "5xx", 2)
	if diff := cmp.Diff(codes, st.Codes); diff != "" || st.Requests != 13 {
		t.Errorf("%d requests (-want +got):\n%s", st.Requests, diff)
	}
	significant := counted(limpet.PolicyDrop.String(), 1, limpet.ServerFailed.String(), 1, limpet.Status4xx.String(), 3, limpet.Status5xx.String(), 4)
	if diff := cmp.Diff(significant, st.Significant); diff != "" {
		t.Errorf("significant (-want +got):\n%s", diff)
	}
	if st.Received != 10 || st.Sent != 10*3+uint64(len("403 Forbidden\n")+len("Bad Gateway\n")) || st.InFlight != 0 || st.Upgraded != 0 {
		t.Errorf("received %d, sent %d, in flight %d and %d", st.Received, st.Sent, st.InFlight, st.Upgraded)
	}
	if n, answered := st.Duration.Count(), st.FirstByte.Count(); n != 13 || answered != 11 || st.Duration.Sum < st.FirstByte.Sum || st.FirstByte.Sum <= 0 {
		t.Errorf("%d durations, %d first bytes, sums %v and %v", n, answered, st.Duration.Sum, st.FirstByte.Sum)
	}
	type row struct {
		Pool          string
		Codes         []limpet.Count
		ConnectErrors uint64
		Responses     uint64
	}
	var pools []row
	for _, p := range st.Pools {
		pools = append(pools, row{p.Pool, p.Codes, p.ConnectErrors, p.Response.Count()})
	}
	want := []row{
		{Pool: "lost", Codes: counted("error", 1), ConnectErrors: 1},
		{Pool: "spare"},
		{Pool: "web", Codes: counted("200", 4, "204", 1, "2xx", 1, "404", 1, "4xx", 1, "503", 1, "5xx", 2), Responses: 11},
	}
	if diff := cmp.Diff(want, pools); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
}

// A wrapped handler that sends by an lbpool.Transport sends to the pool as
// well, and the time in the queue is counted.
func TestStatsOfWrappedTransport(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-goOn
		w.WriteHeader(http.StatusNoContent)
	}))
	pool := newPool(t, lbpool.Config{
		Name: "web", Servers: []lbpool.ServerConfig{{Address: server, MaxConnections: 1}}, Queue: lbpool.Queue{Length: 5, Timeout: time.Minute},
	})
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}})
	transport := new(lbpool.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RequestURI = ""
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
		w.WriteHeader(res.StatusCode)
	}))
	var all sync.WaitGroup
	send := func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) }
	all.Go(send)
	testwait.Receive(t, arrived, "the first request")
	if n := vs.Stats().InFlight; n != 1 {
		t.Errorf("%d in flight", n)
	}
	all.Go(send)
	testwait.Until(t, "the second request", func() bool { return pool.Stats().Waiting == 1 })
	goOn <- struct{}{}
	testwait.Receive(t, arrived, "the second request")
	goOn <- struct{}{}
	all.Wait()
	st := vs.Stats()
	if p := st.Pools[0]; len(p.Codes) != 1 || p.Codes[0] != (limpet.Count{Label: "204", N: 2}) || p.QueueWait.Count() != 1 || p.QueueWait.Sum <= 0 || p.Response.Count() != 2 {
		t.Errorf("pool %+v", p)
	}
	if st.InFlight != 0 {
		t.Errorf("%d in flight at the end", st.InFlight)
	}
}

// A connection that is upgraded counts as such while it lasts, and has no
// duration.
func TestStatsOfUpgrades(t *testing.T) {
	server := startServer(t, "127.0.1.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	}))
	recs := newRecords()
	vs, site := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: server})}, OnComplete: recs.add})
	c := site.dial(t, "")
	res, err := http.ReadResponse(send(t, c, "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: x\n\n"), nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	if st := vs.Stats(); st.Upgraded != 1 || st.InFlight != 0 {
		t.Errorf("upgraded %d, in flight %d", st.Upgraded, st.InFlight)
	}
	c.Close()
	recs.next(t)
	st := vs.Stats()
	if st.Upgraded != 0 || st.InFlight > 1 || st.Duration.Count() != 0 || st.FirstByte.Count() != 1 || st.Codes[0] != (limpet.Count{Label: "1xx", N: 1}) {
		t.Errorf("at the end: %+v", st)
	}
}

// Records that a rate keeps from the log are counted by class.
func TestStatsOfDroppedLines(t *testing.T) {
	var lines syncBuffer
	vs := newVirtualService(t, limpet.Config{
		Logger:  slog.New(slog.NewTextHandler(&lines, nil)),
		Logging: limpet.Logging{SignificantRate: 1, FilteredRate: -1, OtherRate: 1},
	})
	h := vs.Wrap(http.HandlerFunc(saying))
	const n = 20
	for range n {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/200", nil))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/500", nil))
	}
	logged := map[string]uint64{
		"other": uint64(strings.Count(lines.String(), "status=200")), "significant": uint64(strings.Count(lines.String(), "status=500")),
	}
	got := map[string]uint64{}
	for _, c := range vs.Stats().LogDropped {
		got[c.Label] = c.N + logged[c.Label]
	}
	if diff := cmp.Diff(map[string]uint64{"other": n, "significant": n}, got); diff != "" {
		t.Errorf("logged and dropped (-want +got):\n%s\n%s", diff, lines.String())
	}
}

// Each listener counts its own connections, and says why it refused some.
func TestStatsOfListeners(t *testing.T) {
	vs := newVirtualService(t, limpet.Config{
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
			Name: "no", Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Op: policy.IsIn, Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.2.9/32")}}}, Action: policy.ActionReset,
		}}},
		Clients: limpet.Clients{Connections: limpet.ConnectionLimits{MaxPerClient: 1}},
	})
	var sites []*site
	for range 2 {
		sites = append(sites, startSite(t, http1, vs.Listener(listen(t, "")), vs.Wrap(http.HandlerFunc(saying))))
	}
	ask := func(s *site, local string) net.Conn {
		c := s.dial(t, local)
		if _, err := http.ReadResponse(send(t, c, "GET /204 HTTP/1.1\nHost: a\n\n"), nil); err != nil {
			t.Fatal(err)
		}
		return c
	}
	refused := func(s *site, local string) {
		// The connection may be reset before Dial returns.
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}).Dial("tcp", s.Addr)
		if errors.Is(err, syscall.ECONNRESET) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("not refused")
		}
	}
	first := ask(sites[0], "127.0.2.1")
	ask(sites[1], "127.0.2.2")
	refused(sites[0], "127.0.2.1") // has one
	refused(sites[0], "127.0.2.9")
	refused(sites[1], "127.0.2.9")
	want := []limpet.ListenerStats{
		{Address: sites[0].Addr, Open: 1, Accepted: 3, Refused: counted("max_per_client", 1, "rule", 1)},
		{Address: sites[1].Addr, Open: 1, Accepted: 2, Refused: counted("rule", 1)},
	}
	if diff := cmp.Diff(want, vs.Stats().Listeners); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	first.Close()
	testwait.Until(t, "the end of a connection", func() bool { return vs.Stats().Listeners[0].Open == 0 })
	// A listener that is closed stays until another one is made.
	_ = sites[0].http.Close()
	if n := len(vs.Stats().Listeners); n != 2 {
		t.Errorf("%d listeners after one was closed", n)
	}
	third := vs.Listener(listen(t, ""))
	defer third.Close()
	if all := vs.Stats().Listeners; len(all) != 2 || all[0].Address != sites[1].Addr || all[1].Address != third.Addr().String() {
		t.Errorf("listeners %+v", all)
	}
}

// Handshakes are counted for their listener, by version, and failed ones by
// reason.
func TestStatsOfHandshakes(t *testing.T) {
	vs := newVirtualService(t, limpet.Config{})
	example := httptest.NewTLSServer(vs) // for its certificate
	t.Cleanup(example.Close)
	start := func(cfg *tls.Config) (addr string) {
		srv, ln := limpet.NewServer(vs.Wrap(http.HandlerFunc(saying))), vs.Listener(listen(t, ""))
		cfg.Certificates = example.TLS.Certificates
		srv.TLSConfig = cfg
		done := make(chan error, 1)
		go func() { done <- srv.ServeTLS(ln, "", "") }()
		t.Cleanup(func() { srv.Close(); <-done })
		return ln.Addr().String()
	}
	plain := start(&tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}})
	strict := start(&tls.Config{ClientAuth: tls.RequireAnyClientCert})
	named := start(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, fmt.Errorf("no certificate for this name")
	}})

	trusting := example.Client().Transport.(*http.Transport).TLSClientConfig
	shake := func(addr string, edit func(*tls.Config)) error {
		cfg := trusting.Clone()
		cfg.ServerName = "example.com"
		if edit != nil {
			edit(cfg)
		}
		c, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err = io.WriteString(c, "GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	raw := func(addr, text string) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13, tls.VersionTLS13} {
		if err := shake(plain, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }); err != nil {
			t.Error(err)
		}
	}
	for name, edit := range map[string]func(*tls.Config){
		"version": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"cipher": func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}
		},
		"client alert": func(c *tls.Config) { c.RootCAs = nil },
	} {
		if err := shake(plain, edit); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if shake(strict, nil) == nil || shake(named, nil) == nil {
		t.Error("no error")
	}
	raw(plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	raw(plain, "\x00\x00\x00\x00\x00\x00\x00\x00")
	raw(plain, "")
	want := []limpet.ListenerStats{
		{
			Address: plain, Accepted: 9, Handshakes: counted("1.2", 1, "1.3", 2),
			HandshakeErrors: counted("cipher", 1, "client_alert", 1, "closed", 1, "not_tls", 2, "version", 1),
		},
		{Address: strict, Accepted: 1, HandshakeErrors: counted("client_cert", 1)},
		{Address: named, Accepted: 1, HandshakeErrors: counted("sni", 1)},
	}
	var failed uint64
	for _, l := range want {
		for _, c := range l.HandshakeErrors {
			failed += c.N
		}
	}
	settled := func() bool {
		var counted uint64
		open := 0
		for _, l := range vs.Stats().Listeners {
			open += l.Open
			for _, c := range l.HandshakeErrors {
				counted += c.N
			}
		}
		return open == 0 && counted == failed
	}
	testwait.Until(t, "the end of the connections", settled)
	st := vs.Stats()
	if diff := cmp.Diff(want, st.Listeners); diff != "" || st.FailedHandshakes != failed {
		t.Errorf("%d failed (-want +got):\n%s", st.FailedHandshakes, diff)
	}
}

// Watchers get the records that they ask for, each its own and complete, also
// after an update, and none once they are stopped.
func TestWatch(t *testing.T) {
	var mu sync.Mutex
	got := map[string][]string{}
	watch := func(name string) func(*limpet.Record) {
		return func(r *limpet.Record) {
			mu.Lock()
			defer mu.Unlock()
			got[name] = append(got[name], fmt.Sprint(r.VirtualService, " ", r.Method, " ", r.Path, " ", r.Status))
			r.Path = "changed by " + name
		}
	}
	vs := newVirtualService(t, limpet.Config{Name: "shop"})
	h := vs.Wrap(http.HandlerFunc(saying))
	ask := func(path string) {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	ask("/200")
	stop := vs.Watch(true, watch("significant"))
	ask("/201")
	ask("/500")
	defer vs.Watch(false, watch("all"))()
	ask("/202")
	ask("/501")
	if err := vs.Update(limpet.Config{Name: "market", OnComplete: func(r limpet.Record) { watch("OnComplete")(&r) }}); err != nil {
		t.Fatal(err)
	}
	ask("/502")
	stop()
	stop()
	ask("/503")
	want := map[string][]string{
		"significant": {"shop GET /500 500", "shop GET /501 501", "market GET /502 502"},
		"all":         {"shop GET /202 202", "shop GET /501 501", "market GET /502 502", "market GET /503 503"},
		"OnComplete":  {"market GET /502 502", "market GET /503 503"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// A record that a watcher keeps does not change with later requests.
func TestWatchedRecordsAreKept(t *testing.T) {
	var kept []*limpet.Record
	vs := newVirtualService(t, limpet.Config{})
	defer vs.Watch(false, func(r *limpet.Record) { kept = append(kept, r) })()
	h := vs.Wrap(http.HandlerFunc(saying))
	var want []string
	for status := 200; status < 240; status++ {
		path := "/" + strconv.Itoa(status)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		want = append(want, path)
	}
	var got []string
	for _, r := range kept {
		got = append(got, r.Path)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

// Config is what Update accepts, and nobody else's slices.
func TestConfigInForce(t *testing.T) {
	pools := []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})}
	rules := []policy.SecurityRule{{Name: "no", Match: beneath("/no"), Action: policy.Respond{Status: 403}}}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	vs := newVirtualService(t, limpet.Config{
		Name: "shop", Pools: pools, Policies: limpet.Policies{HTTPSecurity: rules}, Clients: limpet.Clients{TrustedProxies: proxies},
	})
	first := pools[0]
	pools[0], rules[0].Name, proxies[0] = nil, "other", netip.Prefix{} // they are ours
	cfg := vs.Config()
	if cfg.Name != "shop" || cfg.Pools[0] != first || cfg.HTTPSecurity[0].Name != "no" || cfg.TrustedProxies[0].Bits() != 8 {
		t.Fatalf("configuration %+v", cfg)
	}
	cfg.Pools[0], cfg.HTTPSecurity[0].Name = nil, "other"
	if cfg = vs.Config(); cfg.Pools[0] != first || cfg.HTTPSecurity[0].Name != "no" {
		t.Error("a caller has changed the configuration in force")
	}
	cfg.Name = "market"
	if err := vs.Update(cfg); err != nil {
		t.Fatal(err)
	}
	if got := vs.Config().Name; got != "market" {
		t.Errorf("name %q after an update", got)
	}
	if in, health := vs.HealthInput(), vs.Health(); in.Servers != 1 || in.ServersUp != 1 || health != limpet.DefaultHealth(in) {
		t.Errorf("health %+v of %+v", health, in)
	}
}
