package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSaveFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables")
	store, ctx := NewStore(Options{}), t.Context()
	if err := store.LoadFile(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("loading what does not exist: %v", err)
	}
	target := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(target, path+".tmp"); err != nil { // as another user of the directory could
		t.Fatal(err)
	}
	for _, value := range []string{"old", "new"} {
		store.Put(ctx, "t", "k", value, time.Hour)
		if err := store.SaveFile(path); err != nil {
			t.Fatal(err)
		}
		loaded := NewStore(Options{})
		if err := loaded.LoadFile(path); err != nil {
			t.Fatal(err)
		}
		if got, _, _, _ := loaded.Lookup(ctx, "t", "k", 0); got != value {
			t.Errorf("loaded %q, saved %q", got, value)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if files, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(files) != 1 {
		t.Errorf("files left: %q", files)
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("a link was followed")
	}
	if err := store.SaveFile(filepath.Join(path, "below", "a", "file")); err == nil {
		t.Error("saved where no file can be")
	}
	os.WriteFile(path, []byte("something else"), 0o600)
	var e *SnapshotError
	if err := store.LoadFile(path); !errors.As(err, &e) || e.fault != snapshotForeign || !strings.Contains(err.Error(), path) {
		t.Errorf("loading something else: %v", err)
	}
}

// memoryFiles keeps files in memory, records what is done to them, and fails on
// demand.
type memoryFiles struct {
	mu       sync.Mutex
	contents map[string]*bytes.Buffer
	calls    []string
	fail     map[string]error // by call
}

func (m *memoryFiles) call(name string) error {
	m.calls = append(m.calls, name)
	return m.fail[name]
}

func (m *memoryFiles) Create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("create"); err != nil {
		return nil, err
	}
	if m.contents[name] != nil {
		return nil, fs.ErrExist
	}
	m.contents[name] = new(bytes.Buffer)
	return &memoryFile{m, m.contents[name]}, nil
}

func (m *memoryFiles) Open(name string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("open"); err != nil {
		return nil, err
	}
	b := m.contents[name]
	if b == nil {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b.Bytes())), nil
}

func (m *memoryFiles) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("rename"); err != nil {
		return err
	}
	m.contents[to] = m.contents[from]
	delete(m.contents, from)
	return nil
}

func (m *memoryFiles) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("remove"); err != nil {
		return err
	}
	if m.contents[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.contents, name)
	return nil
}

func (m *memoryFiles) SyncDirectory(string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.call("sync directory")
}

type memoryFile struct {
	m *memoryFiles
	b *bytes.Buffer
}

func (f *memoryFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.m.call("write"); err != nil {
		n, _ := f.b.Write(p[:len(p)/2]) // as a disk that is full
		return n, err
	}
	return f.b.Write(p)
}

func (f *memoryFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.m.call("sync")
}

func (f *memoryFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.m.call("close")
}

func TestSaveOrder(t *testing.T) {
	disk := &memoryFiles{contents: map[string]*bytes.Buffer{}}
	if _, err := NewStore(Options{}).saveFile(disk, "dir/tables"); err != nil {
		t.Fatal(err)
	}
	want := []string{"remove", "create", "write", "sync", "close", "rename", "sync directory"}
	if diff := cmp.Diff(want, slices.Compact(disk.calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestDiskErrors(t *testing.T) {
	for _, tt := range []struct {
		call  string
		err   error
		saved bool // whether the file is the new one all the same
	}{
		{"remove", syscall.EACCES, false},
		{"create", syscall.EROFS, false},
		{"write", syscall.ENOSPC, false},
		{"sync", syscall.EIO, false},
		{"close", syscall.EDQUOT, false},
		{"rename", syscall.EACCES, false},
		{"sync directory", syscall.EIO, true},
	} {
		t.Run(tt.call, func(t *testing.T) {
			ctx := t.Context()
			disk := &memoryFiles{contents: map[string]*bytes.Buffer{}}
			store := NewStore(Options{})
			store.Put(ctx, "", "k", "old", time.Hour)
			if _, err := store.saveFile(disk, "tables"); err != nil {
				t.Fatal(err)
			}
			store.Put(ctx, "", "k", "new", time.Hour)
			disk.fail = map[string]error{tt.call: tt.err}
			if _, err := store.saveFile(disk, "tables"); !errors.Is(err, tt.err) || !strings.Contains(err.Error(), `"tables"`) {
				t.Errorf("the error is %v", err)
			}
			check := func(want string) {
				t.Helper()
				loaded := NewStore(Options{})
				if err := loaded.loadFile(disk, "tables"); err != nil {
					t.Fatal(err)
				}
				if got, _, _, _ := loaded.Lookup(ctx, "", "k", 0); got != want {
					t.Errorf("the file has %q, want %q", got, want)
				}
			}
			if tt.saved {
				check("new")
			} else {
				check("old")
			}
			disk.fail = nil // and what was left does not matter
			if _, err := store.saveFile(disk, "tables"); err != nil {
				t.Fatal(err)
			}
			check("new")
			if len(disk.contents) != 1 {
				t.Errorf("%d files left", len(disk.contents))
			}
		})
	}
	disk := &memoryFiles{fail: map[string]error{"open": syscall.EIO}}
	if err := NewStore(Options{}).loadFile(disk, "tables"); !errors.Is(err, syscall.EIO) {
		t.Errorf("the error is %v", err)
	}
}

func TestSaver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &memoryFiles{contents: map[string]*bytes.Buffer{}}
		store := NewStore(Options{})
		var log bytes.Buffer
		saver := &Saver{
			Store: store, Path: "tables", Interval: 10 * time.Second, files: disk,
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})),
		}
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		done := make(chan error)
		go func() { done <- saver.Run(ctx) }()
		saves := func() int {
			synctest.Wait()
			disk.mu.Lock()
			defer disk.mu.Unlock()
			n := 0
			for _, call := range disk.calls {
				if call == "create" {
					n++
				}
			}
			return n
		}
		check := func(at time.Duration, want int) {
			t.Helper()
			advance(time.Until(began.Add(at)))
			if got := saves(); got != want {
				t.Errorf("after %v: %d saves tried, want %d", at, got, want)
			}
		}
		check(9*time.Second, 0)
		check(10*time.Second, 1)
		check(20*time.Second, 2)
		disk.mu.Lock()
		disk.fail = map[string]error{"sync": syscall.ENOSPC}
		disk.mu.Unlock()
		check(30*time.Second, 3) // fails
		check(31*time.Second, 4) // after 1 s
		check(33*time.Second, 5) // 2 s
		check(37*time.Second, 6) // 4 s
		check(45*time.Second, 7) // 8 s
		check(55*time.Second, 8) // 10 s, the interval
		check(64*time.Second, 8)
		disk.mu.Lock()
		disk.fail = nil
		disk.mu.Unlock()
		check(65*time.Second, 9)
		check(75*time.Second, 10)
		store.Insert(t.Context(), "", "last", "v", time.Hour)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		loaded := NewStore(Options{})
		if err := loaded.loadFile(disk, "tables"); err != nil {
			t.Fatal(err)
		}
		if _, _, ok, _ := loaded.Lookup(t.Context(), "", "last", 0); !ok {
			t.Error("the last entry was not saved")
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 7 || !strings.Contains(lines[5], "retry=10s") || !strings.Contains(lines[0], "no space left") || !strings.HasPrefix(lines[6], "level=INFO") {
			t.Errorf("log:\n%s", log.String())
		}
	})
}

// TestSaverDefaults saves to a real file only when it stops, and reports that
// this failed.
func TestSaverDefaults(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "tables")
	saver := &Saver{Store: NewStore(Options{}), Path: path}
	if err := saver.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	saver.Path = filepath.Join(path, "below")
	if err := saver.Run(ctx); err == nil {
		t.Error("no error for a path below a file")
	}
}

// saveForEver is the environment variable that makes the test binary save in a
// loop.
const saveForEver = "PERSISTENCE_TEST_SAVE"

// saveInLoop saves stores with different numbers of entries, all with the same
// value in each, until it is killed.
func saveInLoop(path string) {
	for round := 0; ; round++ {
		store := NewStore(Options{})
		n := 100 + round%7*300
		for i := range n {
			store.Insert(context.Background(), "", strconv.Itoa(i), strconv.Itoa(n), time.Hour)
		}
		if err := store.SaveFile(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if round == 0 {
			fmt.Println("saved")
		}
	}
}

// TestKill kills a process that saves in a loop, at random times, and loads
// what it has left.
func TestKill(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 10
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			path := filepath.Join(t.TempDir(), "tables")
			rng := rand.New(rand.NewPCG(uint64(g), 58))
			leftovers, sizes := 0, map[string]bool{}
			for range kills / 2 {
				child := exec.Command(binary)
				child.Env = append(os.Environ(), saveForEver+"="+path)
				child.Stderr = os.Stderr
				out, err := child.StdoutPipe()
				if err != nil {
					t.Error(err)
					return
				}
				if err := child.Start(); err != nil {
					t.Error(err)
					return
				}
				if _, err := out.Read(make([]byte, 6)); err != nil {
					t.Errorf("the child does not save: %v", err)
				}
				<-time.After(time.Duration(rng.Int64N(int64(15 * time.Millisecond))))
				child.Process.Kill() // Wait returns the error
				if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
					t.Errorf("the child ended by itself: %v", err)
					return
				}
				if _, err := os.Lstat(path + ".tmp"); err == nil {
					leftovers++
				}
				store := NewStore(Options{})
				if err := store.LoadFile(path); err != nil {
					t.Error(err)
					continue
				}
				want := strconv.Itoa(store.Stats().Entries)
				sizes[want] = true
				for key, e := range store.All("") {
					if e.Value != want {
						t.Errorf("%q is %q in a file of %s entries", key, e.Value, want)
						break
					}
				}
			}
			t.Logf("%d of %d kills left an unfinished file; complete files of %d sizes were seen", leftovers, kills/2, len(sizes))
			if !testing.Short() && leftovers == 0 {
				t.Error("no kill came while a file was written")
			}
		})
	}
	wg.Wait()
}
