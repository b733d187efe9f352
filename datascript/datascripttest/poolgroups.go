package datascripttest

import (
	"fmt"

	"github.com/limpetlb/limpet/datascript"
	"github.com/limpetlb/limpet/internal/prioritylabel"
)

var _ datascript.PoolGroups = PoolGroups(nil)

// PoolGroups are pool groups. No groups are fine: then all names are unknown.
type PoolGroups []PoolGroup

// A PoolGroup is a named group of pools.
type PoolGroup struct {
	Name    string       // what scripts call it
	Members []PoolMember // the first one that fits is chosen

	// ImplicitLabels lets a label such as "shop.example/cart" stand for all
	// paths below it.
	ImplicitLabels bool
	// FallbackLabel is taken when no member has the label that is asked for;
	// empty means that such a label is an error.
	FallbackLabel string
}

// A PoolMember is a pool of a [PoolGroup].
type PoolMember struct {
	Pool  string // its name
	Label string // its priority label; may be empty
}

// Choose returns the first pool of a group that has the label, or the first one
// of all if the label is empty. Labels are found as a service finds them. It
// fails if there is none.
func (g PoolGroups) Choose(group, label string) (pool string, err error) {
	for _, pg := range g {
		if pg.Name != group {
			continue
		}
		found := ""
		if label != "" {
			rules := prioritylabel.Rules{Implicit: pg.ImplicitLabels, Fallback: pg.FallbackLabel}
			var ok bool
			if found, ok = rules.Find(pg.labels, label); !ok {
				return "", fmt.Errorf("pool group %q: unknown priority label: %q", group, label)
			}
		}
		for _, m := range pg.Members {
			if found == "" || m.Label == found {
				return m.Pool, nil
			}
		}
		return "", fmt.Errorf("pool group %q: no pool", group)
	}
	return "", fmt.Errorf("pool group %q not found", group)
}

// labels goes through the labels of the members.
func (g *PoolGroup) labels(yield func(label string) bool) {
	for _, m := range g.Members {
		if !yield(m.Label) {
			return
		}
	}
}
