package ipgroup

import (
	"encoding/binary"
	"iter"
	"net/netip"
)

// Addresses returns an iterator over the addresses of the group: IPv4 in
// ascending order, then IPv6 in no particular order. A group of countries or
// autonomous systems yields none. A group can have very many addresses (the
// network ::/0 has 2^128), so break the loop in time.
func (g *Group) Addresses() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		s, ok := g.members.(*rangeSet)
		if !ok {
			return
		}
		for _, r := range s.v4.spans {
			for n := uint64(r.first); n <= uint64(r.last); n++ {
				if !yield(address4(uint32(n))) {
					return
				}
			}
		}
		for _, r := range s.v6part.spans {
			if !yieldAll(r, yield) {
				return
			}
		}
		for _, r := range s.v6.spans {
			if !yieldAll(span[uint128]{uint128{hi: r.first}, uint128{r.last, ^uint64(0)}}, yield) {
				return
			}
		}
	}
}

// yieldAll yields the addresses of r, both ends included. It reports whether to
// continue.
func yieldAll(r span[uint128], yield func(netip.Addr) bool) bool {
	for a := r.first; ; a, _ = a.next() {
		if !yield(address6(a)) {
			return false
		}
		if a == r.last {
			return true
		}
	}
}

func address4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
}

func address6(a uint128) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}
