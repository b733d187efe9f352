//go:build !unix

package accept

import (
	"fmt"
	"net"
	"os"
)

// Duplicate returns another handle of the socket of a listener, which stays
// open when the listener is closed.
func Duplicate(ln net.Listener) (*os.File, error) {
	socket, ok := ln.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("a listener of type %T has no socket", ln)
	}
	return socket.File()
}
