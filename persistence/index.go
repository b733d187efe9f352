package persistence

import (
	"math/bits"
	"sync/atomic"
)

// index finds the records of a shard by key. Readers need no lock. Writers hold that of the shard.
//
// It is a hash table with a chain of records in each bucket, linked by the records themselves, and
// grows by linear hashing: as long as there are fewer than two buckets for a record, each new record
// splits one in two. So no write pays for the growth of all. A new record goes to the end of its
// chain: entries that have been there for long are found before those of a flood.
//
// A reader who finds a record can rely on it: that it was in the index at some moment since the
// reader began, and whether it still is, its deadline tells. That holds because a record that is
// taken out keeps its link to the next, and because a new record of a key takes the very position
// of the old one. A reader who finds nothing may have been on a record that a split moved to the
// other chain, which state tells.
type index[K comparable, V any] struct {
	state    atomic.Uint32                              // twice the number of buckets, plus one during a split
	segments [tagBits + 1][]atomic.Pointer[entry[K, V]] // the buckets: 0, 1, 2-3, 4-7, …; nil until needed
}

func (x *index[K, V]) init() {
	x.segments[0] = make([]atomic.Pointer[entry[K, V]], 1)
	x.state.Store(2)
}

// find returns the record under key, and nil if there is none. If sure is false there may be one all
// the same; a writer is always sure.
func (x *index[K, V]) find(tag uint32, key K) (r *entry[K, V], sure bool) {
	state := x.state.Load()
	for r = x.chain(state/2, tag).Load(); r != nil; r = r.next.Load() {
		if r.tag() == tag && r.key == key {
			return r, true
		}
	}
	return nil, state%2 == 0 && x.state.Load() == state
}

// reserve makes an index without records as large as so many need.
func (x *index[K, V]) reserve(entries int) {
	n := x.state.Load() / 2
	for ; 2*entries > int(n) && n < 1<<tagBits; n++ {
		x.allocate(n)
	}
	x.state.Store(2 * n)
}

// add stores a record whose key is not in the index.
func (x *index[K, V]) add(r *entry[K, V], entries int) {
	for n := x.state.Load() / 2; 2*entries > int(n) && n < 1<<tagBits; n++ {
		x.split(n)
	}
	x.leadingTo(nil, r.tag()).Store(r)
}

// replace puts a record in the position of one with the same key.
func (x *index[K, V]) replace(old, r *entry[K, V]) {
	r.next.Store(old.next.Load())
	x.leadingTo(old, old.tag()).Store(r)
}

// remove takes a record out.
func (x *index[K, V]) remove(r *entry[K, V]) {
	x.leadingTo(r, r.tag()).Store(r.next.Load())
}

// leadingTo returns the pointer that leads to a record of a tag, or that ends its chain if r is nil.
func (x *index[K, V]) leadingTo(r *entry[K, V], tag uint32) *atomic.Pointer[entry[K, V]] {
	p := x.chain(x.state.Load()/2, tag)
	for p.Load() != r {
		p = &p.Load().next
	}
	return p
}

// split makes bucket n, the next one, of the records that belong there and not in the bucket that
// has its number but for the highest bit.
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

// allocate makes room for bucket n, which is empty, and returns its segment.
func (x *index[K, V]) allocate(n uint32) (segment int) {
	segment = bits.Len32(n)
	if x.segments[segment] == nil {
		x.segments[segment] = make([]atomic.Pointer[entry[K, V]], 1<<segment>>1)
	}
	return segment
}

// chain returns the bucket of n in which a tag belongs: that of its low bits, of as many as number
// the buckets, or of one less if that bucket does not exist yet.
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
