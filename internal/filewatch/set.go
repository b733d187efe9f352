package filewatch

import (
	"hash/maphash"
	"slices"
)

// A Set looks at files of which it does not know in advance which there are, such as those in a directory. It loads nothing: the
// caller does, since what it loads may be in several files. Its methods must not overlap.
type Set struct {
	limit int64
	seed  maphash.Seed
	files map[string]*watched
}

// NewSet returns a set for files of at most limit bytes; negative means no limit. A longer file is as one that cannot be read.
func NewSet(limit int64) *Set {
	return &Set{limit: limit, seed: maphash.MakeSeed(), files: map[string]*watched{}}
}

// Look looks at the files, and returns those that have changed, sorted: the content is another one than when Look returned the
// file last, or why there is none, and two calls in a row have found that. A file that the call before did not look at has changed
// as soon as a second call has found the same. Call it every [Tick].
func (s *Set) Look(paths []string) (changed []string) {
	spread := int64(len(paths) / rereadFiles)
	files := make(map[string]*watched, len(paths))
	for _, path := range paths {
		if files[path] != nil {
			continue
		}
		f := s.files[path]
		if f == nil {
			f = &watched{File: File{Path: path, Limit: s.limit}, seed: s.seed}
		}
		files[path], f.spread = f, spread
		if found, news, _ := f.sight(); news {
			f.judged = found
			changed = append(changed, path)
		}
	}
	s.files = files
	slices.Sort(changed)
	return changed
}
