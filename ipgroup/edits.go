package ipgroup

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/gaissmai/bart"
	"go4.org/netipx"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// maxEdits is how many edits a group may have.
const maxEdits = 10_000

// An Edit is a change of a group in a [Set], made by [Set.Edit].
type Edit struct {
	// Entry is an address or a prefix.
	Entry string
	// Remove says that the group does not contain the entry. Otherwise it does.
	Remove bool
	// Until is when the edit ends; zero means never.
	Until time.Time
}

func (e Edit) ended(now time.Time) bool { return !e.Until.IsZero() && !now.Before(e.Until) }

// edits are the edits of a group. They never change.
type edits struct {
	table bart.Table[Edit]
	ends  bool // some of them may
}

// find returns the edit that decides about an address: of those in force, the
// one with the longest prefix.
func (e *edits) find(addr netip.Addr) (edit Edit, bits int, ok bool) {
	if !addr.IsValid() {
		return Edit{}, 0, false
	}
	addr = normalize(addr)
	host := netip.PrefixFrom(addr, addr.BitLen())
	prefix, edit, ok := e.table.LookupPrefixLPM(host)
	if !ok || !e.ends {
		return edit, prefix.Bits(), ok
	}
	now := time.Now()
	if !edit.ended(now) {
		return edit, prefix.Bits(), true
	}
	for prefix, edit := range e.table.Supernets(host) { // the longest first
		if !edit.ended(now) {
			return edit, prefix.Bits(), true
		}
	}
	return Edit{}, 0, false
}

// contains is the part of Group.Contains for a group with edits.
func (e *edits) contains(addr netip.Addr, m members) bool {
	if edit, _, ok := e.find(addr); ok {
		return !edit.Remove
	}
	return m.contains(addr)
}

// smallest is members.smallest for a group with edits.
func (g *Group) smallest(addr netip.Addr) (width uint128, ok bool) {
	if g.edits != nil {
		if edit, bits, ok := g.edits.find(addr); ok {
			if edit.Remove {
				return uint128{}, false
			}
			return lastOfWidth(addr.BitLen() - bits), true
		}
	}
	return g.members.smallest(addr)
}

// lastOfWidth returns 2^bits - 1.
func lastOfWidth(bits int) uint128 {
	switch {
	case bits >= 128:
		return everything
	case bits >= 64:
		return uint128{1<<(bits-64) - 1, everything.lo}
	}
	return uint128{0, 1<<bits - 1}
}

// Match returns what decides that addr is in the group: the edit, the country,
// as "DE", or the autonomous system, as "AS64500", and otherwise the range of
// addresses, as a prefix or as "first-last", to which overlapping and
// neighbouring entries have been merged. If addr is not in the group because of
// an edit, entry is that one.
func (g *Group) Match(addr netip.Addr) (entry string, ok bool) {
	if g.edits != nil {
		if edit, _, ok := g.edits.find(addr); ok {
			return edit.Entry, !edit.Remove
		}
	}
	if !g.members.contains(addr) {
		return "", false
	}
	return g.members.match(normalize(addr)), true
}

// Edit adds entries to the named group and removes others from it, until a
// time; zero means for ever. An entry is an address or a prefix, and replaces
// an earlier edit of the same entry.
//
// Edits lie over the list of the group and survive [Set.Replace]. Among the
// edits in force that contain an address, the one with the longest prefix
// decides; if there is none, the list does. A group may have 10,000 edits.
//
// The error is [ErrUnknownGroup], or joins a [*FieldError] for each fault; then
// nothing has changed.
func (s *Set) Edit(group string, add, remove []string, until time.Time) error {
	var faults fielderr.List
	now := time.Now()
	if (Edit{Until: until}).ended(now) {
		faults.Addf("until", until, "in the past")
	}
	wanted := make(map[netip.Prefix]Edit, len(add)+len(remove))
	for i, list := range [][]string{add, remove} {
		for j, text := range list {
			path := fielderr.Index([]string{"add", "remove"}[i], j)
			prefix, err := parsePrefix(text)
			if err != nil {
				faults.Add(path, text, err)
				continue
			}
			if before, ok := wanted[prefix]; ok && before.Remove != (i == 1) {
				faults.Addf(path, text, "both to add and to remove")
			}
			wanted[prefix] = Edit{prefixText(prefix), i == 1, until}
		}
	}
	if faults.Len() > 0 {
		return faults.Err()
	}
	return s.changeEdits(group, func(all map[netip.Prefix]Edit) error {
		maps.Copy(all, wanted)
		if len(all) > maxEdits {
			return &FieldError{Path: "add", Err: fmt.Errorf("%d edits of the group, more than %d", len(all), maxEdits)}
		}
		return nil
	})
}

// Edits returns the edits of the named group that are in force, sorted by their
// addresses. The caller owns the slice. The only error is [ErrUnknownGroup].
func (s *Set) Edits(group string) (list []Edit, err error) {
	g, ok := s.Group(group)
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownGroup, group)
	}
	if g.edits == nil {
		return nil, nil
	}
	now := time.Now()
	for _, edit := range g.edits.table.AllSorted() {
		if !edit.ended(now) {
			list = append(list, edit)
		}
	}
	return list, nil
}

// Revert ends the edits of these entries of the named group, or all edits
// without entries. An entry without an edit is a fault; the error is like that
// of [Set.Edit].
func (s *Set) Revert(group string, entries ...string) error {
	return s.changeEdits(group, func(all map[netip.Prefix]Edit) error {
		if len(entries) == 0 {
			clear(all)
			return nil
		}
		var faults fielderr.List
		for i, text := range entries {
			prefix, err := parsePrefix(text)
			if _, ok := all[prefix]; err == nil && !ok {
				err = fmt.Errorf("not an edit of group %q", group)
			}
			if err != nil {
				faults.Add(fielderr.Index("entries", i), text, err)
			}
			delete(all, prefix)
		}
		return faults.Err()
	})
}

// changeEdits replaces the edits of a group by those that change makes of the
// ones in force.
func (s *Set) changeEdits(group string, change func(map[netip.Prefix]Edit) error) (err error) {
	s.change(func(groups map[string]*Group) {
		g, ok := groups[group]
		if !ok {
			err = fmt.Errorf("%w %q", ErrUnknownGroup, group)
			return
		}
		all, now := map[netip.Prefix]Edit{}, time.Now()
		if g.edits != nil {
			for prefix, edit := range g.edits.table.All() {
				if !edit.ended(now) {
					all[prefix] = edit
				}
			}
		}
		if err = change(all); err != nil {
			return
		}
		var e *edits
		if len(all) > 0 {
			e = new(edits)
			for prefix, edit := range all {
				e.table.Insert(prefix, edit)
				e.ends = e.ends || !edit.Until.IsZero()
			}
		}
		groups[group] = g.with(e)
	})
	return err
}

// with returns the group with other edits.
func (g *Group) with(e *edits) *Group {
	if g.edits == e {
		return g
	}
	return &Group{g.name, g.members, e}
}

// parsePrefix parses an address or a prefix, like the parser of lists.
func parsePrefix(text string) (netip.Prefix, error) {
	bare := strings.TrimSpace(text)
	p := parser{}
	if reason := p.addresses(bare); reason != "" || strings.ContainsAny(bare, "-–") {
		return netip.Prefix{}, errors.New("not an address or a prefix")
	}
	var r netipx.IPRange
	if len(p.v4) > 0 {
		r = range4(p.v4[0])
	} else {
		r = range6(p.v6[0])
	}
	prefix, _ := r.Prefix()
	return prefix, nil
}

// prefixText returns the text of a prefix; an address has no length.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// rangeText returns the text of a range: a prefix if it is one.
func rangeText(r netipx.IPRange) string {
	if p, ok := r.Prefix(); ok {
		return prefixText(p)
	}
	return r.String()
}

func range4(s span[uint32]) netipx.IPRange {
	return netipx.IPRangeFrom(address4(s.first), address4(s.last))
}

func range6(s span[uint128]) netipx.IPRange {
	return netipx.IPRangeFrom(address6(s.first), address6(s.last))
}
