// Package testfiles writes and reads the files of a test.
package testfiles

import (
	"os"
	"path/filepath"
	"testing"
)

// Write writes files, by their paths, into a new directory, which is removed
// when the test ends, and returns it.
func Write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// MustRead returns the contents, by name, of the files that match a pattern;
// see [filepath.Glob]. It panics if there is none, or one cannot be read, since
// it is for variables of packages.
func MustRead(pattern string) map[string]string {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		panic("testfiles: nothing matches " + pattern)
	}
	files := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		files[filepath.Base(path)] = string(text)
	}
	return files
}
