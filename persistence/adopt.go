package persistence

import (
	"io"
	"maps"
	"reflect"
	"slices"
)

// Adopt gives s the entries of old. Use it when a new configuration replaces
// one that is in use. Call it before anything else uses s: if s already has
// entries, it does nothing and returns false.
//
// If both stores have the same options, they share their tables from then on,
// and no write to either is lost. Otherwise Adopt copies the entries, which
// takes about a second per million; entries that are stored in old during the
// copy may be lost.
func (s *Store) Adopt(old *Store) bool {
	switch {
	case s.tables == old.tables:
		return true
	case s.used():
		return false
	case s.options.equal(old.options):
		s.share(old)
		return true
	}
	r, w := io.Pipe()
	go func() {
		_, err := old.WriteTo(w)
		_ = w.CloseWithError(err)
	}()
	_, err := s.ReadFrom(r)
	_ = r.Close()
	return err == nil
}

// used reports whether the store has entries.
func (s *Store) used() bool {
	if s.main.Len() > 0 {
		return true
	}
	for _, t := range *s.named.Load() {
		if t.Len() > 0 {
			return true
		}
	}
	return false
}

// share makes s use the tables of old.
func (s *Store) share(old *Store) {
	s.mu.Lock()
	reservedNames, onDelete := slices.Collect(maps.Keys(s.reservedNames)), s.onDelete
	s.mu.Unlock()
	s.tables = old.tables
	s.Reserve(reservedNames...)
	if onDelete != nil { // else the callback of old stays
		s.OnDelete(onDelete)
	}
}

// equal reports whether tables with these options behave alike.
func (o Options) equal(other Options) bool {
	same := reflect.ValueOf(o.Owner).Pointer() == reflect.ValueOf(other.Owner).Pointer()
	o.Owner, other.Owner = nil, nil
	return same && reflect.DeepEqual(o, other)
}
