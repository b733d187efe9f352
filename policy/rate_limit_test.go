package policy

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func limit(count int, edit func(*RateLimit)) SecurityRule {
	a := RateLimit{Limit: RateLimiterConfig{Rate: Rate{Count: count, Period: time.Hour}}}
	edit(&a)
	return SecurityRule{Name: "limit", Action: a}
}

// Each row sends requests to a rule that allows one an hour for each key, and
// says which of them pass.
func TestRateLimitKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*RateLimit)
		txs  []*fakeTx
		want string // + passes, - does not
	}{
		{"shared", func(*RateLimit) {}, []*fakeTx{newTx("GET", "/a"), newTx("GET", "/b", client("192.0.2.9"))}, "+-"},
		{"client", func(l *RateLimit) { l.PerClient = true }, []*fakeTx{
			newTx("GET", "/a"), newTx("GET", "/b"), newTx("GET", "/a", client("::ffff:192.0.2.1")), newTx("GET", "/a", client("192.0.2.9")),
			newTx("GET", "/", client("2001:db8::1")), newTx("GET", "/", client("2001:db8::2")),
		}, "+--++-"},
		{"path", func(l *RateLimit) { l.PerPath = true }, []*fakeTx{
			newTx("GET", "/a?x"), newTx("GET", "/a?y"), newTx("GET", "/A"), newTx("GET", "/x/../%61"), newTx("GET", "//a"), newTx("GET", "/a;b"), newTx("GET", "/b"),
		}, "+-----+"},
		{"pair", func(l *RateLimit) { l.PerPath, l.PerClient = true, true }, []*fakeTx{
			newTx("GET", "/a"), newTx("GET", "/b"), newTx("GET", "/a", client("192.0.2.9")), newTx("GET", "/a"),
		}, "+++-"},
		{"header", func(l *RateLimit) { l.PerHeader = "x-key" }, []*fakeTx{
			newTx("GET", "/", header("X-Key", "a")), newTx("GET", "/", header("X-Key", "A")), newTx("GET", "/", header("X-Key", "a")),
			newTx("GET", "/"), newTx("GET", "/"), newTx("GET", "/", header("X-Key", "a", "")), newTx("GET", "/", header("X-Key", "", "a")),
		}, "++-+-++"},
		{"cookie", func(l *RateLimit) { l.PerCookie = "k" }, []*fakeTx{
			newTx("GET", "/", header("Cookie", "k=1; x=2")), newTx("GET", "/", header("Cookie", "x=3; k=1")), newTx("GET", "/", header("Cookie", "k=2")),
		}, "+-+"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustHTTPSecurity(t, Env{}, limit(1, c.edit), SecurityRule{Name: "next", Match: pathIs("/forbidden"), Action: Close{}})
			var got strings.Builder
			for _, tx := range c.txs {
				v := p.Evaluate(tx)
				if v.Ended {
					if v.Status != 429 || !v.Limited || !v.Dropped || v.Rule != "limit" || tx.status != 429 {
						t.Fatalf("%+v", v)
					}
					got.WriteByte('-')
					continue
				}
				got.WriteByte('+')
			}
			if got.String() != c.want {
				t.Errorf("%s, want %s", got.String(), c.want)
			}
			s := p.Stats()[0]
			if int(s.Allowed) != strings.Count(c.want, "+") || int(s.Limited) != strings.Count(c.want, "-") || s.Hits != s.Limited || s.Drops != s.Limited {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestRateLimitActions(t *testing.T) {
	for _, c := range []struct {
		name     string
		exceeded RateLimitAction
		tx       *fakeTx
		want     Verdict
		status   int
	}{
		{"default", nil, newTx("GET", "/"), Verdict{Rule: "limit", Action: ActionRespond, Status: 429, Ended: true, Dropped: true, Limited: true}, 429},
		{"own page", Respond{Status: 503}, newTx("GET", "/"), Verdict{Rule: "limit", Action: ActionRespond, Status: 503, Ended: true, Dropped: true, Limited: true}, 503},
		{"close", Close{}, newTx("GET", "/"), Verdict{Rule: "limit", Action: ActionClose, Ended: true, Dropped: true, Limited: true}, 0},
		{"reset", Close{Reset: true}, newTx("GET", "/"), Verdict{Rule: "limit", Action: ActionReset, Ended: true, Dropped: true, Limited: true}, 0},
		{"redirect", Redirect{Protocol: HTTPS, Host: "slow.host[1:]"}, newTx("GET", "/x", host("a.b")), Verdict{Rule: "limit", Action: ActionRedirect, Status: 302, Ended: true, Limited: true}, 302},
		{"redirect that cannot be built", Redirect{Protocol: HTTPS, Path: "/path[9]"}, newTx("GET", "/"), Verdict{Rule: "limit", Action: ActionRespond, Status: 429, Ended: true, Dropped: true, Limited: true}, 429},
		{"report", Report{}, newTx("GET", "/"), Verdict{Rule: "next", Index: 1, Action: ActionAllow, Monitored: []Outcome{{Rule: "limit", Action: ActionReport, Limited: true}}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustHTTPSecurity(t, Env{}, limit(1, func(l *RateLimit) { l.Exceeded = c.exceeded }), SecurityRule{Name: "next", Action: Allow{}})
			if v := p.Evaluate(newTx("GET", "/")); v.Rule != "next" {
				t.Fatalf("%+v", v)
			}
			if diff := cmp.Diff(c.want, p.Evaluate(c.tx)); diff != "" {
				t.Error(diff)
			}
			if c.tx.status != c.status || c.tx.closed != (c.want.Status == 0 && c.want.Ended) || c.tx.reset != (c.want.Action == ActionReset) {
				t.Errorf("%+v", c.tx)
			}
			if s := p.Stats()[0]; s.Allowed != 1 || s.Limited != 1 || s.Hits+s.WouldHits != 1 {
				t.Errorf("%+v", s)
			}
		})
	}

	_, err := NewHTTPSecurity([]SecurityRule{
		{Name: "a", Action: RateLimit{PerHeader: "a b", PerCookie: "a b", Exceeded: &Close{}}},
		{Name: "b", Action: RateLimit{Limit: RateLimiterConfig{Rate: Rate{Count: 1, Burst: -1}}, Exceeded: Redirect{}}},
		{Name: "c", Action: RateLimit{Limit: RateLimiterConfig{Rate: Rate{Count: 1}}, Exceeded: Respond{Status: 1}}},
	}, Env{})
	want := []string{
		"rules[0].action.limit.count: 0: less than 1", `rules[0].action.perHeader: "a b": not a header name`, `rules[0].action.perCookie: "a b": not a cookie name`,
		"rules[0].action.exceeded: *policy.Close is not an action; give the struct, not a pointer to it",
		"rules[1].action.limit.burst: -1: negative", "rules[1].action.exceeded.protocol: missing: one of http, https",
		"rules[2].action.exceeded.status: 1: less than 200",
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
	p := mustHTTPSecurity(t, Env{FailOpen: true}, limit(1, func(l *RateLimit) { l.PerPath = true }))
	if v := p.Evaluate(newTx("GET", "/%00")); v.Status != 400 {
		t.Errorf("%+v", v)
	}
}

func TestNetworkLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := conn{client: netip.MustParseAddrPort("192.0.2.1:1"), local: netip.MustParseAddrPort("198.51.100.1:443")}
		rule := func(l NetworkLimit) *NetworkSecurity {
			return mustNetworkSecurity(t, Env{}, NetworkRule{Name: "limit", Action: ActionRateLimit, Limit: &l, Log: true}, NetworkRule{Name: "rest", Action: ActionReset})
		}
		p := rule(NetworkLimit{MaxRate: 2, Burst: 3})
		for i := range 3 {
			c.client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1) // one bucket for all
			if v := p.Evaluate(c.client, c.local); !cmp.Equal(v, Verdict{Rule: "limit", Action: ActionAllow, Log: true}) {
				t.Fatalf("%+v", v)
			}
		}
		if v := p.Evaluate(c.client, c.local); !cmp.Equal(v, Verdict{Rule: "limit", Action: ActionClose, Ended: true, Dropped: true, Limited: true, Log: true}) {
			t.Errorf("%+v", v)
		}
		time.Sleep(500 * time.Millisecond)
		if p.Evaluate(c.client, c.local).Ended || !p.Evaluate(c.client, c.local).Ended {
			t.Error("not one token after half a second")
		}
		if s := p.Stats()[0]; s.Allowed != 4 || s.Limited != 2 || s.Hits != 6 || s.Drops != 2 {
			t.Errorf("%+v", s)
		}

		reset := rule(NetworkLimit{MaxRate: 1, Exceeded: ActionReset, Continue: true})
		if v := reset.Evaluate(c.client, c.local); v.Rule != "rest" || v.Limited {
			t.Errorf("%+v", v)
		}
		if v := reset.Evaluate(c.client, c.local); v.Rule != "limit" || v.Action != ActionReset || !v.Limited {
			t.Errorf("%+v", v)
		}

		report := rule(NetworkLimit{MaxRate: 1, Exceeded: ActionReport})
		report.Evaluate(c.client, c.local)
		want := Verdict{Rule: "rest", Index: 1, Action: ActionReset, Ended: true, Dropped: true, Monitored: []Outcome{{Rule: "limit", Action: ActionReport, Limited: true, Log: true}}}
		if diff := cmp.Diff(want, report.Evaluate(c.client, c.local)); diff != "" {
			t.Error(diff)
		}
	})
	_, err := NewNetworkSecurity([]NetworkRule{
		{Name: "a", Action: ActionRateLimit},
		{Name: "b", Action: ActionAllow, Limit: &NetworkLimit{MaxRate: 1}, Age: -1},
		{Name: "c", Action: ActionRateLimit, Limit: &NetworkLimit{Burst: -1, Exceeded: ActionAllow}},
		{Name: "d", Action: ActionClose},
	}, Env{})
	want := []string{
		`rules[0].limit: "rate limit" needs a limit`,
		`rules[1].limit: "allow" takes no limit`,
		`rules[1].age: -1ns: negative`,
		`rules[2].limit.maxRate: 0: less than 1`,
		`rules[2].limit.burst: -1: negative`,
		`rules[2].limit.exceeded: "allow": not one of close, reset, report`,
		`rules[3].action: "close": not one of allow, reset, rate limit`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}

func TestNetworkRuleAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := conn{client: netip.MustParseAddrPort("192.0.2.1:1")}
		rule := NetworkRule{Name: "for an hour", Action: ActionReset, Age: time.Hour}
		p := mustNetworkSecurity(t, Env{}, rule)
		time.Sleep(time.Hour - 1)
		if !p.Evaluate(c.client, c.local).Ended || p.Stats()[0].Expired {
			t.Error("expired too soon")
		}
		next := mustNetworkSecurity(t, Env{Previous: Previous{NetworkSecurity: p}}, rule)
		time.Sleep(time.Nanosecond)
		if p.Evaluate(c.client, c.local).Ended || next.Evaluate(c.client, c.local).Ended || !next.Stats()[0].Expired || next.Stats()[0].Hits != 1 {
			t.Errorf("not expired: %+v", next.Stats())
		}
		if !strings.Contains(p.Explain(c.client, c.local), "expired") {
			t.Error(p.Explain(c.client, c.local))
		}
		if again := mustNetworkSecurity(t, Env{}, rule); !again.Evaluate(c.client, c.local).Ended {
			t.Error("a new policy takes over nothing")
		}
	})
}

// A change of the configuration neither forgets counts nor fills buckets.
func TestPrevious(t *testing.T) {
	c := conn{client: netip.MustParseAddrPort("192.0.2.1:1")}
	netRules := []NetworkRule{{Name: "l", Action: ActionRateLimit, Limit: &NetworkLimit{MaxRate: 1}}}
	secRules := []SecurityRule{limit(1, func(l *RateLimit) { l.PerClient = true })}
	reqRules := []RequestRule{modify(AddHeader{"X", "1"})}
	resRules := []ResponseRule{{Name: "r", Edits: []Edit{AddHeader{"X", "1"}}}}
	old := Previous{mustNetworkSecurity(t, Env{}, netRules...), mustHTTPSecurity(t, Env{}, secRules...), mustHTTPRequest(t, Env{}, reqRules...), mustHTTPResponse(t, Env{}, resRules...)}
	use := func(p Previous) (denied, ended bool) {
		tx := newTx("GET", "/", response(200))
		p.HTTPRequest.Evaluate(tx)
		p.HTTPResponse.Evaluate(tx)
		return p.NetworkSecurity.Evaluate(c.client, c.local).Ended, p.HTTPSecurity.Evaluate(tx).Ended
	}
	rebuild := func(p Previous) Previous {
		env := Env{Previous: p}
		return Previous{mustNetworkSecurity(t, env, netRules...), mustHTTPSecurity(t, env, secRules...), mustHTTPRequest(t, env, reqRules...), mustHTTPResponse(t, env, resRules...)}
	}
	if denied, ended := use(old); denied || ended {
		t.Fatal("the first is limited")
	}
	next := rebuild(old)
	if denied, ended := use(next); !denied || !ended {
		t.Error("buckets are full again")
	}
	if n, s, q, r := next.NetworkSecurity.Stats()[0], next.HTTPSecurity.Stats()[0], next.HTTPRequest.Stats()[0], next.HTTPResponse.Stats()[0]; n.Allowed != 1 || n.Limited != 1 || s.Allowed != 1 || s.Limited != 1 || q.Hits != 2 || r.Hits != 2 {
		t.Errorf("%+v %+v %+v %+v", n, s, q, r)
	}
	if next.HTTPSecurity.env.Previous != (Previous{}) || next.NetworkSecurity.env.Previous != (Previous{}) {
		t.Error("the old policies are kept")
	}
	netRules[0].Limit = &NetworkLimit{MaxRate: 5}
	secRules[0] = limit(5, func(l *RateLimit) { l.PerClient = true })
	if denied, ended := use(rebuild(next)); denied || ended {
		t.Error("another rate goes on with the old buckets")
	}
	// Requests that began under the old policy count as well.
	use(old)
	if hits := next.HTTPRequest.Stats()[0].Hits; hits != 4 {
		t.Errorf("%d hits", hits)
	}
}

type fakeGeo map[netip.Addr]string

func (g fakeGeo) Locate(addr netip.Addr, attribute string) (string, bool) {
	if attribute == "panic" {
		panic("no such attribute")
	}
	v, ok := g[addr]
	return attribute + v, ok
}

type fakeReputations map[netip.Addr]string

func (r fakeReputations) HasReputation(addr netip.Addr, kind string) (bool, error) {
	if kind == "UNKNOWN" || addr == netip.MustParseAddr("192.0.2.66") {
		return false, errDown
	}
	return strings.Contains(r[addr], kind), nil
}

func TestGeoAndReputation(t *testing.T) {
	env := Env{
		Geo:         fakeGeo{netip.MustParseAddr("192.0.2.1"): "DE", netip.MustParseAddr("192.0.2.2"): "US"},
		Reputations: fakeReputations{netip.MustParseAddr("192.0.2.1"): "BOTNETS TOR"},
	}
	de := &GeoMatch{Values: []string{"de", "FR"}}
	notDE := &GeoMatch{Op: IsNotIn, Values: de.Values}
	tor := &ReputationMatch{Kinds: []string{"SPAM", "TOR"}}
	notTor := &ReputationMatch{Op: IsNotIn, Kinds: tor.Kinds}
	for _, c := range []struct {
		name, addr string
		geo        *GeoMatch
		reputation *ReputationMatch
		want       bool
	}{
		{"in", "192.0.2.1", de, nil, true},
		{"mapped", "::ffff:192.0.2.1", de, nil, true},
		{"out", "192.0.2.2", de, nil, false},
		{"not in", "192.0.2.2", notDE, nil, true},
		{"not known", "192.0.2.3", de, nil, false},
		{"not known, not in", "192.0.2.3", notDE, nil, true},
		{"attribute", "192.0.2.1", &GeoMatch{Attribute: "AS", Values: []string{"asDE"}}, nil, true},
		{"reputation", "192.0.2.1", nil, tor, true},
		{"no reputation", "192.0.2.2", nil, tor, false},
		{"not that reputation", "192.0.2.2", nil, notTor, true},
		{"both", "192.0.2.1", de, notTor, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tx := newTx("GET", "/", client(c.addr))
			if v := mustHTTPSecurity(t, env, SecurityRule{Name: "r", Match: Match{Geo: c.geo, Reputation: c.reputation}, Action: Close{}}).Evaluate(tx); v.Ended != c.want || v.Err != nil {
				t.Errorf("%+v", v)
			}
			n := mustNetworkSecurity(t, env, NetworkRule{Name: "r", Match: NetworkMatch{Geo: c.geo, Reputation: c.reputation}, Action: ActionReset})
			if v := n.Evaluate(tx.client, netip.AddrPort{}); v.Ended != c.want || v.Err != nil {
				t.Errorf("%+v", v)
			}
		})
	}
	for _, m := range []Match{{Geo: &GeoMatch{Attribute: "panic", Values: []string{"x"}}}, {Reputation: tor}} {
		v := mustHTTPSecurity(t, env, SecurityRule{Name: "r", Match: m, Action: Close{}}).Evaluate(newTx("GET", "/", client("192.0.2.66")))
		if v.Status != 500 || v.Err == nil {
			t.Errorf("%+v", v)
		}
	}
	nobody := newTx("GET", "/", func(t *fakeTx) { t.client = netip.AddrPort{} })
	if v := mustHTTPSecurity(t, env, SecurityRule{Name: "r", Match: Match{Geo: notDE, Reputation: notTor}, Action: Close{}}).Evaluate(nobody); !v.Ended {
		t.Error("an invalid address is in a list")
	}
	bad := Match{Geo: &GeoMatch{Op: 2, Values: []string{""}}, Reputation: &ReputationMatch{Op: 2, Kinds: []string{"", "UNKNOWN"}}}
	_, err := NewHTTPSecurity([]SecurityRule{{Name: "r", Action: Close{}, Match: bad}}, env)
	want := []string{
		`rules[0].match.geo.op: "begins with": not one of is in, is not in`, "rules[0].match.geo.values[0]: missing", `rules[0].match.reputation.op: "begins with": not one of is in, is not in`,
		"rules[0].match.reputation.kinds[0]: missing", "rules[0].match.reputation.kinds[1]: \"UNKNOWN\": " + errDown.Error(),
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
	_, err = NewHTTPSecurity([]SecurityRule{{Name: "r", Action: Close{}, Match: Match{Geo: &GeoMatch{}, Reputation: &ReputationMatch{}}}}, Env{})
	want = []string{
		"rules[0].match.geo: the policy was given no geo data", "rules[0].match.geo.values: missing",
		"rules[0].match.reputation: the policy was given no reputations", "rules[0].match.reputation.kinds: missing",
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}
