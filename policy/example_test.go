package policy_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/limpetlb/limpet/policy"
)

// transaction is all that a policy needs of a request; this one prints what a
// policy does to it.
type transaction struct {
	request *http.Request
	peer    string
}

func (t transaction) Client() netip.AddrPort  { return netip.MustParseAddrPort(t.peer) }
func (t transaction) Source() netip.AddrPort  { return t.Client() }
func (t transaction) Local() netip.AddrPort   { return netip.MustParseAddrPort("198.51.100.1:80") }
func (t transaction) Original() *http.Request { return t.request }
func (t transaction) Close(reset bool)        { fmt.Println("closed, reset:", reset) }
func (t transaction) Reply(status int, header http.Header, body []byte) {
	fmt.Printf("replied %d %s %q\n", status, header.Get("Location"), body)
}

func (t transaction) EditRequest() *http.Request         { return t.request }
func (t transaction) Response() (int, http.Header, bool) { return 0, nil, false }
func (t transaction) SelectPool(pool string, addr netip.AddrPort) {
	fmt.Println("pool", pool)
}

func (t transaction) SelectLabel(group, label string) {}
func (t transaction) RequestID() string               { return "" }
func (t transaction) Encrypted() bool                 { return t.request.TLS != nil }

func get(target, peer string) transaction {
	return transaction{httptest.NewRequest("GET", target, nil), peer}
}

// blacklist stands for an ipgroup.Set with one group.
type blacklist []netip.Prefix

func (b blacklist) Contains(group string, addr netip.Addr) (bool, error) {
	if group != "Blacklist" {
		return false, errors.New("unknown group")
	}
	for _, p := range b {
		if p.Contains(addr) {
			return true, nil
		}
	}
	return false, nil
}

var groups = blacklist{netip.MustParsePrefix("203.0.113.0/24")}

// An IP group denies connections when they are accepted.
func ExampleNetworkSecurity() {
	p, err := policy.NewNetworkSecurity([]policy.NetworkRule{{
		Name:   "blacklist",
		Match:  policy.NetworkMatch{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
		Action: policy.ActionReset,
		Log:    true,
	}}, policy.Env{IPGroups: groups})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, peer := range []string{"192.0.2.1:4000", "[::ffff:203.0.113.7]:4000"} {
		v := p.Evaluate(netip.MustParseAddrPort(peer), netip.MustParseAddrPort("198.51.100.1:80"))
		fmt.Printf("%s: %v %q\n", peer, v.Action, v.Rule)
	}
	// Output:
	// 192.0.2.1:4000: none ""
	// [::ffff:203.0.113.7]:4000: reset "blacklist"
}

// An IP group closes connections at their first request.
func ExampleHTTPSecurity_blacklist() {
	p, err := policy.NewHTTPSecurity([]policy.SecurityRule{{
		Name:   "blacklist",
		Match:  policy.Match{ClientIP: &policy.IPMatch{Groups: []string{"Blacklist"}}},
		Action: policy.Close{},
	}}, policy.Env{IPGroups: groups})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Evaluate(get("/", "192.0.2.1:4000")).Action)
	fmt.Println(p.Evaluate(get("/", "203.0.113.7:4000")).Action)
	for _, s := range p.Stats() {
		fmt.Println(s.Name, "hits:", s.Hits, "drops:", s.Drops)
	}
	// Output:
	// none
	// closed, reset: false
	// close
	// blacklist hits: 1 drops: 1
}

// Requests that did not come over TLS are sent to https.
func ExampleHTTPSecurity_redirectToHTTPS() {
	p, err := policy.NewHTTPSecurity([]policy.SecurityRule{{
		Name:   "https",
		Action: policy.RedirectToHTTPS{Port: 8443},
	}}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	p.Evaluate(get("http://www.example.com:8080/cart?item=7", "192.0.2.1:4000"))
	// Output:
	// replied 302 https://www.example.com:8443/cart?item=7 "302 Found\n"
}

// A path is denied however it is spelled, except from one network.
func ExampleHTTPSecurity_denyPath() {
	p, err := policy.NewHTTPSecurity([]policy.SecurityRule{
		{
			Name:   "office",
			Match:  policy.Match{SourceIP: &policy.IPMatch{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
			Action: policy.Allow{},
		},
		{
			Name:   "no admin",
			Match:  policy.Match{Path: &policy.PathMatch{Op: policy.BeginsWith, Values: []string{"/admin"}}},
			Action: policy.Respond{Status: http.StatusForbidden},
		},
	}, policy.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Evaluate(get("/admin", "10.1.2.3:4000")).Rule)
	fmt.Println(p.Evaluate(get("/x/%2e%2e/ADMIN", "192.0.2.1:4000")).Rule)
	// Output:
	// office
	// replied 403  "403 Forbidden\n"
	// no admin
}

// All faults of a configuration are reported at once, each with its place.
func ExampleNewHTTPSecurity_faults() {
	_, err := policy.NewHTTPSecurity([]policy.SecurityRule{
		{Name: "admin", Match: policy.Match{Path: &policy.PathMatch{Op: policy.MatchesRegexp, Values: []string{"^/admin("}}}, Action: policy.Close{}},
		{Name: "admin", Match: policy.Match{ClientIP: &policy.IPMatch{Groups: []string{"Black list"}}}},
	}, policy.Env{IPGroups: groups})
	fmt.Println(err)
	// Output:
	// rules[0].match.path.values[0]: "^/admin(": missing closing )
	// rules[1].name: "admin": already the name of a rule before it
	// rules[1].match.clientIP.groups[0]: "Black list": unknown group
	// rules[1].action: a rule needs an action
}

// A list of strings in a file that others keep, while the program runs.
func ExampleStringGroupWatcher() {
	dir, err := os.MkdirTemp("", "policy")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "bots.csv") // for example /etc/limpet/bots.csv
	if err := os.WriteFile(path, []byte("curl\npython-requests\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	groups := new(policy.StringGroups)
	bots := policy.StringGroupFile{Path: path, Group: policy.StringGroupConfig{Name: "Bots"}, Strict: true}
	watcher, err := policy.NewStringGroupWatcher(groups, []policy.StringGroupFile{bots}, func(file policy.StringGroupFile, err error) {
		if err != nil {
			log.Print("the old list remains: ", err) // names every bad line
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- watcher.Run(ctx) }()

	fmt.Println(groups.Match("Bots", "contains", "Curl/8.5.0", false))

	stop()
	fmt.Println(<-done)
	// Output:
	// curl true <nil>
	// <nil>
}
