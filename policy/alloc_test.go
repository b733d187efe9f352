package policy

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	env := Env{IPGroups: groups{"g": prefixes("10.0.0.0/8")}}
	var long []string
	for i := range 1000 {
		long = append(long, fmt.Sprintf("needle%04d", i))
	}
	all := Match{
		ClientIP: &IPMatch{Op: IsNotIn, Addrs: addrs("10.0.0.1"), Ranges: []IPRange{{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.9")}}, Groups: []string{"g"}},
		VSPort:   &PortMatch{Ports: []uint16{80, 443}},
		Protocol: &ProtocolMatch{Protocol: HTTP},
		Method:   &MethodMatch{Methods: []string{"GET"}},
		Version:  &VersionMatch{Versions: []Version{HTTP11}},
		Path:     &PathMatch{Op: DoesNotContain, Values: long},
		Query:    &QueryMatch{Op: DoesNotEqual, Values: long},
		Host:     &HostMatch{Op: DoesNotEndWith, Values: long},
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
		NetworkRule{Name: "no", Match: NetworkMatch{ClientIP: &IPMatch{Groups: []string{"g"}}}, Action: NetworkAllow},
		NetworkRule{Name: "deny", Match: NetworkMatch{ClientPort: &PortMatch{Ranges: []PortRange{{1024, 65535}}}}, Action: NetworkDeny})
	c := Conn{Client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:4000")}
	if n := testing.AllocsPerRun(200, func() {
		if v := network.Evaluate(c); v.Rule != "deny" {
			t.Fatalf("%+v", v)
		}
	}); n != 0 {
		t.Errorf("network: %v allocations", n)
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
