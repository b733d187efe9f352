package admin

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/limpetlb/limpet/internal/unixsocket"
)

// Listen opens a Unix socket whose file has a mode, such as 0600, from the
// moment in which it can be seen. It replaces a socket of the same name, so
// that a new process takes the place of an old one; whoever is connected to
// that stays there. Another file of that name is an error. Its directory must
// exist. Closing the listener removes the file, unless another process has
// replaced it.
//
// It fails on systems whose sockets have no mode.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if old, err := os.Lstat(path); err == nil && old.Mode().Type() != fs.ModeSocket {
		return nil, &fs.PathError{Op: "listen", Path: path, Err: errors.New("a file that is no socket")}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".admin-") // with mode 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ln, err := unixsocket.Listen(filepath.Join(dir, "s"), mode.Perm())
	if err != nil {
		return nil, err
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // it would remove the name that it has now
	}
	s := &socket{Listener: ln, path: path}
	if s.file, err = os.Lstat(filepath.Join(dir, "s")); err == nil {
		err = os.Rename(filepath.Join(dir, "s"), path)
	}
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	return s, nil
}

// A socket is a listener that removes its file.
type socket struct {
	net.Listener
	path string
	file fs.FileInfo
	once sync.Once
}

// Addr returns the path at which clients find the socket.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close implements [net.Listener].
func (s *socket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
			_ = os.Remove(s.path)
		}
	})
	return s.Listener.Close()
}
