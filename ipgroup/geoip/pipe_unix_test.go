//go:build unix

package geoip

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Opening a named pipe for reading would block until somebody writes to it.
func TestOpenNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Open of a named pipe = %v", err)
	}
}
