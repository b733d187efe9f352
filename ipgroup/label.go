package ipgroup

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// Internal is the label of a private address that is in no group.
const Internal = "Internal"

// Label returns a label of addr for logs. If groups contain addr, it is the
// name of the one whose smallest entry with addr is the smallest; of equal
// ones, the first in alphabetical order. Groups of countries and autonomous
// systems come after those of addresses. Otherwise a private address (RFC 1918,
// RFC 4193, loopback and link-local) is [Internal]. Any other address has the
// code of its country as its label, or "" if countries is nil or does not know
// it. The zero Addr has no label.
//
// Label asks each group: its time grows with the number of groups, and hardly
// with that of their entries. It does not allocate, unless a finder does.
func (s *Set) Label(addr netip.Addr, countries CountryFinder) string {
	if !addr.IsValid() {
		return ""
	}
	addr = normalize(addr)
	label, least := "", everything
	for name, g := range s.load() {
		width, ok := g.smallest(addr)
		if !ok {
			continue
		}
		if c := width.compare(least); label == "" || c < 0 || c == 0 && name < label {
			label, least = name, width
		}
	}
	switch {
	case label != "":
		return label
	case addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast():
		return Internal
	case countries != nil:
		label, _ = countries.Country(addr) // "" if it is not known
	}
	return label
}

// everything is the width of all of IPv6, and of entries without a width.
var everything = uint128{math.MaxUint64, math.MaxUint64}

// smallest returns the width of the smallest entry that contains addr.
func (s *rangeSet) smallest(addr netip.Addr) (width uint128, ok bool) {
	if !s.contains(addr) {
		return uint128{}, false
	}
	if addr.Is4() {
		a := number4(addr)
		if width, ok := widthAt(s.inner4, a, cmp.Compare); ok {
			return uint128{lo: uint64(width)}, true
		}
		span := spanAt(s.v4.spans, a, cmp.Compare)
		return uint128{lo: uint64(span.last - span.first)}, true
	}
	a := number6(addr)
	if width, ok := widthAt(s.inner6, a, uint128.compare); ok {
		return width, true
	}
	if c, ok := s.v6.index.find(a.hi); ok && search(&s.v6, c, a.hi) {
		span := spanAt(s.v6.spans, a.hi, cmp.Compare)
		return uint128{span.last - span.first, math.MaxUint64}, true
	}
	span := spanAt(s.v6part.spans, a, uint128.compare)
	return span.last.minus(span.first), true
}

// match returns the range that contains addr. IPv6 networks of /64 and wider
// are kept apart from the rest.
func (s *rangeSet) match(addr netip.Addr) string {
	if addr.Is4() {
		return rangeText(range4(spanAt(s.v4.spans, number4(addr), cmp.Compare)))
	}
	a := number6(addr)
	if c, ok := s.v6.index.find(a.hi); ok && search(&s.v6, c, a.hi) {
		whole := spanAt(s.v6.spans, a.hi, cmp.Compare)
		return rangeText(range6(span[uint128]{uint128{hi: whole.first}, uint128{whole.last, math.MaxUint64}}))
	}
	return rangeText(range6(spanAt(s.v6part.spans, a, uint128.compare)))
}

// spanAt returns the span that contains a, which one of them does.
func spanAt[A any](spans []span[A], a A, compare func(a, b A) int) span[A] {
	i, first := slices.BinarySearchFunc(spans, a, func(s span[A], a A) int { return compare(s.first, a) })
	if !first {
		i--
	}
	return spans[i]
}

// A piece is a part of a range, and the width of the smallest entry that covers
// all of it: its last address less its first.
type piece[A any] struct {
	span[A]
	width A
}

// widthAt returns the width of the piece that contains a, if there is one.
func widthAt[A any](pieces []piece[A], a A, compare func(a, b A) int) (width A, ok bool) {
	i, first := slices.BinarySearchFunc(pieces, a, func(s piece[A], a A) int { return compare(s.first, a) })
	if !first {
		i--
	}
	if i < 0 || compare(a, pieces[i].last) > 0 {
		return width, false
	}
	return pieces[i].width, true
}

// subdivide cuts a range into the pieces that differ in the smallest of the
// spans that cover them, and appends these to the pieces of the ranges before.
// It adds none if the range itself gives the same answer.
func (n arithmetic[A]) subdivide(pieces []piece[A], whole span[A], spans []span[A]) []piece[A] {
	// The smallest span can change where one begins and behind where one ends.
	var starts []A
	for _, s := range spans {
		starts = append(starts, s.first)
		if n.compare(s.last, whole.last) < 0 {
			after, _ := n.next(s.last)
			starts = append(starts, after)
		}
	}
	slices.SortFunc(starts, n.compare)
	starts = slices.CompactFunc(starts, func(a, b A) bool { return n.compare(a, b) == 0 })

	// Smaller spans assign their widths first, and an assigned width stays:
	// unassigned[i] leads towards the first piece from i on without one.
	bySize := slices.SortedFunc(slices.Values(spans), func(a, b span[A]) int {
		return n.compare(n.minus(a.last, a.first), n.minus(b.last, b.first))
	})
	widths := make([]A, len(starts))
	unassigned := make([]int, len(starts)+1)
	for i := range unassigned {
		unassigned[i] = i
	}
	find := func(i int) int {
		for unassigned[i] != i {
			unassigned[i] = unassigned[unassigned[i]]
			i = unassigned[i]
		}
		return i
	}
	for _, s := range bySize {
		i, _ := slices.BinarySearchFunc(starts, s.first, n.compare)
		for i = find(i); i < len(starts) && n.compare(starts[i], s.last) <= 0; i = find(i) {
			widths[i] = n.minus(s.last, s.first)
			unassigned[i] = i + 1
		}
	}

	var zero A
	one, _ := n.next(zero)
	before := len(pieces)
	for i, width := range widths {
		last := whole.last
		if i+1 < len(starts) {
			last = n.minus(starts[i+1], one)
		}
		if k := len(pieces) - 1; k >= before && n.compare(pieces[k].width, width) == 0 {
			pieces[k].last = last
			continue
		}
		pieces = append(pieces, piece[A]{span[A]{starts[i], last}, width})
	}
	if len(pieces) == before+1 && n.whole(whole) && n.compare(pieces[before].width, n.minus(whole.last, whole.first)) == 0 {
		return pieces[:before]
	}
	return pieces
}
