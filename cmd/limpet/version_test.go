package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVersion(t *testing.T) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	status, out, errs := invoke(t, "/nowhere", "version")
	if status != ok || errs != "" || !strings.HasPrefix(out, "limpet ") || !strings.HasSuffix(out, platform+"\n") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	status, out, errs = invoke(t, "/nowhere", "version", "--json")
	var info buildInfo
	if err := json.Unmarshal([]byte(out), &info); err != nil || status != ok || errs != "" || info.Platform != platform || info.Go != runtime.Version() || info.Version == "" {
		t.Errorf("status %d, %v, %q, %q", status, err, out, errs)
	}
	settings := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-11-30T17:00:00Z"}, {Key: "vcs.modified", Value: "true"},
	}
	for _, c := range []struct {
		info       *debug.BuildInfo
		text, json string
	}{
		{
			&debug.BuildInfo{GoVersion: "go1.26.1", Main: debug.Module{Version: "v1.2.3"}, Settings: settings[:2]},
			"limpet v1.2.3, revision abc, go1.26.1, " + platform + "\n",
			`{"version":"v1.2.3","revision":"abc","modified":false,"date":"2026-11-30T17:00:00Z","go":"go1.26.1","platform":"` + platform + `"}`,
		},
		{
			&debug.BuildInfo{GoVersion: "go1.26.1", Main: debug.Module{Version: "(devel)"}, Settings: settings},
			"limpet (devel), revision abc with changes, go1.26.1, " + platform + "\n",
			`{"version":"(devel)","revision":"abc","modified":true,"date":"2026-11-30T17:00:00Z","go":"go1.26.1","platform":"` + platform + `"}`,
		},
		{
			&debug.BuildInfo{},
			"limpet (unknown), revision unknown, " + runtime.Version() + ", " + platform + "\n",
			`{"version":"(unknown)","modified":false,"go":"` + runtime.Version() + `","platform":"` + platform + `"}`,
		},
	} {
		b := buildInfoOf(c.info)
		got, err := json.Marshal(b)
		if err != nil || b.text() != c.text || string(got) != c.json {
			t.Errorf("%v\n%s%s", err, cmp.Diff(c.text, b.text()), cmp.Diff(c.json, string(got)))
		}
	}
}

// limpet version had better end at once: no package does much before main. What
// it allocates is the same on a busy machine.
func TestInit(t *testing.T) {
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace strings.Builder
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	packages := regexp.MustCompile(`init (\S+) @.*, (\d+) bytes, (\d+) allocs`).FindAllStringSubmatch(trace.String(), -1)
	if len(packages) < 10 {
		t.Fatalf("the trace has %d packages:\n%s", len(packages), &trace)
	}
	for _, p := range packages {
		bytes, _ := strconv.Atoi(p[2])
		allocs, _ := strconv.Atoi(p[3])
		if bytes > 1<<20 || allocs > 5_000 {
			t.Errorf("%s allocates %d bytes, %d times, before main", p[1], bytes, allocs)
		}
	}
}

// Other programs print their versions so.
func TestVersionOption(t *testing.T) {
	_, want, _ := invoke(t, "/nowhere", "version")
	for _, option := range []string{"--version", "-v"} {
		if status, out, errs := invoke(t, "/nowhere", option); status != ok || out != want || errs != "" {
			t.Errorf("%s: %d, %q, not %q: %s", option, status, out, want, errs)
		}
	}
}
