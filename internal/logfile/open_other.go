//go:build !unix

package logfile

import "os"

const (
	doNotBlock = 0
	pipeFlags  = os.O_WRONLY
)
