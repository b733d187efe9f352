//go:build unix

package filewatch

import "syscall"

// doNotBlock makes open return at once if the file has become a named pipe.
const doNotBlock = syscall.O_NONBLOCK
