package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
)

const maxStringFileBytes = 64 << 20

// errEmptyGroup is wrapped, with the name of the group, by the error for a file
// without entries unless AllowEmpty is set.
var errEmptyGroup = errors.New("no entries")

// StringGroupFile is a string group whose entries are in a file of
// comma-separated values: see [ReadStringCSV].
type StringGroupFile struct {
	Path   string            // a regular file of at most 64 MiB; others are refused
	Group  StringGroupConfig // without entries
	Strict bool              // see [ReadStringCSV]
	// AllowEmpty accepts a file without entries. By default such a file is an
	// error, because a list that is empty by accident would match nothing.
	AllowEmpty bool
}

// StringGroupWatcher replaces the groups of a set when their files change.
type StringGroupWatcher struct{ files *filewatch.Watcher }

// NewStringGroupWatcher reads all files and puts their groups into groups. If
// any file cannot be read or is bad, the set remains as it is, and all faults
// are reported, each as a [*FieldError] with the position of its file.
//
// While [StringGroupWatcher.Run] runs, it calls onChange, if not nil, for each
// change of a file. If err is nil, the set has the new group; otherwise it
// still has the old one. A failure that lasts is reported once. Calls do not
// overlap; the next file is read after onChange returns.
func NewStringGroupWatcher(groups *StringGroups, files []StringGroupFile, onChange func(file StringGroupFile, err error)) (*StringGroupWatcher, error) {
	var f fielderr.List
	if groups == nil {
		f.Addf("groups", nil, "missing")
	}
	files = slices.Clone(files)
	names := make(map[string]int)
	for i, file := range files {
		at := fielderr.Index("files", i) + ".group"
		if first, again := names[file.Group.Name]; again {
			f.Addf(at+".name", file.Group.Name, "already the name of the group of files[%d]", first)
		}
		names[file.Group.Name] = i
		if len(file.Group.Entries) > 0 {
			f.Addf(at+".entries", nil, "entries come from the file alone")
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}

	var first []*StringGroup
	take := func(g *StringGroup) error { first = append(first, g); return nil } // until all are good
	watched := make([]filewatch.File, len(files))
	for i, file := range files {
		watched[i] = filewatch.File{Path: file.Path, Limit: maxStringFileBytes, Load: func(content []byte, err error) error {
			g, err := file.parse(content, err)
			if err != nil {
				return fielderr.Map(err, func(err error) error { return fmt.Errorf("string group %q: %w", file.Group.Name, err) })
			}
			return take(g)
		}}
	}
	w, err := filewatch.New(watched, func(i int, err error) {
		if onChange != nil {
			onChange(files[i], err)
		}
	})
	if err != nil {
		return nil, err
	}
	take = groups.Replace
	for _, g := range first {
		if err := take(g); err != nil {
			return nil, err
		}
	}
	return &StringGroupWatcher{w}, nil
}

// Run replaces a group of the set whenever the content of its file changes. It
// returns nil when ctx is done. Its only error is that another call has not
// returned yet.
//
// A change takes effect within two seconds, whether the file is written in
// place, renamed, or reached through a symbolic link that changes. A file with
// the same content is not a change. A file that is bad or missing changes
// nothing; it is tried again when it changes.
func (w *StringGroupWatcher) Run(ctx context.Context) error { return w.files.Run(ctx) }

func (f StringGroupFile) parse(content []byte, err error) (*StringGroup, error) {
	if err != nil {
		return nil, err // which names the file
	}
	entries, err := ReadStringCSV(bytes.NewReader(content), f.Group.Kind, f.Strict)
	if err == nil && len(entries) == 0 && !f.AllowEmpty {
		err = errEmptyGroup
	}
	if err != nil {
		return nil, fielderr.Map(err, func(err error) error { return fmt.Errorf("%s: %w", f.Path, err) })
	}
	cfg := f.Group
	cfg.Entries = entries
	return NewStringGroup(cfg)
}
