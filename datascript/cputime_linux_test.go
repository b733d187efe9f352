package datascript

import (
	"syscall"
	"time"
)

// threadTime is the processor time of the thread, so that a busy machine does
// not count. The goroutine must be locked to it.
func threadTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
