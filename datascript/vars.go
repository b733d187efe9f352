package datascript

import (
	"net/netip"
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

	selected string // the pool, or the group, that a script has selected last
	servers  []lookedUp

	// What the variables hold, as far as it has been counted by the gate.
	gate   *gate
	held   int64
	mode   mode // that scripts need which see them; see weigh.go
	opaque int  // bytes that iterators hold, which cannot be looked into
}

// A lookedUp is an address that a script has looked up, and that means one of
// the servers which share it. Scripts see the address alone, so this is how
// avi.pool.select knows the port.
type lookedUp struct {
	script *Script
	text   string         // the address
	server netip.AddrPort // invalid if it is not known
	used   bool           // selected, since it was looked up

	table, key string // of the entry
}

// maxLookedUp is how many addresses a transaction remembers. There is one for
// each machine with several servers, of those that a script has looked up.
const maxLookedUp = 64

// lookedUp notes what a script has looked up: an address, and the server that
// it means if the entry tells. If the script looks up two servers at one
// address and then selects one of them, nobody knows which.
func (v *Vars) lookedUp(found lookedUp) {
	if k := v.at(found.script, found.text); k != nil {
		if !k.used && k.server != found.server {
			found.server = netip.AddrPort{}
		}
		*k = found
	} else if found.server.IsValid() && len(v.servers) < maxLookedUp {
		v.servers = append(v.servers, found)
	}
}

func (v *Vars) at(s *Script, text string) *lookedUp {
	for i := range v.servers {
		if k := &v.servers[i]; k.script == s && k.text == text {
			return k
		}
	}
	return nil
}

// serverAt returns the server that an address means which the script has
// looked up; invalid if that is not known.
func (v *Vars) serverAt(s *Script, text string) netip.AddrPort {
	k := v.at(s, text)
	if k == nil {
		return netip.AddrPort{}
	}
	k.used = true
	return k.server
}

// hasMoved reports whether the script has looked up a server in an entry, has
// selected it by its address, and got the other server at the address.
func (v *Vars) hasMoved(s *Script, table, key, text string, to netip.AddrPort) bool {
	k := v.at(s, text)
	return k != nil && k.used && k.table == table && k.key == key && k.server.IsValid() && k.server != to
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
	v.selected = ""
	clear(v.servers)
	v.servers = v.servers[:0]
	v.keep(nil, 0)
	v.opaque, v.mode = 0, usualMode
}

// smallBytes is what a transaction may hold without being counted.
const smallBytes = 256 << 10

// keep has a gate count the bytes that the variables hold from now on. It
// reports false if there is no room; they are counted all the same if they
// were before.
func (v *Vars) keep(g *gate, bytes int64) bool {
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
