package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/internal/testrace"
	"github.com/limpetlb/limpet/internal/testwait"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
)

// manyClients is how many clients the listing has to keep apart.
func manyClients() int {
	if testrace.Enabled {
		return 250
	}
	if testing.Short() {
		return 50
	}
	return 1000
}

// A loyal client has an address and a port of its own, which it keeps from
// connection to connection.
type loyalClient struct {
	*http.Client
	addr netip.AddrPort
}

func newLoyalClient(t testing.TB, s *site, i int, reuse bool) loyalClient {
	// Ports of five digits, below those that the system gives away: keys of
	// the listing have no separator between address and port. The network is
	// the process's own, so that several may test at a time.
	network := byte(16 + os.Getpid()%200)
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, network, byte(i / 250), byte(i%250 + 1)}), uint16(20_000+i))
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(addr), Timeout: testwait.Limit}
	tr := s.transport(t)
	tr.DisableKeepAlives = !reuse
	tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		for {
			c, err := dialer.DialContext(ctx, network, address)
			if errors.Is(err, syscall.EADDRINUSE) && ctx.Err() == nil {
				runtime.Gosched() // the transport is about to close the connection before
				continue
			}
			if err == nil {
				// Closing leaves nothing behind that keeps the port.
				err = c.(*net.TCPConn).SetLinger(0)
			}
			return c, err
		}
	}
	return loyalClient{&http.Client{Transport: tr, Timeout: testwait.Limit}, addr}
}

// TestCustomPersistence is the heart of the product: the published listing,
// verbatim, with a thousand clients.
func TestCustomPersistence(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		protocol protocol
		reuse    bool // of a client's connection
	}{
		{"kept connections", http1, true},
		{"fresh connections from the same address and port", http1, false},
		{"HTTP/2 over TLS", http2TLS, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			const requests, parallel = 5, 8
			n := manyClients()
			pool := poolOf(t, startServers(t, 3)...)
			recs := newRecords()
			store := persistence.NewStore(persistence.Options{})
			vs, site := serve(t, test.protocol, limpet.Config{
				Pools:      []*lbpool.Pool{pool},
				Tables:     store,
				Scripts:    []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
				OnComplete: recs.add,
			})

			queue := make(chan loyalClient, n)
			for i := range n {
				queue <- newLoyalClient(t, site, i, test.reuse)
			}
			close(queue)
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					for c := range queue {
						var first string
						for i := range requests {
							res, err := c.Get(site.URL)
							if err != nil {
								t.Error(err)
								break
							}
							body, err := io.ReadAll(res.Body)
							res.Body.Close()
							if err != nil || res.StatusCode != http.StatusOK || res.ProtoMajor != test.protocol.major() {
								t.Errorf("%v: %s %s %v", c.addr, res.Proto, res.Status, err)
							}
							if i == 0 {
								first = string(body)
							} else if string(body) != first {
								t.Errorf("%v went to %q, and before to %q", c.addr, body, first)
							}
						}
						c.CloseIdleConnections()
					}
				})
			}
			wg.Wait()
			if t.Failed() {
				t.FailNow()
			}

			type history struct{ misses, hits int }
			clients := map[netip.AddrPort]history{}
			first := map[netip.AddrPort]int{} // clients by server
			for _, r := range recs.take(t, n*requests) {
				h := clients[r.Client]
				switch r.Outcome {
				case limpet.OutcomeMiss:
					h.misses++
					first[r.Server]++
				case limpet.OutcomeHit:
					h.hits++
				default:
					t.Errorf("%v: persistence %v", r.Client, r.Outcome)
				}
				clients[r.Client] = h
				if len(r.Significant) > 0 || r.Status != http.StatusOK || r.Pool != "my_pool" || r.Tried != 1 {
					t.Errorf("record: %+v", r)
				}
			}
			recs.none(t)
			if len(clients) != n {
				t.Errorf("%d clients in the records, want %d", len(clients), n)
			}
			for addr, h := range clients {
				if h != (history{1, requests - 1}) {
					t.Errorf("%v: %+v, want one miss and then hits", addr, h)
				}
			}
			// The servers take exact turns, hits leave the turns alone.
			if len(first) != 3 {
				t.Errorf("clients on %d servers, want 3", len(first))
			}
			for server, count := range first {
				if count < n/3 || count > n/3+1 {
					t.Errorf("server %v: %d of %d clients", server, count, n)
				}
			}
			if got := store.Stats().Entries; got != n {
				t.Errorf("%d entries, want %d", got, n)
			}
			st := vs.Stats()
			if st.Requests != uint64(n*requests) || st.Misses != uint64(n) || st.Hits != uint64(n*(requests-1)) || st.Repins != 0 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}

// sticky is a virtual service with the listing and one client, who has been
// served once.
type sticky struct {
	*testing.T
	vs      *limpet.VirtualService
	cfg     limpet.Config
	poolCfg lbpool.Config
	pool    *lbpool.Pool
	sites   []*httptest.Server
	store   *persistence.Store
	recs    *records
	site    *site
	client  *http.Client
	key     string // of the client's entry
	current *lbpool.Server
}

func newSticky(t *testing.T, p protocol, edit func(*limpet.Config, *lbpool.Config)) *sticky {
	t.Helper()
	s := &sticky{T: t, recs: newRecords(), store: persistence.NewStore(persistence.Options{})}
	pool := lbpool.Config{Name: "my_pool", Algorithm: lbpool.RoundRobin()}
	for i := range 3 {
		srv := &httptest.Server{
			Listener: listen(t, fmt.Sprintf("127.0.1.%d:0", i+1)),
			Config:   &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})},
		}
		srv.Start()
		t.Cleanup(srv.Close)
		s.sites = append(s.sites, srv)
		pool.Servers = append(pool.Servers, lbpool.ServerConfig{Address: srv.Listener.Addr().String()})
	}
	s.cfg = limpet.Config{
		Tables: s.store, Scripts: []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
		OnComplete: s.recs.add,
	}
	if edit != nil {
		edit(&s.cfg, &pool)
	}
	s.poolCfg, s.pool = pool, newPool(t, pool)
	s.cfg.Pools = []*lbpool.Pool{s.pool}
	s.vs, s.site = serve(t, p, s.cfg)
	s.client = s.site.client(t)
	first := s.request(http.StatusOK, limpet.OutcomeMiss)
	s.key = first.Client.Addr().String() + fmt.Sprint(first.Client.Port())
	s.use(first.Server)
	s.wantEntry(first.Server)
	return s
}

func (s *sticky) use(addr netip.AddrPort) {
	s.current, _, _ = s.pool.Lookup(addr.String(), 0)
}

// request sends one request and checks what came of it.
func (s *sticky) request(status int, p limpet.Outcome) limpet.Record {
	s.Helper()
	got, _ := get(s, s.client, s.site.URL)
	r := s.recs.next(s)
	if got != status || r.Status != status || r.Outcome != p {
		s.Errorf("status %d, persistence %v; want %d, %v (error %v, script errors %v)", got, r.Outcome, status, p, r.Error, r.ScriptErrors)
	}
	return r
}

func (s *sticky) wantEntry(server netip.AddrPort) {
	s.Helper()
	value, _, ok, _ := s.store.Lookup(context.Background(), "", s.key, 0)
	if want := server.Addr().String(); !ok || value != want {
		s.Errorf("entry %q, %v; want %q", value, ok, want)
	}
}

// repins checks that the client gets another server, and keeps it.
func (s *sticky) repins(why limpet.Outcome) {
	s.Helper()
	old := s.current.Addr()
	r := s.request(http.StatusOK, why)
	if r.Server == old || !r.Server.IsValid() {
		s.Errorf("went to %v, which cannot be", r.Server)
	}
	want := []limpet.Significance{limpet.ServerChange}
	if r.Tried > 1 {
		want = append(want, limpet.ServerReselect)
	}
	if !slices.Equal(r.Significant, want) {
		s.Errorf("significant: %v", r.Significant)
	}
	s.wantEntry(r.Server)
	for range 3 {
		if again := s.request(http.StatusOK, limpet.OutcomeHit); again.Server != r.Server {
			s.Errorf("went to %v after %v", again.Server, r.Server)
		}
	}
	if got := s.vs.Stats(); got.Repins != 1 || got.Hits != 3 || got.Misses != 1 {
		s.Errorf("stats: %+v", got)
	}
}

func (s *sticky) stopCurrent() {
	for _, srv := range s.sites {
		if srv.Listener.Addr().String() == s.current.Addr().String() {
			srv.Close()
		}
	}
}

func TestRepin(t *testing.T) {
	t.Run("down", func(t *testing.T) {
		s := newSticky(t, http1, nil)
		s.stopCurrent()
		s.repins(limpet.RepinDown)
	})
	t.Run("disabled", func(t *testing.T) {
		s := newSticky(t, http1, nil)
		s.current.Disable()
		s.repins(limpet.RepinDisabled)
	})
	t.Run("gone", func(t *testing.T) {
		s := newSticky(t, http1, nil)
		s.cfg.Pools = []*lbpool.Pool{s.others()}
		if err := s.vs.Update(s.cfg); err != nil {
			t.Fatal(err)
		}
		s.repins(limpet.RepinGone)
	})
	t.Run("full", func(t *testing.T) {
		s := newSticky(t, http1, func(_ *limpet.Config, pool *lbpool.Config) {
			for i := range pool.Servers {
				pool.Servers[i].MaxConnections = 1
			}
		})
		lease, err := s.pool.Acquire(lbpool.Hint{Server: s.current.Addr()})
		if err != nil || lease.Server != s.current {
			t.Fatal(lease, err)
		}
		defer lease.Release(lbpool.Outcome{})
		s.repins(limpet.RepinFull)
	})
	t.Run("entry with a port", func(t *testing.T) {
		s := newSticky(t, http1, nil)
		// As another script might have stored it.
		if ok, err := s.store.Put(t.Context(), "", s.key, s.current.Addr().String(), time.Minute); !ok || err != nil {
			t.Fatal(ok, err)
		}
		s.current.Disable()
		r := s.request(http.StatusOK, limpet.RepinDisabled)
		value, _, _, _ := s.store.Lookup(t.Context(), "", s.key, 0)
		if want := r.Server.String(); value != want {
			t.Errorf("entry %q, want %q", value, want)
		}
		if again := s.request(http.StatusOK, limpet.OutcomeHit); again.Server != r.Server {
			t.Errorf("went to %v after %v", again.Server, r.Server)
		}
	})
}

// others is a pool of the servers that are not the current one.
func (s *sticky) others() *lbpool.Pool {
	s.Helper()
	cfg := s.poolCfg
	cfg.Algorithm = lbpool.RoundRobin()
	cfg.Servers = slices.DeleteFunc(slices.Clone(cfg.Servers), func(c lbpool.ServerConfig) bool {
		return c.Address == s.current.Addr().String()
	})
	return newPool(s, cfg)
}

func TestRepickNever(t *testing.T) {
	never := func(_ *limpet.Config, pool *lbpool.Config) { pool.Repick = lbpool.RepickNever }
	refused := func(s *sticky, status int, why limpet.Outcome, significant ...limpet.Significance) {
		s.Helper()
		old := s.current.Addr()
		r := s.request(status, why)
		if !slices.Equal(r.Significant, append(significant, limpet.ServerChange, limpet.Status5xx)) || r.Error == nil {
			s.Errorf("significant: %v, error %v", r.Significant, r.Error)
		}
		s.wantEntry(old)
	}
	t.Run("disabled", func(t *testing.T) {
		s := newSticky(t, http1, never)
		s.current.Disable()
		refused(s, http.StatusServiceUnavailable, limpet.RepinDisabled, limpet.NoServer)
		s.current.Enable()
		if r := s.request(http.StatusOK, limpet.OutcomeHit); r.Server != s.current.Addr() {
			t.Errorf("went to %v", r.Server)
		}
	})
	t.Run("gone", func(t *testing.T) {
		s := newSticky(t, http1, never)
		s.cfg.Pools = []*lbpool.Pool{s.others()}
		if err := s.vs.Update(s.cfg); err != nil {
			t.Fatal(err)
		}
		refused(s, http.StatusServiceUnavailable, limpet.RepinGone, limpet.NoServer)
	})
	t.Run("down", func(t *testing.T) {
		s := newSticky(t, http1, never)
		s.stopCurrent()
		r := s.request(http.StatusBadGateway, limpet.OutcomeNone) // nobody has answered
		if !slices.Equal(r.Significant, []limpet.Significance{limpet.ServerFailed, limpet.Status5xx}) || r.Error == nil {
			t.Errorf("significant: %v, error %v", r.Significant, r.Error)
		}
		s.wantEntry(s.current.Addr())
	})
}

// Without select by key the published listing passes its key where a server
// is expected.
func TestStrictSelect(t *testing.T) {
	s := newSticky(t, http1, func(cfg *limpet.Config, _ *lbpool.Config) { cfg.StrictSelect = true })
	r := s.request(http.StatusInternalServerError, limpet.OutcomeNone)
	if len(r.ScriptErrors) != 1 || r.ScriptErrors[0].Line != 8 || r.Server.IsValid() {
		t.Errorf("script errors %v, server %v", r.ScriptErrors, r.Server)
	}
	s.wantEntry(s.current.Addr())
}

// Many requests of one client find out at the same time that their server
// cannot be had. However they are spread, the entry is rewritten once, and
// all later requests go to one server.
func TestRepinAtOnce(t *testing.T) {
	const n = 32
	var mu sync.Mutex
	waiting, release := 0, make(chan struct{})
	servers := startServersWith(t, 4, func(int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/together" {
				return
			}
			mu.Lock()
			if waiting++; waiting == n {
				close(release)
			}
			mu.Unlock()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
	})
	s := newSticky(t, http2TLS, func(_ *limpet.Config, pool *lbpool.Config) { pool.Servers = servers })
	s.current.Disable()

	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if res, _, err := try(s.client, newRequest(s, "GET", s.site.URL+"/together", nil)); err != nil || res.StatusCode != http.StatusOK {
				t.Error(res, err)
			}
		})
	}
	wg.Wait()
	used := map[netip.AddrPort]bool{}
	for _, r := range s.recs.take(t, n) {
		if r.Outcome != limpet.RepinDisabled {
			t.Errorf("persistence %v", r.Outcome)
		}
		used[r.Server] = true
	}
	if len(used) < 2 {
		t.Errorf("the requests met on %d server, which tests nothing", len(used))
	}
	winner := s.request(http.StatusOK, limpet.OutcomeHit).Server
	s.wantEntry(winner)
	if !used[winner] {
		t.Errorf("winner %v was not used", winner)
	}
	for range n {
		if r := s.request(http.StatusOK, limpet.OutcomeHit); r.Server != winner {
			t.Errorf("went to %v after %v", r.Server, winner)
		}
	}
}

// answering is a transport whose servers are not there.
type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// ok answers every request with status 200.
func ok(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: r,
	}, nil
}

// The listing's entry lives for 300 seconds from its insertion, and each
// look-up adds 300 seconds.
func TestEntryExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recs := newRecords()
		vs := newVirtualService(t, limpet.Config{
			Pools:      []*lbpool.Pool{poolOf(t, lbpool.ServerConfig{Address: "10.0.0.1"}, lbpool.ServerConfig{Address: "10.0.0.2"})},
			Transport:  answering(ok),
			Scripts:    []limpet.Script{compile(t, "Custom Persistence", customPersistence)},
			OnComplete: recs.add,
		})
		request := func(want limpet.Outcome) netip.AddrPort {
			t.Helper()
			vs.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			r := recs.next(t)
			if r.Outcome != want {
				t.Errorf("persistence %v, want %v", r.Outcome, want)
			}
			return r.Server
		}
		first := request(limpet.OutcomeMiss)
		time.Sleep(299 * time.Second)
		if again := request(limpet.OutcomeHit); again != first {
			t.Errorf("went to %v after %v", again, first)
		}
		time.Sleep(300 * time.Second)
		if again := request(limpet.OutcomeHit); again != first {
			t.Errorf("went to %v after %v", again, first)
		}
		time.Sleep(301 * time.Second)
		second := request(limpet.OutcomeExpired)
		if second == first {
			t.Errorf("the server's turn came again: %v", second)
		}
		if again := request(limpet.OutcomeHit); again != second {
			t.Errorf("went to %v after %v", again, second)
		}
	})
}

// byReferer is the second published listing, with its response part mended:
// it sticks by the page that clients come from.
const byReferer = `-- HTTP Request Event --
pool = "my_pool"
client = avi.http.get_header("referer")
timeout = "300"

if client then
   server = avi.vs.table_lookup(client)
   if server then
      avi.pool.select(pool, client)
   end
end


-- HTTP Response Event --
if client then
   if not server then
      avi.vs.table_insert(client, avi.pool.server_ip(), timeout)
   end
end
`

func TestReferer(t *testing.T) {
	recs := newRecords()
	store := persistence.NewStore(persistence.Options{})
	_, site := serve(t, http1, limpet.Config{
		Pools: []*lbpool.Pool{poolOf(t, startServers(t, 3)...)}, Tables: store,
		Scripts: []limpet.Script{compile(t, "Referer", byReferer)}, OnComplete: recs.add,
	})
	request := func(referer string, want limpet.Outcome) string {
		t.Helper()
		r := newRequest(t, "GET", site.URL, nil)
		if referer != "" {
			r.Header.Set("Referer", referer)
		}
		res, body := fetch(t, site.client(t), r) // each from another port
		rec := recs.next(t)
		if res.StatusCode != http.StatusOK || rec.Outcome != want || len(rec.ScriptErrors) > 0 {
			t.Errorf("%q: %s, persistence %v, errors %v", referer, res.Status, rec.Outcome, rec.ScriptErrors)
		}
		return body
	}

	servers := map[string]bool{}
	for i := range 6 {
		page := fmt.Sprintf("https://example.com/page?n=%d", i)
		first := request(page, limpet.OutcomeMiss)
		servers[first] = true
		for range 4 {
			if again := request(page, limpet.OutcomeHit); again != first {
				t.Errorf("%s: %s after %s", page, again, first)
			}
		}
	}
	if len(servers) != 3 {
		t.Errorf("pages on %d servers, want 3", len(servers))
	}

	before := store.Stats().Inserts
	clear(servers)
	for range 6 {
		servers[request("", limpet.OutcomeNone)] = true
	}
	if len(servers) != 3 {
		t.Errorf("clients without a referer on %d servers, want 3", len(servers))
	}
	if after := store.Stats().Inserts; after != before || before != 6 {
		t.Errorf("%d entries, then %d; want 6", before, after)
	}
}
