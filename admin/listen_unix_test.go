//go:build unix

package admin

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestListen: a new process takes the path over, and the old one leaves it
// alone.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	first, err := Listen(path, 0o660)
	must(t, err)
	second, err := Listen(path, 0o600)
	must(t, err)
	must(t, first.Close())
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if got := second.Addr().String(); got != path {
		t.Errorf("at %s", got)
	}
	c, err := net.Dial("unix", path)
	must(t, err)
	_ = c.Close()
	must(t, second.Close())
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	if _, err := Listen(path, 0o600); err == nil {
		t.Error("a file was replaced")
	}
	if _, err := Listen(filepath.Join(dir, "none", "s"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
