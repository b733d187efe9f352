package config

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/limpetlb/limpet/internal/certs"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// files are what a configuration can name.
type files interface {
	// read returns the content of a file of at most max bytes, without a byte
	// order mark. A relative name is below dir.
	read(dir, name string, max int64) ([]byte, error)
	// content returns the same of a file whose name is one of where, and does
	// not count it as read.
	content(name string, max int64) ([]byte, error)
	// list returns the names of what a directory has, as where would.
	list(dir string) ([]string, error)
	// find returns the names of the files that match a pattern, sorted, and the
	// directory of each.
	find(dir, pattern string) (names, dirs []string, err error)
	// where is the name by which errors and watchers know a file.
	where(dir, name string) string
	// all returns the names of all files that were read.
	all() []string
	// touch notes a file of the operating system that is read by others, or not
	// watched, by the name that where returns.
	touch(name string)
	// opened returns the names of all files of the operating system that were
	// read or touched.
	opened() []string
	// digest returns the digest of what was read of a file.
	digest(name string) [sha256.Size]byte
}

var byteOrderMark = []byte("\ufeff")

// A reading notes which files were read.
type reading struct {
	mu      sync.Mutex
	read    map[string][sha256.Size]byte
	touched map[string]bool
}

func (r *reading) touch(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.touched == nil {
		r.touched = map[string]bool{}
	}
	r.touched[name] = true
}

func (r *reading) opened() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.touched))
}

func (r *reading) note(name string, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == nil {
		r.read = map[string][sha256.Size]byte{}
	}
	r.read[name] = sha256.Sum256(content)
}

func (r *reading) digest(name string) [sha256.Size]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read[name]
}

func (r *reading) all() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.read {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// osFiles are those of the operating system.
type osFiles struct{ reading }

func (f *osFiles) where(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

func (f *osFiles) read(dir, name string, max int64) ([]byte, error) {
	if !isName(name) {
		return nil, errNotAName
	}
	name = f.where(dir, name)
	return f.load(name, max, f.note)
}

func (f *osFiles) content(name string, max int64) ([]byte, error) {
	if !isName(name) {
		return nil, errNotAName
	}
	f.touch(name)
	return f.load(name, max, func(string, []byte) {})
}

func (f *osFiles) load(name string, max int64, note func(name string, content []byte)) ([]byte, error) {
	data, err := filewatch.ReadFile(name, max)
	note(name, data)
	if errors.Is(err, filewatch.ErrTooLarge) {
		err = fmt.Errorf("%s: longer than %d bytes", name, max)
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = &fs.PathError{Op: "open", Path: e.Path, Err: e.Err}
	}
	return bytes.TrimPrefix(data, byteOrderMark), err
}

func (f *osFiles) opened() []string { return append(f.reading.opened(), f.all()...) }

func (f *osFiles) list(dir string) ([]string, error) {
	if !isName(dir) {
		return nil, errNotAName
	}
	return certs.ListDir(dir)
}

// readFirst reads the configuration itself, which may be a pipe.
func (f *osFiles) readFirst(ctx context.Context, name string) ([]byte, error) {
	data, err := filewatch.ReadStream(ctx, name, maxFile)
	f.note(name, data)
	if errors.Is(err, filewatch.ErrTooLarge) {
		err = &Error{File: name, Err: fmt.Errorf("longer than %d bytes", maxFile)}
	}
	return data, err
}

func (f *osFiles) find(dir, pattern string) (names, dirs []string, err error) {
	names, err = filepath.Glob(f.where(dir, pattern))
	if err != nil {
		return nil, nil, fmt.Errorf("%q is not a pattern of file names", pattern)
	}
	for _, name := range names {
		dirs = append(dirs, filepath.Dir(name))
	}
	return names, dirs, nil
}

// fsFiles are those of a file system; none if that is nil.
type fsFiles struct {
	reading
	fs fs.FS
}

func (f *fsFiles) where(dir, name string) string { return path.Join(dir, name) }

func (f *fsFiles) read(dir, name string, max int64) ([]byte, error) {
	switch {
	case f.fs == nil:
		return nil, errNoFiles
	case !isName(name):
		return nil, errNotAName
	}
	name = f.where(dir, name)
	return f.load(name, max, f.note)
}

func (f *fsFiles) content(name string, max int64) ([]byte, error) {
	switch {
	case f.fs == nil:
		return nil, errNoFiles
	case !isName(name):
		return nil, errNotAName
	}
	return f.load(name, max, func(string, []byte) {})
}

func (f *fsFiles) load(name string, max int64, note func(name string, content []byte)) ([]byte, error) {
	note(name, nil)
	file, err := f.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, max+1))
	note(name, data)
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("%s: longer than %d bytes", name, max)
	}
	return bytes.TrimPrefix(data, byteOrderMark), err
}

func (f *fsFiles) list(dir string) (names []string, err error) {
	if f.fs == nil {
		return nil, errNoFiles
	}
	entries, err := fs.ReadDir(f.fs, dir)
	for _, e := range entries {
		names = append(names, path.Join(dir, e.Name()))
	}
	return names, err
}

func (f *fsFiles) find(dir, pattern string) (names, dirs []string, err error) {
	if f.fs == nil {
		return nil, nil, errNoFiles
	}
	names, err = fs.Glob(f.fs, f.where(dir, pattern))
	if err != nil {
		return nil, nil, fmt.Errorf("%q is not a pattern of file names", pattern)
	}
	for _, name := range names {
		dirs = append(dirs, path.Dir(name))
	}
	return names, dirs, nil
}

func isName(name string) bool { return !strings.ContainsAny(name, "\r\n\x00") }

// errNotAName is the error of a text that may be a key, where the name of its
// file should be: so it is not shown.
var errNotAName = errors.New("the name of a file has no line breaks")

var errNoFiles = errors.New("this configuration cannot name files")
