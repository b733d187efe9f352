package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// A process writes the files of tables and of logs, and makes those of sockets.
// None of them may be one that the configuration reads, or that something else
// in it writes: a script in place of saved tables would be put aside as damaged
// and be replaced, and a log that is watched would lead to one reload after the
// other. Files are compared by what they are, not by how they are spelled.

// A fileID says which file a path stands for. The zero value is none.
type fileID struct {
	named  string      // absolute, with no symbolic link in its directory
	target string      // the same of where it leads if it is a link
	info   fs.FileInfo // of that; nil if it is not there
}

// identify finds out what a path stands for. Nothing of it needs to be there.
func identify(path string) fileID {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	id := fileID{named: withoutLinks(path)}
	target := targetOf(path)
	id.target = withoutLinks(target)
	id.info, _ = os.Stat(target)
	return id
}

// withoutLinks returns a path whose directory has no symbolic links, as far as
// it is there.
func withoutLinks(path string) string {
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	if direct, err := filepath.EvalSymlinks(dir); err == nil {
		return filepath.Join(direct, filepath.Base(path))
	}
	return filepath.Join(withoutLinks(dir), filepath.Base(path))
}

// same reports whether two paths stand for one file. Pipes and devices can have
// several uses, so they are the same as nothing.
func (f fileID) same(other fileID) bool {
	switch {
	case f.isStream() || other.isStream() || f.named == "" || other.named == "":
		return false
	case f.named == other.named, f.named == other.target, f.target == other.named, f.target == other.target:
		return true
	}
	return f.info != nil && other.info != nil && os.SameFile(f.info, other.info)
}

// now is the identity of what the path stands for by now: tables are saved
// under another name and renamed, and what they were may be part of another
// file since.
func (f fileID) now() fileID {
	f.info, _ = os.Stat(f.target)
	return f
}

func (f fileID) isStream() bool {
	return f.info != nil && f.info.Mode()&(fs.ModeDevice|fs.ModeCharDevice|fs.ModeNamedPipe) != 0
}

// in reports whether the file is in a directory.
func (f fileID) in(dir string) bool {
	return filepath.Dir(f.named) == filepath.Dir(withoutLinks(filepath.Join(dir, "x")))
}

// A writer is something that writes files.
type writer struct {
	kind  writerKind
	path  string // where the configuration names its file
	key   string // of tables
	files []fileID
}

type writerKind uint8

const (
	writesTables writerKind = iota
	writesLog
	makesSocket
)

// besides are the ends of names that tables use beside their file.
var besides = []string{".tmp", ".bad"}

// writesTo notes what writes a file of the system that is named at a path. Its
// other files have the same name with something at the end.
func (b *builder) writesTo(a *assembly, w writer, file string, others ...string) {
	w.path = fielderr.Join(b.prefix, w.path)
	w.files = append(w.files, identify(file))
	for _, end := range others {
		w.files = append(w.files, identify(file+end))
	}
	a.writers = append(a.writers, w)
}

// keepApart notes writers whose files have another use.
func (b *builder) keepApart(a *assembly) {
	for output, path := range sorted(a.logs.paths) {
		if output != toStderr && output != toStdout && a.logs.uses(output) {
			a.writers = append(a.writers, writer{kind: writesLog, path: path, files: []fileID{identify(output)}})
		}
	}
	for _, d := range a.listeners {
		for i, at := range d.addresses {
			if at.isFile() {
				a.writers = append(a.writers, writer{kind: makesSocket, path: d.paths[i], files: []fileID{identify(at.name)}})
			}
		}
	}
	if len(a.writers) == 0 || b.options.Offline {
		return
	}
	var read []fileID
	for _, name := range b.file.files.opened() {
		read = append(read, identify(name))
	}
	for i, w := range a.writers {
		err := cmp.Or(b.readsFrom(w, read), w.clash(a.writers[:i]), b.takesFrom(w))
		if err != nil {
			b.located(w.path, nil, err, false)
		}
	}
}

// sorted iterates over a map in the order of its keys.
func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// readsFrom returns an error if the configuration reads a file of a writer, or
// would if it were there.
func (b *builder) readsFrom(w writer, read []fileID) error {
	for i, f := range w.files {
		if !slices.ContainsFunc(read, f.same) && !b.wouldRead(f) {
			continue
		}
		if i == 0 {
			return errors.New("the configuration reads this file")
		}
		return fmt.Errorf("tables also write %s, which the configuration reads", filepath.Base(f.named))
	}
	return nil
}

// wouldRead reports whether a file that is not there yet would be read: an
// include pattern matches it, or it is named as certificates in a directory
// are.
func (b *builder) wouldRead(f fileID) bool {
	if _, is := b.file.files.(*osFiles); !is || f.isStream() {
		return false
	}
	name := filepath.Base(f.named)
	for _, pattern := range b.file.doc.Include {
		pattern = b.file.files.where(b.file.first.dir, pattern)
		if ok, _ := filepath.Match(filepath.Base(pattern), name); !ok {
			continue
		}
		dirs, _ := filepath.Glob(filepath.Dir(pattern))
		if slices.ContainsFunc(dirs, f.in) {
			return true
		}
	}
	if !slices.Contains([]string{".pem", ".crt", ".key"}, filepath.Ext(name)) || strings.HasPrefix(name, ".") {
		return false
	}
	return slices.ContainsFunc(b.file.certificateDirectories(), f.in)
}

// certificateDirectories are the directories of certificates of all listeners.
func (f *File) certificateDirectories() (all []string) {
	add := func(c *tlsConfig, path string) {
		if c != nil && c.Directory != "" {
			all = append(all, f.files.where(f.dir(path), c.Directory))
		}
	}
	add(f.doc.TLS, "tls")
	for i := range f.doc.Listeners {
		add(f.doc.Listeners[i].TLS, fielderr.Index("listeners", i)+".tls")
	}
	return all
}

// clash returns an error if one of others writes a file of the writer. Logs may
// share files.
func (w writer) clash(others []writer) error {
	for _, other := range others {
		if w.kind == writesLog && other.kind == writesLog {
			continue
		}
		for i, f := range w.files {
			j := slices.IndexFunc(other.files, f.same)
			switch {
			case j < 0:
			case i > 0:
				return fmt.Errorf("tables also write %s, which is that of %s", filepath.Base(f.named), other.path)
			case j > 0:
				return fmt.Errorf("the tables of %s write this file, too", other.path)
			case w.kind == writesTables && other.kind == writesTables:
				return errors.New("other tables have this file")
			default:
				return fmt.Errorf("%s has this file already", other.path)
			}
		}
	}
	return nil
}

// takesFrom returns an error if, until now, a file of the writer has been that
// of other tables, which are still there or are saved there once more: an
// update cannot know which entries belong to whom then. Tables with another
// name take the place of those that are gone.
func (b *builder) takesFrom(w writer) error {
	keys := b.file.doc.tableKeys()
	for key, old := range b.old.tables {
		gone := w.kind == writesTables && !keys[key]
		if key != w.key && !gone && slices.ContainsFunc(w.files, old.id.now().same) {
			return fmt.Errorf("until now, this is the file of the tables at %s: only a restart can give it to something else", old.at)
		}
	}
	return nil
}

// tableKeys are the keys of all tables of a file.
func (doc *document) tableKeys() map[string]bool {
	keys := map[string]bool{}
	for _, c := range doc.Stores {
		keys[storeKey(c.Name)] = true
	}
	if len(doc.Services) == 0 && doc.service.Tables.Store == "" {
		keys[ownKey] = true
	}
	for _, c := range doc.Services {
		if c.Tables.Store == "" {
			keys[serviceKey(c.Name)] = true
		}
	}
	return keys
}

// predecessor returns the tables in the place of which those of a key are: the
// ones of the key or, if there were none, those that had the file and are gone,
// which had another name.
func (b *builder) predecessor(key string, id fileID) *tables {
	if old := b.old.tables[key]; old != nil {
		return old
	}
	keys := b.file.doc.tableKeys()
	for was, old := range b.old.tables {
		if !keys[was] && old.id.now().same(id) {
			return old
		}
	}
	return nil
}
