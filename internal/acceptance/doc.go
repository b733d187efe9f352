// Package acceptance has tests of the whole product that are too large for the
// packages whose doings they judge. It has no code of its own.
package acceptance
