package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/limpetlb/limpet/internal/filewatch"
)

// files are what a configuration can name.
type files interface {
	// read returns the content of a file of at most max bytes, without a byte
	// order mark. A relative name is below dir.
	read(dir, name string, max int64) ([]byte, error)
	// find returns the names of the files that match a pattern, sorted, and the
	// directory of each.
	find(dir, pattern string) (names, dirs []string, err error)
	// where is the name by which errors and watchers know a file.
	where(dir, name string) string
	// all returns the names of all files that were read.
	all() []string
	// digest returns the digest of what was read of a file.
	digest(name string) [sha256.Size]byte
}

var byteOrderMark = []byte("\ufeff")

// A record notes what was read.
type record struct {
	mu   sync.Mutex
	read map[string][sha256.Size]byte
}

func (r *record) note(name string, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == nil {
		r.read = map[string][sha256.Size]byte{}
	}
	r.read[name] = sha256.Sum256(content)
}

func (r *record) digest(name string) [sha256.Size]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read[name]
}

func (r *record) all() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.read {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// osFiles are those of the operating system.
type osFiles struct{ record }

func (f *osFiles) where(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

func (f *osFiles) read(dir, name string, max int64) ([]byte, error) {
	if strings.ContainsAny(name, "\r\n\x00") {
		return nil, errNotAName
	}
	name = f.where(dir, name)
	data, err := filewatch.ReadFile(name, max)
	f.note(name, data)
	if errors.Is(err, filewatch.ErrTooLarge) {
		err = fmt.Errorf("%s: longer than %d bytes", name, max)
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = &fs.PathError{Op: "open", Path: e.Path, Err: e.Err}
	}
	return bytes.TrimPrefix(data, byteOrderMark), err
}

// readFirst reads the configuration itself, which may be a pipe.
func (f *osFiles) readFirst(name string) ([]byte, error) {
	f.note(name, nil)
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	f.note(name, data)
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: longer than %d bytes", name, maxFile)
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
	record
	fs fs.FS
}

func (f *fsFiles) where(dir, name string) string { return path.Join(dir, name) }

func (f *fsFiles) read(dir, name string, max int64) ([]byte, error) {
	if f.fs == nil {
		return nil, errNoFiles
	}
	if strings.ContainsAny(name, "\r\n\x00") {
		return nil, errNotAName
	}
	name = f.where(dir, name)
	f.note(name, nil)
	file, err := f.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, max+1))
	f.note(name, data)
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("%s: longer than %d bytes", name, max)
	}
	return bytes.TrimPrefix(data, byteOrderMark), err
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

// errNotAName is the error of a text that may be a key, where the name of its
// file should be: so it is not shown.
var errNotAName = errors.New("the name of a file has no line breaks")

var errNoFiles = errors.New("this configuration cannot name files")
