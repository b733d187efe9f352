package persistence_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"time"

	"github.com/limpetlb/limpet/persistence"
)

// Clients of one IPv6 network share a server, others are identified by their
// whole address.
func ExampleClientIP() {
	profile, err := persistence.NewClientIP(persistence.ClientIPConfig{
		Mask6:   64,
		Timeout: 10 * time.Minute,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	profile.Bind(http.Header{}, request, netip.MustParseAddr("2001:db8::1"), "web", "10.0.0.1:80")
	fmt.Println(profile.Find(request, netip.MustParseAddr("2001:db8::2"), "web"))
	fmt.Println(profile.Count(context.Background(), "web", "10.0.0.1:80"))
	// Output:
	// 10.0.0.1:80 10m0s <nil>
	// 1 <nil>
}

// The client keeps its server in a cookie that it cannot read.
func ExampleHTTPCookie() {
	secret := make([]byte, 32) // from where the program keeps its secrets, the same on all instances
	rand.Read(secret)
	profile, err := persistence.NewHTTPCookie(persistence.HTTPCookieConfig{
		Name:     "STICKY",
		Keys:     []persistence.CookieKey{{ID: "2026-11", Secret: secret}},
		Timeout:  8 * time.Hour,
		HTTPOnly: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := profile.Targets("web", []string{"web"}, nil); err != nil { // as a virtual service does
		fmt.Println(err)
		return
	}
	client := netip.MustParseAddr("192.0.2.1")
	first := httptest.NewRequest(http.MethodGet, "/", nil)
	response := http.Header{}
	profile.Bind(response, first, client, "web", "10.0.0.1:80")
	cookie, _ := http.ParseSetCookie(response.Get("Set-Cookie"))
	fmt.Println(cookie.Name, strings.HasPrefix(cookie.Value, "1.2026-11."))

	second := httptest.NewRequest(http.MethodGet, "/", nil)
	second.AddCookie(cookie)
	server, remaining, err := profile.Find(second, client, "web")
	fmt.Println(server, remaining > 7*time.Hour, err)
	// Output:
	// STICKY true
	// 10.0.0.1:80 true <nil>
}

// The application's own session cookie decides, and its name in the query does
// as well.
func ExampleAppCookie() {
	profile, err := persistence.NewAppCookie(persistence.AppCookieConfig{Name: "JSESSIONID"})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := netip.MustParseAddr("192.0.2.1")
	login := httptest.NewRequest(http.MethodPost, "/login", nil)
	response := http.Header{"Set-Cookie": {"JSESSIONID=1234; Path=/"}}
	profile.Bind(response, login, client, "web", "10.0.0.1:80")

	cart := httptest.NewRequest(http.MethodGet, "/cart?JSESSIONID=1234", nil)
	fmt.Println(profile.Find(cart, client, "web"))
	// Output: 10.0.0.1:80 20m0s <nil>
}

// Clients name their server in a header.
func ExampleCustomHeader() {
	profile, err := persistence.NewCustomHeader(persistence.CustomHeaderConfig{
		Name:    "X-Shard",
		Servers: map[string]string{"eu": "10.0.0.1:80", "us": "10.0.1.1:80"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set("X-Shard", "us")
	server, _, err := profile.Find(request, netip.MustParseAddr("192.0.2.1"), "web")
	fmt.Println(server, err)
	// Output: 10.0.1.1:80 <nil>
}
