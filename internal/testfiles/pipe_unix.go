//go:build unix

package testfiles

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// released are the pipes of tests that have ended.
var released struct {
	sync.Mutex
	pipes []*os.File
}

// Pipe makes a named pipe in a directory of its own, and returns its path. When
// the test has ended, whoever still opens the pipe goes on, so that nothing
// that hung there stays.
func Pipe(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		both, err := os.OpenFile(path, os.O_RDWR, 0) // which waits for nobody
		if err != nil {
			t.Error(err)
		}
		released.Lock()
		defer released.Unlock()
		released.pipes = append(released.pipes, both)
	})
	return path
}
