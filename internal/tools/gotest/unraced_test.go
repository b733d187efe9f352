package main

import (
	"slices"
	"testing"
)

func TestUnraced(t *testing.T) {
	const differ = "package m\n"
	on, off := "//go:build race\n\n"+differ+"const raceEnabled = true\n", "//go:build !race\n\n"+differ+"const raceEnabled = false\n"
	head := differ + "import \"testing\"\n"
	for _, tc := range []struct {
		name, text string
		differs    bool
	}{
		{"nothing", "func TestA(*testing.T) {}", false},
		{"in the test", "func TestA(*testing.T) { _ = raceEnabled }", true},
		{"in a function", "func size() bool { return raceEnabled }\nfunc TestA(*testing.T) { size() }", true},
		{"in a function of a function", "func size() bool { return raceEnabled }\nfunc both() { size() }\nfunc TestA(*testing.T) { both() }", true},
		{"in a function that is not used", "func Size() bool { return raceEnabled }\nfunc TestA(*testing.T) {}", false},
		{"in a method", "type s struct{}\nfunc (s) size() bool { return raceEnabled }\nfunc TestA(*testing.T) { s{}.size() }", true},
		{"in a variable", "var size = raceEnabled\nfunc TestA(*testing.T) { _ = size }", true},
		{"in init", "var size bool\nfunc init() { size = raceEnabled }\nfunc TestA(*testing.T) { _ = size }", true},
		{"in TestMain", "func TestMain(m *testing.M) { _ = raceEnabled; m.Run() }", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			module(t, map[string]string{
				"a_test.go": head + tc.text + "\n", "b_test.go": head + "func TestAlways(*testing.T) { _ = raceEnabled }\n",
				"on_test.go": on, "off_test.go": off, "same/a_test.go": head + "func TestSame(*testing.T) {}\n",
			})
			packages, tests, err := unraced("./...")
			want := "^(TestAlways)$"
			if tc.differs {
				want = "^(TestA|TestAlways)$"
			}
			if err != nil || tests != want || !slices.Equal(packages, []string{"example.com/m"}) {
				t.Errorf("%q in %q, %v; want %q", tests, packages, err, want)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		module(t, map[string]string{"a_test.go": head + "func TestA(*testing.T) {}\n"})
		if _, _, err := unraced("./..."); err == nil {
			t.Error("no error")
		}
	})
	t.Run("file of an init function", func(t *testing.T) {
		module(t, map[string]string{
			"a_test.go":    head + "var raceOn bool\nfunc TestA(*testing.T) { _ = raceOn }\n",
			"race_test.go": "//go:build race\n\n" + differ + "func init() { raceOn = true }\n",
		})
		if _, tests, err := unraced("./..."); err != nil || tests != "^(TestA)$" {
			t.Errorf("%q, %v", tests, err)
		}
	})
}
