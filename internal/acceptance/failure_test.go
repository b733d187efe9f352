package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// TestServerFailures checks what a client is told when no server answers, and
// what the record says.
func TestServerFailures(t *testing.T) {
	failing := func(err error) answering {
		return func(*http.Request) (*http.Response, error) { return nil, err }
	}
	for _, test := range []struct {
		name        string
		transport   answering
		gone        bool // is the client
		status      int
		significant []limpet.Significance
		is          error
	}{
		{
			"cannot connect", failing(&net.OpError{Op: "dial", Err: errors.New("refused")}), false,
			502, []limpet.Significance{limpet.ServerFailed, limpet.Status5xx}, lbpool.ErrConnect,
		},
		{
			"breaks", failing(io.ErrUnexpectedEOF), false,
			502, []limpet.Significance{limpet.ServerFailed, limpet.Status5xx}, io.ErrUnexpectedEOF,
		},
		{
			"too late", failing(os.ErrDeadlineExceeded), false,
			504, []limpet.Significance{limpet.ServerTimeout, limpet.Status5xx}, lbpool.ErrTimeout,
		},
		{
			"client gone", failing(context.Canceled), true,
			499, []limpet.Significance{limpet.ClientGone}, lbpool.ErrAborted,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			recs := newRecords()
			vs := newVirtualService(t, limpet.Config{
				Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})}, Transport: test.transport, OnComplete: recs.add,
			})
			r := httptest.NewRequest("GET", "/", nil)
			if test.gone {
				ctx, cancel := context.WithCancel(r.Context())
				cancel()
				r = r.WithContext(ctx)
			}
			w := httptest.NewRecorder()
			vs.ServeHTTP(w, r)
			rec := recs.next(t)
			written := test.status
			if test.gone {
				written = http.StatusOK // the recorder's, for nothing
			}
			if w.Code != written || w.Body.Len() == 0 != test.gone || rec.Status != test.status || !errors.Is(rec.Error, test.is) || !slices.Equal(rec.Significant, test.significant) {
				t.Errorf("status %d, record %d, %v, %v", w.Code, rec.Status, rec.Significant, rec.Error)
			}
			if rec.Server.String() != "10.0.0.1:80" || rec.Tried != 1 {
				t.Errorf("server %v, %d tried", rec.Server, rec.Tried)
			}
		})
	}
}

// Another server takes over from one that cannot be reached, before the
// client notices.
func TestReselect(t *testing.T) {
	live := startServers(t, 1)
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: deadAddr(t, "127.0.1.9:0")}, live[0])}, OnComplete: recs.add,
	})
	res, body := fetch(t, site.client(t), newRequest(t, "POST", site.URL, strings.NewReader("body")))
	if res.StatusCode != 200 || body != "server 1" {
		t.Errorf("%s %q", res.Status, body)
	}
	if rec := recs.next(t); rec.Tried != 2 || rec.Server.String() != live[0].Address || !slices.Equal(rec.Significant, []limpet.Significance{limpet.ServerReselect}) {
		t.Errorf("record: %+v", rec)
	}
}

// Rules whose group is not there deny.
func TestHTTPSecurityFails(t *testing.T) {
	recs := newRecords()
	groups := newGroups(t, "Office", "127.0.0.0/8")
	_, site := serve(t, http1, limpet.Config{
		IPGroups: groups, OnComplete: recs.add, Pools: []*lbpool.Pool{poolOf(t, startServers(t, 1)...)},
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{
			Name: "office", Action: policy.Allow{}, Match: policy.Match{ClientIP: &policy.IPMatch{Groups: []string{"Office"}}},
		}}},
		Scripts: []limpet.Script{onRequest(t, "group", `avi.vs.log(avi.ipgroup.contains("Office", avi.vs.client_ip()))`)},
	})
	if status, _ := get(t, site.client(t), site.URL); status != 200 {
		t.Errorf("status %d", status)
	}
	if rec := recs.next(t); rec.SecurityRule != "office" || len(rec.Log) != 1 || !strings.HasSuffix(rec.Log[0], " true") {
		t.Errorf("record: %+v", rec)
	}
	groups.Remove("Office")
	if status, _ := get(t, site.client(t), site.URL); status != 500 {
		t.Errorf("status %d", status)
	}
	if rec := recs.next(t); !errors.Is(rec.Error, ipgroup.ErrUnknownGroup) || !slices.Contains(rec.Significant, limpet.PolicyDrop) || len(rec.Log) > 0 {
		t.Errorf("record: %+v", rec)
	}
}

// brokenTables cannot be asked, or only when they are to be written.
type brokenTables struct {
	*persistence.Store
	swap, lookup error
}

func (t *brokenTables) CompareAndSwap(ctx context.Context, table, key, before, after string) (bool, error) {
	if t.swap != nil {
		return false, t.swap
	}
	return t.Store.CompareAndSwap(ctx, table, key, before, after)
}

func (t *brokenTables) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	if t.lookup != nil {
		return "", 0, false, t.lookup
	}
	return t.Store.Lookup(ctx, table, key, extend)
}

func TestTablesFail(t *testing.T) {
	broken := errors.New("store is away")
	tables := &brokenTables{}
	s := newSticky(t, http1, func(cfg *limpet.Config, _ *lbpool.Config) {
		tables.Store = cfg.Tables.(*persistence.Store)
		cfg.Tables = tables
	})
	tables.swap = broken
	s.current.Disable()
	// The client is served, though its entry cannot be rewritten.
	if r := s.request(200, limpet.RepinDisabled); !errors.Is(r.Error, broken) {
		t.Errorf("error %v", r.Error)
	}
	s.wantEntry(s.current.Addr())
	// A script that cannot ask its table fails.
	tables.lookup = broken
	if r := s.request(500, limpet.OutcomeNone); len(r.ScriptErrors) != 1 || !errors.Is(r.ScriptErrors[0], broken) {
		t.Errorf("script errors %v", r.ScriptErrors)
	}
}

// TestWrapForwards wraps a proxy of the program's own, which follows the
// route that the virtual service has chosen.
func TestWrapForwards(t *testing.T) {
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Pools:      []*lbpool.Pool{poolOf(t, startServers(t, 3)...)},
		Scripts:    []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
		OnComplete: recs.add,
	})
	transport := &lbpool.Transport{Base: lbpool.NewBase()}
	t.Cleanup(transport.CloseIdleConnections)
	site := startSite(t, http1, listen(t, ""), vs.Wrap(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) { pr.SetXForwarded() }, Transport: transport,
	}))
	c := site.client(t)
	_, first := get(t, c, site.URL)
	if rec := recs.next(t); rec.Outcome != limpet.OutcomeMiss || !rec.Server.IsValid() {
		t.Errorf("record: %+v", rec)
	}
	for range 4 {
		if _, again := get(t, c, site.URL); again != first {
			t.Errorf("%s after %s", again, first)
		}
		if rec := recs.next(t); rec.Outcome != limpet.OutcomeHit {
			t.Errorf("record: %+v", rec)
		}
	}
}

// A connection that was judged when it was accepted serves as any other does.
func TestListenerServesFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	content := strings.Repeat("content ", 50_000)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	vs := newVirtualService(t, limpet.Config{Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{Name: "all", Action: policy.ActionAllow}}}})
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, name)
	})))
	if _, body := get(t, site.client(t), site.URL); body != content {
		t.Errorf("%d bytes, want %d", len(body), len(content))
	}
}

// late is a store that waits for an answer until time is up.
type late struct{ *persistence.Store }

func (late) Lookup(ctx context.Context, _, _ string, _ time.Duration) (string, time.Duration, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	<-ctx.Done()
	return "", 0, false, ctx.Err()
}

// The timer of a table's time-out is still at work in its goroutine when the
// request goes on. That must not disturb it.
func TestScriptTimerAndRequest(t *testing.T) {
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"})}, Transport: answering(ok), OnComplete: recs.add,
		Tables:  late{persistence.NewStore(persistence.Options{})},
		Scripts: []limpet.Script{failOpen(onRequest(t, "late", `avi.vs.table_lookup("key")`))},
	})
	var wg sync.WaitGroup
	for range 16 { // a busy machine has its timers late
		wg.Go(func() {
			for range 50 {
				w := httptest.NewRecorder()
				vs.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				if w.Code != 200 {
					t.Errorf("status %d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	for _, rec := range recs.take(t, 16*50) {
		if len(rec.ScriptErrors) != 1 {
			t.Errorf("record %+v", rec)
		}
	}
}

// Over a Unix socket no client has an address. A single one had servers
// ejected: each of its failures stood for another client.
func TestClientsWithoutAddressEjectNoServer(t *testing.T) {
	servers := startServersWith(t, 2, func(int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	})
	pool := poolOf(t, servers...)
	vs := newVirtualService(t, limpet.Config{Pools: []*lbpool.Pool{pool}})
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	srv := limpet.NewServer(vs)
	done := make(chan error)
	go func() { done <- srv.Serve(vs.Listener(ln)) }()
	defer func() { srv.Close(); <-done }()
	for range 20 {
		c, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, send(t, c, "GET / HTTP/1.1\nHost: a\nConnection: close\n\n"))
		c.Close()
	}
	for _, s := range pool.Servers() {
		if s.State() == lbpool.Ejected || s.Stats().Failures == 0 {
			t.Errorf("%v is %s, after %d failures", s.Addr(), s.State(), s.Stats().Failures)
		}
	}
}

// A client that asked for a page which crashes, three times, took a healthy
// server out of service for everybody. Now such answers are blamed on a server
// when several clients get them. A server that is gone leaves at once.
func TestOneClientEjectsNoServer(t *testing.T) {
	var sites []*site
	var servers []lbpool.ServerConfig
	for i := range 2 {
		s := startSite(t, http1, listen(t, fmt.Sprintf("127.0.1.%d:0", i+1)), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/crash":
				panic(http.ErrAbortHandler)
			case "/break":
				w.Header().Set("Content-Length", "2")
				_, _ = io.WriteString(w, "x")
				panic(http.ErrAbortHandler)
			}
		}))
		sites, servers = append(sites, s), append(servers, lbpool.ServerConfig{Address: s.Addr})
	}
	pool := poolOf(t, servers...)
	_, s := serve(t, http1, limpet.Config{Pools: []*lbpool.Pool{pool}})
	ask := func(client, path string) {
		_, _ = io.Copy(io.Discard, send(t, s.dial(t, client), "GET "+path+" HTTP/1.1\nHost: a\nConnection: close\n\n"))
	}
	ejections := func() (n uint64) {
		for _, s := range pool.Servers() {
			n += s.Stats().Ejections
		}
		return n
	}
	for range 20 {
		ask("127.0.0.2", "/crash")
		ask("127.0.0.2", "/break")
	}
	if n := ejections(); n != 0 {
		t.Fatalf("one client has ejected servers %d times", n)
	}
	for range 4 {
		for _, client := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
			ask(client, "/crash")
			ask(client, "/break")
		}
	}
	if n := ejections(); n != 1 {
		t.Errorf("three clients have ejected servers %d times, want the one that may be", n)
	}
	up := slices.IndexFunc(pool.Servers(), func(s *lbpool.Server) bool { return s.State() != lbpool.Ejected })
	pool.Servers()[1-up].Disable()
	pool.Servers()[1-up].Enable()
	ask("127.0.0.2", "/") // nothing is blamed on the other any more
	ask("127.0.0.2", "/")
	sites[up].stop()
	for range 6 {
		ask("127.0.0.2", "/")
	}
	if state := pool.Servers()[up].State(); state != lbpool.Ejected {
		t.Errorf("a server that is gone is %s", state)
	}
}
