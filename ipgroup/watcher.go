package ipgroup

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// A File is a file with the list of a group.
type File struct {
	Group   string  // name of the group
	Path    string  // of the file; anything but a regular file is refused
	Options Options // as for ReadFile
}

// A FileEvent reports a change of a file that a [Watcher] watches.
type FileEvent struct {
	Group string // name of the group
	Path  string // of the file

	// Err is nil if the set has a new group from the file. Otherwise the set
	// has the group it had before, and Err is the error of ReadFile, which
	// wraps [*EntryError], [ErrEmpty], [ErrTooLarge], fs.ErrNotExist or another
	// error.
	Err error
}

// A Watcher reloads groups of a [Set] when their files change.
type Watcher struct {
	files *filewatch.Watcher

	mu    sync.Mutex
	stats []FileStats
}

// FileStats are the counts of one file of a [Watcher].
type FileStats struct {
	// Group is the name of the group.
	Group string
	// Path is the path of the file.
	Path string
	// Loaded is when the group was made from the file last.
	Loaded time.Time
	// Failures counts how often the file could not be read or was invalid. A
	// failure that lasts counts once.
	Failures uint64
}

// Stats returns the counts of all files, in their order. It may be called at
// any time. The caller owns the slice.
func (w *Watcher) Stats() []FileStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.stats)
}

// note counts a change of a file.
func (w *Watcher) note(i int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.stats[i].Failures++
	} else {
		w.stats[i].Loaded = time.Now()
	}
}

// NewWatcher reads all files and puts their groups into set. If a file cannot
// be read or is not a valid list, the set does not change and the error joins
// a [*FieldError] for each fault, with the position of its file.
//
// While [Watcher.Run] runs, onEvent is called for each change of a file, with
// or without success, and once for a failure that lasts. It may be nil. Calls
// do not overlap; the watcher goes on when onEvent has returned.
func NewWatcher(set *Set, files []File, onEvent func(FileEvent)) (*Watcher, error) {
	var faults fielderr.List
	if set == nil {
		faults.Addf("set", nil, "missing")
	}
	groups := make(map[string]int, len(files))
	for i, f := range files {
		path := fielderr.Index("files", i) + ".group"
		faults.Name(path, f.Group)
		if first, ok := groups[f.Group]; ok {
			faults.Addf(path, f.Group, "already the group of files[%d]", first)
			continue
		}
		groups[f.Group] = i
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}

	var first []*Group
	take := func(g *Group) error { first = append(first, g); return nil } // until all are good
	watched := make([]filewatch.File, len(files))
	for i, f := range files {
		watched[i] = filewatch.File{
			Path:  f.Path,
			Limit: f.Options.maxBytes(),
			Load: func(content []byte, err error) error {
				g, err := f.parse(content, err)
				if err != nil {
					return err
				}
				return take(g)
			},
		}
	}
	names, w := slices.Clone(files), new(Watcher)
	var err error
	w.files, err = filewatch.New(watched, func(i int, err error) {
		w.note(i, err)
		if onEvent != nil {
			onEvent(FileEvent{names[i].Group, names[i].Path, err})
		}
	})
	if err != nil {
		return nil, err
	}
	take = set.Replace
	for _, g := range first {
		if err := take(g); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		w.stats = append(w.stats, FileStats{Group: f.Group, Path: f.Path, Loaded: time.Now()})
	}
	return w, nil
}

// Run replaces a group of the set whenever the content of its file has changed,
// until ctx is done, and then returns nil. It returns an error only for a
// second call while the first is running.
//
// Run examines each file twice a second. A change is in the set after one
// second, or after one and a half if it changes neither the size nor the time
// of the file. Files of more than 16 MiB are read less often while nothing
// shows a change: all together 16 MiB a second. A file may be rewritten in
// place, renamed over, or reached by symbolic links that are exchanged, as
// Kubernetes does; it may be missing for a while. Only the content matters: an
// equal file is no change. A program that writes a file in place and pauses for
// half a second should write another file and rename it, or the group may be
// made from a part of the list. An invalid list is tried again when it has
// changed.
func (w *Watcher) Run(ctx context.Context) error { return w.files.Run(ctx) }
