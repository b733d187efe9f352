package ipgroup

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// ErrEmpty is wrapped by the error of [Parse], [Read] and [ReadFile] for a list
// without entries if [Options.AllowEmpty] is not set.
var ErrEmpty = errors.New("no entries")

// ErrTooLarge is wrapped by the error of [Parse], [Read] and [ReadFile] for a
// list that exceeds [Options.MaxEntries] or [Options.MaxBytes].
var ErrTooLarge = errors.New("list is too large")

// Limits of a list when Options does not set them.
const (
	DefaultMaxEntries = 2_000_000 // entries
	DefaultMaxBytes   = 64 << 20  // bytes
)

// Options say how a list of entries becomes a group. The zero value accepts
// addresses, ranges and prefixes, refuses countries, autonomous systems and
// empty lists, and applies the default limits.
type Options struct {
	// Countries finds the countries of addresses for a group of countries. The
	// group calls it on each Contains, possibly concurrently. If it is nil, an
	// entry that names a country is an error.
	Countries CountryFinder

	// ASNs does the same for autonomous systems.
	ASNs ASNFinder

	// AllowEmpty accepts a list without entries; the group then contains
	// nothing. It is off by default, because a list that is empty by accident
	// would silently allow or deny everybody.
	AllowEmpty bool

	// MaxEntries limits the number of entries. Zero means [DefaultMaxEntries],
	// negative no limit.
	MaxEntries int `negative:"no limit"`

	// MaxBytes limits the text that Read and ReadFile accept. Zero means
	// [DefaultMaxBytes], negative no limit. Parse ignores it, because its text
	// is in memory already.
	MaxBytes int64 `unit:"bytes" negative:"no limit"`
}

// maxBytes is MaxBytes with its default, or -1 for no limit.
func (o Options) maxBytes() int64 {
	if o.MaxBytes == 0 {
		return DefaultMaxBytes
	}
	return max(o.MaxBytes, -1)
}

// A FieldError is one fault of a configuration, other than one in a list: the
// Path of a field, as in "files[0].group", its Value, and Err, the fault.
type FieldError = fielderr.Error

// A Group is a named, immutable set of IP addresses, or of countries and
// autonomous systems. It is safe for concurrent use.
//
// A group is a plain union: entries may overlap, in any order. A group that a
// [Set] returns has the edits that the set had for it at that time; they decide
// before the list. Len, Countries, ASNs and Addresses are those of the list.
type Group struct {
	name    string
	members members
	edits   *edits // of the set that the group is from; nil: none
}

// members are the content of a group: a *rangeSet or *origins.
type members interface {
	contains(addr netip.Addr) bool // false for the zero Addr; normalizes addr
	// smallest returns the width of the smallest entry that contains a valid
	// and normalized address.
	smallest(addr netip.Addr) (width uint128, ok bool)
	// match returns what holds a normalized address that is contained.
	match(addr netip.Addr) (entry string)
	len() int
}

// Parse makes a group from entries. Each entry is an address, a range, a
// prefix, a country, an autonomous system or a comma-separated list of these;
// the package comment has the grammar. Parse does not keep entries.
//
// The name has 1 to 255 bytes of printable text.
//
// On failure the group is nil and the error joins all faults: a [*FieldError]
// for the name, one [*EntryError] for each invalid entry (for the first 1,000;
// the rest are counted), [ErrEmpty] or [ErrTooLarge].
func Parse(name string, entries []string, o Options) (*Group, error) {
	p := newParser(name, o)
	for i, entry := range entries {
		p.text(entry, i)
	}
	return p.group()
}

// Name returns the name of the group.
func (g *Group) Name() string { return g.name }

// Contains reports whether addr is in the group. An IPv4-mapped IPv6 address is
// the IPv4 address, and a zone is ignored. The zero Addr is in no group. An
// address of unknown country and autonomous system is in no group of these.
// Contains does not allocate, unless a finder of the group does.
func (g *Group) Contains(addr netip.Addr) bool {
	if g.edits != nil {
		return g.edits.contains(addr, g.members)
	}
	return g.members.contains(addr)
}

// Len returns the number of disjoint address ranges left when all entries that
// overlap or touch have been merged, or the number of distinct countries and
// autonomous systems.
func (g *Group) Len() int { return g.members.len() }

// Countries returns the upper-case codes of the group's countries in
// alphabetical order, nil for a group of addresses. The caller owns the slice.
func (g *Group) Countries() []string {
	if p, ok := g.members.(*origins); ok {
		return p.countries.list()
	}
	return nil
}

// ASNs returns the numbers of the group's autonomous systems in ascending
// order, nil for a group of addresses. The caller owns the slice.
func (g *Group) ASNs() []uint32 {
	if p, ok := g.members.(*origins); ok {
		return slices.Sorted(maps.Keys(p.asns))
	}
	return nil
}

// normalize returns the one form under which an address is stored and looked
// up.
func normalize(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
