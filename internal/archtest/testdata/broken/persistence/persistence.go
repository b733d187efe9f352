// Package persistence imports a sibling, and documents half of what it exports.
package persistence

import (
	_ "net/http"

	_ "github.com/limpetlb/limpet/lbpool"
	_ "golang.org/x/net/html"
)

// The comment of the group is not enough.
const (
	Bare = iota
	// Documented is documented.
	Documented
	Trailing // is documented as well
	private
)

// The comment of the group is not enough.
var (
	Variable, Another int
)

type Table[K comparable] struct {
	Field   K
	A, B    int // A and B share a comment.
	private int
	Inner   []struct {
		Deep int
	}
	Callback func(struct{ Ignored int }) // Callback has parameters, not members.
	embedded
}

type embedded struct{ Hidden int }

// Store is documented, one of its methods is not.
type Store interface {
	Insert()
	// Remove is documented.
	Remove()
	lookup()
}
