package datascripttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Cases held copies of scripts, and passed while the deployed file had changed.
func TestDeployedScript(t *testing.T) {
	t.Setenv(UpdateVariable, "")
	const steps = "-- request --\nGET / HTTP/1.1\nHost: a\n"
	const stick = "-- HTTP_REQ\navi.vs.log('one')\n\n-- HTTP_RESP --\navi.vs.log(avi.http.status()) --> not of a case\n"
	for _, tt := range []struct {
		name   string
		script map[string]string // files beside the directory of the case
		head   string            // of the case
		want   []string          // parts of the errors; none if it passes
	}{
		{"listing", map[string]string{"stick.lua": stick},
			"-- script: ../stick.lua --\n" + steps + "-- want/log --\n# 1\n[string \"stick\"]:2: one\n[string \"stick\"]:5: 200\n", nil},
		{"line breaks of Windows", map[string]string{"stick.lua": strings.ReplaceAll(stick, "\n", "\r\n")},
			"-- script: ../stick.lua --\n" + steps + "-- want/log --\n# 1\n[string \"stick\"]:2: one\n[string \"stick\"]:5: 200\n", nil},
		{"event", map[string]string{"my stick.lua": "avi.vs.log('here')"},
			"-- script: ../my stick.lua HTTP_RESP --\n" + steps + "-- want/log --\n# 1\n[string \"my stick\"]:1: here\n", nil},
		{"called like an event", map[string]string{"http_resp.lua": "avi.vs.log(avi.http.status())"},
			"-- script: ../http_resp.lua --\n" + steps + "-- want/log --\n# 1\n[string \"http_resp\"]:1: 200\n", nil},
		{"several, in order", map[string]string{"b.lua": "-- HTTP_REQ\navi.vs.log('first')", "a.lua": "-- HTTP_REQ\navi.vs.log('second')"},
			"-- script: ../b.lua --\n-- script: ../a.lua --\n" + steps + "-- want/log --\n# 1\n[string \"b\"]:2: first\n[string \"a\"]:2: second\n", nil},
		{"missing", nil, "A comment.\n\n-- script: ../none.lua --\n" + steps, []string{"x.txtar:3: script: ../none.lua: open ", "none.lua: no such file"}},
		{"content", map[string]string{"stick.lua": stick}, "-- script: ../stick.lua --\nx = 1\n" + steps, []string{"x.txtar:1: script: ../stick.lua: the script is in the file"}},
		{"no file", nil, "-- script: --\n" + steps, []string{"want: script: FILE [EVENT]"}},
		{"unknown event", map[string]string{"stick": stick}, "-- script: ../stick HTTP_NOPE --\n" + steps, []string{"x.txtar:1: ", `unknown event "HTTP_NOPE"`}},
		{"event of another protocol", map[string]string{"stick.lua": stick}, "-- script: ../stick.lua DNS_REQ --\n" + steps, []string{"x.txtar:1: ", "event DNS_REQ is known, but not supported"}},
		{"twice", map[string]string{"stick.lua": stick}, "-- script: ../stick.lua --\n-- script: ../x/../stick.lua --\n" + steps, []string{`a second script "stick"`}},
		{"with others", map[string]string{"stick.lua": stick}, "-- script: ../stick.lua --\n-- http_req.lua --\n" + steps, []string{"some scripts are in files"}},
		{"after others", map[string]string{"stick.lua": stick}, "-- http_req.lua --\n-- script: ../stick.lua --\n" + steps, []string{"some scripts are in files"}},
		{"fails to compile", map[string]string{"stick.lua": "-- HTTP_REQ\nif\n"}, "-- script: ../stick.lua --\n" + steps, []string{"stick.lua:3: unexpected error of script \"stick\""}},
		{"fails to run", map[string]string{"stick.lua": "-- HTTP_REQ\nerror('no')\n"}, "-- script: ../stick.lua --\n" + steps, []string{"stick.lua:2: unexpected error of script \"stick\""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) string {
				t.Helper()
				file := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
				return file
			}
			for name, text := range tt.script {
				write(name, text)
			}
			file := write("testdata/x.txtar", tt.head)
			var rec recorder
			RunFiles(&rec, file, Options{})
			all := strings.Join(rec.errors, "\n")
			if len(tt.want) == 0 && all != "" {
				t.Errorf("errors %s", all)
			}
			for _, want := range tt.want {
				if !strings.Contains(all, want) {
					t.Errorf("errors %q have no word of %q", all, want)
				}
			}
			// Whatever is updated, the scripts are not.
			RunFiles(&recorder{}, file, Options{Update: true})
			for name, text := range tt.script {
				if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != text {
					t.Errorf("%s: %q, %v", name, data, err)
				}
			}
		})
	}
}

// The lines that no case has run are lines of the deployed file.
func TestDeployedCoverage(t *testing.T) {
	dir := t.TempDir()
	script, file := filepath.Join(dir, "stick.lua"), filepath.Join(dir, "x.txtar")
	if err := os.WriteFile(script, []byte("-- HTTP_REQ\nif avi.http.get_query('never') then\n  x = 1\nend\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("-- script: stick.lua --\n-- request --\nGET / HTTP/1.1\nHost: a\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	c := &Coverage{}
	RunFiles(t, file, Options{Coverage: c})
	if want := script + ":3"; !strings.Contains(c.String(), want) {
		t.Errorf("coverage has no word of %s:\n%s", want, c)
	}
}

// The heading of an event of another protocol began a section that no case
// knows, instead of a fault of the listing.
func TestListingOfOtherProtocols(t *testing.T) {
	for _, heading := range []string{"-- TCP_CLIENT_ACCEPT --", "-- VS_DATASCRIPT_EVT_DNS_REQ --", "-- SSL_CLIENT_HELLO Event --"} {
		text := "-- listing.lua --\n-- HTTP_REQ --\nx = 1\n" + heading + "\ny = 1\n-- request --\nGET / HTTP/1.1\nHost: a\n"
		var rec recorder
		runCase(&rec, "x.txtar", []byte(text), Options{})
		if len(rec.errors) != 1 || !strings.HasPrefix(rec.errors[0], "x.txtar:4: ") || !strings.Contains(rec.errors[0], "is known, but not supported") {
			t.Errorf("%s: errors %q", heading, rec.errors)
		}
	}
	var rec recorder
	runCase(&rec, "x.txtar", []byte("-- dns_req.lua --\nx = 1\n-- request --\nGET / HTTP/1.1\nHost: a\n"), Options{})
	if len(rec.errors) != 1 || !strings.Contains(rec.errors[0], "x.txtar:1: dns_req.lua: event DNS_REQ is known, but not supported") {
		t.Errorf("errors %q", rec.errors)
	}
}
