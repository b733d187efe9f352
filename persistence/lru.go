package persistence

import "slices"

// lruLists order the slots of a shard by the last use of their entries, in
// generations: a generation is a thirty-second of the insertions that fill the
// shard. Readers move nothing; they store the current generation in the entry,
// unless it is there. So several uses of an entry within one generation have
// the effect of one.
//
// Each generation has two lists: the entries stored in it, and the entries
// moved there because they were last used in it. To make room, the shard looks
// at the oldest of each kind and moves them to the list of their last use if
// that is younger. There are two lists so that a long run of used entries does
// not hide unused ones: one insertion moves a few entries at most.
//
// An entry that has been used since it was stored moves bonus generations
// further ahead, as long as most new entries are not used again. Otherwise a
// flood of keys that are used at once would get the bonus too, at the cost of
// clients that return later.
//
// Generation numbers are reused. A list whose number is reused belongs to the
// current generation, even if it still has entries from the last generation of
// that number, twice the insertions that fill a shard ago. That happens only in
// a shard that has not become full in that time.
type lruLists struct {
	lists [2][generations]list
	first [2]uint32 // no list before this one has slots
	links []link    // by slot
	in    []uint8   // by slot: twice the number of its list, plus its kind
	now   uint32    // the generation

	entries, bytes           int // inserted in this generation
	everyEntries, everyBytes int // that make a generation

	usedIsRare bool // whether few newcomers are used again
}

// The kinds of lists.
const (
	asStored = iota
	asUsed
)

const (
	perCapacity   = 32 // generations
	bonus         = 8  // generations
	settled       = 16 // generations until most newcomers that will be used again have been
	movesWithRoom = 2  // entries put into other lists by an insertion
	movesToEvict  = 8  // and by one that evicts
)

func newLRULists(maxEntries, maxBytes int) lruLists {
	return lruLists{
		everyEntries: max(1, maxEntries/perCapacity),
		everyBytes:   max(1, maxBytes/perCapacity),
		first:        [...]uint32{bonus + 1, bonus + 1},
		usedIsRare:   true,
	}
}

// age returns how many lists are younger than one.
func (a *lruLists) age(list uint32) uint32 { return (a.now + bonus - list) % generations }

// advance begins a generation.
func (a *lruLists) advance() {
	a.entries, a.bytes = 0, 0
	a.now = (a.now + 1) % generations
	for kind, first := range a.first {
		if a.age(first) == 0 {
			a.first[kind] = (first + 1) % generations
		}
	}
}

// grow makes room for that many more slots.
func (a *lruLists) grow(slots int) {
	a.links = slices.Grow(a.links, slots)
	a.in = slices.Grow(a.in, slots)
}

// add adds the last slot, whose entry has just been stored.
func (a *lruLists) add() {
	a.links = append(a.links, link{})
	a.in = append(a.in, 0)
	a.push(int32(len(a.links)-1), asStored, a.now)
}

func (a *lruLists) push(slot int32, kind uint8, list uint32) {
	a.in[slot] = uint8(list)<<1 | kind
	a.lists[kind][list].push(a.links, slot)
	if a.age(list) > a.age(a.first[kind]) {
		a.first[kind] = list
	}
}

// of returns the list of a slot and its number.
func (a *lruLists) of(slot int32) (*list, uint32) {
	in := a.in[slot]
	return &a.lists[in&1][in>>1], uint32(in >> 1)
}

// promote moves a slot to the list of its last use.
func (a *lruLists) promote(slot int32, list uint32) {
	from, _ := a.of(slot)
	from.remove(a.links, slot)
	a.push(slot, asUsed, list)
}

// remove removes a slot and gives its number to the last one.
func (a *lruLists) remove(slot int32) {
	l, _ := a.of(slot)
	l.remove(a.links, slot)
	last := int32(len(a.links) - 1)
	if slot != last {
		l, _ := a.of(last)
		l.move(a.links, last, slot)
		a.in[slot] = a.in[last]
	}
	a.links, a.in = a.links[:last], a.in[:last]
}

// oldest returns the older of the oldest slots of each kind, and the other one,
// -1 if there is none. There must be a slot.
func (a *lruLists) oldest() (oldest, other int32) {
	var at [2]int32
	for kind := range at {
		at[kind] = -1
		for a.age(a.first[kind]) > 0 && a.lists[kind][a.first[kind]].entries == 0 {
			a.first[kind] = (a.first[kind] + 1) % generations
		}
		if l := &a.lists[kind][a.first[kind]]; l.entries > 0 {
			at[kind] = l.oldest
		}
	}
	if at[asStored] < 0 || at[asUsed] >= 0 && a.age(a.first[asUsed]) > a.age(a.first[asStored]) {
		return at[asUsed], at[asStored]
	}
	return at[asStored], at[asUsed]
}
