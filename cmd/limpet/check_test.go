package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/scriptfile"
	"github.com/limpetlb/limpet/internal/testfiles"
)

func TestCheck(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{
		"good.lua":     "-- HTTP_REQ\navi.http.add_header('X', 'y')\n",
		"http_req.lua": "avi.vs.log(avi.http.method())\n",
		"plain.lua":    "avi.vs.log('no heading')\n",
		"Stop Bots.lua": `-- HTTP_REQ
if avi.http.method() == "TRACE" then
  avi.http.response(405)
`,
		"doubtful.lua":      "-- HTTP_REQ\navi.http.get_method()\n-- HTTP_RESP\navi.pool.select('p')\n",
		"filter.lua":        "-- HTTP_REQ_DATA\navi.http.response(403)\n",
		"filter.yaml":       "name: web\nscripts:\n  - {file: filter.lua}\n",
		"buffered.yaml":     "requestBody: {bytes: 128KiB, head: true}\nscripts:\n  - {file: filter.lua}\n",
		"good.yaml":         "scripts:\n  - {file: near.lua}\n",
		"stick.lua":         "-- HTTP_REQ\navi.pool.select(\"web\", avi.vs.table_lookup(\"k\", 0))\n-- HTTP_RESP\navi.http.add_cookie(\"server\", avi.pool.server_ip())\n",
		"shared.yaml":       "pools: [{name: web, servers: [{address: \"127.0.0.1:8081\"}, {address: \"127.0.0.1:8082\"}]}]\nscripts: [{file: stick.lua}]\npersistence: {httpCookie: {}}\n",
		"near.lua":          "-- HTTP_REQ\nx = 1\n-- HTTP_RESPONS\ny = 1\n",
		"tcp.lua":           "-- HTTP_REQ\nx = 1\n-- TCP_CLIENT_ACCEPT\n",
		"dns_req.lua":       "avi.dns.read()\n",
		"client_closed.lua": "-- HTTP_REQ\nx = 1\n",
		"names.yaml":        "pools: [{name: wob, servers: [{address: 10.0.0.1}]}]\nscripts: [{file: stick.lua}]\n",
		"keys.yaml":         "pools: [{name: wob, servers: [{address: 10.0.0.1}]}]\npersistence: {httpCookie: {keys: [{id: a, secret: {file: none}}]}}\n",
		"two.lua":           "-- HTTP_REQ\nx =\n-- HTTP_RESP\ny =",
		"script.txt":        "avi.nothing()",
		"config.txt":        "nothing: 1\n",
		"large.lua":         "-- HTTP_REQ\n" + strings.Repeat("-- comment\n", scriptfile.MaxBytes/10),
	})
	for _, c := range []struct {
		name   string
		args   []string
		status int
		out    string
	}{
		{"good", []string{"DIR/good.lua", "DIR/http_req.lua"}, ok, ""},
		{"no heading", []string{"DIR/plain.lua"}, failed,
			"DIR/plain.lua:1: Failed to compile the datascript \"plain.ds\": luac: plain.ds:1: code before the first event heading (a comment line such as '-- HTTP_REQ') near 'avi.vs.log'\n"},
		{"event given", []string{"--event", "HTTP Response", "DIR/plain.lua"}, ok, ""},
		{"fault", []string{"DIR/Stop Bots.lua", "DIR/good.lua"}, failed,
			"DIR/Stop Bots.lua:4: Failed to compile the datascript \"Stop_Bots_on_http_req.ds\": luac: Stop_Bots_on_http_req.ds:4: 'end' expected (to close 'if' at line 2) near '<eof>'\n"},
		{"warnings", []string{"DIR/doubtful.lua"}, ok,
			"DIR/doubtful.lua:2: warning: avi.http.get_method: unknown, hence nil\nDIR/doubtful.lua:4: warning: avi.pool.select: not allowed in event HTTP_RESP\n"},
		{"warnings that count", []string{"--strict", "DIR/doubtful.lua"}, failed,
			"DIR/doubtful.lua:2: warning: avi.http.get_method: unknown, hence nil\nDIR/doubtful.lua:4: warning: avi.pool.select: not allowed in event HTTP_RESP\n"},
		{"nearly a heading", []string{"DIR/near.lua"}, ok, "DIR/near.lua:3: warning: \"-- HTTP_RESPONS\" is not an event; did you mean HTTP_RESP?\n"},
		{"event of another protocol", []string{"DIR/tcp.lua", "DIR/dns_req.lua", "DIR/client_closed.lua"}, failed,
			"DIR/tcp.lua:3: Failed to compile the datascript \"tcp.ds\": luac: tcp.ds:3: event TCP_CLIENT_ACCEPT is known, but not supported: limpet runs HTTP events\n" +
				"DIR/dns_req.lua: event DNS_REQ is known, but not supported: limpet runs HTTP events\n"},
		{"configuration", []string{"DIR/good.yaml"}, ok, "DIR/near.lua:3: warning: \"-- HTTP_RESPONS\" is not an event; did you mean HTTP_RESP?\n"},
		{"warnings of a configuration", []string{"DIR/shared.yaml"}, ok,
			"DIR/shared.yaml:1:9: warning: pools[0]: script stores an address that servers share: add the port, which avi.pool.get_server_info returns, or use a table pool=web script=stick address=127.0.0.1 servers=2\n" +
				"DIR/shared.yaml:3:14: warning: persistence: persistence cookies have no configured keys: clients lose their servers at the next start\n"},
		{"strict about them", []string{"--strict", "DIR/shared.yaml"}, failed,
			"DIR/shared.yaml:1:9: warning: pools[0]: script stores an address that servers share: add the port, which avi.pool.get_server_info returns, or use a table pool=web script=stick address=127.0.0.1 servers=2\n" +
				"DIR/shared.yaml:3:14: warning: persistence: persistence cookies have no configured keys: clients lose their servers at the next start\n"},
		{"data event that never runs", []string{"DIR/filter.yaml"}, failed,
			"DIR/filter.yaml:3:5: scripts[0]: script \"filter\": HTTP_REQ_DATA never runs: set requestBody.bytes, or call avi.http.set_request_body_buffer_size in HTTP_REQ\n"},
		{"data event that runs", []string{"DIR/buffered.yaml"}, ok, ""},
		{"no file", []string{"DIR/none.lua"}, failed, "DIR/none.lua: no such file or directory\n"},
		{"no configuration", []string{"DIR/none.yaml"}, failed, "DIR/none.yaml: no such file or directory\n"},
		{"names that are not there", []string{"DIR/names.yaml"}, failed, "DIR/stick.lua:2: pool \"web\" not found; did you mean \"wob\"?\n"},
		{"another extension", []string{"--as", "script", "--event", "HTTP_REQ", "DIR/script.txt"}, ok, "DIR/script.txt:1: warning: avi.nothing: unknown, hence nil\n"},
		{"another extension of a configuration", []string{"--as", "config", "DIR/config.txt"}, failed, "DIR/config.txt:1:1: unknown field \"nothing\"\n"},
		{"faults and warnings of several files", []string{"DIR/two.lua", "DIR/names.yaml", "DIR/doubtful.lua"}, failed, "" +
			"DIR/two.lua:3: Failed to compile the datascript \"two_on_http_req.ds\": luac: two_on_http_req.ds:3: unexpected symbol near '<eof>'\n" +
			"DIR/two.lua:4: Failed to compile the datascript \"two_on_http_resp.ds\": luac: two_on_http_resp.ds:4: unexpected symbol near '<eof>'\n" +
			"DIR/stick.lua:2: pool \"web\" not found; did you mean \"wob\"?\n" +
			"DIR/doubtful.lua:2: warning: avi.http.get_method: unknown, hence nil\nDIR/doubtful.lua:4: warning: avi.pool.select: not allowed in event HTTP_RESP\n"},
		{"no keys", []string{"--no-keys", "DIR/keys.yaml"}, ok, ""},
		{"keys", []string{"DIR/keys.yaml"}, failed, "DIR/keys.yaml:2:51: persistence.httpCookie.keys[0].secret: open DIR/none: no such file or directory\n"},
		{"host names", []string{"--resolve", "DIR/good.yaml"}, ok, "DIR/near.lua:3: warning: \"-- HTTP_RESPONS\" is not an event; did you mean HTTP_RESP?\n"},
		{"large", []string{"DIR/large.lua"}, failed, "DIR/large.lua: longer than 1048576 bytes\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out, errs := invoke(t, dir, append([]string{"check"}, c.args...)...)
			if diff := cmp.Diff(c.out, out); status != c.status || diff != "" || errs != "" {
				t.Errorf("status %d, errors %q, output (-want +got):\n%s", status, errs, diff)
			}
		})
	}
}

// Programs and the log of a job read what is found.
func TestCheckFormats(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{
		"a,b.yaml": "instances: mäny\ndefaultPool: wep\npools: [{name: web, servers: [{address: 10.0.0.1}]}]\nscripts: [{file: a.lua}]\n",
		"a.lua":    "-- HTTP_REQ\navi.pool.select('wep')\navi.vs.nothing() avi.http.add_header('X', '%')\n",
		"%.lua":    "-- HTTP_REQ\nx = '\n",
	})
	for format, want := range map[string]string{
		"text": `DIR/a,b.yaml:1:12: instances: want a whole number, not "mäny"
DIR/a,b.yaml:2:14: defaultPool: "wep": there is no such pool; did you mean "web"?
DIR/a.lua:2: pool "wep" not found; did you mean "web"?
DIR/a.lua:3: warning: avi.vs.nothing: unknown, hence nil
DIR/%.lua:2: Failed to compile the datascript "%_on_http_req.ds": luac: %_on_http_req.ds:2: unfinished string near '''
`,
		"json": `{"severity":"fault","file":"DIR/a,b.yaml","line":1,"column":12,"path":"instances","message":"want a whole number, not \"mäny\""}
{"severity":"fault","file":"DIR/a,b.yaml","line":2,"column":14,"path":"defaultPool","message":"\"wep\": there is no such pool","suggestion":"web"}
{"severity":"fault","file":"DIR/a.lua","line":2,"message":"pool \"wep\" not found","suggestion":"web"}
{"severity":"warning","file":"DIR/a.lua","line":3,"message":"avi.vs.nothing: unknown, hence nil"}
{"severity":"fault","file":"DIR/%.lua","line":2,"message":"Failed to compile the datascript \"%_on_http_req.ds\": luac: %_on_http_req.ds:2: unfinished string near '''"}
`,
		"github": `::error file=DIR/a%2Cb.yaml,line=1,col=12::instances: want a whole number, not "mäny"
::error file=DIR/a%2Cb.yaml,line=2,col=14::defaultPool: "wep": there is no such pool; did you mean "web"?
::error file=DIR/a.lua,line=2::pool "wep" not found; did you mean "web"?
::warning file=DIR/a.lua,line=3::avi.vs.nothing: unknown, hence nil
::error file=DIR/%25.lua,line=2::Failed to compile the datascript "%25_on_http_req.ds": luac: %25_on_http_req.ds:2: unfinished string near '''
`,
	} {
		t.Run(format, func(t *testing.T) {
			status, out, errs := invoke(t, dir, "check", "--format", format, "DIR/a,b.yaml", "DIR/%.lua")
			if diff := cmp.Diff(want, out); status != failed || diff != "" || errs != "" {
				t.Errorf("status %d, errors %q, output (-want +got):\n%s", status, errs, diff)
			}
		})
	}
}

// Faults came in up to three rounds: of the file, of what it is made of, of
// policies. They come in one, unless one hides others.
func TestCheckAtOnce(t *testing.T) {
	const rules = `
httpRequest:
  - {name: to web, match: {clientIP: {groups: [Office]}}, action: {modify: {pool: {name: web}}}}
  - {name: to none, match: {path: {op: equals, stringGroups: [words]}}, action: {modify: {pool: {name: none}}}}
`
	for _, c := range []struct {
		name, text string
		want       []string // the beginnings of lines
	}{
		{"three rounds", `title: shop
pools:
  - {name: web, servers: [{address: 10.0.0}], minMonitorsUp: x}
ipGroups: [{name: Office, entries: [10.0.0]}]
stringGroups: [{name: words, file: none.csv}]
scripts: [{file: none.lua}, {file: twice.lua}, {file: twice.lua}]
rateLimiters: [{name: few, count: 0}]
rateProfile: {limiter: few}
persistenceProfiles: [{name: p, appCookie: {}}]
poolGroups: [{name: all, members: [{pool: web}], persistence: p}]
tls: {certificate: none.pem, key: none.key}` + rules, []string{
			`:1:1: unknown field "title"`,
			":3:37: pools[0].servers[0].address: ",
			":3:62: pools[0].minMonitorsUp: ",
			":4:12: ipGroups[0]: ",
			":5:16: stringGroups[0]: ",
			":6:18: scripts[0].file: ",
			`:6:48: scripts[2]: a second script named "twice"`,
			":7:35: rateLimiters[0].count: ",
			":9:44: persistenceProfiles[0].appCookie.name: ",
			":11:6: tls: ",
			`:14:104: httpRequest[1].action.modify.pool.name: `,
		}},
		{"a fault in a rule", "pools: [{name: web, servers: [{address: 10.0.0.1}]}]\nipGroups: [{name: Office, entries: [10.0.0.1]}]\nstringGroups: [{name: words, list: [a]}]" +
			strings.Replace(rules, "op: equals", "op: dance", 1), []string{
			`:6:40: httpRequest[1].match.path.op: "dance"`,
			`:6:103: httpRequest[1].action.modify.pool.name: `,
		}},
		{"two lines of a file", "scripts: [{file: twice.lua}]\nipGroups: [{name: Office, file: bad.csv}]", []string{
			`:2:12: ipGroups[0]: DIR/bad.csv: ip group "Office": line 1, column 1: `,
			`:2:12: ipGroups[0]: DIR/bad.csv: ip group "Office": line 3, column 1: `,
		}},
		{"profiles of a group", `pools: [{name: a, servers: [{address: 10.0.0.1}], persistence: p}, {name: b, servers: [{address: 10.0.0.2}]}]
persistenceProfiles: [{name: p, clientIP: {}}]
poolGroups: [{name: g, members: [{pool: a}, {pool: b}]}]`, []string{`:3:14: poolGroups[0].persistence: members "a" and "b" have`}},
		// What refers to the pool is not reported.
		{"pool without a name", "pools: [{title: web}]" + rules, []string{`:1:10: pools[0]: unknown field "title"`}},
		{"pools by another name", "pool: [{name: web}]" + rules, []string{`:1:1: unknown field "pool"`}},
		{"pools that are no list", "pools: web" + rules, []string{`:1:8: pools: want a list, such as [web], not "web"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testfiles.Write(t, map[string]string{"a.yaml": c.text, "twice.lua": "-- HTTP_REQ\n", "bad.csv": "10.0.0.300\n10.0.0.1\n10.0.0\n"})
			status, out, _ := invoke(t, dir, "check", "DIR/a.yaml")
			lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			matched := len(lines) == len(c.want)
			for i := range min(len(lines), len(c.want)) {
				matched = matched && strings.HasPrefix(lines[i], "DIR/a.yaml"+c.want[i])
			}
			if status != failed || !matched {
				t.Errorf("status %d, want %d lines:\n%s", status, len(c.want), out)
			}
		})
	}
}

// The guide shows what check prints.
func TestCheckGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		_, rest, _ := strings.Cut(string(text), "```"+language+"\n")
		content, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("no %s", language)
		}
		return content
	}
	dir := testfiles.Write(t, map[string]string{"limpet.yaml": block("yaml"), "stick.lua": block("lua")})
	t.Chdir(dir)
	shown := strings.Split(string(text), "```console\n$ limpet ")[1:]
	if len(shown) != 2 {
		t.Fatalf("%d examples", len(shown))
	}
	for _, example := range shown {
		command, want, _ := strings.Cut(example, "\n")
		want, _, _ = strings.Cut(want, "```")
		status, out, errs := invoke(t, dir, strings.Fields(command)...)
		if diff := cmp.Diff(want, out); status != failed || diff != "" || errs != "" {
			t.Errorf("%s: status %d, errors %q, output (-want +got):\n%s", command, status, errs, diff)
		}
	}
}
