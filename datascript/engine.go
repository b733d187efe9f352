package datascript

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/bounds"
	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/lua51"
)

// Env has the services that scripts can use besides their transaction. All
// fields are optional: a script that uses a missing service fails.
type Env struct {
	// Name is the virtual service's name, which avi.vs.name returns.
	Name string
	// Tables are the persistence tables for avi.vs.table_*.
	Tables Tables
	// Pools are the pools that avi.pool.* may name.
	Pools Pools
	// PoolGroups are the groups for avi.poolgroup.select.
	PoolGroups PoolGroups
	// IPGroups are the groups for avi.ipgroup.contains.
	IPGroups IPGroups
	// StringGroups are the groups for avi.stringgroup.*.
	StringGroups StringGroups
	// Geo locates addresses, for avi.utils.get_geo_from_ip.
	Geo Geo
	// Reputations rate addresses, for avi.utils.get_ip_reputation.
	Reputations Reputations
	// Tokens verifies tokens, for avi.jwt.verify.
	Tokens TokenVerifier
	// RateLimiters are the limiters that avi.vs.ratelimit.exceed may name.
	RateLimiters map[string]*RateLimiter
	// RateProfile is the profile that avi.vs.rate_limit enforces.
	RateProfile *RateProfile
	// Metrics are the metrics of avi.vs.analytics.*, and the counts of scripts.
	// Nil means that the engine has its own. See [Engine.Metrics] and
	// [Engine.ScriptStats].
	Metrics *Metrics
	// Instances is how many processes serve the virtual service, for
	// avi.vs.se_count. Zero means 1.
	Instances int `default:"1" min:"1"`
	// Trace gets each line of a script that is about to run, once for each
	// piece of code of the line; see [Script.Lines]. A function that a script
	// has left in a variable is reported for the script and the event that
	// contain it. The goroutine that runs the script calls Trace. It makes
	// scripts several times slower, so raise Limits.Time if needed; nil costs
	// nothing.
	Trace func(s *Script, ev Event, line int)
	// Limits bound each run of a script; the zero value has safe defaults.
	Limits Limits
	// StrictSelect makes avi.pool.select accept only servers. Without it, the
	// second argument may also be the key of an entry in the default table
	// whose value names a server of the pool.
	StrictSelect bool
}

// complete checks the environment, sets defaults, and copies the parts that the
// caller could change.
func (env *Env) complete() error {
	var faults fielderr.List
	for _, name := range slices.Sorted(maps.Keys(env.RateLimiters)) {
		path := fielderr.Key("rateLimiters", name)
		if env.RateLimiters[name] == nil {
			faults.Addf(path, nil, "missing")
		}
		faults.Name(path, name)
	}
	env.RateProfile.validate(&faults)
	if env.Metrics != nil {
		bounds.Check("metrics", env.Metrics, &faults)
	}
	bounds.Check("", *env, &faults)
	bounds.SetDefaults(env)
	bounds.Check("limits", env.Limits, &faults)
	env.RateLimiters = maps.Clone(env.RateLimiters)
	if env.RateProfile != nil {
		profile := *env.RateProfile
		env.RateProfile = &profile
	}
	if env.Metrics == nil {
		env.Metrics = &Metrics{}
	}
	return faults.ErrIn(*env)
}

// An Engine runs scripts. It keeps a pool of Lua states, and may be used from
// any number of goroutines at a time.
type Engine struct {
	env    Env
	limits Limits
	lua    *lua51.Engine
	states sync.Pool
	counts sync.Map // of *Script: its *scriptCounts in env.Metrics

	runs, failures, created, discarded, refused atomic.Uint64
}

// NewEngine returns an engine for an environment. It starts nothing and need
// not be closed. The error joins a [*FieldError] for each fault.
func NewEngine(env Env) (*Engine, error) {
	if err := env.complete(); err != nil {
		return nil, err
	}
	e := &Engine{env: env, limits: env.Limits.withDefaults()}
	config := lua51.Config{Library: library, Limits: e.limits.interpreter(), Busy: ErrBusy}
	if env.Trace != nil {
		config.Trace = func(tag any, line int) {
			o := tag.(*origin)
			env.Trace(o.script, o.event, line)
		}
	}
	e.lua = lua51.NewEngine(config)
	return e, nil
}

// Run runs the code of a script for an event; without such code it does
// nothing. Errors are of type [*RuntimeError]. After an error, all changes and
// decisions of the script are undone, except in tables, rate limiters, metrics
// and the log.
//
// If too many scripts are running, Run waits for its turn; see [Limits].
//
// ctx is the context of the request: when it ends, the script is stopped.
// Events of one transaction must not overlap.
func (e *Engine) Run(ctx context.Context, s *Script, ev Event, tx Transaction) error {
	if !s.Handles(ev) {
		return nil
	}
	if err := e.lua.Gate().Enter(ctx, tx.Vars().lua.Held()); err != nil {
		if errors.Is(err, ErrBusy) {
			e.refused.Add(1)
		}
		failure := &RuntimeError{Script: s.name, Event: ev, Message: lua51.ChunkName(s.name) + ": " + err.Error(), Cause: err}
		e.countFailure(s, ev, failure)
		return failure
	}
	st, _ := e.states.Get().(*state)
	if st == nil {
		st = newState(e)
		e.created.Add(1)
	}
	err, healthy := e.measure(ctx, st, s, ev, tx)
	st.lua.Leave()
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

// Metrics returns the counters and gauges of scripts, sorted by name. It may be
// called at any time. The caller owns the slice.
func (e *Engine) Metrics() []Metric { return e.env.Metrics.Snapshot() }

// Stats are the counts since the engine was made.
type Stats struct {
	Runs      uint64 // of scripts, one for each event
	Failures  uint64 // runs that ended with an error
	Created   uint64 // Lua states made
	Discarded uint64 // Lua states thrown away, after a failure or after long use
	Refused   uint64 // events that did not run, because too many did; see [Limits]
}

// Stats returns the engine's counts. It may be called at any time.
func (e *Engine) Stats() Stats {
	return Stats{
		Runs: e.runs.Load(), Failures: e.failures.Load(),
		Created: e.created.Load(), Discarded: e.discarded.Load(),
		Refused: e.refused.Load(),
	}
}
