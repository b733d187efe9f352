package filewatch

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errRefused = errors.New("refused")

// loads collects what a watcher does with one file, in words: content, or why
// there is none.
type loads struct {
	mu   sync.Mutex
	seen []string
}

func (l *loads) add(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, what)
}

// file returns a file whose content is refused if it begins with "bad".
func (l *loads) file(path string) File {
	return File{Path: path, Limit: 100, Load: func(content []byte, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(content), "bad") {
			return fmt.Errorf("%w: %s", errRefused, content)
		}
		l.add(string(content))
		return nil
	}}
}

func (l *loads) report(_ int, err error) {
	if err != nil {
		l.add(err.Error())
	}
}

// take returns what has happened since the last call.
func (l *loads) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.seen
	l.seen = nil
	return taken
}

// watching runs a watcher of one file, in virtual time, and calls step.
func watching(t *testing.T, path string, step func(t *testing.T, l *loads)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var l loads
		w, err := New([]File{l.file(path)}, l.report)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- w.Run(ctx) }()
		synctest.Wait()
		step(t, &l)
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// after lets time pass and compares what has happened by then.
func (l *loads) after(t *testing.T, d time.Duration, want ...string) {
	t.Helper()
	pass(d)
	if diff := cmp.Diff(want, l.take()); diff != "" {
		t.Errorf("after %v: %s", d, diff)
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each change is made to a file with the content "old", which is watched, and
// ends with the content "new".
func TestChanges(t *testing.T) {
	changes := []struct {
		name   string
		within time.Duration // in which it must have been loaded
		make   func(t *testing.T, dir, path string)
	}{
		{"rewritten in place", 2 * Tick, func(t *testing.T, _, path string) { write(t, path, "new!") }},
		{"rewritten in place, size and time as before", 3 * Tick, func(t *testing.T, _, path string) {
			info, err := os.Stat(path)
			must(t, err)
			write(t, path, "new")
			must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
		}},
		{"renamed over", 2 * Tick, func(t *testing.T, dir, path string) {
			write(t, filepath.Join(dir, "next"), "new")
			must(t, os.Rename(filepath.Join(dir, "next"), path))
		}},
		{"renamed over, size and time as before", 2 * Tick, func(t *testing.T, dir, path string) {
			info, err := os.Stat(path)
			must(t, err)
			next := filepath.Join(dir, "next")
			write(t, next, "new")
			must(t, os.Chtimes(next, info.ModTime(), info.ModTime()))
			must(t, os.Rename(next, path))
		}},
		{"removed and created", 2 * Tick, func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			write(t, path, "new")
		}},
		{"replaced by a symbolic link", 2 * Tick, func(t *testing.T, dir, path string) {
			write(t, filepath.Join(dir, "next"), "new")
			must(t, os.Symlink("next", filepath.Join(dir, "link")))
			must(t, os.Rename(filepath.Join(dir, "link"), path))
		}},
	}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "list")
			write(t, path, "old")
			watching(t, path, func(t *testing.T, l *loads) {
				l.after(t, time.Minute, "old") // once, by New
				// Just after a look is the worst moment.
				pass(time.Millisecond)
				c.make(t, dir, path)
				pass(c.within)
				if got := l.take(); len(got) != 1 || !strings.HasPrefix(got[0], "new") {
					t.Errorf("%v after the change: %q", c.within, got)
				}
				l.after(t, time.Minute)
			})
		})
	}
}

// Kubernetes mounts a volume as links to links: list -> ..data/list, ..data ->
// ..2026_1, and exchanges ..data.
func TestExchangedDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"1", "2"} {
		must(t, os.Mkdir(filepath.Join(dir, "..2026_"+version), 0o700))
		write(t, filepath.Join(dir, "..2026_"+version, "list"), "version "+version)
	}
	path := filepath.Join(dir, "list")
	must(t, os.Symlink("..2026_1", filepath.Join(dir, "..data")))
	must(t, os.Symlink(filepath.Join("..data", "list"), path))
	watching(t, path, func(t *testing.T, l *loads) {
		l.after(t, time.Minute, "version 1")
		must(t, os.Symlink("..2026_2", filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		must(t, os.RemoveAll(filepath.Join(dir, "..2026_1")))
		l.after(t, 2*Tick, "version 2")
		l.after(t, time.Minute)
	})
}

func TestWhatIsNoChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list")
	write(t, path, "old")
	watching(t, path, func(t *testing.T, l *loads) {
		l.after(t, time.Minute, "old")
		later := time.Now().Add(time.Hour)
		must(t, os.Chtimes(path, later, later))
		l.after(t, time.Minute)
		write(t, path, "old")
		l.after(t, time.Minute)
		write(t, filepath.Join(dir, "next"), "old")
		must(t, os.Rename(filepath.Join(dir, "next"), path))
		l.after(t, time.Minute)
		// Changed and changed back, between two looks and over several.
		write(t, path, "new")
		write(t, path, "old")
		l.after(t, time.Minute)
		write(t, path, "new")
		l.after(t, Tick)
		write(t, path, "old")
		l.after(t, time.Minute)
	})
}

func TestMissingForAWhile(t *testing.T) {
	dir := t.TempDir()
	path, aside := filepath.Join(dir, "list"), filepath.Join(dir, "aside")
	write(t, path, "old")
	watching(t, path, func(t *testing.T, l *loads) {
		l.after(t, time.Minute, "old")
		must(t, os.Rename(path, aside))
		l.after(t, Tick) // a moment is forgiven
		must(t, os.Rename(aside, path))
		l.after(t, time.Minute)

		must(t, os.Rename(path, aside))
		l.after(t, 5*time.Second, "stat "+path+": no such file or directory")
		l.after(t, time.Minute)
		must(t, os.Rename(aside, path))
		l.after(t, 2*Tick, "old") // the same content: who was told of the failure is told of its end
		l.after(t, time.Minute)
	})
}

// A file that grows is taken when it has stopped to.
func TestWrittenSlowly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "old")
	watching(t, path, func(t *testing.T, l *loads) {
		l.after(t, time.Minute, "old")
		for i := range 20 {
			write(t, path, strings.Repeat("new ", i))
			l.after(t, Tick-time.Millisecond)
		}
		l.after(t, 2*Tick, strings.Repeat("new ", 19))
	})
}

func TestRefusedContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "old")
	watching(t, path, func(t *testing.T, l *loads) {
		l.after(t, time.Minute, "old")
		write(t, path, "bad 1")
		l.after(t, time.Minute, "refused: bad 1") // once
		write(t, path, "bad 2")
		l.after(t, time.Minute, "refused: bad 2")
		write(t, path, "old")
		l.after(t, time.Minute, "old")
		write(t, path, strings.Repeat("x", 101))
		l.after(t, time.Minute, "read "+path+": file is too large: more than 100 bytes")
		must(t, os.Remove(path))
		must(t, os.Mkdir(path, 0o700))
		l.after(t, time.Minute, "read "+path+": not a regular file")
		must(t, os.Remove(path))
		write(t, path, "new")
		l.after(t, time.Minute, "new")
	})
}

func TestSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var loaded []string
		var files []File
		for _, name := range []string{"a", "b", "c"} {
			write(t, filepath.Join(dir, name), "")
			files = append(files, File{Path: filepath.Join(dir, name), Limit: -1, Load: func(_ []byte, err error) error { return err }})
		}
		w, err := New(files, func(i int, err error) { loaded = append(loaded, fmt.Sprint(i, " ", err)) })
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		synctest.Wait()
		if err := w.Run(ctx); !errors.Is(err, ErrRunning) {
			t.Errorf("second Run: %v", err)
		}
		write(t, filepath.Join(dir, "c"), strings.Repeat("x", 1<<20))
		write(t, filepath.Join(dir, "a"), "x")
		pass(2 * Tick)
		if diff := cmp.Diff([]string{"0 <nil>", "2 <nil>"}, loaded); diff != "" {
			t.Error(diff)
		}
		cancel()
		synctest.Wait()
		if err := w.Run(ctx); err != nil { // it may be called again
			t.Error(err)
		}
	})
}

// The larger a file, the rarer it is read without need.
func TestRereads(t *testing.T) {
	for size, want := range map[int64]int64{0: 2, rereadPerTick: 2, 2*rereadPerTick - 1: 2, 2 * rereadPerTick: 3, 64 << 20: 9} {
		path := filepath.Join(t.TempDir(), "list")
		write(t, path, "")
		must(t, os.Truncate(path, size)) // sparse, takes no room
		f := watched{File: File{Path: path, Limit: -1}, seed: maphash.MakeSeed()}
		if _, err := f.hash(); err != nil || f.rest != want {
			t.Errorf("%d bytes: read again after %d looks, want %d; %v", size, f.rest, want, err)
		}
	}
}

func TestNewReportsAll(t *testing.T) {
	dir := t.TempDir()
	var l loads
	write(t, filepath.Join(dir, "bad"), "bad")
	write(t, filepath.Join(dir, "good"), "good")
	_, err := New([]File{l.file(dir + "/none"), l.file(dir + "/good"), l.file(dir + "/bad"), l.file(dir)}, l.report)
	for _, want := range []string{"files[0]: stat " + dir + "/none: no such file", "files[2]: refused: bad", "files[3]: read " + dir + ": not a regular file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if !errors.Is(err, errRefused) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap its causes", err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "0123456789")
	must(t, os.Symlink("f", filepath.Join(dir, "link")))
	for _, limit := range []int64{10, 11, -1} {
		for _, p := range []string{path, filepath.Join(dir, "link")} {
			if content, err := ReadFile(p, limit); string(content) != "0123456789" || err != nil {
				t.Errorf("ReadFile(%s, %d) = %q, %v", p, limit, content, err)
			}
		}
	}
	for _, c := range []struct {
		path  string
		limit int64
		is    error
	}{
		{path, 9, ErrTooLarge}, {path, 0, ErrTooLarge}, {dir, -1, errNotRegular}, {os.DevNull, -1, errNotRegular}, {dir + "/none", -1, fs.ErrNotExist},
	} {
		content, err := ReadFile(c.path, c.limit)
		var pathErr *fs.PathError
		if content != nil || !errors.Is(err, c.is) || !errors.As(err, &pathErr) || pathErr.Path != c.path {
			t.Errorf("ReadFile(%s, %d) = %q, %v; want %v with the path", c.path, c.limit, content, err, c.is)
		}
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil { // where there is one
		open := slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
			target, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
			return strings.HasPrefix(target, dir)
		})
		if open {
			t.Error("a file was left open")
		}
	}
}
