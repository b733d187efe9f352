// Package persistence imports a sibling, twice has a package comment and documents half of what it exports.
package persistence

import (
	_ "net/http"

	_ "github.com/limpetlb/limpet/lbpool"
	_ "github.com/yuin/gopher-lua"
)

// The comment of the group does not count.
const (
	Bare = iota
	// Documented is documented.
	Documented
	Trailing // is documented as well
	private
)

// One is documented by the comment of the declaration.
const One = 1

var Variable, Another int

func Function() {}

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

func (t *Table[K]) Method() {}

func (t *Table[K]) method() {}

func (embedded) Promoted() {}

// Store is documented, one of its methods is not.
type Store interface {
	Insert()
	// Remove is documented.
	Remove()
	lookup()
}

//archtest:allow
var _ = private
