// Package tools pins the tools that check limpet, in a module of their own so
// that nobody who uses the library inherits what they depend on. The script
// check beside this file runs them.
package tools
