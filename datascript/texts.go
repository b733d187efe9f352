package datascript

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	lua "github.com/yuin/gopher-lua"
)

// texts caches addresses and ports as Lua values. Most scripts ask for the same
// few again and again, and each new value costs two allocations. Both tables
// are small because each state has its own; if two texts need the same slot,
// the later one stays.
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

// addr returns the text of an address. If clients choose addresses that share a
// slot, their texts are only made again.
func (t *texts) addr(a netip.Addr) lua.LValue {
	b := a.As16()
	h := (binary.LittleEndian.Uint64(b[:8]) ^ binary.LittleEndian.Uint64(b[8:])) * 0x9e3779b97f4a7c15
	slot := &t.addrs[h>>32%uint64(len(t.addrs))]
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
