package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// mirror is a server that answers with the request it got, and with the status
// and the Location that the request asks for.
func mirror(t *testing.T, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", name)
		w.Header()["Set-Cookie"] = []string{"session=1; Path=/", "old=1"}
		if to := r.Header.Get("Want-Location"); to != "" {
			w.Header().Set("Location", to)
		}
		status, err := strconv.Atoi(r.Header.Get("Want-Status"))
		if err != nil {
			status = http.StatusOK
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s got %s %s%s", name, r.Method, r.Host, r.RequestURI)
		var lines []string
		for name, values := range r.Header {
			lines = append(lines, fmt.Sprintf("\n%s: %s", name, strings.Join(values, " | ")))
		}
		sort.Strings(lines)
		io.WriteString(w, strings.Join(lines, ""))
	}))
	t.Cleanup(s.Close)
	return s
}

// exchange sends a request, lines between bars, over a connection of its own.
// An empty one is not sent.
// It returns the response, or "closed" or "reset" if there is none.
func (p *process) exchange(request string) string {
	p.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if errors.Is(err, syscall.ECONNRESET) {
		return "reset"
	}
	if err != nil {
		p.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hangLimit)); err != nil {
		p.Fatal(err)
	}
	lines := append(strings.Split(request, "|"), "Connection: close", "", "")
	if request == "" { // only listens: what the server leaves unread would make it reset
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			return "closed"
		}
		return "not closed"
	}
	switch _, err := io.WriteString(conn, strings.Join(lines, "\r\n")); {
	case errors.Is(err, syscall.ECONNRESET):
		return "reset" // which is reported once: a read would find the end
	case err != nil:
		p.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return "closed"
	case err != nil:
		p.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, res.StatusCode)
	for _, name := range []string{"Server", "Location", "Set-Cookie", "Content-Type", "Added", "Vary"} {
		if values := res.Header[name]; values != nil {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(values, " | "))
		}
	}
	return b.String() + string(body)
}

// serveRules serves a configuration whose first pool, web, mirrors requests,
// and whose second, api, has two servers that do, too.
func serveRules(t *testing.T, rules string) *process {
	t.Helper()
	address := func(name string) string { return mirror(t, name).Listener.Addr().String() }
	second := address("second")
	dir := testfiles.Write(t, map[string]string{
		"limpet.yaml": fmt.Sprintf(`listen: 127.0.0.1:0
pools:
  - {name: web, servers: [{address: %s}]}
  - {name: api, servers: [{address: %s}, {address: %s}]}
trustedProxies: [127.0.0.0/8]
geo: [{table: places.txt}]
ipGroups: [{name: Office, entries: [192.0.2.0/28]}]
stringGroups:
  - {name: paths, list: [/listed]}
  - {name: agents, file: agents.csv}
  - {name: moved, kind: map, file: moved.csv}
`, address("web"), address("first"), second) + strings.ReplaceAll(rules, "SECOND", second),
		"places.txt": placesTable, "agents.csv": "crawler\nspider\n", "moved.csv": "/moved,/to/here\n",
	})
	return start(t, filepath.Join(dir, "limpet.yaml"))
}

const placesTable = "prefix; country code; custom 1\n198.51.100.0/24; NL; office\n203.0.113.0/24; AQ; lab\n"

// Each match of package policy, in a file.
func TestMatches(t *testing.T) {
	const from = "|X-Forwarded-For: "
	cases := []struct{ match, yes, no string }{
		{"clientIP: {addrs: [192.0.2.1]}", "GET / HTTP/1.1" + from + "192.0.2.1", "GET / HTTP/1.1" + from + "192.0.2.2"},
		{"clientIP: {prefixes: [192.0.2.0/24, \"2001:db8::/32\"]}", "GET / HTTP/1.1" + from + "2001:db8::1", "GET / HTTP/1.1" + from + "2001:db9::1"},
		{"clientIP: {ranges: [{begin: 192.0.2.1, end: 192.0.2.9}]}", "GET / HTTP/1.1" + from + "192.0.2.9", "GET / HTTP/1.1" + from + "192.0.2.10"},
		{"clientIP: {groups: [Office]}", "GET / HTTP/1.1" + from + "192.0.2.15", "GET / HTTP/1.1" + from + "192.0.2.16"},
		{"clientIP: {op: is not in, groups: [Office]}", "GET / HTTP/1.1" + from + "192.0.2.16", "GET / HTTP/1.1" + from + "192.0.2.15"},
		{"sourceIP: {prefixes: [127.0.0.0/8]}, clientIP: {op: isNotIn, addrs: [192.0.2.1]}", "GET / HTTP/1.1" + from + "192.0.2.2", "GET / HTTP/1.1" + from + "192.0.2.1"},
		{"vsPort: {ranges: [{begin: 1, end: 65535}]}, method: {methods: [GET]}", "GET / HTTP/1.1", "PUT / HTTP/1.1"},
		{"vsPort: {op: is not in, ports: [80, 443]}, method: {op: is not in, methods: [GET, HEAD]}", "PUT / HTTP/1.1", "GET / HTTP/1.1"},
		{"protocol: {protocol: https}", "GET / HTTP/1.1|X-Forwarded-Proto: https", "GET / HTTP/1.1"},
		{"protocol: {op: is not in, protocol: HTTPS}", "GET / HTTP/1.1", "GET / HTTP/1.1|X-Forwarded-Proto: https"},
		{"version: {versions: [HTTP/1.0]}", "GET / HTTP/1.0", "GET / HTTP/1.1"},
		{"version: {op: is not in, versions: [HTTP11, HTTP/2]}", "GET / HTTP/1.0", "GET / HTTP/1.1"},
		{"path: {op: begins with, values: [/adm, /root]}", "GET /ROOT/x HTTP/1.1", "GET /x/root HTTP/1.1"},
		{"path: {op: does not begin with, values: [/adm, /root]}", "GET /x HTTP/1.1", "GET /root HTTP/1.1"},
		{"path: {op: contains, values: [dm], caseSensitive: true}", "GET /admin HTTP/1.1", "GET /ADMIN HTTP/1.1"},
		{"path: {op: doesNotContain, values: [dm]}", "GET /a HTTP/1.1", "GET /ADMIN HTTP/1.1"},
		{"path: {op: ends with, values: [.php]}", "GET /a.php HTTP/1.1", "GET /a.html HTTP/1.1"},
		{"path: {op: does not end with, values: [.php]}", "GET /a.html HTTP/1.1", "GET /a.php HTTP/1.1"},
		{"path: {op: equals, values: [/a], stringGroups: [paths]}", "GET /listed HTTP/1.1", "GET /listed/a HTTP/1.1"},
		{"path: {op: does not equal, stringGroups: [paths]}", "GET /a HTTP/1.1", "GET /listed HTTP/1.1"},
		{"path: {op: matches regexp, values: ['^/[0-9]+$']}", "GET /12 HTTP/1.1", "GET /12a HTTP/1.1"},
		{"path: {op: DoesNotMatchRegexp, values: ['^/[0-9]+$']}", "GET /12a HTTP/1.1", "GET /12 HTTP/1.1"},
		{"query: {op: contains, values: ['debug=']}", "GET /?debug=1 HTTP/1.1", "GET /?bug=1 HTTP/1.1"},
		{"query: {op: exists}", "GET /?a HTTP/1.1", "GET / HTTP/1.1"},
		{"query: {op: equals, values: [A], caseSensitive: true}", "GET /?A HTTP/1.1", "GET /?a HTTP/1.1"},
		{"host: {op: ends with, values: [.example.com]}", "GET / HTTP/1.1|Host: www.EXAMPLE.com", "GET / HTTP/1.1|Host: example.com"},
		{"cookie: {name: beta, op: exists}", "GET / HTTP/1.1|Cookie: a=b; beta=", "GET / HTTP/1.1|Cookie: a=beta"},
		{"cookie: {name: beta, op: equals, values: [Yes], caseSensitive: true}", "GET / HTTP/1.1|Cookie: beta=Yes", "GET / HTTP/1.1|Cookie: beta=yes"},
		{"geo: {values: [NL, BE]}", "GET / HTTP/1.1" + from + "198.51.100.1", "GET / HTTP/1.1" + from + "203.0.113.1"},
		{"geo: {attribute: CUSTOM_1, op: is not in, values: [lab]}", "GET / HTTP/1.1" + from + "198.51.100.1", "GET / HTTP/1.1" + from + "203.0.113.1"},
	}
	var rules strings.Builder
	rules.WriteString("httpSecurity:\n")
	for i, c := range cases {
		fmt.Fprintf(&rules, "  - {name: rule %d, match: {headers: [{name: Case, op: equals, values: [%d]}], %s}, action: {respond: {status: 418}}}\n", i, i, c.match)
	}
	rules.WriteString(`  - name: headers
    match:
      headers:
        - {name: Case, op: equals, values: [headers]}
        - {name: User-Agent, op: contains, stringGroups: [agents], caseSensitive: true}
        - {name: X-Internal, op: does not exist}
    action: {respond: {status: 418}}
`)
	p := serveRules(t, rules.String())
	judge := func(name, request, want string) {
		t.Helper()
		request += "|Case: " + name
		if !strings.Contains(request, "Host:") {
			request += "|Host: a"
		}
		if got := p.exchange(request); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q, not %s", request, got, want)
		}
	}
	for i, c := range cases {
		judge(strconv.Itoa(i), c.yes, "418\n")
		judge(strconv.Itoa(i), c.no, "200\n")
		if t.Failed() {
			t.Fatal(c.match)
		}
	}
	judge("headers", "GET / HTTP/1.1|User-Agent: a crawler", "418\n")
	judge("headers", "GET / HTTP/1.1|User-Agent: a CRAWLER", "200\n")
	judge("headers", "GET / HTTP/1.1|User-Agent: a spider|X-Internal: 1", "200\n")
	p.end()
}

// Each action of package policy on requests and responses, in a file.
func TestActions(t *testing.T) {
	p := serveRules(t, `httpSecurity:
  - {name: allowed, match: {path: {op: begins with, values: [/closed/but]}}, action: allow}
  - {name: closed, match: {path: {op: begins with, values: [/closed]}}, action: close}
  - {name: reset, match: {path: {op: equals, values: [/reset]}}, action: {close: {reset: true}}}
  - {name: off, disabled: true, action: close}
  - {name: dry, dryRun: true, action: close}
  - {name: page, match: {path: {op: equals, values: [/page]}}, action: {respond: {status: 404, contentType: text/plain, body: "no\n"}}, log: true}
  - {name: empty page, match: {path: {op: equals, values: [/empty]}}, action: {respond: {status: 200, body: ""}}}
  - {name: tls, match: {path: {op: equals, values: [/tls]}}, action: {redirectToHTTPS: {port: 8443}}}
  - name: slowly
    match: {path: {op: equals, values: [/slowly]}}
    action: {rateLimit: {limit: {count: 1, period: 1h}, perClient: true}}
  - name: slowly by path, header and cookie
    match: {path: {op: begins with, values: [/keyed]}}
    action:
      rateLimit:
        limit: {count: 1, period: 1h, burst: 2, maxKeys: 1000, ipv6Bits: 48}
        perPath: true
        perHeader: Key
        perCookie: key
        exceeded: {respond: {status: 503}}
  - {name: broken, match: {path: {op: equals, values: [/broken]}},
     action: {rateLimit: {limit: {count: 1, period: 1h}, countFailures: true, exceeded: {close: {reset: true}}}}}
  - {name: elsewhere, match: {path: {op: equals, values: [/elsewhere]}},
     action: {rateLimit: {limit: {count: 1, period: 1h}, exceeded: {redirect: {protocol: http, host: other.example.com}}}}}
  - {name: told, match: {path: {op: equals, values: [/told]}}, action: {rateLimit: {limit: {count: 1, period: 1h}, exceeded: report}}}
httpRequest:
  - name: rewritten
    match: {path: {op: begins with, values: [/tenants]}}
    action:
      modify:
        rewrite: {host: 'path[1].internal', path: '/path[2:]', dropQuery: true, addQuery: a=b}
        edits:
          - addHeader: {name: Many, value: two}
          - replaceHeader: {name: X-Client, value: $client_ip}
          - removeHeader: {name: X-Debug}
          - addCookie: {name: via, value: edge}
          - replaceCookie: {name: lang, value: nl}
          - removeCookie: {name: secret}
  - {name: pool, match: {path: {op: begins with, values: [/api]}}, action: {modify: {pool: {name: api}}}}
  - {name: server, match: {path: {op: equals, values: [/second]}}, action: {modify: {pool: {name: api, server: SECOND}}}}
  - name: moved
    match: {path: {op: begins with, values: [/old]}}
    action: {redirect: {protocol: https, host: 'www.host[0:]', path: '/new/path[1:]', port: 8443, dropQuery: true, addQuery: from=old, status: 307}}
  - {name: moved by a list, match: {path: {op: equals, stringGroups: [moved]}}, action: {redirect: {protocol: http, path: 'string_group[value]'}}}
  - {name: answered, match: {path: {op: equals, values: [/answered]}}, action: {respond: {status: 503}}}
  - {name: watched, match: {path: {op: equals, values: [/watched]}}, log: true, logHeaders: true}
httpResponse:
  - name: edited
    match:
      request: {path: {op: begins with, values: [/edited]}}
      status: {codes: [200], ranges: [{begin: 400, end: 499}]}
      headers: [{name: Server, op: exists}, {name: X-None, op: does not exist}]
    edits:
      - addHeader: {name: Added, value: 'over $vs_port'}
      - replaceHeader: {name: Vary, value: Accept}
      - removeHeader: {name: Server}
      - addCookie: {name: via, value: edge}
      - replaceCookie: {name: session, value: "2"}
      - removeCookie: {name: old}
    log: true
  - name: not edited
    match: {request: {path: {op: begins with, values: [/edited]}}, status: {op: is not in, codes: [200], ranges: [{begin: 400, end: 499}]}}
    edits: [{addHeader: {name: Added, value: other}}]
  - name: location
    match: {location: {op: begins with, values: ["http://internal."]}}
    location: {protocol: https, host: www.example.com, path: '/public/path[1:]', port: 8443, dropQuery: true}
  - {name: disabled, disabled: true, edits: [{removeHeader: {name: Server}}]}
  - {name: in dry run, dryRun: true, edits: [{removeHeader: {name: Server}}], logHeaders: true}
`)
	const host = " HTTP/1.1|Host: example.com"
	for _, c := range []struct {
		request string
		want    []string // what the response begins with, and what it holds
	}{
		{"GET /closed" + host, []string{"closed"}},
		{"GET /closed/but/not" + host, []string{"200\n", "web got GET"}},
		{"GET /reset" + host, []string{"reset"}},
		{"GET /page" + host, []string{"404\nContent-Type: text/plain\nno\n"}},
		{"GET /empty" + host, []string{"200\nContent-Type: text/html; charset=utf-8\n"}},
		{"GET /tls?a=b" + host, []string{"302\nLocation: https://example.com:8443/tls?a=b\n"}},
		{"GET /slowly" + host, []string{"200\n"}},
		{"GET /slowly" + host, []string{"429\n"}},
		{"GET /slowly" + host + "|X-Forwarded-For: 192.0.2.1", []string{"200\n"}},
		{"GET /keyed" + host + "|Key: a|Cookie: key=a", []string{"200\n"}},
		{"GET /keyed" + host + "|Key: a|Cookie: key=a", []string{"200\n"}},
		{"GET /keyed" + host + "|Key: a|Cookie: key=a", []string{"503\n"}},
		{"GET /keyed" + host + "|Key: a|Cookie: key=b", []string{"200\n"}},
		{"GET /keyed" + host + "|Key: b|Cookie: key=a", []string{"200\n"}},
		{"GET /keyed/too" + host + "|Key: a|Cookie: key=a", []string{"200\n"}},
		{"GET /broken" + host, []string{"200\n"}},
		{"GET /broken" + host + "|Want-Status: 500", []string{"500\n"}},
		{"GET /broken" + host, []string{"reset"}},
		{"GET /elsewhere" + host, []string{"200\n"}},
		{"GET /elsewhere" + host, []string{"302\nLocation: http://other.example.com/elsewhere\n"}},
		{"GET /told" + host, []string{"200\n"}},
		{"GET /told" + host, []string{"200\n"}},

		{"GET /tenants/shop/a?x" + host + "|Many: one|X-Debug: 1|X-Forwarded-For: 192.0.2.7|Cookie: a=1; lang=en; secret=2",
			[]string{"200\n", "web got GET shop.internal/a?a=b\n", "Cookie: a=1; via=edge; lang=nl\n", "Many: one | two\n", "X-Client: 192.0.2.7"}},
		{"GET /api/a" + host, []string{"200\nServer: "}},
		{"GET /second" + host, []string{"200\nServer: second\n"}},
		{"GET /second" + host, []string{"200\nServer: second\n"}},
		{"GET /old/a/b?x" + host, []string{"307\nLocation: https://www.example.com:8443/new/a/b?from=old\n"}},
		{"GET /moved" + host, []string{"302\nLocation: http://example.com/to/here\n"}},
		{"GET /answered" + host, []string{"503\nContent-Type: text/plain; charset=utf-8\n503 Service Unavailable\n"}},
		{"GET /watched" + host + "|X-Seen: yes", []string{"200\n"}},

		{"GET /edited" + host, []string{"200\nSet-Cookie: via=edge; Path=/ | session=2; Path=/\n", "Added: over ", "Vary: Accept\n"}},
		{"GET /edited" + host + "|Want-Status: 404", []string{"404\nSet-Cookie: via=edge; Path=/ | session=2", "Added: over "}},
		{"GET /edited" + host + "|Want-Status: 500", []string{"500\nServer: web\n", "Added: other\n"}},
		{"GET /a" + host + "|Want-Status: 301|Want-Location: http://internal.example.com/a/b?x=y",
			[]string{"301\nServer: web\nLocation: https://www.example.com:8443/public/b\n"}},
		{"GET /a" + host + "|Want-Status: 301|Want-Location: http://public.example.com/", []string{"301\nServer: web\nLocation: http://public.example.com/\n"}},
	} {
		got := p.exchange(c.request)
		for i, want := range c.want {
			if i == 0 && !strings.HasPrefix(got, want) || !strings.Contains(got, want) {
				t.Errorf("%q: no %q in\n%s", c.request, want, got)
			}
		}
	}
	p.exchange("GET /api/last" + host)
	if line := p.await("X-Seen"); !strings.Contains(line, "watched") {
		t.Error(line)
	}
	p.end()
}

// Each action of package policy on connections, in a file.
func TestConnectionActions(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		want       []string // what comes of connections, one after the other
	}{
		{"deny", "{name: a, action: deny, log: true}", []string{"reset"}},
		{"allow", "{name: a, action: allow, match: {clientIP: {addrs: [127.0.0.1]}}}, {name: b, action: deny}", []string{"200"}},
		{"disabled", "{name: a, action: deny, disabled: true}, {name: b, action: deny, dryRun: true}", []string{"200"}},
		{"ports", "{name: a, action: deny, match: {vsPort: {op: is not in, ports: [1]}, clientPort: {ranges: [{begin: 1024, end: 65535}]}}}", []string{"reset"}},
		{"place", "{name: a, action: deny, match: {geo: {op: is not in, attribute: CUSTOM_1, values: [office]}}}", []string{"reset"}},
		{"age", "{name: a, action: deny, age: 1us}", []string{"200"}},
		{"limit", "{name: a, action: rate limit, limit: {maxRate: 1, burst: 2, exceeded: drop}}", []string{"200", "200", "closed"}},
		{"limit that resets", "{name: a, action: rateLimit, limit: {maxRate: 1, exceeded: reset, continue: true}}, {name: b, action: allow}", []string{"200", "reset"}},
		{"limit that reports", "{name: a, action: rate limit, limit: {maxRate: 1, exceeded: report}}", []string{"200", "200"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := serveRules(t, "networkSecurity: ["+c.rule+"]\n")
			for i, want := range c.want {
				request := "GET / HTTP/1.1|Host: a"
				if want == "closed" {
					request = ""
				}
				if got := p.exchange(request); !strings.HasPrefix(got, want) {
					t.Errorf("connection %d: %q, not %s", i, got, want)
				}
			}
			p.end()
		})
	}
}

// A rule that asks for what only a program can supply is refused.
func TestReputation(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": "httpSecurity:\n- name: known\n  match: {reputation: {kinds: [BOTNETS]}}\n  action: close\n"})
	status, _, errs := invoke(t, dir, "serve", "DIR/limpet.yaml")
	if want := "DIR/limpet.yaml:3:23: httpSecurity[0].match.reputation: the policy was given no reputations"; status != failed || !strings.Contains(errs, want) {
		t.Errorf("status %d, %s", status, errs)
	}
}
