package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version that a release is built as; the linker sets it.
var release string

// versionOptions are those of the command version.
type versionOptions struct{ json bool }

func newVersion() *cobra.Command {
	var o versionOptions
	c := &cobra.Command{
		Use:               "version [flags]",
		Short:             "print the version",
		Long:              "Print the version, the revision that it was built of, the release of Go, and the platform.",
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              running(o.version),
	}
	c.Flags().BoolVar(&o.json, "json", false, "print an object of JSON, which has the time of the revision as well")
	return c
}

// version prints what this binary was built of.
func (o *versionOptions) version(_ context.Context, _ []string, out, errs io.Writer) int {
	info, known := debug.ReadBuildInfo()
	if !known {
		info = &debug.BuildInfo{}
	}
	info.Main.Version = cmp.Or(release, info.Main.Version)
	b := buildInfoOf(info)
	text := []byte(b.text())
	if o.json {
		var err error
		if text, err = json.Marshal(b); err != nil {
			complain(errs, err)
			return failed
		}
		text = append(text, '\n')
	}
	if _, err := out.Write(text); err != nil {
		complain(errs, err)
		return failed
	}
	return ok
}

// A buildInfo is what a binary was built of. What is not known is empty.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified"`       // files differed from the revision
	Date     string `json:"date,omitempty"` // of the revision, as in RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfoOf(info *debug.BuildInfo) buildInfo {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return buildInfo{
		Version:  cmp.Or(info.Main.Version, "(unknown)"),
		Revision: settings["vcs.revision"],
		Modified: settings["vcs.modified"] == "true",
		Date:     settings["vcs.time"],
		Go:       cmp.Or(info.GoVersion, runtime.Version()),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// text returns version, revision, Go and platform in one line.
func (b buildInfo) text() string {
	revision := cmp.Or(b.Revision, "unknown")
	if b.Modified {
		revision += " with changes"
	}
	return fmt.Sprintf("limpet %s, revision %s, %s, %s\n", b.Version, revision, b.Go, b.Platform)
}
