package ipgroup

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
)

// Membership is a question about sorted, disjoint ranges: find the last range that begins at or before the
// address and see whether it reaches it. A plain binary search does that in log2(n) steps, most of them
// cache misses in a large list. So the space between the first and the last range is cut into equal
// buckets, several for each range but at most 65,536; an index tells which ranges begin in a bucket,
// and the search is confined to those: a few cache misses, whatever the size.
//
// IPv6 lists name networks of /64 and wider, and now and then a single address. Networks are kept as ranges of
// the upper 64 bits, which halves their size; what begins or ends inside a /64 is kept apart.
//
// Against a trie a large list takes about a quarter of the memory, has no pointers for the collector to follow, and
// is built by one sort. It cannot be changed in place, which a group never is.

// rangeSet is an immutable set of addresses of both families.
type rangeSet struct {
	v4     ranges[uint32]
	v6     ranges[uint64] // whole /64 networks, by the upper halves of their addresses
	v6part ranges[uint128]
	n      int // disjoint ranges

	// The entries of which a range was merged, where that is not one alone.
	inner4 []stretch[uint32]
	inner6 []stretch[uint128]
}

// newRangeSet merges the spans, in any order and overlapping as they may be. It takes over both slices.
func newRangeSet(v4 []span[uint32], v6 []span[uint128]) *rangeSet {
	v4, inner4 := merge(v4, arithmetic4)
	v6, inner6 := merge(v6, arithmetic6)
	whole, part := split(v6)
	return &rangeSet{
		inner4: inner4,
		inner6: inner6,
		v4:     newRanges(v4, func(a uint32) uint64 { return uint64(a) }),
		v6:     newRanges(whole, func(a uint64) uint64 { return a }),
		v6part: newRanges(part, func(a uint128) uint64 { return a.hi }),
		n:      len(v4) + len(v6),
	}
}

func (s *rangeSet) len() int { return s.n }

// contains normalizes addr by itself: it looks at the bits only, which is faster than to make another Addr.
func (s *rangeSet) contains(addr netip.Addr) bool {
	var a uint32
	if addr.Is4() {
		a = number4(addr)
	} else {
		if !addr.IsValid() {
			return false
		}
		a6 := number6(addr) // without the zone
		if a6.hi != 0 || a6.lo>>32 != 0xffff {
			return s.contains6(a6)
		}
		a = uint32(a6.lo) // IPv4-mapped
	}
	return reached(&s.v4, a)
}

func (s *rangeSet) contains6(a uint128) bool {
	return reached(&s.v6, a.hi) || len(s.v6part.spans) > 0 && reachedPart(&s.v6part, a)
}

// reached reports whether a is in one of the ranges.
func reached[A uint32 | uint64](r *ranges[A], a A) bool {
	low, n := r.bucket(uint64(a))
	for n > 0 {
		half := (n + 1) / 2
		if r.spans[low+half-1].first <= a {
			low += half
		}
		n -= half
	}
	return low > 0 && a-r.spans[low-1].first <= r.spans[low-1].last-r.spans[low-1].first
}

// reachedPart is reached for ranges of IPv6 addresses that are not whole /64 networks.
func reachedPart(r *ranges[uint128], a uint128) bool {
	low, n := r.bucket(a.hi)
	for n > 0 {
		half := (n + 1) / 2
		if r.spans[low+half-1].first.compare(a) <= 0 {
			low += half
		}
		n -= half
	}
	return low > 0 && r.spans[low-1].first.compare(a) <= 0 && a.compare(r.spans[low-1].last) <= 0
}

// span is a range of addresses, both ends included.
type span[A any] struct{ first, last A }

// ranges are disjoint spans in ascending order, with their index. The key of an address, by which it finds its bucket, is
// its number, or the upper half of it.
type ranges[A any] struct {
	spans  []span[A]
	base   uint64   // key of the first span
	shift  uint8    // a bucket is 2^shift keys wide
	starts []uint32 // position of the first span of each bucket; then the number of spans
}

const maxIndexBits = 16

func newRanges[A any](spans []span[A], key func(A) uint64) ranges[A] {
	if len(spans) == 0 {
		return ranges[A]{starts: []uint32{0, 0}}
	}
	r := ranges[A]{spans: spans, base: key(spans[0].first)}
	width := key(spans[len(spans)-1].first) - r.base
	indexBits := min(bits.Len(uint(len(spans)))+2, maxIndexBits)
	r.shift = uint8(max(0, bits.Len64(width)-indexBits))
	r.starts = make([]uint32, width>>r.shift+2)
	for i, s := range spans {
		r.starts[(key(s.first)-r.base)>>r.shift+1] = uint32(i + 1)
	}
	for b := 1; b < len(r.starts); b++ { // a bucket without spans ends where the one before it does
		r.starts[b] = max(r.starts[b], r.starts[b-1])
	}
	return r
}

// bucket returns the n spans, from low on, among which is the first that begins after key; if none of them
// does, it is the one that follows. The answer is 0, 0 if key lies before all spans.
func (r *ranges[A]) bucket(key uint64) (low, n int) {
	b := min((key-r.base)>>(r.shift&63), uint64(len(r.starts)-2))
	low = int(r.starts[b])
	return low, int(r.starts[b+1]) - low
}

// merge sorts spans and joins those that overlap or touch. It uses the memory of spans and returns a copy
// of the right size. For ranges joined of several spans it tells how small these were, where.
func merge[A any](spans []span[A], n arithmetic[A]) (merged []span[A], inner []stretch[A]) {
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
			inner = n.paint(inner, joined, spans[i:end])
		}
		merged = append(merged, joined)
		i = end
	}
	return slices.Clone(merged), slices.Clone(inner)
}

// split parts spans of IPv6 addresses into whole /64 networks and what is left of them at either end.
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

// arithmetic is what merge needs to know about numbers.
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

// joins reports whether a span that begins at first overlaps or touches one before it that ends at last. After the last address
// there is no next one.
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
