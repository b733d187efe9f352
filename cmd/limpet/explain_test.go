package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shop is a configuration with something of everything.
const shop = `# A shop.
listen: 127.0.0.1:0
name: shop
pools:
  - name: web
    algorithm: roundRobin
    servers:
      - {address: 10.0.0.1:8080, name: a}
      - address: 10.0.0.2:8080
        ratio: 2
        maxConnections: 100
    healthMonitors:
      - {name: up, checker: {http: {path: /health}}, interval: 5s, timeout: 2s}
      - checker: tcp
  - name: api
    servers: [{address: 10.0.1.1:80}]
  - name: api-b
    servers: [{address: 10.0.1.2:80}]
poolGroups:
  - name: apis
    members: [{pool: api, priority: 10, label: high}, {pool: api-b}]
ipGroups:
  - name: Blacklist
    entries: [203.0.113.0/24, "2001:db8:bad::/48"]
  - {name: Partners, file: partners.txt}
stringGroups:
  - {name: bots, list: [crawler, spider]}
  - name: paths
    map: {/old: /new, /older: /new}
networkSecurity:
  - {name: no spoofing, match: {clientIP: {addrs: [198.51.100.66]}}, action: deny}
httpSecurity:
  - name: blacklist
    match: {clientIP: {groups: [Blacklist]}}
    action: close
  - name: no admin
    match:
      clientIP: {op: is not in, groups: [Partners], prefixes: [10.0.0.0/8]}
      path: {op: begins with, values: [/admin]}
    action: {respond: {status: 403, contentType: text/plain, body: "no\n"}}
httpRequest:
  - name: api
    match: {host: {op: equals, values: [api.example.com]}, method: {methods: [GET, POST]}}
    action: {modify: {pool: {name: apis}}}
  - name: old
    match: {path: {op: equals, stringGroups: [paths]}}
    action: {redirect: {protocol: https, host: www.example.com, path: /new, status: 301}}
scripts:
  - {file: stick.lua}
  - {name: Lenient, file: http_resp.lua, onError: failOpen}
limits: {time: 50ms, instructions: 100000}
rateLimiters:
  - {name: per client, count: 100, period: 1m}
tables: {maxEntries: 1000, maxLifetime: 1h, sliding: true}
persistence:
  clientIP: {timeout: 5m, mask4: 24}
trustedProxies: [127.0.0.0/8]
clientHeader: X-Forwarded-For
`

var shopFiles = map[string]string{
	"shop.yaml": shop, "partners.txt": "192.0.2.0/28 # the office\n",
	"stick.lua":     "-- HTTP_REQ\nwho = avi.vs.client_ip()\nif avi.vs.ratelimit.exceed('per client', who) then avi.http.response(429) end\navi.http.add_header('X-Who', who)\n-- HTTP_RESP\navi.vs.log('served ', who)\n",
	"http_resp.lua": "if avi.http.get_header('X-Fail', avi.HTTP_REQUEST) then error('oh') end\navi.http.add_header('X-Pool', avi.pool.name())\n",
}

func TestExplain(t *testing.T) {
	dir := in(t, shopFiles)
	for _, c := range []struct {
		name   string
		args   []string
		policy string // a line of the explanation of rules
		want   string // what follows
	}{
		{"served", []string{"http://www.example.com/a?b"}, "HTTP request:\n    rules[0] \"api\"\n        method is in GET, POST: yes (GET)\n", `client         192.0.2.1:1234
pool           web
server         10.0.0.2:8080
persistence    miss
log            [string "stick"]:6: served 192.0.2.1

The server gets:
GET /a?b
Host: www.example.com
X-Forwarded-For: 192.0.2.1
X-Forwarded-Host: www.example.com
X-Forwarded-Proto: http
X-Who: 192.0.2.1

The client gets:
200 OK
X-Pool: web
`},
		{"another pool", []string{"-method", "POST", "-body", "x", "-header", "Host: api.example.com", "-header", "X-Fail: 1", "-client", "10.1.2.3", "http://localhost/"}, "host equals \"api.example.com\": yes",
			`client         10.1.2.3:1234
request rule   api
pool           api
server         10.0.1.1:80
persistence    miss
log            [string "stick"]:6: served 10.1.2.3
script error   [string "Lenient"]:1: oh

The server gets:
POST /
Host: api.example.com
X-Fail: 1
X-Forwarded-For: 10.1.2.3
X-Forwarded-Host: api.example.com
X-Forwarded-Proto: http
X-Who: 10.1.2.3

The client gets:
200 OK
`},
		{"refused", []string{"-client", "192.0.2.99", "http://www.example.com/admin/"}, "rules[1] \"no admin\" decides: respond 403\n", `client         192.0.2.99:1234
security rule  no admin

The client gets:
403 Forbidden
Content-Length: 3
Content-Type: text/plain

no
`},
		{"closed", []string{"-client", "203.0.113.7", "http://www.example.com/"}, "client IP is in IP group \"Blacklist\": yes (203.0.113.7)\n", `client         203.0.113.7:1234
security rule  blacklist
closed         the client's connection
`},
		{"denied", []string{"-client", "198.51.100.66", "http://www.example.com/"}, "rules[0] \"no spoofing\" decides: reset\n", `client         198.51.100.66:1234
network rule   no spoofing
closed         the client's connection
`},
		{"redirected", []string{"http://www.example.com/Old?x"}, "path equals string group \"paths\": yes", `client         192.0.2.1:1234
request rule   old

The client gets:
301 Moved Permanently
Content-Length: 22
Content-Type: text/plain; charset=utf-8
Location: https://www.example.com/new?x

301 Moved Permanently
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := len(c.args) - 1
			args := append(append([]string{"explain"}, c.args[:n]...), "DIR/shop.yaml", c.args[n])
			status, out, errs := invoke(t, dir, args...)
			policies, out, _ := strings.Cut(out, "\n\n")
			if !strings.HasPrefix(policies, "client ") || !strings.Contains(policies+"\n", c.policy) || strings.Contains(policies, "scripts") {
				t.Errorf("no %q in the explanation of rules:\n%s", c.policy, policies)
			}
			if diff := cmp.Diff(c.want, out); status != ok || errs != "" || diff != "" {
				t.Errorf("status %d, errors %q, output (-want +got):\n%s", status, errs, diff)
			}
		})
	}
}

// An https URL was explained as if it had come over plain HTTP, on no port, and a pool of discovered servers as one without any.
func TestExplainSurroundings(t *testing.T) {
	dir := in(t, map[string]string{"edge.yaml": `listen: 127.0.0.1:0
pools:
  - name: web
    discoveries: [{name: names, finder: {dns: {name: web.example.com}}}]
httpRequest:
  - {name: to https, match: {protocol: {protocol: http}}, action: {redirect: {protocol: https, status: 301}}}
  - {name: port, match: {vsPort: {ports: [8443]}}, action: {modify: {edits: [{addHeader: {name: X-Port, value: "8443"}}]}}}
`})
	for _, c := range []struct{ url, want string }{
		{"http://example.com/", "301 Moved Permanently"},
		{"https://example.com/", "X-Forwarded-Proto: https"},
		{"https://example.com/", "200 OK"},
		{"https://example.com:8443/", "X-Port: 8443"},
		{"http://example.com/%61?b#c", "301 Moved Permanently"},
		{"https://u:p@example.com/", "refused with status 400"},
	} {
		status, out, errs := invoke(t, dir, "explain", "DIR/edge.yaml", c.url)
		if status != ok || errs != "" || !strings.Contains(out, c.want) {
			t.Errorf("%s: status %d, errors %q, no %q in\n%s", c.url, status, errs, c.want, out)
		}
	}
}

// The port and the address that a configuration listens on were ignored: a
// rule about them was explained as it never applies.
func TestExplainListener(t *testing.T) {
	const rules = `
httpRequest:
  - {name: vs port, match: {vsPort: {ports: [18086]}}, action: {respond: {status: 418}}}
scripts: [{file: local.lua}]
`
	dir := in(t, map[string]string{
		"local.lua":    "-- HTTP_REQ\navi.http.response(200, {}, 'at ' .. avi.vs.ip() .. ' ' .. avi.vs.port())\n",
		"both.yaml":    "listen: 127.0.0.5:18086" + rules,
		"port.yaml":    "listen: :18086" + rules,
		"other.yaml":   "listen: '[::1]:18087'" + rules,
		"default.yaml": rules,
		"any.yaml":     "listen: 0.0.0.0:0" + rules,
	})
	for _, c := range []struct{ file, url, want string }{
		{"both", "http://a/", "418 "},
		{"both", "https://a/", "418 "},
		{"port", "http://a/", "418 "},
		{"port", "http://a:80/", "at 192.0.2.2 80"},
		{"both", "http://a:80/", "at 127.0.0.5 80"},
		{"other", "http://a:18086/", "418 "},
		{"other", "http://a/", "at ::1 18087"},
		{"default", "http://a/", "at 192.0.2.2 8080"},
		{"any", "http://a/", "at 192.0.2.2 80"},
		{"any", "https://a/", "at 192.0.2.2 443"},
	} {
		if status, out, errs := invoke(t, dir, "explain", "DIR/"+c.file+".yaml", c.url); status != ok || !strings.Contains(out, "\n"+c.want) {
			t.Errorf("%s, %s: status %d, no %q in %s%s", c.file, c.url, status, c.want, out, errs)
		}
	}
}

// A path in a rule matches with its leading slash and without.
func TestExplainPathWithoutSlash(t *testing.T) {
	dir := in(t, map[string]string{"a.yaml": "httpSecurity: [{name: a, match: {path: {op: begins with, values: [admin]}}, action: {respond: {status: 418}}}]\n"})
	if status, out, errs := invoke(t, dir, "explain", "DIR/a.yaml", "http://a/admin/x"); status != ok || !strings.Contains(out, "\n418 ") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

// Targets that no server could read were explained as if they were escaped.
func TestExplainTargets(t *testing.T) {
	dir := in(t, shopFiles)
	for _, url := range []string{"http://a/x y", "http://a/?x y", "http://a? HTTP/1.1", "http://a/%zz"} {
		if status, out, errs := invoke(t, dir, "explain", "DIR/shop.yaml", url); status != misuse || out != "" || errs == "" {
			t.Errorf("%s: status %d, %s%s", url, status, out, errs)
		}
	}
	for _, url := range []string{"http://a", "http://a?x", "http://a/x%20y#z z", "http://a/?u=http://b/"} {
		if status, _, errs := invoke(t, dir, "explain", "DIR/shop.yaml", url); status != ok {
			t.Errorf("%s: status %d, %s", url, status, errs)
		}
	}
}

// All faults of a file are told, with their places.
func TestConfigFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new string   // of shop
		want     []string // in the error
	}{
		{"unknown field", "ratio: 2", "weight: 2", []string{`shop.yaml:10:9: pools[0].servers[1]: unknown field "weight"`}},
		{"unknown field of the file", "name: shop", "title: shop", []string{`shop.yaml:3:1: unknown field "title"`}},
		{"what only programs have", "name: shop", "healthScore: 1", []string{`shop.yaml:3:1: unknown field "healthScore"`}},
		{"wrong type", "interval: 5s", "interval: soon", []string{`shop.yaml:13:64: pools[0].healthMonitors[0].interval: `, "soon"}},
		{"not a number", "ratio: 2", "ratio: two", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: want a number of type int, not "two"`}},
		{"not a whole number", "ratio: 2", "ratio: 2.5", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: want a number of type int, not "2.5"`}},
		{"too large", "ratio: 2", "ratio: 99999999999999999999", []string{`shop.yaml:10:16: pools[0].servers[1].ratio: want a number`}},
		{"not a list", "entries: [203.0.113.0/24, \"2001:db8:bad::/48\"]", "entries: 203.0.113.0/24", []string{`shop.yaml:24:14: ipGroups[0].entries: want a list, not "203.0.113.0/24"`}},
		{"not a mapping", "tables: {maxEntries: 1000, maxLifetime: 1h, sliding: true}", "tables: [1]", []string{"shop.yaml:54:9: tables: want a mapping, not a list"}},
		{"not a truth", "sliding: true", "sliding: maybe", []string{`shop.yaml:54:54: tables.sliding: want true or false, not "maybe"`}},
		{"not a text", "name: shop", "name: [shop]", []string{"shop.yaml:3:7: name: want a text, not a list"}},
		{"not YAML", "name: shop", "name: [shop", []string{"shop.yaml:4:1: ',' or ']' must be specified"}},
		{"the same twice", "name: shop", "name: shop\nname: shop", []string{`shop.yaml:4:1: mapping key "name" already defined`}},
		{"no such anchor", "name: shop", "name: *shop", []string{`shop.yaml:3:7: name: no anchor "shop"`}},
		{"an alias of itself", "name: shop", "name: &a [*a]", []string{`shop.yaml:3:10: name: want a text, not a list`}},
		{"merged into itself", "  - name: api\n    match", "  - &a\n    <<: *a\n    name: api\n    match", []string{`httpRequest[0]: deeper than 100 levels`}},
		{"a second document", "listen:", "--- {name: a}\n---\nlisten:", []string{`shop.yaml:4:1: a second document`}},
		{"server", "10.0.0.1:8080", "10.0.0:8080", []string{`shop.yaml:8:19: pools[0].servers[0].address: "10.0.0:8080" is not an IP address`}},
		{"algorithm", "roundRobin", "magic", []string{`shop.yaml:6:16: pools[0].algorithm: "magic" is not one of leastConnections, `}},
		{"monitor", "checker: tcp", "name: x", []string{`shop.yaml:14:9: pools[0].healthMonitors[1].checker: must not be nil`}},
		{"two checkers", "checker: tcp", "checker: {tcp: {}, http: {}}", []string{`shop.yaml:14:18: pools[0].healthMonitors[1].checker: want one of http, tcp, not a mapping`}},
		{"member", "{pool: api-b}", "{pool: nope}", []string{`shop.yaml:21:62: poolGroups[0].members[1].pool: pool "nope" not found`}},
		{"backup", "algorithm: roundRobin", "failAction: {kind: backup, backup: nope}", []string{`shop.yaml:6:40: pools[0].failAction.backup: pool "nope" not found`}},
		{"ip group", "203.0.113.0/24", "203.0.113/24", []string{"shop.yaml:23:5: ipGroups[0]: ", "203.0.113/24"}},
		{"ip group file", "partners.txt", "none.txt", []string{"ipGroups[1]: ", "none.txt"}},
		{"ip group twice", "name: Partners", "name: Blacklist", []string{`ipGroups[1]: a second IP group "Blacklist"`}},
		{"two kinds of group", "list: [crawler, spider]", "list: [a], map: {b: c}", []string{"shop.yaml:27:5: stringGroups[0]: want one of list, map and file"}},
		{"string group file", "list: [crawler, spider]", "file: none.csv", []string{"shop.yaml:27:5: stringGroups[0]: ", "none.csv"}},
		{"network action", "action: deny", "action: dance", []string{`shop.yaml:31:78: networkSecurity[0].action: "dance" is not one of none, allow, close, reset, respond, redirect, fail, modify, report, rate limit`}},
		{"network action that is only an outcome", "action: deny", "action: drop", []string{`shop.yaml:31:78: networkSecurity[0].action: `}},
		{"security action", "action: close", "action: dance", []string{`shop.yaml:35:13: httpSecurity[0].action: "dance" is not one of allow, close, respond, redirectToHTTPS, rateLimit`}},
		{"status", "status: 403", "status: 999", []string{`shop.yaml:40:32: httpSecurity[1].action.respond.status: 999 is not between 200 and 599`}},
		{"operator", "op: begins with", "op: resembles", []string{`shop.yaml:39:18: httpSecurity[1].match.path.op: "resembles" is not one of is in, is not in, begins with, `}},
		{"unknown group", "groups: [Blacklist]", "groups: [Nope]", []string{`shop.yaml:34:33: httpSecurity[0].match.clientIP.groups[0]: "Nope"`}},
		{"address", "198.51.100.66", "198.51.100", []string{`shop.yaml:31:52: networkSecurity[0].match.clientIP.addrs[0]: ParseAddr("198.51.100")`}},
		{"request action", "    action: {modify: {pool: {name: apis}}}\n", "", []string{"shop.yaml:42:5: httpRequest[0].action: a rule needs an action"}},
		{"unknown pool", "pool: {name: apis}", "pool: {name: nope}", []string{`shop.yaml:44:36: httpRequest[0].action.modify.pool.name: `, `"nope"`}},
		{"protocol", "protocol: https", "protocol: gopher", []string{`shop.yaml:47:35: httpRequest[1].action.redirect.protocol: "gopher" is not one of http, https`}},
		{"script", "stick.lua", "none.lua", []string{"shop.yaml:49:12: scripts[0].file: ", "none.lua"}},
		{"on error", "failOpen", "shrug", []string{`shop.yaml:50:51: scripts[1].onError: "shrug" is not one of fail closed, fail open`}},
		{"rate limiter", "count: 100", "count: 0", []string{"shop.yaml:53:31: rateLimiters[0].count: 0 is not"}},
		{"rate profile", "limits:", "rateProfile: {limiter: nobody}\nlimits:", []string{`shop.yaml:51:24: rateProfile.limiter: rate limiter "nobody" not found`}},
		{"profile", "clientIP: {timeout: 5m, mask4: 24}", "clientIP: {mask4: 99}", []string{"shop.yaml:56:21: persistence.clientIP.mask4: 99 is not"}},
		{"no profile", "clientIP: {timeout: 5m, mask4: 24}", "appCookie:", []string{"shop.yaml:56:3: persistence.appCookie.name: "}},
		{"key that is no base64", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: [{id: a, secret: hush hush}]}", []string{"shop.yaml:56:39: persistence.httpCookie.keys[0].secret: illegal base64"}},
		{"key that is no mapping", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: [hush]}", []string{"shop.yaml:56:23: persistence.httpCookie.keys[0]: want a mapping"}},
		{"key that is no list", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: hush}", []string{"shop.yaml:56:22: persistence.httpCookie.keys: want a list"}},
		{"tag", "name: shop", "name: !!binary c2hvcA==", []string{"shop.yaml:3:7: name: the tag !!binary cannot be used"}},
		{"key that is too short", "clientIP: {timeout: 5m, mask4: 24}", "httpCookie: {keys: [{id: a, secret: aHVzaA==}]}", []string{"shop.yaml:56:39: persistence.httpCookie.keys[0].secret: 4 bytes, not 32"}},
		{"proxies", "127.0.0.0/8", "127.0.0/8", []string{"shop.yaml:57:18: trustedProxies[0]: ", "127.0.0/8"}},
		{"geo", "name: shop", "name: shop\ngeo: [{database: none.mmdb}]", []string{"shop.yaml:4:7: geo[0]: ", "none.mmdb"}},
		{"name for an address", "10.0.0.1:8080", "app.example.com:80", []string{`shop.yaml:8:19: pools[0].servers[0].address: "app.example.com:80" is not an IP address with or without a port; to look up a name, give the pool discoveries with the finder dns`}},
		{"checker's path", "path: /health", "path: health", []string{`shop.yaml:13:43: pools[0].healthMonitors[0].checker.http.path: "health" is not an absolute path`}},
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
			status, out, errs := invoke(t, in(t, files), "explain", "DIR/shop.yaml", "http://a/")
			if status != failed || out != "" {
				t.Errorf("status %d, output %q", status, out)
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
