package filewatch

import (
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// manyFiles is how many files a Set looks at each time. Of more, it looks at
// those in directories that have changed, and at one in turns of the others:
// 20,000 looks take a tenth of a second.
const (
	manyFiles = 1_000
	turns     = 10
)

// recent is how long after a change of a directory another one may not show in
// its time.
const recent = 2 * time.Second

// A Set looks at files of which it does not know in advance which there are,
// such as those in a directory. It loads nothing: the caller does, since what
// it loads may be in several files. Its methods must not overlap.
type Set struct {
	limit int64
	seed  maphash.Seed
	files map[string]*member
	dirs  map[string]*parent
	looks int64
}

// A member is one of the files of a set.
type member struct {
	watched
	parent *parent
	seen   int64 // the last look at the set in which it was
}

// A parent is a directory that has files of a set.
type parent struct {
	Dir
	seen    int64
	changed bool // when it was seen
}

// NewSet returns a set for files of at most limit bytes; negative means no
// limit. A longer file is as one that cannot be read.
func NewSet(limit int64) *Set {
	return &Set{limit: limit, seed: maphash.MakeSeed(), files: map[string]*member{}, dirs: map[string]*parent{}}
}

// Look looks at the files, and returns those that have changed, sorted: the
// content is another one than when Look returned the file last, or why there is
// none, and two calls in a row have found that. A file that the call before did
// not look at has changed as soon as a second call has found the same. Call it
// every [Tick].
//
// Of more than 1,000 files, those that are written in place may take ten calls
// longer; those that are renamed into their directories do not.
func (s *Set) Look(paths []string) (changed []string) {
	s.looks++
	many := len(paths) > manyFiles
	spread := int64(len(paths) / rereadFiles)
	if many {
		spread /= turns
	}
	there := 0
	for i, path := range paths {
		f := s.files[path]
		if f == nil {
			f = &member{watched: watched{File: File{Path: path, Limit: s.limit}, seed: s.seed}, parent: s.parent(path)}
			s.files[path] = f
		}
		if f.seen == s.looks {
			continue
		}
		there++
		fresh := f.seen == 0
		f.seen, f.spread = s.looks, spread
		turn := (int64(i)+s.looks)%turns == 0
		if many && !turn && !fresh && f.last == f.judged && !f.parent.look(s.looks) {
			continue
		}
		if found, news, _ := f.sight(); news {
			f.judged = found
			changed = append(changed, path)
		}
	}
	if there < len(s.files) {
		s.forget()
	}
	slices.Sort(changed)
	return changed
}

// parent returns the directory of a file.
func (s *Set) parent(path string) *parent {
	dir := filepath.Dir(path)
	p := s.dirs[dir]
	if p == nil {
		p = &parent{Dir: Dir{Path: dir}}
		s.dirs[dir] = p
	}
	return p
}

// look looks at the directory once for each look at the set, and reports
// whether it has changed.
func (p *parent) look(n int64) bool {
	if p.seen != n {
		p.seen, p.changed = n, p.Changed()
	}
	return p.changed
}

// forget leaves out what was not in the last look.
func (s *Set) forget() {
	dirs := map[string]*parent{}
	for path, f := range s.files {
		if f.seen != s.looks {
			delete(s.files, path)
			continue
		}
		dirs[f.parent.Path] = f.parent
	}
	s.dirs = dirs
}

// A Dir reports whether a directory may have other files than before.
type Dir struct {
	Path string // symbolic links are followed, each time
	info fs.FileInfo
}

// Changed reports whether files may have come, gone or been replaced by others
// of their names since the last call, or the directory cannot be looked at. It
// is true for the first call, and for two seconds after a change. It does not
// see what is written in place.
func (d *Dir) Changed() bool {
	info, err := os.Stat(d.Path)
	if err != nil {
		d.info = nil
		return true
	}
	changed := !same(d.info, info) || time.Since(info.ModTime()) < recent
	d.info = info
	return changed
}
