// Package geoip breaks no rule; it has every kind of exported name.
package geoip

import (
	"io"
	"net/http"
	"time"
)

// Constants of three kinds.
const (
	Lifetime       = 300 * time.Second // Lifetime is typed by its value.
	Name           = "geo\n"           // Name is untyped.
	First    Kind  = iota              // First has an explicit type.
	Second                             // Second has an implied type.
	Pi             = 3.14              // Pi is a float.
	Small    uint8 = 1                 // Small has a basic type.
)

// Err is a variable.
var Err error

// Kind is a basic type with a method.
type Kind uint8

// String is a method on the value.
func (k Kind) String() string { return "" }

// Header is an alias.
type Header = http.Header

// Func is a function type.
type Func func(w io.Writer) error

// Table has fields, embedded ones and type parameters.
type Table[K comparable, V any] struct {
	// Key is a field.
	Key   K
	value V
	io.Reader
	lent
}

type lent struct {
	// Lent is promoted.
	Lent int
}

// Close is promoted.
func (*lent) Close() error { return nil }

// Get is a method on the pointer.
func (t *Table[K, V]) Get(key K) (value V, ok bool) { return t.value, false }

func (t *Table[K, V]) get() {}

// Finder can be implemented here only.
type Finder interface {
	io.Closer
	// Find finds.
	Find(name string, more ...int) (*Table[string, int], error)
	find()
}

// Number is a constraint.
type Number interface{ ~int | ~float64 }

// Sum is generic.
func Sum[N Number](numbers ...N) N { return 0 }

func hidden() {}
