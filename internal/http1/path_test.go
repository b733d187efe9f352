package http1

import (
	"net/url"
	"testing"
)

// A path is shown as it is sent, each byte of it.
func TestPath(t *testing.T) {
	for _, raw := range []string{"/", "/a", "/a%2Fb", "/a%2Fb|c%2Bd", "/a%2fb^c%3Bd", "/\xff%2f", "/%c3%bc", "/\"`\\{}", "//a", "*", "/a;b=c", "/[a]", "/%7Euser"} {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := appendTarget(nil, u, false)
		if got := Path(u); err != nil || got != string(sent) {
			t.Errorf("%q: %q, and %q, %v is sent", raw, got, sent, err)
		}
	}
	if got := Path(&url.URL{Path: "/a b", RawPath: "/other"}); got != "/a%20b" {
		t.Errorf("changed: %q", got)
	}
	if got := Path(&url.URL{}); got != "" {
		t.Errorf("empty: %q", got)
	}
}
