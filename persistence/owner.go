package persistence

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"time"
)

// NewTableByOwner is NewTable for keys that have owners: owner returns the owner of a key, or the
// zero value for none. [Options.MaxPerOwner] bounds what each owner stores, and nobody pushes out
// the entries of an owner that has fewer. owner must be quick, always return the same for a key,
// and be safe for concurrent use: every call of the table calls it. For addresses there is
// [AddrOwner].
//
// Owners cost 16 bytes for an entry and about 100 for an owner that has entries. The entries of one
// owner share a lock, and the place that it guards.
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

// AddrOwner returns the network that owns an address as a key: of IPv4 its /24, of IPv6 its /48,
// which is what one customer of a provider commonly gets. An invalid address has the zero prefix.
func AddrOwner(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, _ := addr.Prefix(bits)
	return prefix
}

// AddrKeyOwner returns the owner of a key that begins with an IP address in the form that
// [netip.Addr.String] writes, in brackets or not, whatever follows: a port, with or without a colon.
// Owners are networks as in [AddrOwner]. Other keys have no owner. It allocates nothing and suits
// [Options.Owner].
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
		case strings.HasPrefix(text, "::"): // ::/32, which has no customers
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

// An ownerID is a hash of an owner, which an outsider cannot foresee; zero is nobody. Two owners
// with one ID share what they may store.
type ownerID uint64

// members say to whom the records of a shard's places belong. The list of an owner, its share,
// orders the places of its records; all of an owner's records are in one shard.
type members struct {
	owners []ownerID // by place
	links  []link    // by place
	shares map[ownerID]*list
	most   int // entries of an owner
}

// ownerLocked returns the owner of a stored record.
func (s *shard[K, V]) ownerLocked(r *record[K, V]) ownerID {
	if s.members == nil {
		return 0
	}
	return s.members.owners[r.place]
}

// entriesLocked returns how many entries an owner has.
func (s *shard[K, V]) entriesLocked(owner ownerID) int {
	if s.members == nil || s.members.shares[owner] == nil {
		return 0
	}
	return s.members.shares[owner].entries
}

// joinLocked gives the last place, which is new, to an owner.
func (s *shard[K, V]) joinLocked(owner ownerID) {
	m := s.members
	if m == nil {
		return
	}
	m.owners = append(m.owners, owner)
	m.links = append(m.links, link{})
	if owner == 0 {
		return
	}
	own := m.shares[owner]
	if own == nil {
		own = new(list)
		m.shares[owner] = own
	}
	own.push(m.links, int32(len(m.links)-1))
}

// leaveLocked takes a place away from its owner and moves what belongs to the last place there.
func (s *shard[K, V]) leaveLocked(place int32) {
	m := s.members
	if m == nil {
		return
	}
	if owner := m.owners[place]; owner != 0 {
		own := m.shares[owner]
		if own.remove(m.links, place); own.entries == 0 {
			delete(m.shares, owner)
		}
	}
	last := int32(len(m.owners) - 1)
	if owner := m.owners[last]; last != place {
		m.owners[place] = owner
		if owner != 0 {
			m.shares[owner].move(m.links, last, place)
		}
	}
	m.owners, m.links = m.owners[:last], m.links[:last]
}

// evictOwnLocked takes out the oldest entry of an owner, by the rules of a full shard: a used one is
// spared, at most two are.
func (s *shard[K, V]) evictOwnLocked(now time.Duration, owner ownerID) {
	own := s.members.shares[owner]
	for spared := 0; ; spared++ {
		place := own.oldest
		r := s.places[place].record
		if spared == maxSpared || !r.has(used) || r.left(now) < 0 {
			if s.evictLocked(r, now) {
				s.writes.ownerEvictions++
			}
			return
		}
		r.marks.And(^uint32(used))
		own.remove(s.members.links, place)
		own.push(s.members.links, place)
	}
}

// admitOwnerLocked makes an owner's share large enough for one more entry, and reports whether it could.
func (s *shard[K, V]) admitOwnerLocked(now time.Duration, owner ownerID, evict bool) bool {
	if owner == 0 || s.entriesLocked(owner) < s.members.most {
		return true
	}
	if evict {
		s.evictOwnLocked(now, owner)
		return true
	}
	own := s.members.shares[owner]
	for range min(refusalWidth, own.entries) {
		place := own.oldest
		if s.expireLocked(&s.places[place], now) {
			return true
		}
		own.remove(s.members.links, place) // look at others next time
		own.push(s.members.links, place)
	}
	return false
}
