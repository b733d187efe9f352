//go:build !linux

package cputime

import "time"

var started = time.Now()

// Thread returns the time since the program has started: these systems have no
// simple way to tell that of a thread.
func Thread() time.Duration { return time.Since(started) }
