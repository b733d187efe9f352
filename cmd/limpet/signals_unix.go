//go:build unix

package main

import (
	"os"
	"syscall"
)

// reopenSignals make the process open the files of its logs anew.
var reopenSignals = []os.Signal{syscall.SIGUSR1}
