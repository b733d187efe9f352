package ipgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/limpetlb/limpet/internal/filewatch"
)

// File is the list of a group in a file.
type File struct {
	Group   string  // name of the group
	Path    string  // of the file; anything but a regular file is refused
	Options Options // as for ReadFile
}

// FileEvent says what has become of a file that a [Watcher] watches.
type FileEvent struct {
	Group string // name of the group
	Path  string // of the file

	// Err is nil if the set has a new group from the file. Otherwise the set has the group it had before, and Err says why:
	// it is what ReadFile returns, and wraps [*EntryError], [ErrEmpty], [ErrTooLarge], fs.ErrNotExist or what else is wrong.
	Err error
}

// Watcher keeps groups of a [Set] as their files have them.
type Watcher struct{ files *filewatch.Watcher }

// NewWatcher reads all files and puts their groups into set. If any of them cannot be read or is no good list, the set remains as
// it is and the error joins all that is wrong, each behind the position of its file.
//
// While [Watcher.Run] runs, onEvent is called for each change of a file, with or without success, and once for a failure that
// lasts. Nil is allowed. Calls do not overlap; the next file is looked at when onEvent has returned.
func NewWatcher(set *Set, files []File, onEvent func(FileEvent)) (*Watcher, error) {
	var faults []error
	if set == nil {
		faults = append(faults, errors.New("set: nil"))
	}
	groups := make(map[string]int, len(files))
	for i, f := range files {
		if first, ok := groups[f.Group]; ok {
			faults = append(faults, fmt.Errorf("files[%d].group: %q is already that of files[%d]", i, f.Group, first))
			continue
		}
		groups[f.Group] = i
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
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
	names := slices.Clone(files)
	w, err := filewatch.New(watched, func(i int, err error) {
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
	return &Watcher{w}, nil
}

// Run replaces a group of the set whenever the content of its file has changed, until ctx is done, and then returns nil. Its only
// error is that of a second call while the first has not returned.
//
// It looks at each file twice a second: a change is in the set after one second, and after one and a half if neither size nor
// time of the file show it. Files of more than 16 MiB are read less often when nothing shows a change: 16 MiB a second in all
// their length. A file may be rewritten in place, renamed over, or reached by symbolic links that are exchanged, as
// Kubernetes does; it may be missing for a while. What counts is the content: an equal file is no change. Someone who
// writes a file in place and pauses for half a second should write another and rename it, or part of it may be taken for the
// whole. A list that is bad is tried again when it has changed.
func (w *Watcher) Run(ctx context.Context) error { return w.files.Run(ctx) }
