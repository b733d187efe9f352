//go:build !linux

package admin

import "net"

// peerOf returns who has opened a connection to a Unix socket, which only some
// systems say.
func peerOf(*net.UnixConn) string { return "socket" }
