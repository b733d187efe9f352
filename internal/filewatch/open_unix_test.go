//go:build unix

package filewatch

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Opening a named pipe for reading would block until somebody writes to it, and
// so would every later look at any file.
func TestNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "old")
	watching(t, path, func(t *testing.T, l *loads) {
		l.after(t, time.Minute, "old")
		must(t, os.Remove(path))
		must(t, syscall.Mkfifo(path, 0o600))
		l.after(t, time.Minute, "read "+path+": not a regular file")
		must(t, os.Remove(path))
		write(t, path, "new")
		l.after(t, time.Minute, "new")
	})

	// Nor does it block if the file becomes a pipe between the look at its kind
	// and its opening.
	must(t, os.Remove(path))
	must(t, syscall.Mkfifo(path, 0o600))
	file, err := os.OpenFile(path, os.O_RDONLY|doNotBlock, 0)
	must(t, err)
	file.Close()
	if _, err := ReadFile(path, -1); !errors.Is(err, errNotRegular) {
		t.Errorf("ReadFile: %v", err)
	}
}
