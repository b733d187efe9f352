package datascript

import (
	"math"
	"net/netip"
	"strconv"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/exactaddr"
	"github.com/limpetlb/limpet/internal/lua51"
)

// The module avi.pool: the choice of the server.
var poolEntries = []entry{
	{name: "select", call: poolSelect, events: requestEvents},
	{name: "get_servers", call: poolGetServers},
	{name: "get_server_status", call: poolGetServerStatus},
	{name: "server_ip", call: poolServerIP},
	{name: "get_server_info", call: poolGetServerInfo},
	{name: "name", call: poolName},
	{name: "chash", call: poolCHash, events: requestEvents},
	{name: "persistence", call: poolPersistence},
}

// select(pool [, server [, port]]) chooses the pool, and the server if one is
// given: by address, host name or configured name, with the port if needed. The
// last successful call wins. It fails if there is no such pool or server. A
// script may choose a server that is down.
//
// As an extension, server may be the key of a live entry in the default table
// whose value names a server of the pool. The entry that the script has looked
// up last is taken as live in the rest of the event, unless the script has
// removed it. If server is an address that several servers share, it is taken
// as the key of that entry first.
//
// Lua passes on both results of table_lookup, so the remaining lifetime may be
// in the place of the port. If server and port are the results of the last
// look-up, the call selects by the key that was looked up. If the script means
// a port that is the same number by chance, the server is one at the same
// address.
func poolSelect(c call) int {
	pools := c.pools()
	pool := c.name(1)
	if _, _, err := pools.Servers(pool); err != nil {
		c.FailWith(err)
	}
	sel := selection{pool: pool}
	if c.Arg(2) == lua.LNil {
		c.port(3)
		c.selection = sel
		return 0
	}
	server := c.Str(2)
	port, remainder := c.portOrRemainder(server)
	ok := false
	if remainder {
		if sel.addr, ok = c.findLookedUp(pools, pool); ok && c.mayCorrect() {
			sel.entry = Entry{c.found.table, c.found.key, c.found.value}
		}
	}
	if !ok && (port != 0 || !remainder) {
		sel.addr, ok = c.findServer(pools, pool, server, port)
	}
	if ok && sel.entry.Key == "" && port == 0 && c.found.isLive() && c.found.key == server && !c.engine.env.StrictSelect {
		// The address of a client that runs where the servers do is a key,
		// if the script has just looked it up.
		_, shared, _ := c.find(pools, pool, server, 0)
		if one, found := c.findEntry(pools, pool, c.found.value); shared && found {
			sel.addr, sel.entry = one, Entry{Key: server, Value: c.found.value}
		}
	}
	if !ok && !remainder && !(port != 0 && isAddress(server)) { // an address with a port is no key
		sel.entry.Key = server
		sel.addr, sel.entry.Value, ok = c.findByKey(pools, pool, server)
	}
	if !ok {
		if port != 0 && !remainder {
			server += ":" + strconv.Itoa(int(port))
		}
		c.Fail("server [%s] not found in pool %q", server, pool)
	}
	c.selection = sel
	return 0
}

// portOrRemainder reads the third argument, the port of a server. remainder
// reports that both are the results of the last look-up; port is then 0 if the
// remaining lifetime cannot be a port.
func (c call) portOrRemainder(server string) (port uint16, remainder bool) {
	f := &c.found
	left, isNumber := c.Arg(3).(lua.LNumber)
	if !isNumber || !f.ok || left != f.left || server != f.text || c.engine.env.StrictSelect {
		return c.port(3), false
	}
	port, _ = asPort(float64(left))
	return port, true
}

// findServer finds a server of the pool. If several match, and neither the port
// nor a look-up shows which one the script means, the port of addr is 0.
func (c call) findServer(pools Pools, pool, server string, port uint16) (addr netip.AddrPort, ok bool) {
	addr, shared, ok := c.find(pools, pool, server, port)
	if !ok || !shared || port != 0 {
		return addr, ok
	}
	if one := c.tx.Vars().serverAt(c.script, server); one.IsValid() {
		if one, _, ok := c.find(pools, pool, server, one.Port()); ok {
			return one, true
		}
	}
	return netip.AddrPortFrom(addr.Addr(), 0), true
}

// findEntry finds the server that the stored value of an entry names. If
// several match, the port of addr is 0.
func (c call) findEntry(pools Pools, pool, value string) (addr netip.AddrPort, ok bool) {
	if one, exact := exactaddr.Parse(value); exact {
		addr, _, ok = c.find(pools, pool, c.addrText(one.Addr()), one.Port())
		return addr, ok
	}
	addr, shared, ok := c.find(pools, pool, value, 0)
	if shared {
		addr = netip.AddrPortFrom(addr.Addr(), 0)
	}
	return addr, ok
}

func (c call) find(pools Pools, pool, server string, port uint16) (addr netip.AddrPort, shared, ok bool) {
	addr, shared, ok, err := pools.Find(pool, server, port)
	if err != nil {
		c.FailWith(err)
	}
	return addr, shared, ok && server != ""
}

// findByKey finds the server that a persistence entry names. If the entry's
// value is an address that is not in the pool, it returns an invalid addr and
// ok: the server is gone, and the pool must choose another one.
func (c call) findByKey(pools Pools, pool, key string) (addr netip.AddrPort, entry string, ok bool) {
	tables := c.engine.env.Tables
	if tables == nil || c.engine.env.StrictSelect || key == "" {
		return addr, "", false
	}
	resume := c.Outside()
	entry, _, ok, err := tables.Lookup(c.Context(), "", key, 0)
	resume()
	if err != nil {
		c.FailWith(err)
	}
	if !ok {
		if !c.found.isLive() || c.found.key != key {
			return addr, "", false
		}
		entry = c.found.value // gone since the script has looked it up
	}
	if addr, ok := c.findEntry(pools, pool, entry); ok {
		return addr, entry, true
	}
	return netip.AddrPort{}, entry, isAddress(entry)
}

// findLookedUp finds the server that the last looked-up entry names. As in
// findByKey, addr is invalid and ok is true if the server is gone.
func (c call) findLookedUp(pools Pools, pool string) (addr netip.AddrPort, ok bool) {
	if addr, ok := c.findEntry(pools, pool, c.found.value); ok {
		return addr, true
	}
	return netip.AddrPort{}, c.mayCorrect() && isAddress(c.found.value)
}

// mayCorrect reports whether the last looked-up entry can be selected by its
// key, so that it is corrected if its server is not available.
func (c call) mayCorrect() bool {
	if c.found.isLive() {
		return true
	}
	_, ok := c.tx.(EntrySelector)
	return ok && c.found.ok && !c.found.removed
}

// isAddress reports whether the value of an entry names a server by address.
func isAddress(s string) bool {
	s = exactaddr.Shown(s)
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := netip.ParseAddrPort(s)
	return err == nil
}

// get_servers([pool]) returns how many servers of the pool are up, and how
// many it has. Without an argument it means the pool in use.
func poolGetServers(c call) int {
	pool, _ := c.currentServer()
	if c.Arg(1) != lua.LNil {
		pool = c.name(1)
	}
	up, total, err := c.pools().Servers(pool)
	if err != nil {
		c.FailWith(err)
	}
	c.L.Push(lua.LNumber(up))
	c.L.Push(lua.LNumber(total))
	return 2
}

// get_server_status(pool, server, port) returns 1 if the server is up, else 0.
// As in select, port may be the second result of table_lookup.
func poolGetServerStatus(c call) int {
	pools := c.pools()
	pool, server := c.name(1), c.name(2)
	if c.Arg(3) == lua.LNil {
		c.TypeError(3, "number")
	}
	port, remainder := c.portOrRemainder(server)
	if remainder {
		if addr, ok := c.findEntry(pools, pool, c.found.value); ok {
			port = addr.Port()
		}
	}
	up, err := pools.ServerUp(pool, server, port)
	if err != nil {
		c.FailWith(err)
	}
	if up {
		return c.RetNumber(1)
	}
	return c.RetNumber(0)
}

// server_ip() returns the address of the server in use; nil before there is
// one.
func poolServerIP(c call) int {
	_, addr := c.currentServer()
	return c.retAddr(addr.Addr())
}

// get_server_info() returns the address and the port of the server in use, as
// two strings; nil before there is one.
func poolGetServerInfo(c call) int {
	_, addr := c.currentServer()
	if !addr.IsValid() {
		return c.Ret(lua.LNil)
	}
	c.retAddr(addr.Addr())
	c.retPort(addr.Port())
	return 2
}

// name() returns the name of the pool in use; nil before the script, or the
// virtual service, has chosen one.
func poolName(c call) int {
	pool, addr := c.currentServer()
	if !addr.IsValid() && c.selection.pool == "" {
		return c.Ret(lua.LNil)
	}
	return c.RetString(pool)
}

// chash(key) sets the key for pools that hash a string from a script; other
// algorithms ignore it. It fails if the host has no such algorithm.
func poolCHash(c call) int {
	keyer := ability[ForwardController](c)
	key := c.Str(1)
	c.decide(func() { keyer.SetHashKey(key) })
	return 0
}

// persistence() returns the outcome of the client's binding to a server: "hit",
// "miss", "expired", "joined", "nokey", "invalid", "ambiguous", or "repin:" and
// why another server was taken, such as "repin:down"; nil if nothing has asked
// for a binding. Before a server is chosen, it is the outcome of the look-ups
// of entries. It is an extension of this implementation.
func poolPersistence(c call) int {
	if result := ability[OutcomeReporter](c).PersistenceResult(); result != "" {
		return c.RetString(result)
	}
	return c.Ret(lua.LNil)
}

// currentServer returns the server that the script has selected, else the one
// in use.
func (c call) currentServer() (pool string, addr netip.AddrPort) {
	pool, addr = c.tx.Server()
	if c.selection.pool != "" {
		pool = c.selection.pool
	}
	return pool, addr
}

func (c call) pools() Pools {
	if c.engine.env.Pools == nil {
		c.Fail("%s: the virtual service has no pools", c.Sym.Name)
	}
	return c.engine.env.Pools
}

// port reads a port argument, a number or a numeral; 0 if it is nil.
func (c call) port(n int) uint16 {
	v := c.Arg(n)
	if v == lua.LNil {
		return 0
	}
	s, ok := lua51.Text(v)
	if !ok {
		c.TypeError(n, "number")
	}
	f, _ := c.Number(v)
	port, ok := asPort(f)
	if !ok {
		c.ArgError(n, "port %q is not between 1 and 65535", s)
	}
	return port
}

func asPort(f float64) (port uint16, ok bool) {
	if f >= 1 && f <= 65535 && f == math.Trunc(f) {
		return uint16(f), true
	}
	return 0, false
}
