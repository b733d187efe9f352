package clientaddr

import (
	"cmp"
	"net/netip"
	"slices"
)

// ranges is a set of addresses: disjoint ranges in ascending order, all of IPv4
// before all of IPv6, which is the order of [netip.Addr.Compare]. Immutable.
type ranges []addrRange

type addrRange struct{ first, last netip.Addr } // both inclusive

// newRanges returns the union of prefixes, which must be valid.
func newRanges(prefixes []netip.Prefix) ranges {
	all := make(ranges, 0, len(prefixes))
	for _, prefix := range prefixes {
		all = append(all, rangeOf(prefix))
	}
	slices.SortFunc(all, func(a, b addrRange) int { // of two that start together, the longer first
		return cmp.Or(a.first.Compare(b.first), b.last.Compare(a.last))
	})

	// Prefixes nest or are apart, so a range is either inside the last one kept
	// or entirely after it.
	kept := all[:0]
	for _, next := range all {
		if len(kept) == 0 || kept[len(kept)-1].last.Less(next.first) {
			kept = append(kept, next)
		}
	}
	return slices.Clip(kept)
}

// rangeOf returns the range of prefix, as IPv4 if it lies within the
// IPv4-mapped addresses.
func rangeOf(prefix netip.Prefix) addrRange {
	const mappedBits = 96
	if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= mappedBits {
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-mappedBits)
	}
	first := prefix.Masked().Addr()
	last := first.AsSlice()
	for bit := prefix.Bits(); bit < first.BitLen(); bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	lastAddr, _ := netip.AddrFromSlice(last)
	return addrRange{first, lastAddr}
}

// contain reports whether addr, which must be normalised, is in the set.
func (r ranges) contain(addr netip.Addr) bool {
	low, high := 0, len(r)
	for low < high { // finds the first range that starts after addr
		middle := int(uint(low+high) >> 1)
		if addr.Less(r[middle].first) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low > 0 && !r[low-1].last.Less(addr)
}
