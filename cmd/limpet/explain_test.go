package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testfiles"
)

func TestExplain(t *testing.T) {
	dir := testfiles.Write(t, shopFiles)
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
		{"another pool", []string{"--method", "POST", "--body", "x", "--header", "Host: api.example.com", "--header", "X-Fail: 1", "--client", "10.1.2.3", "http://localhost/"}, "host equals \"api.example.com\": yes",
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
		{"refused", []string{"--client", "192.0.2.99", "http://www.example.com/admin/"}, "rules[1] \"no admin\" decides: respond 403\n", `client         192.0.2.99:1234
security rule  no admin

The client gets:
403 Forbidden
Content-Length: 3
Content-Type: text/plain

no
`},
		{"closed", []string{"--client", "203.0.113.7", "http://www.example.com/"}, "client IP is in IP group \"Blacklist\": yes (203.0.113.7)\n", `client         203.0.113.7:1234
security rule  blacklist
closed         the client's connection
`},
		{"denied", []string{"--client", "198.51.100.66", "http://www.example.com/"}, "rules[0] \"no spoofing\" decides: reset\n", `client         198.51.100.66:1234
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

// An https URL was explained as if it had come over plain HTTP, on no port, and
// a pool of discovered servers as one without any.
func TestExplainSurroundings(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"edge.yaml": `listen: 127.0.0.1:0
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
	dir := testfiles.Write(t, map[string]string{
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
	dir := testfiles.Write(t, map[string]string{"a.yaml": "httpSecurity: [{name: a, match: {path: {op: begins with, values: [admin]}}, action: {respond: {status: 418}}}]\n"})
	if status, out, errs := invoke(t, dir, "explain", "DIR/a.yaml", "http://a/admin/x"); status != ok || !strings.Contains(out, "\n418 ") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

// Targets that no server could read were explained as if they were escaped.
func TestExplainTargets(t *testing.T) {
	dir := testfiles.Write(t, shopFiles)
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
