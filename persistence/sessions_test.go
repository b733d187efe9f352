package persistence

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestSessionsInStore has profiles keep their clients in a store, which a restart or another instance brings back.
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

// brokenSessions cannot be asked.
type brokenSessions struct{ Sessions }

var errBroken = errors.New("broken")

func (brokenSessions) Lookup(context.Context, string, string, time.Duration) (string, time.Duration, bool, error) {
	return "10.0.0.9:80", time.Hour, true, errBroken
}

func (brokenSessions) Put(context.Context, string, string, string, time.Duration) (bool, error) {
	return false, errBroken
}

func (brokenSessions) Claim(context.Context, string, string, string, string, time.Duration) (string, time.Duration, error) {
	return "", 0, errBroken
}

func TestBrokenSessions(t *testing.T) {
	p := made(NewClientIP(ClientIPConfig{Sessions: brokenSessions{}}))(t)
	r := request("/")
	finds(t, p, r, client1, "")
	p.Bind(nil, r, client1, "", "10.0.0.1:80")
	finds(t, p, r, client1, "")
}
