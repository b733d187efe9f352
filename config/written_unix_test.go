//go:build unix

package config

import (
	"os"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
)

// Links do not hide that a file has two uses, also to files that are not there
// yet.
func TestWrittenLinks(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"link to the configuration", "tables: {file: toConfig}", "tables.file"},
		{"log through one", "logs: {output: toConfig}", "logs.output"},
		{"hard link", "logs: {output: hard}", "logs.output"},
		{"through a directory", "tables: {file: other/a.yaml}", "tables.file"},
		{"two links to nothing", "stores: [{name: a, file: toNone}, {name: b, file: other/none}]", "stores[1].file"},
		{"a link and its place", "stores: [{name: a, file: toNone}, {name: b, file: other/toNone}]", "stores[1].file"},
		{"a loop", "tables: {file: loop}", ""},
		{"devices", "logs: {output: /dev/null}\ntables: {file: /dev/null}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := testfiles.Write(t, map[string]string{"a.yaml": ""})
			for name, target := range map[string]string{"toConfig": "a.yaml", "toNone": "none", "other": ".", "loop": "loop"} {
				if err := os.Symlink(target, dir+"/"+name); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Link(dir+"/a.yaml", dir+"/hard"); err != nil {
				t.Fatal(err)
			}
			_, errs := load1(t, dir, c.text+"\n"+hello)
			if (errs == "") != (c.want == "") || !strings.Contains(errs, c.want) || strings.Contains(errs, "\n") {
				t.Errorf("%s\nnot %s", errs, c.want)
			}
		})
	}
}
