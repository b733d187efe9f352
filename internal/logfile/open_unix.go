//go:build unix

package logfile

import (
	"os"
	"syscall"
)

// doNotBlock lets a named pipe be opened without a reader, and lets Close end a
// write to it.
const doNotBlock = syscall.O_NONBLOCK

// pipeFlags open a named pipe with a reader, ourselves: so there is always one,
// and lines wait in the pipe.
const pipeFlags = os.O_RDWR
