package policy_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/limpetlb/limpet/policy"
)

// proxied is a request on its way to a server, which has answered if status
// is set.
type proxied struct {
	transaction
	out    *http.Request
	status int
	header http.Header
}

func (p *proxied) EditRequest() *http.Request { return p.out }
func (p *proxied) Response() (int, http.Header, bool) {
	return p.status, p.header, p.status != 0
}

func proxy(target string) *proxied {
	tx := get(target, "192.0.2.1:4000")
	return &proxied{transaction: tx, out: tx.request.Clone(tx.request.Context())}
}

// Paths choose pools; the most specific comes first, because of pools the
// first that is chosen counts. A rule that matches all adds a header.
func ExampleHTTPRequest_switching() {
	begins := func(path string) policy.Match {
		return policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{path}}}
	}
	p, err := policy.NewHTTPRequest([]policy.RequestRule{
		{Name: "checkout", Match: begins("/shop/checkout"), Action: policy.Modify{Pool: policy.SwitchPool{Name: "checkout"}}},
		{Name: "shop", Match: begins("/shop"), Action: policy.Modify{Pool: policy.SwitchPool{Name: "shop"}}},
		{Name: "client", Action: policy.Modify{Edits: []policy.Edit{policy.ReplaceHeader{Name: "X-Client", Value: "$client_ip"}}}},
	}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tx := proxy("/shop/checkout/2")
	fmt.Println(p.Evaluate(tx).Applied, tx.out.Header)
	// Output:
	// pool checkout
	// [checkout shop client] map[X-Client:[192.0.2.1]]
}

// A path of the client is a host name of the servers.
func ExampleHTTPRequest_rewrite() {
	p, err := policy.NewHTTPRequest([]policy.RequestRule{{
		Name:  "regions",
		Match: policy.Match{Path: &policy.PathMatch{Op: policy.MatchesRegexp, Values: []string{"^/(eu|us)/"}}},
		Action: policy.Modify{Rewrite: policy.RewriteURL{
			Host:     "regex[1].host[1:]",
			Path:     "/path[1:]",
			AddQuery: "from=edge",
		}},
	}}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tx := proxy("http://www.example.com/eu/cart?item=7")
	p.Evaluate(tx)
	fmt.Println(tx.out.Host + tx.out.URL.RequestURI())
	// Output: eu.example.com/cart?item=7&from=edge
}

// A map of strings says where old paths have gone; it can change at any time.
func ExampleHTTPRequest_redirect() {
	entries, err := policy.ReadStringCSV(strings.NewReader("/news,blog\n/jobs,careers/open\n"), policy.StringMap, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	moved, err := policy.NewStringGroup(policy.StringGroupConfig{Name: "moved", Kind: policy.StringMap, Entries: entries})
	if err != nil {
		fmt.Println(err)
		return
	}
	groups, err := policy.NewStringGroups(moved)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.NewHTTPRequest([]policy.RequestRule{{
		Name:  "moved",
		Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, StringGroups: []string{"moved"}}},
		Action: policy.Redirect{
			Protocol: policy.HTTPS,
			Path:     "/string_group[value]/path[1:]",
			Status:   http.StatusMovedPermanently,
		},
	}}, policy.Env{StringGroups: groups})
	if err != nil {
		fmt.Println(err)
		return
	}
	p.Evaluate(proxy("http://www.example.com/jobs/42"))
	fmt.Println(p.Evaluate(proxy("http://www.example.com/jobs")).Action, p.Stats()[0].Skips) // there is no path[1]
	// Output:
	// replied 301 https://www.example.com/careers/open/42 "301 Moved Permanently\n"
	// none 1
}

// Redirects to the inside are led to the outside, and cookies are hardened.
func ExampleHTTPResponse() {
	p, err := policy.NewHTTPResponse([]policy.ResponseRule{
		{
			Name: "outside",
			Match: policy.ResponseMatch{
				Status:   &policy.StatusMatch{Ranges: []policy.Range[int]{{Begin: 300, End: 399}}},
				Location: &policy.TextMatch{Op: policy.BeginsWith, Values: []string{"http://internal."}},
			},
			Location: &policy.RewriteLocation{Protocol: policy.HTTPS, Host: "www.host[1:]"},
		},
		{Name: "server", Edits: []policy.Edit{policy.RemoveHeader{Name: "Server"}}},
	}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tx := proxy("/")
	tx.status, tx.header = http.StatusFound, http.Header{"Server": {"Tomcat"}, "Location": {"http://internal.example.com:8080/login"}}
	fmt.Println(p.Evaluate(tx).Applied, tx.header)
	// Output: [outside server] map[Location:[https://www.example.com/login]]
}

// Each client may ask for /login five times a minute.
func ExampleRateLimit() {
	p, err := policy.NewHTTPSecurity([]policy.SecurityRule{{
		Name:  "logins",
		Match: policy.Match{Path: &policy.PathMatch{Op: policy.Equals, Values: []string{"/login"}}},
		Action: policy.RateLimit{
			Limit:     policy.RateLimiterConfig{Rate: policy.Rate{Count: 5, Period: time.Minute}},
			PerClient: true,
		},
	}}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 6 {
		p.Evaluate(get("/login", "203.0.113.7:4000"))
	}
	s := p.Stats()[0]
	fmt.Println("allowed:", s.Allowed, "limited:", s.Limited)
	// Output:
	// replied 429  "429 Too Many Requests\n"
	// allowed: 5 limited: 1
}

// A program limits what rules cannot see, by any key.
func ExampleRateLimiter() {
	l, err := policy.NewRateLimiter(policy.RateLimiterConfig{Rate: policy.Rate{Count: 2, Period: time.Hour, Burst: 3}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 4 {
		fmt.Print(l.Allow("tenant 7"), " ")
	}
	fmt.Println(l.AllowAddr(netip.MustParseAddr("192.0.2.1")))
	// Output: true true true false true
}

// A network rule denies for an hour; another limits the rate of the rest.
func ExampleNetworkLimit() {
	p, err := policy.NewNetworkSecurity([]policy.NetworkRule{
		{
			Name:   "scanner",
			Match:  policy.NetworkMatch{ClientIP: &policy.IPMatch{Addrs: []netip.Addr{netip.MustParseAddr("203.0.113.7")}}},
			Action: policy.ActionReset,
			Age:    time.Hour,
		},
		{Name: "rest", Action: policy.ActionRateLimit, Limit: &policy.NetworkLimit{MaxRate: 1, Burst: 2}},
	}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		v := p.Evaluate(netip.MustParseAddrPort("192.0.2.1:4000"), netip.AddrPort{})
		fmt.Println(v.Rule, v.Action)
	}
	// Output:
	// rest allow
	// rest allow
	// rest close
}

// Of several entries that fit, the shortest is chosen, unless the group says
// otherwise.
func ExampleStringGroup() {
	for _, longest := range []bool{false, true} {
		g, err := policy.NewStringGroup(policy.StringGroupConfig{
			Name:         "sites",
			Kind:         policy.StringMap,
			Entries:      []policy.StringEntry{{Key: "/shop", Value: "store"}, {Key: "/shop/eu", Value: "eu-store"}},
			LongestMatch: longest,
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		e, ok, err := g.Find(policy.BeginsWith, "/SHOP/EU/cart", false)
		fmt.Println(e.Value, ok, err)
	}
	// Output:
	// store true <nil>
	// eu-store true <nil>
}

// A rule is tried out before it is enforced.
func ExampleHTTPSecurity_dryRun() {
	p, err := policy.NewHTTPSecurity([]policy.SecurityRule{{
		Name:   "no bots",
		DryRun: true,
		Match:  policy.Match{Headers: []policy.HeaderMatch{{Name: "User-Agent", Op: policy.Contains, Values: []string{"bot"}}}},
		Action: policy.Close{},
	}}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	tx := get("/", "192.0.2.1:4000")
	tx.request.Header.Set("User-Agent", "ExampleBot/1.0")
	v := p.Evaluate(tx)
	fmt.Println(v.Action, v.Monitored[0].Rule, v.Monitored[0].Action, p.Stats()[0].WouldDrops)
	// Output: none no bots close 1
}

// An explanation has no effects.
func ExampleHTTPSecurity_Explain() {
	p, err := policy.NewHTTPSecurity([]policy.SecurityRule{
		{Name: "office", Match: policy.Match{SourceIP: &policy.IPMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}, Action: policy.Allow{}},
		{Name: "no admin", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}}, Action: policy.Respond{Status: http.StatusForbidden}},
	}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(p.Explain(get("/x/%2e%2e/ADMIN", "192.0.2.1:4000")))
	// Output:
	// rules[0] "office"
	//     source IP is in 10.0.0.0/8: no (192.0.2.1)
	// rules[1] "no admin"
	//     path begins with "/admin": yes ("/x/../ADMIN", read otherwise "/ADMIN")
	// rules[1] "no admin" decides: respond 403
}

// Rules of two parties are composed; records show whose they are.
func ExampleComposeSets() {
	all, err := policy.ComposeSets(
		policy.PolicySet{Name: "base", HTTPSecurity: []policy.SecurityRule{
			{Name: "admin", Match: policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}}, Action: policy.Close{}}}},
		policy.PolicySet{Name: "shop", HTTPSecurity: []policy.SecurityRule{{Name: "all", Action: policy.Allow{}}}},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := policy.NewHTTPSecurity(all.HTTPSecurity, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Evaluate(get("/cart", "192.0.2.1:4000")).Rule)
	// Output: shop/all
}
