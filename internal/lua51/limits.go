package lua51

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/limpetlb/limpet/internal/procmem"
)

// Limits bound what one run of a script may use, and what all runs of an
// engine may use together. A field that is zero has the default named beside
// it; a negative field means no limit.
type Limits struct {
	Instructions int           // of the VM, and library calls by the work they do: 1,000,000
	Time         time.Duration // in all, without Outside: 300 ms
	HostTime     time.Duration // Outside, in all: 5 s
	StringBytes  int           // of the largest string: 1 MiB
	AllocBytes   int           // of all strings, tables and functions made in a run: 64 MiB
	CallDepth    int           // nested calls: 200
	ErrorBytes   int           // where the text of an error is cut: 4 KiB

	// Concurrent is how many scripts may run at a time: by default as many as
	// fit, with AllocBytes each, into a quarter of the memory of the process.
	Concurrent int
	// HeldBytes is what all transactions may hold while their scripts do not
	// run: a quarter of the memory of the process.
	HeldBytes int
	Waiting   int           // how many may wait for their turn: 4,096
	Wait      time.Duration // how long they may: 30 s
}

const (
	defaultInstructions = 1_000_000
	defaultTime         = 300 * time.Millisecond
	defaultHostTime     = 5 * time.Second
	defaultStringBytes  = 1 << 20
	defaultAllocBytes   = 64 << 20
	defaultCallDepth    = 200
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

// WithDefaults replaces each zero by its default and each negative value by
// one that is never reached.
func (l Limits) WithDefaults() Limits {
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

// A BudgetError reports that a script used more than its [Limits]. A script
// cannot catch it.
type BudgetError struct {
	Budget string // "instructions", "time", "time of services", "string bytes", "bytes in all", "pattern steps"
	Limit  int64  // the limit: a count, nanoseconds or bytes
}

// Error names the budget and its limit.
func (e *BudgetError) Error() string {
	if strings.HasPrefix(e.Budget, "time") {
		return fmt.Sprintf("script budget exceeded: more than %v of %s", time.Duration(e.Limit), e.Budget)
	}
	return fmt.Sprintf("script budget exceeded: more than %d %s", e.Limit, e.Budget)
}

// A PanicError reports that a function written in Go panicked. Scripts see
// only that there was an internal error.
type PanicError struct {
	Function string // such as "string.find"; empty if unknown
	Value    any    // the value that the function panicked with
	Stack    []byte // the goroutine's stack
}

// Error names the function and the value.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic in %s: %v", e.Function, e.Value)
}
