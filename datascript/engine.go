package datascript

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Env is what scripts can reach beside the transaction they run for. All
// fields may be left out: a script that uses a missing service fails.
type Env struct {
	// Name is the virtual service's name, which avi.vs.name returns.
	Name string
	// Tables are the persistence tables behind avi.vs.table_*.
	Tables Tables
	// Pools are the pools that avi.pool.* may name.
	Pools Pools
	// IPGroups are the groups behind avi.ipgroup.contains.
	IPGroups IPGroups
	// Limits bound each run of a script; the zero value has safe defaults.
	Limits Limits
	// StrictSelect makes avi.pool.select accept a server only. Unless it is
	// set, the second argument may also be the key of an entry in the
	// default table whose value names a server of the pool.
	StrictSelect bool
}

// An Engine runs scripts. It keeps a pool of Lua states, and may be used from
// any number of goroutines at a time.
type Engine struct {
	env    Env
	limits Limits
	states sync.Pool

	runs, failures, created, discarded atomic.Uint64
}

// NewEngine returns an engine for an environment. It starts nothing, and
// needs no closing.
func NewEngine(env Env) (*Engine, error) {
	if env.Limits.CallDepth > 100_000 {
		return nil, errors.New("datascript: limits.callDepth: more than 100000")
	}
	return &Engine{env: env, limits: env.Limits.withDefaults()}, nil
}

// Run runs what a script has for an event; if it has nothing, Run does
// nothing. Errors are of type [*RuntimeError]; all that the script had
// changed or decided is taken back then, except in tables and in the log.
//
// ctx is the request's: when it ends, the script is stopped. Events of one
// transaction must not overlap.
func (e *Engine) Run(ctx context.Context, s *Script, ev Event, tx Transaction) error {
	if !s.Handles(ev) {
		return nil
	}
	st, _ := e.states.Get().(*state)
	if st == nil {
		st = newState(e)
		e.created.Add(1)
	}
	err, healthy := st.exec(ctx, s, s.chunks[ev], ev, tx)
	e.runs.Add(1)
	if err != nil {
		e.failures.Add(1)
	}
	if st.uses++; healthy && st.uses < maxUses {
		e.states.Put(st)
	} else {
		e.discarded.Add(1)
	}
	return err
}

// Stats are counts since the engine was made.
type Stats struct {
	Runs      uint64 // of scripts, one for each event
	Failures  uint64 // runs that ended with an error
	Created   uint64 // Lua states made
	Discarded uint64 // Lua states thrown away, after a failure or after long use
}

// Stats returns the engine's counts. It may be called at any time.
func (e *Engine) Stats() Stats {
	return Stats{
		Runs: e.runs.Load(), Failures: e.failures.Load(),
		Created: e.created.Load(), Discarded: e.discarded.Load(),
	}
}
