package datascript

import (
	"hash/maphash"
	"net/netip"
	"strconv"

	lua "github.com/yuin/gopher-lua"
)

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
