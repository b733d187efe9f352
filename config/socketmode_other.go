//go:build !unix

package config

import (
	"errors"
	"io/fs"
	"net"
)

// hasModes says that the file of a Unix socket has no mode.
const hasModes = false

func listenUnix(string, fs.FileMode) (net.Listener, error) {
	return nil, errors.New("the sockets of this system have no mode")
}
