package lua51

import (
	"maps"
	"slices"

	lua "github.com/yuin/gopher-lua"
)

// This file has what hosts can find out for their tests and measurements.

// Names returns the paths of all predefined names, sorted. Some name operators,
// and are nothing that a script could spell.
func (lib *Library) Names() []string { return slices.Sorted(maps.Keys(lib.symbols)) }

// IsFunction reports whether a symbol is a function.
func (s *Symbol) IsFunction() bool { return s.call != nil }

// IsGlobal reports whether a symbol is not a member of a table.
func (s *Symbol) IsGlobal() bool { return s.parent == nil }

// Value returns what a symbol stands for in the state; nil for a Variable.
func (st *State) Value(s *Symbol) lua.LValue { return st.value(s) }

// LastRun returns the run that the state is in, or was in last.
func (st *State) LastRun() *Run { return &st.run }

// Behind returns the table that a read-only one shows; nil if t is not one.
func Behind(t *lua.LTable) *lua.LTable { return behind(t) }

// Left returns how many instructions the run has left.
func (r *Run) Left() int { return r.steps + r.tick }

// Grant gives the run n instructions, however many it has spent.
func (r *Run) Grant(n int) { r.steps = n - r.tick }

// Interval returns how many instructions pass between looks at the clock.
func (r *Run) Interval() int { return max(r.interval, 1) }

// Made returns how many bytes the run has made.
func (r *Run) Made() int { return r.made }

// A Load is what a gate counts at a moment.
type Load struct {
	Running int   // scripts that have a slot
	Outside int   // scripts that wait for the host
	Waiting int   // scripts that wait for a slot
	Held    int64 // bytes
}

// Load returns what the gate counts.
func (g *Gate) Load() Load {
	n := g.scripts.Load()
	return Load{int(n & (oneOutside - 1)), int(n >> 32), int(g.waiting.Load()), g.held.Load()}
}

// Tables returns the tables of global variables, one for each script that has
// run.
func (v *Variables) Tables() []*lua.LTable {
	tables := make([]*lua.LTable, len(v.scripts))
	for i, s := range v.scripts {
		tables[i] = s.table
	}
	return tables
}
