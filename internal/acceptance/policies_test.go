package acceptance_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/persistence"
	"github.com/limpetlb/limpet/policy"
)

// named is a server that tells its name and what it was asked.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "secret")
		fmt.Fprintf(w, "%s %s %s", name, r.URL.RequestURI(), r.Header.Get("X-Client"))
	})
}

// twoPools are pools a and b of one server each.
func twoPools(t *testing.T) []*lbpool.Pool {
	t.Helper()
	var pools []*lbpool.Pool
	for _, name := range []string{"a", "b"} {
		addr := startServer(t, "127.0.0.1:0", named(name))
		pools = append(pools, newPool(t, lbpool.Config{Name: name, Servers: []lbpool.ServerConfig{{Address: addr}}}))
	}
	return pools
}

func TestRequestAndResponsePolicy(t *testing.T) {
	path := func(values ...string) policy.Match {
		return policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: values}}
	}
	edit := func(c *limpet.Config) {
		c.Pools = twoPools(t)
		c.HTTPRequest = []policy.RequestRule{
			{Name: "old", Match: path("/old"), Action: policy.Redirect{Protocol: policy.HTTP, Path: "/new"}},
			{Name: "to b", Match: path("/b"), Action: policy.Modify{
				Edits: []policy.Edit{policy.AddHeader{Name: "X-Client", Value: "$client_ip"}},
				Pool:  policy.SwitchPool{Name: "b"},
			}},
			{Name: "dry", DryRun: true, Action: policy.Respond{Status: 403}},
		}
		c.HTTPResponse = []policy.ResponseRule{
			{Name: "hide", Edits: []policy.Edit{policy.RemoveHeader{Name: "Server"}, policy.AddHeader{Name: "X-Rule", Value: "yes"}}},
		}
	}
	for _, tt := range []struct {
		target, listing string
		status          int
		body, rule      string
	}{
		{"/a", "-- HTTP_REQ\n", 200, "a /a ", ""},
		{"/b?q", "-- HTTP_REQ\n", 200, "b /b?q 192.0.2.1", "to b"},
		{"/b", "-- HTTP_REQ\navi.pool.select('a')", 200, "b /b 192.0.2.1", "to b"}, // a policy's choice stands
		{"/a", "-- HTTP_REQ\navi.pool.select('b')", 200, "b /a ", ""},
		{"/old/x", "-- HTTP_REQ\navi.vs.log('never')", 302, "", "old"},
	} {
		res, body, record := serveOne(t, tt.listing, nil, edit, httptest.NewRequest("GET", tt.target, nil))
		if res.StatusCode != tt.status || tt.status == 200 && body != tt.body || record.RequestRule != tt.rule || len(record.Log) != 0 {
			t.Errorf("%s: %d %q by rule %q, log %v; want %d %q by %q", tt.target, res.StatusCode, body, record.RequestRule, record.Log, tt.status, tt.body, tt.rule)
		}
		local := tt.status != 200
		if (res.Header.Get("X-Rule") == "yes") == local || res.Header.Get("Server") != "" || (record.ResponseRule == "hide") == local {
			t.Errorf("%s: response header %v, rule %q", tt.target, res.Header, record.ResponseRule)
		}
		if local != (len(record.Monitored) == 0) || !local && record.Monitored[0].Status != 403 {
			t.Errorf("%s: monitored %+v", tt.target, record.Monitored)
		}
	}
}

// The pool may depend on the port at which a request came; a script can still
// choose another.
func TestPoolByPort(t *testing.T) {
	first, second := listen(t, ""), listen(t, "")
	port := second.Addr().(*net.TCPAddr).AddrPort().Port()
	vs := newVirtualService(t, limpet.Config{
		Pools: twoPools(t),
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{
			Name: "second port", Match: policy.Match{VSPort: &policy.PortMatch{Ports: []uint16{port}}},
			Action: policy.Modify{Pool: policy.SwitchPool{Name: "b"}},
		}}},
	})
	for _, test := range []struct {
		ln   net.Listener
		want string
	}{{first, "a / "}, {second, "b / "}} {
		site := startSite(t, http1, vs.Listener(test.ln), vs)
		if status, body := get(t, site.client(t), site.URL+"/"); status != 200 || body != test.want {
			t.Errorf("at %v: %d %q, want %q", test.ln.Addr(), status, body, test.want)
		}
	}
}

// Servers may know the site by another name than clients do: one rule
// translates it, and one translates it back.
func TestHostTranslation(t *testing.T) {
	pool := poolFor(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "https://other.example/x", http.StatusFound)
			return
		}
		http.Redirect(w, r, "http://"+r.Host+"/login?from="+r.URL.Path, http.StatusFound)
	})
	edit := func(c *limpet.Config) {
		c.Pools = []*lbpool.Pool{pool}
		c.HTTPRequest = []policy.RequestRule{{Name: "in", Action: policy.Modify{Rewrite: policy.RewriteURL{Host: "internal.example:8080"}}}}
		c.HTTPResponse = []policy.ResponseRule{{
			Name:     "out",
			Match:    policy.ResponseMatch{Location: &policy.TextMatch{Op: policy.BeginsWith, Values: []string{"http://internal.example:8080/"}}},
			Location: &policy.RewriteLocation{Protocol: policy.HTTPS, Host: "www.example.com"},
		}}
	}
	for path, want := range map[string]string{
		"/a": "https://www.example.com/login?from=/a", "/elsewhere": "https://other.example/x",
	} {
		res, _, _ := serveOne(t, "-- HTTP_REQ\n", nil, edit, httptest.NewRequest("GET", path, nil))
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("%s: Location %q, want %q", path, got, want)
		}
	}
}

// badList knows one address for one thing.
type badList map[netip.Addr]string

func (b badList) HasReputation(addr netip.Addr, kind string) (bool, error) {
	if kind != "BOTNETS" && kind != "TOR" {
		return false, fmt.Errorf("%q is not a reputation", kind)
	}
	return b[addr] == kind, nil
}

func (b badList) Reputation(addr netip.Addr) (string, bool) {
	kind, ok := b[addr]
	return kind, ok
}

// onlyForScripts is what scripts need, and rules cannot ask.
type onlyForScripts struct{ datascript.Reputations }

func TestReputationRules(t *testing.T) {
	list := badList{netip.MustParseAddr("192.0.2.1"): "TOR"}
	rules := func(kind string) []policy.SecurityRule {
		return []policy.SecurityRule{{
			Name: "bad", Match: policy.Match{Reputation: &policy.ReputationMatch{Kinds: []string{kind}}}, Action: policy.Respond{Status: 403},
		}}
	}
	vs := newVirtualService(t, limpet.Config{Reputations: list, Policies: limpet.Policies{HTTPSecurity: rules("TOR")}})
	h := vs.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for client, want := range map[string]int{"192.0.2.1": 403, "192.0.2.2": 200} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, from(client+":1", "/"))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", client, w.Code, want)
		}
	}
	for fault, cfg := range map[string]limpet.Config{
		"the policy was given no reputations": {Reputations: onlyForScripts{list}, Policies: limpet.Policies{HTTPSecurity: rules("TOR")}},
		`"SPAM" is not a reputation`:          {Reputations: list, Policies: limpet.Policies{HTTPSecurity: rules("SPAM")}},
	} {
		if _, err := limpet.New(cfg); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v, want %s", err, fault)
		}
	}
}

// Each rule counts, also what it would do, and goes on counting after an
// update.
func TestPolicyStats(t *testing.T) {
	path := func(values ...string) policy.Match {
		return policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: values}}
	}
	cfg := limpet.Config{
		Policies: limpet.Policies{
			NetworkSecurity: []policy.NetworkRule{{Name: "try", DryRun: true, Action: policy.ActionReset}, {Name: "all", Action: policy.ActionAllow}},
			HTTPSecurity:    []policy.SecurityRule{{Name: "bad", Match: path("/bad"), Action: policy.Close{}}, {Name: "try", DryRun: true, Action: policy.Respond{Status: 403}}},
			HTTPRequest:     []policy.RequestRule{{Name: "edit", Action: policy.Modify{Edits: []policy.Edit{policy.RemoveHeader{Name: "X"}}}}},
			HTTPResponse: []policy.ResponseRule{{
				Name: "found", Match: policy.ResponseMatch{Status: &policy.StatusMatch{Codes: []int{200}}}, Edits: []policy.Edit{policy.RemoveHeader{Name: "X"}},
			}},
		},
	}
	vs := newVirtualService(t, cfg)
	site := startSite(t, http1, vs.Listener(listen(t, "")), vs.Wrap(http.HandlerFunc(byQuery)))
	c := site.client(t)
	get(t, c, site.URL+"/")
	get(t, c, site.URL+"/?404")
	if err := vs.Update(cfg); err != nil {
		t.Fatal(err)
	}
	get(t, c, site.URL+"/")
	conn := site.dial(t, "")
	defer conn.Close()
	if rest, end := endOf(t, send(t, conn, "GET /bad HTTP/1.1\nHost: a\n\n")); end != fin || rest != "" {
		t.Errorf("/bad: %q, then %s", rest, end)
	}
	want := limpet.PolicyStats{
		// The client's connection was judged once.
		NetworkSecurity: []policy.RuleStats{{Name: "try", WouldHits: 2, WouldDrops: 2}, {Name: "all", Hits: 2}},
		HTTPSecurity:    []policy.RuleStats{{Name: "bad", Hits: 1, Drops: 1}, {Name: "try", WouldHits: 3, WouldDrops: 3}},
		HTTPRequest:     []policy.RuleStats{{Name: "edit", Hits: 3}},
		HTTPResponse:    []policy.RuleStats{{Name: "found", Hits: 2}},
	}
	if diff := cmp.Diff(want, vs.PolicyStats(), cmpopts.IgnoreFields(policy.RuleStats{}, "LastHit")); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(limpet.PolicyStats{}, newVirtualService(t, limpet.Config{}).PolicyStats(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("without rules (-want +got):\n%s", diff)
	}
}

func TestPolicyPoolsAreChecked(t *testing.T) {
	_, err := limpet.New(limpet.Config{
		Pools: twoPools(t),
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{
			{Name: "x", Action: policy.Modify{Pool: policy.SwitchPool{Name: "c"}}},
		}},
	})
	if want := `httpRequest[0].action.pool.name: "c": there is no such pool or group`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// Rules keep their counts when the configuration changes.
func TestUpdateKeepsCounters(t *testing.T) {
	cfg := limpet.Config{Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "limit", Action: policy.RateLimit{
		Limit: policy.RateLimiterConfig{Rate: policy.Rate{Count: 2, Period: time.Hour}}, PerClient: true, Exceeded: policy.Respond{Status: 429},
	}}}}}
	vs, err := limpet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := vs.Wrap(http.NotFoundHandler())
	for i, want := range []int{404, 404, 429} {
		if i == 2 {
			if err := vs.Update(cfg); err != nil {
				t.Fatal(err)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != want {
			t.Errorf("request %d: %d, want %d", i+1, w.Code, want)
		}
	}
}

func TestPoolGroup(t *testing.T) {
	edit := func(c *limpet.Config) {
		c.Pools = twoPools(t)
		g, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "g", Members: []lbpool.Member{
			{Pool: c.Pools[0], Label: "first", Ratio: 1}, {Pool: c.Pools[1], Label: "second", Ratio: 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.PoolGroups = []*lbpool.Group{g}
	}
	_, body, record := serveOne(t, "-- HTTP_REQ\navi.poolgroup.select('g', 'second')", nil, edit, httptest.NewRequest("GET", "/", nil))
	if body != "b / " {
		t.Errorf("got %q from the group, errors %v", body, record.ScriptErrors)
	}
}

func TestFailActions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		action lbpool.FailAction
		status int
		body   string
		header string
	}{
		{"default", lbpool.FailAction{}, 503, "Service Unavailable\n", ""},
		{"page", lbpool.FailAction{Status: 200, Body: []byte("<p>soon</p>")}, 200, "<p>soon</p>", ""},
		{"redirect", lbpool.FailAction{Kind: lbpool.FailRedirect, Redirect: lbpool.Redirect{Host: "sorry.example"}}, 302, "", "https://sorry.example/x?y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, body, record := serveOne(t, "-- HTTP_REQ\n", nil, func(c *limpet.Config) {
				c.Pools = []*lbpool.Pool{newPool(t, lbpool.Config{Name: "p", FailAction: tt.action,
					Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:9", Disabled: true}}})}
			}, httptest.NewRequest("GET", "/x?y", nil))
			if res.StatusCode != tt.status || body != tt.body || res.Header.Get("Location") != tt.header {
				t.Errorf("got %d %q %v", res.StatusCode, body, res.Header)
			}
			if len(record.Significant) == 0 || record.Significant[0] != limpet.NoServer {
				t.Errorf("significant: %v", record.Significant)
			}
		})
	}
}

// A connection may be all that a client without a server loses.
func TestFailActionCloses(t *testing.T) {
	recs := newRecords()
	_, site := serve(t, http1, limpet.Config{OnComplete: recs.add, Pools: []*lbpool.Pool{newPool(t, lbpool.Config{
		Name: "p", FailAction: lbpool.FailAction{Kind: lbpool.FailClose}, Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:9", Disabled: true}},
	})}})
	conn := site.dial(t, "")
	defer conn.Close()
	if rest, end := endOf(t, send(t, conn, "GET / HTTP/1.1\nHost: a\n\n")); end == "" || rest != "" {
		t.Errorf("%q, then %s", rest, end)
	}
	if rec := recs.next(t); !rec.Closed || rec.Status != 0 || !slices.Contains(rec.Significant, limpet.NoServer) {
		t.Errorf("record %+v", rec)
	}
}

// A server that a rule names goes before the one that the client is bound to,
// and before a script.
func TestRulePinsServer(t *testing.T) {
	servers := startServers(t, 3)
	pool := poolOf(t, servers...)
	profile, err := persistence.NewClientIP(persistence.ClientIPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	recs := newRecords()
	vs := newVirtualService(t, limpet.Config{
		Pools: []*lbpool.Pool{pool}, Persistence: profile, OnComplete: recs.add,
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{
			Name: "third", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/third"}}},
			Action: policy.Modify{Pool: policy.SwitchPool{Name: "my_pool", Server: netip.MustParseAddrPort(servers[2].Address)}},
		}}},
		Scripts: []limpet.Script{onRequest(t, "second", `if avi.http.get_query("script") then avi.pool.select("my_pool", "s2") end`)},
	})
	for _, test := range []struct{ target, server string }{
		{"/", "s1"}, {"/", "s1"}, {"/third", "s3"}, {"/third?script", "s3"}, {"/?script", "s2"},
	} {
		vs.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", test.target, nil))
		if rec := recs.next(t); rec.ServerName != test.server {
			t.Errorf("%s went to %s, want %s", test.target, rec.ServerName, test.server)
		}
	}
}

// A group that a rule has chosen may have no pool that can serve.
func TestPoolGroupDown(t *testing.T) {
	res, _, record := serveOne(t, "-- HTTP_LB_FAILED\navi.vs.log('failed ', avi.http.internal_status())", nil, func(c *limpet.Config) {
		down := newPool(t, lbpool.Config{Name: "down", Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:9", Disabled: true}}})
		g, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "g", Members: []lbpool.Member{{Pool: down, Ratio: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		c.Pools, c.PoolGroups = []*lbpool.Pool{down}, []*lbpool.Group{g}
		c.HTTPRequest = []policy.RequestRule{{Name: "to g", Action: policy.Modify{Pool: policy.SwitchPool{Name: "g"}}}}
	}, httptest.NewRequest("GET", "/", nil))
	if res.StatusCode != 503 || len(record.Log) != 1 || len(record.Significant) == 0 || record.Significant[0] != limpet.NoServer {
		t.Errorf("got %d, log %v, significant %v", res.StatusCode, record.Log, record.Significant)
	}
}
