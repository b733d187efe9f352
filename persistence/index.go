package persistence

import (
	"math/bits"
	"sync/atomic"
)

// index finds the entries of a shard by key. Readers need no lock. Writers hold
// the shard's lock.
//
// It is a hash table with a chain of entries in each bucket, linked by the
// entries themselves, and grows by linear hashing: while there are fewer than
// two buckets per entry, each new entry splits one bucket in two. So no single
// write pays for growing the whole table. A new entry goes to the end of its
// chain, so old entries are found before those of a flood.
//
// An entry that a reader finds was in the index at some moment since the reader
// began; its deadline says whether it still is. That is so because an entry
// that is removed keeps its link to the next, and because a new entry of a key
// replaces the old one at its position in the chain. A reader that finds
// nothing may have followed an entry that a split moved to the other chain;
// state shows that.
type index[K comparable, V any] struct {
	state    atomic.Uint32                              // twice the number of buckets, plus one during a split
	segments [tagBits + 1][]atomic.Pointer[entry[K, V]] // the buckets: 0, 1, 2-3, 4-7, …; nil until needed
}

func (x *index[K, V]) init() {
	x.segments[0] = make([]atomic.Pointer[entry[K, V]], 1)
	x.state.Store(2)
}

// find returns the entry under key, nil if there is none. If sure is false
// there may be one nevertheless; with the lock, sure is always true.
func (x *index[K, V]) find(tag uint32, key K) (r *entry[K, V], sure bool) {
	state := x.state.Load()
	for r = x.chain(state/2, tag).Load(); r != nil; r = r.next.Load() {
		if r.tag() == tag && r.key == key {
			return r, true
		}
	}
	return nil, state%2 == 0 && x.state.Load() == state
}

// reserve makes an empty index large enough for that many entries.
func (x *index[K, V]) reserve(entries int) {
	n := x.state.Load() / 2
	for ; 2*entries > int(n) && n < 1<<tagBits; n++ {
		x.allocate(n)
	}
	x.state.Store(2 * n)
}

// add adds an entry whose key is not in the index.
func (x *index[K, V]) add(r *entry[K, V], entries int) {
	for n := x.state.Load() / 2; 2*entries > int(n) && n < 1<<tagBits; n++ {
		x.split(n)
	}
	x.leadingTo(nil, r.tag()).Store(r)
}

// replace puts an entry at the position of one with the same key.
func (x *index[K, V]) replace(old, r *entry[K, V]) {
	r.next.Store(old.next.Load())
	x.leadingTo(old, old.tag()).Store(r)
}

// remove removes an entry.
func (x *index[K, V]) remove(r *entry[K, V]) {
	x.leadingTo(r, r.tag()).Store(r.next.Load())
}

// leadingTo returns the pointer to an entry of a tag, or the end of its chain
// if r is nil.
func (x *index[K, V]) leadingTo(r *entry[K, V], tag uint32) *atomic.Pointer[entry[K, V]] {
	p := x.chain(x.state.Load()/2, tag)
	for p.Load() != r {
		p = &p.Load().next
	}
	return p
}

// split adds bucket n, the next one, and moves to it the entries that belong
// there from the bucket whose number differs in the highest bit.
func (x *index[K, V]) split(n uint32) {
	segment := x.allocate(n)
	x.state.Store(2*n + 1)
	stay, move := x.bucket(n&^(1<<segment>>1)), x.bucket(n)
	for r := stay.Load(); r != nil; r = r.next.Load() {
		if r.tag()&(1<<segment-1) == n {
			move.Store(r)
			move = &r.next
		} else {
			stay.Store(r)
			stay = &r.next
		}
	}
	stay.Store(nil)
	move.Store(nil)
	x.state.Store(2*n + 2)
}

// allocate allocates the segment of bucket n, which is empty, and returns its
// number.
func (x *index[K, V]) allocate(n uint32) (segment int) {
	segment = bits.Len32(n)
	if x.segments[segment] == nil {
		x.segments[segment] = make([]atomic.Pointer[entry[K, V]], 1<<segment>>1)
	}
	return segment
}

// chain returns the bucket of a tag among n: its low bits, as many as the
// bucket numbers have, are the number of the bucket, or one bit fewer if that
// bucket does not exist yet.
func (x *index[K, V]) chain(n, tag uint32) *atomic.Pointer[entry[K, V]] {
	width := bits.Len32(n - 1)
	i := tag & (1<<width - 1)
	if i >= n {
		i &^= 1 << width >> 1
	}
	return x.bucket(i)
}

func (x *index[K, V]) bucket(i uint32) *atomic.Pointer[entry[K, V]] {
	segment := bits.Len32(i)
	return &x.segments[segment][i-1<<segment>>1]
}
