package acceptance_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
)

// sessions is an authenticator that knows more than names.
type sessions map[string]limpet.Session

func (sessions) Challenge() string { return "Session" }

func (s sessions) Authenticate(r *http.Request) (limpet.Session, error) {
	session, ok := s[r.Header.Get("X-Session")]
	if !ok {
		return limpet.Session{User: "ignored"}, errors.New("no such session")
	}
	return session, nil
}

// Published scripts for SAML and OAuth answered 500 to everybody: what they
// read could be had from nowhere, and their branch for clients without a
// session never ran.
func TestSession(t *testing.T) {
	listing := `-- HTTP_AUTH
avi.vs.log(avi.http.saml_session_decrypt(), avi.http.oauth_get_claim(0, "groups"))
-- HTTP_REQ
local attributes = avi.http.saml_session_decrypt()
avi.vs.log(avi.http.get_userid(), " ", attributes or "no session")
-- HTTP_RESP
local groups = avi.http.oauth_get_claim(1, "groups")
avi.vs.log(groups and table.concat(groups, "+"))
avi.vs.log(avi.http.oauth_get_claim(0, "groups"), avi.http.oauth_get_claim(2, "groups"), avi.http.oauth_get_claim(-1, "groups"), avi.http.oauth_get_claim(1, "none"))
`
	all := sessions{
		"full":  {User: "ann", Attributes: "uid=7; role=admin", Claims: []map[string][]string{nil, {"groups": {"staff", "admins"}}}},
		"empty": {},
	}
	for _, tt := range []struct {
		name   string
		auth   limpet.Authenticator
		status int
		log    []string
	}{
		{"full", all, 200, []string{"nilnil", "ann uid=7; role=admin", "staff+admins", "nilnilnilnil"}},
		{"empty", all, 200, []string{"nilnil", "nil no session", "nil", "nilnilnilnil"}},
		{"unknown", all, 401, []string{"nilnil"}},
		{"no authenticator", nil, 200, []string{"nil no session", "nil", "nilnilnilnil"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("X-Session", tt.name)
			res, _, record := serveOne(t, listing, echo, func(c *limpet.Config) { c.Authenticator = tt.auth }, r)
			if diff := cmp.Diff(tt.log, texts(record.Log)); diff != "" || res.StatusCode != tt.status {
				t.Errorf("status %d, want %d; log (-want +got):\n%s", res.StatusCode, tt.status, diff)
			}
		})
	}
}
