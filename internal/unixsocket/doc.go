// Package unixsocket opens Unix sockets whose files have modes.
package unixsocket
