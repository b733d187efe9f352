//go:build unix

package unixsocket

import (
	"io/fs"
	"net"
	"os"
	"syscall"
)

// HasModes reports whether the file of a Unix socket has a mode.
const HasModes = true

// backlog is how many clients may wait in the queue of a socket. The system has
// a limit of its own.
const backlog = 1<<16 - 1

const network = "unix"

// Listen opens a Unix socket whose file has a mode. Nobody can connect before
// it has that: net.Listen would let clients connect that the umask allows. The
// path must be free; closing the listener removes it.
func Listen(path string, mode fs.FileMode) (_ net.Listener, err error) {
	fault := func(call string, err error) error {
		return &net.OpError{Op: "listen", Net: network, Addr: &net.UnixAddr{Name: path, Net: network}, Err: os.NewSyscallError(call, err)}
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fault("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // the listener has another handle
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, fault("bind", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	if err := os.Chmod(path, mode); err != nil {
		return nil, err
	}
	if err := syscall.Listen(fd, backlog); err != nil {
		return nil, fault("listen", err)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(true)
	return ln, nil
}
