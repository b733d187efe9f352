package persistence

import (
	"io"
	"maps"
	"reflect"
	"slices"
)

// Adopt makes s hold what old holds, for a configuration that was built anew while the old one is in
// use. Call it before s is used: it does nothing, and reports false, if s has an entry.
//
// If both have the same options they are two handles on the same tables from then on, so that nothing is
// missed. With other options the entries are copied, which takes about a second for a million of them, and what is
// stored in old meanwhile is missed.
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

// share makes the tables of old those of s, too.
func (s *Store) share(old *Store) {
	s.mu.Lock()
	reservedNames, onDelete := slices.Collect(maps.Keys(s.reservedNames)), s.onDelete
	s.mu.Unlock()
	s.tables = old.tables
	s.Reserve(reservedNames...)
	if onDelete != nil { // else that of old goes on
		s.OnDelete(onDelete)
	}
}

// equal reports whether tables with these options are alike.
func (o Options) equal(other Options) bool {
	same := reflect.ValueOf(o.Owner).Pointer() == reflect.ValueOf(other.Owner).Pointer()
	o.Owner, other.Owner = nil, nil
	return same && reflect.DeepEqual(o, other)
}
