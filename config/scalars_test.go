package config

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/limpetlb/limpet/policy"
)

// Any scalar may come from the environment or from a file: texts, numbers,
// truths, durations, constants, names of types, secrets.
func TestScalars(t *testing.T) {
	for name, value := range map[string]string{"LIMPET_NAME": "shop: {x}", "LIMPET_RATIO": "3", "LIMPET_TRUE": "true", "LIMPET_TIME": "90s", "LIMPET_OP": "begins with", "LIMPET_ALGO": "roundRobin", "LIMPET_SIZE": "64KiB"} {
		t.Setenv(name, value)
	}
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	files := map[string]string{
		"secrets/key": key + "\r\n", "secrets/name": "  two\nlines\n\n",
		"limpet.yaml": `name: {env: LIMPET_NAME}
pools:
  - name: {env: LIMPET_UNSET, default: web}
    algorithm: {env: LIMPET_ALGO}
    servers: [{address: 10.0.0.1:80, ratio: {env: LIMPET_RATIO}, disabled: {env: LIMPET_TRUE}}]
    slowStart: {env: LIMPET_TIME}
requestBody: {bytes: {env: LIMPET_SIZE}}
stringGroups: [{name: words, map: {a: {file: secrets/name}, b: {env: LIMPET_UNSET, default: 012}}}]
persistence: {httpCookie: {keys: [{id: a, secret: {file: secrets/key}}]}}
httpSecurity:
  - {name: a, match: {path: {op: {env: LIMPET_OP}, values: [/a]}}, action: {env: LIMPET_UNSET, default: close}}
`}
	f, errs := loaded(t, files, "limpet.yaml")
	if errs != "" {
		t.Fatal(errs)
	}
	doc := f.doc
	if doc.Name != "shop: {x}" || doc.Pools[0].Name != "web" || doc.Pools[0].Algorithm != (roundRobin{}) || doc.RequestBody.Bytes != 64<<10 {
		t.Errorf("%q, %+v, %+v", doc.Name, doc.Pools[0], doc.RequestBody)
	}
	if s := doc.Pools[0].Servers[0]; s.Ratio != 3 || !s.Disabled || doc.Pools[0].SlowStart != 90*time.Second {
		t.Errorf("%+v, %+v", s, doc.Pools[0].SlowStart)
	}
	if want := (pairs{{Key: "a", Value: "  two\nlines\n"}, {Key: "b", Value: "012"}}); !slices.Equal(doc.StringGroups[0].Map, want) {
		t.Errorf("%q", doc.StringGroups[0].Map)
	}
	if got := doc.Persistence.own.(httpCookie).Keys[0].Secret; string(got) != strings.Repeat("k", 32) {
		t.Errorf("secret %q", got)
	}
	if r := doc.HTTPSecurity[0]; r.Match.Path.Op != policy.BeginsWith || r.Action != (policy.Close{}) {
		t.Errorf("%+v", r)
	}
	paths := f.Paths()
	if len(paths) != 3 || !strings.HasSuffix(paths[1], "secrets/key") {
		t.Errorf("read %q", paths)
	}
}

// What comes from elsewhere is not shown, whatever is wrong with it, and
// wherever it turns up.
func TestScalarFaults(t *testing.T) {
	t.Setenv("LIMPET_HUSH", "hush-hush")
	long := strings.Repeat("hush-hush", 10_000)
	for _, c := range []struct{ name, text, want string }{
		{"not set", "name: {env: LIMPET_UNSET}", `DIR/a.yaml:1:7: name: the environment variable "LIMPET_UNSET" is not set, and there is no default`},
		{"no file", "name: {file: none}", `DIR/a.yaml:1:7: name: open DIR/none: no such file or directory`},
		{"a directory", "name: {file: .}", `DIR/a.yaml:1:7: name: open DIR: not a regular file`},
		{"too long", "name: {file: long}", `DIR/a.yaml:1:7: name: DIR/long: longer than 65536 bytes`},
		{"no number", "instances: {env: LIMPET_HUSH}", `DIR/a.yaml:1:12: instances: the content of the environment variable "LIMPET_HUSH" does not fit here`},
		{"no duration", "logging: {slowResponse: {file: hush}}", `DIR/a.yaml:1:25: logging.slowResponse: the content of the file "hush" does not fit here`},
		{"no constant", "policiesOnError: {env: LIMPET_HUSH}", `the content of the environment variable "LIMPET_HUSH" does not fit here`},
		{"no address", "trustedProxies: [{env: LIMPET_HUSH}]", `trustedProxies[0]: the content of the environment variable "LIMPET_HUSH" does not fit here`},
		{"no type", "pools: [{name: a, algorithm: {file: hush}}]", `pools[0].algorithm: the content of the file "hush" does not fit here`},
		{"no base64", "persistence: {httpCookie: {keys: [{id: a, secret: {file: hush}}]}}", "keys[0].secret: illegal base64"},
		{"later", "pools: [{name: a, discoveries: [{finder: {dns: {name: b, network: {env: LIMPET_HUSH}}}}]}]", `DIR/a.yaml:1:67: pools[0].discoveries[0].finder.dns.network: none of "ip"`},
		{"later, elsewhere", "pools: [{name: {file: hush}, servers: [{address: 10.0.0.1:80}], failAction: {kind: backup, backup: b}}, {name: hush-hush}]", "not found"},
		{"a key for its name", "tls:\n  certificate: a\n  key: |\n    hush-hush\n    and more\n", "the name of a file has no line breaks"},
		{"both", "name: {env: A, file: B}", "name: want a text, not a mapping"},
		{"another key", "name: {env: A, else: B}", "name: want a text, not a mapping"},
		{"a list", "name: {env: [A]}", "name: want a text, not a mapping"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := loaded(t, map[string]string{"a.yaml": c.text, "hush": "hush-hush\n", "a": "", "long": long}, "a.yaml")
			if !strings.Contains(errs, c.want) || c.name != "later, elsewhere" && strings.Contains(errs, "hush-hush") {
				t.Errorf("%s\nnot %s", errs, c.want)
			}
		})
	}
}

// Warnings do not show them either.
func TestScalarWarnings(t *testing.T) {
	t.Setenv("LIMPET_HOST", "203.0.113.7")
	f, errs := loaded(t, map[string]string{
		"a.yaml": `pools: [{name: web, servers: [{address: {env: LIMPET_HOST}}, {address: "203.0.113.7:81"}]}]
scripts: [{file: a.lua}]
`,
		"a.lua": "-- HTTP_REQ\navi.pool.select(\"web\", avi.vs.table_lookup(\"k\", 0))\n-- HTTP_RESP\navi.http.add_cookie(\"server\", avi.pool.server_ip())\n",
	}, "a.yaml")
	if errs != "" {
		t.Fatal(errs)
	}
	w := f.Warnings()
	if len(w) != 1 || !strings.Contains(w[0].Error(), `address=[the environment variable "LIMPET_HOST"]`) {
		t.Error(w)
	}
}

// Programs that have files elsewhere give them as a file system; others cannot
// have a text from who knows where name files.
func TestParseFiles(t *testing.T) {
	text := []byte("include: [more/*.yaml]\nipGroups: [{name: a, file: lists/a.txt}]\n")
	dir := fstest.MapFS{
		"lists/a.txt":     {Data: []byte("192.0.2.1\n")},
		"more/b.yaml":     {Data: []byte("scripts: [{file: ../b.lua}]\nipGroups: [{name: b, file: b.txt}]\n")},
		"more/b.txt":      {Data: []byte("192.0.2.2\n")},
		"b.lua":           {Data: []byte("-- HTTP_REQ\nx = 1\n")},
		"more/ignored.go": {Data: []byte("x")},
	}
	f, err := Parse(t.Context(), "limpet.yaml", text, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.Paths(), []string{"b.lua", "lists/a.txt", "more/b.txt", "more/b.yaml"}; !slices.Equal(got, want) {
		t.Errorf("read %q", got)
	}
	for _, text := range []string{"ipGroups: [{name: a, file: /etc/passwd}]", "name: {file: a}", "include: ['*']", "scripts: [{file: a.lua}]", "tls: {certificate: a, key: b}"} {
		if _, err := Parse(t.Context(), "limpet.yaml", []byte(text), nil); !errors.Is(err, errNoFiles) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Parse(t.Context(), "limpet.yaml", []byte("name: {file: ../a}"), dir); err == nil || !strings.Contains(err.Error(), "open ../a: ") {
		t.Errorf("above the root: %v", err)
	}
}
