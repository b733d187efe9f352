package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet"
	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/ipgroup"
)

const namingScript = `-- HTTP_REQ
avi.pool.select("web", avi.vs.client_ip())
avi.poolgroup.select("all", "high")
avi.pool.select("all")
if avi.ipgroup.contains("Office", avi.vs.client_ip()) then x = 1 end
if avi.stringgroup.equals("words", avi.http.get_path()) then x = 2 end
if avi.vs.ratelimit.exceed("few", avi.vs.client_ip()) then avi.http.close_conn() end
`

const namedObjects = `pools: [{name: web, servers: [{address: 10.0.0.1}]}, {name: api, servers: [{address: 10.0.0.2}]}]
poolGroups: [{name: all, members: [{pool: web, label: high}, {pool: api}]}]
ipGroups: [{name: Office, entries: [10.0.0.1]}]
stringGroups: [{name: words, list: [/a]}]
rateLimiters: [{name: few, count: 10}]
`

// A script with a name that the service does not have was accepted, at a reload
// as well, and failed every request.
func TestScriptNames(t *testing.T) {
	const several = namedObjects + "scripts: [{file: a.lua}]\n"
	for _, c := range []struct {
		name   string
		text   string
		script string
		want   string // the error
	}{
		{"all there", namedObjects + "scripts: [{file: a.lua}]", namingScript, ""},
		{"misspelt", namedObjects + "scripts: [{file: a.lua}]",
			strings.NewReplacer(`"web"`, `"wep"`, `select("all", `, `select("al", `, `"Office"`, `"office"`, `"words"`, `"word"`, `"few"`, `"fews"`, `select("all")`, `select("alle")`).Replace(namingScript),
			`DIR/a.lua:2: pool "wep" not found; did you mean "web"?
DIR/a.lua:3: pool group "al" not found; did you mean "all"?
DIR/a.lua:4: pool "alle" not found; did you mean "all"?
DIR/a.lua:5: IP group "office" not found; did you mean "Office"?
DIR/a.lua:6: string group "word" not found; did you mean "words"?
DIR/a.lua:7: rate limiter "fews" not found; did you mean "few"?`},
		{"nothing there", "scripts: [{file: a.lua}]", namingScript, `DIR/a.lua:2: pool "web" not found
DIR/a.lua:3: pool group "all" not found
DIR/a.lua:4: pool "all" not found
DIR/a.lua:5: IP group "Office" not found
DIR/a.lua:6: string group "words" not found
DIR/a.lua:7: rate limiter "few" not found`},
		{"a pool is no group", namedObjects + "scripts: [{file: a.lua}]", "-- HTTP_REQ\navi.poolgroup.select('web')", `DIR/a.lua:2: pool group "web" not found`},
		{"external", "scripts: [{file: a.lua, external: [web, all, Office, words, few]}]", namingScript, ""},
		{"external, but one", "scripts: [{file: a.lua, external: [web, all, Office, few]}]", namingScript, `DIR/a.lua:6: string group "words" not found`},
		{"key set", "scripts: [{file: a.lua}]", "-- HTTP_REQ\navi.jwt.verify('token', 'login')", `DIR/a.lua:2: key set "login" not found`},
		{"in pcall", "scripts: [{file: a.lua}]", "-- HTTP_REQ\nif not pcall(avi.pool.select, 'blue') then x = 1 end", ""},
		{"after the configuration", "instances: many\nscripts: [{file: a.lua}]", "-- HTTP_REQ\navi.pool.select('web')",
			"DIR/limpet.yaml:1:12: instances: want a whole number, not \"many\"\nDIR/a.lua:2: pool \"web\" not found"},
		{"syntax", "scripts: [{file: a.lua}, {file: b.lua}]", "-- HTTP_REQ\nif\n-- HTTP_RESP\nx = = 1\n",
			`DIR/a.lua:3: Failed to compile the datascript "a_on_http_req.ds": luac: a_on_http_req.ds:3: unexpected symbol near '<eof>'
DIR/a.lua:4: Failed to compile the datascript "a_on_http_resp.ds": luac: a_on_http_resp.ds:4: unexpected symbol near '='
DIR/b.lua:2: pool "wob" not found`},
		// What refers to something with a fault is not reported.
		{"of something with a fault", strings.NewReplacer("{address: 10.0.0.1}", "{address: 10.0.0}", "{pool: api}", "{pool: app}", "[10.0.0.1]", "[10.0.0]", "[/a]", "[/a, /a]", "count: 10", "count: 0").Replace(several), namingScript,
			`DIR/limpet.yaml:1:41: pools[0].servers[0].address: "10.0.0": not an IP address with or without a port, nor a host name
DIR/limpet.yaml:2:69: poolGroups[0].members[1].pool: pool "app" not found; did you mean "api"?
DIR/limpet.yaml:3:12: ipGroups[0]: ip group "Office": entries[0]: "10.0.0" is not an address, range, prefix, country code or AS number
DIR/limpet.yaml:5:35: rateLimiters[0].count: 0: less than 1`},
		{"of a service", several + "services: [{name: a, scripts: [a], pools: [web, api], poolGroups: [all]}, {name: b, hosts: [b], scripts: [a], poolGroups: [all]}]", namingScript, ""},
		{"of one service", several + "services: [{name: a, scripts: [a], pools: [web, api], poolGroups: [all]}, {name: b, hosts: [b], scripts: [a], pools: [web]}]", namingScript,
			`DIR/a.lua:3: pool group "all" not found in service "b"
DIR/a.lua:4: pool "all" not found in service "b"`},
		{"of several services", several + "services: [{name: a, scripts: [a], poolGroups: [all]}, {name: b, hosts: [b], scripts: [a], pools: [web]}, {name: c, hosts: [c], scripts: [a]}, {name: d, hosts: [d], scripts: [a]}, {name: e, hosts: [e], scripts: [a]}, {name: f, hosts: [f], scripts: [a]}]",
			namingScript,
			`DIR/a.lua:2: pool "web" not found in services "c", "d", "e" and 1 more
DIR/a.lua:3: pool group "all" not found in services "b", "c", "d" and 2 more
DIR/a.lua:4: pool "all" not found in services "b", "c", "d" and 2 more`},
		{"of a service with a fault", several + "services: [{name: a, scripts: [a], pools: [web], poolGroups: [alle]}]", namingScript,
			`DIR/limpet.yaml:7:63: services[0].poolGroups[0]: pool group "alle" not found; did you mean "all"?`},
		{"of a service with a group with a fault", strings.Replace(several, "{pool: api}", "{pool: app}", 1) + "services: [{name: a, scripts: [a], poolGroups: [all]}]", namingScript,
			`DIR/limpet.yaml:2:69: poolGroups[0].members[1].pool: pool "app" not found; did you mean "api"?`},
		{"of no service", several + "services: [{name: a, pools: [web]}]", strings.ReplaceAll(namingScript, "web", "wep"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := loaded(t, map[string]string{"limpet.yaml": c.text, "a.lua": c.script, "b.lua": "-- HTTP_REQ\navi.pool.get_servers('wob')"}, "limpet.yaml")
			if diff := cmp.Diff(c.want, errs); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// Names that a program adds or takes away count when it builds and updates.
func TestScriptNamesEdited(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{
		"limpet.yaml": namedObjects + "scripts: [{file: a.lua}]\n", "a.lua": namingScript,
		"other.yaml": strings.Replace(namedObjects, "[{name: web", "[{name: wep", 1) + "scripts: [{file: a.lua}]\n",
	})
	load := func(name string) (*File, error) { return Load(t.Context(), filepath.Join(dir, name)) }
	f, err := load("limpet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	own, err := datascript.Compile("own", datascript.Chunk{Event: datascript.HTTPReq, Source: "\navi.ipgroup.contains('Home', '10.0.0.1')\navi.jwt.verify('t', 'known')\navi.jwt.verify('t', 'login')"})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := ipgroup.NewSet()
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Build(Options{Edit: func(_ string, c *limpet.Config) {
		c.IPGroups, c.Scripts = groups, append(c.Scripts, limpet.Script{Script: own})
		c.Tokens = knownKeys{}
	}})
	want := filepath.Join(dir, "a.lua") + `:5: IP group "Office" not found
` + filepath.Join(dir, "limpet.yaml") + `: script "own", line 2: IP group "Home" not found
` + filepath.Join(dir, "limpet.yaml") + `: script "own", line 4: key set "login" not found`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nnot %s", err, want)
	}

	rt, err := f.Build(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := load("other.yaml"); err == nil || !strings.Contains(err.Error(), `a.lua:2: pool "web" not found; did you mean "wep"?`) {
		t.Errorf("reload: %v", err)
	}
	path := filepath.Join(dir, "a.lua")
	if err := os.WriteFile(path, []byte(strings.Replace(namingScript, "web", "api", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = load("limpet.yaml"); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Update(f); err != nil {
		t.Error(err)
	}
	// An update with an Edit that takes something away changes nothing.
	edits := 0
	rt, err = f.Build(Options{Edit: func(_ string, c *limpet.Config) {
		if edits++; edits > 1 {
			c.RateLimiters = nil
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := rt.Update(f); !errors.As(err, &e) || e.File != path || e.Line != 7 || e.Err.Error() != `rate limiter "few" not found` {
		t.Errorf("update: %v", err)
	}
}

// knownKeys has one key set.
type knownKeys struct{}

func (knownKeys) VerifyToken(c datascript.TokenCheck) (claims, reason string, signatures int, err error) {
	if c.KeySet != "known" {
		err = errors.New("no such set")
	}
	return "", "malformed", 0, err
}
