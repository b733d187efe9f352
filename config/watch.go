package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/filewatch"
	"github.com/limpetlb/limpet/internal/interrupt"
)

// Reload loads the file of the runtime anew, as [Load] does, and updates the
// runtime with it. It logs what has changed in one line, which is a warning if
// something began anew or waits for a restart, or each fault in a line. It
// reports whether the file was accepted.
//
// It is for a runtime whose file comes from Load. Calls wait for one another.
// If ctx ends, Reload returns false at once, also if the update hangs, such as
// in a network file system; it may go on then, so end the program or the
// runtime.
func (rt *Runtime) Reload(ctx context.Context) bool {
	if rt.over.Err() != nil {
		return false
	}
	began := time.Now()
	rt.mu.Lock()
	files, first := rt.file.files, rt.file.first
	rt.mu.Unlock()
	log := rt.Logger().With(slog.String("file", first.name))
	changes, err := interrupt.Wait(ctx, func() (Changes, error) {
		if _, is := files.(*osFiles); !is {
			return Changes{}, errors.New("the configuration is not from a file")
		}
		f, err := Load(ctx, first.name)
		if err != nil {
			return Changes{}, err
		}
		return rt.update(ctx, f)
	})
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return false // it ends, and nobody wants to know
	}
	if err != nil {
		for _, fault := range fielderr.Leaves(err) {
			log.Error("configuration not changed", slog.String("error", fault.Error()))
		}
		return false
	}
	took := slog.Duration("took", time.Since(began).Round(time.Millisecond))
	changed := len(changes.Live) + len(changes.Fresh) + len(changes.Restart)
	if changed == 0 {
		log.Info("configuration unchanged", took)
		return true
	}
	level, attrs := slog.LevelInfo, []slog.Attr{slog.Int("changed", changed)}
	for key, paths := range map[string][]string{"fresh": changes.Fresh, "restart": changes.Restart} {
		if len(paths) > 0 {
			level, attrs = slog.LevelWarn, append(attrs, slog.Any(key, paths))
		}
	}
	slices.SortFunc(attrs, func(a, b slog.Attr) int { return int(a.Key[0]) - int(b.Key[0]) })
	log.LogAttrs(ctx, level, "configuration changed", append(attrs, took)...)
	return true
}

// watches reports whether changes of a file lead to reloads. A warning says if
// they should, and cannot.
func (rt *Runtime) watches(f *File) bool {
	if _, is := f.files.(*osFiles); !is || !rt.options.Watch && !f.doc.Process.Watch {
		return false
	}
	if info, err := os.Stat(f.first.name); err == nil && !info.Mode().IsRegular() {
		rt.Logger().Warn("configuration not watched: not a regular file", slog.String("file", f.first.name))
		return false
	}
	return true
}

// watch reloads the runtime when its files change, while the file in force or
// the program asks for that, until ctx ends.
func (rt *Runtime) watch(ctx context.Context) {
	var refused digests // what the files had when they were refused
	for ctx.Err() == nil {
		rt.mu.Lock()
		f := rt.file
		rt.mu.Unlock()
		if !rt.watches(f) {
			select {
			case <-rt.updated:
			case <-ctx.Done():
			}
			continue
		}
		until, stop := context.WithCancel(ctx)
		w, found := f.watcher(stop)
		// What the watch begins with is compared with what was loaded, so that
		// no change in between is lost.
		switch {
		case maps.Equal(found, f.digests()):
			refused = nil
		case !maps.Equal(found, refused):
			stop()
			if refused = found; rt.Reload(ctx) {
				refused = nil
			}
			continue
		}
		var others sync.WaitGroup
		others.Go(func() {
			defer stop()
			rt.watchElse(until, f)
		})
		_ = w.Run(until) // nobody else runs it
		stop()
		others.Wait()
	}
}

// watchElse returns when the runtime has got another file, or include patterns
// match other files than before, or ctx ends.
func (rt *Runtime) watchElse(ctx context.Context, f *File) {
	before, last := f.included(), f.included()
	tick := time.NewTicker(filewatch.Tick)
	defer tick.Stop()
	for {
		select {
		case <-rt.updated:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := f.included()
		if slices.Equal(now, last) && !slices.Equal(now, before) {
			return
		}
		last = now
	}
}

// digests are what files have, by their names, and under includeKey which files
// include patterns match.
type digests map[string][sha256.Size]byte

// digests are those of what was loaded.
func (f *File) digests() digests {
	all := digests{includeKey: sha256.Sum256([]byte(strings.Join(f.matched, "\n")))}
	for _, name := range f.Paths() {
		all[name] = f.files.digest(name)
	}
	return all
}

// watcher returns one that calls changed when a file of the configuration has
// another content, and what the files have now.
func (f *File) watcher(changed func()) (*filewatch.Watcher, digests) {
	found := digests{includeKey: sha256.Sum256([]byte(strings.Join(f.included(), "\n")))}
	var files []filewatch.File
	for _, name := range f.Paths() {
		files = append(files, filewatch.File{Path: name, Limit: -1, Load: func(content []byte, err error) error {
			if err != nil {
				content = []byte(err.Error())
			}
			found[name] = sha256.Sum256(content)
			return nil
		}})
	}
	w, _ := filewatch.New(files, func(int, error) { changed() }) // no Load fails
	return w, maps.Clone(found)
}
