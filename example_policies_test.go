package limpet_test

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"time"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/ipgroup"
	"github.com/limpetlb/limpet/ipgroup/geoip"
	"github.com/limpetlb/limpet/lbpool"
	"github.com/limpetlb/limpet/policy"
)

// The Go code of docs/guides/rules.md and docs/guides/observe.md stands in this
// file, where it runs.

// hello is the handler behind the policies.
var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "secret/1.0")
	fmt.Fprint(w, "hello")
})

// policed is hello behind policies.
func policed(cfg limpet.Config) http.Handler {
	vs, err := limpet.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	return vs.Wrap(hello)
}

// answer asks for a path and prints what becomes of it. A connection that is
// closed without an answer is a panic, as net/http has it.
func answer(h http.Handler, path, client string, header ...string) {
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr = client + ":1234"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	defer func() {
		if recover() != nil {
			fmt.Println(client, path, "closed")
			return
		}
		fmt.Println(strings.TrimSpace(fmt.Sprint(client, " ", path, " ", w.Code, " ", w.Header().Get("Location"))))
	}()
	h.ServeHTTP(w, r)
}

// What rules can refer to is in the configuration beside them.
func ExampleConfig() {
	groups, err := ipgroup.NewSet()
	if err != nil {
		log.Fatal(err)
	}
	cfg := limpet.Config{
		Policies: limpet.Policies{
			NetworkSecurity: []policy.NetworkRule{},  // connections
			HTTPSecurity:    []policy.SecurityRule{}, // requests: may they pass?
			HTTPRequest:     []policy.RequestRule{},  // requests: what do they become, where do they go?
			HTTPResponse:    []policy.ResponseRule{}, // responses of servers
		},
		IPGroups: groups,
	}
	_, err = limpet.New(cfg)
	fmt.Println(err)
	// Output: <nil>
}

// knownBots knows what one address is known for.
type knownBots struct{}

func (knownBots) HasReputation(addr netip.Addr, kind string) (bool, error) {
	return addr == netip.MustParseAddr("203.0.113.9"), nil
}

func (knownBots) Reputation(addr netip.Addr) (string, bool) { return "", false }

// Every match, each in a rule of its own.
func ExampleConfig_matches() {
	office, err := ipgroup.Parse("Office", []string{"192.0.2.0/24", "198.51.100.10-198.51.100.20"}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err)
	}
	groups, err := ipgroup.NewSet(office)
	if err != nil {
		log.Fatal(err)
	}
	places, err := geoip.ParseTable([]byte("prefix; country code\n192.0.2.0/24; NL\n"))
	if err != nil {
		log.Fatal(err)
	}
	moved, err := policy.NewStringGroup(policy.StringGroupConfig{Name: "moved", Entries: []policy.StringEntry{{Key: "/old"}}})
	if err != nil {
		log.Fatal(err)
	}
	lists, err := policy.NewStringGroups(moved)
	if err != nil {
		log.Fatal(err)
	}
	matches := []policy.Match{
		{}, // every request
		{ClientIP: &policy.IPMatch{Groups: []string{"Office"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		{SourceIP: &policy.IPMatch{Op: policy.IsNotIn, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}},
		{Geo: &policy.GeoMatch{Values: []string{"NL", "BE"}}},
		{Reputation: &policy.ReputationMatch{Kinds: []string{"BOTNETS"}}},
		{VSPort: &policy.PortMatch{Ports: []uint16{443}, Ranges: []policy.Range[uint16]{{Begin: 8000, End: 8099}}}},
		{Protocol: &policy.ProtocolMatch{Protocol: policy.HTTPS}},
		{Method: &policy.MethodMatch{Methods: []string{"GET", "HEAD"}}},
		{Version: &policy.VersionMatch{Op: policy.IsNotIn, Versions: []string{"HTTP/1.0"}}},
		{Host: &policy.TextMatch{Op: policy.EndsWith, Values: []string{".example.com"}}},
		{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}, StringGroups: []string{"moved"}}},
		{Path: &policy.PathMatch{Op: policy.MatchesRegexp, Values: []string{`\.(php|asp)$`}}},
		{Query: &policy.QueryMatch{Op: policy.Contains, Values: []string{"debug="}}},
		{Cookie: &policy.CookieMatch{Name: "beta", Op: policy.Exists}},
		{Headers: []policy.HeaderMatch{ // all of them must match
			{Name: "User-Agent", Op: policy.DoesNotContain, Values: []string{"curl", "wget"}},
			{Name: "X-Internal", Op: policy.DoesNotExist},
		}},
	}
	var rules []policy.RequestRule
	for i, match := range matches {
		rules = append(rules, policy.RequestRule{
			Name: fmt.Sprint("rule ", i), Match: match,
			Action: policy.Modify{Edits: []policy.Edit{policy.AddHeader{Name: "X-Matched", Value: fmt.Sprint(i)}}},
		})
	}
	vs, err := limpet.New(limpet.Config{Policies: limpet.Policies{HTTPRequest: rules}, IPGroups: groups, StringGroups: lists, Geo: places, Reputations: knownBots{}})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Println(r.Header["X-Matched"]) }))
	for _, uri := range []string{"http://a.example.com/admin?debug=1", "https://b.example/x.php"} {
		r := httptest.NewRequest("GET", uri, nil)
		r.Header.Set("Cookie", "beta=1")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	// Output:
	// [0 1 2 3 7 8 9 10 12 13 14]
	// [0 1 2 3 6 7 8 11 13 14]
}

// Rules about connections.
func ExampleConfig_networkRules() {
	rules := []policy.NetworkRule{
		{Name: "office", Action: policy.ActionAllow,
			Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}},
		{Name: "scanner", Action: policy.ActionReset, Log: true, Age: 30 * time.Minute, // it ends by itself
			Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Addrs: []netip.Addr{netip.MustParseAddr("203.0.113.9")}}}},
		{Name: "low ports", Action: policy.ActionReset,
			Match: policy.NetworkMatch{ClientPort: &policy.PortMatch{Ranges: []policy.Range[uint16]{{Begin: 1, End: 1023}}}}},
		{Name: "the rest", Action: policy.ActionRateLimit,
			Limit: &policy.NetworkLimit{MaxRate: 1000, Burst: 5000, Exceeded: policy.ActionReset}},
	}
	h := policed(limpet.Config{Policies: limpet.Policies{NetworkSecurity: rules}})
	answer(h, "/", "192.0.2.1")
	answer(h, "/", "203.0.113.9")
	answer(h, "/", "203.0.113.10")
	// Output:
	// 192.0.2.1 / 200
	// 203.0.113.9 / closed
	// 203.0.113.10 / 200
}

// under matches requests whose path begins with a value.
func under(values ...string) policy.Match {
	return policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: values}}
}

// Every action of security rules.
func ExampleConfig_securityActions() {
	rules := []policy.SecurityRule{
		{Name: "health", Match: under("/healthz"), Action: policy.Allow{}}, // no other security rule
		{Name: "login over TLS", Match: under("/login"), Action: policy.RedirectToHTTPS{}},
		{Name: "secret", Match: under("/.git"), Action: policy.Close{Reset: true}}, // without Reset: FIN
		{Name: "gone", Match: under("/shop"), Action: policy.Respond{Status: 404, Body: []byte("<p>The shop has closed.</p>")}},
		{Name: "slowly", Match: under("/search"), Action: policy.RateLimit{
			Limit:     policy.RateLimiterConfig{Rate: policy.Rate{Count: 1, Period: time.Minute}},
			PerClient: true, // and PerPath, PerHeader, PerCookie
			Exceeded:  policy.Respond{Status: 429},
		}},
	}
	h := policed(limpet.Config{Policies: limpet.Policies{HTTPSecurity: rules}})
	for _, path := range []string{"/healthz", "/login", "/.git/config", "/shop", "/search", "/search"} {
		answer(h, path, "192.0.2.1")
	}
	// Output:
	// 192.0.2.1 /healthz 200
	// 192.0.2.1 /login 302 https://example.com/login
	// 192.0.2.1 /.git/config closed
	// 192.0.2.1 /shop 404
	// 192.0.2.1 /search 200
	// 192.0.2.1 /search 429
}

// Every action of request rules.
func ExampleConfig_requestActions() {
	rules := []policy.RequestRule{
		{Name: "new site", Match: under("/old"), Action: policy.Redirect{
			Protocol: policy.HTTPS, Host: "www.host[0:]", Path: "/new/path[1:]", AddQuery: "from=old", Status: 301}},
		{Name: "closed", Match: under("/closed"), Action: policy.Respond{Status: 503}},
		{Name: "tenant", Match: under("/tenants"), Action: policy.Modify{
			Rewrite: policy.RewriteURL{Host: "path[1].internal", Path: "/path[2:]"},
			Edits: []policy.Edit{
				policy.ReplaceHeader{Name: "X-Client", Value: "$client_ip"},
				policy.RemoveHeader{Name: "X-Debug"},
				policy.AddCookie{Name: "via", Value: "edge"},
			},
		}},
		{Name: "pool", Match: under("/api"), Action: policy.Modify{Pool: policy.SwitchPool{Name: "api"}}},
		{Name: "watched", Match: under("/checkout"), LogHeaders: true}, // only logs
	}
	pool, err := lbpool.New(lbpool.Config{Name: "api", Servers: []lbpool.ServerConfig{{Address: "127.0.0.1:9"}}})
	if err != nil {
		log.Fatal(err)
	}
	vs, err := limpet.New(limpet.Config{Policies: limpet.Policies{HTTPRequest: rules}, Pools: []*lbpool.Pool{pool}})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Host, r.URL, r.Header["X-Client"], r.Header["Cookie"])
	}))
	answer(h, "/old/a/b?c", "192.0.2.1")
	answer(h, "/closed", "192.0.2.1")
	answer(h, "/tenants/acme/x", "192.0.2.1")
	// Output:
	// 192.0.2.1 /old/a/b?c 301 https://www.example.com/new/a/b?c&from=old
	// 192.0.2.1 /closed 503
	// acme.internal /x [192.0.2.1] [via=edge]
	// 192.0.2.1 /tenants/acme/x 200
}

// What rules do with responses.
func ExampleConfig_responseActions() {
	rules := []policy.ResponseRule{
		{Name: "not cached", Match: policy.ResponseMatch{
			Request: under("/account"),
			Status:  &policy.StatusMatch{Codes: []int{200}, Ranges: []policy.Range[int]{{Begin: 300, End: 399}}},
		}, Edits: []policy.Edit{policy.ReplaceHeader{Name: "Cache-Control", Value: "no-store"}}},
		{Name: "public name", Match: policy.ResponseMatch{
			Location: &policy.TextMatch{Op: policy.BeginsWith, Values: []string{"http://internal."}},
		}, Location: &policy.RewriteLocation{Protocol: policy.HTTPS, Host: "www.example.com"}},
	}
	vs, err := limpet.New(limpet.Config{Policies: limpet.Policies{HTTPResponse: rules}})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.RedirectHandler("http://internal.example/account/login", http.StatusFound))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/account", nil))
	fmt.Println(w.Header().Get("Location"), w.Header().Get("Cache-Control"))
	// Output: https://www.example.com/account/login no-store
}

// A blacklist of addresses, and one of countries. Both are sharpest at a
// listener, which resets connections before anything is read.
func ExampleConfig_blacklist() {
	places, err := geoip.ParseTable([]byte("prefix; country code\n198.51.100.0/24; AQ\n"))
	if err != nil {
		log.Fatal(err)
	}
	addresses, err := ipgroup.Parse("Blacklist", []string{"203.0.113.0/24", "192.0.2.66"}, ipgroup.Options{})
	if err != nil {
		log.Fatal(err)
	}
	countries, err := ipgroup.Parse("Embargo", []string{"AQ"}, ipgroup.Options{Countries: places})
	if err != nil {
		log.Fatal(err)
	}
	groups, err := ipgroup.NewSet(addresses, countries)
	if err != nil {
		log.Fatal(err)
	}
	cfg := limpet.Config{
		IPGroups: groups, // groups.Replace changes a list while requests go on
		Policies: limpet.Policies{NetworkSecurity: []policy.NetworkRule{{
			Name: "blacklist", Action: policy.ActionReset,
			Match: policy.NetworkMatch{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist", "Embargo"}}},
		}}},
	}
	h := policed(cfg)
	answer(h, "/", "192.0.2.1")
	answer(h, "/", "192.0.2.66")
	answer(h, "/", "198.51.100.1")
	// Output:
	// 192.0.2.1 / 200
	// 192.0.2.66 / closed
	// 198.51.100.1 / closed
}

// Only some may pass, and everybody may ask for one path.
func ExampleConfig_allowList() {
	rules := []policy.SecurityRule{
		{Name: "health", Match: under("/healthz"), Action: policy.Allow{}},
		{Name: "office", Action: policy.Allow{},
			Match: policy.Match{ClientIP: &policy.IPMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}},
		{Name: "nobody else", Action: policy.Respond{Status: 403}},
	}
	h := policed(limpet.Config{Policies: limpet.Policies{HTTPSecurity: rules}})
	answer(h, "/", "192.0.2.1")
	answer(h, "/", "203.0.113.1")
	answer(h, "/healthz", "203.0.113.1")
	// Output:
	// 192.0.2.1 / 200
	// 203.0.113.1 / 403
	// 203.0.113.1 /healthz 200
}

// All of a site over https.
func ExampleConfig_redirectToHTTPS() {
	rules := []policy.SecurityRule{{Name: "https", Action: policy.RedirectToHTTPS{}}} // never of a request that came over TLS
	h := policed(limpet.Config{Policies: limpet.Policies{HTTPSecurity: rules}})
	answer(h, "/a?b=c", "192.0.2.1")
	// Output: 192.0.2.1 /a?b=c 302 https://example.com/a?b=c
}

// pools are pools of one server each, which tells its name, and what stops the
// servers.
func pools(names ...string) (pools []*lbpool.Pool, stop func()) {
	var servers []*httptest.Server
	for _, name := range names {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name) }))
		servers = append(servers, s)
		pool, err := lbpool.New(lbpool.Config{Name: name, Servers: []lbpool.ServerConfig{{Address: s.Listener.Addr().String()}}})
		if err != nil {
			log.Fatal(err)
		}
		pools = append(pools, pool)
	}
	return pools, func() {
		for _, s := range servers {
			s.Close()
		}
	}
}

// Those who ask for it get the new version, and so does who has its cookie.
func ExampleConfig_canary() {
	pools, stop := pools("stable", "canary")
	defer stop()
	canary := policy.Modify{Pool: policy.SwitchPool{Name: "canary"}}
	cfg := limpet.Config{
		Pools: pools, // the first one gets what no rule sends elsewhere
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{
			{Name: "by header", Action: canary,
				Match: policy.Match{Headers: []policy.HeaderMatch{{Name: "X-Canary", Op: policy.Equals, Values: []string{"yes"}}}}},
			{Name: "by cookie", Action: canary,
				Match: policy.Match{Cookie: &policy.CookieMatch{Name: "canary", Op: policy.Equals, Values: []string{"yes"}}}},
		}},
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer vs.CloseIdleConnections()
	for _, header := range []string{"X-None", "X-Canary", "Cookie"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(header, map[string]string{"X-Canary": "yes", "Cookie": "canary=yes"}[header])
		w := httptest.NewRecorder()
		vs.ServeHTTP(w, r)
		fmt.Println(header, w.Body)
	}
	// Output:
	// X-None stable
	// X-Canary canary
	// Cookie canary
}

// One visitor in ten gets the new version. Who has come to a server stays with
// it, whatever the ratio.
func ExampleConfig_abTest() {
	pools, stop := pools("old", "new")
	defer stop()
	split, err := lbpool.NewGroup(lbpool.GroupConfig{Name: "split", Members: []lbpool.Member{
		{Pool: pools[0], Ratio: 9},
		{Pool: pools[1], Ratio: 1},
	}})
	if err != nil {
		log.Fatal(err)
	}
	cfg := limpet.Config{
		Pools: pools, PoolGroups: []*lbpool.Group{split},
		Policies: limpet.Policies{HTTPRequest: []policy.RequestRule{{Name: "test", Action: policy.Modify{Pool: policy.SwitchPool{Name: "split"}}}}},
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer vs.CloseIdleConnections()
	got := map[string]int{}
	for range 100 {
		w := httptest.NewRecorder()
		vs.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		got[w.Body.String()]++
	}
	fmt.Println(got)
	// Output: map[new:10 old:90]
}

// Everybody but the office sees that the site is under maintenance.
func ExampleConfig_maintenance() {
	page := policy.Respond{Status: 503, Body: []byte("<h1>Back at noon</h1>")}
	rules := []policy.SecurityRule{{
		Name: "maintenance", Action: page,
		Disabled: false, // true ends it: vs.Update takes the change at once
		Match:    policy.Match{ClientIP: &policy.IPMatch{Op: policy.IsNotIn, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
	}}
	h := policed(limpet.Config{Policies: limpet.Policies{HTTPSecurity: rules}})
	answer(h, "/", "192.0.2.1")
	answer(h, "/", "203.0.113.1")
	// Output:
	// 192.0.2.1 / 200
	// 203.0.113.1 / 503
}

// Headers that make browsers more careful, and none that tells attackers about
// the server.
func ExampleConfig_securityHeaders() {
	rules := []policy.ResponseRule{{Name: "security headers", Edits: []policy.Edit{
		policy.ReplaceHeader{Name: "Strict-Transport-Security", Value: "max-age=31536000"},
		policy.ReplaceHeader{Name: "X-Content-Type-Options", Value: "nosniff"},
		policy.ReplaceHeader{Name: "Content-Security-Policy", Value: "frame-ancestors 'none'"},
		policy.RemoveHeader{Name: "Server"},
	}}}
	h := policed(limpet.Config{Policies: limpet.Policies{HTTPResponse: rules}})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(len(w.Header()["Server"]), w.Header().Get("X-Content-Type-Options"))
	// Output: 0 nosniff
}

// Whoever guesses passwords, or looks for holes, is shut out for ten minutes:
// after five failures every request is refused.
func ExampleConfig_penalty() {
	rules := []policy.SecurityRule{{
		Name: "penalty box",
		Action: policy.RateLimit{
			Limit:         policy.RateLimiterConfig{Rate: policy.Rate{Count: 5, Period: 10 * time.Minute}},
			PerClient:     true,
			CountFailures: true,                      // statuses from 400 on, and servers that fail
			Exceeded:      policy.Close{Reset: true}, // policy.Report{} only reports
		},
	}}
	vs, err := limpet.New(limpet.Config{Policies: limpet.Policies{HTTPSecurity: rules}})
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(http.NotFoundHandler())
	for range 6 {
		answer(h, "/wp-admin", "203.0.113.1")
	}
	answer(h, "/", "192.0.2.1")
	// Output:
	// 203.0.113.1 /wp-admin 404
	// 203.0.113.1 /wp-admin 404
	// 203.0.113.1 /wp-admin 404
	// 203.0.113.1 /wp-admin 404
	// 203.0.113.1 /wp-admin 404
	// 203.0.113.1 /wp-admin closed
	// 192.0.2.1 / 404
}

// A rule in dry run says what it would do.
func ExampleConfig_dryRun() {
	cfg := limpet.Config{
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "no bots", DryRun: true, Action: policy.Respond{Status: 403},
			Match: policy.Match{Headers: []policy.HeaderMatch{{Name: "User-Agent", Op: policy.Contains, Values: []string{"bot"}}}}}}},
		OnComplete: func(r limpet.Record) {
			for _, m := range r.Monitored {
				fmt.Println(m.Rule, "would", m.Action, m.Status)
			}
		},
	}
	h := policed(cfg)
	answer(h, "/", "192.0.2.1", "User-Agent", "robot/1.0")
	// Output:
	// no bots would respond 403
	// 192.0.2.1 / 200
}

// Sets of rules that several parties maintain.
func ExampleConfig_policySets() {
	base := policy.PolicySet{Name: "base", HTTPResponse: []policy.ResponseRule{
		{Name: "hide", Edits: []policy.Edit{policy.RemoveHeader{Name: "Server"}}},
	}}
	shop := policy.PolicySet{Name: "shop", HTTPSecurity: []policy.SecurityRule{
		{Name: "no admin", Match: under("/admin"), Action: policy.Respond{Status: 403}},
	}}
	all, err := policy.ComposeSets(base, shop)
	if err != nil {
		log.Fatal(err)
	}
	cfg := limpet.Config{Policies: limpet.Policies{HTTPSecurity: all.HTTPSecurity, HTTPRequest: all.HTTPRequest, HTTPResponse: all.HTTPResponse}}
	cfg.OnComplete = func(r limpet.Record) { fmt.Println(r.SecurityRule) }
	answer(policed(cfg), "/admin", "192.0.2.1")
	// Output:
	// shop/no admin
	// 192.0.2.1 /admin 403
}

// Of each class so many lines a second, of normal requests none; 404 is normal.
func ExampleConfig_logging() {
	var lines bytes.Buffer
	cfg := limpet.Config{
		Logger: slog.New(slog.NewTextHandler(&lines, nil)),
		Logging: limpet.Logging{
			SignificantRate: 100,
			FilteredRate:    10, // of what rules with Log and scripts ask for
			OtherRate:       -1,
			SlowResponse:    2 * time.Second,
			IgnoreStatuses:  []policy.Range[int]{{Begin: 404, End: 404}},
		},
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	for _, status := range []int{200, 404, 500} {
		h := vs.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	fmt.Println(strings.Count(lines.String(), "\n"), strings.Contains(lines.String(), `significant="status 5xx"`))
	// Output: 1 true
}

// A score of one's own: slow responses do not count, and drops count twice.
func ExampleConfig_healthScore() {
	cfg := limpet.Config{
		HealthScore: func(in limpet.HealthInput) limpet.Health {
			in.Slow, in.Drops = 0, 2*in.Drops
			return limpet.DefaultHealth(in)
		},
		Policies: limpet.Policies{HTTPSecurity: []policy.SecurityRule{{Name: "no admin", Match: under("/admin"), Action: policy.Respond{Status: 403}}}},
	}
	vs, err := limpet.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	h := vs.Wrap(hello)
	for range 10 {
		for _, path := range []string{"/", "/", "/", "/admin"} {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		}
	}
	health := vs.Health()
	fmt.Println(health.Score, health.Color(), "without", health.Security)
	// Output: 50 orange without 50
}
