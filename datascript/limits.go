package datascript

import (
	"errors"
	"math"
	"time"

	"github.com/limpetlb/limpet/internal/lua51"
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
	// much again. (Half is with GOGC=100; with 400, it is a fifth.) If
	// nothing says how much there is, the machine is taken to have 4 GiB.
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
	defaultLogLines = 64
	defaultLogBytes = 16 << 10
)

// interpreter returns the limits that the Lua engine keeps.
func (l Limits) interpreter() lua51.Limits {
	return lua51.Limits{
		Instructions: l.Instructions, Time: l.Time, HostTime: l.HostTime,
		StringBytes: l.StringBytes, AllocBytes: l.AllocBytes, CallDepth: l.CallDepth, ErrorBytes: l.ErrorBytes,
		Concurrent: l.Concurrent, HeldBytes: l.HeldBytes, Waiting: l.Waiting, Wait: l.Wait,
	}
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
	set(&l.LogLines, defaultLogLines)
	set(&l.LogBytes, defaultLogBytes)
	d := l.interpreter().WithDefaults()
	l.Instructions, l.Time, l.HostTime = d.Instructions, d.Time, d.HostTime
	l.StringBytes, l.AllocBytes, l.CallDepth, l.ErrorBytes = d.StringBytes, d.AllocBytes, d.CallDepth, d.ErrorBytes
	l.Concurrent, l.HeldBytes, l.Waiting, l.Wait = d.Concurrent, d.HeldBytes, d.Waiting, d.Wait
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
func (e *BudgetError) Error() string { return (*lua51.BudgetError)(e).Error() }

// Unwrap returns [ErrBudget].
func (e *BudgetError) Unwrap() error { return ErrBudget }
