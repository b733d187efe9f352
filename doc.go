// Package limpet sticks a client to a server for as long as its user wants, by
// any key its user can script.
package limpet
