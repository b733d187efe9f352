package ipgroup

import (
	"math"
	"math/bits"
	"slices"
)

// A look-up among sorted, disjoint spans finds the last one that begins at or
// before the address, and checks whether it ends at or after it. A binary
// search takes log2(n) steps for that, most of them cache misses in a large
// list and half of them mispredicted. The index leads to the few spans that
// matter at once, and rejects most addresses that are in no span without
// reading any.
//
// A table covers the keys from its first span to the end of its last. They are
// divided into cells of equal width, and each cell into 32 parts, which have a
// bit each: if no span reaches into the part, the address is in none. One more
// cell, without bits, stands for all keys beyond; so the only branch is about
// the bit. Otherwise the cell names the first of its spans, of which there are
// no more than leafSpans, or a table that divides a crowded cell again. So
// lists spread over all of the address space need one table, and lists that
// crowd into a few networks, as most do, need two or three per look-up.
//
// A table has at most half as many cells as spans (but see minCells), so each
// level uses up the more bits of the key the more spans are left, and even the
// worst list has few levels.

// index finds spans by keys: the numbers of addresses, or their upper halves.
type index struct {
	root   table
	tables []table
	cells  []cell
}

// table divides the keys from base on into cells that are 2^shift keys wide,
// and these into parts.
type table struct {
	base  uint64
	cells uint32 // position of the first
	empty uint32 // how many cells there are before the empty one
	shift uint8
	part  uint8 // a part is 2^part keys wide
	low   bool  // the keys are the lower halves of addresses that share the upper one
}

// cell is some of the keys of a table.
type cell struct {
	parts uint32 // the bit of a part is set if a span reaches into it
	at    uint32 // position of the first span; or crowded, and the position of a table
}

const (
	// leafSpans is how many spans a cell may have. They are searched in three
	// steps without a branch. A table of more has at least two cells, so that
	// its cells are narrower than the one it divides, and there is an end of
	// it.
	leafSpans = 8

	// minCells is how many cells the first table may have, however few the
	// spans: they are cheap, and reject most addresses that are not in a short
	// list.
	minCells = 32

	// maxEmpty is how many cells there may be for each one that is not empty,
	// or else they are made wider.
	maxEmpty = 16

	crowded = 1 << 31
)

// find returns the cell of the first table that has the key; false if no span
// contains the key.
func (x *index) find(key uint64) (c cell, ok bool) { return x.root.find(x.cells, key) }

// find returns the cell of the key; false if no span contains the key.
func (t *table) find(cells []cell, key uint64) (c cell, ok bool) {
	distance := key - t.base // a key before the base is beyond the end
	c = cells[uint64(t.cells)+min(distance>>(t.shift&63), uint64(t.empty))]
	return c, c.parts>>(distance>>(t.part&63)&31)&1 != 0
}

// descend returns the position of the first of the leafSpans spans that may
// contain the address; false if none does. It goes on from a cell that find has
// returned; key and low are the halves of the address.
func (x *index) descend(c cell, key, low uint64) (at int, ok bool) {
	for c.at >= crowded {
		t := &x.tables[c.at-crowded]
		if t.low {
			key = low
		}
		if c, ok = t.find(x.cells, key); !ok {
			return 0, false
		}
	}
	return int(c.at), true
}

// keys returns the first and the last key of a span by its position, or the
// lower halves of its first and last address.
type keys func(i int, low bool) (first, last uint64)

// builder makes an index.
type builder struct {
	index
	keys keys
	n    int // spans
}

// newIndex makes the index of n spans in ascending order. They are disjoint,
// but may share keys where their lower halves differ.
func newIndex(n int, keys keys) index {
	if n == 0 {
		return index{cells: make([]cell, 1)} // the empty one
	}
	b := builder{keys: keys, n: n}
	b.root = b.table(0, n, 0, math.MaxUint64, minCells, false)
	b.tables, b.cells = slices.Clone(b.tables), slices.Clone(b.cells)
	return b.index
}

// table returns the table of the spans from one position up to another, for the
// keys from begin to end.
func (b *builder) table(from, to int, begin, end uint64, minCells int, low bool) table {
	first, _ := b.keys(from, low)
	_, last := b.keys(to-1, low)
	t := table{base: max(first, begin), cells: uint32(len(b.cells)), low: low}
	end = min(last, end)
	t.shift = b.shift(t, from, to, end, max((to-from)/2, minCells))
	t.part = max(t.shift, 5) - 5
	t.empty = uint32((end-t.base)>>t.shift + 1)
	b.cells = append(b.cells, make([]cell, t.empty+1)...)

	for i := range uint64(t.empty) {
		begin := t.base + i<<t.shift
		end := begin + min(uint64(1)<<t.shift-1, end-begin)
		for {
			if _, last := b.keys(from, low); last >= begin {
				break
			}
			from++
		}
		next, parts := b.parts(t, from, to, begin, end)
		// The search is always among leafSpans spans, even at the end of the
		// list.
		c := cell{parts, uint32(max(0, min(from, b.n-leafSpans)))}
		if next-from > leafSpans {
			c.at = crowded + uint32(len(b.tables))
			b.tables = append(b.tables, table{})
			var child table
			if t.shift == 0 && !low { // the spans share the one key of the cell
				child = b.table(from, next, 0, math.MaxUint64, 1, true)
			} else {
				child = b.table(from, next, begin, end, 1, low)
			}
			b.tables[c.at-crowded] = child
		}
		b.cells[uint64(t.cells)+i] = c
	}
	return t
}

// shift returns the width of the cells of t, as a number of bits: the least for
// which they are no more than most, and not too many of them are empty.
func (b *builder) shift(t table, from, to int, end uint64, most int) uint8 {
	// Two spans that begin at distances which differ in bit i begin in
	// different cells if these are up to 2^i keys wide.
	var differ [65]int // by the number of bits
	var before uint64
	for i := from; i < to; i++ {
		first, _ := b.keys(i, t.low)
		distance := max(first, t.base) - t.base
		differ[bits.Len64(distance^before)]++
		before = distance
	}
	shift, occupied := 64, 1
	for ; shift > 0; shift-- {
		occupied += differ[shift]
		if cells := (end - t.base) >> (shift - 1); cells >= uint64(min(most, maxEmpty*occupied)) {
			break
		}
	}
	return uint8(shift)
}

// parts returns the bits of the cell from begin to end, whose first span is at
// from, and the position behind its last span.
func (b *builder) parts(t table, from, to int, begin, end uint64) (next int, parts uint32) {
	for next = from; next < to; next++ {
		first, last := b.keys(next, t.low)
		if first > end {
			break
		}
		for p := (max(first, begin) - t.base) >> t.part; p <= (min(last, end)-t.base)>>t.part; p++ {
			parts |= 1 << (p & 31)
		}
	}
	return next, parts
}
