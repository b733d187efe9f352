//go:build unix

package ipgroup

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/limpetlb/limpet/internal/testrace"
)

func save(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// watch runs a watcher of the group "g" at path in virtual time, and calls step
// with the set and a function that lets enough time pass for a change to be
// loaded and returns the events by then.
func watch(t *testing.T, path string, o Options, step func(t *testing.T, s *Set, events func() []FileEvent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := new(Set)
		seen := make(chan FileEvent, 100)
		w, err := NewWatcher(s, []File{{"g", path, o}}, func(e FileEvent) { seen <- e })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		synctest.Wait()
		step(t, s, func() (events []FileEvent) {
			<-time.After(2 * time.Second)
			synctest.Wait()
			for len(seen) > 0 {
				events = append(events, <-seen)
			}
			return events
		})
	})
}

// Each way in which the content of a file can change is found within two
// seconds, and nothing else is a change.
func TestWatcher(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		save(t, filepath.Join(dir, version, "list"), "10.0.0."+version)
	}
	link := func(version string) { // by rename, as Kubernetes does
		if err := errors.Join(os.Symlink(version, filepath.Join(dir, "tmp")), os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "data"))); err != nil {
			t.Fatal(err)
		}
	}
	link("1")
	path := filepath.Join(dir, "data", "list")
	target := filepath.Join(dir, "2", "list")
	steps := []struct {
		name   string
		change func()
		is     string // the address that the group has
		events int
	}{
		{"nothing", func() {}, "10.0.0.1", 0},
		{"symbolic link exchanged", func() { link("2") }, "10.0.0.2", 1},
		{"rewritten in place", func() { save(t, target, "10.0.0.3\n") }, "10.0.0.3", 1},
		{"rewritten as it is", func() { save(t, target, "10.0.0.3\n") }, "10.0.0.3", 0},
		{"touched", func() { _ = os.Chtimes(target, time.Unix(1, 0), time.Unix(1, 0)) }, "10.0.0.3", 0},
		{"rewritten, size and time as before", func() {
			save(t, target, "10.0.0.4\n")
			_ = os.Chtimes(target, time.Unix(1, 0), time.Unix(1, 0))
		}, "10.0.0.4", 1},
		{"renamed over", func() {
			save(t, target+"~", "10.0.0.5")
			_ = os.Rename(target+"~", target)
		}, "10.0.0.5", 1},
		{"missing", func() { _ = os.Rename(target, target+"~") }, "10.0.0.5", 1},
		{"missing for longer", func() {}, "10.0.0.5", 0},
		{"missing for five seconds", func() {}, "10.0.0.5", 0},
		{"back", func() { _ = os.Rename(target+"~", target) }, "10.0.0.5", 1},
	}
	watch(t, path, Options{}, func(t *testing.T, s *Set, events func() []FileEvent) {
		for _, step := range steps {
			step.change()
			seen := events()
			if len(seen) != step.events {
				t.Errorf("%s: events %v, want %d", step.name, seen, step.events)
			}
			g, _ := s.Group("g")
			if !g.Contains(netip.MustParseAddr(step.is)) || g.Len() != 1 {
				t.Errorf("%s: the group has not %s", step.name, step.is)
			}
			for _, e := range seen {
				missing := step.name == "missing"
				want := FileEvent{Group: "g", Path: path}
				if diff := cmp.Diff(want, e, cmpopts.IgnoreFields(FileEvent{}, "Err")); diff != "" || errors.Is(e.Err, fs.ErrNotExist) != missing || !missing && e.Err != nil {
					t.Errorf("%s: event %+v", step.name, e)
				}
			}
		}
	})
}

// Whatever is wrong with an update, the group remains, one event says why, and
// the next good list is taken.
func TestBadUpdates(t *testing.T) {
	const good = "10.0.0.1\n10.0.0.3\n"
	write := func(text string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { save(t, path, text) }
	}
	var entryError *EntryError
	lines := 10_000_000
	if testrace.Enabled {
		lines = DefaultMaxEntries + 1
	}
	if testing.Short() {
		lines = DefaultMaxEntries + 1
	}
	updates := []struct {
		name   string
		make   func(t *testing.T, path string)
		is, as any // what the event's error is
		text   string
	}{
		{"empty", write(""), ErrEmpty, nil, ""},
		{"comments only", write("# 10.0.0.2\n"), ErrEmpty, nil, ""},
		{"cut inside an entry", write("10.0.0.1\n10.0.0."), nil, &entryError, "line 2, column 1"},
		{"one bad line", write(strings.Repeat("10.0.0.2\n", 5000) + "10.0.0.300\n10.0.0.4\n"), nil, &entryError, "line 5001, column 1"},
		{"too many lines", write(strings.Repeat("::1\n", lines)), ErrTooLarge, nil, "more than 2000000 entries"},
		{"100 MiB", func(t *testing.T, path string) {
			save(t, path, "")
			if err := os.Truncate(path, 100<<20); err != nil { // sparse
				t.Fatal(err)
			}
		}, ErrTooLarge, nil, "more than 67108864 bytes"},
		{"NUL bytes", write(strings.Repeat("\x00", 1000)), nil, &entryError, "line 1, column 1"},
		{"UTF-16", write("\xff\xfe1\x000\x00"), nil, nil, "UTF-16"},
		{"directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, nil, nil, "not a regular file"},
		{"missing", func(*testing.T, string) {}, fs.ErrNotExist, nil, "no such file"},
		{"link to itself", func(t *testing.T, path string) {
			if err := os.Symlink(filepath.Base(path), path); err != nil {
				t.Fatal(err)
			}
		}, nil, nil, "too many levels"},
		{"named pipe", mkfifo, nil, nil, "not a regular file"},
	}
	path := filepath.Join(t.TempDir(), "list")
	save(t, path, good)
	watch(t, path, Options{}, func(t *testing.T, s *Set, events func() []FileEvent) {
		before, _ := s.Group("g")
		for _, u := range updates {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			u.make(t, path)
			<-time.After(8 * time.Second) // the largest are read less often
			seen := events()
			if len(seen) != 1 || seen[0].Err == nil {
				t.Fatalf("%s: events %v, want one error", u.name, seen)
			}
			err := seen[0].Err
			if u.is != nil && !errors.Is(err, u.is.(error)) || u.as != nil && !errors.As(err, u.as) || !strings.Contains(err.Error(), u.text) {
				t.Errorf("%s: %v", u.name, err)
			}
			if !strings.Contains(err.Error(), `ip group "g"`) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v does not name the group and the file", u.name, err)
			}
			if after, _ := s.Group("g"); after != before {
				t.Errorf("%s: the group was replaced", u.name)
			}
			_ = os.Remove(path)
			save(t, path, good)
			if seen := events(); len(seen) != 1 || seen[0].Err != nil {
				t.Errorf("%s: then a good list: events %v", u.name, seen)
			}
			if before, _ = s.Group("g"); !before.Contains(netip.MustParseAddr("10.0.0.3")) || before.Len() != 2 {
				t.Errorf("%s: then a good list: it is not taken", u.name)
			}
		}
	})
	// With the switch, an empty list is a list.
	watch(t, path, Options{AllowEmpty: true}, func(t *testing.T, s *Set, events func() []FileEvent) {
		save(t, path, "")
		seen := events()
		if g, _ := s.Group("g"); len(seen) != 1 || seen[0].Err != nil || g.Len() != 0 {
			t.Errorf("empty list, which is allowed: events %v", seen)
		}
	})
}

func TestNewWatcherFaults(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	save(t, good, "10.0.0.1")
	save(t, bad, "10.0.0.1\n10.0.0.300")
	old := named(t, "a", "10.9.9.9")
	s, err := NewSet(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		set   *Set
		files []File
		want  []string
	}{
		{nil, nil, []string{"set: missing"}},
		{s, []File{{Group: "a", Path: good}, {Group: "a", Path: good}}, []string{`files[1].group: "a": already the group of files[0]`}},
		{s, []File{{Group: "a", Path: good}, {Group: "b", Path: bad}, {Group: "c", Path: dir + "/none"}}, []string{
			`files[1]: ` + bad + `: ip group "b": line 2, column 1: "10.0.0.300" is not`,
			`files[2]: ip group "c": stat ` + dir + `/none: no such file`,
		}},
		{s, []File{{Group: "a", Path: good}, {Path: good}}, []string{"files[1].group: missing"}},
	} {
		w, err := NewWatcher(tt.set, tt.files, nil)
		if w != nil || err == nil {
			t.Fatalf("NewWatcher(%v) = %v, %v", tt.files, w, err)
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %v does not say %s", err, want)
			}
		}
	}
	if g, _ := s.Group("a"); g != old || len(s.Names()) != 1 {
		t.Error("a failure has changed the set")
	}
	w, err := NewWatcher(s, []File{{Group: "a", Path: good}, {Group: "b", Path: good}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, s, "a", "10.0.0.1", true)
	wantIn(t, s, "b", "10.0.0.1", true)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Errorf("Run with a context that is done: %v", err)
	}
}

// Files may be watched, and some of them be bad, without a callback.
func TestWatcherWithoutCallback(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	save(t, path, "10.0.0.1")
	synctest.Test(t, func(t *testing.T) {
		s := new(Set)
		w, err := NewWatcher(s, []File{{Group: "g", Path: path}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		for _, text := range []string{"bad", "10.0.0.2"} {
			save(t, path, text)
			<-time.After(2 * time.Second)
			synctest.Wait()
		}
		wantIn(t, s, "g", "10.0.0.2", true)
	})
}
