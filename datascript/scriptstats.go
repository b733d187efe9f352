package datascript

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ScriptStats are the counts of one script for one event. They are kept in
// [Env.Metrics], so a script keeps its counts, by its name, in all engines that
// share the metrics.
type ScriptStats struct {
	Script string // the script's name
	Event  Event  // the event of the runs
	Runs   uint64 // with or without success
	// Instructions is how many instructions all runs have used, as
	// [Limits.Instructions] counts them.
	Instructions uint64
	// Time is how long all runs have taken, services included. It does not
	// include the wait for a turn.
	Time time.Duration
	// Failures has the number of failures by kind; kinds without any are
	// missing. The kinds are "script" (the script itself is at fault),
	// "instructions", "time" and "memory" (a limit), "depth" (too many nested
	// calls), "busy" (too many scripts ran, or variables had no room),
	// "service" (of the host; also the end of the request) and "panic".
	Failures map[string]uint64
}

// failureKinds are the keys of ScriptStats.Failures.
var failureKinds = [...]string{"script", "instructions", "time", "memory", "depth", "busy", "service", "panic"}

// failureKind returns the kind of a failure, as its position in failureKinds.
func failureKind(err *RuntimeError) int {
	kind := "script"
	budget, isBudget := errors.AsType[*BudgetError](err.Cause)
	_, isPanic := errors.AsType[*PanicError](err.Cause)
	switch {
	case isPanic:
		kind = "panic"
	case errors.Is(err.Cause, ErrBusy):
		kind = "busy"
	case isBudget && strings.HasPrefix(budget.Budget, "time"):
		kind = "time"
	case isBudget && strings.Contains(budget.Budget, "bytes"):
		kind = "memory"
	case isBudget:
		kind = "instructions"
	case err.Cause != nil:
		kind = "service"
	case strings.HasSuffix(err.Message, "stack overflow"):
		kind = "depth"
	}
	return slices.Index(failureKinds[:], kind)
}

// scriptCounts are the counts of a script by event.
type scriptCounts [numEvents]struct {
	runs, instructions, nanoseconds atomic.Uint64
	failures                        [len(failureKinds)]atomic.Uint64
}

// countsOf returns the counts of a script, which it makes if needed.
func (e *Engine) countsOf(s *Script) *scriptCounts {
	if c, ok := e.counts.Load(s); ok {
		return c.(*scriptCounts)
	}
	m := e.env.Metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.scripts[s.name]
	if c == nil {
		if m.scripts == nil {
			m.scripts = map[string]*scriptCounts{}
		}
		c = new(scriptCounts)
		m.scripts[strings.Clone(s.name)] = c
	}
	e.counts.Store(s, c)
	return c
}

// measure runs a script in a state, and counts the run.
func (e *Engine) measure(ctx context.Context, st *state, s *Script, ev Event, tx Transaction) (err error, healthy bool) {
	begun := time.Now()
	err, healthy = st.exec(ctx, s, ev, tx)
	c := &e.countsOf(s)[ev]
	c.runs.Add(1)
	c.instructions.Add(uint64(st.lua.Used()))
	c.nanoseconds.Add(uint64(time.Since(begun)))
	e.countFailure(s, ev, err)
	return err, healthy
}

// countFailure counts what Run returns for a script.
func (e *Engine) countFailure(s *Script, ev Event, err error) {
	if failure, ok := errors.AsType[*RuntimeError](err); ok {
		e.countsOf(s)[ev].failures[failureKind(failure)].Add(1)
	}
}

// ScriptStats returns the counts of all scripts that have run for an event, or
// failed to, sorted by name and event. It may be called at any time. The caller
// owns the slice and its maps.
func (e *Engine) ScriptStats() (all []ScriptStats) {
	m := e.env.Metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, counts := range m.scripts {
		for ev := range counts {
			c := &counts[ev]
			s := ScriptStats{
				Script: name, Event: Event(ev), Runs: c.runs.Load(), Instructions: c.instructions.Load(),
				Time: time.Duration(c.nanoseconds.Load()), Failures: map[string]uint64{},
			}
			for kind, word := range failureKinds {
				if n := c.failures[kind].Load(); n > 0 {
					s.Failures[word] = n
				}
			}
			if s.Runs > 0 || len(s.Failures) > 0 {
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b ScriptStats) int {
		return cmp.Or(cmp.Compare(a.Script, b.Script), cmp.Compare(a.Event, b.Event))
	})
	return all
}
