package lua51

import lua "github.com/yuin/gopher-lua"

// A Config says what scripts may use.
type Config struct {
	// Library has the predefined names. It is not copied.
	Library *Library
	// Limits bound each run, and all of them together.
	Limits Limits
	// Busy is the error of a script for which there is no room. It must not be
	// nil.
	Busy error
	// Trace is called with each line that is about to run, and with the tag of
	// its [Source]; nil costs nothing.
	Trace func(tag any, line int)
}

// An Engine is what all states that run scripts have in common. It may be used
// concurrently.
type Engine struct {
	library *Library
	limits  Limits // complete
	busy    error
	trace   func(tag any, line int)
	gate    *Gate

	interval int // clockInterval, or 1 to trace
}

// NewEngine returns an engine. It starts nothing, and needs no closing.
func NewEngine(c Config) *Engine {
	e := &Engine{library: c.Library, limits: c.Limits.WithDefaults(), busy: c.Busy, trace: c.Trace, interval: clockInterval}
	e.gate = newGate(&e.limits, c.Busy)
	if e.trace != nil {
		e.interval = 1
	}
	return e
}

// Limits returns the limits in force, with the defaults filled in. They must
// not be changed while scripts run.
func (e *Engine) Limits() *Limits { return &e.limits }

// Gate returns the gate, which the caller has each run pass.
func (e *Engine) Gate() *Gate { return e.gate }

// Leave gives back the slot of the last run. It must be called once after
// each [State.Run].
func (st *State) Leave() { st.run.leave() }

// VM returns the VM that the run is in.
func (r *Run) VM() *lua.LState { return r.state.L }
