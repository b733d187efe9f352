package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// errUnknownStringGroup is wrapped, with the name of the group, by the errors
// of look-ups in a string group that does not exist.
var errUnknownStringGroup = errors.New("unknown string group")

var errNilGroup = errors.New("nil group")

// StringGroups is a set of string groups by name. It may change while policies
// and scripts use it: each look-up sees a group as it is before or after a
// change, never in between. It is safe for concurrent use. The zero value and
// nil are empty; nil cannot be changed.
type StringGroups struct {
	mu     sync.Mutex // held by writers
	groups atomic.Pointer[map[string]*StringGroup]
}

// NewStringGroups returns a set of groups. Nil groups and second groups with
// the same name are errors. It reports all faults, as joined [FieldError]
// values.
func NewStringGroups(groups ...*StringGroup) (*StringGroups, error) {
	all := make(map[string]*StringGroup, len(groups))
	var f fielderr.List
	for i, g := range groups {
		field := "groups[" + strconv.Itoa(i) + "]"
		switch {
		case g == nil:
			f.Addf(field, nil, "missing")
		case all[g.name] != nil:
			f.Addf(field+".name", g.name, "already the name of another group")
		default:
			all[g.name] = g
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	s := new(StringGroups)
	s.groups.Store(&all)
	return s, nil
}

// Group returns the group with a name.
func (s *StringGroups) Group(name string) (*StringGroup, bool) {
	g, ok := s.load()[name]
	return g, ok
}

// Names returns the sorted names of all groups.
func (s *StringGroups) Names() []string { return slices.Sorted(maps.Keys(s.load())) }

// Replace adds a group, or replaces the group with the same name. A nil group
// is an error.
func (s *StringGroups) Replace(g *StringGroup) error {
	if g == nil {
		return errNilGroup
	}
	s.change(func(groups map[string]*StringGroup) { groups[g.name] = g })
	return nil
}

// Remove removes the group with a name and reports whether there was one. From
// then on, evaluations of rules that name it fail: see [Env].FailOpen.
func (s *StringGroups) Remove(name string) (removed bool) {
	s.change(func(groups map[string]*StringGroup) {
		_, removed = groups[name]
		delete(groups, name)
	})
	return removed
}

// Match finds the entry of a group that a subject equals, begins with, contains
// or ends with. The operator is "equals", "beginswith", "contains" or
// "endswith". Case is ignored unless exactCase is set.
//
// The result is the value of the entry, or its key if the group is a list. The
// error names a group or an operator that does not exist.
//
// The avi.stringgroup functions of scripts use it.
func (s *StringGroups) Match(group, operator, subject string, exactCase bool) (result string, ok bool, err error) {
	var op Op
	switch operator {
	case "equals":
		op = Equals
	case "beginswith":
		op = BeginsWith
	case "contains":
		op = Contains
	case "endswith":
		op = EndsWith
	default:
		return "", false, fmt.Errorf("%q is not an operator of string groups", operator)
	}
	g, err := s.find(group)
	if err != nil {
		return "", false, err
	}
	e, ok, err := g.Find(op, subject, exactCase)
	if g.kind == StringList {
		return e.Key, ok, err
	}
	return e.Value, ok, err
}

func (s *StringGroups) find(name string) (*StringGroup, error) {
	if g, ok := s.load()[name]; ok {
		return g, nil
	}
	return nil, fmt.Errorf("%q: %w", name, errUnknownStringGroup)
}

func (s *StringGroups) load() map[string]*StringGroup {
	if s == nil {
		return nil
	}
	if groups := s.groups.Load(); groups != nil {
		return *groups
	}
	return nil
}

func (s *StringGroups) change(edit func(map[string]*StringGroup)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := maps.Clone(s.load())
	if groups == nil {
		groups = make(map[string]*StringGroup)
	}
	edit(groups)
	s.groups.Store(&groups)
}
