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
// If both have the same options they share their tables from then on, so that nothing is missed. With
// other options the entries are copied, which takes about a second for a million of them, and what is
// stored in old meanwhile is missed.
func (s *Store) Adopt(old *Store) bool {
	switch {
	case s == old:
		return true
	case s.used():
		return false
	case s.options.equal(old.options):
		own := s.share(old)
		s.Reserve(own...)
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

// share makes the tables of old those of s, too. It returns the names that s had reserved.
func (s *Store) share(old *Store) (own []string) {
	old.mu.Lock()
	named, reserves := maps.Clone(*old.named.Load()), maps.Clone(old.reserves)
	old.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	own = slices.Collect(maps.Keys(s.reserves))
	s.main = old.main
	s.named.Store(&named)
	s.reserves = reserves
	s.reserved.Store(int64(len(reserves)))
	if s.onDelete == nil {
		return own // that of old goes on
	}
	s.observeLocked("", s.main)
	for name, t := range named {
		s.observeLocked(name, t)
	}
	return own
}

// equal reports whether tables with these options are alike.
func (o Options) equal(other Options) bool {
	same := reflect.ValueOf(o.Owner).Pointer() == reflect.ValueOf(other.Owner).Pointer()
	o.Owner, other.Owner = nil, nil
	return same && reflect.DeepEqual(o, other)
}
