package datascript

import (
	"errors"
	"math"
	"time"

	"github.com/limpetlb/limpet/internal/lua51"
)

// Limits bound the resources of one script in one event, and of all scripts of
// an engine together. Zero means the default that each field names. A negative
// value means no limit: use it only for trusted scripts. CallDepth then has a
// limit of 10,000.
type Limits struct {
	// Instructions is the number of VM instructions; expensive ones and library
	// calls are charged for their work: 1,000,000.
	Instructions int `negative:"no limit"`
	// Time is how long a script may run in total: 300 ms. It is a backstop for
	// costs that instructions do not show; on a processor of today, the default
	// instructions take at most a sixth of it. Time in which the script waits
	// for the host or lets others run is not counted, and of a time in which it
	// was not seen to run at most 10 ms are.
	Time time.Duration `negative:"no limit"`
	// HostTime is how long a script may wait in total for services of the host,
	// such as tables on another machine: 5 s. The call that exceeds it is the
	// last one.
	HostTime time.Duration `negative:"no limit"`
	// StringBytes is the size of the largest string that a script may
	// build: 1 MiB.
	StringBytes int `unit:"bytes" negative:"no limit"`
	// AllocBytes is how many bytes of strings, tables and functions a script
	// may make in one event, whether it keeps them or not: 64 MiB.
	AllocBytes int `unit:"bytes" negative:"no limit"`
	// CallDepth is the number of nested calls: 200. At most 100,000.
	CallDepth int `max:"100_000" negative:"no limit"`
	// LogLines is how many lines avi.vs.log and print may write in one event:
	// 64. The rest is dropped.
	LogLines int `negative:"no limit"`
	// LogBytes is how long these lines may be together: 16 KiB.
	LogBytes int `unit:"bytes" negative:"no limit"`
	// ErrorBytes is the length to which the text of an error is cut: 4 KiB.
	ErrorBytes int `unit:"bytes" negative:"no limit"`

	// Concurrent is how many script events may run in the engine at a time.
	// Events that wait for the host are not counted, except that up to an
	// eighth of this number may keep their slots. By default, it is a quarter
	// of the memory of the process divided by AllocBytes, at least GOMAXPROCS
	// and at most 1,024.
	//
	// The memory of the process is its limit (GOMEMLIMIT). Without a limit it
	// is, on Linux, half of the memory of the machine or of the limit of its
	// control groups, whichever is less: the garbage that the collector leaves
	// takes as much again. (Half is for GOGC=100; with 400, it is a fifth.) If
	// the memory is not known, 4 GiB are assumed for the machine.
	Concurrent int `negative:"no limit"`
	// HeldBytes is how many bytes all transactions of the engine may use while
	// their scripts do not run: in variables between two events, and while a
	// script asks the host, which takes at least 64 KiB. By default it is a
	// quarter of the memory of the process. At the limit, no further
	// transaction begins, and one that needs more fails with [ErrBusy].
	HeldBytes int `unit:"bytes" negative:"no limit"`
	// Waiting is how many events may wait for their turn: 4,096. Further ones
	// fail at once with [ErrBusy].
	Waiting int `negative:"no limit"`
	// Wait is how long an event may wait for its turn, unless its context
	// ends before: 30 s. After that it fails with [ErrBusy].
	Wait time.Duration `negative:"no limit"`
}

// ErrBusy is the cause of a [RuntimeError] if a script could not run, or had to
// end, because others use all slots or all memory. Answer with 503 and
// Retry-After.
var ErrBusy = errors.New("datascript: too many scripts run at the same time")

const (
	defaultLogLines = 64
	defaultLogBytes = 16 << 10
)

// interpreter returns the limits for the Lua engine.
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

// ErrBudget is wrapped by every [BudgetError].
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
