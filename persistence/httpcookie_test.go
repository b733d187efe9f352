package persistence

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// cookiesSet returns the cookies that an answer sets, as a request brings them,
// sorted.
func cookiesSet(h http.Header) []string {
	var pairs []string
	for _, line := range h["Set-Cookie"] {
		pair, _, _ := strings.Cut(line, ";")
		pairs = append(pairs, pair)
	}
	slices.Sort(pairs)
	return pairs
}

// names returns the names of cookies.
func names(pairs []string) []string {
	var names []string
	for _, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	return names
}

func TestCookieNames(t *testing.T) {
	long := strings.Repeat("x", 200)
	p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Name: "__Host-S", Secure: true}))(t), "web", "api", "a b/ü%", long)
	sum := targetIDOf(long)
	for target, want := range map[string]string{
		"web":    "__Host-S",
		"api":    "__Host-S.api",
		"a b/ü%": "__Host-S.a%20b%2F%C3%BC%25",
		long:     "__Host-S." + hex.EncodeToString(sum[:]),
	} {
		h := http.Header{}
		p.Bind(h, request("/"), client1, target, "10.0.0.1:80")
		if diff := cmp.Diff([]string{want}, names(cookiesSet(h))); diff != "" {
			t.Errorf("%s: %s", target, diff)
		}
	}
	for _, tt := range []struct {
		name    string
		targets []string
	}{
		{"the only target", []string{"api"}},
		{"the default target", []string{"api", "web"}},
	} {
		targeted(t, p, tt.targets...)
		h := http.Header{}
		p.Bind(h, request("/"), client1, "api", "10.0.0.1:80")
		if diff := cmp.Diff([]string{"__Host-S"}, names(cookiesSet(h))); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func FuzzCookieName(f *testing.F) {
	f.Add("web", "api")
	f.Add("a%20b", "a b")                      // one looks like the other encoded
	f.Add("A", "a")                            // the letter case of names matters
	f.Add("\x00;=\xff", "")                    // bytes that end a name
	f.Add(strings.Repeat("ü", 40), "x")        // too long when encoded
	f.Add(strings.Repeat("x", 126), "x.y.%2E") // just fits
	f.Add(strings.Repeat("x", 127), "%")       // just does not
	f.Fuzz(func(t *testing.T, a, b string) {
		nameOfA, nameOfB := targetCookieName("S", a), targetCookieName("S", b)
		if a != b && nameOfA == nameOfB {
			t.Errorf("%q and %q are both %s", a, b, nameOfA)
		}
		if len(nameOfA) > maxCookieName || (&http.Cookie{Name: nameOfA}).Valid() != nil || !strings.HasPrefix(nameOfA, "S.") {
			t.Errorf("%q has the name %q", a, nameOfA)
		}
	})
}

// TestCookieRefused has configurations whose cookies browsers drop: nobody
// stuck, without a word.
func TestCookieRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config HTTPCookieConfig
		want   string // in the error; "" if it is right
	}{
		{"SameSite=None without Secure", HTTPCookieConfig{SameSite: http.SameSiteNoneMode}, "secure: false: clients refuse a cookie with SameSite=None"},
		{"SameSite=None", HTTPCookieConfig{SameSite: http.SameSiteNoneMode, Secure: true}, ""},
		{"SameSite=Strict without Secure", HTTPCookieConfig{SameSite: http.SameSiteStrictMode}, ""},
		{"__Secure-", HTTPCookieConfig{Name: "__secure-s"}, "secure: false: clients refuse"},
		{"__Host-", HTTPCookieConfig{Name: "__Host-s"}, "secure: false: clients refuse"},
		{"__Host- with Domain", HTTPCookieConfig{Name: "__HOST-s", Secure: true, Domain: "example.com"}, "domain: \"example.com\": clients refuse"},
		{"__Host- with Path", HTTPCookieConfig{Name: "__Host-s", Secure: true, Path: "/shop"}, "path: \"/shop\": clients refuse"},
		{"__Host- with Path /", HTTPCookieConfig{Name: "__Host-s", Secure: true, Path: "/"}, ""},
		{"__Secure- with both", HTTPCookieConfig{Name: "__Secure-s", Secure: true, Path: "/shop", Domain: "example.com"}, ""},
		{"__Http- for scripts too", HTTPCookieConfig{Name: "__Http-s", Secure: true}, "httpOnly: false: clients refuse"},
		{"__Host-Http- without Secure", HTTPCookieConfig{Name: "__Host-Http-s", HTTPOnly: true}, "secure: false: clients refuse"},
		{"__Host-Http-", HTTPCookieConfig{Name: "__Host-Http-s", HTTPOnly: true, Secure: true}, ""},
		{"relative path", HTTPCookieConfig{Path: "shop"}, `path: "shop": does not begin with /`},
		{"path with a semicolon", HTTPCookieConfig{Path: "/a;b"}, "path:"},
		{"no domain", HTTPCookieConfig{Domain: "a b"}, `domain: "a b": not a domain`},
		{"domain", HTTPCookieConfig{Domain: "example.com"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewHTTPCookie(tt.config)
			if err == nil != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	h := http.Header{}
	made(NewHTTPCookie(HTTPCookieConfig{Path: "/shop", Domain: "example.com"}))(t).Bind(h, request("/"), client1, "", "10.0.0.1:80")
	if line := h.Get("Set-Cookie"); !strings.HasSuffix(line, "; Path=/shop; Domain=example.com") {
		t.Error(line)
	}
}

func TestManyTargets(t *testing.T) {
	p := made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t)
	all := make([]string, 65)
	for i := range all {
		all[i] = "pool" + strconv.Itoa(i)
	}
	targeted(t, p, all[:64]...)
	if err := p.Targets("pool0", all, nil); err == nil || !strings.Contains(err.Error(), "65 targets") {
		t.Errorf("65 targets: %v", err)
	}
	h := http.Header{}
	for _, target := range all[:64] {
		p.Bind(h, request("/"), client1, target, "10.0.0.1:80")
	}
	r := request("/", "Cookie", strings.Join(cookiesSet(h), "; "))
	if size := len(r.Header.Get("Cookie")); size > 64*180 {
		t.Errorf("64 cookies have %d bytes", size)
	}
	for _, target := range all[:64] {
		if got, _, _ := p.Find(r, client1, target); got != "10.0.0.1:80" {
			t.Errorf("%s: on %q", target, got)
		}
	}
}

// TestCookieRenewal: a cookie ended Timeout after it was first sent, in the
// middle of a visit.
func TestCookieRenewal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		config  HTTPCookieConfig
		targets []string
		pause   time.Duration
		sent    []bool // with each answer
	}{
		{"a quarter over", HTTPCookieConfig{Timeout: time.Hour}, []string{"web"}, 15 * time.Minute, []bool{true, true, true, true, true, true}},
		{"less", HTTPCookieConfig{Timeout: time.Hour}, []string{"web"}, 8 * time.Minute, []bool{true, false, true, false, true, false}},
		{"among several", HTTPCookieConfig{Timeout: time.Hour}, []string{"web", "api"}, 8 * time.Minute, []bool{true, false, true, false, true, false}},
		{"no timeout", HTTPCookieConfig{}, []string{"web", "api"}, day, []bool{true, false, false, false}},
		{"only MaxAge", HTTPCookieConfig{MaxAge: time.Hour}, []string{"web"}, 25 * time.Minute, []bool{true, false, false, true, false}},
		{"always", HTTPCookieConfig{Timeout: time.Hour, AlwaysSend: true}, []string{"web"}, time.Second, []bool{true, true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := targeted(t, made(NewHTTPCookie(tt.config))(t), tt.targets...)
				b := newBrowser(t)
				var sent []bool
				for range tt.sent {
					_, h := serve(t, p, b.request(), "web", "10.0.0.1:80")
					b.receive(h)
					sent = append(sent, len(h) > 0)
					advance(tt.pause)
				}
				if diff := cmp.Diff(tt.sent, sent); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestCookieMaxAgeAttribute checks the attribute that browsers get: never more
// than what is left of MaxAge.
func TestCookieMaxAgeAttribute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Timeout: time.Hour, MaxAge: 90 * time.Minute, Persistent: true}))(t), "web")
		r, want := request("/"), []int{3600, 3600, 1800}
		for _, seconds := range want {
			h := http.Header{}
			p.Bind(h, r, client1, "web", "10.0.0.1:80")
			if got := cookieOf(t, h).MaxAge; got != seconds {
				t.Errorf("Max-Age=%d, want %d", got, seconds)
			}
			r = request("/", "Cookie", cookiesSet(h)[0])
			advance(30 * time.Minute)
		}
	})
}

// TestPublicAnswers: a cache gave the cookie of the first client to all others.
func TestPublicAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		control []string
		sent    bool
	}{
		{"none", nil, true},
		{"private", []string{"private, max-age=60"}, true},
		{"for the browser", []string{"max-age=60"}, true},
		{"public", []string{"max-age=60,PUBLIC"}, false},
		{"s-maxage", []string{"max-age=0 ,\ts-maxage = 60"}, false},
		{"second line", []string{"no-transform", "public"}, false},
		{"another word", []string{"x-public, publicity, x=public"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, config := range []HTTPCookieConfig{{}, {AlwaysSend: true}, {CacheableToo: true}} {
				h := http.Header{}
				if tt.control != nil {
					h["Cache-Control"] = tt.control
				}
				made(NewHTTPCookie(config))(t).Bind(h, request("/"), client1, "", "10.0.0.1:80")
				if got := len(h["Set-Cookie"]) > 0; got != (tt.sent || config.CacheableToo) {
					t.Errorf("%+v: sent %t", config, got)
				}
			}
		})
	}
}

// TestWhichCookie has several cookies of the names of a target.
func TestWhichCookie(t *testing.T) {
	now := time.Now()
	p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Name: "S", Timeout: time.Hour}))(t), "web", "api")
	sealed := func(target, server string, age time.Duration) string {
		return p.seal(openedCookie{server: server, target: targetIDOf(target), targeted: true, first: now.Add(-age), last: now.Add(-age)})
	}
	for _, tt := range []struct {
		name     string
		cookies  []string
		web, api string
	}{
		{"its own", []string{"S=" + sealed("web", "1", 0), "S.api=" + sealed("api", "2", 0)}, "1", "2"},
		{"each under the name of the other", []string{"S=" + sealed("api", "2", 0), "S.web=" + sealed("web", "1", 0)}, "1", "2"},
		{"of another target under its name", []string{"S.api=" + sealed("web", "1", 0), "S=" + sealed("other", "3", 0)}, "", ""},
		{"left over from another path", []string{"S=" + sealed("web", "1", time.Minute), "S=" + sealed("web", "2", 0)}, "2", ""},
		{"the same, the other way round", []string{"S=" + sealed("web", "2", 0), "S=" + sealed("web", "1", time.Minute)}, "2", ""},
		{"left over under the other name", []string{"S.web=" + sealed("web", "1", 0), "S=" + sealed("web", "2", 0)}, "2", ""},
		{"too old", []string{"S=" + sealed("web", "1", time.Hour), "S.web=" + sealed("web", "2", 59*time.Minute)}, "2", ""},
		{"from a clock that is far ahead", []string{"S=" + sealed("web", "1", -time.Hour), "S=" + sealed("web", "2", time.Minute)}, "2", ""},
		{"behind eight of each name", []string{strings.Repeat("S=x; ", 7) + "S=" + sealed("web", "1", 0),
			strings.Repeat("S.api=x; ", 8) + "S.api=" + sealed("api", "2", 0)}, "1", ""},
		{"of before there were targets", []string{"S=" + p.plain("1", now)}, "1", "1"},
		{"the same, and its own", []string{"S=" + p.plain("1", now), "S.api=" + sealed("api", "2", time.Minute)}, "1", "2"},
		{"without a target, under a name with one", []string{"S.api=" + p.plain("1", now)}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request("/", "Cookie", strings.Join(tt.cookies, "; "))
			web, _, _ := p.Find(r, client1, "web")
			api, _, _ := p.Find(r, client1, "api")
			if web != tt.web || api != tt.api {
				t.Errorf("web is on %q, api on %q; want %q, %q", web, api, tt.web, tt.api)
			}
		})
	}
}

// TestUpgrade: clients bring the cookie of an earlier version, and old
// instances still serve.
func TestUpgrade(t *testing.T) {
	keys := []CookieKey{{"k", secret(1)}}
	servers := map[string]string{"web": "10.0.0.", "api": "10.0.1."} // what their addresses begin with
	has := func(target, server string) bool {
		return strings.HasPrefix(server, servers[target]) || server == "shared"
	}
	make := func(t *testing.T, targets ...string) *HTTPCookie {
		p := made(NewHTTPCookie(HTTPCookieConfig{Name: "S", Keys: keys}))(t)
		if err := p.Targets(targets[0], targets, has); err != nil {
			t.Fatal(err)
		}
		return p
	}
	serveBy := func(t *testing.T, p *HTTPCookie, b *browser, target, server string) string {
		got, h := serve(t, p, b.request(), target, server)
		b.receive(h)
		return got
	}
	old := func(t *testing.T, b *browser, server string) { // what the earlier version does
		b.receive(http.Header{"Set-Cookie": {"S=" + make(t, "web").plain(server, time.Now())}})
	}

	t.Run("one target", func(t *testing.T) {
		p, b := make(t, "web"), newBrowser(t)
		_, h := serve(t, p, b.request(), "web", "10.0.0.1:80")
		if pairs := cookiesSet(h); len(pairs) != 1 || !strings.HasPrefix(pairs[0], "S=1.k.") {
			t.Errorf("old instances do not understand %v", pairs)
		}
		b = newBrowser(t)
		old(t, b, "10.0.0.2:80")
		if got := serveBy(t, p, b, "web", "10.0.0.1:80"); got != "10.0.0.2:80" || b.set != 1 {
			t.Errorf("on %s, %d cookies", got, b.set)
		}
	})
	t.Run("two targets", func(t *testing.T) {
		p, b := make(t, "web", "api"), newBrowser(t)
		old(t, b, "10.0.0.2:80")
		if got := serveBy(t, p, b, "api", "10.0.1.1:80"); got != "10.0.1.1:80" {
			t.Errorf("api is on %s, which it does not have", got)
		}
		if got := serveBy(t, p, b, "web", "10.0.0.1:80"); got != "10.0.0.2:80" {
			t.Errorf("web is on %s", got)
		}
		if b.set != 3 || !strings.Contains(b.request().Header.Get("Cookie"), "S=2.k.") {
			t.Errorf("%d cookies: %v", b.set, b.request().Header)
		}
	})
	t.Run("bound to the other target", func(t *testing.T) {
		p, b := make(t, "web", "api"), newBrowser(t)
		old(t, b, "10.0.1.2:80")
		if got := serveBy(t, p, b, "web", "10.0.0.1:80"); got != "10.0.0.1:80" {
			t.Errorf("web is on %s, which it does not have", got)
		}
		if got := serveBy(t, p, b, "api", "10.0.1.1:80"); got != "10.0.1.2:80" {
			t.Errorf("api is on %s", got)
		}
	})
	t.Run("bound to a server of both", func(t *testing.T) {
		p, b := make(t, "web", "api"), newBrowser(t)
		old(t, b, "shared")
		for _, target := range []string{"web", "api"} {
			if got := serveBy(t, p, b, target, servers[target]+"1:80"); got != "shared" {
				t.Errorf("%s is on %s", target, got)
			}
		}
	})
	t.Run("bound to a server that is gone", func(t *testing.T) {
		p, b := make(t, "web", "api"), newBrowser(t)
		old(t, b, "10.9.9.9:80")
		if got := serveBy(t, p, b, "web", "10.0.0.1:80"); got != "10.9.9.9:80" { // which the service finds out
			t.Errorf("web is on %s", got)
		}
	})
	t.Run("a second pool, and back", func(t *testing.T) {
		p, b := make(t, "web"), newBrowser(t)
		serveBy(t, p, b, "web", "10.0.0.1:80")
		for range 3 {
			for _, targets := range [][]string{{"web", "api"}, {"api", "web"}, {"web"}} {
				p := make(t, targets...)
				for range 2 {
					for _, target := range targets {
						if got := serveBy(t, p, b, target, servers[target]+"1:80"); got != servers[target]+"1:80" {
							t.Errorf("%s is on %s", target, got)
						}
						if got := serveBy(t, p, b, target, servers[target]+"2:80"); got != servers[target]+"1:80" {
							t.Errorf("%s moved to %s", target, got)
						}
					}
				}
			}
		}
	})
	t.Run("moved while there was one target", func(t *testing.T) {
		b := newBrowser(t)
		serveBy(t, make(t, "api", "web"), b, "web", "10.0.0.1:80") // S.web
		synctest.Test(t, func(t *testing.T) {
			advance(time.Minute)
			p, h := make(t, "web"), http.Header{}
			p.Bind(h, b.request(), client1, "web", "10.0.0.2:80")
			b.receive(h)
			if got := serveBy(t, make(t, "api", "web"), b, "web", "10.0.0.3:80"); got != "10.0.0.2:80" {
				t.Errorf("web is on %s", got)
			}
		})
	})
}

// TestClockSetBack: when the clock had been set back by two minutes, all
// clients lost their servers.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t), "web", "api")
		seal := func(target, server string, ahead time.Duration) string {
			at := time.Now().Add(ahead)
			return p.seal(openedCookie{server: server, target: targetIDOf(target), targeted: true, first: at, last: at})
		}
		for _, target := range []string{"web", "api"} {
			b := newBrowser(t)
			b.receive(http.Header{"Set-Cookie": {"S=" + seal(target, "10.0.0.1:80", 2*time.Minute), "S." + target + "=" + seal(target, "10.0.0.1:80", time.Hour)}})
			if got, h := serve(t, p, b.request(), target, "10.0.0.2:80"); got != "10.0.0.1:80" || len(h) != 0 {
				t.Errorf("%s is on %s, %v", target, got, h)
			}
			got, h := serve(t, p, b.request(), target, "10.0.0.2:80", "10.0.0.1:80") // which is down
			b.receive(h)
			if again, _, _ := p.Find(b.request(), client1, target); got != "10.0.0.2:80" || again != got {
				t.Errorf("%s is on %s, then on %s", target, got, again)
			}
		}
	})
}

// TestManyCookies: a request of 150,000 cookies, of a client that has a cookie
// of an earlier version, kept a processor busy for a second, as all of them
// were read once for each target.
func TestManyCookies(t *testing.T) {
	p := made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t)
	var targets []string
	for n := range maxCookieTargets {
		targets = append(targets, fmt.Sprint("t", n))
	}
	asked := 0
	p.Targets("t0", targets, func(string, string) bool { asked++; return true })
	legacy := p.plain("10.0.0.1:80", time.Now())
	own := p.seal(openedCookie{server: "10.0.0.2:80", target: targetIDOf("t2"), targeted: true, first: time.Now(), last: time.Now()})
	r := request("/", "Cookie", "S.t1=forged; S.t2=forged; S.t2="+own+"; S="+legacy+"; "+strings.Repeat("a=b; ", 150_000), "Cookie", "S.t3=late")
	pairs := 0
	for range cookiePairs(r) {
		pairs++
	}
	if pairs != maxCookiePairs {
		t.Errorf("%d pairs are looked at", pairs)
	}
	h := http.Header{}
	p.Bind(h, r, client1, "t0", "10.0.0.9:80") // replaces S, which the others may need
	names := map[string]bool{}
	for _, pair := range cookiesSet(h) {
		name, _, _ := strings.Cut(pair, "=")
		names[name] = true
	}
	if len(names) != maxCookieTargets-1 || !names["S"] || !names["S.t1"] || names["S.t2"] || !names["S.t63"] {
		t.Errorf("%d cookies are set: %v", len(names), names)
	}
	if asked > 2*maxCookieTargets {
		t.Errorf("%d targets were asked", asked)
	}
	// Servers see none of the cookies, however many there are before.
	lines := strings.Repeat("S.t999=b; ", maxCookiePairs)
	if got := p.strip(lines); got != lines {
		t.Error("the cookies of another client are removed")
	}
	h = http.Header{"Cookie": {lines + "S=" + legacy + "; a=b"}}
	if p.StripRequest(h); strings.Contains(h.Get("Cookie"), legacy) {
		t.Error("behind many others a cookie goes to the server")
	}
}

// TestDefaultTargetChanges: the name that belonged to one target belongs to
// another after an update.
func TestDefaultTargetChanges(t *testing.T) {
	p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t), "web", "api")
	h := http.Header{}
	p.Bind(h, request("/"), client1, "web", "10.0.0.1:80")
	before := cookiesSet(h)

	targeted(t, p, "api", "web")
	h = http.Header{}
	r := request("/", "Cookie", before[0])
	p.Bind(h, r, client1, "api", "10.0.1.1:80")
	after := cookiesSet(h)
	if diff := cmp.Diff([]string{"S.web", "S"}, names(after)); diff != "" {
		t.Error(diff)
	}
	if moved := strings.Replace(after[0], "S.web=", "S=", 1); moved != before[0] {
		t.Errorf("the cookie of the old default target became %s", moved)
	}
	r = request("/", "Cookie", strings.Join(after, "; "))
	for target, want := range map[string]string{"web": "10.0.0.1:80", "api": "10.0.1.1:80"} {
		if got, _, _ := p.Find(r, client1, target); got != want {
			t.Errorf("%s is on %q", target, got)
		}
	}

	h = http.Header{}
	p.Bind(h, request("/", "Cookie", before[0]+"; "+after[0]), client1, "api", "10.0.1.1:80")
	if diff := cmp.Diff([]string{"S"}, names(cookiesSet(h))); diff != "" {
		t.Errorf("web has its cookie already: %s", diff)
	}
}

// TestStripRequest: servers got our cookies, and wrote them to their logs.
func TestStripRequest(t *testing.T) {
	p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t), "web", "api")
	gone := "2.0." + strings.Repeat("A", 144)
	for _, tt := range []struct {
		name       string
		line, want []string
	}{
		{"none", nil, nil},
		{"alone", []string{"S=x"}, nil},
		{"first", []string{"S=x; a=b"}, []string{"a=b"}},
		{"middle", []string{"a=b; S.api=x; c=d"}, []string{"a=b; c=d"}},
		{"last", []string{"a=b; S=x"}, []string{"a=b"}},
		{"all names, twice", []string{"S.web=x; S=; a=b;S.api=y ;S=z;c=d"}, []string{"a=b;c=d"}},
		{"quoted, with blanks", []string{"a = b ;\t S\t= \"x\"  ; c"}, []string{"a = b ; c"}},
		{"several lines", []string{"a=b", "S=x", "c=d; S=x"}, []string{"a=b", "c=d"}},
		{"other names", []string{"SS=x; S.other=x; s=x; S.=x; S"}, []string{"SS=x; S.other=x; s=x; S.=x"}},
		{"of a target that is gone", []string{"S.gone=" + gone + "; a=b"}, []string{"a=b"}},
		{"odd but not ours", []string{";; a=b;\"S=x\";c={\"S\":1};"}, []string{";; a=b;\"S=x\";c={\"S\":1};"}},
		{"odd, and ours", []string{";; a=b;S=x;c={\"S\":1};"}, []string{";; a=b;c={\"S\":1};"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, before := http.Header{"Other": {"S=x"}}, slices.Clone(tt.line)
			if tt.line != nil {
				h["Cookie"] = tt.line
			}
			p.StripRequest(h)
			if diff := cmp.Diff(tt.want, h["Cookie"]); diff != "" {
				t.Error(diff)
			}
			if _, ok := h["Cookie"]; ok && len(tt.want) == 0 || h.Get("Other") == "" {
				t.Errorf("left: %v", h)
			}
			if !slices.Equal(tt.line, before) {
				t.Error("the lines of the client's request changed")
			}
		})
	}
	pass := made(NewHTTPCookie(HTTPCookieConfig{Name: "S", PassToServers: true}))(t)
	h := http.Header{"Cookie": {"S=x"}}
	pass.StripRequest(h)
	if h.Get("Cookie") != "S=x" {
		t.Error("PassToServers does not pass the cookie")
	}
}

// TestStripRequestTwin compares with pairs that are joined from parts.
func TestStripRequestTwin(t *testing.T) {
	p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t), "web", "api")
	rapid.Check(t, func(t *rapid.T) {
		pairs := rapid.SliceOf(rapid.SampledFrom([]string{"S=x", "a=b", "", " ", "S.api=", "S", "SS=1", "S.x=2", "c", "=", "=S"})).Draw(t, "pairs")
		var kept []string
		for _, pair := range pairs {
			if name, _, _ := strings.Cut(pair, "="); name != "S" && name != "S.api" && name != "S.web" {
				kept = append(kept, pair)
			}
		}
		got, want := p.strip(strings.Join(pairs, "; ")), strings.Join(kept, "; ")
		if len(kept) > 0 && len(kept) < len(pairs) {
			got, want = strings.TrimLeft(got, " "), strings.TrimLeft(want, " ")
		}
		if got != want {
			t.Fatalf("%q became %q, want %q", strings.Join(pairs, "; "), got, want)
		}
	})
}

// TestCookieLengths: the length of a cookie does not reveal the server of a
// client.
func TestCookieLengths(t *testing.T) {
	p := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{}))(t), "web", "api")
	lengths := map[int][]string{}
	for _, server := range []string{"1.1.1.1:1", "10.0.0.1:8080", "[2001:db8::1]:80", "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "green/10.0.0.1:80"} {
		h := http.Header{}
		p.Bind(h, request("/"), client1, "api", server)
		n := len(cookiesSet(h)[0])
		lengths[n] = append(lengths[n], server)
	}
	if len(lengths) != 1 {
		t.Error(fmt.Sprint(lengths))
	}
}
