package datascript

import (
	"net/netip"

	"github.com/limpetlb/limpet/internal/lua51"
)

// Vars has the variables that the scripts of one transaction keep from event
// to event: the global variables of each script, and the table avi.vs.reqvar
// that all of them share. The zero value is ready for use. It belongs to one
// transaction; [Vars.Reset] prepares it for the next.
type Vars struct {
	lua lua51.Variables

	selected string // the pool, or the group, that a script has selected last
	servers  []lookedUp
}

// A lookedUp is an address that a script has looked up, and that means one of
// several servers at the address. Scripts see only the address, so
// avi.pool.select takes the port from here.
type lookedUp struct {
	script *Script
	text   string         // the address
	server netip.AddrPort // invalid if it is not known
	used   bool           // selected, since it was looked up

	table, key string // of the entry
}

// maxLookedUp is how many addresses a transaction remembers: one for each
// machine with several servers that a script has looked up.
const maxLookedUp = 64

// lookedUp notes an address that a script has looked up, and the server that it
// means if the entry says so. If the script looks up two servers at one address
// and then selects one of them, limpet cannot tell which.
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

// serverAt returns the server that a looked-up address means; invalid if that
// is not known.
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

// Reset drops all variables. Call it when the transaction is over; no script
// of it may run then.
func (v *Vars) Reset() {
	v.lua.Reset()
	v.selected = ""
	clear(v.servers)
	v.servers = v.servers[:0]
}
