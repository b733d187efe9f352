package datascripttest

import (
	"testing"

	"github.com/limpetlb/limpet/datascript"
)

func TestTokens(t *testing.T) {
	tokens := Tokens{
		{Set: "login", Token: "one", Claims: `{"iss":"i","aud":"a"}`},
		{Set: "login", Token: "many", Claims: `{"aud":["a","b"]}`},
		{Set: "login", Token: "odd", Claims: `{"aud":7}`},
		{Set: "login", Token: "bad", Claims: `{`},
		{Set: "login", Token: "old", Reason: "expired"},
		{Set: "other", Token: "two", Claims: `{}`},
	}
	for _, c := range []struct{ token, set, issuer, audience, reason, fault string }{
		{"one", "login", "", "", "", ""},
		{"one", "login", "i", "a", "", ""},
		{"one", "login", "j", "a", "issuer", ""},
		{"one", "login", "i", "b", "audience", ""},
		{"many", "login", "", "b", "", ""},
		{"many", "login", "i", "", "issuer", ""},
		{"odd", "login", "", "7", "audience", ""},
		{"bad", "login", "", "", "malformed", ""},
		{"old", "login", "", "", "expired", ""},
		{"two", "login", "", "", "signature", ""},
		{"two", "third", "", "", "", `key set "third" not found`},
	} {
		claims, reason, _, err := tokens.VerifyToken(datascript.TokenCheck{Token: c.token, KeySet: c.set, Issuer: c.issuer, Audience: c.audience})
		fault := ""
		if err != nil {
			fault = err.Error()
		}
		if reason != c.reason || fault != c.fault || (claims == "") != (reason != "" || err != nil) {
			t.Errorf("%+v: %q, %q, %v", c, claims, reason, err)
		}
	}
}
