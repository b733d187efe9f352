package datascript

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/limpetlb/limpet/internal/lua51"
)

// A state is a Lua state of an engine's pool, with its present run. A state in
// which a script failed is discarded.
type state struct {
	lua   *lua51.State
	run   run
	texts texts
	uses  int
}

func newState(e *Engine) *state {
	return &state{lua: e.lua.NewState(), run: run{engine: e}}
}

// maxUses is the number of runs after which a state is replaced, since tables
// of the VM never shrink.
const maxUses = 10_000

// A run is one script running for one event.
type run struct {
	engine *Engine
	state  *state
	tx     Transaction
	script *Script
	event  Event

	decisions
}

// exec runs the script's program for an event. It reports the failure of the
// script, and whether the state may be used again.
func (st *state) exec(ctx context.Context, s *Script, ev Event, tx Transaction) (err error, healthy bool) {
	r := &st.run
	engine, undo := r.engine, r.undo[:0]
	*r = run{} // in place, which a literal with values of r would not be
	r.engine, r.state, r.tx, r.script, r.event, r.undo = engine, st, tx, s, ev, undo
	defer func() {
		// The transaction may panic when it gets the decisions.
		if v := recover(); v != nil {
			r.rollback()
			cause := &lua51.PanicError{Value: v, Stack: debug.Stack()}
			err, healthy = r.error(lua51.NewFailure(s.name, cause)), false
		}
		clear(r.undo)
		r.tx, r.script, r.reply, r.others, r.user = nil, nil, nil, nil, nil
	}()
	vars := tx.Vars()
	out := st.lua.Run(ctx, s.programs[ev], &vars.lua, r)
	if out.Dropped {
		vars.Reset()
	}
	if out.Failure != nil {
		r.rollback()
		return r.error(out.Failure), out.Healthy
	}
	r.commit(tx)
	return nil, out.Healthy
}

// error turns a failure into the script's error.
func (r *run) error(f *lua51.Failure) error {
	return &RuntimeError{
		Script: r.script.name, Event: r.event, Line: f.Line,
		Message: f.Message, Traceback: f.Traceback, Cause: publicCause(f.Cause),
	}
}

// publicCause gives the errors of the interpreter the types of this package.
func publicCause(cause error) error {
	if e, ok := errors.AsType[*lua51.BudgetError](cause); ok {
		return (*BudgetError)(e)
	}
	if e, ok := errors.AsType[*lua51.PanicError](cause); ok {
		return (*PanicError)(e)
	}
	return cause
}
