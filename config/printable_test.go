package config

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/configkeys"
	"github.com/limpetlb/limpet/internal/testfiles"
)

// namesInFiles are all keys for names of objects, each with a configuration in
// which NAME is one.
var namesInFiles = map[string]string{
	"name":                        "name: NAME\nhttpSecurity: [{name: a, action: {respond: {status: 200}}}]\n",
	"acme.name":                   "listen: :443\ntls: {acme: NAME, names: [a.example.com]}\nacme: [{name: NAME, agree: true}]\n",
	"httpRequest.name":            "httpRequest: [{name: NAME, action: {respond: {status: 200}}}]\n",
	"httpResponse.name":           "httpResponse: [{name: NAME, edits: [{removeHeader: {name: A}}]}]\n",
	"httpSecurity.name":           "httpSecurity: [{name: NAME, action: {respond: {status: 200}}}]\n",
	"networkSecurity.name":        "networkSecurity: [{name: NAME, match: {clientIP: {prefixes: [192.0.2.0/24]}}, action: deny}]\n",
	"ipGroups.name":               "ipGroups: [{name: NAME, entries: [192.0.2.1]}]\n",
	"keySets.name":                "keySets: [{name: NAME, secret: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]\n",
	"listeners.name":              "listeners: [{name: NAME, address: ':80'}]\n",
	"persistenceProfiles.name":    "persistenceProfiles: [{name: NAME, clientIP: {}}]\n",
	"poolGroups.name":             "poolGroups: [{name: NAME, members: [{pool: web}]}]\n",
	"poolGroups.members.label":    "poolGroups: [{name: all, members: [{pool: web, label: NAME}]}]\n",
	"pools.name":                  "pools: [{name: NAME, servers: [{address: 192.0.2.1}]}]\n",
	"pools.discoveries.name":      "pools: [{name: a, discoveries: [{name: NAME, finder: {dns: {name: a.example.com}}}]}]\n",
	"pools.healthMonitors.name":   "pools: [{name: a, servers: [{address: 192.0.2.1}], healthMonitors: [{name: NAME, checker: {tcp: {}}}]}]\n",
	"pools.servers.name":          "pools: [{name: a, servers: [{address: 192.0.2.1, name: NAME}]}]\n",
	"rateLimiters.name":           "rateLimiters: [{name: NAME, count: 1}]\n",
	"scripts.name":                "scripts: [{name: NAME, file: a.lua}]\n",
	"services.name":               "services: [{name: NAME, pools: [web]}]\n",
	"stores.name":                 "stores: [{name: NAME}]\nservices: [{name: a, pools: [web], tables: {store: NAME}}]\n",
	"stringGroups.name":           "stringGroups: [{name: NAME, list: [a]}]\n",
	"stores.redis.tablesWhenDown": "stores: [{name: a, redis: {addresses: ['127.0.0.1:1'], tablesWhenDown: {NAME: fail closed}}}]\nservices: [{name: a, pools: [web], tables: {store: a}}]\n",
}

// Names of objects stand in logs, metrics and pages. Control characters, and
// others that no one can see, were accepted in those of pools, servers and
// many other objects.
func TestNamesArePrintable(t *testing.T) {
	const web = "pools: [{name: web, servers: [{address: 192.0.2.9}]}]\n"
	for path, text := range namesInFiles {
		if !strings.HasPrefix(text, "pools:") {
			text += web
		}
		check := func(name string) error {
			file := testfiles.Write(t, map[string]string{"a.yaml": strings.ReplaceAll(text, "NAME", name), "a.lua": "-- HTTP_REQ\n"})
			_, err := Check(context.Background(), file+"/a.yaml", CheckOptions{})
			return err
		}
		if err := check(`"web 2 / 東京"`); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, bad := range []string{`"a\nb"`, `"a\x1b[2Jb"`, `"a\x7F"`, `"\u202Ea"`, `"a\u2028b"`, `"a\u0085b"`, `"a\u200Bb"`, `"` + strings.Repeat("a", 600) + `"`} {
			if err := check(bad); err == nil || !strings.Contains(err.Error(), "not printable text") && len(bad) < 600 || strings.Contains(err.Error(), "\u202e") {
				t.Errorf("%s: %s: %v", path, bad, err)
			}
		}
	}
}

// notNames are the keys called like names that are none of the objects of the
// configuration.
var notNames = regexp.MustCompile(`\.(addHeader|removeHeader|replaceHeader|addCookie|removeCookie|replaceCookie|cookie|headers|appCookie|httpCookie|customHeader|dns)\.name$|\.action\.modify\.pool\.(name|label)$`)

// The names above are all that there are.
func TestNamesInFilesAreAll(t *testing.T) {
	schema, err := configkeys.Parse(Schema())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range schema {
		if name := k.Name(); name != "name" && name != "label" {
			continue
		}
		if !slices.ContainsFunc(k.Paths, func(path string) bool { return namesInFiles[path] != "" || notNames.MatchString(path) }) {
			t.Errorf("no case for %s", k.Paths[0])
		}
	}
}
