package accept

import (
	"encoding/binary"
	"net"
	"syscall"
)

// established is the state of a TCP connection of which neither end has closed
// its side, as Linux numbers them.
const established = 1

// awaitEnd waits until the client has closed its side, however much it has sent
// before that nobody has read, and reports true then. It reports false when a
// deadline for reading passes, and at once if the connection is none of TCP.
func awaitEnd(c net.Conn) (closed bool) {
	tcp := TCPConn(c)
	if tcp == nil {
		return false
	}
	if several, err := tcp.MultipathTCP(); several || err != nil { // of which one path may end, and the others go on
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) (done bool) {
		// This is called again whenever something comes, be it the end only.
		// The state is the first byte of what is reported.
		info, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		state := binary.NativeEndian.AppendUint32(nil, uint32(info))[0]
		closed = err == nil && state != established
		return closed || err != nil
	})
	return err == nil && closed
}
