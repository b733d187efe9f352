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
      - {name: up, http: {path: /health}, interval: 5s, timeout: 2s}
      - tcp: {}
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
  - {name: no spoofing, clientIP: {addrs: [198.51.100.66]}, action: deny}
httpSecurity:
  - name: blacklist
    match: {clientIP: {groups: [Blacklist]}}
    action: close
  - name: no admin
    match:
      clientIP: {not: true, groups: [Partners], prefixes: [10.0.0.0/8]}
      path: {op: begins with, values: [/admin]}
    respond: {status: 403, contentType: text/plain, body: "no\n"}
httpRequest:
  - name: api
    match: {host: {op: equals, values: [api.example.com]}, method: [GET, POST]}
    pool: apis
  - name: old
    match: {path: {op: equals, stringGroups: [paths]}}
    redirect: {protocol: https, host: www.example.com, path: /new, status: 301}
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
		{"denied", []string{"-client", "198.51.100.66", "http://www.example.com/"}, "rules[0] \"no spoofing\" decides: deny\n", `client         198.51.100.66:1234
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

// All faults of a file are told, with their places.
func TestConfigFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new string   // of shop
		want     []string // in the error
	}{
		{"unknown field", "ratio: 2", "weight: 2", []string{"DIR/shop.yaml: [10:9] unknown field \"weight\""}},
		{"wrong type", "interval: 5s", "interval: soon", []string{"DIR/shop.yaml: [13:53] ", "soon"}},
		{"not YAML", "name: shop", "name: [shop", []string{"DIR/shop.yaml: ["}},
		{"server", "10.0.0.1:8080", "10.0.0:8080", []string{`pools[0]: `, `servers[0].address: "10.0.0:8080"`}},
		{"algorithm", "roundRobin", "magic", []string{`pools[0].algorithm: "magic" is not an algorithm`}},
		{"monitor", "tcp: {}", "name: x", []string{`pools[0].healthMonitors[1]: want one of http and tcp`}},
		{"member", "{pool: api-b}", "{pool: nope}", []string{`poolGroups[0].members[1].pool: pool "nope" not found`}},
		{"ip group", "203.0.113.0/24", "203.0.113/24", []string{"ipGroups[0]: ", "203.0.113/24"}},
		{"ip group file", "partners.txt", "none.txt", []string{"ipGroups[1]: ", "none.txt"}},
		{"ip group twice", "name: Partners", "name: Blacklist", []string{`ipGroups[1]: a second IP group "Blacklist"`}},
		{"two kinds of group", "list: [crawler, spider]", "list: [a], map: {b: c}", []string{"stringGroups[0]: want one of list and map"}},
		{"network action", "action: deny", "action: dance", []string{`networkSecurity[0].action: "dance" is neither allow nor deny`}},
		{"security action", "action: close", "action: dance", []string{`httpSecurity[0]: want action`}},
		{"operator", "op: begins with", "op: resembles", []string{`httpSecurity[1].match.path.op: "resembles" is not an operator`}},
		{"unknown group", "groups: [Blacklist]", "groups: [Nope]", []string{`httpSecurity.rules[0].match.clientIP.groups[0]`}},
		{"request action", "    pool: apis\n", "", []string{"httpRequest[0]: want one of pool, redirect and respond"}},
		{"unknown pool", "pool: apis", "pool: nope", []string{"httpRequest.rules[0].action.pool.name: "}},
		{"protocol", "protocol: https", "protocol: gopher", []string{`httpRequest[1].redirect.protocol: "gopher"`}},
		{"script", "stick.lua", "none.lua", []string{"scripts[0].file: ", "none.lua"}},
		{"on error", "failOpen", "shrug", []string{`scripts[1].onError: "shrug"`}},
		{"rate limiter", "count: 100", "count: 0", []string{"rateLimiters[0]: "}},
		{"profile", "clientIP: {timeout: 5m, mask4: 24}", "clientIP: {mask4: 99}", []string{"persistence.clientIP: "}},
		{"no profile", "clientIP: {timeout: 5m, mask4: 24}", "appCookie:", []string{"persistence: want one of clientIP and appCookie"}},
		{"cookie without a name", "clientIP: {timeout: 5m, mask4: 24}", "appCookie: {timeout: 1m}", []string{"persistence.appCookie: "}},
		{"proxies", "127.0.0.0/8", "127.0.0/8", []string{"127.0.0/8"}},
		{"geo", "name: shop", "name: shop\ngeoDatabase: none.mmdb", []string{"geoDatabase: ", "none.mmdb"}},
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
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("the error does not say %q:\n%s", want, errs)
				}
			}
		})
	}
}
