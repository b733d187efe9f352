package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// release is the version that a release is built as; the linker sets it.
var release string

// version prints what this binary was built of.
func version(_ context.Context, args []string, out, errs io.Writer) int {
	f := flags("version", errs)
	if status, done := parse(f, args, 0, 0); done {
		return status
	}
	if f.NArg() > 0 {
		f.Usage()
		return misuse
	}
	info, known := debug.ReadBuildInfo()
	if !known {
		info = &debug.BuildInfo{}
	}
	info.Main.Version = cmp.Or(release, info.Main.Version)
	fmt.Fprint(out, versionText(info))
	return ok
}

// versionText names version, revision, Go and platform in one line.
func versionText(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := cmp.Or(settings["vcs.revision"], "unknown")
	if settings["vcs.modified"] == "true" {
		revision += " with changes"
	}
	return fmt.Sprintf("limpet %s, revision %s, %s, %s/%s\n",
		cmp.Or(info.Main.Version, "(unknown)"), revision, cmp.Or(info.GoVersion, runtime.Version()), runtime.GOOS, runtime.GOARCH)
}
