package datascript

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"
)

// Limits bound what one script may use in one event. A field that is zero
// has the default named beside it; a negative field means no limit, which is
// for trusted scripts only.
type Limits struct {
	// Instructions is the number of VM instructions, long library calls
	// counted by the work they do: 200,000.
	Instructions int
	// Time is how long a script may run, calls of the host's services not
	// counted: 30 ms.
	Time time.Duration
	// StringBytes is the size of the largest string that a script may
	// build: 1 MiB.
	StringBytes int
	// CallDepth is the number of nested calls: 200.
	CallDepth int
	// LogLines and LogBytes bound the output of avi.vs.log and print: 64
	// lines, 16 KiB. What is over is dropped.
	LogLines, LogBytes int
	// ErrorBytes is where the text of an error is cut: 4 KiB.
	ErrorBytes int
	// Concurrent is how many script events may run in the engine at a time;
	// one more fails at once, with [ErrBusy]. Within its time, an event can
	// come to hold about 64 MiB. The default is therefore half the memory
	// limit of the process (GOMEMLIMIT), in units of 64 MiB, but at least
	// GOMAXPROCS; it is 1,024 if there is no memory limit.
	Concurrent int
}

// ErrBusy is the cause of a [RuntimeError] if a script could not be run
// because too many run already. The fitting answer is 503 with Retry-After.
var ErrBusy = errors.New("datascript: too many scripts run at the same time")

const (
	defaultInstructions = 200_000
	defaultTime         = 30 * time.Millisecond
	defaultStringBytes  = 1 << 20
	defaultCallDepth    = 200
	defaultLogLines     = 64
	defaultLogBytes     = 16 << 10
	defaultErrorBytes   = 4 << 10
	defaultConcurrent   = 1024
	eventBytes          = 64 << 20 // what one event may come to hold
)

// concurrentFor is the default of Concurrent for a memory limit in bytes.
func concurrentFor(memory int64, procs int) int {
	if memory == math.MaxInt64 {
		return defaultConcurrent
	}
	return int(min(max(memory/2/eventBytes, int64(procs)), defaultConcurrent))
}

// withDefaults replaces each zero by its default and each negative value by
// one that is never reached.
func (l Limits) withDefaults() Limits {
	set := func(v *int, def int) {
		switch {
		case *v == 0:
			*v = def
		case *v < 0:
			*v = math.MaxInt32
		}
	}
	set(&l.Instructions, defaultInstructions)
	set(&l.StringBytes, defaultStringBytes)
	set(&l.LogLines, defaultLogLines)
	set(&l.LogBytes, defaultLogBytes)
	set(&l.ErrorBytes, defaultErrorBytes)
	if l.Concurrent == 0 {
		l.Concurrent = concurrentFor(debug.SetMemoryLimit(-1), runtime.GOMAXPROCS(0))
	}
	set(&l.Concurrent, 0)
	switch {
	case l.CallDepth == 0:
		l.CallDepth = defaultCallDepth
	case l.CallDepth < 0:
		// The VM allocates its frames at once, so "no limit" is a number.
		l.CallDepth = 10_000
	}
	switch {
	case l.Time == 0:
		l.Time = defaultTime
	case l.Time < 0:
		l.Time = 1 << 62
	}
	return l
}

// ErrBudget is what every [BudgetError] wraps.
var ErrBudget = errors.New("datascript: budget exceeded")

// A BudgetError reports that a script used more than its [Limits]. A script
// cannot catch it.
type BudgetError struct {
	Budget string // "instructions", "time", "string bytes"
	Limit  int64  // the limit: a count, nanoseconds or bytes
}

// Error names the budget and its limit.
func (e *BudgetError) Error() string {
	if e.Budget == "time" {
		return fmt.Sprintf("script budget exceeded: more than %v of time", time.Duration(e.Limit))
	}
	return fmt.Sprintf("script budget exceeded: more than %d %s", e.Limit, e.Budget)
}

// Unwrap returns [ErrBudget].
func (e *BudgetError) Unwrap() error { return ErrBudget }
