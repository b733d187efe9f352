package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a module of the given files to a new directory and makes that
// the working directory.
func module(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.com/m\n\ngo 1.25.0\n"
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

const (
	passing = "package m\nimport \"testing\"\nfunc TestPass(t *testing.T) { t.Log(\"said in passing\"); t.Run(\"sub\", func(*testing.T) {}) }\n"
	failing = "package m\nimport \"testing\"\nfunc TestFail(t *testing.T) { t.Fatal(\"the fault\") }\n"
	panics  = "package m\nimport \"testing\"\nfunc TestPanic(t *testing.T) { println(\"last words\"); panic(\"the panic\") }\n"
	skips   = "package m\nimport \"testing\"\nfunc TestAllocs(t *testing.T) { t.Skip(\"the reason\") }\n"
	empty   = "package empty\n"
)

func TestGoTest(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		skips string
		ok    bool
		want  []string // parts of the report; those after "not " must be absent
	}{
		{"passes", map[string]string{"a_test.go": passing}, "", true,
			[]string{"ok  \texample.com/m", "race: 2 passed, 0 failed, 0 skipped\n", "not said in passing"}},
		{"fails", map[string]string{"a_test.go": passing, "b_test.go": failing}, "", false,
			[]string{"the fault", "FAIL\texample.com/m", "race: 2 passed, 1 failed, 0 skipped\n", "not said in passing"}},
		{"panics", map[string]string{"a_test.go": panics}, "", false,
			[]string{"last words", "the panic"}},
		{"does not compile", map[string]string{"a_test.go": "package m\nvar x int = \"\"\n"}, "", false,
			[]string{"a_test.go:2", "race: 0 passed, 0 failed, 0 skipped\n"}},
		{"skips", map[string]string{"a_test.go": passing, "b_test.go": skips}, "", false,
			[]string{"skipped, though it should run: example.com/m TestAllocs", "the reason", "race: 2 passed, 0 failed, 1 skipped\n"}},
		{"skips as expected", map[string]string{"a_test.go": passing, "b_test.go": skips}, "# why\n\nrace * .*Alloc.* counts differ", true,
			[]string{"race: 2 passed, 0 failed, 1 skipped\n", "not though it should run"}},
		{"skips in another run", map[string]string{"a_test.go": passing, "b_test.go": skips}, "plain * .*Alloc.* counts differ", false,
			[]string{"though it should run"}},
		{"skips in another package", map[string]string{"a_test.go": passing, "b_test.go": skips}, "race n .*Alloc.* counts differ", false,
			[]string{"though it should run"}},
		{"skips another test", map[string]string{"a_test.go": passing, "b_test.go": skips}, "race m Alloc counts differ", false,
			[]string{"though it should run"}},
		{"package without tests", map[string]string{"a_test.go": passing, "empty/empty.go": empty}, "* * .* any test", false,
			[]string{"skipped, though it should run: example.com/m/empty has no tests"}},
		{"package without tests as expected", map[string]string{"a_test.go": passing, "empty/empty.go": empty}, "* empty - it is run", true,
			[]string{"race: 2 passed, 0 failed, 0 skipped\n"}},
		{"packages without tests below", map[string]string{"a_test.go": passing, "cmd/empty/empty.go": empty}, "* cmd/... - they are run", true,
			[]string{"race: 2 passed, 0 failed, 0 skipped\n"}},
		{"packages without tests elsewhere", map[string]string{"a_test.go": passing, "cmds/empty/empty.go": empty}, "* cmd/... - they are run", false,
			[]string{"example.com/m/cmds/empty has no tests"}},
		{"no tests at all", map[string]string{"empty/empty.go": empty}, "* empty - it is run", false,
			[]string{"race: 0 passed, 0 failed, 0 skipped\n"}},
		{"skip without a reason", map[string]string{"a_test.go": passing}, "race * .*", false, nil},
		{"bad expression", map[string]string{"a_test.go": passing}, "race * ( why", false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			module(t, tc.files)
			file := ""
			if tc.skips != "" {
				file = "skips"
				if err := os.WriteFile(file, []byte(tc.skips+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var report bytes.Buffer
			err := test("race", file, []string{"./..."}, &report)
			if (err == nil) != tc.ok {
				t.Errorf("error %v", err)
			}
			for _, part := range tc.want {
				part, absent := strings.CutPrefix(part, "not ")
				if strings.Contains(report.String(), part) == absent {
					t.Errorf("report has %q: %t\n%s", part, !absent, &report)
				}
			}
		})
	}
}

func TestMissingSkipsFile(t *testing.T) {
	module(t, map[string]string{"a_test.go": passing})
	if err := test("race", "missing", []string{"./..."}, &bytes.Buffer{}); err == nil {
		t.Error("a list of skips that does not exist was read")
	}
}
