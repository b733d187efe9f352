package geoip

import (
	"context"
	"fmt"
	"slices"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

// A Reloader has content from a file. [*DB] and [*Table] are reloaders.
type Reloader interface {
	// ReloadBytes replaces the content, and may keep the slice. After an error
	// the content must be unchanged.
	ReloadBytes(content []byte) error
}

// A File is a file to watch.
type File struct {
	Path   string   // anything but a regular file of at most MaxSize is refused
	Source Reloader // the source to reload from the file; required
}

// A FileEvent reports a change of a file that a [Watcher] watches.
type FileEvent struct {
	Path string // of the file

	// Err is nil if the source has the new content. Otherwise the source has
	// its old content, and Err is the reason.
	Err error
}

// A Watcher reloads databases and tables when their files change.
type Watcher struct{ files *filewatch.Watcher }

// NewWatcher reloads each source from its file. If a file cannot be read or is
// refused, the error joins a [*FieldError] for each fault, with the position of
// its file; the other files have been loaded.
//
// While [Watcher.Run] runs, onEvent is called for each change of a file, with
// or without success, and once for a failure that lasts. It may be nil. Calls
// do not overlap; the watcher goes on when onEvent has returned.
func NewWatcher(files []File, onEvent func(FileEvent)) (*Watcher, error) {
	files = slices.Clone(files)
	watched := make([]filewatch.File, len(files))
	var faults fielderr.List
	for i, f := range files {
		if f.Source == nil {
			faults.Addf(fielderr.Index("files", i)+".source", nil, "missing")
		}
		watched[i] = filewatch.File{Path: f.Path, Limit: MaxSize, Load: func(content []byte, err error) error {
			if err != nil {
				return err
			}
			return fielderr.Map(f.Source.ReloadBytes(content), func(err error) error { return fmt.Errorf("%s: %w", f.Path, err) })
		}}
	}
	if faults.Len() > 0 {
		return nil, faults.Err()
	}
	w, err := filewatch.New(watched, func(i int, err error) {
		if onEvent != nil {
			onEvent(FileEvent{files[i].Path, err})
		}
	})
	if err != nil {
		return nil, err
	}
	return &Watcher{w}, nil
}

// Run reloads a source whenever the content of its file has changed, until ctx
// is done, and then returns nil. It returns an error only for a second call
// while the first is running.
//
// Run examines each file twice a second. A change is loaded after one second,
// or after one and a half if it changes neither the size nor the time of the
// file. Files of more than 16 MiB are read less often while nothing shows a
// change: all together 16 MiB a second. The file may be renamed over, rewritten
// in place, reached by symbolic links that are exchanged, or missing for a
// while. Only the content matters: an equal file is no change. A refused file
// is tried again when it has changed.
func (w *Watcher) Run(ctx context.Context) error { return w.files.Run(ctx) }
