package datascript

import (
	"hash/maphash"
	"net/netip"
	"strconv"

	lua "github.com/yuin/gopher-lua"
)

// Making a Lua value of a string allocates. Bytes and the short words of HTTP
// are ready-made.
var (
	letters = func() (values [256]lua.LValue) {
		for i := range values {
			values[i] = lua.LString([]byte{byte(i)})
		}
		return values
	}()
	words = func() map[string]lua.LValue {
		m := map[string]lua.LValue{}
		for _, w := range []string{
			"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
			"http", "https", "1.0", "1.1", "2.0", "80", "443", "200", "204", "206", "301", "302", "303", "304", "307", "308",
			"400", "401", "403", "404", "405", "500", "502", "503", "504",
			"nil", "boolean", "number", "string", "function", "table", "true", "false",
		} {
			m[w] = lua.LString(w)
		}
		return m
	}()
)

const maxWord = 8

func stringValue(s string) lua.LValue {
	if len(s) == 1 {
		return letters[s[0]]
	}
	if len(s) <= maxWord {
		if v, ok := words[s]; ok {
			return v
		}
	}
	return lua.LString(s)
}

// texts keeps what addresses and ports are as Lua values. Most scripts ask for
// the same few again and again, and each new one costs two allocations. Both
// tables are as small as they are because each state has its own; where two
// texts meet in a slot, the later one stays.
type texts struct {
	addrs [64]addrText
	ports [64]portText
}

type addrText struct {
	addr netip.Addr
	text lua.LValue
}

type portText struct {
	port uint16
	text lua.LValue
}

var textSeed = maphash.MakeSeed()

func (t *texts) addr(a netip.Addr) lua.LValue {
	slot := &t.addrs[maphash.Comparable(textSeed, a)%uint64(len(t.addrs))]
	if slot.addr != a {
		*slot = addrText{a, lua.LString(a.String())}
	}
	return slot.text
}

func (t *texts) port(p uint16) lua.LValue {
	slot := &t.ports[int(p)%len(t.ports)]
	if slot.port != p || slot.text == nil {
		*slot = portText{p, lua.LString(strconv.Itoa(int(p)))}
	}
	return slot.text
}
