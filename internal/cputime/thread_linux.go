package cputime

import (
	"syscall"
	"time"
)

// Thread returns the time that the processor has worked for the calling thread,
// in steps of a microsecond. A goroutine that subtracts two of them must be
// locked to its thread (runtime.LockOSThread).
func Thread() time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var usage syscall.Rusage
	if err := syscall.Getrusage(thread, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
