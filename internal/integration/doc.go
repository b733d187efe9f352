// Package integration tests limpet with programs and libraries that the library
// itself must not depend on. It is a module of its own and has tests only.
package integration
