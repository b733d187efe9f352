package persistence

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// inMemory makes profiles with bounds; 0 is the default.
var inMemory = []struct {
	name string
	make func(tb testing.TB, timeout, maxAge time.Duration, maxEntries int) targeter
}{
	{"ClientIP", func(tb testing.TB, timeout, maxAge time.Duration, maxEntries int) targeter {
		return made(NewClientIP(ClientIPConfig{Timeout: timeout, MaxAge: maxAge, MaxEntries: maxEntries}))(tb)
	}},
	{"AppCookie", func(tb testing.TB, timeout, maxAge time.Duration, maxEntries int) targeter {
		return made(NewAppCookie(AppCookieConfig{Name: "SID", Timeout: timeout, MaxAge: maxAge, MaxEntries: maxEntries}))(tb)
	}},
}

// TestAdoptLifetimes: with MaxAge, an update that changed MaxEntries made the
// rest of the timeout the timeout of each client for good. And neither its
// timeout nor its age may begin anew by updates.
func TestAdoptLifetimes(t *testing.T) {
	type bound struct {
		timeout, maxAge time.Duration
		maxEntries      int
	}
	for _, tt := range []struct {
		name      string
		old, next bound
		used      []time.Duration // when the client returns, after the update at 55 s
		lost      time.Duration   // when it is first lost if it comes every 20 s, 0 for never
	}{
		{"another MaxEntries", bound{time.Minute, time.Hour, 0}, bound{time.Minute, time.Hour, 1000}, []time.Duration{0, 50, 50, 50}, time.Hour},
		{"another Timeout", bound{time.Minute, time.Hour, 0}, bound{5 * time.Minute, time.Hour, 0}, []time.Duration{0, 290, 290}, time.Hour},
		{"a longer MaxAge", bound{time.Minute, time.Hour, 0}, bound{time.Minute, 2 * time.Hour, 0}, nil, 2 * time.Hour},
		{"a shorter MaxAge", bound{time.Minute, time.Hour, 0}, bound{time.Minute, 30 * time.Minute, 0}, nil, 30 * time.Minute},
		{"a much shorter MaxAge", bound{time.Minute, 30 * day, 0}, bound{time.Minute, time.Hour, 0}, nil, time.Hour},
		{"MaxAge turned off", bound{time.Minute, time.Hour, 0}, bound{time.Minute, 0, 0}, []time.Duration{0, 50, 50}, 0},
		{"no MaxAge", bound{time.Minute, 0, 0}, bound{time.Minute, 0, 1000}, []time.Duration{0, 50, 50}, 0},
	} {
		for _, kind := range inMemory {
			t.Run(tt.name+", "+kind.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					make := func(b bound) targeter { return targeted(t, kind.make(t, b.timeout, b.maxAge, b.maxEntries), "web") }
					begun, r := time.Now(), newBrowser(t).request()
					old, next := make(tt.old), make(tt.next)
					serve(t, old, r, "web", "10.0.0.1:80")
					advance(55 * time.Second)
					if !next.Adopt(old, "web") {
						t.Fatal("not adopted")
					}
					for i, after := range tt.used {
						advance(after * time.Second)
						if got, _, _ := next.Find(r, client1, "web"); got != "10.0.0.1:80" {
							t.Fatalf("lost at visit %d", i)
						}
					}
					for time.Since(begun) < 3*time.Hour {
						if got, _, _ := next.Find(r, client1, "web"); got == "" {
							if since := time.Since(begun); tt.lost == 0 || since < tt.lost || since > tt.lost+20*time.Second {
								t.Errorf("lost after %v, want %v", since, tt.lost)
							}
							return
						}
						advance(20 * time.Second)
					}
					if tt.lost != 0 {
						t.Error("never lost")
					}
				})
			})
		}
	}
	// Without MaxAge what is left stays.
	synctest.Test(t, func(t *testing.T) {
		old, next := made(NewClientIP(ClientIPConfig{}))(t), made(NewClientIP(ClientIPConfig{MaxEntries: 1000}))(t)
		serve(t, old, request("/"), "web", "10.0.0.1:80")
		advance(4 * time.Minute)
		next.Adopt(old)
		advance(time.Minute)
		if got, _, _ := next.Find(request("/"), client1, "web"); got != "" {
			t.Error("an update has extended the timeout")
		}
	})
}

// TestAdoptUnderWay: a login, or a stream, was under way while an update
// changed MaxEntries, and the session that it began was lost, as was each
// re-pick.
func TestAdoptUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, maxAge := range []time.Duration{0, time.Hour} {
			app := func(maxEntries int) *AppCookie {
				return made(NewAppCookie(AppCookieConfig{Name: "S", Timeout: time.Minute, MaxAge: maxAge, MaxEntries: maxEntries}))(t)
			}
			first, second, third := app(0), app(1000), app(0)
			second.Adopt(first, "web") // which has not been used
			third.Adopt(second, "web")
			moves, streams := request("/", "Cookie", "S=moves"), request("/", "Cookie", "S=streams")
			for _, r := range []*http.Request{moves, streams} {
				if _, err := second.Claim(r, client1, "web", "10.0.0.1:80", ""); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range []*AppCookie{first, second} { // the requests began with these
				p.Bind(http.Header{"Set-Cookie": {"S=fresh"}}, request("/"), client1, "web", "10.0.0.2:80")
				p.Claim(moves, client1, "web", "10.0.0.2:80", "10.0.0.1:80")
			}
			for range 4 {
				advance(40 * time.Second)
				first.Keep(streams, client1, "web")
				for session, want := range map[string]string{"fresh": "10.0.0.2:80", "moves": "10.0.0.2:80"} {
					if got, _, _ := third.Find(request("/", "Cookie", "S="+session), client1, "web"); got != want {
						t.Errorf("%s is on %q", session, got)
					}
				}
			}
			if got, _, _ := third.Find(streams, client1, "web"); got != "10.0.0.1:80" {
				t.Errorf("the client with the stream is on %q", got)
			}
			if n, _ := third.Count(t.Context(), "web"); n != 3 {
				t.Errorf("%d sessions", n)
			}
		}
	})
}

// TestAdoptMeetsRequests has clients come, be re-picked and be counted while
// updates change MaxEntries to and fro: none may be lost, nor be on the way
// between two tables when a drain counts.
func TestAdoptMeetsRequests(t *testing.T) {
	for _, maxAge := range []time.Duration{0, time.Hour} {
		t.Run(fmt.Sprint(maxAge), func(t *testing.T) {
			const clients = 2000
			address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}) }
			make := func(maxEntries int) *ClientIP {
				return made(NewClientIP(ClientIPConfig{MaxAge: maxAge, MaxEntries: maxEntries}))(t)
			}
			p := make(0)
			for n := range clients {
				p.Claim(request("/"), address(n), "web", "0", "")
			}
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			for worker := range 2 {
				group.Go(func() { // has every other client
					was, r := map[int]string{}, request("/")
					for round := 0; ctx.Err() == nil; round++ {
						for n := worker; n < clients; n += 2 {
							got, _, _ := p.Find(r, address(n), "web")
							if was[n] != "" && got != was[n] || got == "" {
								t.Errorf("round %d: client %d was on %q and is on %q", round, n, was[n], got)
								return
							}
							was[n] = got
							if (n/2+round)%3 == 0 {
								var err error
								if was[n], err = p.Claim(r, address(n), "web", fmt.Sprint(round+1), got); err != nil {
									t.Error(err)
								}
							}
						}
					}
				})
			}
			before := p
			for n := range 20 {
				next := make(20_000 + 1000*(n%2))
				next.Adopt(before, "web")
				before = next
				if n, _ := next.Count(t.Context(), "web"); n < clients {
					t.Errorf("%d clients are counted", n)
				}
			}
			cancel()
			group.Wait()
		})
	}
}

// TestAdoptTargets: a pool that had got a profile of its own and gave it up
// again lost its clients in half of the updates, as the profile of the others
// came first with what it had kept of that pool.
func TestAdoptTargets(t *testing.T) {
	for _, kind := range inMemory {
		all, own, next := kind.make(t, 0, 0, 0), kind.make(t, 0, 0, 5000), kind.make(t, 0, 0, 0)
		r := newBrowser(t).request()
		serve(t, all, r, "a", "10.0.0.1:80")
		serve(t, all, r, "b", "10.0.1.1:80")
		serve(t, own, r, "b", "10.0.1.2:80")
		if !next.Adopt(all, "a") || !next.Adopt(own, "b") {
			t.Error("not adopted")
		}
		for target, want := range map[string]string{"a": "10.0.0.1:80", "b": "10.0.1.2:80"} {
			if got, _, _ := next.Find(r, client1, target); got != want {
				t.Errorf("%s: the client is on %q in %s", kind.name, got, target)
			}
		}
	}
}

// TestTargetsOfTwoServices: when a service set its targets anew, first requests
// of another one with the same profile were remembered in tables that had just
// been given up, and its own knowledge of servers replaced that of the other.
func TestTargetsOfTwoServices(t *testing.T) {
	p := made(NewClientIP(ClientIPConfig{}))(t)
	targeted(t, p, "web")
	table := p.clients.target("web").current.Load().table
	targeted(t, p, "api")
	if p.clients.target("web").current.Load().table != table {
		t.Error("the table of another service was given up")
	}

	store := NewStore(Options{})
	store.Put(t.Context(), "t", client1.String(), "10.0.0.1:80", time.Hour)
	p = made(NewClientIP(ClientIPConfig{Sessions: store, Table: "t"}))(t)
	has := func(target, _ string) bool { return target == "web" }
	p.Targets("web", []string{"web"}, has)
	p.Targets("api", []string{"api"}, func(string, string) bool { return false })
	for target, want := range map[string]string{"web": "10.0.0.1:80", "api": ""} {
		if got, _, _ := p.Find(request("/"), client1, target); got != want {
			t.Errorf("%s: the entry of an earlier version is %q", target, got)
		}
	}
}

// TestAdoptOfCookieInUse: a service began to use the cookie profile of another
// one, which took over the key of what the first had before, and lost all its
// clients.
func TestAdoptOfCookieInUse(t *testing.T) {
	keys := []CookieKey{{"a", secret(1)}}
	seal := func(p *HTTPCookie) *http.Request {
		h := http.Header{}
		p.Bind(h, request("/"), client1, "", "10.0.0.1:80")
		return request("/", "Cookie", h.Get("Set-Cookie"))
	}
	for _, tt := range []struct {
		name      string
		now, old  HTTPCookieConfig
		use, want bool // want also says whether the cookies of old are good
	}{
		{"made anew", HTTPCookieConfig{}, HTTPCookieConfig{}, false, true},
		{"in use", HTTPCookieConfig{}, HTTPCookieConfig{}, true, false},
		{"keys, made anew", HTTPCookieConfig{Keys: keys}, HTTPCookieConfig{}, false, true},
		{"keys, in use", HTTPCookieConfig{Keys: keys}, HTTPCookieConfig{}, true, false},
		{"the same keys, in use", HTTPCookieConfig{Keys: keys}, HTTPCookieConfig{Keys: keys}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, old := made(NewHTTPCookie(tt.now))(t), made(NewHTTPCookie(tt.old))(t)
			ofOld := seal(old)
			ofNow := ofOld
			if tt.use {
				ofNow = seal(now)
			}
			if got := now.Adopt(old, "web"); got != tt.want {
				t.Errorf("Adopt = %t", got)
			}
			if tt.use || tt.want {
				finds(t, now, ofNow, client1, "10.0.0.1:80")
			}
			if got, _, _ := now.Find(ofOld, client1, ""); got != "" != tt.want {
				t.Errorf("the cookie of the old one names %q", got)
			}
			if got := now.Adopt(old, "api"); got != tt.want { // for another target
				t.Errorf("Adopt once more = %t", got)
			}
		})
	}
	for range 100 { // whichever comes first
		now, old := made(NewHTTPCookie(HTTPCookieConfig{}))(t), made(NewHTTPCookie(HTTPCookieConfig{}))(t)
		ofOld := seal(old)
		var ofNow *http.Request
		var adopted bool
		var group sync.WaitGroup
		group.Go(func() { ofNow = seal(now) })
		group.Go(func() { adopted = now.Adopt(old) })
		group.Wait()
		finds(t, now, ofNow, client1, "10.0.0.1:80")
		if got, _, _ := now.Find(ofOld, client1, ""); got != "" != adopted {
			t.Errorf("Adopt = %t, and the old cookie names %q", adopted, got)
		}
	}
	if got := made(NewHTTPCookie(HTTPCookieConfig{Name: "S"}))(t).Name() + made(NewHTTPCookie(HTTPCookieConfig{}))(t).Name(); got != "S"+DefaultCookieName {
		t.Errorf("the names are %s", got)
	}
}
