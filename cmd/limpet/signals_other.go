//go:build !unix

package main

import "os"

// reopenSignals is empty: this system has no such signal, but the process
// notices new files.
var reopenSignals []os.Signal
