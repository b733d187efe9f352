package admin

import (
	"fmt"
	"net"
	"syscall"
)

// peerOf returns who has opened a connection to a Unix socket.
func peerOf(c *net.UnixConn) string {
	var cred *syscall.Ucred
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		})
	}
	if err != nil || cred == nil {
		return "socket"
	}
	return fmt.Sprintf("uid %d pid %d", cred.Uid, cred.Pid)
}
