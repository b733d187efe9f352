package config

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Rules that no request can match passed even a strict check.
func TestCheckRules(t *testing.T) {
	const head = "pools: [{name: web, servers: [{address: 10.0.0.1}]}]\n"
	for _, c := range []struct{ name, rules, want string }{
		{"host", `httpRequest: [{name: a, match: {host: {op: equals, values: ["*.example.com", a.example, "shop*"]}}, log: true}]`,
			`2: httpRequest[0].match.host.values[0]: "*.example.com" is compared as it is, and no host has a "*": write ".example.com" with the operator "ends with"
2: httpRequest[0].match.host.values[2]: "shop*" is compared as it is, and no host has a "*": write a pattern with the operator "matches regexp"
`},
		{"host beyond ASCII", `httpRequest: [{name: a, match: {host: {op: contains, values: [münchen]}}, log: true}]`,
			`2: httpRequest[0].match.host.values[0]: "münchen" is not ASCII: clients send the name in Punycode, such as xn--mnchen-3ya.example
`},
		{"path", `httpSecurity: [{name: a, match: {path: {op: begins with, values: ["/adm*", "/x?y=1", "/#top", "https://a.example/b", "/*/b", "/a%20b", /adm]}}, action: close}]`,
			`2: httpSecurity[0].match.path.values[0]: "/adm*" is compared as it is, and "*" is no wildcard: write "/adm" with the operator "begins with"
2: httpSecurity[0].match.path.values[1]: "/x?y=1" has a query, which is not part of the path: compare it in query
2: httpSecurity[0].match.path.values[2]: "/#top" has a fragment, which clients do not send
2: httpSecurity[0].match.path.values[3]: "https://a.example/b" is a URL: compare the path alone
2: httpSecurity[0].match.path.values[4]: "/*/b" is compared as it is, and "*" is no wildcard: write a pattern with the operator "matches regexp"
2: httpSecurity[0].match.path.values[5]: "/a%20b" has %20, and is compared with what is decoded: write the character itself
`},
		{"escapes that servers keep", `httpSecurity: [{name: a, match: {path: {op: contains, values: ["%2f", "%5C", "%3b", "%2e", "100%"]}}, action: close}]`, ""},
		{"patterns", `httpSecurity: [{name: a, match: {path: {op: matches regexp, values: ["^/a.*?b"]}, host: {op: matches regexp, values: ["^a.*"]}}, action: close}]`, ""},
		{"query, header and cookie", `httpRequest: [{name: a, match: {query: {op: contains, values: ["a%3D1", "a=1"]}, headers: [{name: A, op: equals, values: [" b", "*/*"]}], cookie: {name: c, op: ends with, values: ["d ", " d"]}}, log: true}]`,
			`2: httpRequest[0].match.query.values[0]: "a%3D1" has %3D, and is compared with what is decoded: write the character itself
2: httpRequest[0].match.headers[0].values[0]: " b" has blanks around it, which are removed before values are compared
2: httpRequest[0].match.cookie.values[0]: "d " has blanks around it, which are removed before values are compared
`},
		{"of a response", `httpResponse: [{name: a, match: {request: {host: {op: equals, values: ["*.a"]}}, headers: [{name: A, op: equals, values: ["b "]}]}, edits: [{removeHeader: {name: X}}]}]`,
			`2: httpResponse[0].match.request.host.values[0]: "*.a" is compared as it is, and no host has a "*": write ".a" with the operator "ends with"
2: httpResponse[0].match.headers[0].values[0]: "b " has blanks around it, which are removed before values are compared
`},
		{"behind what ends", `networkSecurity: [{name: a, action: allow}, {name: b, action: deny}]
httpSecurity: [{name: a, dryRun: true, action: close}, {name: b, disabled: true, action: close}, {name: c, action: redirectToHTTPS}, {name: d, action: allow}, {name: e, action: close}, {name: f, action: close}]
httpRequest: [{name: a, log: true}, {name: b, action: {redirect: {protocol: https, path: "path[1:]"}}}, {name: c, action: {respond: {status: 200}}}, {name: d, log: true}]`,
			`2: networkSecurity[1]: never reached: the rule "a" before it has no match, and ends the policy
3: httpSecurity[4]: never reached: the rule "d" before it has no match, and ends the policy
4: httpRequest[3]: never reached: the rule "c" before it has no match, and ends the policy
`},
		{"limits", `networkSecurity: [{name: a, action: rate limit, limit: {maxRate: 9, continue: true}}, {name: b, action: rate limit, limit: {maxRate: 9}}, {name: c, action: deny}]`,
			`2: networkSecurity[2]: never reached: the rule "b" before it has no match, and ends the policy
`},
		{"of a listener", `listeners: [{name: a, address: ":1", networkSecurity: [{name: a, action: allow}, {name: b, action: deny}]}]`,
			`2: listeners[0].networkSecurity[1]: never reached: the rule "a" before it has no match, and ends the policy
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			warnings, faults := checked(t, map[string]string{"limpet.yaml": head + c.rules}, CheckOptions{})
			warnings = regexp.MustCompile(`(?m)^DIR/limpet.yaml:(\d):\d+: `).ReplaceAllString(warnings, "$1: ")
			if diff := cmp.Diff(c.want, warnings); diff != "" || faults != "" {
				t.Errorf("%s(-want +got):\n%s", faults, diff)
			}
		})
	}
}
