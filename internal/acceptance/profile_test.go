package acceptance_test

import (
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/lbpool"
)

// profile is a persistence profile that keeps the server in a cookie.
type profile struct{ binds atomic.Int64 }

func (*profile) Find(r *http.Request, client netip.Addr, _ string) (string, time.Duration, error) {
	c, err := r.Cookie("server")
	if err != nil || !client.IsValid() {
		return "", 0, nil //nolint:nilerr // a request without the cookie is one of a new client
	}
	return c.Value, 0, nil
}

func (p *profile) Bind(h http.Header, _ *http.Request, _ netip.Addr, _, server string) error {
	p.binds.Add(1)
	h.Add("Set-Cookie", (&http.Cookie{Name: "server", Value: server}).String())
	return nil
}

// profiled is a virtual service with a profile, three servers, and a client
// that keeps its cookie.
type profiled struct {
	*testing.T
	profile *profile
	pool    *lbpool.Pool
	vs      *limpet.VirtualService
	cfg     limpet.Config
	recs    *records
	site    *site
	cookie  string
}

func newProfiled(t *testing.T, repick lbpool.Repick, scripts ...limpet.Script) *profiled {
	t.Helper()
	p := &profiled{T: t, profile: &profile{}, recs: newRecords()}
	p.pool = newPool(t, lbpool.Config{
		Name: "my_pool", Servers: startServers(t, 3), Algorithm: lbpool.RoundRobin(), Repick: repick,
	})
	p.cfg = limpet.Config{Pools: []*lbpool.Pool{p.pool}, Persistence: p.profile, Scripts: scripts, OnComplete: p.recs.add}
	p.vs, p.site = serve(t, http1, p.cfg)
	return p
}

func (p *profiled) request(status int, want limpet.Outcome) limpet.Record {
	p.Helper()
	r := newRequest(p, "GET", p.site.URL, nil)
	if p.cookie != "" {
		r.AddCookie(&http.Cookie{Name: "server", Value: p.cookie})
	}
	res, _ := fetch(p, p.site.client(p), r)
	rec := p.recs.next(p)
	if res.StatusCode != status || rec.Outcome != want {
		p.Errorf("%s, persistence %v; want %d, %v (%v)", res.Status, rec.Outcome, status, want, rec.Error)
	}
	for _, c := range res.Cookies() {
		p.cookie = c.Value
	}
	return rec
}

func TestPersistenceProfile(t *testing.T) {
	p := newProfiled(t, lbpool.RepickImmediately)
	first := p.request(200, limpet.OutcomeMiss)
	if p.cookie != first.Server.String() {
		t.Fatalf("bound to %q, want %v", p.cookie, first.Server)
	}
	for range 5 {
		if rec := p.request(200, limpet.OutcomeHit); rec.Server != first.Server {
			t.Errorf("went to %v after %v", rec.Server, first.Server)
		}
	}
	server, _, _ := p.pool.Lookup(p.cookie, 0)
	server.Disable()
	second := p.request(200, limpet.RepinDisabled)
	if second.Server == first.Server || p.cookie != second.Server.String() || !slices.Equal(second.Significant, []limpet.Significance{limpet.ServerChange}) {
		t.Errorf("%v, then bound to %q, significant %v", second.Server, p.cookie, second.Significant)
	}
	if rec := p.request(200, limpet.OutcomeHit); rec.Server != second.Server {
		t.Errorf("went to %v after %v", rec.Server, second.Server)
	}
	for _, gone := range []string{"192.0.2.1:80", "192.0.2.1", "no server at all"} {
		p.cookie = gone
		rec := p.request(200, limpet.RepinGone)
		if p.cookie != rec.Server.String() {
			t.Errorf("%q: bound to %q, want %v", gone, p.cookie, rec.Server)
		}
	}
	if got := p.profile.binds.Load(); got != 11 {
		t.Errorf("%d calls of Bind, want one for each answer", got)
	}
}

func TestPersistenceProfileRepickNever(t *testing.T) {
	p := newProfiled(t, lbpool.RepickNever)
	p.request(200, limpet.OutcomeMiss)
	server, _, _ := p.pool.Lookup(p.cookie, 0)
	server.Disable()
	p.request(503, limpet.RepinDisabled)
	p.cookie = "192.0.2.1:80"
	p.request(503, limpet.RepinGone)
	if got := p.profile.binds.Load(); got != 1 {
		t.Errorf("%d calls of Bind, want 1", got)
	}
}

// What a script has chosen, by server or by key, stands above the profile; a
// pool without a server does not.
func TestScriptBeforeProfile(t *testing.T) {
	for script, want := range map[string]limpet.Outcome{
		`avi.pool.select("my_pool", "s3")`: limpet.OutcomeNone,
		`avi.pool.select("my_pool")`:       limpet.OutcomeHit,
	} {
		p := newProfiled(t, lbpool.RepickImmediately, onRequest(t, "select", script))
		p.cookie = p.pool.Servers()[1].Addr().String()
		name := "s3"
		if want == limpet.OutcomeHit {
			name = "s2"
		}
		if rec := p.request(200, want); rec.ServerName != name {
			t.Errorf("%s: %s", script, rec.ServerName)
		}
	}
}

// A server that has not answered is not bound, and no entry is rewritten to
// it.
func TestFailedServerIsNotBound(t *testing.T) {
	p := newProfiled(t, lbpool.RepickImmediately)
	dead := newPool(t, lbpool.Config{Name: "my_pool", Servers: []lbpool.ServerConfig{{Address: deadAddr(t, "127.0.1.9:0")}}})
	p.cfg.Pools = []*lbpool.Pool{dead}
	if err := p.vs.Update(p.cfg); err != nil {
		t.Fatal(err)
	}
	p.request(502, limpet.OutcomeMiss)
	if p.cookie != "" || p.profile.binds.Load() != 0 {
		t.Errorf("bound to %q, %d calls of Bind", p.cookie, p.profile.binds.Load())
	}

	s := newSticky(t, http1, nil)
	s.cfg.Pools = []*lbpool.Pool{dead}
	if err := s.vs.Update(s.cfg); err != nil {
		t.Fatal(err)
	}
	s.request(502, limpet.RepinGone)
	s.wantEntry(s.current.Addr())
}

// An upgrade binds its client as any answer does.
func TestProfileBindsUpgrade(t *testing.T) {
	prof := &profile{}
	_, site := serve(t, http1, limpet.Config{
		Persistence: prof,
		Pools: []*lbpool.Pool{poolFor(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "echo")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		})},
	})
	r := newRequest(t, "GET", site.URL, nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "echo")
	res, err := site.client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if cookies := res.Cookies(); res.StatusCode != 101 || len(cookies) != 1 || cookies[0].Name != "server" {
		t.Errorf("%s %v", res.Status, res.Header)
	}
}
