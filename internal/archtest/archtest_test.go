package archtest

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the lists of exported names in the directory surface")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checks are all checks but that of the exported surface, which has a file to
// compare with.
var checks = []struct {
	name string
	run  func(*Module) []Finding
}{
	{"imports", CheckImports},
	{"doc comments", CheckDocs},
	{"sleep", CheckSleep},
	{"openers", CheckOpeners},
	{"width", CheckWidth},
}

// thisModule is the module this package is part of.
var thisModule = sync.OnceValues(func() (*Module, error) { return Load("../..") })

func TestModule(t *testing.T) {
	m, err := thisModule()
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			for _, finding := range check.run(m) {
				t.Error(finding)
			}
		})
	}
}

// TestSurface compares the exported names of each public package with the file
// of its path in the directory surface. With -update it writes the files.
func TestSurface(t *testing.T) {
	m, err := thisModule()
	if err != nil {
		t.Fatal(err)
	}
	api := filepath.Join(m.Dir, "internal", "archtest", "surface")
	want := make(map[string]bool) // files
	for _, p := range m.Packages {
		if !p.IsPublic() || len(p.Files) == 0 {
			continue
		}
		file := filepath.Join(api, filepath.FromSlash(surfaceFile(p)))
		want[file] = true
		if p.TypeError != nil {
			t.Errorf("%s does not compile: %v", p.Path, p.TypeError)
			continue
		}
		now := Surface(p)
		if *update {
			writeLines(t, file, now)
			continue
		}
		if diff := cmp.Diff(readLines(t, file), now); diff != "" {
			t.Errorf("the exported names of %q changed (- as listed, + now); if that is meant, run make surface\n%s", p.Path, diff)
		}
	}

	err = filepath.WalkDir(api, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == api {
			return fs.SkipAll
		}
		if err != nil || d.IsDir() || want[path] {
			return err
		}
		if *update {
			return os.Remove(path)
		}
		t.Errorf("%s lists the names of a package that does not exist; if it was removed, run make surface", path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// surfaceFile returns the path of a package's list in the directory surface.
func surfaceFile(p *Package) string {
	if p.Path == "" {
		return p.Name + ".txt"
	}
	return p.Path + ".txt"
}

func readLines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func writeLines(t *testing.T, file string, lines []string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	text := ""
	if len(lines) > 0 {
		text = strings.Join(lines, "\n") + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
