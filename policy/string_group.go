package policy

import (
	"bytes"
	"slices"
	"sync"

	"github.com/limpetlb/limpet/internal/enumtext"
	"github.com/limpetlb/limpet/internal/fielderr"
)

// StringGroupKind is the kind of a string group.
type StringGroupKind uint8

// The kinds of string groups.
const (
	StringList StringGroupKind = iota // entries have only keys
	StringMap                         // each key has a value
)

var stringGroupKindWords = []string{StringList: "list", StringMap: "map"}

// String returns "list" or "map"; "invalid" if k is neither.
func (k StringGroupKind) String() string { return enumtext.String(k, stringGroupKindWords) }

// MarshalText returns "list" or "map". It fails if k is neither.
func (k StringGroupKind) MarshalText() ([]byte, error) {
	return enumtext.Marshal(k, stringGroupKindWords)
}

// UnmarshalText sets k to the kind "list" or "map", in any case.
func (k *StringGroupKind) UnmarshalText(text []byte) error {
	return enumtext.Unmarshal(k, text, stringGroupKindWords)
}

// StringEntry is one entry of a string group.
type StringEntry struct {
	Key   string // the text to compare with; not empty
	Value string // the value in a map; empty in a list
}

// StringGroupConfig is the configuration of a [StringGroup].
type StringGroupConfig struct {
	Name    string          // required, at most 255 bytes of printable text
	Kind    StringGroupKind // the zero value is a list
	Entries []StringEntry   // copied; the keys together have at most 16 MiB
	// LongestMatch selects the longest of several entries that match. False
	// selects the shortest. Of entries with the same length the first wins.
	LongestMatch bool
}

// maxStringGroupBytes limits the keys of one string group together.
const maxStringGroupBytes = 16 << 20

// StringGroup is a list of strings or a map from strings to strings. A look-up
// finds the entry that a subject equals, begins with, ends with or contains.
// Its cost does not depend on the number of entries, except for regular
// expressions, which are tried one by one.
//
// It is immutable and safe for concurrent use. The index for an operator is
// built when it is first used.
type StringGroup struct {
	name     string
	kind     StringGroupKind
	longest  bool
	entries  []StringEntry
	tries    [keyForms]func() *stringTrie
	patterns [2]func() ([]groupPattern, error) // [1]: case matters
}

// keyForm is how the keys of a group are compared.
type keyForm uint8

const (
	exactKeys    keyForm = 1 << iota // as they are; else case-folded
	reversedKeys                     // from the last byte to the first
	rootedKeys                       // with exactly one leading slash
	keyForms     = 1 << iota
)

type groupPattern struct {
	*pattern
	entry int32
}

// NewStringGroup returns a group. The error joins a [*FieldError] for each
// fault.
func NewStringGroup(cfg StringGroupConfig) (*StringGroup, error) {
	var f fielderr.List
	f.Name("name", cfg.Name)
	f.Constant("kind", cfg.Kind)
	size := 0
	for i, e := range cfg.Entries {
		at := fielderr.Index("entries", i)
		size += len(e.Key)
		if e.Key == "" {
			f.Addf(at+".key", nil, "an empty key is part of every text")
		}
		if e.Value != "" && cfg.Kind == StringList {
			f.Addf(at+".value", e.Value, "an entry of a list has no value")
		}
	}
	if size > maxStringGroupBytes {
		f.Addf("entries", nil, "keys of %d bytes are more than %d", size, maxStringGroupBytes)
	}
	if err := f.ErrIn(cfg); err != nil {
		return nil, err
	}
	g := &StringGroup{name: cfg.Name, kind: cfg.Kind, longest: cfg.LongestMatch, entries: slices.Clone(cfg.Entries)}
	for form := range g.tries {
		g.tries[form] = sync.OnceValue(func() *stringTrie { return newStringTrie(g.keys(keyForm(form)), g.better) })
	}
	for i := range g.patterns {
		g.patterns[i] = sync.OnceValues(func() ([]groupPattern, error) { return g.compilePatterns(i == 1) })
	}
	return g, nil
}

// Name returns the group's name.
func (g *StringGroup) Name() string { return g.name }

// Kind returns whether the group is a list or a map.
func (g *StringGroup) Kind() StringGroupKind { return g.kind }

// Len returns the number of entries.
func (g *StringGroup) Len() int { return len(g.entries) }

// Find returns the entry that matches a subject best, as LongestMatch says. A
// negative operator means its positive one, and other than text operators find
// nothing. Only [MatchesRegexp] can fail: if the keys are not regular
// expressions within the limits, or the subject is longer than 8 KiB.
func (g *StringGroup) Find(op Op, subject string, caseSensitive bool) (StringEntry, bool, error) {
	t := text{exact: []byte(subject)}
	if !caseSensitive {
		t.folded = fold(subject)
	} else if op.positive() == MatchesRegexp {
		t.folded = fold(subject) // literals of patterns are looked for in this form
	}
	i, err := g.find(op.positive(), t, caseSensitive, false)
	if err != nil || i < 0 {
		return StringEntry{}, false, err
	}
	return g.entries[i], true, nil
}

// find returns the index of the best entry, or -1. If rooted is set, keys are
// compared with exactly one leading slash.
func (g *StringGroup) find(op Op, t text, caseSensitive, rooted bool) (int32, error) {
	var form keyForm
	subject := t.folded
	if caseSensitive {
		form, subject = exactKeys, t.exact
	}
	if rooted {
		form |= rootedKeys
	}
	switch op {
	case Equals:
		return g.tries[form]().equal(subject), nil
	case BeginsWith:
		return g.tries[form]().prefix(subject, g.better), nil
	case EndsWith:
		return g.tries[form|reversedKeys]().suffix(subject, g.better), nil
	case Contains:
		return g.tries[form]().within(subject, g.better), nil
	case MatchesRegexp:
		return g.findRegexp(t, caseSensitive)
	}
	return -1, nil
}

// better reports whether entry a is preferred to entry b.
func (g *StringGroup) better(a, b int32) bool {
	la, lb := len(g.entries[a].Key), len(g.entries[b].Key)
	if la != lb {
		return (la > lb) == g.longest
	}
	return a < b
}

func (g *StringGroup) keys(form keyForm) [][]byte {
	keys := make([][]byte, len(g.entries))
	for i, e := range g.entries {
		key := []byte(e.Key)
		if form&exactKeys == 0 {
			key = fold(e.Key)
		}
		if form&rootedKeys != 0 {
			key = append([]byte{'/'}, bytes.TrimLeft(key, "/")...)
		}
		if form&reversedKeys != 0 {
			slices.Reverse(key)
		}
		keys[i] = key
	}
	return keys
}

// compilePatterns compiles the keys as regular expressions, the best first.
func (g *StringGroup) compilePatterns(caseSensitive bool) ([]groupPattern, error) {
	patterns := make([]groupPattern, 0, len(g.entries))
	var c compiler
	for i, e := range g.entries {
		p, err := c.compilePattern(e.Key, caseSensitive)
		if err != nil {
			return nil, &FieldError{Path: fielderr.Index("entries", i) + ".key", Value: e.Key, Err: err}
		}
		patterns = append(patterns, groupPattern{p, int32(i)})
	}
	slices.SortFunc(patterns, func(a, b groupPattern) int {
		if g.better(a.entry, b.entry) {
			return -1
		}
		return 1
	})
	return patterns, nil
}

func (g *StringGroup) findRegexp(t text, caseSensitive bool) (int32, error) {
	patterns, err := g.groupPatterns(caseSensitive)
	if err != nil {
		return -1, err
	}
	if len(patterns) > 0 && len(t.exact) > maxRegexpSubject {
		return -1, errFieldTooLong
	}
	for _, p := range patterns {
		if p.matches(t) {
			return p.entry, nil
		}
	}
	return -1, nil
}

func (g *StringGroup) groupPatterns(caseSensitive bool) ([]groupPattern, error) {
	if caseSensitive {
		return g.patterns[1]()
	}
	return g.patterns[0]()
}
