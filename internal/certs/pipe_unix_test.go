//go:build unix

package certs

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// Opening a named pipe for reading blocks until somebody writes to it.
func TestListDirOfNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "directory")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListDir(path); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("ListDir: %v, want %v", err, syscall.ENOTDIR)
	}
}
