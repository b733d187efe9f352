package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testfiles"
)

const privateText = `geo: [{table: places.txt}]
ipGroups: [{name: Lab, entries: [203.0.113.0/24]}]
stringGroups: [{name: words, list: [shared]}]
pools: [{name: web, servers: [{address: A}]}]
poolGroups: [{name: all, members: [{pool: web}]}]
rateLimiters: [{name: few, count: 1, period: 1h}]
persistenceProfiles: [{name: lb, clientIP: {}}]
scripts: [{name: say, file: say.lua}]
services:
  - name: plain
    hosts: [plain]
    pools: [web]
    scripts: [say]
  - name: own
    hosts: [own]
    geo: [{table: others.txt}]
    ipGroups: [Lab, {name: Home, entries: [127.0.0.0/8]}]
    stringGroups: [words, {name: mine, list: [private]}]
    pools: [{name: b, servers: [{address: B}], persistence: p, failAction: {kind: backup, backup: web}}, web]
    poolGroups: [{name: both, members: [{pool: web, ratio: 0}, {pool: b}], persistence: lb}, all]
    rateLimiters: [few, {name: none, count: 1, period: 1h}]
    persistenceProfiles: [lb, {name: p, appCookie: {name: S}}]
    scripts: [{name: hello, file: hello.lua}, say]
    httpRequest:
      - {name: home, match: {clientIP: {groups: [Home]}, path: {op: equals, values: [/home]}}, action: {respond: {status: 200, body: "home"}}}
      - {name: mine, match: {path: {op: contains, stringGroups: [mine]}}, action: {respond: {status: 200, body: "mine"}}}
      - {name: both, match: {path: {op: equals, values: [/both]}}, action: {modify: {pool: {name: both}}}}
      - {name: all, match: {path: {op: equals, values: [/all]}}, action: {modify: {pool: {name: all}}}}
  - name: other
    hosts: [other]
    pools: [{name: b, servers: [{address: A}]}]
    scripts: [{name: hello, file: say.lua}]
`

// sayScript answers /say with what it knows.
const sayScript = `-- HTTP_REQ
if avi.http.get_path() == "/say" then
   local say = {hello or "-"}
   for _, name in ipairs({"Lab", "Home"}) do
      local ok, is = pcall(avi.ipgroup.contains, name, "127.0.0.1")
      say[#say + 1] = ok and tostring(is) or "unknown"
   end
   for _, name in ipairs({"words", "mine"}) do
      local ok, is = pcall(avi.stringgroup.contains, name, "private")
      say[#say + 1] = ok and tostring(is) or "unknown"
   end
   for _, name in ipairs({"few", "none"}) do
      local ok, is = pcall(avi.vs.ratelimit.exceed, name, "k")
      say[#say + 1] = ok and tostring(is) or "unknown"
   end
   say[#say + 1] = tostring(avi.utils.get_geo_from_ip("198.51.100.1"))
   avi.http.response(200, {}, table.concat(say, " "))
end
`

// A service has objects of its own of each kind, beside those that services
// share; others do not see them, and may have some of the same names.
func TestPrivateObjects(t *testing.T) {
	a, b := twoServers(t)
	text := strings.NewReplacer("address: A}", "address: "+a+"}", "address: B}", "address: "+b+"}").Replace(privateText)
	files := map[string]string{
		"limpet.yaml": text, "say.lua": sayScript, "hello.lua": "-- HTTP_REQ\nhello = \"hello\"\navi.vs.reqvar.hello = hello\n",
		"places.txt": placesTable, "others.txt": strings.ReplaceAll(placesTable, "NL", "BE"),
	}
	h := open(t, files, Options{})
	check := func(host, path, want string) {
		t.Helper()
		if got := h.get("listen", host, path); got != want {
			t.Errorf("%s%s: %s, not %s", host, path, got, want)
		}
	}
	check("plain", "/", "200 a 127.0.0.1")
	check("plain", "/say", "200 - false unknown nil unknown false unknown NL")
	check("own", "/say", "200 - false true nil private true false BE")
	check("own", "/", "200 b 127.0.0.1")
	check("own", "/home", "200 home")
	check("own", "/private", "200 mine")
	check("own", "/both", "200 b 127.0.0.1")
	check("own", "/all", "200 a 127.0.0.1")
	check("other", "/", "200 a 127.0.0.1")

	// What stays keeps what it knows, and what changes is reported where it
	// stands.
	before := h.kept.services["own"]
	changes, err := h.rewrite(strings.NewReplacer("entries: [127.0.0.0/8]", "entries: [192.0.2.1]", "{name: none, count: 1", "{name: none, count: 2").Replace(text))
	if diff := cmp.Diff(Changes{Live: []string{"services[1]"}, Fresh: []string{"services[1].rateLimiters[1]"}}, changes); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if now := h.kept.services["own"]; now.pools["b"] != before.pools["b"] || now.pools["b"] == nil || now.pools["b"] == h.kept.services["other"].pools["b"] {
		t.Error("the private pool is another one")
	}
	check("own", "/home", "200 b 127.0.0.1")
	check("own", "/say", "200 - false false nil private true false BE")
	if _, err := h.rewrite(strings.Replace(text, "address: "+b+"}", "address: "+a+"}", 1)); err != nil {
		t.Fatal(err)
	}
	check("own", "/", "200 a 127.0.0.1")
	check("own", "/both", "200 a 127.0.0.1")
}

// Pools that services have shared become pools of their own, and the other way
// round, while requests go on: an update is never refused for that.
func TestSharedAndPrivatePools(t *testing.T) {
	a, b := twoServers(t)
	const both = "services:\n  - {name: a, hosts: [a], pools: [POOLA]}\n  - {name: b, hosts: [b], pools: [POOLB]}\n"
	shared := "pools: [{name: web, servers: [{address: " + a + "}]}]\n" + strings.NewReplacer("POOLA", "web", "POOLB", "web").Replace(both)
	private := strings.NewReplacer("POOLA", "{name: web, servers: [{address: "+a+"}]}", "POOLB", "{name: web, servers: [{address: "+b+"}]}").Replace(both)
	one := "pools: [{name: api, servers: [{address: " + a + "}]}]\n" + strings.NewReplacer("POOLA", "api", "POOLB", "{name: web, servers: [{address: "+b+"}]}").Replace(both)
	h := open(t, map[string]string{"limpet.yaml": shared}, Options{})
	for i, x := range []struct{ text, a, b string }{
		{shared, "a", "a"}, {private, "a", "b"}, {private, "a", "b"}, {shared, "a", "a"}, {one, "a", "b"}, {private, "a", "b"}, {shared, "a", "a"},
		{private, "a", "b"}, {one, "a", "b"}, {shared, "a", "a"},
	} {
		if _, err := h.rewrite(x.text); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		for host, want := range map[string]string{"a": x.a, "b": x.b} {
			if got := h.get("listen", host, "/"); got != "200 "+want+" 127.0.0.1" {
				t.Errorf("%d, %s: %s", i, host, got)
			}
		}
	}
}

// Faults of private objects are reported where these stand, whatever names
// stand between them; so are names that nobody has, and names of shared
// objects.
func TestPrivateFaults(t *testing.T) {
	const shared = `
pools: [{name: web, servers: [{address: 10.0.0.1}]}]
poolGroups: [{name: all, members: [{pool: web}]}]
ipGroups: [{name: Lab, entries: [203.0.113.0/24]}]
stringGroups: [{name: words, list: [a]}]
rateLimiters: [{name: few, count: 1, period: 1h}]
persistenceProfiles: [{name: lb, clientIP: {}}]
keySets: [{name: hook, secret: 0123456789abcdef0123456789abcdef}]
scripts: [{name: say, file: say.lua}]
`
	for _, c := range []struct {
		name, service string
		want          []string // lines, without file and service
	}{
		{"faults behind a name", `pools: [web, {name: b, servers: [{address: 10.0.0}]}, {name: c, servers: [{address: app.example.com, name: x}]}]
    ipGroups: [Lab, {name: x, entries: [10.0.0]}]
    stringGroups: [words, {name: y, file: none.csv}]
    poolGroups: [all, {name: g, members: [{pool: wep}]}]
    rateLimiters: [few, {name: z, count: 0}]
    persistenceProfiles: [lb, {name: p, appCookie: {}}]
    keySets: [hook, {name: k, secretFile: none}]
    scripts: [say, {file: none.lua}]`, []string{
			`3:48: pools[1].servers[0].address: "10.0.0": not an IP address with or without a port, nor a host name`,
			"3:112: pools[2].servers[0].name: \"x\": a name cannot be that of several servers",
			`4:21: ipGroups[1]: ip group "x": entries[0]: "10.0.0" is not an address`,
			"5:27: stringGroups[1]: open DIR/none.csv: no such file or directory",
			`6:50: poolGroups[1].members[0].pool: pool "wep" not found; did you mean "web"?`,
			"7:42: rateLimiters[1].count: 0: less than 1",
			"8:52: persistenceProfiles[1].appCookie.name: ",
			`9:43: keySets[1].secretFile: stat DIR/none: no such file or directory`,
			`10:27: scripts[1].file: open DIR/none.lua: no such file or directory`,
		}},
		{"names that nobody has", `pools: [web, wep]
    poolGroups: [al]
    ipGroups: [Leb]
    stringGroups: [word]
    rateLimiters: [fev]
    persistenceProfiles: [lp]
    keySets: [hooks]
    scripts: [sai]`, []string{
			`3:18: pools[1]: pool "wep" not found; did you mean "web"?`,
			`4:18: poolGroups[0]: pool group "al" not found; did you mean "all"?`,
			`5:16: ipGroups[0]: IP group "Leb" not found; did you mean "Lab"?`,
			`6:20: stringGroups[0]: string group "word" not found; did you mean "words"?`,
			`7:20: rateLimiters[0]: rate limiter "fev" not found; did you mean "few"?`,
			`8:27: persistenceProfiles[0]: persistence profile "lp" not found; did you mean "lb"?`,
			`9:15: keySets[0]: key set "hooks" not found; did you mean "hook"?`,
			`10:15: scripts[0]: script "sai" not found; did you mean "say"?`,
		}},
		{"names of shared objects", `pools: [{name: web, servers: [{address: 10.0.0.1}]}, {name: all, servers: [{address: 10.0.0.1}]}]
    poolGroups: [{name: all, members: [{pool: web}]}]
    ipGroups: [{name: Lab, entries: [10.0.0.1]}]
    stringGroups: [{name: words, list: [a]}]
    rateLimiters: [{name: few, count: 1, period: 1h}]
    persistenceProfiles: [{name: lb, clientIP: {}}]
    keySets: [{name: hook, secretFile: hook}]
    scripts: [{name: say, file: say.lua}]`, []string{
			`3:20: pools[0].name: "web" is a pool at the top of the file: write its name alone, or another name`,
			`3:65: pools[1].name: "all" is a pool group at the top of the file: write its name alone, or another name`,
			`4:25: poolGroups[0].name: "all" is a pool group at the top of the file: write its name alone, or another name`,
			`5:23: ipGroups[0].name: "Lab" is an IP group at the top of the file: write its name alone, or another name`,
			`6:27: stringGroups[0].name: "words" is a string group at the top of the file: write its name alone, or another name`,
			`7:27: rateLimiters[0].name: "few" is a rate limiter at the top of the file: write its name alone, or another name`,
			`8:34: persistenceProfiles[0].name: "lb" is a persistence profile at the top of the file: write its name alone, or another name`,
			`9:22: keySets[0].name: "hook" is a key set at the top of the file: write its name alone, or another name`,
			`10:22: scripts[0].name: "say" is a script at the top of the file: write its name alone, or another name`,
		}},
		{"neither a name nor a mapping", `pools: [[web], web]`, []string{"3:13: pools[0]: want a name or a mapping, not a list"}},
		{"unknown field", `pools: [web, {name: b, server: []}]`, []string{`3:28: pools[1]: unknown field "server"; did you mean "servers"?`}},
		{"the same twice", `pools: [{name: b, servers: [{address: 10.0.0.1}]}, web]
    ipGroups: [Lab, {name: x, entries: [10.0.0.1]}, {name: x, entries: [10.0.0.1]}]
    rateLimiters: [{name: x, count: 1, period: 1h}, few, {name: x, count: 1, period: 1h}]`, []string{
			`4:53: ipGroups[2]: a second IP group "x"`, `5:65: rateLimiters[2].name: a second rate limiter "x"`,
		}},
		{"names of private objects in rules", `pools: [web, {name: mine, servers: [{address: 10.0.0.1}]}]
    ipGroups: [{name: Home, entries: [10.0.0.1]}]
    httpRequest: [{name: a, match: {clientIP: {groups: [Hom]}}, action: {modify: {pool: {name: mime}}}}]`, []string{
			`5:57: httpRequest[0].match.clientIP.groups[0]: unknown ip group "Hom"; did you mean "Home"?`,
			`5:96: httpRequest[0].action.modify.pool.name: "mime": there is no such pool or group; did you mean "mine"?`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testfiles.Write(t, map[string]string{
				"say.lua": sayScript, "hook": "0123456789abcdef0123456789abcdef",
				"a.yaml": "services:\n  - name: a\n    " + c.service + shared,
			})
			_, err := Load(t.Context(), filepath.Join(dir, "a.yaml"))
			if err == nil {
				t.Fatal("no fault")
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), dir, "DIR"), "\n")
			for i, line := range got {
				got[i] = strings.Replace(strings.TrimPrefix(line, "DIR/a.yaml:"), " services[0].", " ", 1)
			}
			ok := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				ok = ok && strings.HasPrefix(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// A name may come from an environment variable.
func TestPrivateOrNamed(t *testing.T) {
	t.Setenv("LIMPET_TEST_POOL", "web")
	doc, err := decoded(t, "services: [{name: a, pools: [web, {env: LIMPET_TEST_POOL}, {env: LIMPET_TEST_NONE, default: api}, {name: b}], scripts: [{file: a.lua}]}]")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, it := range doc.Services[0].Pools {
		name := it.name
		if it.own != nil {
			name = "private " + it.own.Name
		}
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{"web", "web", "api", "private b"}, names); diff != "" {
		t.Error(diff)
	}
	if s := doc.Services[0].Scripts[0]; s.own == nil || s.own.File != "a.lua" {
		t.Errorf("%+v", s)
	}
}
