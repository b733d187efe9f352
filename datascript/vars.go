package datascript

import (
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// Vars holds what the scripts of one transaction keep from event to event:
// the global variables of each script, and the table avi.vs.reqvar that all
// of them share. The zero value is ready for use. It belongs to one
// transaction; [Vars.Reset] readies it for the next.
type Vars struct {
	scripts []scriptGlobals
	reqvar  *lua.LTable
}

type scriptGlobals struct {
	script *Script
	table  *lua.LTable
}

// tables keeps cleared tables of globals, each with room for at least as many
// slots as most scripts have.
var tables sync.Pool

// globals returns the table of a script's global variables.
func (v *Vars) globals(st *state, s *Script) *lua.LTable {
	for i := range v.scripts {
		if v.scripts[i].script == s {
			return v.scripts[i].table
		}
	}
	t := newGlobals(st.L, len(s.globals.names))
	for _, p := range s.globals.prefill {
		switch {
		case p.sym.kind == perTransaction:
			t.RawSetInt(p.slot, v.requestVariables(st.L))
		case p.sym.kind == library && copyableLibraries[p.sym.name]:
			t.RawSetInt(p.slot, st.members(p.sym))
		default:
			t.RawSetInt(p.slot, st.value(p.sym))
		}
	}
	v.scripts = append(v.scripts, scriptGlobals{s, t})
	return t
}

func newGlobals(L *lua.LState, n int) *lua.LTable {
	if t, ok := tables.Get().(*lua.LTable); ok {
		return t
	}
	return L.CreateTable(max(n, 8), 0)
}

func (v *Vars) requestVariables(L *lua.LState) *lua.LTable {
	if v.reqvar == nil {
		v.reqvar = L.CreateTable(0, 4)
	}
	return v.reqvar
}

// Reset drops all variables. Call it when the transaction is over; no script
// of it may run then.
func (v *Vars) Reset() {
	for i := range v.scripts {
		g := &v.scripts[i]
		for slot := range g.script.globals.names {
			g.table.RawSetInt(slot+1, lua.LNil)
		}
		tables.Put(g.table)
		*g = scriptGlobals{}
	}
	v.scripts = v.scripts[:0]
	v.reqvar = nil
}
