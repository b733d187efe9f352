// Package bindingsource carries the source of a persistence binding from the
// store that finds it to the request it belongs to.
package bindingsource

// Key is the key under which the context of a request has its [Recorder].
type Key struct{}

// A Recorder notes where the binding of a request was found. A later note
// replaces an earlier one.
type Recorder interface {
	// NoteSource notes the source.
	NoteSource(source string)
}
