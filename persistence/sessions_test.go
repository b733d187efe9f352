package persistence

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSessionsInStore has profiles keep their clients in a store, which a
// restart or another instance brings back.
func TestSessionsInStore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		profile func(s Sessions) profile
	}{
		{"client IP", func(s Sessions) profile {
			return made(NewClientIP(ClientIPConfig{Mask4: 24, Timeout: 10 * time.Minute, Sessions: s, Table: "sticky"}))(t)
		}},
		{"app cookie", func(s Sessions) profile {
			return made(NewAppCookie(AppCookieConfig{Name: "SID", Timeout: 10 * time.Minute, Sessions: s, Table: "sticky"}))(t)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tables")
			synctest.Test(t, func(t *testing.T) {
				store := NewStore(Options{})
				p := tt.profile(store)
				r, other := request("/", "Cookie", "SID=abc"), request("/", "Cookie", "SID=other")
				network := netip.MustParseAddr("192.0.3.1")
				finds(t, p, r, client1, "")
				p.Bind(http.Header{}, r, client1, "", "10.0.0.1:80")
				finds(t, p, r, client1, "10.0.0.1:80")
				finds(t, p, other, network, "")

				// Less than a tenth of the timeout is no reason to write.
				advance(time.Minute - 1)
				finds(t, p, r, client1, "10.0.0.1:80")
				if left := leftOf(t, store); left != 9*time.Minute+1 {
					t.Errorf("%v is left", left)
				}
				advance(2)
				finds(t, p, r, client1, "10.0.0.1:80")
				if left := leftOf(t, store); left != 10*time.Minute {
					t.Errorf("%v is left after a use", left)
				}
				if err := store.SaveFile(path); err != nil {
					t.Fatal(err)
				}
				restarted := NewStore(Options{})
				if err := restarted.LoadFile(path); err != nil {
					t.Fatal(err)
				}
				finds(t, tt.profile(restarted), r, client1, "10.0.0.1:80")
				finds(t, tt.profile(store), r, client1, "10.0.0.1:80") // another instance

				p.(claimer).Claim(r, client1, "", "10.0.0.2:80", "10.0.0.1:80")
				finds(t, p, r, client1, "10.0.0.2:80")
				advance(10 * time.Minute)
				finds(t, p, r, client1, "")
			})
		})
	}

	store := NewStore(Options{})
	p := made(NewAppCookie(AppCookieConfig{Name: "SID", Sessions: store}))(t)
	r := request("/", "Cookie", "SID=abc")
	p.Bind(http.Header{}, r, client1, "", "10.0.0.1:80")
	p.Bind(http.Header{"Set-Cookie": {"SID=; Max-Age=0"}}, r, client1, "", "10.0.0.1:80")
	finds(t, p, r, client1, "")
}

// A claimer is a profile whose requests carry the key.
type claimer interface {
	profile
	Claim(r *http.Request, client netip.Addr, target, server, instead string) (bound string, err error)
	Keep(r *http.Request, client netip.Addr, target string) error
	Count(ctx context.Context, target string, servers ...string) (n int, err error)
}

var (
	_ claimer = (*ClientIP)(nil)
	_ claimer = (*AppCookie)(nil)
)

func leftOf(t *testing.T, s *Store) time.Duration {
	t.Helper()
	for _, e := range s.All("profile/sticky/") {
		return e.Remaining
	}
	t.Fatal("no entry")
	return 0
}

// TestSessionsTables has the names of the tables, which other profiles and
// other targets must not share.
func TestSessionsTables(t *testing.T) {
	store := NewStore(Options{})
	for _, table := range []string{"a", "a/b", "a%2Fb", "", "app S", "app T"} {
		p := claimer(made(NewClientIP(ClientIPConfig{Sessions: store, Table: table}))(t))
		if name, ok := strings.CutPrefix(table, "app "); ok {
			p = made(NewAppCookie(AppCookieConfig{Name: name, Sessions: store}))(t)
		}
		for _, target := range []string{"web", "b/web"} {
			if got, err := p.Claim(request("/", "Cookie", "S=192.0.2.1; T=192.0.2.1"), client1, target, table+" "+target, ""); got != table+" "+target || err != nil {
				t.Errorf("Claim = %q, %v", got, err)
			}
		}
	}
	want := []string{"", "profile/a%252Fb/b/web", "profile/a%252Fb/web", "profile/a%2Fb/b/web",
		"profile/a%2Fb/web", "profile/a/b/web", "profile/a/web", "profile/appcookie%2FS/b/web", "profile/appcookie%2FS/web", "profile/appcookie%2FT/b/web",
		"profile/appcookie%2FT/web", "profile/clientip/b/web", "profile/clientip/web"}
	if diff := cmp.Diff(want, store.names()); diff != "" {
		t.Error(diff)
	}
}

// TestSessionsWithoutTable: a profile without a Table took what scripts keep in
// the default table for its clients.
func TestSessionsWithoutTable(t *testing.T) {
	store := NewStore(Options{})
	for _, key := range []string{client1.String(), "abc"} {
		store.Put(t.Context(), "", key, "of a script", time.Hour)
	}
	finds(t, made(NewClientIP(ClientIPConfig{Sessions: store}))(t), request("/"), client1, "")
	finds(t, made(NewAppCookie(AppCookieConfig{Name: "S", Sessions: store}))(t), request("/", "Cookie", "S=abc"), client1, "")
}

// TestSessionsOfEarlierVersions: an update of the program found none of its
// clients, as the tables have other names.
func TestSessionsOfEarlierVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := NewStore(Options{}), t.Context()
		bind := func(key, server string) { store.Put(ctx, "sticky", key, server, 10*time.Minute) }
		bind("192.0.2.1", "10.0.0.1:80")
		bind("192.0.2.2", "10.0.1.1:80")
		p := made(NewClientIP(ClientIPConfig{Timeout: 10 * time.Minute, Sessions: store, Table: "sticky"}))(t)
		has := func(target, server string) bool { return strings.HasPrefix(server, "10.0.0.") == (target == "web") }
		if err := p.Targets("web", []string{"web", "api"}, has); err != nil {
			t.Fatal(err)
		}
		advance(5 * time.Minute)
		for _, tt := range []struct {
			client    netip.Addr
			target    string
			want      string
			remaining time.Duration
		}{
			{client1, "web", "10.0.0.1:80", 5 * time.Minute},
			{client1, "api", "", 0}, // which does not have that server
			{client1, "web", "10.0.0.1:80", 10 * time.Minute},
			{client2, "web", "", 0},
			{client2, "api", "10.0.1.1:80", 5 * time.Minute},
		} {
			if got, left, err := p.Find(request("/"), tt.client, tt.target); got != tt.want || left != tt.remaining || err != nil {
				t.Errorf("%v in %s: Find = %q, %v, %v", tt.client, tt.target, got, left, err)
			}
		}
		// The timeout of the profile is over: the old table is not asked any
		// more.
		advance(5*time.Minute + 1)
		bind("192.0.2.3", "10.0.0.1:80")
		if got, _, _ := p.Find(request("/"), netip.MustParseAddr("192.0.2.3"), "web"); got != "" {
			t.Errorf("the old table is asked for ever: %q", got)
		}
	})
}

// TestRefusedSessions: in a store that has no room for a client it did not
// stick, without a word.
func TestRefusedSessions(t *testing.T) {
	for _, maxAge := range []time.Duration{0, time.Hour} {
		store := NewStore(Options{MaxEntries: 1, WhenFull: RefuseNew})
		ip := made(NewClientIP(ClientIPConfig{Sessions: store, MaxAge: maxAge}))(t)
		ip.Claim(request("/"), client2, "web", "10.0.0.1:80", "")
		if got, err := ip.Claim(request("/"), client1, "web", "10.0.0.1:80", ""); got != "10.0.0.1:80" || !errors.Is(err, ErrRefused) {
			t.Errorf("Claim = %q, %v", got, err)
		}
		app := made(NewAppCookie(AppCookieConfig{Name: "SID", Sessions: store, MaxAge: maxAge}))(t)
		app.Bind(http.Header{"Set-Cookie": {"SID=first"}}, request("/"), client1, "web", "10.0.0.1:80")
		if err := app.Bind(http.Header{"Set-Cookie": {"SID=a"}}, request("/"), client1, "web", "10.0.0.1:80"); !errors.Is(err, ErrRefused) {
			t.Errorf("Bind: %v", err)
		}
	}
}

// brokenSessions fail in the methods that are named, or in all.
type brokenSessions struct {
	*Store
	only string
}

var errBroken = errors.New("broken")

func (b brokenSessions) fails(method string) error {
	if b.only == "" || b.only == method {
		return errBroken
	}
	return nil
}

func (b brokenSessions) Lookup(ctx context.Context, table, key string, extend time.Duration) (string, time.Duration, bool, error) {
	if err := b.fails("Lookup"); err != nil {
		return "10.0.0.9:80", time.Hour, true, err
	}
	return b.Store.Lookup(ctx, table, key, extend)
}

func (b brokenSessions) Claim(ctx context.Context, table, key, value, instead string, lifetime time.Duration) (string, time.Duration, error) {
	if err := b.fails("Claim"); err != nil {
		return "", 0, err
	}
	return b.Store.Claim(ctx, table, key, value, instead, lifetime)
}

func (b brokenSessions) Put(ctx context.Context, table, key, value string, lifetime time.Duration) (bool, error) {
	if err := b.fails("Put"); err != nil {
		return false, err
	}
	return b.Store.Put(ctx, table, key, value, lifetime)
}

func (b brokenSessions) PutIdle(ctx context.Context, table, key, value string, idle, atMost time.Duration) (bool, error) {
	if err := b.fails("PutIdle"); err != nil {
		return false, err
	}
	return b.Store.PutIdle(ctx, table, key, value, idle, atMost)
}

func (b brokenSessions) Touch(ctx context.Context, table, key string, lifetime time.Duration) (bool, error) {
	if err := b.fails("Touch"); err != nil {
		return false, err
	}
	return b.Store.Touch(ctx, table, key, lifetime)
}

func (b brokenSessions) Remove(ctx context.Context, table, key string) error {
	if err := b.fails("Remove"); err != nil {
		return err
	}
	return b.Store.Remove(ctx, table, key)
}

func (b brokenSessions) CountByValue(context.Context, string) (map[string]int, error) {
	return nil, b.fails("CountByValue")
}

// TestBrokenSessions: what the store says goes to the caller, who goes on
// without it.
func TestBrokenSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := request("/", "Cookie", "SID=abc")
		deletes, sets := http.Header{"Set-Cookie": {"SID="}}, http.Header{"Set-Cookie": {"SID=new"}}
		for _, tt := range []struct {
			only string
			find string          // what Find returns of what was bound before
			errs map[string]bool // which calls return the error
		}{
			{"", "", map[string]bool{"Find": true, "Claim": true, "Bind": true, "Keep": true, "Count": true, "sets": true, "deletes": true}},
			{"Lookup", "", map[string]bool{"Find": true, "Bind": true}},
			{"Claim", "10.0.0.1:80", map[string]bool{"Claim": true}},
			{"PutIdle", "10.0.0.1:80", map[string]bool{"Claim": true, "sets": true}},
			{"Put", "10.0.0.1:80", map[string]bool{}},
			{"Touch", "10.0.0.1:80", map[string]bool{"Find": true, "Bind": true, "Keep": true}},
			{"Remove", "10.0.0.1:80", map[string]bool{"deletes": true}},
			{"CountByValue", "10.0.0.1:80", map[string]bool{"Count": true}},
		} {
			for _, make := range []func(s Sessions) claimer{
				func(s Sessions) claimer {
					return made(NewClientIP(ClientIPConfig{Sessions: s, Timeout: time.Hour, MaxAge: time.Hour}))(t)
				},
				func(s Sessions) claimer {
					return made(NewAppCookie(AppCookieConfig{Name: "SID", Sessions: s, Timeout: time.Hour, MaxAge: time.Hour}))(t)
				},
			} {
				store := NewStore(Options{})
				if _, err := make(store).Claim(r, client1, "web", "10.0.0.1:80", ""); err != nil {
					t.Fatal(err)
				}
				advance(30 * time.Minute) // a tenth of the timeout is over
				p := make(brokenSessions{store, tt.only})
				check := func(call string, err error) {
					t.Helper()
					if _, isApp := p.(*AppCookie); !isApp && (call == "sets" || call == "deletes") {
						return
					}
					_, isIP := p.(*ClientIP)
					want := tt.errs[call] || !isIP && call == "Keep" && tt.only == "Lookup"
					if errors.Is(err, errBroken) != want || !want && err != nil {
						t.Errorf("%T, %q broken: %s returns %v", p, tt.only, call, err)
					}
				}
				server, _, err := p.Find(r, client1, "web")
				check("Find", err)
				if server != tt.find {
					t.Errorf("%T, %q broken: Find = %q", p, tt.only, server)
				}
				check("Bind", p.Bind(http.Header{}, r, client1, "web", "10.0.0.1:80"))
				check("Keep", p.Keep(r, client1, "web"))
				_, err = p.Count(t.Context(), "web", "10.0.0.1:80")
				check("Count", err)
				check("sets", p.Bind(sets, r, client1, "web", "10.0.0.1:80"))
				check("deletes", p.Bind(deletes, r, client1, "web", "10.0.0.1:80"))
				server, err = p.Claim(r, client1, "web", "10.0.0.2:80", "10.0.0.1:80")
				check("Claim", err)
				if server != "10.0.0.2:80" {
					t.Errorf("%T, %q broken: Claim = %q", p, tt.only, server)
				}
			}
		}
	})
}
