//go:build unix

package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// Check refuses logs that could not be opened, warns of tables that could not
// be saved, and makes no files. On another machine nobody knows.
func TestCheckOutputs(t *testing.T) {
	names := func(dir string) (all []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	for text, want := range map[string]string{
		"logs: {output: new.log}":                      "",
		"logs: {output: there.log}":                    "",
		"logs: {output: pipe}":                         "",
		"logs: {output: link}":                         "",
		"logs: {output: none/p.log}":                   "logs.output: open DIR/none/p.log: no such file or directory",
		"logs: {output: there.log/p.log}":              "logs.output: open DIR/there.log/p.log: not a directory",
		"logs: {output: .}":                            `logs.output: ".": open DIR: is a directory`,
		"logs: {output: lost}":                         "logs.output: open DIR/lost: no such file or directory",
		"accessLog: {output: none/a.log}":              "accessLog.output: open DIR/none/a.log: no such file or directory",
		"accessLog: {output: none/a.log, format: off}": "",
		"tables: {file: new.tables}":                   "",
		"tables: {file: none/tables}":                  "warning: tables.file: the tables cannot be saved: open DIR/none/tables: no such file or directory",
	} {
		dir := testfiles.Write(t, map[string]string{"limpet.yaml": teapot + text + "\n", "there.log": "kept"})
		if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, target := range map[string]string{"link": "linked.log", "lost": "none/linked.log"} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		before := names(dir)
		for _, o := range []CheckOptions{{}, {NoKeys: true}} {
			warnings, err := Check(t.Context(), filepath.Join(dir, "limpet.yaml"), o)
			got := ""
			for _, w := range warnings {
				got += "warning: " + w.Error()
			}
			if err != nil {
				got += err.Error()
			}
			got = strings.ReplaceAll(got, dir, "DIR")
			kind, path, _ := strings.Cut(want, "tables.file")
			if path == "" {
				kind, path = "", want
			} else {
				path = "tables.file" + path
			}
			if o.NoKeys {
				kind, path = "", ""
			}
			if !strings.HasPrefix(got, kind) || !strings.HasSuffix(got, path) || path == "" && got != "" {
				t.Errorf("%s: %+v: %s, not %s", text, o, got, want)
			}
		}
		if after := names(dir); !slices.Equal(before, after) {
			t.Errorf("%s: there are %v, not %v", text, after, before)
		}
	}
}
