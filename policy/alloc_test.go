package policy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/limpetlb/limpet/internal/testrace"
)

func TestNoAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	env := Env{IPGroups: groups{"g": prefixes("10.0.0.0/8")}}
	var long []string
	for i := range 1000 {
		long = append(long, fmt.Sprintf("needle%04d", i))
	}
	all := Match{
		ClientIP: &IPMatch{Op: IsNotIn, Addrs: addrs("10.0.0.1"), Ranges: []Range[netip.Addr]{{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.9")}}, Groups: []string{"g"}},
		VSPort:   &PortMatch{Ports: []uint16{80, 443}},
		Protocol: &ProtocolMatch{Protocol: HTTP},
		Method:   &MethodMatch{Methods: []string{"GET"}},
		Version:  &VersionMatch{Versions: []string{"HTTP/1.1"}},
		Path:     &PathMatch{Op: DoesNotContain, Values: long},
		Query:    &QueryMatch{Op: DoesNotEqual, Values: long},
		Host:     &TextMatch{Op: DoesNotEndWith, Values: long},
		Headers:  []HeaderMatch{{Name: "User-Agent", Op: DoesNotBeginWith, Values: long}, {Name: "Accept", Op: MatchesRegexp, Values: []string{"html|json"}}},
		Cookie:   &CookieMatch{Name: "session", Op: Exists},
	}
	lastPartFails := all
	lastPartFails.SourceIP = &IPMatch{Op: IsNotIn, Groups: []string{"g"}}
	lastPartFails.ClientIP = &IPMatch{Groups: []string{"g"}}
	request := newTx("GET", "/A/Long/Path/../with;x=1/Needle/%C3%89?a=B+C%20d", host("WWW.Example.COM:80"),
		header("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"), header("Accept", "TEXT/HTML", "*/*"), header("Cookie", "a=1; Session=x; session=Y"))

	none := mustHTTPSecurity(t, env, SecurityRule{Name: "all but the last", Match: lastPartFails, Action: Close{}},
		SecurityRule{Name: "again", Match: lastPartFails, Action: Close{}})
	if n := testing.AllocsPerRun(200, func() {
		if v := none.Evaluate(request); v.Rule != "" {
			t.Fatalf("%+v", v)
		}
	}); n != 0 {
		t.Errorf("no match: %v allocations", n)
	}
	allow := mustHTTPSecurity(t, env, SecurityRule{Name: "all", Match: all, Action: Allow{}})
	if n := testing.AllocsPerRun(200, func() {
		if v := allow.Evaluate(request); v.Rule != "all" {
			t.Fatalf("%+v", v)
		}
	}); n != 0 {
		t.Errorf("allow: %v allocations", n)
	}
	network := mustNetworkSecurity(t, env,
		NetworkRule{Name: "no", Match: NetworkMatch{ClientIP: &IPMatch{Groups: []string{"g"}}}, Action: ActionAllow},
		NetworkRule{Name: "deny", Match: NetworkMatch{ClientPort: &PortMatch{Ranges: []Range[uint16]{{1024, 65535}}}}, Action: ActionReset})
	c := conn{client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:4000")}
	if n := testing.AllocsPerRun(200, func() {
		if v := network.Evaluate(c.client, c.local); v.Rule != "deny" {
			t.Fatalf("%+v", v)
		}
	}); n != 0 {
		t.Errorf("network: %v allocations", n)
	}
}

// Policies whose rules do not match, rate limits and string groups do not
// allocate either.
func TestNoAllocationsMore(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	env := Env{StringGroups: mustStringGroups(t, list("g", "/x", "/y/z"))}
	tx := newTx("GET", "/A/../b/c?q=1", header("X-Key", "k"), response(200, "Server", "Apache"), client("2001:db8::1"))
	no := Match{Path: &PathMatch{Op: BeginsWith, StringGroups: []string{"g"}}, Headers: []HeaderMatch{{Name: "X-Key", Op: Exists}}}
	limited := mustHTTPSecurity(t, env, limit(1e9, func(l *RateLimit) { l.PerClient, l.PerPath, l.PerHeader = true, true, "X-Key" }))
	request := mustHTTPRequest(t, env, RequestRule{Name: "r", Match: no, Action: Redirect{Protocol: HTTPS}})
	res := mustHTTPResponse(t, env, ResponseRule{Name: "r", Match: ResponseMatch{Request: no, Headers: []HeaderMatch{{Name: "Server", Op: Contains, Values: []string{"a"}}}}, Edits: []Edit{RemoveHeader{"X"}}})
	limiter := mustRateLimiter(t, RateLimiterConfig{Rate: Rate{Count: 1}})
	network := mustNetworkSecurity(t, env, NetworkRule{Name: "l", Action: ActionRateLimit, Limit: &NetworkLimit{MaxRate: 1}, Age: 1e18})
	for name, f := range map[string]func() bool{
		"rate limit":    func() bool { return limited.Evaluate(tx).Index < 0 },
		"request":       func() bool { return request.Evaluate(tx).Index < 0 },
		"response":      func() bool { return res.Evaluate(tx).Index < 0 },
		"limiter":       func() bool { limiter.Allow("a key of some length, longer than a word"); return true },
		"address":       func() bool { limiter.AllowAddr(tx.client.Addr()); return true },
		"network limit": func() bool { return network.Evaluate(tx.client, netip.AddrPort{}).Rule == "l" },
	} {
		if n := testing.AllocsPerRun(200, func() {
			if !f() {
				t.Fatal(name)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Scratch space that one large request has grown is not kept.
func TestLargeScratchIsDropped(t *testing.T) {
	s := &subjects{}
	s.arena = make([]byte, 10, maxArena)
	if !s.reset() {
		t.Error("dropped at the limit")
	}
	s.arena = make([]byte, 10, maxArena+1)
	if s.reset() {
		t.Error("kept above the limit")
	}
}
