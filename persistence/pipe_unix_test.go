//go:build unix

package persistence

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Opening a named pipe for reading blocks until somebody writes to it, and no
// context ends that.
func TestLoadFileOfNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := diskFiles{}.Open(path)
	if err == nil {
		f.Close()
	}
	if err == nil || !strings.Contains(err.Error(), path+": not a regular file") {
		t.Errorf("Open: %v, want an error that names the pipe", err)
	}
}
