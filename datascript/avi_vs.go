package datascript

import (
	"net/netip"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/limpetlb/limpet/internal/exactaddr"
	"github.com/limpetlb/limpet/internal/lua51"
	"github.com/limpetlb/limpet/internal/oneline"
)

// The module avi.vs: the connection, the log, and the persistence tables.
var vsEntries = []entry{
	{name: "client_ip", call: vsClientIP},
	{name: "client_port", call: vsClientPort},
	{name: "ip", call: vsIP},
	{name: "port", call: vsPort},
	{name: "name", call: vsName},
	{name: "log", call: vsLog},
	{name: "reqvar", kind: lua51.Variable, value: func(r *lua51.Run) lua.LValue { return r.Variables().Shared(r.VM()) }},
	{name: "table_insert", call: vsTableInsert},
	{name: "table_lookup", call: vsTableLookup},
	{name: "table_refresh", call: vsTableRefresh},
	{name: "table_remove", call: vsTableRemove},
	{name: "close_conn", call: httpCloseConn, events: notFailed},
	{name: "get_open_conns", call: vsGetOpenConns},
	{name: "se_count", call: vsSECount},
}

// client_ip() returns the client's address as text.
func vsClientIP(c call) int { return c.retAddr(c.tx.Client().Addr()) }

// client_port() returns the client's port as a string of digits.
func vsClientPort(c call) int { return c.retPort(c.tx.Client().Port()) }

// ip() returns the address of the virtual service that the client connected
// to, as text.
func vsIP(c call) int { return c.retAddr(c.tx.Local().Addr()) }

// port() returns the port of the virtual service that the client connected
// to, as a string of digits.
func vsPort(c call) int { return c.retPort(c.tx.Local().Port()) }

// name() returns the name of the virtual service.
func vsName(c call) int { return c.RetString(c.engine.env.Name) }

// get_open_conns() returns how many connections of clients are open. It fails
// if the host does not count them.
func vsGetOpenConns(c call) int {
	n, ok := ability[ConnCounter](c).OpenConns()
	if !ok {
		c.Fail("%s: not possible in this virtual service", c.Sym.Name)
	}
	return c.RetNumber(float64(n))
}

// se_count() returns how many processes serve the virtual service: 1, unless
// the host says otherwise.
func vsSECount(c call) int { return c.RetNumber(float64(max(c.engine.env.Instances, 1))) }

func (c call) retAddr(a netip.Addr) int {
	if !a.IsValid() {
		return c.Ret(lua.LNil)
	}
	return c.Ret(c.state.texts.addr(a))
}

// addrText returns the text of an address. Most runs get it from a cache.
func (c call) addrText(a netip.Addr) string {
	s, _ := c.state.texts.addr(a).(lua.LString)
	return string(s)
}

func (c call) retPort(p uint16) int { return c.Ret(c.state.texts.port(p)) }

// log(...) writes its arguments, joined as tostring prints them, to the
// transaction's log, with the position of the call in front.
func vsLog(c call) int { return c.logAll("") }

// print(...) is log(...) with tabs between the arguments: it does not write to
// standard output.
func logPrint(c call) int { return c.logAll("\t") }

// logAll logs the arguments, joined. It joins no more than can be logged, since
// there may be thousands of long arguments.
func (c call) logAll(separator string) int {
	var b strings.Builder
	b.WriteString(c.Position())
	left := 0
	if c.logLines < c.engine.limits.LogLines {
		left = max(c.engine.limits.LogBytes-c.logBytes+1, 0) // one more, so that it is cut
	}
	for n := 1; n <= c.Count(); n++ {
		if n > 1 {
			b.WriteString(separator)
		}
		s := c.ToString(c.Arg(n))
		s = s[:min(len(s), max(left-b.Len(), 0))]
		c.Spend(1)
		c.Read(len(s))
		b.WriteString(s)
	}
	c.log(b.String())
	return 0
}

// log passes one line on, within the limits. It escapes characters that could
// start another line or control a terminal.
func (c call) log(line string) {
	limits := &c.engine.limits
	c.logLines++
	left := limits.LogBytes - c.logBytes
	if c.logLines > limits.LogLines || left <= 0 {
		return
	}
	line = lua51.Cut(oneline.Escape(line), left)
	c.logBytes += len(line)
	c.tx.Log(line)
}

// defaultLifetime is the default lifetime of an entry, and the default
// extension by a look-up or a refresh.
const defaultLifetime = 300 * time.Second

// table_insert([table,] key, value [, lifetime]) stores an entry for lifetime
// seconds (300). A live entry keeps its value and gets the new lifetime. It
// returns false if nothing was stored: for a nil key, a value that is neither
// string, number nor boolean, or a lifetime that is not positive.
//
// If there are three arguments and the last is a number, or a text that
// tonumber accepts, it is the lifetime; otherwise the first one is the table.
//
// If the value is the address of the transaction's server, and other servers
// of its pool share that address, the entry names the server with its port;
// table_lookup returns the address.
func vsTableInsert(c call) int {
	tables := c.tables()
	n := c.CountSet()
	first, lifetime := 1, defaultLifetime
	lastIsLifetime := n == 3 && c.isLifetime(c.Arg(3))
	if n >= 4 || n == 3 && !lastIsLifetime {
		first = 2
	}
	if n >= 4 || lastIsLifetime {
		var ok bool
		if lifetime, ok = c.seconds(c.Arg(first + 2)); !ok || lifetime <= 0 {
			return c.RetBool(false)
		}
	}
	table := c.tableName(first)
	key, okKey := lua51.Text(c.Arg(first))
	value, okValue := c.entryValue(c.Arg(first + 1))
	if !okKey || !okValue {
		return c.RetBool(false)
	}
	value, moved := c.kept(table, key, value)
	c.store(len(key) + len(value))
	resume := c.Outside()
	if moved {
		// The script cannot see this, and would keep the entry as it is.
		if err := tables.Remove(c.Context(), table, key); err != nil {
			resume()
			c.FailWith(err)
		}
	}
	ok, err := tables.Insert(c.Context(), table, key, value, lifetime)
	resume()
	if err != nil {
		c.FailWith(err)
	}
	return c.RetBool(ok)
}

// table_lookup([table,] key [, extend]) returns the value of a live entry and
// its remaining lifetime in whole seconds, and prolongs the entry by extend
// seconds (300; 0 leaves it as it is). It returns nil if there is no live
// entry. If there are two arguments and the second is a number, it is extend.
func vsTableLookup(c call) int {
	tables := c.tables()
	table, key, extend := c.keyAndExtension()
	k, ok := lua51.Text(key)
	if !ok {
		return c.Ret(lua.LNil)
	}
	resume := c.Outside()
	value, remaining, ok, err := tables.Lookup(c.Context(), table, k, extend)
	resume()
	switch {
	case err != nil:
		c.FailWith(err)
	case !ok:
		return c.Ret(lua.LNil)
	}
	shown := c.shown(table, k, value)
	left := lua.LNumber(remaining / time.Second)
	c.found = found{table: table, key: k, value: value, text: shown, left: left, ok: true}
	c.RetString(shown)
	c.RetNumber(float64(left))
	return 2
}

// table_refresh([table,] key [, extend]) prolongs a live entry by extend
// seconds (300) and reports whether there was one.
func vsTableRefresh(c call) int {
	tables := c.tables()
	table, key, extend := c.keyAndExtension()
	k, ok := lua51.Text(key)
	if !ok {
		return c.RetBool(false)
	}
	resume := c.Outside()
	ok, err := tables.Refresh(c.Context(), table, k, extend)
	resume()
	if err != nil {
		c.FailWith(err)
	}
	return c.RetBool(ok)
}

// table_remove([table,] key) removes an entry, if there is one.
func vsTableRemove(c call) int {
	tables := c.tables()
	first := 1
	if c.CountSet() >= 2 {
		first = 2
	}
	table := c.tableName(first)
	key, ok := lua51.Text(c.Arg(first))
	if !ok {
		return 0
	}
	if table == c.found.table && key == c.found.key {
		c.found.removed = true
	}
	resume := c.Outside()
	err := tables.Remove(c.Context(), table, key)
	resume()
	if err != nil {
		c.FailWith(err)
	}
	return 0
}

func (c call) tables() Tables {
	if c.engine.env.Tables == nil {
		c.Fail("%s: the virtual service has no persistence tables", c.Sym.Name)
	}
	return c.engine.env.Tables
}

// tableName returns the table name, which is the argument before first.
func (c call) tableName(first int) string {
	if first == 1 {
		return ""
	}
	return c.Str(1)
}

// keyAndExtension reads the arguments of a look-up.
func (c call) keyAndExtension() (table string, key lua.LValue, extend time.Duration) {
	n := c.CountSet()
	extend = defaultLifetime
	last := 0 // where the extension is
	switch {
	case n >= 3:
		table, key, last = c.Str(1), c.Arg(2), 3
	case n == 2 && c.Arg(2).Type() == lua.LTNumber:
		key, last = c.Arg(1), 2
	case n == 2:
		table, key = c.Str(1), c.Arg(2)
	default:
		key = c.Arg(1)
	}
	if last > 0 {
		d, ok := c.seconds(c.Arg(last))
		if !ok {
			c.TypeError(last, "number")
		}
		extend = max(d, 0)
	}
	return table, key, extend
}

// entryValue returns the text of a value that a table can keep.
func (c call) entryValue(v lua.LValue) (string, bool) {
	if b, ok := v.(lua.LBool); ok {
		return b.String(), true
	}
	return lua51.Text(v)
}

// kept returns the form in which a table stores a value. The address of the
// server in use gets its port and a mark if the address alone is ambiguous.
// moved reports that the script has looked up the entry and that it names
// another server at the address, which the client did not get.
func (c call) kept(table, key, value string) (stored string, moved bool) {
	_, addr := c.tx.Server()
	if addr.IsValid() && value == c.addrText(addr.Addr()) && c.isShared(value) {
		return exactaddr.Value(addr), c.tx.Vars().hasMoved(c.script, table, key, value, addr)
	}
	return exactaddr.FromScript(value), false
}

// isShared reports whether the pool of the server in use, or the pool or group
// that a script has selected, has several servers at an address.
func (c call) isShared(address string) bool {
	pools := c.engine.env.Pools
	if pools == nil {
		return false
	}
	pool, _ := c.tx.Server()
	_, shared, _, err := pools.Find(pool, address, 0)
	if selected := c.tx.Vars().selected; !shared && selected != "" && selected != pool {
		_, shared, _, err = pools.Find(selected, address, 0)
	}
	return shared && err == nil
}

// shown returns the part of an entry's value that scripts see, and remembers
// which server it means.
func (c call) shown(table, key, value string) string {
	vars := c.tx.Vars()
	addr, exact := exactaddr.Parse(value)
	text := exactaddr.ToScript(value)
	if exact {
		text = c.addrText(addr.Addr())
	}
	if exact || len(vars.servers) > 0 {
		vars.lookedUp(lookedUp{script: c.script, text: text, server: addr, table: table, key: key})
	}
	return text
}

// isLifetime reports whether the last of three arguments is a lifetime.
func (c call) isLifetime(v lua.LValue) bool {
	_, ok := c.Number(v)
	return ok
}

// seconds reads a lifetime. It drops fractions of a second, and shortens a
// lifetime that is too long for a Duration.
func (c call) seconds(v lua.LValue) (time.Duration, bool) {
	f, ok := c.Number(v)
	const most = float64(1<<63-1) / float64(time.Second)
	switch {
	case !ok, f != f:
		return 0, false
	case f >= most:
		return 1<<63 - 1, true
	case f <= -most:
		return -1 << 63, true
	}
	return time.Duration(f) * time.Second, true
}
