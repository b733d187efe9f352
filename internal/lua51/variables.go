package lua51

import (
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// Variables holds what the scripts of one transaction keep from run to run:
// the global variables of each script, and a table that all of them share. The
// zero value is ready for use. It belongs to one transaction;
// [Variables.Reset] readies it for the next.
type Variables struct {
	scripts []scriptGlobals
	shared  *lua.LTable
	spare   *lua.LTable // a cleared table of globals, for the next transaction

	// The bytes that the variables hold, as far as the gate has counted them.
	gate   *Gate
	held   int64
	mode   mode // that scripts need which see them; see weigh.go
	opaque int  // bytes that iterators hold, which cannot be looked into
}

type scriptGlobals struct {
	script *Script
	table  *lua.LTable
}

// tables keeps cleared tables of globals, each with room for at least as many
// slots as most scripts have.
var tables sync.Pool

// globals returns the table of a script's global variables.
func (v *Variables) globals(st *State, s *Script) *lua.LTable {
	for i := range v.scripts {
		if v.scripts[i].script == s {
			return v.scripts[i].table
		}
	}
	n, t := len(s.globals.names), v.spare
	if v.spare = nil; t == nil {
		t = newGlobals(st.L, n)
	}
	if grown := n - len(arrayOf(t)); grown > 0 { // now, so that no store to a global makes it grow
		st.run.Hold(elementBytes * grown)
		t.RawSetInt(n, lua.LNil)
	}
	for _, p := range s.globals.prefill {
		switch {
		case p.sym.Kind == Variable:
			t.RawSetInt(p.slot, p.sym.value(&st.run))
		case p.sym.Kind == Module && copyableLibraries[p.sym.Name]:
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

// Shared returns the table that all scripts of the transaction share.
func (v *Variables) Shared(L *lua.LState) *lua.LTable {
	if v.shared == nil {
		v.shared = L.CreateTable(0, 4)
	}
	return v.shared
}

// Held reports whether the variables hold so much that an engine counts it.
func (v *Variables) Held() bool { return v.gate != nil }

// Reset drops all variables. Call it when the transaction is over; no script
// of it may run then.
func (v *Variables) Reset() {
	for i := range v.scripts {
		g := &v.scripts[i]
		values := arrayOf(g.table)
		for slot := range g.script.globals.names {
			values[slot] = lua.LNil
		}
		if v.spare == nil {
			v.spare = g.table
		} else {
			tables.Put(g.table)
		}
		*g = scriptGlobals{}
	}
	v.scripts = v.scripts[:0]
	v.shared = nil
	v.keep(nil, 0)
	v.opaque, v.mode = 0, usualMode
}

// smallBytes is what a transaction may hold without being counted.
const smallBytes = 256 << 10

// keep has a gate count the bytes that the variables hold from now on. It
// reports false if there is no room; they are counted all the same if they
// were before.
func (v *Variables) keep(g *Gate, bytes int64) bool {
	if bytes <= smallBytes {
		g, bytes = nil, 0
	}
	if v.gate == g && bytes <= v.held || g == nil {
		if v.gate != nil {
			v.gate.release(v.held - bytes)
		}
		v.gate, v.held = g, bytes
		return true
	}
	if v.gate != g {
		v.keep(nil, 0)
	}
	if !g.hold(bytes - v.held) {
		return false
	}
	v.gate, v.held = g, bytes
	return true
}
