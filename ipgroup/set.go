package ipgroup

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// ErrUnknownGroup is wrapped, with the name of the group, by the error of
// [Set.Contains] for a group that is not in the set.
var ErrUnknownGroup = errors.New("unknown ip group")

// A Set has groups by name. Its zero value is an empty set.
//
// It is safe for concurrent use. Readers never wait: a call to Contains uses
// either the old group or the new one. A Set must not be copied after first
// use.
type Set struct {
	mu     sync.Mutex // locked while the map is copied and changed
	groups atomic.Pointer[map[string]*Group]
}

// NewSet returns a set of groups. A nil group and a second group of the same
// name are faults; the error joins a [*FieldError] for each.
func NewSet(groups ...*Group) (*Set, error) {
	byName := make(map[string]*Group, len(groups))
	var faults fielderr.List
	for i, g := range groups {
		if g == nil {
			faults.Addf(fielderr.Index("groups", i), nil, "missing")
			continue
		}
		if byName[g.name] != nil {
			faults.Addf(fielderr.Index("groups", i)+".name", g.name, "already the name of another group")
			continue
		}
		byName[g.name] = g.with(nil)
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	s := new(Set)
	s.groups.Store(&byName)
	return s, nil
}

// Contains reports whether the named group contains addr, like
// [Group.Contains]. For a group that is not in the set it returns an error that
// wraps [ErrUnknownGroup].
func (s *Set) Contains(group string, addr netip.Addr) (bool, error) {
	g, ok := s.Group(group)
	if !ok {
		return false, fmt.Errorf("%w %q", ErrUnknownGroup, group)
	}
	return g.Contains(addr), nil
}

// Group returns the group of the given name, if it is in the set.
func (s *Set) Group(name string) (*Group, bool) {
	g, ok := s.load()[name]
	return g, ok
}

// Names returns the names of all groups in alphabetical order. The caller owns
// the slice.
func (s *Set) Names() []string {
	return slices.Sorted(maps.Keys(s.load()))
}

// Replace replaces the group of the same name by g, or adds g if there is none.
// The edits that the set has for the name stay, and g brings none of its own.
// Calls to Contains that have begun finish with the old group. The only error
// is that of a nil group, which changes nothing.
func (s *Set) Replace(g *Group) error {
	if g == nil {
		return errors.New("replace: nil group")
	}
	s.change(func(groups map[string]*Group) {
		var e *edits
		if old := groups[g.name]; old != nil {
			e = old.edits
		}
		groups[g.name] = g.with(e)
	})
	return nil
}

// Remove removes the named group from the set and reports whether it was there.
// Afterwards Contains returns an error for it; rules and scripts that use the
// group then follow their own failure mode.
func (s *Set) Remove(name string) bool {
	var found bool
	s.change(func(groups map[string]*Group) {
		_, found = groups[name]
		delete(groups, name)
	})
	return found
}

// load returns the current map, which does not change any more.
func (s *Set) load() map[string]*Group {
	if m := s.groups.Load(); m != nil {
		return *m
	}
	return nil
}

// change replaces the map by a copy that edit has changed.
func (s *Set) change(edit func(map[string]*Group)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := make(map[string]*Group, len(s.load())+1)
	maps.Copy(groups, s.load())
	edit(groups)
	s.groups.Store(&groups)
}
