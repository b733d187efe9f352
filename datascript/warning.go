package datascript

import (
	"fmt"
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/limpetlb/limpet/internal/lua51"
)

// A Warning reports code that compiles but fails or has no effect when it runs.
// Ignore it if the code is intended, for instance to test whether a function
// exists.
type Warning struct {
	Event   Event  // zero above the first heading of a listing
	Line    int    // counted from 1, in the listing if there is one
	Message string // such as "avi.http.get_method: unknown, hence nil"
}

// String returns "LINE: MESSAGE".
func (w Warning) String() string { return fmt.Sprintf("%d: %s", w.Line, w.Message) }

// Warnings returns the doubtful parts of a script, by event and line: comments
// that are similar to the heading of an event, or name one whose code does not
// follow, names below avi that the API does not have or does not support, calls
// of functions that nothing defines, functions that an event does not allow,
// lifetimes that are not a number of seconds or may be the value, cookies that
// browsers drop, and entries that never follow a client from a server that is
// down. It judges calls by constants, so it does not find all of them. The
// caller owns the slice.
func (s *Script) Warnings() []Warning { return slices.Clone(s.warnings) }

// StoresServerIP reports whether the script stores the result of
// avi.pool.server_ip as the value of a cookie, or selects it. If servers of a
// pool share an address, that does not say which one is meant. The values of
// table entries do not count: they keep the port. Like Warnings, it does not
// find every way to do so.
func (s *Script) StoresServerIP() bool { return s.storesServerIP }

// BuffersRequest reports whether the script may call
// avi.http.set_request_body_buffer_size in any event: the name is in the code,
// not only in comments.
func (s *Script) BuffersRequest() bool { return s.buffersRequest }

// BuffersResponse is BuffersRequest for
// avi.http.set_response_body_buffer_size.
func (s *Script) BuffersResponse() bool { return s.buffersResponse }

func (w *doubts) warn(at ast.PositionHolder, path, format string, args ...any) {
	w.warnings = append(w.warnings, Warning{Event: w.event, Line: w.Line(at), Message: path + ": " + fmt.Sprintf(format, args...)})
}

// Field implements lua51.Inspector: it checks a use of a predefined name, or of
// a similar one.
func (w *doubts) Field(e *ast.AttrGetExpr, path string) {
	if !w.Rewriting() {
		return
	}
	warn := func(format string, args ...any) { w.warn(e, path, format, args...) }
	f := functions[path]
	switch {
	case library.Lookup(path) == nil:
		parent := library.Lookup(path[:strings.LastIndexByte(path, '.')])
		if parent != nil && parent.Kind == lua51.Module && strings.HasPrefix(path, "avi.") {
			warn("unknown, hence nil")
		}
	case slices.Contains(unsupportedNames, path):
		warn("not supported")
	case !w.InFunction() && f != nil && !f.events.has(w.event):
		// The script's own functions may be called in another event.
		warn("not allowed in event %v", w.event)
	}
}
