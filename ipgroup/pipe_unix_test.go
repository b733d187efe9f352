//go:build unix

package ipgroup

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Opening a named pipe for reading would block until another process writes to
// it.
func TestReadFileNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile("g", path, Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("ReadFile of a named pipe = %v", err)
	}
}

func mkfifo(t *testing.T, path string) {
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}
