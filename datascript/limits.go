package datascript

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/procmem"
)

// Limits bound what one script may use in one event, and what all scripts of
// an engine may use together. A field that is zero has the default named
// beside it; a negative field means no limit, which is for trusted scripts
// only.
type Limits struct {
	// Instructions is the number of VM instructions, expensive ones and
	// library calls counted by the work they do: 1,000,000.
	Instructions int
	// Time is how long a script may run in all: 300 ms. It is there for what
	// instructions do not show; on a processor of today they last for a sixth
	// of that at most. Time in which the script waits for the host or lets
	// others run is not counted, and of a time in which it was not seen to run
	// no more than 10 ms.
	Time time.Duration
	// HostTime is how long a script may wait for services of the host, such
	// as tables on another machine, in all: 5 s. The call that exceeds it is
	// the last one.
	HostTime time.Duration
	// StringBytes is the size of the largest string that a script may
	// build: 1 MiB.
	StringBytes int
	// AllocBytes is how many bytes of strings, tables and functions a script
	// may make in one event, whether it keeps them or not: 64 MiB.
	AllocBytes int
	// CallDepth is the number of nested calls: 200.
	CallDepth int
	// LogLines and LogBytes bound the output of avi.vs.log and print: 64
	// lines, 16 KiB. What is over is dropped.
	LogLines, LogBytes int
	// ErrorBytes is where the text of an error is cut: 4 KiB.
	ErrorBytes int

	// Concurrent is how many script events may run in the engine at a time.
	// Those that wait for the host do not count. By default, AllocBytes for
	// each make a quarter of the memory of the process, but there are at
	// least GOMAXPROCS and at most 1,024.
	//
	// The memory of the process is its limit (GOMEMLIMIT). Without one it is,
	// on Linux, half of the memory of the machine or, if that is less, of what
	// its control groups allow: the garbage that the collector leaves takes as
	// much again. (Half is with GOGC=100; with 400, it is a fifth.) Where
	// nobody tells, it is 2 GiB.
	Concurrent int
	// HeldBytes is how many bytes all transactions of the engine may hold
	// while their scripts do not run: in variables between two events, and
	// while the host is asked, which takes at least 64 KiB. By default it is
	// a quarter of the memory of the process. When they hold as much, no
	// further transaction begins, and one that wants more fails with
	// [ErrBusy].
	HeldBytes int
	// Waiting is how many events may wait for their turn: 4,096. One more
	// fails at once, with [ErrBusy].
	Waiting int
	// Wait is how long an event may wait for its turn, unless its context
	// ends before: 30 s. After that it fails with [ErrBusy].
	Wait time.Duration
}

// ErrBusy is the cause of a [RuntimeError] if a script could not be run, or
// had to end, because others have taken the place or the memory. The fitting
// answer is 503 with Retry-After.
var ErrBusy = errors.New("datascript: too many scripts run at the same time")

const (
	defaultInstructions = 1_000_000
	defaultTime         = 300 * time.Millisecond
	defaultHostTime     = 5 * time.Second
	defaultStringBytes  = 1 << 20
	defaultAllocBytes   = 64 << 20
	defaultCallDepth    = 200
	defaultLogLines     = 64
	defaultLogBytes     = 16 << 10
	defaultErrorBytes   = 4 << 10
	maxConcurrent       = 1024
	defaultWaiting      = 4096
	defaultWait         = 30 * time.Second
)

// concurrentFor is the default of Concurrent for a process with some bytes of
// memory.
func concurrentFor(memory, alloc int64, procs int) int {
	return int(min(max(memory/4/alloc, int64(procs)), maxConcurrent))
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
	set(&l.AllocBytes, defaultAllocBytes)
	set(&l.StringBytes, defaultStringBytes)
	set(&l.LogLines, defaultLogLines)
	set(&l.LogBytes, defaultLogBytes)
	set(&l.ErrorBytes, defaultErrorBytes)
	set(&l.Waiting, defaultWaiting)
	if l.Concurrent == 0 || l.HeldBytes == 0 {
		memory := procmem.Bytes()
		set(&l.Concurrent, concurrentFor(memory, int64(min(l.AllocBytes, defaultAllocBytes)), runtime.GOMAXPROCS(0)))
		set(&l.HeldBytes, int(memory/4))
	}
	set(&l.Concurrent, 0)
	if l.HeldBytes < 0 {
		l.HeldBytes = math.MaxInt
	}
	switch {
	case l.CallDepth == 0:
		l.CallDepth = defaultCallDepth
	case l.CallDepth < 0:
		// The VM allocates its frames at once, so "no limit" is a number.
		l.CallDepth = 10_000
	}
	span := func(v *time.Duration, def time.Duration) {
		switch {
		case *v == 0:
			*v = def
		case *v < 0:
			*v = 1 << 62
		}
	}
	span(&l.Time, defaultTime)
	span(&l.HostTime, defaultHostTime)
	span(&l.Wait, defaultWait)
	return l
}

// ErrBudget is what every [BudgetError] wraps.
var ErrBudget = errors.New("datascript: budget exceeded")

// A BudgetError reports that a script used more than its [Limits]. A script
// cannot catch it.
type BudgetError struct {
	Budget string // "instructions", "time", "time of services", "string bytes", "bytes in all"
	Limit  int64  // the limit: a count, nanoseconds or bytes
}

// Error names the budget and its limit.
func (e *BudgetError) Error() string {
	if strings.HasPrefix(e.Budget, "time") {
		return fmt.Sprintf("script budget exceeded: more than %v of %s", time.Duration(e.Limit), e.Budget)
	}
	return fmt.Sprintf("script budget exceeded: more than %d %s", e.Limit, e.Budget)
}

// Unwrap returns [ErrBudget].
func (e *BudgetError) Unwrap() error { return ErrBudget }
