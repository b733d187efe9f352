package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// checked checks the file limpet.yaml of a directory with these files. Each
// warning and each fault is a line, in which the directory's name is DIR.
func checked(t *testing.T, files map[string]string, o CheckOptions) (warnings, faults string) {
	t.Helper()
	dir := testfiles.Write(t, files)
	list, err := Check(t.Context(), filepath.Join(dir, "limpet.yaml"), o)
	for _, w := range list {
		warnings += strings.ReplaceAll(w.Error(), dir, "DIR") + "\n"
	}
	if err != nil {
		faults = strings.ReplaceAll(err.Error(), dir, "DIR") + "\n"
	}
	return warnings, faults
}

// More faults than a log should have are those that somebody asks for.
func TestCheckAll(t *testing.T) {
	var text strings.Builder
	for i := range 250 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	files := map[string]string{"limpet.yaml": text.String() + "scripts: [{file: a.lua}]\n", "a.lua": "-- HTTP_REQ\navi.http.nothing()"}
	warnings, faults := checked(t, files, CheckOptions{})
	if n := strings.Count(faults, "\n"); n != 250 || !strings.HasSuffix(faults, `DIR/limpet.yaml:250:1: unknown field "key249"`+"\n") {
		t.Errorf("%d lines: %.200s", n, faults)
	}
	if want := "DIR/a.lua:2: avi.http.nothing: unknown, hence nil\n"; warnings != want {
		t.Errorf("warnings beside faults: %q, not %q", warnings, want)
	}
	if _, faults := checked(t, nil, CheckOptions{}); faults != "DIR/limpet.yaml: no such file or directory\n" {
		t.Error(faults)
	}
}

// A group that gives no new client a server was accepted.
func TestCheckRatios(t *testing.T) {
	const file = `pools: [{name: a, servers: [{address: 10.0.0.1}]}, {name: b, servers: [{address: 10.0.0.2}]}]
poolGroups:
  - {name: all, members: [{pool: a, ratio: 0}, {pool: b, ratio: 0}]}
  - {name: some, members: [{pool: a, ratio: 0}, {pool: b}]}
`
	warnings, faults := checked(t, map[string]string{"limpet.yaml": file}, CheckOptions{})
	want := "DIR/limpet.yaml:3:26: poolGroups[0].members: every member has ratio 0: no new client gets a server\n"
	if warnings != "" || faults != want {
		t.Errorf("%s%s, not %s", warnings, faults, want)
	}
}

// Only the servers of named profiles were looked up.
func TestCheckHeaderServers(t *testing.T) {
	const file = `pools: [{name: a, servers: [{address: 10.0.0.1:80}]}]
persistence: {customHeader: {name: X-Server, servers: {a: 10.0.0.1:80, b: 10.0.0.9:80}}}
`
	warnings, faults := checked(t, map[string]string{"limpet.yaml": file}, CheckOptions{})
	want := "DIR/limpet.yaml:2:75: persistence.customHeader.servers[\"b\"]: no pool has the server \"10.0.0.9:80\"\n"
	if warnings != want || faults != "" {
		t.Errorf("%s%s, not %s", warnings, faults, want)
	}
}

func TestCheckResolve(t *testing.T) {
	names := newNameServer(t)
	names.set("app.example.com", "192.0.2.1")
	files := map[string]string{"limpet.yaml": `pools:
  - name: web
    servers: [{address: app.example.com}, {address: 10.0.0.1}, {address: "none.example.com:80"}]
    discoveries: [{finder: {dns: {name: gone.example.com}}}, {finder: {dns: {name: app.example.com}}}]
`}
	if warnings, faults := checked(t, files, CheckOptions{}); warnings != "" || faults != "" || names.asked() != 0 {
		t.Errorf("without Resolve: %s%s%d queries", warnings, faults, names.asked())
	}
	warnings, faults := checked(t, files, CheckOptions{Resolve: true})
	lines := strings.Split(warnings, "\n")
	if len(lines) != 3 || faults != "" ||
		!strings.HasPrefix(lines[0], "DIR/limpet.yaml:3:74: pools[0].servers[2].address: lookup none.example.com") ||
		!strings.HasPrefix(lines[1], "DIR/limpet.yaml:4:41: pools[0].discoveries[0].finder.dns.name: lookup gone.example.com") {
		t.Errorf("%s%s", warnings, faults)
	}
}

// Who may not read keys can check what is left.
func TestCheckNoKeys(t *testing.T) {
	files := map[string]string{"limpet.yaml": `pools: [{name: web, servers: [{address: 10.0.0.1}], persistence: cookie}]
tls: {certificate: a.pem, key: a.key}
transport: {tls: {certificate: a.pem, key: none.key}}
tables: {redis: {addresses: [127.0.0.1:6379], password: {file: none}, tls: {}}}
persistenceProfiles:
  - {name: cookie, httpCookie: {keys: [{id: a, secret: {file: none}}, {id: b, secret: {env: LIMPET_UNSET}}]}}
`}
	certificate(t, files, "a", "a.example")
	delete(files, "a.key")
	want := `DIR/limpet.yaml:2:6: tls: open DIR/a.key: no such file or directory
DIR/limpet.yaml:3:18: transport.tls: open DIR/none.key: no such file or directory
`
	plain := strings.NewReplacer("password: {file: none}", "password: hush", "secret: {file: none}", "secret: c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=",
		"secret: {env: LIMPET_UNSET}", "secret: U2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=")
	withSecrets := map[string]string{"limpet.yaml": plain.Replace(files["limpet.yaml"]), "a.pem": files["a.pem"]}
	if warnings, faults := checked(t, withSecrets, CheckOptions{}); warnings != "" || faults != want {
		t.Errorf("%sfaults (-want +got):\n%s", warnings, cmp.Diff(want, faults))
	}
	if warnings, faults := checked(t, files, CheckOptions{}); warnings != "" || strings.Count(faults, "\n") != 5 {
		t.Errorf("the secrets are there: %s%s", warnings, faults)
	}
	if warnings, faults := checked(t, files, CheckOptions{NoKeys: true}); warnings != "" || faults != "" {
		t.Errorf("%s%s", warnings, faults)
	}
	for name, text := range map[string]string{
		"DIR/limpet.yaml:2:6: tls: certificate DIR/a.pem: no certificate in PEM\n":       "none",
		"DIR/limpet.yaml:2:6: tls: certificate DIR/a.pem: x509: malformed certificate\n": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"DIR/limpet.yaml:2:6: tls: open DIR/a.pem: no such file or directory\n":          "",
	} {
		broken := map[string]string{"limpet.yaml": strings.Replace(files["limpet.yaml"], "transport: {tls: {certificate: a.pem, key: none.key}}\n", "", 1), "a.pem": text}
		if text == "" {
			delete(broken, "a.pem")
		}
		if _, faults := checked(t, broken, CheckOptions{NoKeys: true}); faults != name {
			t.Errorf("%q, not %q", faults, name)
		}
	}
}
