package policy

import (
	"bytes"
	"errors"
	"slices"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Errors of requests that are too long to be judged.
var (
	// errURITooLong: a path or query longer than maxRegexpSubject, or a path
	// longer than 4 KiB.
	errURITooLong = errors.New("path or query too long to be judged")
	// errFieldTooLong: a header, host or cookie longer than maxRegexpSubject.
	errFieldTooLong = errors.New("header or cookie too long to be judged")
	// errResponseTooLong: a response header longer than maxRegexpSubject.
	errResponseTooLong = errors.New("response header too long to be judged")
)

// value is one checked value of a string match.
type value struct {
	source string
	text   []byte   // folded, if case does not matter
	re     *pattern // for MatchesRegexp
}

// values checks the values of a string match and returns the good ones.
func (c *compiler) values(field string, op Op, sources, groups []string, caseSensitive bool) []value {
	if !op.checkText(&c.faults, field) {
		return nil
	}
	if len(sources)+len(groups) == 0 {
		c.faults.Addf(field+".values", nil, "%q needs a value", op)
	}
	op = op.positive()
	values := make([]value, 0, len(sources))
	for i, source := range sources {
		v := value{source: source, text: []byte(source)}
		switch {
		case source == "" && op != Equals:
			c.faults.Addf(fielderr.Index(field+".values", i), nil, "an empty value is part of every text")
			continue
		case op == MatchesRegexp:
			re, err := c.compilePattern(source, caseSensitive)
			if err != nil {
				c.faults.Add(fielderr.Index(field+".values", i), source, err)
				continue
			}
			v.re = re
		case !caseSensitive:
			v.text = fold(source)
		}
		values = append(values, v)
	}
	return values
}

// presence checks a match with Exists or DoesNotExist and reports whether the
// subject must be present.
func (c *compiler) presence(field string, op Op, values, groups []string) bool {
	if len(values)+len(groups) > 0 {
		c.faults.Addf(field+".values", nil, "%q takes no values", op)
	}
	return op == Exists
}

// useGroups makes a set ask string groups as well. Rooted: their keys are
// compared with exactly one leading slash.
func (c *compiler) useGroups(field string, s *stringSet, groups []string, rooted bool) {
	s.rooted = rooted
	for i, name := range groups {
		at := fielderr.Index(field+".stringGroups", i)
		if c.env.StringGroups == nil {
			c.faults.Addf(at, name, "the policy was given no string groups")
			continue
		}
		g, err := c.env.StringGroups.find(name)
		if err == nil && s.op == MatchesRegexp {
			_, err = g.groupPatterns(s.exact)
		}
		if err != nil {
			if errors.Is(err, errUnknownStringGroup) {
				err = errUnknownStringGroup // the value has the name
			}
			c.faults.Add(at, name, err)
			continue
		}
		s.groupNames = append(s.groupNames, name)
		s.groups = c.env.StringGroups
	}
}

// stringSet is the compiled form of the values of a string match. It answers
// the positive question, for the values and the string groups together. The
// values of the literal operators are sorted and reduced so that none is
// redundant; then one binary search finds the only candidate:
//
//   - Equals: sorted, unique.
//   - BeginsWith: no value is a prefix of another. If a value is a prefix of
//     the subject it is the greatest value not above the subject, because
//     whatever sorts between the two begins with it too.
//   - EndsWith: the same, read from the end.
//   - Contains: as BeginsWith, searched from each position whose byte begins
//     a value; a short list is faster scanned value by value.
type stringSet struct {
	op       Op   // positive
	exact    bool // case matters
	literals [][]byte
	initials *[256]bool // first bytes of literals, for a long Contains list
	patterns []*pattern
	tooLong  error // for a subject above maxRegexpSubject

	groups     *StringGroups
	groupNames []string
	rooted     bool
}

// scanLimit is the longest Contains list that is scanned, because
// bytes.Contains works through many bytes at a time.
const scanLimit = 8

func newStringSet(op Op, caseSensitive bool, values []value, tooLong error) *stringSet {
	s := &stringSet{op: op, exact: caseSensitive, tooLong: tooLong}
	for _, v := range values {
		if op == MatchesRegexp {
			s.patterns = append(s.patterns, v.re)
		} else {
			s.literals = append(s.literals, v.text)
		}
	}
	switch op {
	case Equals:
		s.literals = reduce(s.literals, bytes.Compare, bytes.Equal)
	case BeginsWith, Contains:
		s.literals = reduce(s.literals, bytes.Compare, bytes.HasPrefix)
	case EndsWith:
		s.literals = reduce(s.literals, compareReversed, bytes.HasSuffix)
	}
	if op == Contains && len(s.literals) > scanLimit {
		s.initials = new([256]bool)
		for _, l := range s.literals {
			s.initials[l[0]] = true
		}
	}
	return s
}

// reduce sorts literals and drops each that is covered by the one kept before
// it.
func reduce(literals [][]byte, compare func(a, b []byte) int, covers func(s, part []byte) bool) [][]byte {
	slices.SortFunc(literals, compare)
	kept := literals[:0]
	for _, l := range literals {
		if n := len(kept); n == 0 || !covers(l, kept[n-1]) {
			kept = append(kept, l)
		}
	}
	return slices.Clip(kept)
}

// contains reports whether any value, or any entry of a group, matches the
// subject. It fails for a subject that is too long for a regular expression,
// and if a group is missing.
func (s *stringSet) contains(t text) (bool, error) {
	in, err := s.inline(t)
	if in || err != nil || s.groups == nil {
		return in, err
	}
	_, in, err = s.entry(t)
	return in, err
}

// entry returns the entry that matches the subject, of the first group that has
// one.
func (s *stringSet) entry(t text) (StringEntry, bool, error) {
	for _, name := range s.groupNames {
		g, err := s.groups.find(name)
		if err != nil {
			return StringEntry{}, false, err
		}
		i, err := g.find(s.op, t, s.exact, s.rooted)
		if errors.Is(err, errFieldTooLong) {
			err = s.tooLong
		}
		if err != nil {
			return StringEntry{}, false, err
		}
		if i >= 0 {
			return g.entries[i], true, nil
		}
	}
	return StringEntry{}, false, nil
}

// captures returns what the groups of the first regular expression that
// matches the subject have captured; [0] is the whole match. It is for
// subjects that contains has accepted.
func (s *stringSet) captures(t text) [][]byte {
	for _, p := range s.patterns {
		if p.matches(t) {
			return p.re.FindSubmatch(t.exact)
		}
	}
	for _, name := range s.groupNames {
		if g, err := s.groups.find(name); err == nil {
			patterns, _ := g.groupPatterns(s.exact)
			for _, p := range patterns {
				if p.matches(t) {
					return p.re.FindSubmatch(t.exact)
				}
			}
		}
	}
	return nil
}

func (s *stringSet) inline(t text) (bool, error) {
	subject := t.folded
	if s.exact {
		subject = t.exact
	}
	switch s.op {
	case Equals:
		_, ok := slices.BinarySearchFunc(s.literals, subject, bytes.Compare)
		return ok, nil
	case BeginsWith:
		return s.begins(subject), nil
	case EndsWith:
		i, ok := slices.BinarySearchFunc(s.literals, subject, compareReversed)
		return ok || i > 0 && bytes.HasSuffix(subject, s.literals[i-1]), nil
	case Contains:
		return s.within(subject), nil
	}
	return s.matchesRegexp(t)
}

func (s *stringSet) begins(subject []byte) bool {
	i, ok := slices.BinarySearchFunc(s.literals, subject, bytes.Compare)
	return ok || i > 0 && bytes.HasPrefix(subject, s.literals[i-1])
}

func (s *stringSet) within(subject []byte) bool {
	if s.initials == nil {
		for _, l := range s.literals {
			if bytes.Contains(subject, l) {
				return true
			}
		}
		return false
	}
	for i, c := range subject {
		if s.initials[c] && s.begins(subject[i:]) {
			return true
		}
	}
	return false
}

func (s *stringSet) matchesRegexp(t text) (bool, error) {
	if len(s.patterns) > 0 && len(t.exact) > maxRegexpSubject {
		return false, s.tooLong
	}
	for _, p := range s.patterns {
		if p.matches(t) {
			return true, nil
		}
	}
	return false, nil
}

// compareReversed orders texts by their bytes from the last to the first.
func compareReversed(a, b []byte) int {
	for i, j := len(a)-1, len(b)-1; i >= 0 && j >= 0; i, j = i-1, j-1 {
		if a[i] != b[j] {
			return int(a[i]) - int(b[j])
		}
	}
	return len(a) - len(b)
}
