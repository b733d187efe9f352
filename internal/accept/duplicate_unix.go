//go:build unix

package accept

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// Duplicate returns another handle of the socket of a listener, which stays
// open when the listener is closed. Unlike the File of net's listeners, the
// handle never puts the socket into blocking mode, which Accept of the listener
// would share.
func Duplicate(ln net.Listener) (*os.File, error) {
	socket, ok := ln.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a listener of type %T has no socket", ln)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var f *os.File
	var failed error
	err = raw.Control(func(fd uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		n, err := syscall.Dup(int(fd))
		if err != nil {
			failed = os.NewSyscallError("dup", err)
			return
		}
		syscall.CloseOnExec(n)
		f = os.NewFile(uintptr(n), ln.Addr().String())
	})
	if err == nil {
		err = failed
	}
	return f, err
}
