//go:build !linux

package datascript

import "time"

var started = time.Now()

// threadTime is the time since the start: others have no simple way to tell
// that of a thread.
func threadTime() time.Duration { return time.Since(started) }
