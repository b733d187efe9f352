package geoip

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/limpetlb/limpet/internal/filewatch"
)

// Reloader takes the content of a file. [*DB] and [*Table] are reloaders.
type Reloader interface {
	// ReloadBytes replaces what there is by new content, which it may keep. On an error it changes nothing.
	ReloadBytes(content []byte) error
}

// File is a file to watch.
type File struct {
	Path   string   // anything but a regular file of at most MaxSize is refused
	Source Reloader // what the file is for; required
}

// FileEvent says what has become of a file that a [Watcher] watches.
type FileEvent struct {
	Path string // of the file

	// Err is nil if the source answers from the new content. Otherwise it answers as before, and Err says why.
	Err error
}

// Watcher keeps databases and tables as their files have them.
type Watcher struct{ files *filewatch.Watcher }

// NewWatcher reloads each source from its file. If one of them cannot be read or is refused, the error joins all that is
// wrong, each behind the position of its file; what is good has been loaded.
//
// While [Watcher.Run] runs, onEvent is called for each change of a file, with or without success, and once for a failure that
// lasts. Nil is allowed. Calls do not overlap; the next file is looked at when onEvent has returned.
func NewWatcher(files []File, onEvent func(FileEvent)) (*Watcher, error) {
	files = slices.Clone(files)
	watched := make([]filewatch.File, len(files))
	var faults []error
	for i, f := range files {
		if f.Source == nil {
			faults = append(faults, fmt.Errorf("files[%d].source: nil", i))
		}
		watched[i] = filewatch.File{Path: f.Path, Limit: MaxSize, Load: func(content []byte, err error) error {
			if err != nil {
				return err
			}
			if err := f.Source.ReloadBytes(content); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
			return nil
		}}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
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

// Run reloads a source whenever the content of its file has changed, until ctx is done, and then returns nil. Its only error is
// that of a second call while the first has not returned.
//
// It looks at each file twice a second. A change is loaded after one second, if neither size nor time of the file show it after
// one and a half; files of more than 16 MiB are read less often when nothing shows a change: 16 MiB a second in all
// their length. The file may be renamed over, rewritten in place, reached by symbolic links that are exchanged, or missing for a
// while. What counts is the content: an equal file is no change. A file that is refused is tried again when it has changed.
func (w *Watcher) Run(ctx context.Context) error { return w.files.Run(ctx) }
