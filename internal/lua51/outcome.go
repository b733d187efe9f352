package lua51

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	lua "github.com/yuin/gopher-lua"
)

// End ends the script here, without an error: it has nothing more to say.
func (c Call) End() {
	c.halt(errEnded)
	c.check()
}

// errEnded stops a script that has ended by End. It is not a failure.
var errEnded = errors.New("the script has ended")

// A Failure says why a run has failed.
type Failure struct {
	Line      int    // where, counted from 1; 0 if unknown
	Message   string // such as `[string "x"]:2: attempt to call global 'f' (a nil value)`
	Traceback string // the calls that led there, innermost first
	// Cause is what lies behind the error: a [*BudgetError], a [*PanicError],
	// an error given to [Call.FailWith], the context's error; or nil if the
	// script itself is at fault.
	Cause error
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

// Unwrap returns Cause.
func (f *Failure) Unwrap() error { return f.Cause }

// An Outcome is how a run has ended.
type Outcome struct {
	Failure *Failure // nil if it has succeeded
	Healthy bool     // the state may be used again
	Dropped bool     // the variables took too much memory, and are gone
}

// Run runs one program for a transaction with some variables. The caller must
// have passed the engine's gate, and calls [State.Leave] afterwards. Functions
// find the value of host by [Run.Host].
func (st *State) Run(ctx context.Context, p *Program, v *Variables, host any) (out Outcome) {
	r := &st.run
	engine, frame, registry, spare := r.engine, r.frame, r.registry, r.spare
	*r = Run{} // in place, which a literal with values of r would not be
	r.engine, r.state, r.frame, r.registry, r.spare = engine, st, frame, registry, spare
	r.ctx, r.host, r.program, r.variables = ctx, host, p, v
	r.tick, r.mode = 1<<20, max(p.script.mode, v.mode)
	defer func() {
		// Nothing that PCall should have caught comes here, but a VM that
		// runs out of registers panics within its own recovery.
		switch v := recover().(type) {
		case nil:
		case *lua.ApiError:
			out = Outcome{Failure: r.failed(v)}
		default:
			out = Outcome{Failure: r.fail(&PanicError{Value: v, Stack: debug.Stack()})}
		}
		if out.Failure != nil && !out.Dropped {
			out.Dropped = !r.keep()
		}
		r.ctx, r.host, r.program, r.variables = nil, nil, nil, nil
	}()

	main := st.main(p)
	r.steps, r.patternSteps = r.engine.limits.Instructions, maxPatternSteps
	r.interval = r.engine.interval
	r.tick = min(r.steps, r.interval)
	r.steps -= r.tick
	if err := ctx.Err(); err != nil {
		return Outcome{Failure: r.fail(context.Cause(ctx)), Healthy: true}
	}
	st.L.Push(main)
	st.L.Push(v.globals(st, p.script))
	e := st.L.PCall(1, 0, st.onError)
	if r.stop != nil && errors.Is(r.stop, errEnded) {
		// The state is as good as before: noteError has cut the script's
		// closures off. To throw it away, as after a failure, would be slow
		// just when there are too many requests.
		return Outcome{Healthy: true}
	}
	if e != nil {
		return Outcome{Failure: r.failed(e)}
	}
	if r.stop != nil {
		return Outcome{Failure: r.fail(r.stop)}
	}
	if !r.keep() {
		return Outcome{Failure: r.fail(r.engine.busy), Healthy: true, Dropped: true}
	}
	return Outcome{Healthy: true}
}

// Used returns how many instructions the last run has used, as
// [Limits.Instructions] counts them.
func (st *State) Used() int {
	r := &st.run
	left := r.unused
	if r.stop == nil {
		left = r.steps + r.tick + r.skip
	}
	return max(0, r.engine.limits.Instructions-max(left, 0))
}

// keep counts what the transaction holds when the event has ended. It reports
// false if that is too much for the engine.
func (r *Run) keep() bool {
	v := r.variables
	v.mode = r.mode
	if r.made == 0 || int64(r.made)+v.held <= smallBytes {
		return true
	}
	held, _ := r.measure()
	if v.keep(r.engine.gate, int64(held)) {
		return true
	}
	v.Reset() // the transaction fails, and must not keep them
	return false
}

// failed makes the failure of a script that ended with an error.
func (r *Run) failed(e error) *Failure {
	if r.message == "" { // the stack was full, and noteError could not be called
		var ae *lua.ApiError
		if errors.As(e, &ae) && ae.Object != nil {
			r.message = errorText(ae.Object)
			_, p, _, _ := cutPosition(r.message)
			r.message, r.line = r.reword(r.state.L, -1, r.message), p.line()
		}
	}
	if r.stop != nil {
		r.cause = r.stop
	}
	return r.fail(r.cause)
}

// NewFailure describes the failure of a script that is not an error of its
// code.
func NewFailure(script string, cause error) *Failure {
	return &Failure{Message: ChunkName(script) + ": " + publicText(cause), Cause: cause}
}

// fail describes the failure of the script.
func (r *Run) fail(cause error) *Failure {
	if r.message == "" {
		r.message = NewFailure(r.program.script.name, cause).Message
	}
	return &Failure{Line: r.line, Message: r.message, Traceback: r.traceback, Cause: cause}
}

// noteError is the error handler of the whole script: it runs where the error
// was raised, with the calls that led there still on the stack.
func noteError(L *lua.LState) int {
	r := L.Context().(*Run)
	limit := r.engine.limits.ErrorBytes
	r.message = Cut(errorText(r.explain(L)), limit)
	r.traceback, r.line = traceback(L, limit)
	release(allCaptured(L))
	return 1
}

// errorText describes an error value without running any of the script's
// metamethods.
func errorText(v lua.LValue) string {
	if s, ok := Text(v); ok {
		return s
	}
	return fmt.Sprintf("(error object is a %s value)", v.Type())
}
