package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// fullDisk is an output that cannot be written.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// exitCases have command lines for each row of the table of exit statuses.
// Those of serve with status 3 are in serve_test.go and upgrade_test.go.
var exitCases = map[string][]string{
	"check 0":   {"check DIR/good.yaml", "check DIR/doubtful.yaml"},
	"check 1":   {"check DIR/bad.yaml", "check --strict DIR/doubtful.yaml", "check DIR/none.yaml"},
	"check 2":   {"check DIR/good.txt", "check", "check --nope DIR/good.yaml"},
	"explain 0": {"explain DIR/good.yaml http://a/"},
	"explain 1": {"explain DIR/bad.yaml http://a/"},
	"explain 2": {"explain DIR/good.yaml /", "explain --service x DIR/good.yaml http://a/", "explain --listener x DIR/good.yaml http://a/"},
	"help 0":    {"help", "help check", "help pools.name"},
	"help 2":    {"help nope", "help a b"},
	"serve 1":   {"serve DIR/bad.yaml", "serve DIR/none.yaml"},
	"serve 2":   {"serve", "serve --nope DIR/good.yaml"},
	"serve 3":   nil,
	"test 0":    {"test DIR/good.txtar"},
	"test 1":    {"test DIR/none.txtar", "test DIR/bad.txtar"},
	"test 2":    {"test"},

	"completion 0": {"completion bash"},
	"completion 2": {"completion tcsh"},
	"schema 0":     {"schema"},
	"schema 2":     {"schema x"},
	"version 0":    {"version"},
	"version 2":    {"version --nope"},
}

// Each row of the table in the reference is true, and each status has a row.
func TestExitStatuses(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/command.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `?([a-z]+)`? \\| ([0-9]) \\|").FindAllStringSubmatch(string(text), -1) {
		rows[row[1]+" "+row[2]] = true
		if key := row[1] + " " + row[2]; row[1] != "all" && exitCases[key] == nil && key != "serve 3" {
			t.Errorf("no case for the row %s", key)
		}
	}
	dir := testfiles.Write(t, map[string]string{
		"good.yaml": "httpSecurity: [{name: a, action: close}]\n", "good.txt": "", "bad.yaml": "nope: 1\n",
		"doubtful.yaml": "pools: [{name: a, servers: [{address: 192.0.2.1}]}]\npersistence: httpCookie\n",
		"good.txtar":    "-- http_req.lua --\navi.vs.log('a')\n-- request --\nGET / HTTP/1.1\nHost: a\n", "bad.txtar": "-- http_req.lua --\nx =\n",
	})
	for key, lines := range exitCases {
		command, status, _ := strings.Cut(key, " ")
		if !rows[key] && !rows["all "+status] {
			t.Errorf("no row for %s", key)
		}
		for _, line := range lines {
			got, out, errs := invoke(t, dir, strings.Fields(line)...)
			if fmt.Sprint(got) != status {
				t.Errorf("%s: status %d, want %s\n%s%s", line, got, status, out, errs)
			}
			if status == "0" && command != "check" {
				var log strings.Builder
				if got := run(t.Context(), strings.Fields(strings.ReplaceAll(line, "DIR", dir)), fullDisk{}, &log); got != failed || !strings.Contains(log.String(), "no space left") {
					t.Errorf("%s on a full disk: status %d, %s", line, got, log.String())
				}
			}
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if got := run(stopped, []string{"serve", dir + "/good.yaml"}, &strings.Builder{}, &strings.Builder{}); got != ok {
		t.Errorf("serve that is stopped: status %d", got)
	}
}
