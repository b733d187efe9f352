package persistence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/limpetlb/limpet/internal/bindingsource"
)

// targeter is a profile with targets.
type targeter interface {
	profile
	Targets(defaultTarget string, all []string, has func(target, server string) bool) error
	Adopt(old any, targets ...string) bool
}

var (
	_ targeter = (*ClientIP)(nil)
	_ targeter = (*AppCookie)(nil)
	_ targeter = (*HTTPCookie)(nil)
)

// targeted has the profile made for targets; the first one is the default.
func targeted[P targeter](tb testing.TB, p P, targets ...string) P {
	tb.Helper()
	if err := p.Targets(targets[0], targets, nil); err != nil {
		tb.Fatal(err)
	}
	return p
}

// everyProfile has the profiles that remember something, in memory and in a
// store. The request that browser returns carries the key of the profile, and
// answered shows an answer to it.
var everyProfile = []struct {
	name string
	make func(tb testing.TB, timeout, maxAge time.Duration, s Sessions) targeter
}{
	{"ClientIP", func(tb testing.TB, timeout, maxAge time.Duration, _ Sessions) targeter {
		return made(NewClientIP(ClientIPConfig{Timeout: timeout, MaxAge: maxAge}))(tb)
	}},
	{"ClientIP in a store", func(tb testing.TB, timeout, maxAge time.Duration, s Sessions) targeter {
		return made(NewClientIP(ClientIPConfig{Timeout: timeout, MaxAge: maxAge, Sessions: s, Table: "ip"}))(tb)
	}},
	{"AppCookie", func(tb testing.TB, timeout, maxAge time.Duration, _ Sessions) targeter {
		return made(NewAppCookie(AppCookieConfig{Name: "SID", Timeout: timeout, MaxAge: maxAge}))(tb)
	}},
	{"AppCookie in a store", func(tb testing.TB, timeout, maxAge time.Duration, s Sessions) targeter {
		return made(NewAppCookie(AppCookieConfig{Name: "SID", Timeout: timeout, MaxAge: maxAge, Sessions: s, Table: "app"}))(tb)
	}},
	{"HTTPCookie", func(tb testing.TB, timeout, maxAge time.Duration, _ Sessions) targeter {
		return made(NewHTTPCookie(HTTPCookieConfig{Timeout: timeout, MaxAge: maxAge}))(tb)
	}},
}

// A browser sends requests of one client, and keeps its cookies.
type browser struct {
	tb   testing.TB
	jar  *cookiejar.Jar
	site *url.URL
	set  int // how many lines Set-Cookie it got
}

func newBrowser(tb testing.TB) *browser {
	site, _ := url.Parse("https://www.example.com/shop/cart")
	b := &browser{tb: tb, jar: made(cookiejar.New(nil))(tb), site: site}
	b.jar.SetCookies(site, []*http.Cookie{{Name: "SID", Value: "session", Path: "/"}})
	return b
}

// request returns a request as it is sent now.
func (b *browser) request() *http.Request {
	r := &http.Request{Method: http.MethodGet, URL: b.site, Header: http.Header{}}
	for _, c := range b.jar.Cookies(b.site) {
		r.AddCookie(c)
	}
	return r
}

// receive keeps the cookies of an answer.
func (b *browser) receive(h http.Header) {
	cookies := (&http.Response{Header: h}).Cookies()
	b.set += len(cookies)
	b.jar.SetCookies(b.site, cookies)
}

// serve does for a request what a virtual service does, with server for a
// client that has none, or whose server is down, and returns the server that
// answers and the header of the answer.
func serve(tb testing.TB, p profile, r *http.Request, target, server string, down ...string) (string, http.Header) {
	tb.Helper()
	bound, _, err := p.Find(r, client1, target)
	if err != nil && !errors.Is(err, ErrNoKey) && !errors.Is(err, ErrInvalidCookie) {
		tb.Fatal(err)
	}
	if bound != "" && !slices.Contains(down, bound) {
		server = bound
	} else if c, ok := p.(claimer); ok {
		if server, err = c.Claim(r, client1, target, server, bound); err != nil {
			tb.Fatal(err)
		}
	}
	h := http.Header{}
	if err := p.Bind(h, r, client1, target, server); err != nil {
		tb.Fatal(err)
	}
	return server, h
}

// TestTargetsApart: with two pools behind one profile, each visit to one of
// them took the client away from the other.
func TestTargetsApart(t *testing.T) {
	for _, tt := range everyProfile {
		t.Run(tt.name, func(t *testing.T) {
			p := targeted(t, tt.make(t, time.Hour, 0, NewStore(Options{})), "web", "api", "canary/ä")
			b := newBrowser(t)
			servers := map[string]string{"web": "10.0.0.1:80", "api": "10.0.1.1:80", "canary/ä": "green/10.0.2.1:80"}
			for round := range 8 {
				for target, want := range servers {
					other := want
					if round > 0 {
						other = "10.9.9.9:80" // what the algorithm would choose
					}
					got, h := serve(t, p, b.request(), target, other)
					b.receive(h)
					if got != want {
						t.Fatalf("round %d: %s is on %s, want %s", round, target, got, want)
					}
				}
			}
			if b.set > len(servers) {
				t.Errorf("%d cookies set", b.set)
			}
		})
	}
}

// TestParallelAnswers lets browsers ask two or three targets at the same time
// and receive the answers in any order: what one answer sets must not undo what
// the other does. In half of the runs servers go down, in the others the
// default target changes.
func TestParallelAnswers(t *testing.T) {
	t.Parallel()
	targets := []string{"web", "api", "static"}
	for _, tt := range everyProfile {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				for run := range 50 {
					p := targeted(t, tt.make(t, 20*time.Minute, 0, NewStore(Options{})), targets...)
					b := newBrowser(t)
					bound := map[string]string{}
					for range 40 {
						type answer struct {
							target, server string
							h              http.Header
						}
						var answers []answer
						var down []string
						if run%2 == 0 && random.IntN(4) == 0 {
							down = append(down, bound[targets[random.IntN(len(targets))]])
						}
						r := b.request()
						for _, i := range random.Perm(len(targets))[:1+random.IntN(len(targets))] {
							server, h := serve(t, p, r, targets[i], fmt.Sprintf("10.0.%d.%d:80", i, random.IntN(1000)), down...)
							answers = append(answers, answer{targets[i], server, h})
						}
						random.Shuffle(len(answers), func(i, j int) { answers[i], answers[j] = answers[j], answers[i] })
						for _, a := range answers {
							b.receive(a.h)
							if was := bound[a.target]; was != "" && was != a.server && !slices.Contains(down, was) {
								t.Fatalf("%s moved from %s to %s", a.target, was, a.server)
							}
							bound[a.target] = a.server
						}
						advance(time.Duration(random.IntN(600)) * time.Second / 2)
						if run%2 == 1 && random.IntN(8) == 0 { // another target becomes the default one
							if err := p.Targets(targets[random.IntN(len(targets))], targets, nil); err != nil {
								t.Fatal(err)
							}
						}
						for target := range bound { // keep alive what the dice forget
							_, h := serve(t, p, b.request(), target, "10.9.9.9:80")
							b.receive(h)
						}
					}
				}
			})
		})
	}
}

// TestProfileClaim: of parallel requests that carry a key the first one
// decides, and a server that cannot be used is replaced once.
func TestProfileClaim(t *testing.T) {
	for _, tt := range everyProfile {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := targeted(t, tt.make(t, time.Hour, 0, NewStore(Options{})), "web", "api").(claimer)
			if !ok {
				return // its key is never in the request that is bound
			}
			r := newBrowser(t).request()
			for _, step := range []struct{ target, server, instead, want string }{
				{"web", "10.0.0.1:80", "", "10.0.0.1:80"},
				{"web", "10.0.0.2:80", "", "10.0.0.1:80"}, // joins
				{"web", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:80"},
				{"api", "10.0.1.2:80", "10.0.0.1:80", "10.0.1.2:80"},
				{"web", "10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"}, // the first one failed
				{"web", "10.0.0.3:80", "10.0.0.1:80", "10.0.0.2:80"}, // found out later
				{"web", "10.0.0.2:80", "10.0.0.2:80", "10.0.0.2:80"},
			} {
				if got, err := p.Claim(r, client1, step.target, step.server, step.instead); got != step.want || err != nil {
					t.Errorf("%+v: %q, %v", step, got, err)
				}
			}
			// An answer that was sent before the client moved comes late.
			if err := p.Bind(http.Header{}, r, client1, "web", "10.0.0.1:80"); err != nil {
				t.Fatal(err)
			}
			if got, _, err := p.Find(r, client1, "web"); got != "10.0.0.2:80" || err != nil {
				t.Errorf("Find = %q, %v", got, err)
			}
		})
	}
}

// TestMaxAge has clients that come back all the time, and one that stays:
// nothing extends MaxAge, and a re-pick begins it anew.
func TestMaxAge(t *testing.T) {
	for _, tt := range everyProfile {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := targeted(t, tt.make(t, 10*time.Minute, time.Hour, NewStore(Options{})), "web", "api")
				b := newBrowser(t)
				_, h := serve(t, p, b.request(), "web", "10.0.0.1:80")
				b.receive(h)
				for minute := range 59 {
					advance(time.Minute)
					got, h := serve(t, p, b.request(), "web", "10.0.0.2:80")
					b.receive(h)
					if got != "10.0.0.1:80" {
						t.Fatalf("after %d minutes on %s", minute+1, got)
					}
					if k, ok := p.(claimer); ok {
						if err := k.Keep(b.request(), client1, "web"); err != nil {
							t.Fatal(err)
						}
					}
				}
				if _, left, _ := p.Find(b.request(), client1, "web"); left <= 0 || left > time.Minute {
					t.Errorf("%v is left", left)
				}
				advance(time.Minute)
				if got, left, err := p.Find(b.request(), client1, "web"); got != "" || left >= 0 || err != nil {
					t.Errorf("Find after MaxAge = %q, %v, %v", got, left, err)
				}
				got, h := serve(t, p, b.request(), "web", "10.0.0.2:80")
				b.receive(h)
				advance(9 * time.Minute)
				if again, _ := serve(t, p, b.request(), "web", "10.0.0.3:80"); got != "10.0.0.2:80" || again != got {
					t.Errorf("on %s, then on %s", got, again)
				}
			})
		})
	}
}

// TestKeep: a connection stays open for longer than the timeout, without
// another request. When the client opened a second one it went to another
// server.
func TestKeep(t *testing.T) {
	for _, tt := range everyProfile {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, ok := targeted(t, tt.make(t, time.Minute, 0, NewStore(Options{})), "web", "api").(claimer)
				if !ok {
					return // an open connection sends no cookie
				}
				r := newBrowser(t).request()
				if err := p.Keep(r, client1, "web"); err != nil {
					t.Fatal(err)
				}
				if got, _, _ := p.Find(r, client1, "web"); got != "" {
					t.Errorf("Keep has bound the client to %q", got)
				}
				serve(t, p, r, "web", "10.0.0.1:80")
				serve(t, p, r, "api", "10.0.1.1:80")
				for range 9 {
					advance(20 * time.Second)
					if err := p.Keep(r, client1, "web"); err != nil {
						t.Fatal(err)
					}
				}
				advance(59 * time.Second)
				if got, _, err := p.Find(r, client1, "web"); got != "10.0.0.1:80" || err != nil {
					t.Errorf("Find = %q, %v", got, err)
				}
				if got, _, _ := p.Find(r, client1, "api"); got != "" {
					t.Errorf("the binding of another target was kept: %s", got)
				}
			})
		})
	}
}

// TestOutcomes has what Find says if it finds nothing.
func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ip := made(NewClientIP(ClientIPConfig{}))(t)
		app := made(NewAppCookie(AppCookieConfig{Name: "SID"}))(t)
		cookie := targeted(t, made(NewHTTPCookie(HTTPCookieConfig{Name: "S", Timeout: time.Minute}))(t), "web", "api")
		header := made(NewCustomHeader(CustomHeaderConfig{Name: "X", Servers: map[string]string{"a": "10.0.0.1:80"}}))(t)
		ip.Bind(nil, nil, client1, "web", "10.0.0.1:80")
		session := request("/", "Cookie", "SID=old")
		app.Bind(http.Header{}, session, client1, "web", "10.0.0.1:80")
		h := http.Header{}
		cookie.Bind(h, request("/"), client1, "web", "10.0.0.1:80")
		sealed := cookieOf(t, h).String()
		advance(time.Hour)
		h = http.Header{}
		cookie.Bind(h, request("/"), client1, "api", "10.0.0.1:80")
		ofAPI := strings.Replace(cookieOf(t, h).String(), "S.api", "S", 1)
		forged := sealed[:10] + "AAAA" + sealed[14:]
		for _, tt := range []struct {
			name    string
			p       profile
			r       *http.Request
			client  netip.Addr
			expired bool
			err     error
		}{
			{"no address", ip, request("/"), netip.Addr{}, false, ErrNoKey},
			{"unknown address", ip, request("/"), client2, false, nil},
			{"address too late", ip, request("/"), client1, true, nil},
			{"no session", app, request("/?x=y"), client1, false, ErrNoKey},
			{"unknown session", app, request("/?SID=x"), client1, false, nil},
			{"session too late", app, session, client1, true, nil},
			{"no cookie", cookie, request("/", "Cookie", "SS=x; T=y"), client1, false, nil},
			{"forged", cookie, request("/", "Cookie", forged), client1, false, ErrInvalidCookie},
			{"empty", cookie, request("/", "Cookie", "S="), client1, false, ErrInvalidCookie},
			{"forged, under the other name", cookie, request("/", "Cookie", "S.web=x"), client1, false, ErrInvalidCookie},
			{"of a target that is not asked for", cookie, request("/", "Cookie", "S.api=x"), client1, false, nil},
			{"forged, and of another target", cookie, request("/", "Cookie", forged+"; "+ofAPI), client1, false, nil},
			{"cookie too late", cookie, request("/", "Cookie", forged+"; "+sealed), client1, true, nil},
			{"no header", header, request("/"), client1, false, ErrNoKey},
			{"unknown header", header, request("/", "X", "b"), client1, false, nil},
		} {
			server, remaining, err := tt.p.Find(tt.r, tt.client, "web")
			if server != "" || remaining < 0 != tt.expired || remaining > 0 || !errors.Is(err, tt.err) || err != nil && tt.err == nil {
				t.Errorf("%s: Find = %q, %v, %v", tt.name, server, remaining, err)
			}
		}
	})
}

// TestManyClientsOfOneNetwork: a carrier's or a company's clients are in one
// IPv6 network, and only 4,096 of them were remembered, in an empty table too.
func TestManyClientsOfOneNetwork(t *testing.T) {
	t.Parallel()
	for _, clients := range []int{6_000, 60_000} {
		for _, mask := range []int{128, 64} {
			t.Run(fmt.Sprintf("%d, mask %d", clients, mask), func(t *testing.T) {
				p := targeted(t, made(NewClientIP(ClientIPConfig{Mask6: mask}))(t), "web")
				r := request("/")
				address := func(n int) netip.Addr {
					a := netip.MustParseAddr("2001:db8:1::1").As16()
					a[6], a[7] = byte(n>>8), byte(n)
					return netip.AddrFrom16(a)
				}
				lost := 0
				for range 2 {
					lost = 0
					for n := range clients {
						if got, _, _ := p.Find(r, address(n), "web"); got != "10.0.0.1:80" {
							lost++
						}
						p.Claim(r, address(n), "web", "10.0.0.1:80", "")
					}
				}
				if lost > 0 {
					t.Errorf("%d of %d lost their server", lost, clients)
				}
			})
		}
	}
	p := targeted(t, made(NewClientIP(ClientIPConfig{MaxPerOwner: 10}))(t), "web")
	for n := range 100 {
		p.Claim(request("/"), netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), "web", "10.0.0.1:80", "")
	}
	if n, err := p.Count(t.Context(), "web"); n != 10 || err != nil {
		t.Errorf("%d clients of one network, %v; want 10", n, err)
	}
}

// countingStore counts as stores do that other instances share.
type countingStore struct{ *Store }

func (s countingStore) CountByValue(_ context.Context, table string) (map[string]int, error) {
	counts := map[string]int{}
	for _, e := range s.All(table) {
		counts[e.Value]++
	}
	return counts, nil
}

func TestProfileCount(t *testing.T) {
	for _, tt := range everyProfile {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := targeted(t, tt.make(t, time.Hour, 0, countingStore{NewStore(Options{})}), "web", "api").(claimer)
			if !ok {
				return
			}
			for i, target := range []string{"web", "web", "api", "web", "api"} {
				r := request("/", "Cookie", fmt.Sprintf("SID=%d", i))
				p.Claim(r, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), target, fmt.Sprintf("10.0.0.%d:80", i%2), "")
			}
			for _, want := range []struct {
				target  string
				servers []string
				n       int
			}{
				{"web", []string{"10.0.0.0:80"}, 1}, {"web", []string{"10.0.0.1:80"}, 2}, {"web", nil, 3},
				{"web", []string{"10.0.0.1:80", "10.0.0.0:80", "10.0.0.9:80"}, 3}, {"api", []string{"10.0.0.0:80"}, 2}, {"other", nil, 0},
			} {
				if n, err := p.Count(t.Context(), want.target, want.servers...); n != want.n || err != nil {
					t.Errorf("Count(%s, %v) = %d, %v; want %d", want.target, want.servers, n, err, want.n)
				}
			}
		})
	}
	p := made(NewClientIP(ClientIPConfig{Sessions: struct{ Sessions }{NewStore(Options{})}}))(t)
	if _, err := p.Count(t.Context(), "web"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Count by sessions that cannot: %v", err)
	}
	_, err := NewAppCookie(AppCookieConfig{Name: "S", MaxAge: time.Hour, Sessions: struct{ Sessions }{NewStore(Options{})}})
	if err == nil || !strings.HasPrefix(err.Error(), "maxAge: 1h0m0s: ") {
		t.Errorf("MaxAge with sessions that cannot: %v", err)
	}
}

// TestAdopt: a configuration made anew has new profiles, and each of them began
// without clients.
func TestAdopt(t *testing.T) {
	type config struct {
		name string
		make func(tb testing.TB) targeter
	}
	ip := func(c ClientIPConfig) config {
		return config{fmt.Sprintf("%+v", c), func(tb testing.TB) targeter { return made(NewClientIP(c))(tb) }}
	}
	app := func(c AppCookieConfig) config {
		return config{fmt.Sprintf("%+v", c), func(tb testing.TB) targeter { return made(NewAppCookie(c))(tb) }}
	}
	cookie := func(c HTTPCookieConfig) config {
		return config{fmt.Sprintf("%+v", c), func(tb testing.TB) targeter { return made(NewHTTPCookie(c))(tb) }}
	}
	keys := []CookieKey{{"a", secret(1)}}
	for _, tt := range []struct {
		old, next   config
		agree, good bool
	}{
		{ip(ClientIPConfig{}), ip(ClientIPConfig{Timeout: time.Hour}), true, true},
		{ip(ClientIPConfig{}), ip(ClientIPConfig{MaxAge: time.Hour}), true, true},
		{ip(ClientIPConfig{}), ip(ClientIPConfig{MaxEntries: 100}), true, true},
		{ip(ClientIPConfig{MaxAge: time.Hour}), ip(ClientIPConfig{MaxAge: time.Hour, MaxPerOwner: 100}), true, true},
		{ip(ClientIPConfig{Mask4: 24}), ip(ClientIPConfig{Mask4: 32}), false, false},
		{ip(ClientIPConfig{Mask6: 48}), ip(ClientIPConfig{Mask6: 64}), false, false},
		{ip(ClientIPConfig{}), app(AppCookieConfig{Name: "SID"}), false, false},
		{app(AppCookieConfig{Name: "SID"}), app(AppCookieConfig{Name: "SID", Timeout: time.Hour, MaxEntries: 9000}), true, true},
		{app(AppCookieConfig{Name: "SID"}), app(AppCookieConfig{Name: "sid"}), false, false},
		{cookie(HTTPCookieConfig{}), cookie(HTTPCookieConfig{HTTPOnly: true, Timeout: time.Hour, Path: "/shop"}), true, true},
		{cookie(HTTPCookieConfig{}), cookie(HTTPCookieConfig{Name: "B"}), false, false},
		{cookie(HTTPCookieConfig{}), cookie(HTTPCookieConfig{Keys: keys}), true, true},
		{cookie(HTTPCookieConfig{Keys: keys}), cookie(HTTPCookieConfig{}), false, false},
		{cookie(HTTPCookieConfig{Keys: keys}), cookie(HTTPCookieConfig{Keys: keys, Secure: true}), true, true},
		{cookie(HTTPCookieConfig{}), ip(ClientIPConfig{}), false, false},
	} {
		t.Run(tt.old.name+" to "+tt.next.name, func(t *testing.T) {
			old, next := targeted(t, tt.old.make(t), "web", "api"), targeted(t, tt.next.make(t), "web", "api")
			b := newBrowser(t)
			_, h := serve(t, old, b.request(), "web", "10.0.0.1:80")
			b.receive(h)
			if got := next.Adopt(old); got != tt.agree {
				t.Errorf("Adopt = %t, want %t", got, tt.agree)
			}
			if got, _, _ := next.Find(b.request(), client1, "web"); got == "10.0.0.1:80" != tt.good {
				t.Errorf("the client is on %q", got)
			}
			if next.Adopt(nil) || next.Adopt("") {
				t.Error("something that is no profile was adopted")
			}
		})
	}

	// One profile replaces two, each of which had its target.
	web, api := targeted(t, made(NewClientIP(ClientIPConfig{}))(t), "web"), targeted(t, made(NewClientIP(ClientIPConfig{}))(t), "api")
	both := targeted(t, made(NewClientIP(ClientIPConfig{}))(t), "web", "api")
	serve(t, web, request("/"), "web", "10.0.0.1:80")
	serve(t, api, request("/"), "api", "10.0.1.1:80")
	both.Adopt(web)
	both.Adopt(api)
	for target, want := range map[string]string{"web": "10.0.0.1:80", "api": "10.0.1.1:80"} {
		if got, _, _ := both.Find(request("/"), client1, target); got != want {
			t.Errorf("%s is on %q", target, got)
		}
	}
	// The old one is still used by requests in flight.
	serve(t, web, request("/?late"), "web", "10.0.0.1:80")
	if n, _ := both.Count(t.Context(), "web"); n != 1 {
		t.Errorf("%d clients", n)
	}
}

// recorder is the context of a request that wants to know where its binding was
// found.
type recorder struct {
	context.Context
	source Source
}

func (r *recorder) Value(key any) any {
	if key == (bindingsource.Key{}) {
		return r
	}
	return r.Context.Value(key)
}

func (r *recorder) NoteSource(s string) { r.source = Source(s) }

func TestSources(t *testing.T) {
	header := made(NewCustomHeader(CustomHeaderConfig{Name: "X", Servers: map[string]string{"a": "10.0.0.1:80"}}))(t)
	profiles := map[profile]Source{
		made(NewClientIP(ClientIPConfig{}))(t):               FromMemory,
		made(NewAppCookie(AppCookieConfig{Name: "SID"}))(t):  FromMemory,
		made(NewHTTPCookie(HTTPCookieConfig{Name: "S1"}))(t): FromCookie,
		header: FromMap,
	}
	for p, want := range profiles {
		if got := p.(interface{ Source() Source }).Source(); got != want {
			t.Errorf("%T: bindings are in %q, want %q", p, got, want)
		}
	}
	inStore := made(NewClientIP(ClientIPConfig{Sessions: NewStore(Options{})}))(t)
	elsewhere := made(NewClientIP(ClientIPConfig{Sessions: noting{NewStore(Options{})}}))(t)
	if a, b := inStore.Source(), elsewhere.Source(); a != FromMemory || b != "" {
		t.Errorf("in a Store %q, in other Sessions %q", a, b)
	}
	entry := &recorder{Context: t.Context()}
	r := request("/").WithContext(entry)
	serve(t, elsewhere, r, "web", "10.0.0.1:80")
	serve(t, elsewhere, r, "web", "10.0.0.1:80")
	if entry.source != FromNear {
		t.Errorf("found in %q", entry.source)
	}
}

// noting Sessions say that all is in a near cache.
type noting struct{ *Store }

func (s noting) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	NoteSource(ctx, FromNear)
	return s.Store.Lookup(ctx, table, key, extend)
}

// TestParallelClaims has many first requests of one client at the same time,
// while the targets are set again and another profile takes over. All must
// agree on one server, also on the one that replaces another.
func TestParallelClaims(t *testing.T) {
	for _, tt := range everyProfile {
		for _, maxAge := range []time.Duration{0, 2 * time.Hour} {
			t.Run(fmt.Sprintf("%s, MaxAge %v", tt.name, maxAge), func(t *testing.T) {
				p := targeted(t, tt.make(t, time.Hour, maxAge, NewStore(Options{})), "web", "api")
				c, ok := p.(claimer)
				if !ok {
					return
				}
				for round := range 20 {
					r, instead := request("/", "Cookie", fmt.Sprintf("SID=%d", round)), ""
					client := netip.AddrFrom4([4]byte{192, 0, 2, byte(round)})
					for range 3 {
						bound := make([]string, 16)
						var group sync.WaitGroup
						for i := range bound {
							group.Go(func() {
								bound[i], _ = c.Claim(r, client, "web", fmt.Sprintf("10.0.0.%d:80%s", i, instead), instead)
								c.Bind(http.Header{}, r, client, "web", bound[i])
								c.Keep(r, client, "web")
							})
						}
						group.Go(func() {
							targeted(t, p, "web", "api")
							targeted(t, tt.make(t, time.Hour, maxAge, NewStore(Options{})), "web", "api").Adopt(p)
						})
						group.Wait()
						found, _, _ := c.Find(r, client, "web")
						for _, server := range bound {
							if server != found {
								t.Fatalf("a request went to %s, the client is bound to %s", server, found)
							}
						}
						instead = found
					}
				}
			})
		}
	}
}
