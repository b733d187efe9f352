package policy

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDryRun(t *testing.T) {
	env := Env{IPGroups: brokenGroups{}}
	broken := Match{ClientIP: &IPMatch{Groups: []string{"g"}}}
	tx := newTx("GET", "/", client("192.0.2.66"), response(200))
	ignoreErr := cmpopts.IgnoreFields(Outcome{}, "Err")

	sec := mustHTTPSecurity(t, env,
		SecurityRule{Name: "broken", DryRun: true, Match: broken, Action: Close{}},
		SecurityRule{Name: "close", DryRun: true, Action: Close{Reset: true}, Log: true},
		SecurityRule{Name: "allow", Action: Allow{}},
		SecurityRule{Name: "late", DryRun: true, Action: Close{}})
	v := sec.Evaluate(tx)
	want := Verdict{Rule: "allow", Index: 2, Action: ActionAllow, Monitored: []Outcome{
		{Rule: "broken", Action: ActionFail}, {Rule: "close", Index: 1, Action: ActionReset, Log: true}}}
	if diff := cmp.Diff(want, v, ignoreErr); diff != "" || !errors.Is(v.Monitored[0].Err, errDown) {
		t.Error(diff, v.Monitored)
	}
	if s := sec.Stats(); s[0].Errors != 1 || s[1].Hits != 0 || s[1].WouldHits != 1 || s[1].WouldDrops != 1 || s[1].LastHit.IsZero() || s[3].WouldHits != 0 {
		t.Errorf("%+v", s)
	}

	req := mustHTTPRequest(t, env,
		RequestRule{Name: "broken", DryRun: true, Match: broken, Action: Respond{Status: 403}},
		RequestRule{Name: "redirect", DryRun: true, Action: Redirect{Protocol: HTTPS}},
		RequestRule{Name: "edit", DryRun: true, Action: Modify{Edits: []Edit{AddHeader{"X", "1"}}, Pool: SwitchPool{Name: "p"}}},
		RequestRule{Name: "respond", DryRun: true, Action: Respond{Status: 403}})
	want = Verdict{Index: -1, Monitored: []Outcome{
		{Rule: "broken", Action: ActionFail}, {Rule: "redirect", Index: 1, Action: ActionRedirect, Status: 302},
		{Rule: "edit", Index: 2, Action: ActionModify}, {Rule: "respond", Index: 3, Action: ActionRespond, Status: 403}}}
	if diff := cmp.Diff(want, req.Evaluate(tx), ignoreErr); diff != "" {
		t.Error(diff)
	}
	if s := req.Stats(); s[1].WouldHits != 1 || s[1].WouldDrops != 0 || s[3].WouldDrops != 1 {
		t.Errorf("%+v", s)
	}

	res := mustHTTPResponse(t, env,
		ResponseRule{Name: "broken", DryRun: true, Match: ResponseMatch{Request: broken}, Edits: []Edit{RemoveHeader{"X"}}},
		ResponseRule{Name: "edit", DryRun: true, Edits: []Edit{AddHeader{"X", "1"}}})
	want = Verdict{Index: -1, Monitored: []Outcome{{Rule: "broken", Action: ActionFail}, {Rule: "edit", Index: 1, Action: ActionModify}}}
	if diff := cmp.Diff(want, res.Evaluate(tx), ignoreErr); diff != "" {
		t.Error(diff)
	}
	if tx.calls != 0 || tx.sent != nil || tx.selected != 0 || len(tx.answer) != 0 || tx.closed {
		t.Errorf("enforced: %+v", tx)
	}

	net := mustNetworkSecurity(t, env,
		NetworkRule{Name: "broken", DryRun: true, Match: NetworkMatch{ClientIP: &IPMatch{Groups: []string{"g"}}}, Action: ActionAllow},
		NetworkRule{Name: "deny", DryRun: true, Action: ActionReset})
	nv := net.Evaluate(tx.client, netip.AddrPort{})
	nwant := Verdict{Index: -1, Monitored: []Outcome{{Rule: "broken", Action: ActionFail}, {Rule: "deny", Index: 1, Action: ActionReset}}}
	if diff := cmp.Diff(nwant, nv, cmpopts.IgnoreFields(Outcome{}, "Err")); diff != "" || !errors.Is(nv.Monitored[0].Err, errDown) {
		t.Error(diff, nv.Monitored)
	}
	if s := net.Stats(); s[0].Errors != 1 || s[1].WouldDrops != 1 || s[1].Hits != 0 {
		t.Errorf("%+v", s)
	}
}

func TestExplain(t *testing.T) {
	env := Env{IPGroups: brokenGroups{}, StringGroups: mustStringGroups(t, list("Paths", "/x"))}
	all := Match{
		Protocol: &ProtocolMatch{Protocol: HTTP}, Version: &VersionMatch{Versions: []string{"HTTP/1.1"}}, Method: &MethodMatch{Methods: []string{"GET", "HEAD"}},
		VSPort: &PortMatch{Ports: []uint16{80}, Ranges: []Range[uint16]{{8000, 8099}}}, Host: &TextMatch{Op: EndsWith, Values: []string{".com"}},
		Path:  &PathMatch{Op: BeginsWith, Values: []string{"/a", "/b", "/c", "/d", "/e"}},
		Query: &QueryMatch{Op: Exists}, Headers: []HeaderMatch{{Name: "x", Op: DoesNotExist}}, Cookie: &CookieMatch{Name: "c", Op: Equals, Values: []string{"1"}},
		SourceIP: &IPMatch{Op: IsNotIn, Addrs: addrs("10.0.0.1"), Ranges: []Range[netip.Addr]{{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")}}},
		ClientIP: &IPMatch{Groups: []string{"Office"}},
	}
	sec := mustHTTPSecurity(t, env,
		SecurityRule{Name: "off", Disabled: true, Action: Close{}},
		SecurityRule{Name: "limit", Action: RateLimit{Limit: RateLimiterConfig{Rate: Rate{Count: 1}}}},
		SecurityRule{Name: "https", Match: Match{Host: &TextMatch{Op: Equals, Values: []string{"none"}}}, Action: RedirectToHTTPS{}},
		SecurityRule{Name: "watch", DryRun: true, Match: Match{Path: &PathMatch{Op: DoesNotContain, StringGroups: []string{"Paths"}}}, Action: Close{}},
		SecurityRule{Name: "all", Match: all, Action: Close{}},
		SecurityRule{Name: "forbidden", Action: Respond{Status: 403}})
	tx := newTx("GET", "/z/../a?q=1", header("Cookie", "c=1; c=2"))
	want := `rules[0] "off"
    disabled
rules[1] "limit"
    within the rate limit
rules[2] "https"
    host equals "none": no ("example.com")
rules[3] "watch"
    path does not contain string group "Paths": yes ("/z/../a", read otherwise "/a")
    not enforced: would close
rules[4] "all"
    protocol is in http: yes (http)
    version is in HTTP/1.1: yes (HTTP/1.1)
    method is in GET, HEAD: yes (GET)
    VS port is in 80, 8000-8099: yes (80)
    host ends with ".com": yes ("example.com")
    path begins with "/a", "/b", "/c" and 2 more: yes ("/z/../a", read otherwise "/a")
    query exists: yes ("q=1")
    header X does not exist: yes (absent)
    cookie c equals "1": yes ("1", "2")
    source IP is not in 10.0.0.1, 10.0.0.3-10.0.0.4: yes (192.0.2.1)
    client IP is in IP group "Office": no (192.0.2.1)
rules[5] "forbidden"
rules[5] "forbidden" decides: respond 403
`
	for range 2 { // taking no token, the second time is as the first
		if diff := cmp.Diff(want, sec.Explain(tx)); diff != "" {
			t.Error(diff)
		}
	}
	for _, s := range sec.Stats() {
		if s.Hits+s.WouldHits+s.Allowed+s.Errors+s.Skips != 0 {
			t.Errorf("%+v", s)
		}
	}
	if tx.calls != 0 {
		t.Error("explaining has effects")
	}
	sec.Evaluate(newTx("GET", "/"))
	brokenTx := newTx("GET", "/a?q", client("192.0.2.66"), header("Cookie", "c=1"))
	want = `    above the rate limit
rules[1] "limit" decides: respond 429
`
	if got := sec.Explain(brokenTx); len(got) < len(want) || got[len(got)-len(want):] != want {
		t.Error(got)
	}

	redirects := mustHTTPSecurity(t, Env{}, SecurityRule{Name: "https", Action: RedirectToHTTPS{}})
	if got, want := redirects.Explain(newTx("GET", "/x")), "rules[0] \"https\"\nrules[0] \"https\" decides: redirect 302 to https://example.com/x\n"; got != want {
		t.Error(got)
	}
	if got, want := redirects.Explain(newTx("GET", "/x", overTLS)), "rules[0] \"https\"\n    skipped: the request came over https, or its host is not valid in a URL\nno rule decides: the request goes on\n"; got != want {
		t.Error(got)
	}

	req := mustHTTPRequest(t, Env{},
		RequestRule{Name: "edit", Match: pathIs("/x"), Action: Modify{
			Rewrite: RewriteURL{Host: "h", Path: "/p", DropQuery: true, AddQuery: "q=1"}, Edits: []Edit{AddHeader{"X", "1"}, ReplaceCookie{"c", "1"}, RemoveHeader{"Y"}},
			Pool: SwitchPool{Name: "pool", Server: netip.MustParseAddrPort("10.0.0.1:80")}}},
		RequestRule{Name: "short", Action: Modify{Rewrite: RewriteURL{Path: "/path[5]"}}})
	reqTx := newTx("GET", "/x")
	want = `rules[0] "edit"
    path equals "/x": yes ("/x")
    host h, path /p, drop the query, add the query q=1, add header X, replace cookie c, remove header Y, pool pool, server 10.0.0.1:80
rules[1] "short"
    skipped: there are fewer tokens than the template names
applied: edit
`
	if diff := cmp.Diff(want, req.Explain(reqTx)); diff != "" || reqTx.sent != nil || req.Stats()[0].Hits != 0 || req.Stats()[1].Skips != 0 {
		t.Error(diff)
	}

	res := mustHTTPResponse(t, env,
		ResponseRule{Name: "status", Match: ResponseMatch{Status: &StatusMatch{Codes: []int{302}, Ranges: []Range[int]{{307, 308}}}, Headers: []HeaderMatch{{Name: "x", Op: Exists}}, Location: &TextMatch{Op: Exists}},
			Edits: []Edit{RemoveCookie{"c"}}, Location: &RewriteLocation{Protocol: HTTPS}},
		ResponseRule{Name: "broken", Match: ResponseMatch{Request: Match{ClientIP: &IPMatch{Groups: []string{"g"}}}}, Edits: []Edit{RemoveCookie{"c"}}})
	want = `rules[0] "status"
    status is in 302, 307-308: yes (302)
    response header X exists: yes ("1")
    Location exists: yes ("/y")
    remove cookie c
    Location https://example.com/y
rules[1] "broken"
    client IP is in IP group "g": IP group "g": geo database is closed
rules[1] "broken" fails: respond 500
`
	resTx := newTx("GET", "/x", client("192.0.2.66"), response(302, "Location", "/y", "X", "1"))
	if diff := cmp.Diff(want, res.Explain(resTx)); diff != "" || resTx.answer.Get("Location") != "/y" || res.Stats()[1].Errors != 0 {
		t.Error(diff)
	}

	net := mustNetworkSecurity(t, Env{IPGroups: brokenGroups{}, FailOpen: true},
		NetworkRule{Name: "port", Match: NetworkMatch{VSPort: &PortMatch{Ports: []uint16{443}}}, Action: ActionReset},
		NetworkRule{Name: "limit", Action: ActionRateLimit, Limit: &NetworkLimit{MaxRate: 1, Continue: true}},
		NetworkRule{Name: "group", Match: NetworkMatch{ClientIP: &IPMatch{Groups: []string{"g"}}}, Action: ActionReset})
	c := conn{client: netip.MustParseAddrPort("192.0.2.66:1"), local: netip.MustParseAddrPort("198.51.100.1:80")}
	want = `rules[0] "port"
    VS port is in 443: no (192.0.2.66:1 to port 80)
rules[1] "limit"
    within the rate limit
rules[2] "group"
    client IP is in IP group "g": IP group "g": geo database is closed (192.0.2.66:1 to port 80)
rules[2] "group" fails open: the connection is accepted
`
	if diff := cmp.Diff(want, net.Explain(c.client, c.local)); diff != "" {
		t.Error(diff)
	}
}

func TestComposeSets(t *testing.T) {
	sets := []PolicySet{
		{Name: "base", HTTPSecurity: []SecurityRule{{Name: "a", Action: Allow{}}}, HTTPRequest: []RequestRule{modify(AddHeader{"X", "base"})}},
		{Name: "shop", HTTPSecurity: []SecurityRule{{Name: "a", Action: Close{}}}, HTTPRequest: []RequestRule{modify(AddHeader{"X", "shop"})},
			HTTPResponse: []ResponseRule{{Name: "r", Edits: []Edit{RemoveHeader{"Server"}}}, {Edits: []Edit{RemoveHeader{"X"}}}}},
	}
	all, err := ComposeSets(sets...)
	if err != nil {
		t.Fatal(err)
	}
	if sets[0].HTTPSecurity[0].Name != "a" || all.HTTPSecurity[1].Name != "shop/a" || all.HTTPResponse[1].Name != "" || len(all.HTTPResponse) != 2 {
		t.Errorf("%+v", all)
	}
	tx := newTx("GET", "/")
	v := mustHTTPRequest(t, Env{}, all.HTTPRequest...).Evaluate(tx)
	if diff := cmp.Diff([]string{"base/r", "shop/r"}, v.Applied); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"base", "shop"}, tx.sent.Header["X"]); diff != "" {
		t.Error(diff)
	}
	_, err = ComposeSets(PolicySet{Name: "a"}, PolicySet{Name: "a/b"}, PolicySet{Name: "a"}, PolicySet{})
	want := []string{
		`sets[1].name: "a/b": not a name of at most 255 bytes of printable text without a slash`,
		`sets[2].name: "a": already the name of sets[0]`,
		`sets[3].name: "": not a name of at most 255 bytes of printable text without a slash`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}
