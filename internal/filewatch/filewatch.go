// Package filewatch loads files, and loads them again when their content
// changes.
//
// It looks at each file twice a second, instead of asking the operating system
// for events: those get lost on network file systems and overlays, name the
// wrong file where a symbolic link on the way is exchanged, and differ on every
// system. A look is one stat. The content is read when that shows another file,
// size or time, and now and then for no reason, because a file can be rewritten
// with the size and time it had. What counts is the content: a file that was
// touched or replaced by an equal one has not changed.
//
// What is found counts when two looks in a row have found it. So a file that is
// missing for a moment between two renames is not reported, and a file that is
// being written in place is not taken half. A writer that pauses for longer
// than half a second in the middle of a file must write another one and rename
// it.
package filewatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
)

// Tick is the time between two looks at a file. A change that stat shows is
// loaded after at most two of them, any other change of a file of at most 16
// MiB after at most three. If there are more than 64 files, the latter takes
// longer, the more there are.
const Tick = 500 * time.Millisecond

// Content is read again without need at most every second tick, and at most
// this many bytes of it a tick on average: 16 MiB a second cost about one
// hundredth of a processor.
const rereadPerTick = 8 << 20

// rereadFiles is about how many of many files are read again without need in a
// tick.
const rereadFiles = 64

// ErrRunning is returned by Run while another call of it has not returned.
var ErrRunning = errors.New("watcher is running already")

// File is a file to watch.
type File struct {
	Path string // symbolic links are followed, each time
	// Limit is the size of the largest content that is read, in bytes; negative
	// means no limit.
	Limit int64
	// Load takes content that is new, and owns it, or the error for which there
	// is none. It returns the error to report: nil if it has taken the content.
	// What it refuses is not offered again until something else has been in its
	// place.
	Load func(content []byte, err error) error
}

// Watcher watches files.
type Watcher struct {
	files   []watched
	report  func(i int, err error)
	running atomic.Bool
}

// New loads each file once. The errors of all loads are returned together, each
// behind the position of its file.
//
// Later, Run calls report after each load, with the position of the file and
// what Load returned. A failure that lasts is loaded and reported once.
func New(files []File, report func(i int, err error)) (*Watcher, error) {
	w := &Watcher{report: report, files: make([]watched, len(files))}
	seed := maphash.MakeSeed()
	var faults fielderr.List
	for i, file := range files {
		w.files[i] = watched{File: file, seed: seed, spread: int64(len(files) / rereadFiles)}
		if err := w.files[i].first(); err != nil {
			faults.AddUnder(fielderr.Index("files", i), err)
		}
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	return w, nil
}

// Run looks at the files, one after another, until ctx is done, and then
// returns nil. Load and report are called by its goroutine.
func (w *Watcher) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer w.running.Store(false)
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	for {
		for i := range w.files {
			if ctx.Err() != nil {
				return nil
			}
			if news, err := w.files[i].look(); news {
				w.report(i, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// watched is a file and what is known of it.
type watched struct {
	File
	seed   maphash.Seed
	spread int64       // looks over which the needless reads of all files are spread
	info   fs.FileInfo // of the last look that read the file; nil if it failed
	rest   int64       // looks until the content is read without need
	last   sighting    // what the last look found
	judged sighting    // what was loaded, refused or reported last
}

// sighting is what a look finds: content, by its hash, or a failure.
type sighting struct {
	hash    uint64
	failure string
}

// first loads the file as it is.
func (f *watched) first() error {
	f.info, _ = os.Stat(f.Path)
	content, err := ReadFile(f.Path, f.Limit)
	f.last.hash = maphash.Bytes(f.seed, content)
	f.judged = f.last
	return f.Load(content, err)
}

// look looks at the file. If there is news, the error says whether it is bad.
func (f *watched) look() (news bool, err error) {
	found, news, err := f.sight()
	if !news {
		return false, nil
	}
	if err != nil {
		f.judged = found
		return true, f.Load(nil, err)
	}
	content, err := ReadFile(f.Path, f.Limit)
	if err != nil || maphash.Bytes(f.seed, content) != found.hash {
		f.last = sighting{} // it changes at this moment
		return false, nil   //nolint:nilerr // the next look finds the failure, if it lasts
	}
	f.judged = found
	return true, f.Load(content, nil)
}

// sight looks at the file, and reports whether what it found is news: another
// thing than what was judged last, and found twice in a row. An error is the
// failure that it found.
func (f *watched) sight() (found sighting, news bool, err error) {
	info, err := os.Stat(f.Path)
	f.rest--
	if err == nil && f.last == f.judged && f.rest > 0 && same(f.info, info) {
		return f.last, false, nil
	}
	f.info = info
	if found.hash, err = f.hash(); err != nil {
		found = sighting{failure: err.Error()}
	}
	news = found != f.judged && found == f.last
	f.last = found
	return found, news, err
}

// same reports whether two looks have seen the same file, as far as stat tells.
func same(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// hash reads the file without keeping it.
func (f *watched) hash() (uint64, error) {
	file, _, err := open(f.Path, f.Limit)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var h maphash.Hash
	h.SetSeed(f.seed)
	n, err := limited(&h, file, f.Limit)
	f.rest = max(2, n/rereadPerTick+1) + rand.Int64N(f.spread+1)
	return h.Sum64(), err
}

// ErrTooLarge is wrapped by the error of ReadFile for a file that is larger
// than the limit.
var ErrTooLarge = errors.New("file is too large")

// ReadFile returns the content of the regular file at path. Anything else (a
// directory, a named pipe, a device) is an error and does not block, as is a
// file of more than limit bytes, if limit is not negative. All errors are of
// type [*fs.PathError].
func ReadFile(path string, limit int64) ([]byte, error) {
	file, info, err := open(path, limit)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var content bytes.Buffer
	content.Grow(int(info.Size()) + bytes.MinRead) // so that it does not grow at the end
	if _, err := limited(&content, file, limit); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

// Open opens the regular file at path for reading. Anything else is an error
// and does not block, as with [ReadFile].
func Open(path string) (*os.File, error) {
	file, _, err := open(path, -1)
	return file, err
}

// OpenDir opens the directory at path, to list it. A named pipe in its place
// does not block: listing it is an error.
func OpenDir(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|doNotBlock, 0) }

// open opens a regular file that is not larger than limit.
func open(path string, limit int64) (*os.File, fs.FileInfo, error) {
	// Opening some devices does things, so the kind is looked at first; and
	// once more, because it may be another file by then.
	info, err := os.Stat(path)
	if err == nil {
		err = check(path, info, limit)
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|doNotBlock, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil {
		err = check(path, info, limit)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

var errNotRegular = errors.New("not a regular file")

func check(path string, info fs.FileInfo, limit int64) error {
	switch {
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "read", Path: path, Err: errNotRegular}
	case limit >= 0 && info.Size() > limit:
		return tooLarge(path, limit)
	}
	return nil
}

func tooLarge(path string, limit int64) error {
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)}
}

// limited copies a file that may be growing.
func limited(w io.Writer, file *os.File, limit int64) (int64, error) {
	if limit < 0 {
		return io.Copy(w, file)
	}
	n, err := io.Copy(w, io.LimitReader(file, limit+1))
	if err == nil && n > limit {
		err = tooLarge(file.Name(), limit)
	}
	return n, err
}
