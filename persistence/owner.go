package persistence

import (
	"hash/maphash"
	"math/bits"
	"net/netip"
	"strings"
	"time"
)

// NewTableByOwner is NewTable for keys with owners: owner returns the owner of
// a key, or the zero value for none. The table treats owners as [Options.Owner]
// describes, with the limit [Options.MaxPerOwner]. owner must be fast, always
// return the same for a key, and be safe for concurrent use: any call of the
// table may call it. For addresses there is [AddrOwner].
//
// Owners cost 15 bytes per entry and about 90 per owner that has entries.
func NewTableByOwner[K comparable, V any, O comparable](o Options, owner func(K) O) *Table[K, V] {
	seed := maphash.MakeSeed()
	return newTable(o, unbounded[K, V](), func(key K) ownerID {
		var none O
		if name := owner(key); name != none {
			return ownerID(maphash.Comparable(seed, name)) | 1
		}
		return 0
	})
}

// AddrOwner returns the owner of an address as a key: its /24 network for IPv4,
// its /48 for IPv6, which providers commonly assign to one customer. For an
// invalid address it returns the zero prefix.
func AddrOwner(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, _ := addr.Prefix(bits)
	return prefix
}

// AddrKeyOwner returns the owner of a key that begins with an IP address as
// [netip.Addr.String] formats it, with or without brackets, whatever follows
// it, such as a port with or without a colon. Owners are networks as for
// [AddrOwner]. Other keys have no owner. Use it as [Options.Owner]; it
// allocates nothing.
func AddrKeyOwner(key string) string {
	text := strings.TrimPrefix(key, "[")
	if mapped, ok := strings.CutPrefix(text, "::ffff:"); ok && strings.Count(mapped[:min(len(mapped), 12)], ".") > 0 {
		text = mapped
	}
	end := 0 // of the last group that is not zero
	for group, from := 0, 0; group < 3; group++ {
		i := from
		for i < len(text) && isHex(text[i]) {
			i++
		}
		switch {
		case i == len(text), i-from > 4:
			return ""
		case text[i] == '.' && i > from && group == 2:
			return text[:i]
		case text[i] == '.' && i > from:
		case text[i] == ':' && i == from && group > 0: // "::" stands for zero groups, up to here and beyond
			return text[:end]
		case strings.HasPrefix(text, "::"): // ::/32, which is not assigned to customers
			return "::"
		case text[i] == ':' && i > from:
			if text[from:i] != "0" {
				end = i
			}
		default:
			return ""
		}
		from = i + 1
	}
	return text[:end]
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
}

// An ownerID is a hash of an owner, with a random seed. Two owners with one ID
// share their limits.
type ownerID uint64

// noOwner is the ID of keys without an owner.
const noOwner ownerID = 0

// ownership says which owner the entries of a shard's slots belong to. Each
// owner with entries has a share: a list of its slots. Shares are numbered, and
// lists of shares of about the same size lead to one of the largest.
type ownership struct {
	shares []share
	ids    map[ownerID]int32 // numbers of shares
	spare  []int32           // numbers that are free
	sizes  [32]list          // of shares whose number of entries has so many bits
	peers  []link            // by share: in its list of sizes

	owners []int32 // by slot: the share
	links  []link  // by slot: in its share
	most   int     // entries of an owner other than noOwner
}

type share struct {
	list
	id ownerID
}

// shareLocked returns the number of an owner's share and of its entries;
// without a share, there are none.
func (s *shard[K, V]) shareLocked(owner ownerID) (number int32, entries int) {
	if s.ownership == nil {
		return -1, 0
	}
	number, ok := s.ownership.ids[owner]
	if !ok {
		return -1, 0
	}
	return number, s.ownership.shares[number].entries
}

// resize moves a share that had that many entries to the list for its size.
func (m *ownership) resize(number int32, was int) {
	is := m.shares[number].entries
	if bits.Len(uint(was)) == bits.Len(uint(is)) {
		return
	}
	if was > 0 {
		m.sizes[bits.Len(uint(was))].remove(m.peers, number)
	}
	if is > 0 {
		m.sizes[bits.Len(uint(is))].push(m.peers, number)
	}
}

// largest returns one of the largest shares, the largest of a few. There must
// be one.
func (m *ownership) largest() (number int32, entries int) {
	size := len(m.sizes) - 1
	for m.sizes[size].entries == 0 {
		size--
	}
	l := &m.sizes[size]
	const examined = 4
	for range min(examined, l.entries) {
		next := l.oldest
		if n := m.shares[next].entries; n > entries {
			number, entries = next, n
		}
		l.remove(m.peers, next) // look at others next time
		l.push(m.peers, next)
	}
	return number, entries
}

// addOwnedLocked adds the last slot, which is new, to the share of an owner.
func (s *shard[K, V]) addOwnedLocked(owner ownerID) {
	m := s.ownership
	if m == nil {
		return
	}
	number, ok := m.ids[owner]
	if !ok {
		if free := len(m.spare); free > 0 {
			number, m.spare = m.spare[free-1], m.spare[:free-1]
		} else {
			number = int32(len(m.shares))
			m.shares = append(m.shares, share{})
			m.peers = append(m.peers, link{})
		}
		m.shares[number] = share{id: owner}
		m.ids[owner] = number
	}
	m.owners = append(m.owners, number)
	m.links = append(m.links, link{})
	own := &m.shares[number]
	own.push(m.links, int32(len(m.links)-1))
	m.resize(number, own.entries-1)
}

// removeOwnedLocked removes a slot from the share of its owner and gives its
// number to the last slot.
func (s *shard[K, V]) removeOwnedLocked(slot int32) {
	m := s.ownership
	if m == nil {
		return
	}
	number := m.owners[slot]
	own := &m.shares[number]
	own.remove(m.links, slot)
	if m.resize(number, own.entries+1); own.entries == 0 {
		delete(m.ids, own.id)
		m.spare = append(m.spare, number)
	}
	last := int32(len(m.owners) - 1)
	if slot != last {
		m.owners[slot] = m.owners[last]
		m.shares[m.owners[last]].move(m.links, last, slot)
	}
	m.owners, m.links = m.owners[:last], m.links[:last]
}

// renewOwnedLocked makes a slot the newest of its owner.
func (s *shard[K, V]) renewOwnedLocked(slot int32) {
	if m := s.ownership; m != nil {
		own := &m.shares[m.owners[slot]]
		own.remove(m.links, slot)
		own.push(m.links, slot)
	}
}

// fairShareLocked returns how many entries each owner would have if all had the
// same number.
func (s *shard[K, V]) fairShareLocked() int {
	return len(s.slots) / max(1, len(s.ownership.ids))
}

// evictFairlyLocked makes room in a full shard for an entry of an owner. It
// evicts an entry of one of the owners with the most entries, if that has more
// than the owner and than its fair share; else one of the owner itself, if it
// has more than the owner of the oldest entry; else the oldest entry.
func (s *shard[K, V]) evictFairlyLocked(now time.Duration, oldest *entry[K, V], owner ownerID) {
	m := s.ownership
	number, has := s.shareLocked(owner)
	largest, most := m.largest()
	switch {
	case most > max(has, s.fairShareLocked()):
		s.evictOfLocked(now, largest)
	case has > m.shares[m.owners[oldest.slot]].entries:
		if s.evictOfLocked(now, number) {
			s.writes.ownerEvictions++
		}
	default:
		s.evictLocked(oldest, now)
	}
}

// evictOfLocked evicts the oldest entry of a share, and reports whether it was
// live.
func (s *shard[K, V]) evictOfLocked(now time.Duration, number int32) bool {
	for moved := 0; ; moved++ {
		slot := s.ownership.shares[number].oldest
		r := s.slots[slot].entry
		if moved == movesToEvict || r.left(now) < 0 || !s.promoteLocked(slot) {
			return s.evictLocked(r, now)
		}
	}
}

// ownerIsFullLocked reports whether an owner has as many entries as it may
// store.
func (s *shard[K, V]) ownerIsFullLocked(owner ownerID) bool {
	if s.ownership == nil || owner == noOwner {
		return false
	}
	_, has := s.shareLocked(owner)
	return has >= s.ownership.most
}

// admitOwnerLocked makes an owner's share small enough for one more entry, and
// reports whether it could.
func (s *shard[K, V]) admitOwnerLocked(now time.Duration, owner ownerID, evict bool) bool {
	if !s.ownerIsFullLocked(owner) {
		return true
	}
	number, _ := s.shareLocked(owner)
	if evict {
		if s.evictOfLocked(now, number) {
			s.writes.ownerEvictions++
		}
		return true
	}
	own := &s.ownership.shares[number]
	for range min(refusalWidth, own.entries) {
		slot := own.oldest
		if s.expireLocked(&s.slots[slot], now) {
			return true
		}
		s.renewOwnedLocked(slot) // look at others next time
	}
	return false
}
