//go:build !unix

package unixsocket

import (
	"errors"
	"io/fs"
	"net"
)

// HasModes reports whether the file of a Unix socket has a mode.
const HasModes = false

// Listen fails.
func Listen(string, fs.FileMode) (net.Listener, error) {
	return nil, errors.New("the sockets of this system have no mode")
}
