package logfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantFile reports a file that has another content.
func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s has %q, %v; want %q", filepath.Base(path), got, err, want)
	}
}

func TestAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	for range 2 {
		f, err := Open(path)
		must(t, err)
		_, err = f.Write([]byte("line\n"))
		must(t, err)
		must(t, f.Close())
		must(t, f.Close())
		must(t, f.Reopen())
		if f.file != nil {
			t.Error("open after Close")
		}
		_, err = f.Write([]byte("late\n")) // opens it
		must(t, err)
		must(t, f.Close())
	}
	wantFile(t, path, "line\nlate\nline\nlate\n")
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&^Mode != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestCannotOpen(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none", "a.log")} {
		_, err := Open(path)
		if e := (*fs.PathError)(nil); !errors.As(err, &e) || e.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// After Reopen, and a second after the name shows another file or none, lines
// go to a new file.
func TestFollowsName(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("open files cannot be renamed")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	f, err := Open(path)
	must(t, err)
	defer f.Close()
	now := time.Now()
	write := func(after time.Duration, text string) {
		t.Helper()
		_, err := f.write([]byte(text), now.Add(after))
		must(t, err)
	}
	write(0, "1\n")
	must(t, os.Rename(path, path+".1"))
	write(checkEvery/2, "2\n")
	must(t, f.Reopen())
	write(checkEvery/2, "3\n")
	wantFile(t, path+".1", "1\n2\n")
	wantFile(t, path, "3\n")

	must(t, os.Rename(path, path+".2"))
	write(checkEvery, "4\n")
	wantFile(t, path, "4\n")

	must(t, os.Remove(path))
	must(t, os.WriteFile(path, []byte("other\n"), 0o600))
	write(3*checkEvery/2, "lost\n")
	write(2*checkEvery, "5\n")
	wantFile(t, path, "other\n5\n")

	// Without a new file, the old one is better than none.
	must(t, os.Rename(path, path+".3"))
	must(t, os.Mkdir(path, 0o700))
	write(3*checkEvery, "6\n")
	wantFile(t, path+".3", "other\n5\n6\n")
	if err := f.Reopen(); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Error(err)
	}
	write(3*checkEvery, "7\n")
	wantFile(t, path+".3", "other\n5\n6\n7\n")
	must(t, os.Remove(path))
	write(0, "8\n") // the clock was set back
	wantFile(t, path, "8\n")
}
