package policy

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRewriteURL(t *testing.T) {
	for _, c := range []struct {
		name, target string
		rewrite      RewriteURL
		want         string // host and request target
	}{
		{"host", "/a?x=1", RewriteURL{Host: "internal"}, "internal/a?x=1"},
		{"host with port", "/", RewriteURL{Host: "host[0].internal:8080"}, "example.internal:8080/"},
		{"path", "/a/b%20c?x=1", RewriteURL{Path: "new/path[1]"}, "example.com/new/b%20c?x=1"},
		{"path with encoded slash", "/a%2fb/c", RewriteURL{Path: "/path[0]"}, "example.com/a%2fb"},
		{"drop query", "/a?x=1", RewriteURL{DropQuery: true}, "example.com/a"},
		{"add query", "/a?x=1", RewriteURL{AddQuery: "y=2 3"}, "example.com/a?x=1&y=2%203"},
		{"become query", "/a?x=1", RewriteURL{DropQuery: true, AddQuery: "y=2"}, "example.com/a?y=2"},
		{"add to none", "/a", RewriteURL{AddQuery: "y=2"}, "example.com/a?y=2"},
		{"asterisk", "*", RewriteURL{Path: "/x"}, "example.com/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := received(c.target)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "example.com"
			tx := newTx("GET", "/", func(tx *fakeTx) { tx.request = r })
			before := *r.URL
			v := mustHTTPRequest(t, Env{}, RequestRule{Name: "r", Action: Modify{Rewrite: c.rewrite}}).Evaluate(tx)
			if got := tx.sent.Host + tx.sent.URL.RequestURI(); got != c.want || v.Action != ActionModify {
				t.Errorf("%q, want %q", got, c.want)
			}
			if *r.URL != before || r.Host != "example.com" {
				t.Errorf("the original has become %q", r.URL)
			}
		})
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		name, host, target string
		redirect           Redirect
		want               string // empty: skipped
	}{
		{"protocol", "example.com:80", "/a?x=1", Redirect{Protocol: HTTPS}, "https://example.com/a?x=1"},
		{"port", "example.com", "/a", Redirect{Protocol: HTTPS, Port: 8443}, "https://example.com:8443/a"},
		{"default port", "example.com", "/a", Redirect{Protocol: HTTP, Port: 80}, "http://example.com/a"},
		{"everything", "a.example.com", "/x/y?q=1", Redirect{Protocol: HTTPS, Host: "www.host[1:]", Path: "host[0]/path[1]", Port: 443, DropQuery: true, AddQuery: "z=1"}, "https://www.example.com/a/y?z=1"},
		{"added query", "a.b", "/?q=1", Redirect{Protocol: HTTP, AddQuery: "z=1"}, "http://a.b/?q=1&z=1"},
		{"path that looks like a host", "a.b", "//evil.example/x", Redirect{Protocol: HTTPS}, "https://a.b//evil.example/x"},
		{"line end", "a.b", "/%0d%0aX:y?\x7f", Redirect{Protocol: HTTPS, Path: "/p/path[0]"}, "https://a.b/p/%0d%0aX:y?%7F"},
		{"IPv4", "192.0.2.1", "/", Redirect{Protocol: HTTPS, Host: "www.host[1:]"}, ""},
		{"IPv4 kept", "192.0.2.1", "/", Redirect{Protocol: HTTPS}, "https://192.0.2.1/"},
		{"short path", "a.b", "/x", Redirect{Protocol: HTTPS, Path: "/path[1]"}, ""},
		{"bad host", "a b", "/x", Redirect{Protocol: HTTPS}, ""},
		{"bad host replaced", "a b", "/x", Redirect{Protocol: HTTPS, Host: "c.d"}, "https://c.d/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &url.URL{}
			path, query, _ := strings.Cut(c.target, "?")
			u.Path, _ = url.PathUnescape(path)
			u.RawPath, u.RawQuery = path, query
			tx := newTx("GET", "/", host(c.host), func(tx *fakeTx) { tx.request.URL = u })
			p := mustHTTPRequest(t, Env{}, RequestRule{Name: "r", Action: c.redirect}, RequestRule{Name: "next", Action: Respond{Status: 404}})
			v := p.Evaluate(tx)
			if c.want == "" {
				if v.Rule != "next" || tx.status != 404 || p.Stats()[0].Skips != 1 || p.Stats()[0].Hits != 0 {
					t.Errorf("%+v %q", v, tx.header)
				}
				return
			}
			if got := tx.header.Get("Location"); got != c.want || tx.status != 302 || !v.Ended || v.Action != ActionRedirect || v.Dropped {
				t.Errorf("%q, %+v, want %q", got, v, c.want)
			}
		})
	}
	for _, status := range []int{301, 307} {
		tx := newTx("GET", "/")
		mustHTTPRequest(t, Env{}, RequestRule{Name: "r", Action: Redirect{Protocol: HTTPS, Status: status}}).Evaluate(tx)
		if tx.status != status {
			t.Errorf("%d, want %d", tx.status, status)
		}
	}
}

// Changes add up, the first pool counts, and matches and tokens see the
// request as received.
func TestRequestRulesAddUp(t *testing.T) {
	server := netip.MustParseAddrPort("10.0.0.1:8080")
	p := mustHTTPRequest(t, Env{},
		RequestRule{Name: "rewrite", Match: pathIs("/a/b"), Log: true, Action: Modify{Rewrite: RewriteURL{Path: "/new/path[1]", Host: "one", AddQuery: "x=1"}, Edits: []Edit{AddHeader{"X", "1"}}}},
		RequestRule{Name: "not after the rewrite", Match: pathIs("/new/b"), Action: Respond{Status: 500}},
		RequestRule{Name: "skipped", Action: Modify{Rewrite: RewriteURL{Path: "/path[7]"}, Edits: []Edit{AddHeader{"X", "skipped"}}, Pool: SwitchPool{Name: "skipped"}}},
		RequestRule{Name: "first pool", Match: pathIs("/a/b"), Action: Modify{Pool: SwitchPool{Name: "one", Server: server}}},
		RequestRule{Name: "off", Disabled: true, Action: Respond{Status: 500}},
		RequestRule{Name: "second pool", LogHeaders: true, Action: Modify{Edits: []Edit{AddHeader{"X", "2"}}, Pool: SwitchPool{Name: "two"}, Rewrite: RewriteURL{Host: "two.host[1]", AddQuery: "y=2"}}},
	)
	tx := newTx("GET", "/a/b")
	v := p.Evaluate(tx)
	want := Verdict{Rule: "rewrite", Index: 0, Action: ActionModify, Log: true, LogHeaders: true, Applied: []string{"rewrite", "first pool", "second pool"}}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	if got := tx.sent.Host + tx.sent.URL.RequestURI(); got != "two.com/new/b?x=1&y=2" {
		t.Errorf("%q", got)
	}
	if diff := cmp.Diff([]string{"1", "2"}, tx.sent.Header["X"]); diff != "" || tx.pool != "one" || tx.server != server || tx.selected != 1 {
		t.Errorf("%s, %q %v", diff, tx.pool, tx.server)
	}
	hits := map[string]uint64{}
	for _, s := range p.Stats() {
		hits[s.Name] = s.Hits + 10*s.Skips
	}
	if diff := cmp.Diff(map[string]uint64{"rewrite": 1, "not after the rewrite": 0, "skipped": 10, "first pool": 1, "off": 0, "second pool": 1}, hits); diff != "" {
		t.Error(diff)
	}

	only := newTx("GET", "/")
	mustHTTPRequest(t, Env{}, RequestRule{Name: "r", Action: Modify{Pool: SwitchPool{Name: "p"}}}).Evaluate(only)
	if only.sent != nil || only.pool != "p" {
		t.Error("choosing a pool clones the request")
	}
}

// A redirect or a response ends the request; what rules before have changed is
// then not done.
func TestRequestEnds(t *testing.T) {
	p := mustHTTPRequest(t, Env{},
		RequestRule{Name: "edit", Action: Modify{Edits: []Edit{AddHeader{"X", "1"}}, Pool: SwitchPool{Name: "p"}}},
		RequestRule{Name: "gone", Match: pathIs("/gone"), Action: Respond{Status: 404, ContentType: "text/html", Body: []byte("<p>gone")}, Log: true},
		RequestRule{Name: "late", Action: Redirect{Protocol: HTTPS}})
	tx := newTx("GET", "/gone")
	want := Verdict{Rule: "gone", Index: 1, Action: ActionRespond, Status: 404, Ended: true, Dropped: true, Log: true}
	if diff := cmp.Diff(want, p.Evaluate(tx)); diff != "" {
		t.Error(diff)
	}
	if tx.calls != 1 || tx.body != "<p>gone" || tx.sent != nil || tx.selected != 0 {
		t.Errorf("%+v", tx)
	}
}

func TestRegexAndGroupTokens(t *testing.T) {
	groups := mustStringGroups(t,
		StringGroupConfig{Name: "sites", Kind: StringMap, LongestMatch: true, Entries: []StringEntry{{"/shop", "store"}, {"/shop/eu", "eu-store"}}},
		StringGroupConfig{Name: "patterns", Kind: StringMap, LongestMatch: true, Entries: []StringEntry{{"^/v([0-9]+)/(.*)$", "x"}, {"^/v1/(.*)$", "y"}}},
		StringGroupConfig{Name: "args", Kind: StringMap, Entries: []StringEntry{{"lang=de", "de"}}})
	for _, c := range []struct {
		name  string
		match Match
		path  string
		host  string
		in    string
		want  string
	}{
		{"captures", Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{"^/none", `^/user/(\d+)/(.*)$`}}}, "/u/regex[2]/regex[1]", "", "/User/42/a%20b", "example.com/u/a%20b/42"},
		{"whole match", Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{`\d+`}}}, "/regex[0]", "", "/user/42/x", "example.com/42"},
		{"query capture", Match{Query: &QueryMatch{Op: MatchesRegexp, Values: []string{`id=([a-z]+)`}}}, "/regex_query[1]", "", "/?x=1&id=abc", "example.com/abc?x=1&id=abc"},
		{"captured host", Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{`^/t/([^/]+)`}}}, "", "regex[1].example.net", "/t/acme/x", "acme.example.net/t/acme/x"},
		{"captured host that is none", Match{Path: &PathMatch{Op: MatchesRegexp, Values: []string{`^/t/([^/]+)`}}}, "", "regex[1].example.net", "/t/a%20b/x", ""},
		{"group value", Match{Path: &PathMatch{Op: BeginsWith, StringGroups: []string{"sites"}}}, "/string_group[value]/path[1:]", "", "/shop/eu/x", "example.com/eu-store/eu/x"},
		{"group key", Match{Path: &PathMatch{Op: BeginsWith, StringGroups: []string{"sites"}}}, "/k/string_group[key]", "", "/shop/us", "example.com/k//shop"},
		{"group of the query", Match{Query: &QueryMatch{Op: Contains, StringGroups: []string{"args"}}}, "/string_group[value]/path[0]", "", "/a?lang=de", "example.com/de/a?lang=de"},
		{"group of patterns", Match{Path: &PathMatch{Op: MatchesRegexp, StringGroups: []string{"patterns"}}}, "/string_group[value]/regex[2]", "", "/v1/a/b", "example.com/x/a/b"},
		{"inline value, no entry", Match{Path: &PathMatch{Op: BeginsWith, Values: []string{"/own"}, StringGroups: []string{"sites"}}}, "/string_group[value]", "", "/own", ""},
		{"complement captures nothing", Match{Path: &PathMatch{Op: DoesNotMatchRegexp, Values: []string{`^/(\d+)`}}}, "/regex[0]", "", "/x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustHTTPRequest(t, Env{StringGroups: groups}, RequestRule{Name: "r", Match: c.match, Action: Modify{Rewrite: RewriteURL{Path: c.path, Host: c.host}}})
			tx := newTx("GET", c.in)
			v := p.Evaluate(tx)
			got := ""
			if tx.sent != nil {
				got = tx.sent.Host + tx.sent.URL.RequestURI()
			}
			if got != c.want || v.Err != nil {
				t.Errorf("%q, %+v, want %q", got, v, c.want)
			}
		})
	}
}

func TestRequestFaults(t *testing.T) {
	_, err := NewHTTPRequest([]RequestRule{
		{Name: "none"},
		{Name: "none", Action: &Redirect{}},
		{Name: "redirect", Action: Redirect{Host: "a:1", Status: 303, AddQuery: "?x", Path: "/a["}},
		{Name: "empty", Action: Modify{}},
		{Name: "pool", Action: Modify{Pool: SwitchPool{Server: netip.MustParseAddrPort("[fe80::1%eth0]:1")}, Rewrite: RewriteURL{Host: "a b", Path: "regex[1]", AddQuery: "&x"}}},
		{Name: "respond", Action: Respond{Status: 1}},
		{Name: "groups", Action: Respond{Status: 200}, Match: Match{Path: &PathMatch{Op: Equals, StringGroups: []string{"g"}}}},
	}, Env{})
	want := []string{
		`rules[0].action: a rule needs an action`,
		`rules[1].name: "none": already the name of a rule before it`,
		`rules[1].action: *policy.Redirect is not an action; give the struct, not a pointer to it`,
		`rules[2].action.protocol: missing: one of http, https`,
		`rules[2].action.host: "a:1": has a port; give it in port`,
		`rules[2].action.addQuery: "?x": begins with "?", which is not part of the query`,
		`rules[2].action.status: 303: not 301, 302, 307 or 308`,
		`rules[3].action: changes nothing`,
		`rules[4].action.rewrite.host: "a b": the host is not valid in a URL`,
		`rules[4].action.rewrite.path: "regex[1]": regex needs a match of the path with a regular expression`,
		`rules[4].action.rewrite.addQuery: "&x": begins with "&", which is not part of the query`,
		`rules[4].action.pool.name: a server needs a pool`,
		`rules[4].action.pool.server: [fe80::1%eth0]:1: an address with a zone cannot be matched`,
		`rules[5].action.status: 1: less than 200`,
		`rules[6].match.path.stringGroups[0]: "g": the policy was given no string groups`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}

// When a rule cannot be evaluated, nothing of what others would change is done.
func TestRequestAndResponseFail(t *testing.T) {
	group := Match{ClientIP: &IPMatch{Groups: []string{"g"}}}
	for _, c := range []struct {
		name     string
		tx       *fakeTx
		failOpen bool
		status   int // 0: goes on
	}{
		{"closed", newTx("GET", "/", client("192.0.2.66"), response(200)), false, 500},
		{"open", newTx("GET", "/", client("192.0.2.66"), response(200)), true, 0},
		{"NUL", newTx("GET", "/%00", response(200)), true, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := Env{IPGroups: brokenGroups{}, FailOpen: c.failOpen}
			m := group
			m.Path = &PathMatch{Op: BeginsWith, Values: []string{"/"}}
			req := mustHTTPRequest(t, env,
				RequestRule{Name: "edit", Action: Modify{Edits: []Edit{AddHeader{"X", "1"}}}},
				RequestRule{Name: "broken", Match: m, Action: Redirect{Protocol: HTTPS}, LogHeaders: true})
			res := mustHTTPResponse(t, env,
				ResponseRule{Name: "edit", Edits: []Edit{AddHeader{"X", "1"}}},
				ResponseRule{Name: "broken", Match: ResponseMatch{Request: m}, Edits: []Edit{AddHeader{"X", "2"}}, LogHeaders: true})
			want := Verdict{Rule: "broken", Index: 1, Log: true, LogHeaders: true, Status: c.status}
			if c.status != 0 {
				want.Action, want.Ended, want.Dropped = ActionFail, true, true
			}
			for i, v := range []Verdict{req.Evaluate(c.tx), res.Evaluate(c.tx)} {
				var re *RuleError
				if !errors.As(v.Err, &re) || re.Index != 1 {
					t.Errorf("%d: %v", i, v.Err)
				}
				if diff := cmp.Diff(want, v, cmpopts.IgnoreFields(Verdict{}, "Err")); diff != "" {
					t.Errorf("%d: %s", i, diff)
				}
			}
			if c.tx.sent != nil || c.tx.answer.Get("X") != "" || c.tx.status != c.status {
				t.Errorf("%+v", c.tx)
			}
			if req.Stats()[1].Errors != 1 || res.Stats()[1].Errors != 1 {
				t.Error("not counted")
			}
		})
	}
}

func TestNilPolicies(t *testing.T) {
	var req *HTTPRequest
	var res *HTTPResponse
	var sec *HTTPSecurity
	var net *NetworkSecurity
	tx := newTx("GET", "/", response(200))
	for _, v := range []Verdict{req.Evaluate(tx), res.Evaluate(tx)} {
		if diff := cmp.Diff(Verdict{Index: -1}, v); diff != "" {
			t.Error(diff)
		}
	}
	if len(req.Stats())+len(res.Stats()) != 0 {
		t.Error("Stats")
	}
	for _, text := range []string{req.Explain(tx), res.Explain(tx), sec.Explain(tx), net.Explain(netip.AddrPort{}, netip.AddrPort{})} {
		if !strings.HasPrefix(text, "no rule decides: ") {
			t.Errorf("%q", text)
		}
	}
	if v := mustHTTPResponse(t, Env{}, ResponseRule{Name: "r", Edits: []Edit{RemoveHeader{"X"}}}).Evaluate(newTx("GET", "/")); v.Index != -1 {
		t.Error("a rule acts on no response")
	}
}

func TestResponseMatchAndLocation(t *testing.T) {
	location := &RewriteLocation{Protocol: HTTPS}
	for _, c := range []struct {
		name    string
		match   ResponseMatch
		rewrite *RewriteLocation
		tx      *fakeTx
		want    string // empty: the rule does not act
	}{
		{"status", ResponseMatch{Status: &StatusMatch{Codes: []int{301}, Ranges: []Range[int]{{307, 308}}}}, location, newTx("GET", "/", response(308, "Location", "http://a.b/x?y#z")), "https://a.b/x?y#z"},
		{"other status", ResponseMatch{Status: &StatusMatch{Codes: []int{301}}}, location, newTx("GET", "/", response(302, "Location", "http://a.b/x")), ""},
		{"not status", ResponseMatch{Status: &StatusMatch{Op: IsNotIn, Codes: []int{301}}}, location, newTx("GET", "/", response(302, "Location", "http://a.b/x")), "https://a.b/x"},
		{"header", ResponseMatch{Headers: []HeaderMatch{{Name: "server", Op: Contains, Values: []string{"TOMCAT"}}, {Name: "X", Op: DoesNotExist}}}, location, newTx("GET", "/", response(302, "Location", "http://a.b/", "Server", "Tomcat/9")), "https://a.b/"},
		{"Location", ResponseMatch{Location: &TextMatch{Op: BeginsWith, Values: []string{"HTTP://A.b"}}}, location, newTx("GET", "/", response(302, "Location", "http://a.b/")), "https://a.b/"},
		{"other Location", ResponseMatch{Location: &TextMatch{Op: BeginsWith, Values: []string{"http://c"}}}, location, newTx("GET", "/", response(302, "Location", "http://a.b/")), ""},
		{"original request", ResponseMatch{Request: pathIs("/orig")}, location, newTx("GET", "/orig", response(302, "Location", "http://a.b/"), func(tx *fakeTx) { tx.EditRequest().URL = &url.URL{Path: "/other"} }), "https://a.b/"},
		{"tokens", ResponseMatch{}, &RewriteLocation{Protocol: HTTP, Host: "www.host[1:]", Path: "host[0]/path[1]", Port: 8080, DropQuery: true}, newTx("GET", "/", response(302, "Location", "https://app.example.com:9/x/y?q")), "http://www.example.com:8080/app/y"},
		{"relative", ResponseMatch{}, location, newTx("GET", "/a/b", response(302, "Location", "c?d")), "https://example.com/a/c?d"},
		{"relative with tokens of the path", ResponseMatch{}, &RewriteLocation{Protocol: HTTPS, Host: "other", Path: "/x/path[0]"}, newTx("GET", "/a/b", response(302, "Location", "/c/d")), "https://other/x/c"},
		{"relative with labels", ResponseMatch{}, &RewriteLocation{Protocol: HTTPS, Host: "host[0]"}, newTx("GET", "/", response(302, "Location", "/c")), ""},
		{"IPv4 with labels", ResponseMatch{}, &RewriteLocation{Protocol: HTTPS, Host: "www.host[1:]"}, newTx("GET", "/", response(302, "Location", "http://192.0.2.1/")), ""},
		{"other scheme", ResponseMatch{}, location, newTx("GET", "/", response(302, "Location", "mailto:a@b")), ""},
		{"no URL", ResponseMatch{}, location, newTx("GET", "/", response(302, "Location", "http://a b/%zz")), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustHTTPResponse(t, Env{}, ResponseRule{Name: "r", Match: c.match, Location: c.rewrite, Edits: []Edit{AddHeader{"X-Acted", "1"}}})
			before := c.tx.answer.Get("Location")
			v := p.Evaluate(c.tx)
			acted := v.Action == ActionModify
			if acted != (c.want != "") || acted != (c.tx.answer.Get("X-Acted") != "") || p.Stats()[0].Hits != map[bool]uint64{true: 1}[acted] {
				t.Errorf("%+v", v)
			}
			if got := c.tx.answer.Get("Location"); acted && got != c.want || !acted && got != before {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}

	// Without a Location the edits are done all the same; rules see what the
	// server has sent and not each other's work.
	tx := newTx("GET", "/", response(200, "X", "0"))
	v := mustHTTPResponse(t, Env{},
		ResponseRule{Name: "one", Location: location, Edits: []Edit{ReplaceHeader{"X", "1"}}},
		ResponseRule{Name: "two", Match: ResponseMatch{Headers: []HeaderMatch{{Name: "X", Op: Equals, Values: []string{"1"}}}}, Edits: []Edit{AddHeader{"X", "2"}}},
		ResponseRule{Name: "three", Edits: []Edit{AddHeader{"X", "3"}}}).Evaluate(tx)
	if diff := cmp.Diff(http.Header{"X": {"1", "3"}}, tx.answer); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"one", "three"}, v.Applied); diff != "" {
		t.Error(diff)
	}

	long := newTx("GET", "/", response(200, "X", strings.Repeat("a", maxRegexpSubject+1)))
	p := mustHTTPResponse(t, Env{FailOpen: true}, ResponseRule{Name: "r", Edits: []Edit{RemoveHeader{"X"}}, Match: ResponseMatch{Headers: []HeaderMatch{{Name: "X", Op: MatchesRegexp, Values: []string{"b"}}}}})
	if v := p.Evaluate(long); v.Status != 502 || !errors.Is(v.Err, errResponseTooLong) {
		t.Errorf("%+v", v)
	}

	_, err := NewHTTPResponse([]ResponseRule{
		{Name: "nothing", Match: ResponseMatch{Status: &StatusMatch{}, Location: &TextMatch{}}},
		{Name: "", Location: &RewriteLocation{Host: "a:1"}, Match: ResponseMatch{Status: &StatusMatch{Op: 99, Codes: []int{99}, Ranges: []Range[int]{{200, 199}}}, Headers: []HeaderMatch{{Name: "a b", Op: Exists}}}},
		{Name: "path", Location: &RewriteLocation{Protocol: HTTP, Path: "regex[0]"}},
	}, Env{})
	want := []string{
		`rules[0]: changes nothing`,
		`rules[0].match.status: no codes or ranges`,
		`rules[0].match.location.op: a match of text needs an operator, such as "equals"`,
		`rules[1].name: missing`,
		`rules[1].match.status.op: 99: not one of is in, is not in`,
		`rules[1].match.status.codes[0]: 99: not a status`,
		`rules[1].match.status.ranges[0]: 200-199 is not a range of statuses`,
		`rules[1].match.headers[0].name: "a b": not a header name`,
		`rules[1].location.protocol: missing: one of http, https`,
		`rules[1].location.host: "a:1": has a port; give it in port`,
		`rules[2].location.path: "regex[0]": regex needs a match of the path with a regular expression`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}

// A rule without an action may be there for the record alone.
func TestRequestRuleThatLogs(t *testing.T) {
	p, err := NewHTTPRequest([]RequestRule{
		{Name: "watch", Match: Match{Path: &PathMatch{Op: BeginsWith, Values: []string{"/watched"}}}, LogHeaders: true},
		{Name: "next", Action: Respond{Status: 204}},
	}, Env{})
	if err != nil {
		t.Fatal(err)
	}
	tx := newTx("GET", "/watched")
	want := Verdict{Rule: "next", Index: 1, Action: ActionRespond, Status: 204, Ended: true, Log: true, LogHeaders: true}
	if diff := cmp.Diff(want, p.Evaluate(tx)); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	if v := p.Evaluate(newTx("GET", "/other")); v.Log {
		t.Errorf("another path is logged: %+v", v)
	}
	if hits := p.Stats()[0].Hits; hits != 1 {
		t.Errorf("the rule has %d hits, want 1", hits)
	}
}
