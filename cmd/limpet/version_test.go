package main

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	status, out, errs := invoke(t, "/nowhere", "version")
	if platform := runtime.GOOS + "/" + runtime.GOARCH + "\n"; status != ok || errs != "" || !strings.HasPrefix(out, "limpet ") || !strings.HasSuffix(out, platform) {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	if status, _, _ := invoke(t, "/nowhere", "version", "x"); status != misuse {
		t.Errorf("status %d with an argument", status)
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	for want, info := range map[string]*debug.BuildInfo{
		"limpet v1.2.3, revision abc, go1.26.1, " + platform + "\n": {
			GoVersion: "go1.26.1", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}},
		},
		"limpet (devel), revision abc with changes, go1.26.1, " + platform + "\n": {
			GoVersion: "go1.26.1", Main: debug.Module{Version: "(devel)"},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
		},
		"limpet (unknown), revision unknown, " + runtime.Version() + ", " + platform + "\n": {},
	} {
		if got := versionText(info); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
