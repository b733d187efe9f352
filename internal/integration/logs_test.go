package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/config"
)

// programOf returns the path of a program; it skips the test if there is none,
// and fails under CI.
func programOf(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// TestLogsAreRead has GoAccess and jq read the lines of requests of many kinds,
// hostile ones among them. Lines are shorter than 4 KiB, at which GoAccess 1.7
// splits them.
func TestLogsAreRead(t *testing.T) {
	goaccess, jq := programOf(t, "goaccess"), programOf(t, "jq")
	dir := t.TempDir()
	var services strings.Builder
	formats := []string{"combined", "vcombined", "json", "avi"}
	for _, format := range formats {
		fmt.Fprintf(&services, "  - {name: %s, hosts: [%[1]s], accessLog: {output: %[2]s, format: %[1]s, fields: [query, userAgent, referer]}, scripts: [answer]}\n",
			format, filepath.Join(dir, format+".log"))
	}
	text := "listeners: [{name: here, address: ':0'}]\nscripts: [{name: answer, file: answer.lua}]\nservices:\n" + services.String()
	script := `-- HTTP_REQ
avi.vs.log("a \"line\"\n")
avi.http.set_userid(avi.http.get_header("x-user") or "")
avi.http.response(avi.http.get_path() == "/missing" and 404 or 200, {["content-type"] = "text/plain"}, "hello")
`
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("answer.lua", script)
	f, err := config.Load(t.Context(), write("limpet.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := f.Build(config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	requests := 0
	for _, path := range []string{"/", "/a%20b", "/missing", "/%22%5c%0a", "/%ff%00", "/\"\\", "/é", "/" + strings.Repeat("long", 500)} {
		for _, text := range []string{"", "Mozilla/5.0 (X11; Linux x86_64)", "\"", "\\", "\\\"", "\xff\xfe", "é\u2028", "%s%n", "{\"a\":1}", "tab\there"} {
			for _, user := range []string{"", "alice", "a b", "\"]"} {
				requests++
				for _, format := range formats {
					vs, ok := rt.Service(format)
					if !ok {
						t.Fatalf("no service %s", format)
					}
					r := httptest.NewRequest(http.MethodGet, "/", nil)
					r.RemoteAddr, r.Host = fmt.Sprintf("192.0.2.%d:%d", requests%200, 1000+requests), format
					unescaped, err := url.PathUnescape(path)
					if err != nil {
						t.Fatal(err)
					}
					r.URL = &url.URL{Path: unescaped, RawQuery: "q=" + url.QueryEscape(text)}
					for name, value := range map[string]string{"User-Agent": text, "Referer": text, "X-User": user} {
						if value != "" {
							r.Header.Set(name, value)
						}
					}
					vs.ServeHTTP(httptest.NewRecorder(), r)
				}
			}
		}
	}
	if err := rt.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}

	run := func(program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %q: %v\n%s%s", program, args, err, out.String(), errs.String())
		}
		return out.String()
	}
	for format, flags := range map[string][]string{
		"combined":  {"--log-format=COMBINED"},
		"vcombined": {"--log-format=VCOMBINED"},
		"json": {
			`--log-format={"time":"%dT%t.%^","client":"%h","method":"%m","host":"%v","uri":"%U","proto":"%H","status":"%s","bytes":"%b","duration_us":"%D","user_agent":"%u","referer":"%R"}`,
			"--date-format=%Y-%m-%d", "--time-format=%T",
		},
	} {
		report := filepath.Join(dir, format+".report.json")
		run(goaccess, append(flags, filepath.Join(dir, format+".log"), "--no-global-config", "--no-progress", "-o", report)...)
		data, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			General struct {
				Total  int `json:"total_requests"`
				Valid  int `json:"valid_requests"`
				Failed int `json:"failed_requests"`
			}
		}
		if err := json.Unmarshal(data, &read); err != nil || read.General.Failed != 0 || read.General.Valid != requests || read.General.Total != requests {
			t.Errorf("%s: GoAccess has read %+v of %d requests, %v", format, read.General, requests, err)
		}
	}
	for _, format := range []string{"json", "avi"} {
		counted := run(jq, "-s", "-e", "map(select(type == \"object\")) | length", filepath.Join(dir, format+".log"))
		if strings.TrimSpace(counted) != fmt.Sprint(requests) {
			t.Errorf("%s: jq has read %s objects, not %d", format, counted, requests)
		}
	}
	if got := run(jq, "-r", "-s", `map(select(.uri | startswith("/missing")) | .status) | unique | tostring`, filepath.Join(dir, "json.log")); strings.TrimSpace(got) != "[404]" {
		t.Errorf("jq: %s", got)
	}
}
