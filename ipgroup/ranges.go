package ipgroup

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
)

// A group of addresses consists of sorted, disjoint ranges with an index. A
// look-up takes a few cache misses, whatever their number.
//
// IPv6 lists name networks of /64 and wider, and now and then a single address.
// Networks are kept as ranges of the upper 64 bits, which halves their size;
// what begins or ends inside a /64 is kept apart.
//
// Against a trie a large list takes a third of the memory or less, has no
// pointers for the collector to follow, and is built by one sort. It cannot be
// changed in place, which a group never is.

// rangeSet is an immutable set of addresses of both families.
type rangeSet struct {
	v4     ranges[uint32]
	v6     ranges[uint64] // whole /64 networks, by the upper halves of their addresses
	v6part ranges[uint128]
	n      int // disjoint ranges

	// The entries of which a range was merged, where that is not one alone.
	inner4 []piece[uint32]
	inner6 []piece[uint128]
}

// newRangeSet merges the spans, in any order and overlapping as they may be. It
// takes over both slices.
func newRangeSet(v4 []span[uint32], v6 []span[uint128]) *rangeSet {
	v4, inner4 := merge(v4, arithmetic4)
	v6, inner6 := merge(v6, arithmetic6)
	whole, part := split(v6)
	return &rangeSet{
		inner4: inner4,
		inner6: inner6,
		v4:     newRanges(v4),
		v6:     newRanges(whole),
		v6part: newPartRanges(part),
		n:      len(v4) + len(v6),
	}
}

func (s *rangeSet) len() int { return s.n }

// contains does not normalize addr: it reads the bits only, which is faster
// than making another Addr. AsSlice leaves the zone out and does not allocate
// here; As16 would copy once more.
func (s *rangeSet) contains(addr netip.Addr) bool {
	var a4 uint32
	switch b := addr.AsSlice(); len(b) {
	case 0:
		return false
	case 4:
		a4 = binary.BigEndian.Uint32(b)
	default:
		a := uint128{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
		if a.hi != 0 || a.lo>>32 != 0xffff {
			if c, ok := s.v6.index.find(a.hi); ok && search(&s.v6, c, a.hi) {
				return true
			}
			c, ok := s.v6part.index.find(a.hi)
			return ok && searchPart(&s.v6part, c, a)
		}
		a4 = uint32(a.lo) // IPv4-mapped
	}
	c, ok := s.v4.index.find(uint64(a4))
	return ok && search(&s.v4, c, a4)
}

// search reports whether a is in one of the ranges. The index has found the
// cell for it.
func search[A uint32 | uint64](r *ranges[A], c cell, a A) bool {
	at, ok := r.index.descend(c, uint64(a), 0)
	if !ok {
		return false
	}
	for n := min(leafSpans, len(r.spans)); n > 1; {
		half := n / 2
		// A branch would be mispredicted half of the time.
		_, below := bits.Sub64(uint64(a), uint64(r.spans[at+half].first), 0)
		at += half & (int(below) - 1)
		n -= half
	}
	s := r.spans[at]
	return a-s.first <= s.last-s.first
}

// searchPart is search for ranges of IPv6 addresses inside of /64 networks.
func searchPart(r *ranges[uint128], c cell, a uint128) bool {
	at, ok := r.index.descend(c, a.hi, a.lo)
	if !ok {
		return false
	}
	for n := min(leafSpans, len(r.spans)); n > 1; {
		half := n / 2
		first := r.spans[at+half].first
		_, below := bits.Sub64(a.lo, first.lo, 0)
		_, below = bits.Sub64(a.hi, first.hi, below)
		at += half & (int(below) - 1)
		n -= half
	}
	s := &r.spans[at]
	return a.hi == s.first.hi && a.lo-s.first.lo <= s.last.lo-s.first.lo
}

// span is a range of addresses, both ends included.
type span[A any] struct{ first, last A }

// ranges are disjoint spans in ascending order, with their index.
type ranges[A any] struct {
	spans []span[A]
	index index
}

func newRanges[A uint32 | uint64](spans []span[A]) ranges[A] {
	return ranges[A]{spans, newIndex(len(spans), func(i int, _ bool) (first, last uint64) {
		return uint64(spans[i].first), uint64(spans[i].last)
	})}
}

// newPartRanges takes spans each of which lies inside of a /64 network.
func newPartRanges(spans []span[uint128]) ranges[uint128] {
	return ranges[uint128]{spans, newIndex(len(spans), func(i int, low bool) (first, last uint64) {
		if low {
			return spans[i].first.lo, spans[i].last.lo
		}
		return spans[i].first.hi, spans[i].last.hi
	})}
}

// merge sorts spans and joins those that overlap or touch. It uses the memory
// of spans and returns a copy of the right size. For ranges merged from several
// spans it also returns pieces with the sizes of these.
func merge[A any](spans []span[A], n arithmetic[A]) (merged []span[A], inner []piece[A]) {
	slices.SortFunc(spans, func(a, b span[A]) int { return cmp.Or(n.compare(a.first, b.first), n.compare(a.last, b.last)) })
	spans = slices.CompactFunc(spans, func(a, b span[A]) bool { return n.compare(a.first, b.first)|n.compare(a.last, b.last) == 0 })
	merged = spans[:0]
	for i := 0; i < len(spans); {
		joined, end := spans[i], i+1
		for end < len(spans) && n.joins(joined.last, spans[end].first) {
			if n.compare(joined.last, spans[end].last) < 0 {
				joined.last = spans[end].last
			}
			end++
		}
		if end > i+1 || !n.whole(joined) {
			inner = n.subdivide(inner, joined, spans[i:end])
		}
		merged = append(merged, joined)
		i = end
	}
	return slices.Clone(merged), slices.Clone(inner)
}

// split divides spans of IPv6 addresses into whole /64 networks and what is
// left of them at either end.
func split(spans []span[uint128]) (whole []span[uint64], part []span[uint128]) {
	for _, s := range spans {
		first, last := s.first.hi, s.last.hi
		headless, tailless := s.first.lo != 0, s.last.lo != math.MaxUint64
		if first == last && (headless || tailless) {
			part = append(part, s)
			continue
		}
		if headless {
			part = append(part, span[uint128]{s.first, uint128{first, math.MaxUint64}})
			first++
		}
		if tailless {
			part = append(part, span[uint128]{uint128{last, 0}, s.last})
			last--
		}
		if first <= last {
			whole = append(whole, span[uint64]{first, last})
		}
	}
	return slices.Clone(whole), slices.Clone(part)
}

// arithmetic has the operations on addresses that merge needs.
type arithmetic[A any] struct {
	compare func(a, b A) int
	next    func(A) (A, bool) // a + 1; false if that is too large
	minus   func(a, b A) A
	whole   func(span[A]) bool // whether the range is looked up as one piece
}

var (
	arithmetic4 = arithmetic[uint32]{
		compare: cmp.Compare[uint32],
		next:    func(a uint32) (uint32, bool) { return a + 1, a+1 != 0 },
		minus:   func(a, b uint32) uint32 { return a - b },
		whole:   func(span[uint32]) bool { return true },
	}
	arithmetic6 = arithmetic[uint128]{
		compare: uint128.compare,
		next:    uint128.next,
		minus:   uint128.minus,
		whole: func(s span[uint128]) bool {
			return s.first.hi == s.last.hi || s.first.lo == 0 && s.last.lo == math.MaxUint64
		},
	}
)

// joins reports whether a span that begins at first overlaps or touches one
// before it that ends at last. After the last address there is no next one.
func (n arithmetic[A]) joins(last, first A) bool {
	after, ok := n.next(last)
	return !ok || n.compare(first, after) <= 0
}

// uint128 is an IPv6 address as a number.
type uint128 struct{ hi, lo uint64 }

func (a uint128) compare(b uint128) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

// minus returns a - b, which is not negative.
func (a uint128) minus(b uint128) uint128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return uint128{hi, lo}
}

// next returns a + 1; it is false if that is too large.
func (a uint128) next() (uint128, bool) {
	lo, carry := bits.Add64(a.lo, 1, 0)
	hi, carry := bits.Add64(a.hi, 0, carry)
	return uint128{hi, lo}, carry == 0
}

func number4(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:])
}

func number6(addr netip.Addr) uint128 {
	b := addr.As16()
	return uint128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}
