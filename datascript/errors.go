package datascript

import (
	"fmt"
	"strings"

	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/oneline"
)

// A CompileError reports a fault of a script's source. Its text has the shape
// of the Lua compiler's:
//
//	Failed to compile the datascript "Stop_Bots_on_http_req.ds": luac: Stop_Bots_on_http_req.ds:4: 'end' expected near '<eof>'
type CompileError struct {
	Script  string // the script's name
	Event   Event  // zero if the fault is in the headings of a listing
	Line    int    // counted from 1, in the listing if there is one; 0 if the fault has no line
	Token   string // the text at which the compiler stopped; may be empty
	Message string // the fault, without the token

	// Cause is an [*UnsupportedEventError] if the fault is the heading of such
	// an event; else nil.
	Cause error
}

// Unwrap returns Cause.
func (e *CompileError) Unwrap() error { return e.Cause }

// Error returns the text in the compiler's shape.
func (e *CompileError) Error() string {
	file := oneline.Escape(strings.ReplaceAll(e.Script, " ", "_"))
	if e.Event != 0 {
		file += "_on_" + strings.ToLower(e.Event.String())
	}
	file += ".ds"
	var b strings.Builder
	fmt.Fprintf(&b, "Failed to compile the datascript %q: luac: %s:", file, file)
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:", e.Line)
	}
	b.WriteString(" " + e.Message)
	if e.Token != "" {
		fmt.Fprintf(&b, " near '%s'", e.Token)
	}
	return b.String()
}

// A RuntimeError reports that a script failed. Its three texts are those of the
// error record in a transaction's log.
type RuntimeError struct {
	Script    string // the script's name
	Event     Event  // the event it ran for
	Line      int    // where it failed, counted from 1; 0 if unknown
	Message   string // such as `[string "Stop Bots"]:2: attempt to call field 'drop' (a nil value)`
	Traceback string // the calls that led there, innermost first; see Lua's debug.traceback

	// Cause is the cause of the error: a [*BudgetError], the error of a
	// service, a [*PanicError], the context's error; or nil if the script
	// itself is at fault.
	Cause error
}

// Error returns Message.
func (e *RuntimeError) Error() string { return e.Message }

// Unwrap returns Cause.
func (e *RuntimeError) Unwrap() error { return e.Cause }

// A PanicError is the cause of a [RuntimeError] when a function behind the
// API panicked: a fault of this package or of a service of the host. Scripts
// see only that there was an internal error.
type PanicError struct {
	Function string // the API function, such as "avi.vs.table_lookup"; empty if unknown
	Value    any    // the value that the function panicked with
	Stack    []byte // the goroutine's stack
}

// Error names the function and the value.
func (e *PanicError) Error() string { return (*lua51.PanicError)(e).Error() }
