package filewatch

import (
	"errors"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// A file that may not be read any more is a failure, reported once; when it may
// be, it is loaded.
func TestNoPermission(t *testing.T) {
	dir, err := os.MkdirTemp("", "filewatch") //nolint:usetesting // the directory of the test cannot be entered by others
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "list")
	write(t, path, "old")
	must(t, os.Chmod(path, 0o644))
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Root may read anything, so this thread becomes nobody for the file
		// system; it ends with the goroutine.
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if err := syscall.Setfsuid(65534); err != nil {
				t.Error(err)
			}
		}
		var l loads
		f := watched{File: l.file(path), seed: maphash.MakeSeed()}
		if err := f.first(); err != nil {
			t.Error(err)
			return
		}
		for _, mode := range []fs.FileMode{0, 0o644} {
			chmod(t, path, mode)
			news := 0
			for range 5 {
				found, err := f.look()
				if found {
					news++
					if denied := errors.Is(err, fs.ErrPermission); denied != (mode == 0) {
						t.Errorf("mode %v: %v", mode, err)
					}
				}
			}
			if news != 1 {
				t.Errorf("mode %v: reported %d times", mode, news)
			}
		}
	}()
	<-done
}

// chmod changes a mode as the user that the test runs as.
func chmod(t *testing.T, path string, mode fs.FileMode) {
	done := make(chan error)
	go func() { done <- os.Chmod(path, mode) }() // on another thread than a locked one
	if err := <-done; err != nil {
		t.Error(err)
	}
}
