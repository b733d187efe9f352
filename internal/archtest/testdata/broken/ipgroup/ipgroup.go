// Package ipgroup does not compile.
package ipgroup

var _ int = "not an int"
