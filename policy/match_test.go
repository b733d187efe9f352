package policy

import (
	"net/http"
	"testing"
)

func TestQueryMatch(t *testing.T) {
	for _, c := range []struct {
		target      string
		op          Op
		values      []string
		want, allow bool // in a rule that ends requests, in an Allow rule
	}{
		{"/", Exists, nil, false, false},
		{"/?", Exists, nil, false, false},
		{"/?a", Exists, nil, true, true},
		{"/?", DoesNotExist, nil, true, true},
		{"/?a", DoesNotExist, nil, false, false},
		{"/", Contains, []string{"a"}, false, false},
		{"/", DoesNotContain, []string{"a"}, true, true},
		{"/", Equals, []string{""}, false, false}, // absent, not empty
		{"/?x=A", Contains, []string{"=a"}, true, true},
		{"/?x=%41", Equals, []string{"x=a"}, true, true},
		{"/?x=%2541", Contains, []string{"a"}, false, false},
		{"/?x=1&y=2", BeginsWith, []string{"y", "x=1"}, true, true},
		{"/?x=1&y=2", EndsWith, []string{"y=2"}, true, true},
		{"/?x=1&y=2", DoesNotEndWith, []string{"x", "y"}, true, true},
		{"/?x=union+select", Contains, []string{"union select"}, true, false},
		{"/?x=union+select", Contains, []string{"union+select"}, true, false},
		{"/?x=union%20select", Contains, []string{"union select"}, true, true},
		{"/?x=union%2bselect", Contains, []string{"union+select"}, true, true},
		{"/?x=union+select", DoesNotContain, []string{"union select"}, true, false},
		{"/?x=%zz", Contains, []string{"%zz"}, true, true},
		{"/?x=a+b", MatchesRegexp, []string{`a\sb`}, true, false},
		{"/?x=a+b", DoesNotMatchRegexp, []string{`c`}, true, true},
	} {
		m := Match{Query: &QueryMatch{Op: c.op, Values: c.values}}
		if got := holds(t, m, newTx("GET", c.target)); got != c.want {
			t.Errorf("%s %v %q: %v", c.target, c.op, c.values, got)
		}
		if got := allowed(t, m, newTx("GET", c.target)); got != c.allow {
			t.Errorf("%s %v %q: allowed %v", c.target, c.op, c.values, got)
		}
	}
}

func TestHostMatch(t *testing.T) {
	for _, c := range []struct {
		host   string
		op     Op
		values []string
		want   bool
	}{
		{"example.com", Equals, []string{"example.org", "example.com"}, true},
		{"EXAMPLE.com", Equals, []string{"example.COM"}, true},
		{"example.com:8080", Equals, []string{"example.com"}, true},
		{"example.com:", Equals, []string{"example.com"}, true},
		{"example.com.", Equals, []string{"example.com"}, true},
		{"example.com.:80", Equals, []string{"example.com"}, true},
		{"example.com", Equals, []string{"example.com."}, true},
		{"example.com:8080", Equals, []string{"example.com:8080"}, true},
		{"example.com", Equals, []string{"example.com:8080"}, false},
		{"example.com:8081", Equals, []string{"example.com:8080", "example.org"}, false},
		{"www.example.com:443", EndsWith, []string{".example.com"}, true},
		{"www.example.com:443", EndsWith, []string{"443"}, false},
		{"www.example.com:443", EndsWith, []string{":443"}, true},
		{"www.example.com", BeginsWith, []string{"www."}, true},
		{"www1.example.com", BeginsWith, []string{"www."}, false},
		{"www.example.com:443", Contains, []string{"443"}, false},
		{"[2001:db8::1]", Equals, []string{"[2001:db8::1]"}, true},
		{"[2001:DB8::1]:443", Equals, []string{"[2001:db8::1]"}, true},
		{"[2001:db8::1]:443", Equals, []string{"[2001:db8::1]:443"}, true},
		{"[2001:db8::1]:444", Equals, []string{"[2001:db8::1]:443"}, false},
		{"[2001:db8::1", Equals, []string{"[2001:db8::1]"}, false},
		{"www.example.com:443", MatchesRegexp, []string{`^(?:www|ftp)\.example\.com$`}, true},
		{"www.example.com", MatchesRegexp, []string{`^(?:www|ftp)\.example\.com$`}, true},
		{"www.example.com:443", MatchesRegexp, []string{`:443$`}, true},
		{"www.example.com:443", MatchesRegexp, []string{`443$`}, false},
		{"", Contains, []string{"e"}, false},
	} {
		for _, op := range []Op{c.op, c.op + 1} {
			got := holds(t, Match{Host: &TextMatch{Op: op, Values: c.values}}, newTx("GET", "/", host(c.host)))
			if want := c.want != op.negative(); got != want {
				t.Errorf("%q %v %q: %v", c.host, op, c.values, got)
			}
		}
	}
	if holds(t, Match{Host: &TextMatch{Op: Equals, Values: []string{"A.example"}, CaseSensitive: true}}, newTx("GET", "/", host("a.example"))) {
		t.Error("case ignored")
	}
}

func TestHeaderMatch(t *testing.T) {
	tx := newTx("POST", "http://example.com:8080/",
		header("User-Agent", "Mozilla/5.0 CURL"),
		header("X-Empty", ""),
		header("X-Twice", "one", " two\t"),
		func(t *fakeTx) { t.request.TransferEncoding = []string{"chunked"} })
	for _, c := range []struct {
		name   string
		op     Op
		values []string
		want   bool
	}{
		{"user-agent", Exists, nil, true},
		{"user-agent", DoesNotExist, nil, false},
		{"user-agent", Contains, []string{"curl"}, true},
		{"user-agent", DoesNotContain, []string{"wget", "curl"}, false},
		{"user-agent", DoesNotContain, []string{"wget"}, true},
		{"user-agent", BeginsWith, []string{"mozilla/4", "mozilla/5"}, true},
		{"user-agent", EndsWith, []string{"curl"}, true},
		{"user-agent", MatchesRegexp, []string{`mozilla/\d`}, true},
		{"USER-AGENT", Equals, []string{"mozilla/5.0 curl"}, true},
		{"x-absent", Exists, nil, false},
		{"x-absent", DoesNotExist, nil, true},
		{"x-absent", Equals, []string{""}, false},
		{"x-absent", DoesNotEqual, []string{"a"}, true},
		{"x-absent", DoesNotMatchRegexp, []string{"a"}, true},
		{"x-empty", Exists, nil, true},
		{"x-empty", Equals, []string{""}, true},
		{"x-empty", DoesNotEqual, []string{""}, false},
		{"x-twice", Equals, []string{"two"}, true},
		{"x-twice", Equals, []string{"one, two"}, false},
		{"x-twice", DoesNotEqual, []string{"two"}, false},
		{"x-twice", DoesNotEqual, []string{"three"}, true},
		{"host", Equals, []string{"example.com:8080"}, true},
		{"transfer-encoding", Equals, []string{"chunked"}, true},
	} {
		m := Match{Headers: []HeaderMatch{{Name: c.name, Op: c.op, Values: c.values}}}
		if got := holds(t, m, tx); got != c.want {
			t.Errorf("%s %v %q: %v", c.name, c.op, c.values, got)
		}
	}
	both := Match{Headers: []HeaderMatch{{Name: "x-twice", Op: Exists}, {Name: "user-agent", Op: Contains, Values: []string{"CURL"}, CaseSensitive: true}}}
	if !holds(t, both, tx) {
		t.Error("both headers match")
	}
	both.Headers[1].Values = []string{"curl"}
	if holds(t, both, tx) {
		t.Error("the second header must match too")
	}
	if holds(t, Match{Headers: []HeaderMatch{{Name: "Host", Op: Exists}}}, newTx("GET", "/", host(""))) {
		t.Error("an empty Host is absent")
	}
}

func TestCookieMatch(t *testing.T) {
	tx := newTx("GET", "/", header("Cookie", `a=1; b="two"; A=3;c=x=y; d ;e=`, "a=9; f=\"\"; g=\xff,\\"))
	for _, c := range []struct {
		name   string
		op     Op
		values []string
		want   bool
	}{
		{"a", Equals, []string{"1"}, true},
		{"a", Equals, []string{"9"}, true},
		{"a", DoesNotEqual, []string{"9"}, false},
		{"a", Equals, []string{"3"}, false},
		{"A", Equals, []string{"3"}, true},
		{"b", Equals, []string{"TWO"}, true},
		{"c", Equals, []string{"x=y"}, true},
		{"d", Equals, []string{""}, true},
		{"e", Equals, []string{""}, true},
		{"f", Equals, []string{""}, true},
		{"g", EndsWith, []string{`\`}, true}, // net/http skips this one
		{"h", Exists, nil, false},
		{"h", DoesNotExist, nil, true},
		{"h", DoesNotContain, []string{"x"}, true},
	} {
		if got := holds(t, Match{Cookie: &CookieMatch{Name: c.name, Op: c.op, Values: c.values}}, tx); got != c.want {
			t.Errorf("%s %v %q: %v", c.name, c.op, c.values, got)
		}
	}
}

func TestMethodVersionProtocolMatch(t *testing.T) {
	version := func(major, minor int) func(*fakeTx) {
		return func(t *fakeTx) { t.request.ProtoMajor, t.request.ProtoMinor = major, minor }
	}
	for _, c := range []struct {
		name  string
		match Match
		tx    *fakeTx
		want  bool
	}{
		{"method in", Match{Method: &MethodMatch{Methods: []string{"PUT", "GET"}}}, newTx("GET", "/"), true},
		{"method not in", Match{Method: &MethodMatch{Op: IsNotIn, Methods: []string{"PUT", "GET"}}}, newTx("GET", "/"), false},
		{"method is case-sensitive", Match{Method: &MethodMatch{Methods: []string{"GET"}}}, newTx("get", "/"), false},
		{"own method", Match{Method: &MethodMatch{Methods: []string{"purge"}}}, newTx("purge", "/"), true},
		{"1.0", Match{Version: &VersionMatch{Versions: []string{"HTTP/1.0"}}}, newTx("GET", "/", version(1, 0)), true},
		{"1.1 is not 1.0", Match{Version: &VersionMatch{Versions: []string{"HTTP/1.0"}}}, newTx("GET", "/"), false},
		{"1.2 counts as 1.1", Match{Version: &VersionMatch{Versions: []string{"HTTP/1.1"}}}, newTx("GET", "/", version(1, 2)), true},
		{"2", Match{Version: &VersionMatch{Versions: []string{"HTTP/1.0", "HTTP/2"}}}, newTx("GET", "/", version(2, 0)), true},
		{"3", Match{Version: &VersionMatch{Op: IsNotIn, Versions: []string{"HTTP/3"}}}, newTx("GET", "/", version(3, 0)), false},
		{"unknown version", Match{Version: &VersionMatch{Op: IsNotIn, Versions: []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"}}}, newTx("GET", "/", version(0, 9)), true},
		{"http", Match{Protocol: &ProtocolMatch{Protocol: HTTP}}, newTx("GET", "/"), true},
		{"https", Match{Protocol: &ProtocolMatch{Protocol: HTTPS}}, newTx("GET", "/", overTLS), true},
		{"not https", Match{Protocol: &ProtocolMatch{Op: IsNotIn, Protocol: HTTPS}}, newTx("GET", "/", overTLS), false},
		{"not http", Match{Protocol: &ProtocolMatch{Op: IsNotIn, Protocol: HTTP}}, newTx("GET", "/", overTLS), true},
		{"the URL's scheme is the client's word", Match{Protocol: &ProtocolMatch{Protocol: HTTPS}},
			newTx("GET", "/", func(t *fakeTx) { t.request.URL.Scheme = "https" }), false},
		{"no URL", Match{Path: &PathMatch{Op: Equals, Values: []string{"/"}}, Query: &QueryMatch{Op: DoesNotExist}},
			newTx("GET", "/", func(t *fakeTx) { t.request = &http.Request{} }), true},
	} {
		if got := holds(t, c.match, c.tx); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
