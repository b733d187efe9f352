package filewatch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Files come, change and go, and each is reported when two looks in a row have
// found the same.
func TestSet(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	s := NewSet(10)
	look := func(names []string, want ...string) {
		t.Helper()
		var paths []string
		for _, name := range names {
			paths = append(paths, at(name))
		}
		var got []string
		for _, path := range s.Look(paths) {
			got = append(got, filepath.Base(path))
		}
		if !slices.Equal(got, want) {
			t.Errorf("changed %v, not %v", got, want)
		}
	}
	write(t, at("b"), "1")
	write(t, at("a"), "1")
	two := []string{"b", "a", "b"}
	look(two)
	look(two, "a", "b") // new
	look(two)
	write(t, at("a"), "2")
	look(two)
	write(t, at("a"), "3") // still being written
	look(two)
	look(two, "a")
	write(t, at("a"), "1")
	write(t, at("a"), "3")
	for range 5 {
		look(two)
	}
	must(t, os.Remove(at("a")))
	look(two)
	look(two, "a") // it is not there
	look(two)
	write(t, at("a"), "3") // nor does it matter that it was the same
	look(two)
	look(two, "a")
	write(t, at("b"), "longer than the limit")
	look(two)
	look(two, "b")
	look([]string{"a"})
	look(two)
	look(two, "b") // forgotten meanwhile
}

// With many files, those that stat shows as they were are rarely read again,
// and never all at a time.
func TestSetOfMany(t *testing.T) {
	const files = 10 * rereadFiles
	dir := t.TempDir()
	var paths []string
	for i := range files {
		paths = append(paths, filepath.Join(dir, fmt.Sprint(i)))
		write(t, paths[i], "x")
	}
	s := NewSet(-1)
	s.Look(paths)
	if changed := s.Look(paths); len(changed) != files {
		t.Fatalf("%d files are new", len(changed))
	}
	// A read is seen by what it finds: another content, with size and time as
	// before.
	for _, path := range paths {
		info, err := os.Stat(path)
		must(t, err)
		write(t, path, "y")
		must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	}
	found, most := 0, 0
	for looks := 0; found < files; looks++ {
		if looks > 100 {
			t.Fatalf("%d of %d after %d looks", found, files, looks)
		}
		n := len(s.Look(paths))
		found, most = found+n, max(most, n)
	}
	if most > 3*rereadFiles {
		t.Errorf("%d files were read in one look", most)
	}
}

// Of very many files, the set looks at those in directories that have changed,
// and at the others in turns.
func TestSetOfVeryMany(t *testing.T) {
	const files = manyFiles + 100
	base := t.TempDir()
	var paths []string
	for i := range files {
		dir := filepath.Join(base, fmt.Sprint(i%2))
		must(t, os.MkdirAll(dir, 0o700))
		paths = append(paths, filepath.Join(dir, fmt.Sprint(i)))
		write(t, paths[i], "x")
	}
	long := time.Now().Add(-time.Hour)
	settle := func() {
		t.Helper()
		must(t, os.Chtimes(filepath.Join(base, "0"), long, long))
		must(t, os.Chtimes(filepath.Join(base, "1"), long, long))
	}
	s := NewSet(-1)
	settle()
	s.Look(paths)
	if changed := s.Look(paths); len(changed) != files {
		t.Fatalf("%d files are new", len(changed))
	}
	s.Look(paths)

	// Written in place: about one in turns is seen by each look.
	for _, path := range paths {
		write(t, path, "xy")
	}
	seen, found := 0, 0
	for range turns {
		before := found
		found += len(s.Look(paths))
		for _, f := range s.files {
			if f.last != f.judged {
				seen++
			}
		}
		if found-before > files/turns+1 {
			t.Errorf("%d files at once", found-before)
		}
	}
	found += len(s.Look(paths))
	if found != files || seen > files+turns {
		t.Errorf("%d of %d files, %d seen", found, files, seen)
	}

	// Renamed: at once.
	settle()
	s.Look(paths)
	next := filepath.Join(base, "next")
	write(t, next, "z")
	must(t, os.Rename(next, paths[7]))
	s.Look(paths)
	if changed := s.Look(paths); !slices.Equal(changed, []string{paths[7]}) {
		t.Errorf("changed: %v", changed)
	}
	if len(s.dirs) != 2 || len(s.files) != files {
		t.Errorf("%d directories, %d files", len(s.dirs), len(s.files))
	}
	s.Look(paths[1:2])
	if len(s.dirs) != 1 || len(s.files) != 1 {
		t.Errorf("%d directories, %d files are left", len(s.dirs), len(s.files))
	}
}

func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	d := Dir{Path: path}
	changed := func(want bool) {
		t.Helper()
		if got := d.Changed(); got != want {
			t.Errorf("changed: %t", got)
		}
	}
	changed(true) // it is not there
	must(t, os.Mkdir(path, 0o700))
	changed(true)
	changed(true) // a moment ago
	long := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(path, long, long))
	changed(true)
	changed(false)
	write(t, filepath.Join(path, "f"), "x")
	changed(true)
	must(t, os.Chtimes(path, long, long))
	changed(true)
	write(t, filepath.Join(path, "f"), "y") // in place
	changed(false)
	must(t, os.RemoveAll(path))
	changed(true)
}

func BenchmarkSet(b *testing.B) {
	dir := b.TempDir()
	var paths []string
	for i := range 20_000 {
		paths = append(paths, filepath.Join(dir, fmt.Sprint(i)))
		if err := os.WriteFile(paths[i], make([]byte, 1<<10), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			b.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, long, long); err != nil {
		b.Fatal(err)
	}
	s := NewSet(-1)
	s.Look(paths)
	s.Look(paths)
	for b.Loop() {
		s.Look(paths)
	}
}
