package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/limpetlb/limpet"
)

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		text  string
		words string
		want  string
	}{
		{"addrss", "address name", "address"},
		{"address", "address name", ""},
		{"tsl", "tls geo", "tls"},
		{"geos", "geo", "geo"},
		{"gxos", "geo", ""},
		{"httpSecurty", "httpSecurity httpRequest", "httpSecurity"},
		{"HTTPSECURITY", "httpSecurity", "httpSecurity"},
		{"wep", "web wez", ""}, // which of them?
		{"wéb", "web", "web"},
		{"", "a", ""},
		{strings.Repeat("a", 65), strings.Repeat("a", 64), ""},
	} {
		if got := nearest(c.text, strings.Fields(c.words)); got != c.want {
			t.Errorf("nearest to %q in %s: %q, not %q", c.text, c.words, got, c.want)
		}
	}
}

// Keys, types, constants and names that nearly exist are found.
func TestSuggestions(t *testing.T) {
	const rest = `
pools: [{name: web, servers: [{address: 10.0.0.1:80}]}, {name: api, servers: [{address: 10.0.0.2:80}]}]
poolGroups: [{name: everything, members: [{pool: web}, {pool: api}]}]
ipGroups: [{name: Blacklist, entries: [10.0.0.0/8]}]
stringGroups: [{name: words, list: [a]}]
rateLimiters: [{name: few, count: 1}]
persistenceProfiles: [{name: cookie, httpCookie: {}}]
`
	for _, c := range []struct{ old, new, want string }{
		{"servers:", "server:", "servers"},
		{"name: words", "naem: words", "name"},
		{"list: [a]", "list: [a], longestMach: true", "longestMatch"},
		{"httpCookie: {}", "httpCokie: {}", "httpCookie"},
		{"httpCookie: {}", "httpCookie: {sameSite: lux}", "lax"},
		{"pool: api}]}]", "pool: apy}]}]", "api"},
		{"\npools", "\ndefaultPool: wev\npools", "web"},
		{"\npools", "\nhttpRequest: [{name: a, action: {modify: {pool: {name: everythin}}}}]\npools", "everything"},
		{"\npools", "\nhttpSecurity: [{name: a, action: clsoe}]\npools", "close"},
		{"\npools", "\nhttpSecurity: [{name: a, action: close, match: {clientIP: {groups: [Backlist]}}}]\npools", "Blacklist"},
		{"\npools", "\nhttpSecurity: [{name: a, action: close, match: {path: {op: equal, stringGroups: [words]}}}]\npools", "equals"},
		{"\npools", "\nhttpSecurity: [{name: a, action: close, match: {path: {op: equals, stringGroups: [word]}}}]\npools", "words"},
		{"\npools", "\nrateProfile: {limiter: fee}\npools", "few"},
		{"\npools", "\nnetworkSecurity: [{name: a, action: alow}]\npools", "allow"},
		{"api, servers:", "api, persistence: cokie, servers:", "cookie"},
		{"api, servers:", "api, failAction: {kind: backup, backup: wb}, servers:", "web"},
	} {
		text := strings.Replace(rest, c.old, c.new, 1)
		if text == rest {
			t.Fatalf("%q is not there", c.old)
		}
		err := parseText(t, text)
		if err == nil || !strings.HasSuffix(err.Error(), `; did you mean "`+c.want+`"?`) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
}

// Keys of earlier versions are read for a while, and are warned of.
func TestDeprecated(t *testing.T) {
	of := reflect.TypeFor[limpet.BodyBuffer]()
	deprecated[of] = map[string]deprecation{"beginning": {"head", "1.2", "1.4"}}
	defer delete(deprecated, of)
	f, err := Parse(t.Context(), "text", []byte("httpSecurity: [{name: a, action: close}]\nrequestBody: {bytes: 1KiB, beginning: true}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !f.doc.RequestBody.Head {
		t.Error("not read")
	}
	const want = "text:2:28: requestBody.beginning: deprecated since 1.2, ends with 1.4: write head"
	if w := f.Warnings(); len(w) != 1 || w[0].Error() != want {
		t.Errorf("%v, not %s", w, want)
	}
}

// A profile whose header led to a server that no pool has was accepted in
// silence: its clients went to any server.
func TestServersOfCustomHeaders(t *testing.T) {
	for _, c := range []struct{ name, pool, want string }{
		{"missing", "servers: [{address: 10.0.0.1:80}]", `text:4:68: persistenceProfiles[0].customHeader.servers["b"]: no pool has the server "10.0.0.2:80"`},
		{"there", "servers: [{address: 10.0.0.1:80}, {address: 10.0.0.2:80}]", ""},
		{"discovered", "servers: [{address: 10.0.0.1:80}], discoveries: [{finder: {dns: {name: a.example}}}]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse(t.Context(), "text", []byte("pools:\n- {name: p, persistence: h, "+c.pool+"}\npersistenceProfiles:\n- {name: h, customHeader: {name: X-S, servers: {a: 10.0.0.1:80, b: 10.0.0.2:80}}}\n"), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, w := range f.Warnings() {
				got += w.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
