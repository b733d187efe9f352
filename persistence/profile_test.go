package persistence

import (
	"bytes"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/limpetlb/limpet/internal/testrace"
)

// profile has the methods of persistence profiles that the root package needs.
type profile interface {
	Find(r *http.Request, client netip.Addr, target string) (server string, remaining time.Duration, err error)
	Bind(h http.Header, r *http.Request, client netip.Addr, target, server string) error
}

var (
	_ profile = (*ClientIP)(nil)
	_ profile = (*HTTPCookie)(nil)
	_ profile = (*AppCookie)(nil)
	_ profile = (*CustomHeader)(nil)
)

var client1, client2 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// request returns a request with headers, given by name and value.
func request(target string, headers ...string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, "http://www.example.com"+target, nil)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// made returns what a constructor made, or ends the test.
func made[T any](p T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return p
	}
}

// finds checks what a profile finds; "" is nothing.
func finds(tb testing.TB, p profile, r *http.Request, client netip.Addr, want string) {
	tb.Helper()
	got, _, err := p.Find(r, client, "")
	if got != want || err != nil && want != "" {
		tb.Errorf("Find = %q, %v; want %q", got, err, want)
	}
}

func TestClientIP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := made(NewClientIP(ClientIPConfig{}))(t)
		r := request("/")
		finds(t, p, r, client1, "")
		p.Bind(nil, r, client1, "", "10.0.0.1:80")
		p.Bind(nil, r, client2, "", "10.0.0.2:80")
		finds(t, p, r, client1, "10.0.0.1:80")
		finds(t, p, r, netip.MustParseAddr("::ffff:192.0.2.2"), "10.0.0.2:80")
		advance(5*time.Minute - 1)
		finds(t, p, r, client1, "10.0.0.1:80") // its timeout starts anew
		advance(1)
		finds(t, p, r, client2, "")
		p.Claim(r, client1, "", "10.0.0.3:80", "10.0.0.1:80") // another server
		advance(4 * time.Minute)
		p.Bind(nil, r, client1, "", "10.0.0.3:80") // the same one: the timeout starts anew
		advance(4 * time.Minute)
		finds(t, p, r, client1, "10.0.0.3:80")
		p.Bind(nil, r, netip.Addr{}, "", "10.0.0.1:80")
		finds(t, p, r, netip.Addr{}, "")
		for _, server := range []string{"10.0.0.1:80", "10.0.0.3:80"} {
			if n, err := p.Count(t.Context(), "", server); n != strings.Count(server, ".3:") || err != nil {
				t.Errorf("Count(%s) = %d, %v", server, n, err)
			}
		}
		if got := p.Stats().Entries; got != 1 {
			t.Errorf("%d entries", got)
		}
	})
}

func TestClientIPMasks(t *testing.T) {
	for _, tt := range []struct {
		name         string
		config       ClientIPConfig
		bound, asked string
		same         bool
	}{
		{"all bits", ClientIPConfig{}, "192.0.2.1", "192.0.2.2", false},
		{"same /24", ClientIPConfig{Mask4: 24}, "192.0.2.1", "192.0.2.255", true},
		{"other /24", ClientIPConfig{Mask4: 24}, "192.0.2.1", "192.0.3.1", false},
		{"mapped, same /24", ClientIPConfig{Mask4: 24}, "192.0.2.1", "::ffff:192.0.2.9", true},
		{"all bits of IPv6", ClientIPConfig{Mask4: 8}, "2001:db8::1", "2001:db8::2", false},
		{"same /64", ClientIPConfig{Mask6: 64}, "2001:db8::1", "2001:db8::ffff:2", true},
		{"other /64", ClientIPConfig{Mask6: 64}, "2001:db8::1", "2001:db8:0:1::1", false},
		{"zones do not matter", ClientIPConfig{}, "fe80::1%eth0", "fe80::1", true},
		{"families differ", ClientIPConfig{Mask4: 1, Mask6: 1}, "0.0.0.1", "::1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := made(NewClientIP(tt.config))(t)
			p.Bind(nil, nil, netip.MustParseAddr(tt.bound), "", "10.0.0.1:80")
			want := ""
			if tt.same {
				want = "10.0.0.1:80"
			}
			finds(t, p, nil, netip.MustParseAddr(tt.asked), want)
		})
	}
}

// cookieOf returns the cookie that Bind has set, nil if it has not.
func cookieOf(tb testing.TB, h http.Header) *http.Cookie {
	tb.Helper()
	lines := h["Set-Cookie"]
	if len(lines) == 0 {
		return nil
	}
	c, err := http.ParseSetCookie(lines[len(lines)-1])
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func TestHTTPCookie(t *testing.T) {
	p := made(NewHTTPCookie(HTTPCookieConfig{}))(t)
	r, h := request("/"), http.Header{}
	finds(t, p, r, client1, "")
	p.Bind(h, r, client1, "", "10.0.0.1:80")
	c := cookieOf(t, h)
	if c.Name != DefaultCookieName || c.Path != "/" || c.MaxAge != 0 || c.HttpOnly || c.Secure {
		t.Errorf("cookie %+v", c)
	}
	if strings.Contains(c.Value, "10.0.0.1") {
		t.Errorf("the value shows the server: %s", c.Value)
	}
	r = request("/", "Cookie", "a=b; "+c.Name+"="+c.Value+"; c=d")
	finds(t, p, r, client2, "10.0.0.1:80")

	h = http.Header{}
	p.Bind(h, r, client1, "", "10.0.0.1:80")
	if len(h) != 0 {
		t.Errorf("sent again: %v", h)
	}
	p.Bind(h, r, client1, "", "[2001:db8::1]:8443")
	c2 := cookieOf(t, h)
	finds(t, p, request("/", "Cookie", c2.Name+"="+c2.Value), client1, "[2001:db8::1]:8443")
	if len(c.Value) != len(c2.Value) {
		t.Errorf("the lengths distinguish the servers: %d and %d", len(c.Value), len(c2.Value))
	}

	h = http.Header{}
	p.Bind(h, r, client1, "", strings.Repeat("x", 256))
	if len(h) != 0 {
		t.Error("a server of 256 bytes has a cookie")
	}
	long := strings.Repeat("x", 255)
	p.Bind(h, r, client1, "", long)
	finds(t, p, request("/", "Cookie", h.Get("Set-Cookie")), client1, long)
}

func TestHTTPCookieAttributes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config HTTPCookieConfig
		want   string // after the value
	}{
		{"none", HTTPCookieConfig{Persistent: true}, "; Path=/"},
		{"session", HTTPCookieConfig{Timeout: time.Hour}, "; Path=/"},
		{"persistent", HTTPCookieConfig{Timeout: time.Hour, Persistent: true}, "; Path=/; Max-Age=3600"},
		{"less than a second", HTTPCookieConfig{Timeout: time.Millisecond, Persistent: true}, "; Path=/; Max-Age=1"},
		{"longest", HTTPCookieConfig{Timeout: longest, Persistent: true}, "; Path=/; Max-Age=2147483647"},
		{"all", HTTPCookieConfig{HTTPOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}, "; Path=/; HttpOnly; Secure; SameSite=Lax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := http.Header{}
				made(NewHTTPCookie(tt.config))(t).Bind(h, request("/"), client1, "", "10.0.0.1:80")
				line := h.Get("Set-Cookie")
				if got := line[strings.Index(line, ";"):]; got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestHTTPCookieTimeout(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		age     time.Duration // negative: made by a clock that is ahead
		good    bool
	}{
		{"fresh", time.Minute, 0, true},
		{"nearly over", time.Minute, time.Minute - 1, true},
		{"over", time.Minute, time.Minute, false},
		{"long over", time.Minute, 1000 * time.Hour, false},
		{"no timeout", 0, 100 * 365 * day, true},
		{"clock ahead", time.Hour, -time.Minute, true},
		{"clock far ahead", time.Hour, -time.Minute - time.Second, false},
		{"clock far ahead, no timeout", 0, -time.Hour, true}, // an hour was lost: all clients were, until then
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := made(NewHTTPCookie(HTTPCookieConfig{Timeout: tt.timeout, Persistent: true}))(t)
				now := time.Now().Add(tt.age)
				value := p.plain("10.0.0.1:80", time.Now())
				if l := p.look(request("/", "Cookie", p.config.Name+"="+value), p.target(""), now); l.found != tt.good {
					ok := l.found
					t.Errorf("good %t, want %t", ok, tt.good)
				}
			})
		})
	}
}

func TestHTTPCookieAlwaysSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := made(NewHTTPCookie(HTTPCookieConfig{AlwaysSend: true, Timeout: time.Minute}))(t)
		r := request("/")
		for range 5 {
			h := http.Header{}
			p.Bind(h, r, client1, "", "10.0.0.1:80")
			r = request("/", "Cookie", h.Get("Set-Cookie"))
			advance(59 * time.Second)
			finds(t, p, r, client1, "10.0.0.1:80")
		}
	})
}

func TestHTTPCookieKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := CookieKey{"2025", secret(1)}, CookieKey{"2026", secret(2)}
		config := func(keys ...CookieKey) *HTTPCookie {
			return made(NewHTTPCookie(HTTPCookieConfig{Keys: keys, Timeout: time.Hour, Persistent: true}))(t)
		}
		before, during, after := config(old), config(next, old), config(next)
		h := http.Header{}
		before.Bind(h, request("/"), client1, "", "10.0.0.1:80")
		r := request("/", "Cookie", h.Get("Set-Cookie"))
		advance(10 * time.Minute)
		for _, p := range []*HTTPCookie{before, during} {
			finds(t, p, r, client1, "10.0.0.1:80")
		}
		finds(t, after, r, client1, "")
		during.Bind(h, r, client1, "", "10.0.0.1:80")
		c := cookieOf(t, h)
		if !strings.HasPrefix(c.Value, "1.2026.") || c.MaxAge != 60*60 {
			t.Errorf("sealed again: %+v", c)
		}
		r = request("/", "Cookie", c.Name+"="+c.Value)
		for p, want := range map[*HTTPCookie]string{before: "", during: "10.0.0.1:80", after: "10.0.0.1:80"} {
			finds(t, p, r, client1, want)
		}
		advance(59 * time.Minute)
		finds(t, after, r, client1, "10.0.0.1:80") // a use starts the timeout anew
		advance(time.Minute)
		finds(t, after, r, client1, "")

		sameID := config(CookieKey{"2026", secret(3)})
		finds(t, sameID, r, client1, "")
	})
}

func TestHTTPCookieForgeries(t *testing.T) {
	keys := []CookieKey{{"a", secret(1)}, {"b", secret(2)}}
	p := made(NewHTTPCookie(HTTPCookieConfig{Keys: keys}))(t)
	now := time.Now()
	good := p.plain("10.0.0.1:80", now)
	if _, ok := p.open(good); !ok {
		t.Fatal("the cookie is not good")
	}
	other := made(NewHTTPCookie(HTTPCookieConfig{Name: "OTHER", Keys: keys}))(t)
	if _, ok := other.open(good); ok {
		t.Error("a cookie is good for another name")
	}
	for n := range good {
		if _, ok := p.open(good[:n]); ok {
			t.Errorf("cut to %d bytes it is good", n)
		}
		for _, c := range []byte(".-_AZaz09=+/ \n\r\x00\xff\"%") {
			if c == good[n] {
				continue
			}
			if _, ok := p.open(good[:n] + string(rune(c)) + good[n+1:]); ok {
				t.Errorf("byte %d changed to %q it is good", n, c)
			}
			if _, ok := p.open(good[:n] + string([]byte{c}) + good[n:]); ok {
				t.Errorf("with %q inserted at %d it is good", c, n)
			}
		}
	}
	for i := range len(good) * 8 {
		flipped := []byte(good)
		flipped[i/8] ^= 1 << (i % 8)
		if _, ok := p.open(string(flipped)); ok {
			t.Errorf("with bit %d flipped it is good", i)
		}
	}
	for _, value := range []string{
		"", ".", "..", "1", "1.", "1.a", "1.a.", "1.c" + good[3:], "1.b" + good[3:], "2" + good[1:], "01" + good[1:],
		good + "A", good + "AAAA", good + "=", good + good, strings.Repeat("A", 1<<20), "1.a." + strings.Repeat("A", 400),
	} {
		if _, ok := p.open(value); ok {
			t.Errorf("%.40q is good", value)
		}
	}
}

// TestHTTPCookieAmongOthers has the right cookie behind wrong ones of the same
// name.
func TestHTTPCookieAmongOthers(t *testing.T) {
	p := made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t)
	value := p.plain("10.0.0.1:80", time.Now())
	for _, tt := range []struct {
		name   string
		header []string
		want   string
	}{
		{"alone", []string{"S=" + value}, "10.0.0.1:80"},
		{"quoted", []string{`S="` + value + `"`}, "10.0.0.1:80"},
		{"no space", []string{"a=b;S=" + value}, "10.0.0.1:80"},
		{"second line", []string{"a=b", "S=" + value}, "10.0.0.1:80"},
		{"behind garbage", []string{"S=garbage; S=; S; S=" + value}, "10.0.0.1:80"},
		{"behind too much garbage", []string{strings.Repeat("S=garbage; ", 8) + "S=" + value}, ""},
		{"other case", []string{"s=" + value}, ""},
		{"longer name", []string{"SS=" + value}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request("/")
			r.Header["Cookie"] = tt.header
			finds(t, p, r, client1, tt.want)
		})
	}
}

// plain seals a cookie that does not say for which target it is.
func (p *HTTPCookie) plain(server string, made time.Time) string {
	return p.seal(openedCookie{server: server, first: made, last: made})
}

func TestHTTPCookieRoundTrip(t *testing.T) {
	p := made(NewHTTPCookie(HTTPCookieConfig{}))(t)
	seconds := rapid.Int64Range(0, 1<<33)
	rapid.Check(t, func(t *rapid.T) {
		c := openedCookie{server: rapid.StringN(0, -1, 255).Draw(t, "server"), last: time.Unix(seconds.Draw(t, "last"), 0), current: true}
		c.first = c.last
		if c.targeted = rapid.Bool().Draw(t, "targeted"); c.targeted {
			c.first, c.target = time.Unix(seconds.Draw(t, "first"), 0), targetIDOf(rapid.String().Draw(t, "target"))
		}
		c.value = p.seal(c)
		if got, ok := p.open(c.value); !ok || got != c {
			t.Fatalf("%+v became %+v, %t", c, got, ok)
		}
		if p.seal(c) == c.value {
			t.Fatal("two cookies are equal: the nonce is not random")
		}
		if (&http.Cookie{Name: "n", Value: c.value}).Valid() != nil || len(c.value) > maxCookieValue {
			t.Fatalf("%q is not a cookie's value", c.value)
		}
		if c.targeted && !looksSealed(c.value) {
			t.Fatalf("%q does not look sealed", c.value)
		}
	})
}

func FuzzCookieOpen(f *testing.F) {
	p := made(NewHTTPCookie(HTTPCookieConfig{Keys: []CookieKey{{"k", secret(7)}, {"old", secret(8)}}, Timeout: time.Hour}))(f)
	now := time.Unix(1_700_000_000, 0)
	good := p.plain("10.0.0.1:80", now)
	targeted := p.seal(openedCookie{server: "web/10.0.0.1:80", target: targetIDOf("shop"), targeted: true, first: now, last: now})
	f.Add(good)                               // good, but for its nonce
	f.Add(targeted)                           // the same
	f.Add("1" + targeted[1:])                 // one version's text as the other's
	f.Add("2" + good[1:])                     // and the reverse
	f.Add(p.plain("10.0.0.1:80", now.Add(1))) // within the same second
	f.Add(p.plain("", now))                   // a server without a name
	f.Add(p.plain("a", now.Add(-time.Hour)))  // too old
	f.Add("1.old" + good[3:])                 // sealed with another key
	f.Add("1.k.")                             // nothing sealed
	f.Add("1.k." + strings.Repeat("A", 48))   // time, nonce and tag of zeros
	f.Add("2.k." + strings.Repeat("A", 38))   // nonce and tag of zeros
	f.Add("3.k.AAAA")                         // another version
	f.Fuzz(func(t *testing.T, value string) {
		c, ok := p.open(value)
		if !ok {
			return
		}
		// Whatever opens must have been sealed: the nonce is in it, so sealing
		// again differs, but its length does not.
		version, _, _ := strings.Cut(value, ".")
		again := p.seal(c)
		if len(again) != len(value) || !strings.HasPrefix(value, version+".k.") || !c.current || c.last.Before(now.Add(-time.Hour)) {
			t.Fatalf("%q says %+v", value, c)
		}
	})
}

func TestAppCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := made(NewAppCookie(AppCookieConfig{Name: "JSESSIONID"}))(t)
		fresh := request("/")
		finds(t, p, fresh, client1, "")
		p.Bind(http.Header{}, fresh, client1, "", "10.0.0.1:80")
		if p.Stats().Entries != 0 {
			t.Error("something was remembered of a request without a session")
		}
		h := http.Header{"Set-Cookie": {"other=1", "JSESSIONID=abc; Path=/shop; HttpOnly", "JSESSIONIDX=x"}}
		p.Bind(h, fresh, client1, "", "10.0.0.1:80")
		byCookie := request("/", "Cookie", "JSESSIONID=abc")
		byQuery := request("/cart?x=1&JSESSIONID=abc&y=2")
		for _, r := range []*http.Request{byCookie, byQuery, request("/?JSESSIONID=xyz", "Cookie", `a=b; JSESSIONID="abc"`)} {
			finds(t, p, r, client2, "10.0.0.1:80")
		}
		for _, r := range []*http.Request{request("/?jsessionid=abc"), request("/?JSESSIONID="), request("/", "Cookie", "JSESSIONIDX=abc")} {
			finds(t, p, r, client1, "")
		}
		advance(20*time.Minute - 1)
		finds(t, p, byCookie, client1, "10.0.0.1:80")
		advance(20*time.Minute - 1)
		p.Bind(http.Header{}, byCookie, client1, "", "10.0.0.1:80")
		advance(19 * time.Minute)
		finds(t, p, byCookie, client1, "10.0.0.1:80")
		advance(20 * time.Minute)
		finds(t, p, byCookie, client1, "")

		// A session that is not known is learned from the request.
		p.Bind(http.Header{}, byQuery, client1, "", "10.0.0.2:80")
		finds(t, p, byCookie, client1, "10.0.0.2:80")
		// One that moves is moved, one that changes its name keeps the old one
		// for a while.
		p.Claim(byCookie, client1, "", "10.0.0.3:80", "10.0.0.2:80")
		p.Bind(http.Header{"Set-Cookie": {"JSESSIONID=def"}}, byCookie, client1, "", "10.0.0.4:80")
		finds(t, p, byCookie, client1, "10.0.0.3:80")
		finds(t, p, request("/", "Cookie", "JSESSIONID=def"), client1, "10.0.0.4:80")
		if n, err := p.Count(t.Context(), "", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"); n != 2 || err != nil {
			t.Errorf("Count = %d, %v", n, err)
		}
	})
}

func TestAppCookieDeleted(t *testing.T) {
	for _, line := range []string{"S=; Path=/", "S=abc; Max-Age=0", "S=abc; Max-Age=-1", "S=abc; Expires=Thu, 01 Jan 1970 00:00:00 GMT"} {
		p := made(NewAppCookie(AppCookieConfig{Name: "S"}))(t)
		r := request("/", "Cookie", "S=abc")
		p.Bind(http.Header{}, r, client1, "", "10.0.0.1:80")
		p.Bind(http.Header{"Set-Cookie": {line}}, r, client1, "", "10.0.0.1:80")
		if server, _, _ := p.Find(r, client1, ""); server != "" {
			t.Errorf("%q does not delete the session", line)
		}
	}
	p := made(NewAppCookie(AppCookieConfig{Name: "S"}))(t)
	p.Bind(http.Header{"Set-Cookie": {"S=abc; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60"}}, request("/"), client1, "", "10.0.0.1:80")
	finds(t, p, request("/", "Cookie", "S=abc"), client1, "10.0.0.1:80") // Max-Age counts, RFC 6265 section 5.3
}

// TestAppCookieDeletes: an application that has a session for each path, or
// moves its cookie to another path, deletes one of several cookies, and the
// profile forgot a session that goes on.
func TestAppCookieDeletes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request *http.Request
		answer  []string
		want    string // the sessions that are still bound, of a and b
	}{
		{"the only one", request("/", "Cookie", "S=a"), []string{"S=; Path=/"}, "b"},
		{"twice the same", request("/", "Cookie", "S=a; S=a"), []string{"S=; Path=/"}, "b"},
		{"one of two", request("/", "Cookie", "S=a; S=b"), []string{"S=; Path=/"}, "ab"},
		{"one of two, in two lines", request("/", "Cookie", "S=a", "Cookie", "S=b"), []string{"S=deleted; Max-Age=0"}, "ab"},
		{"one of two, of which one is not bound", request("/", "Cookie", "S=x; S=b"), []string{"S=; Path=/"}, "ab"},
		{"one of two, which is named", request("/", "Cookie", "S=a; S=b"), []string{"S=b; Max-Age=0"}, "a"},
		{"a cookie, and another session in the path", request("/;s=b", "Cookie", "S=a"), []string{"S=; Path=/"}, "b"},
		{"a cookie that is not bound, and a session in the path", request("/;s=b", "Cookie", "S=x"), []string{"S=; Path=/"}, "ab"},
		{"in the path", request("/;s=b"), []string{"S=; Path=/"}, "a"},
		{"in the query", request("/?S=b"), []string{"S=; Path=/"}, "a"},
		{"in path and query", request("/;s=a?S=b"), []string{"S=; Path=/"}, "ab"},
		{"an empty one besides", request("/", "Cookie", "S=; S=a"), []string{"S=; Path=/"}, "b"},
		{"moved to another path", request("/", "Cookie", "S=a"), []string{"S=; Path=/old; Max-Age=0", "S=a; Path=/"}, "ab"},
		{"moved to another path, set first", request("/", "Cookie", "S=a"), []string{"S=a; Path=/", "S=; Path=/old; Max-Age=0"}, "ab"},
		{"replaced", request("/", "Cookie", "S=a"), []string{"S=; Path=/old; Max-Age=0", "S=c; Path=/"}, "b"},
		{"no session", request("/"), []string{"S=; Path=/"}, "ab"},
		{"no request", nil, []string{"S=; Path=/"}, "ab"},
	} {
		p := made(NewAppCookie(AppCookieConfig{Name: "S"}))(t)
		p.Bind(http.Header{"Set-Cookie": {"S=a", "S=b"}}, request("/"), client1, "web", "10.0.0.1:80")
		if err := p.Bind(http.Header{"Set-Cookie": tt.answer}, tt.request, client1, "web", "10.0.0.1:80"); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		got := ""
		for _, session := range []string{"a", "b"} {
			if server, _, _ := p.Find(request("/", "Cookie", "S="+session), client1, "web"); server != "" {
				got += session
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q are bound, want %q", tt.name, got, tt.want)
		}
	}
}

// TestLateSetCookie: an application that sets its cookie with each answer moved
// a client back to the server that it had left, with an answer that came late.
func TestLateSetCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, r := range map[string]*http.Request{
			"cookie": request("/", "Cookie", "S=1"), "second cookie": request("/", "Cookie", "S=x; S=1"),
			"path": request("/;s=1"), "query": request("/?S=1"),
		} {
			for _, shared := range []Sessions{nil, NewStore(Options{})} {
				p := made(NewAppCookie(AppCookieConfig{Name: "S", Timeout: time.Minute, Sessions: shared}))(t)
				answer := http.Header{"Set-Cookie": {"S=1; Path=/"}}
				p.Bind(answer, r, client1, "web", "10.0.0.1:80") // not bound yet
				p.Claim(r, client1, "web", "10.0.0.2:80", "10.0.0.1:80")
				advance(40 * time.Second)
				p.Bind(answer, r, client1, "web", "10.0.0.1:80")
				advance(40 * time.Second)
				if got, _, _ := p.Find(r, client1, "web"); got != "10.0.0.2:80" {
					t.Errorf("%s: on %q", name, got)
				}
				// The application takes an ID again that another client, or a
				// former login, had.
				p.Bind(answer, request("/", "Cookie", "S=y"), client1, "web", "10.0.0.3:80")
				if got, _, _ := p.Find(request("/", "Cookie", "S=1"), client1, "web"); got != "10.0.0.3:80" {
					t.Errorf("%s: begun anew, on %q", name, got)
				}
			}
		}
	})
}

// TestLongServer: a server in a group whose name, with that of its pool, was
// too long was not remembered, without a word.
func TestLongServer(t *testing.T) {
	for _, tt := range everyProfile {
		p := tt.make(t, time.Hour, 0, NewStore(Options{}))
		for n, want := range map[int]bool{255: true, 256: false, 100_000: false} {
			b := newBrowser(t)
			server, h, target := strings.Repeat("p", n), http.Header{}, strconv.Itoa(n)
			if c, ok := p.(claimer); ok {
				if got, err := c.Claim(b.request(), client1, target, server, ""); got != server || (err == nil) != want {
					t.Errorf("%s, %d bytes: Claim: %v", tt.name, n, err)
				}
			}
			if err := p.Bind(h, b.request(), client1, target, server); (err == nil) != want || err != nil && (len(err.Error()) > 200 || !strings.Contains(err.Error(), "bytes")) {
				t.Errorf("%s, %d bytes: Bind: %v", tt.name, n, err)
			}
			b.receive(h)
			if got, _, _ := p.Find(b.request(), client1, target); got != "" != want {
				t.Errorf("%s, %d bytes: Find = %q", tt.name, n, got)
			}
		}
	}
}

func TestAppCookieOddValues(t *testing.T) {
	p := made(NewAppCookie(AppCookieConfig{Name: "S", MaxEntries: 100}))(t)
	long := strings.Repeat("x", defaultMaxKeyBytes+1)
	p.Bind(http.Header{"Set-Cookie": {"S=" + long}}, request("/"), client1, "", "10.0.0.1:80")
	p.Bind(http.Header{}, request("/", "Cookie", "S="+long), client1, "", "10.0.0.1:80")
	p.Bind(http.Header{"Set-Cookie": {"S=a"}}, request("/"), client1, "", strings.Repeat("x", defaultMaxValueBytes+1))
	if p.Stats().Entries != 0 {
		t.Error("what is too long was remembered")
	}
	p.Bind(http.Header{}, request("/?S=a%20b"), client1, "", "10.0.0.1:80")
	finds(t, p, request("/?S=%zz&S=a+b"), client1, "10.0.0.1:80")
	finds(t, p, &http.Request{}, client1, "")
	for i := range 1000 {
		p.Bind(http.Header{}, request("/?S="+strconv.Itoa(i)), client1, "", "10.0.0.1:80")
	}
	if s := p.Stats(); s.Entries != 100 || s.Bytes == 0 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestCustomHeader(t *testing.T) {
	servers := map[string]string{"one": "10.0.0.1:80", "two": "10.0.0.2:80"}
	p := made(NewCustomHeader(CustomHeaderConfig{Name: "x-server", Servers: servers}))(t)
	servers["three"] = "10.0.0.3:80" // too late
	finds(t, p, request("/", "X-Server", "one"), client1, "10.0.0.1:80")
	finds(t, p, request("/", "X-Server", "two", "X-Server", "one"), client1, "10.0.0.2:80")
	for _, value := range []string{"", "ONE", "three", " one"} {
		finds(t, p, request("/", "X-Server", value), client1, "")
	}
	h := http.Header{}
	p.Bind(h, request("/"), client1, "", "10.0.0.1:80")
	finds(t, p, request("/"), client1, "")
	if len(h) != 0 {
		t.Errorf("Bind sets %v", h)
	}
}

func TestProfileFaults(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, tt := range []struct {
		name string
		err  error
		want string // lines
	}{
		{"client IP", second(NewClientIP(ClientIPConfig{Mask4: 33, Mask6: -1})),
			"mask4: 33: more than 32\nmask6: -1: less than 1"},
		{"cookie name", second(NewHTTPCookie(HTTPCookieConfig{Name: "a b"})), `name: "a b": not a token`},
		{"long cookie name", second(NewHTTPCookie(HTTPCookieConfig{Name: long})), `name: "` + long[:64] + `"...: longer than 128 bytes`},
		{"insecure", second(NewHTTPCookie(HTTPCookieConfig{Name: "__host-s"})), `secure: false: clients refuse a cookie named "__host-s" without it`},
		{"keys", second(NewHTTPCookie(HTTPCookieConfig{Keys: []CookieKey{{"", secret(1)}, {"a.b", secret(1)}, {"k", secret(1)}, {"k", secret(1)[:16]}}})),
			"keys[0].id: not 1 to 16 letters, digits, _ and -\n" +
				"keys[1].id: not 1 to 16 letters, digits, _ and -\n" +
				"keys[3].id: there is a second key with this id\n" +
				"keys[3].secret: 16 bytes, not 32"},
		{"no app cookie", second(NewAppCookie(AppCookieConfig{})), "name: missing"},
		{"app cookie", second(NewAppCookie(AppCookieConfig{Name: "a;b"})), `name: "a;b": not a token`},
		{"no header", second(NewCustomHeader(CustomHeaderConfig{})), "name: missing\nservers: missing"},
		{"header", second(NewCustomHeader(CustomHeaderConfig{Name: "host", Servers: map[string]string{"": "a", "b": ""}})),
			"name: \"host\": not among the headers of a request\n" +
				"servers[\"\"]: \"a\": a header that is empty names no server\n" +
				"servers[\"b\"]: missing"},
		{"header name", second(NewCustomHeader(CustomHeaderConfig{Name: "a:", Servers: map[string]string{"a": "b"}})), `name: "a:": not a token`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.err == nil || tt.err.Error() != tt.want {
				t.Errorf("got %v\nwant %s", tt.err, tt.want)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestProfileAllocations(t *testing.T) {
	if testrace.Enabled {
		t.Skip("the race detector allocates")
	}
	ip := made(NewClientIP(ClientIPConfig{Mask6: 64}))(t)
	app := made(NewAppCookie(AppCookieConfig{Name: "S"}))(t)
	cookie := made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t)
	header := made(NewCustomHeader(CustomHeaderConfig{Name: "X-Server", Servers: map[string]string{"one": "10.0.0.1:80"}}))(t)
	client := netip.MustParseAddr("2001:db8::1")
	r := request("/?S=abc", "X-Server", "one")
	sealed := request("/", "Cookie", "a=b; S="+cookie.plain("10.0.0.1:80", time.Now()))
	h := http.Header{}
	ip.Bind(h, r, client, "", "10.0.0.1:80")
	app.Bind(h, r, client, "", "10.0.0.1:80")
	stored := made(NewAppCookie(AppCookieConfig{Name: "S", Sessions: NewStore(Options{})}))(t)
	stored.Bind(h, r, client, "", "10.0.0.1:80")
	two, path := request("/", "Cookie", "S=stale; a=b; S=abc"), request("/x;v=1;s=abc")
	for _, tt := range []struct {
		name string
		want float64
		do   func()
	}{
		{"ClientIP.Find", 0, func() { ip.Find(r, client, "") }},
		{"ClientIP.Bind", 0, func() { ip.Bind(h, r, client, "", "10.0.0.1:80") }},
		{"AppCookie.Find", 0, func() { app.Find(r, client, "") }},
		{"AppCookie.Bind", 0, func() { app.Bind(h, r, client, "", "10.0.0.1:80") }},
		{"ClientIP.Find of an unknown client", 0, func() { ip.Find(r, client1, "") }},
		{"ClientIP.Find in another target", 0, func() { ip.Find(r, client, "web") }},
		{"ClientIP.Claim of a bound client", 0, func() { ip.Claim(r, client, "", "10.0.0.2:80", "") }},
		{"ClientIP.Keep", 0, func() { ip.Keep(r, client, "") }},
		{"AppCookie.Find by the second cookie", 0, func() { app.Find(two, client, "") }},
		{"AppCookie.Find by the path", 0, func() { app.Find(path, client, "") }},
		{"AppCookie.Claim of several sessions", 0, func() { app.Claim(two, client, "", "10.0.0.2:80", "") }},
		{"AppCookie.Keep", 0, func() { app.Keep(r, client, "") }},
		{"AppCookie.Find in a store", 0, func() { stored.Find(r, client, "") }},
		{"AppCookie.Bind in a store", 0, func() { stored.Bind(h, r, client, "", "10.0.0.1:80") }},
		{"HTTPCookie.StripRequest without a cookie", 0, func() { cookie.StripRequest(r.Header) }},
		{"CustomHeader.Find", 0, func() { header.Find(r, client, "") }},
		{"HTTPCookie.Find", 4, func() { cookie.Find(sealed, client, "") }},
		{"HTTPCookie.Find without a cookie", 0, func() { cookie.Find(r, client, "") }},
		{"HTTPCookie.Bind with the cookie", 4, func() { cookie.Bind(h, sealed, client, "", "10.0.0.1:80") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(1000, tt.do); got > tt.want {
				t.Errorf("%v allocations, want %v", got, tt.want)
			}
		})
	}
}

func BenchmarkProfile(b *testing.B) {
	ip := made(NewClientIP(ClientIPConfig{}))(b)
	app := made(NewAppCookie(AppCookieConfig{Name: "S"}))(b)
	cookie := made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(b)
	r := request("/", "Cookie", "a=b; S="+cookie.plain("10.0.0.1:80", time.Now()))
	h := http.Header{}
	for name, p := range map[string]profile{"ClientIP": ip, "AppCookie": app, "HTTPCookie": cookie} {
		p.Bind(h, r, client1, "", "10.0.0.1:80")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Find(r, client1, "")
				p.Bind(h, r, client1, "", "10.0.0.1:80")
			}
		})
	}
	b.Run("HTTPCookie/new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			cookie.Bind(http.Header{}, request("/"), client1, "", "10.0.0.1:80")
		}
	})
}
