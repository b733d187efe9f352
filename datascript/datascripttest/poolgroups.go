package datascripttest

import (
	"fmt"

	"github.com/limpetlb/limpet/datascript"
)

var _ datascript.PoolGroups = PoolGroups(nil)

// PoolGroups are pool groups. No groups are fine: then all names are unknown.
type PoolGroups []PoolGroup

// A PoolGroup is a named group of pools.
type PoolGroup struct {
	Name    string       // what scripts call it
	Members []PoolMember // the first one that fits is chosen
}

// A PoolMember is a pool of a [PoolGroup].
type PoolMember struct {
	Pool  string // its name
	Label string // its priority label; may be empty
}

// Choose returns the first pool of a group that has the label, or the first one of all if the label is empty. It fails if there
// is none.
func (g PoolGroups) Choose(group, label string) (pool string, err error) {
	for _, pg := range g {
		if pg.Name != group {
			continue
		}
		for _, m := range pg.Members {
			if label == "" || m.Label == label {
				return m.Pool, nil
			}
		}
		return "", fmt.Errorf("pool group %q has no label %q", group, label)
	}
	return "", fmt.Errorf("pool group %q not found", group)
}
