//go:build linux || darwin

package handover

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// supported returns why this process cannot be replaced.
func supported() error {
	if os.Getpid() == 1 {
		return errors.New("the process has the ID 1: start another container instead")
	}
	return nil
}

// pair returns two connected sockets, the second one for another process.
func pair() (ours net.Conn, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "handover")
	f := os.NewFile(uintptr(fds[0]), "handover")
	defer f.Close()
	if ours, err = net.FileConn(f); err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// inherited returns the connection of an inherited descriptor, which it closes.
func inherited(fd int) (net.Conn, error) {
	f := inheritedFile(fd, "handover")
	defer f.Close()
	return net.FileConn(f)
}

// inheritedFile keeps a descriptor from the children of this process.
func inheritedFile(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}
