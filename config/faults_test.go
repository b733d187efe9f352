package config

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// All faults of a file are reported, with their places.
func TestConfigFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		old, new string   // of shop
		want     []string // in the error
	}{
		{"unknown field", "ratio: 2", "weight: 2", []string{`shop.yaml:10:9: pools[0].servers[1]: unknown field "weight"`}},
		{"unknown field of the file", "name: shop", "title: shop", []string{`shop.yaml:3:1: unknown field "title"`}},
		{"what only programs have", "name: shop", "healthScore: 1", []string{`shop.yaml:3:1: unknown field "healthScore"`}},
		{"wrong type", "interval: 5s", "interval: soon", []string{`shop.yaml:13:64: pools[0].healthMonitors[0].interval: `, "soon"}},
		{"not a number", "ratio: 2", "ratio: two", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: want a whole number, not "two"`}},
		{"not a whole number", "ratio: 2", "ratio: 2.5", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: want a whole number, not "2.5"`}},
		{"no share of a server", "ratio: 2", "ratio: 0", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: 0 is less than 1; write disabled: true for a server that gets no requests`}},
		{"no share of discovered servers", "address: 10.0.0.2:8080\n        ratio: 2\n        maxConnections: 100", "address: 10.0.0.2:8080\n    discoveries: [{finder: {dns: {name: a.example, server: {ratio: 0}}}}]", []string{`pools[0].discoveries[0].finder.dns.server.ratio: 0 is less than 1; write disabled: true`}},
		{"too large", "ratio: 2", "ratio: 99999999999999999999", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: want a whole number`}},
		{"not a list", "entries: [203.0.113.0/24, \"2001:db8:bad::/48\"]", "entries: 203.0.113.0/24", []string{`shop.yaml:24:14: ipGroups[0].entries: want a list, such as [203.0.113.0/24], not "203.0.113.0/24"`}},
		{"not a mapping", "tables: {maxEntries: 1000, maxLifetime: 1h, sliding: true}", "tables: [1]", []string{"shop.yaml:54:9: tables: want a mapping, not a list"}},
		{"not a truth", "sliding: true", "sliding: maybe", []string{`shop.yaml:54:54: tables.sliding: want true or false, not "maybe"`}},
		{"not a text", "name: shop", "name: [shop]", []string{"shop.yaml:3:7: name: want a text, not a list"}},
		{"not YAML", "name: shop", "name: [shop", []string{"shop.yaml:4:6: while parsing a flow sequence at 3:7: did not find expected ',' or ']'"}},
		{"the same twice", "name: shop", "name: shop\nname: shop", []string{`shop.yaml:4:1: name: a second key, after that at 3:1`}},
		{"no such anchor", "name: shop", "name: *shop", []string{`shop.yaml:3:7: unknown anchor 'shop' referenced`}},
		{"an alias of itself", "name: shop", "name: &a [*a]", []string{`shop.yaml:3:7: name: want a text, not a list`, `shop.yaml:3:11: name[0]: an alias of itself`}},
		{"merged into itself", "  - name: api\n    match", "  - &a\n    <<: *a\n    name: api\n    match", []string{`shop.yaml:43:9: httpRequest[0].<<: an alias of itself`}},
		{"a second document", "listen:", "--- {name: a}\n---\nlisten:", []string{`shop.yaml:4:1: a second document`}},
		{"server", "10.0.0.1:8080", "10.0.0:8080", []string{`shop.yaml:8:19: pools[0].servers[0].address: "10.0.0:8080": not an IP address`}},
		{"algorithm", "roundRobin", "magic", []string{`shop.yaml:6:16: pools[0].algorithm: "magic" is not one of leastConnections, `}},
		{"monitor", "checker: tcp", "name: x", []string{`shop.yaml:14:9: pools[0].healthMonitors[1].checker: missing`}},
		{"two checkers", "checker: tcp", "checker: {tcp: {}, http: {}}", []string{`shop.yaml:14:18: pools[0].healthMonitors[1].checker: want one of http, tcp, not a mapping`}},
		{"member", "{pool: api-b}", "{pool: nope}", []string{`shop.yaml:21:62: poolGroups[0].members[1].pool: pool "nope" not found`}},
		{"backup", "algorithm: roundRobin", "failAction: {kind: backup, backup: nope}", []string{`shop.yaml:6:40: pools[0].failAction.backup: pool "nope" not found`}},
		{"ip group", "203.0.113.0/24", "203.0.113/24", []string{"shop.yaml:23:5: ipGroups[0]: ", "203.0.113/24"}},
		{"ip group file", "partners.txt", "none.txt", []string{"ipGroups[1]: ", "none.txt"}},
		{"ip group twice", "name: Partners", "name: Blacklist", []string{`ipGroups[1]: a second IP group "Blacklist"`}},
		{"two kinds of group", "list: [crawler, spider]", "list: [a], map: {b: c}", []string{"shop.yaml:27:5: stringGroups[0]: want one of list, map and file"}},
		{"string group file", "list: [crawler, spider]", "file: none.csv", []string{"shop.yaml:27:5: stringGroups[0]: ", "none.csv"}},
		{"network action", "action: deny", "action: dance", []string{`shop.yaml:31:78: networkSecurity[0].action: "dance" is not one of allow, reset, deny, rate limit`}},
		{"network action that is only an outcome", "action: deny", "action: drop", []string{`shop.yaml:31:78: networkSecurity[0].action: "drop" is not one of allow, reset, deny, rate limit`}},
		{"security action", "action: close", "action: dance", []string{`shop.yaml:35:13: httpSecurity[0].action: "dance" is not one of allow, close, respond, redirectToHTTPS, rateLimit`}},
		{"status", "status: 403", "status: 999", []string{`shop.yaml:40:32: httpSecurity[1].action.respond.status: 999: more than 599`}},
		{"operator", "op: begins with", "op: resembles", []string{`shop.yaml:39:18: httpSecurity[1].match.path.op: "resembles" is not one of begins with, `}},
		{"operator of an address", "clientIP: {groups: [Blacklist]}", "clientIP: {op: equals, groups: [Blacklist]}", []string{`httpSecurity[0].match.clientIP.op: "equals" is not one of is in, is not in`}},
		{"default pool that is a group", "name: shop", "name: shop\ndefaultPool: apis", []string{`shop.yaml:4:14: defaultPool: "apis": a pool group; want a pool`}},
		{"member that is a group", "{pool: api-b}", "{pool: apis}", []string{`poolGroups[0].members[1].pool: "apis" is a pool group; want a pool`}},
		{"country without geo data", "203.0.113.0/24", "KP", []string{`ipGroups[0]: ip group "Blacklist": entries[0]: "KP" is a country, and there is no geo data with countries`}},
		{"unknown field of an action", "status: 403", "state: 403", []string{`httpSecurity[1].action.respond: unknown field "state"; did you mean "status"?`}},
		{"unknown group", "groups: [Blacklist]", "groups: [Nope]", []string{`shop.yaml:34:33: httpSecurity[0].match.clientIP.groups[0]: unknown ip group "Nope"`}},
		{"address", "198.51.100.66", "198.51.100", []string{`shop.yaml:31:52: networkSecurity[0].match.clientIP.addrs[0]: ParseAddr("198.51.100")`}},
		{"request action", "    action: {modify: {pool: {name: apis}}}\n", "", []string{"shop.yaml:42:5: httpRequest[0].action: a rule needs an action"}},
		{"unknown pool", "pool: {name: apis}", "pool: {name: nope}", []string{`shop.yaml:44:36: httpRequest[0].action.modify.pool.name: `, `"nope"`}},
		{"protocol", "protocol: https", "protocol: gopher", []string{`shop.yaml:47:35: httpRequest[1].action.redirect.protocol: "gopher" is not one of http, https`}},
		{"script", "stick.lua", "none.lua", []string{"shop.yaml:49:12: scripts[0].file: ", "none.lua"}},
		{"on error", "failOpen", "shrug", []string{`shop.yaml:50:51: scripts[1].onError: "shrug" is not one of fail closed, fail open`}},
		{"rate limiter", "count: 100", "count: 0", []string{"shop.yaml:53:31: rateLimiters[0].count: 0: less than 1"}},
		{"rate profile", "limits:", "rateProfile: {limiter: nobody}\nlimits:", []string{`shop.yaml:51:24: rateProfile.limiter: rate limiter "nobody" not found`}},
		{"profile", "clientIP: {timeout: 5m, mask4: 24}", "clientIP: {mask4: 99}", []string{"shop.yaml:56:21: persistence.clientIP.mask4: 99: more than 32"}},
		{"no profile", "clientIP: {timeout: 5m, mask4: 24}", "appCookie:", []string{"shop.yaml:56:3: persistence.appCookie.name: "}},
		{"key that is no base64", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: [{id: a, secret: hush hush}]}", []string{"shop.yaml:56:39: persistence.httpCookie.keys[0].secret: illegal base64"}},
		{"key that is no mapping", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: [hush]}", []string{"shop.yaml:56:23: persistence.httpCookie.keys[0]: want a mapping"}},
		{"key that is no list", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: hush}", []string{"shop.yaml:56:22: persistence.httpCookie.keys: want a list"}},
		{"tag", "name: shop", "name: !!binary c2hvcA==", []string{"shop.yaml:3:7: name: the tag !!binary cannot be used"}},
		{"key that is too short", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: [{id: a, secret: aHVzaA==}]}", []string{"shop.yaml:56:39: persistence.httpCookie.keys[0].secret: 4 bytes, not 32"}},
		{"proxies", "127.0.0.0/8", "127.0.0/8", []string{"shop.yaml:57:18: trustedProxies[0]: ", "127.0.0/8"}},
		{"geo", "name: shop", "name: shop\ngeo: [{database: none.mmdb}]", []string{"shop.yaml:4:7: geo[0]: ", "none.mmdb"}},
		{"name beside a host name", "10.0.0.1:8080", "app.example.com:80", []string{`shop.yaml:8:45: pools[0].servers[0].name: a name cannot be that of several servers`}},
		{"port of a host name", "address: 10.0.0.2:8080", "address: app.example.com:0", []string{`shop.yaml:9:18: pools[0].servers[1].address: "app.example.com:0": does not end in a port of 1 to 65535`}},
		{"no port of a host name", "address: 10.0.0.2:8080", "address: app.example.com:http", []string{`shop.yaml:9:18: pools[0].servers[1].address: "app.example.com:http": does not end in a port of 1 to 65535`}},
		{"port of localhost", "address: 10.0.0.2:8080", "address: localhost:0", []string{`shop.yaml:9:18: pools[0].servers[1].address: "localhost:0": the port is 0`}},
		{"no host name", "address: 10.0.0.2:8080", "address: https://app.example.com", []string{`shop.yaml:9:18: pools[0].servers[1].address: "https://app.example.com": not an IP address with or without a port, nor a host name`}},
		{"ratio of a host name", "address: 10.0.0.2:8080\n        ratio: 2", "address: app.example.com\n        ratio: 21", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: 21: more than 20`}},
		{"host name twice", "      - address: 10.0.0.2:8080\n        ratio: 2", "      - address: app.example.com\n      - address: App.example.com\n        ratio: 2", []string{`shop.yaml:10:18: pools[0].servers[2].address: "App.example.com": already the address of servers[1]`}},
		{"server behind a host name", "      - address: 10.0.0.2:8080\n        ratio: 2", "      - address: app.example.com\n      - {address: 10.0.0.2, ratio: 22}\n      - {address: 10.0.0.3, name: A}\n      - address: 10.0.0.2:80", []string{
			`shop.yaml:10:36: pools[0].servers[2].ratio: 22: more than 20`,
			`shop.yaml:11:35: pools[0].servers[3].name: "A": already the name of servers[0]`,
			`shop.yaml:12:18: pools[0].servers[4].address: 10.0.0.2:80 is already the address of another server`,
		}},
		{"host name of a discovery", "address: 10.0.0.2:8080\n        ratio: 2\n        maxConnections: 100", "address: app.example.com\n        disabled: true\n    discoveries: [{name: app.example.com, finder: {dns: {name: a.example}}}]", []string{`shop.yaml:9:18: pools[0].servers[1].address: "app.example.com": already the name of discoveries[0]`}},
		{"finder of a discovery", "address: 10.0.0.2:8080\n        ratio: 2\n        maxConnections: 100", "address: app.example.com\n    discoveries: [{finder: {dns: {name: 10.0.0.1}}}]", []string{`pools[0].discoveries[0].finder.dns.name: "10.0.0.1": an address, which need not be looked up`}},
		{"too many host names", "address: 10.0.0.2:8080", "address: app.example.com:8080\n" + hostNames(50) + "      - address: 10.0.0.2:8080", []string{`shop.yaml:8:7: pools[0].servers: 51 discoveries, more than 50; each host name is one`}},
		{"too rarely looked up", "algorithm: roundRobin", "resolveInterval: 61m", []string{`shop.yaml:6:22: pools[0].resolveInterval: 1h1m0s: more than 1h`}},
		{"checker's path", "path: /health", "path: health", []string{`shop.yaml:13:43: pools[0].healthMonitors[0].checker.http.path: "health": not an absolute path`}},
		{"two faults of a checker", "path: /health", "path: health, host: a b", []string{`pools[0].healthMonitors[0].checker.http.path: `, `pools[0].healthMonitors[0].checker.http.host: `}},
		{"listen", "listen: 127.0.0.1:0", "listen: foo", []string{"shop.yaml:2:9: listen: address foo: missing port in address"}},
		{"listen on a port that is none", "listen: 127.0.0.1:0", "listen: :http-alt-x", []string{"shop.yaml:2:9: listen: "}},
		{"listen on an address that is none", "listen: 127.0.0.1:0", "listen: 256.0.0.1:80", []string{`shop.yaml:2:9: listen: "256.0.0.1" is not an address`}},
		{"two faults", "ratio: 2\n        maxConnections: 100", "ratio: 99\n        maxConnections: -1", []string{"shop.yaml:10:16: ", "shop.yaml:11:25: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(shop, c.old, c.new, 1)
			if text == shop {
				t.Fatalf("%q is not in the configuration", c.old)
			}
			files := maps.Clone(shopFiles)
			files["shop.yaml"] = text
			_, errs := loaded(t, files, "shop.yaml")
			if errs == "" {
				t.Fatal("no fault")
			}
			if strings.Contains(errs, "hush") {
				t.Errorf("the error shows a key: %s", errs)
			}
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("the error does not say %q:\n%s", want, errs)
				}
			}
		})
	}
}

// hostNames are servers in the list of a pool.
func hostNames(n int) (text string) {
	for i := range n {
		text += fmt.Sprintf("      - address: app%d.example.com\n", i)
	}
	return text
}
