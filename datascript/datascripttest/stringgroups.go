package datascripttest

import (
	"fmt"
	"strings"

	"github.com/limpetlb/limpet/datascript"
)

var _ datascript.StringGroups = StringGroups(nil)

// StringGroups are string groups. No groups are fine: then all names are
// unknown.
type StringGroups []StringGroup

// A StringGroup is a list of strings, or a map of strings to values.
type StringGroup struct {
	Name    string        // what scripts call it
	IsMap   bool          // entries have values
	Entries []StringEntry // in the order that decides between entries of the same length
}

// A StringEntry is an entry of a [StringGroup].
type StringEntry struct {
	Key   string // what is compared
	Value string // what a match gives, in a map
}

// Match finds the shortest entry that fits, and the first one of those. It
// fails if there is no such group.
func (g StringGroups) Match(group, operator, s string, exactCase bool) (result string, ok bool, err error) {
	for i := range g {
		if g[i].Name == group {
			result, ok = g[i].match(matchers[operator], s, exactCase)
			return result, ok, nil
		}
	}
	return "", false, fmt.Errorf("%q: unknown string group", group)
}

var matchers = map[string]func(s, key string) bool{
	"equals":     func(s, key string) bool { return s == key },
	"beginswith": strings.HasPrefix,
	"contains":   strings.Contains,
	"endswith":   strings.HasSuffix,
}

func (g *StringGroup) match(fits func(s, key string) bool, s string, exactCase bool) (string, bool) {
	if !exactCase {
		s = strings.ToLower(s)
	}
	var found *StringEntry
	for i := range g.Entries {
		e := &g.Entries[i]
		key := e.Key
		if !exactCase {
			key = strings.ToLower(key)
		}
		if fits(s, key) && (found == nil || len(e.Key) < len(found.Key)) {
			found = e
		}
	}
	switch {
	case found == nil:
		return "", false
	case g.IsMap:
		return found.Value, true
	}
	return found.Key, true
}
