package tokencheck_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/tokencheck"
)

// Whichever way a check is printed, its token is not.
func TestTokenNotPrinted(t *testing.T) {
	c := tokencheck.Check{Token: "canary", KeySet: "login", Algorithms: []string{"RS256"}, Issuer: "idp", Audience: "shop", Leeway: time.Second}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{c, &c, []tokencheck.Check{c}} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "canary") || strings.Contains(text, fmt.Sprintf("%x", "canary")) {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
	const want = `{KeySet:"login" Algorithms:["RS256"] Issuer:"idp" Audience:"shop" Leeway:1s}`
	if got := fmt.Sprint(c); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
