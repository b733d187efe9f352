package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// What the process writes is nothing that the configuration reads, and nothing
// that something else in it writes, however the names are spelled. Such a file
// was moved aside as damaged tables and replaced, or led to endless reloads.
func TestWrittenFiles(t *testing.T) {
	const reads, taken = "the configuration reads this file", "other tables have this file"
	more := map[string]string{
		"a.lua": remember, "deep/a.yaml": "stringGroups: [{name: extra, list: [a]}]\n", "users": "u:$2y$05$abcdefghijklmnopqrstuuuJmlL/n0h3P.hUjkG1pLXZ0nEWTk2q2\n",
		"list": "10.0.0.1\n", "words": "a\n", "secret": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", "certs/b.pem": "",
		"geo": placesTable, "saved.bad": "a\n", "saved.tmp": "a\n",
	}
	certificate(t, more, "a", "a.example.com")
	more["certs/b.pem"] = more["a.pem"] + more["a.key"]
	const rest = `
include: ["deep/*.yaml"]
scripts: [{file: a.lua}]
ipGroups: [{name: g, file: list}]
stringGroups: [{name: s, file: words}]
persistence: {httpCookie: {keys: [{id: a, secret: {file: secret}}]}}
tls: {certificate: a.pem, key: a.key, directory: certs}
geo: [{table: geo}]
pools: [{name: web, servers: [{address: 10.0.0.1:80}]}]
`
	for _, c := range []struct{ name, text, want string }{
		{"the configuration", "tables: {file: a.yaml}", `a.yaml:1:16: tables.file: "a.yaml": ` + reads},
		{"another spelling", "tables: {file: deep/../a.yaml}", `a.yaml:1:16: tables.file: "deep/../a.yaml": ` + reads},
		{"what it includes", "tables: {file: deep/a.yaml}", `"deep/a.yaml": ` + reads},
		{"what it would include", "tables: {file: deep/tables.yaml}", `"deep/tables.yaml": ` + reads},
		{"beside what it would not", "tables: {file: deep/tables.snap}", ""},
		{"a script", "tables: {file: a.lua}", reads},
		{"an IP group", "tables: {file: list}", reads},
		{"a string group", "tables: {file: words}", reads},
		{"a secret", "tables: {file: secret}", reads},
		{"a certificate", "tables: {file: a.pem}", reads},
		{"a key", "tables: {file: ./a.key}", reads},
		{"a certificate in a directory", "tables: {file: certs/b.pem}", reads},
		{"what would be one", "tables: {file: certs/c.crt}", reads},
		{"what would not", "tables: {file: certs/c.snap}", ""},
		{"geo data", "tables: {file: geo}", reads},
		{"damaged tables", "tables: {file: saved}\nstringGroups: [{name: t, file: saved.bad}]", `a.yaml:1:16: tables.file: tables also write saved.bad, which the configuration reads`},
		{"tables under way", "tables: {file: saved}\nstringGroups: [{name: t, file: saved.tmp}]", "tables also write saved.tmp, which the configuration reads"},
		{"a log", "logs: {output: a.yaml}", `a.yaml:1:16: logs.output: "a.yaml": ` + reads},
		{"a log of records", "accessLog: {output: a.lua}", `a.yaml:1:21: accessLog.output: "a.lua": ` + reads},
		{"no log of records", "accessLog: {output: a.lua, format: off}", ""},
		{"logs together", "logs: {output: l}\naccessLog: {output: ./l}", ""},
		{"a log and tables", "tables: {file: a}\nlogs: {output: a}", `a.yaml:2:16: logs.output: "a": tables.file has this file already`},
		{"a log and damaged tables", "tables: {file: a}\nlogs: {output: a.bad}", `a.yaml:2:16: logs.output: "a.bad": the tables of tables.file write this file, too`},
		{"tables and tables", "stores: [{name: a, file: b}, {name: b, file: deep/../b}]", `a.yaml:1:46: stores[1].file: "deep/../b": ` + taken},
		{"tables and damaged tables", "stores: [{name: a, file: b.bad}, {name: b, file: b}]", `stores[1].file: "b": tables also write b.bad, which is that of stores[0].file`},
		{"a socket and tables", "tables: {file: DIR/s}\nlisten: 'unix:DIR/s'", `listen: "unix:DIR/s": tables.file has this file already`},
		{"a socket and a script", "listen: 'unix:DIR/a.lua'", reads},
		{"users", "tables: {file: users}\nauthentication: {basic: {file: users, realm: r}}", `a.yaml:1:16: tables.file: "users": ` + reads},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testfiles.Write(t, more)
			text := strings.ReplaceAll(c.text, "DIR", dir)
			for _, line := range strings.SplitAfter(rest, "\n") {
				if key, value, _ := strings.Cut(line, ": ["); strings.Contains(text, key+": [") && value != "" {
					text = strings.Replace(text, key+": [", key+": ["+strings.TrimSuffix(value, "]\n")+", ", 1)
				} else {
					text += line
				}
			}
			_, errs := load1(t, dir, text)
			if c.want == "" && errs != "" || c.want != "" && (!strings.Contains(errs, c.want) || strings.Contains(errs, "\n")) {
				t.Errorf("%s\nnot %s", errs, c.want)
			}
		})
	}
}

// load1 loads a text as the file a.yaml of a directory.
func load1(t *testing.T, dir, text string) (*File, string) {
	t.Helper()
	path := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(t.Context(), path)
	if err != nil {
		return nil, strings.ReplaceAll(err.Error(), dir, "DIR")
	}
	return f, ""
}

// A configuration that is no file reads files of users and keys from the
// system, and writes there.
func TestWrittenFilesOfParse(t *testing.T) {
	dir := testfiles.Write(t, map[string]string{"users": "u:x\n"})
	text := "tables: {file: DIR/users}\nauthentication: {basic: {file: DIR/users, realm: r}}\nlogs: {output: DIR/a.lua}\nscripts: [{file: a.lua}]\n"
	_, err := Parse(t.Context(), "text", []byte(strings.ReplaceAll(text, "DIR", dir)), fstest.MapFS{"a.lua": {Data: []byte(remember)}})
	if err == nil || !strings.Contains(err.Error(), "text:1:16: tables.file: ") || strings.Contains(err.Error(), "logs") {
		t.Error(err)
	}
}

// A check that reads no keys knows their names.
func TestWrittenFilesWithoutKeys(t *testing.T) {
	files := map[string]string{"password": "x"}
	certificate(t, files, "a", "a.example.com")
	files["limpet.yaml"] = `stores:
  - {name: a, file: a.key}
  - {name: b, file: password}
  - {name: c, redis: {addresses: ["127.0.0.1:1"], password: {file: password}, tls: {certificate: a.pem, key: ./a.key}}}
tls: {certificate: a.pem, key: a.key}
` + hello
	dir := testfiles.Write(t, files)
	_, err := Check(t.Context(), filepath.Join(dir, "limpet.yaml"), CheckOptions{NoKeys: true})
	if err == nil || strings.Count(err.Error(), "the configuration reads this file") != 2 {
		t.Error(err)
	}
}

// A reload cannot give the file of tables to other ones, or to a log, while
// there is somebody to whom the entries in it belong: stores that exchanged
// their files had the entries of both. It changes nothing then.
func TestReloadExchangesFiles(t *testing.T) {
	files := map[string]string{"a.lua": remember}
	text := func(stores string) string {
		return "scripts: [{file: a.lua}]\nstores: [" + stores + `]
services:
  - {name: a, hosts: [a], tables: {store: a}, scripts: [a]}
  - {name: b, hosts: [b], tables: {store: b}, scripts: [a]}
`
	}
	files["limpet.yaml"] = text("{name: a, file: 1}, {name: b, file: 2}")
	h := open(t, files, Options{})
	first := h.get("listen", "a", "/a") + h.get("listen", "b", "/b")
	for _, c := range []struct{ name, text, want string }{
		{"exchange", text("{name: a, file: ./2}, {name: b, file: ./1}"), "2:26: stores[0].file: \"./2\": until now, this is the file of the tables at stores[1]: only a restart"},
		{"move", text("{name: a}, {name: b, file: 1}"), "stores[1].file: \"1\": until now, this is the file of the tables at stores[0]"},
		{"chain", text("{name: a, file: 2}, {name: b, file: 3}"), "stores[0].file: \"2\": until now"},
		{"another store", text("{name: a}, {name: b, file: 2}, {name: c, file: 1}"), "stores[2].file: \"1\": until now"},
		{"log", text("{name: a, file: 1}, {name: b}") + "logs: {output: 2}\n", "logs.output: \"2\": until now"},
	} {
		if _, err := h.rewrite(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nnot %s", c.name, err, c.want)
		}
	}
	for _, c := range []struct{ name, text string }{
		{"other files", text("{name: a, file: 3}, {name: b, file: 4}")},
		{"no files", text("{name: a}, {name: b}")},
		{"again", text("{name: a, file: 1}, {name: b, file: 2}")},
		{"other names", strings.NewReplacer("store: a", "store: c", "store: b", "store: d").Replace(text("{name: c, file: 1}, {name: d, file: ./2, maxEntries: 100}"))},
		{"names back, in services", strings.NewReplacer("store: a", "file: 1", "store: b", "file: 2").Replace(text(""))},
	} {
		if _, err := h.rewrite(strings.Replace(c.text, "stores: []\n", "", 1)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := h.get("listen", "a", "/x") + h.get("listen", "b", "/y"); got != "200 /a200 /b" {
			t.Errorf("%s: %s after %s", c.name, got, first)
		}
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Each file has what its tables had, and nothing of others.
	again := open(t, map[string]string{"a.lua": remember, "limpet.yaml": text("{name: a, file: " + h.dir + "/1}, {name: b, file: " + h.dir + "/2}")}, Options{})
	if got := again.get("listen", "a", "/x") + again.get("listen", "b", "/y"); got != "200 /a200 /b" {
		t.Errorf("after a restart: %s", got)
	}
	names, err := os.ReadDir(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if strings.HasSuffix(e.Name(), ".bad") {
			t.Errorf("%s", e.Name())
		}
	}
}
