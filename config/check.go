package config

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/limpetlb/limpet/internal/fielderr"
	"github.com/limpetlb/limpet/internal/interrupt"
	"github.com/limpetlb/limpet/lbpool"
)

// CheckOptions are options of [Check]. With the zero value, it checks what
// [Load] checks.
type CheckOptions struct {
	// With NoKeys, Check reads no private keys, and no secrets that are in
	// files of their own or in environment variables, for a check by somebody
	// who must not have them. It reads certificates.
	NoKeys bool
	// With Resolve, Check looks up the host names of servers and of
	// discoveries, 16 at a time and each for at most 10 seconds. A name that is
	// not found is a warning, since a service starts without it.
	Resolve bool
}

// Check checks the configuration at path as [Load] does, for programs that
// report all that is wrong with it. It also reports what a program could
// complete by [Options].Edit: rules with reputations, or with locations that
// the file has no data for, and a service without pools, scripts and rules. A
// log that [File.Build] could not open is a fault as well, and tables that
// could not be saved are a warning; Check makes no files. The error joins an
// [*Error] for each fault, up to 10,000. There may be warnings even if there
// are faults. If ctx ends, Check returns the cause at once, as Load does.
func Check(ctx context.Context, path string, o CheckOptions) (warnings []*Error, err error) {
	return interrupt.Wait(ctx, func() ([]*Error, error) { return check(ctx, path, o) })
}

func check(ctx context.Context, path string, o CheckOptions) (warnings []*Error, err error) {
	files := &osFiles{}
	data, err := files.readFirst(ctx, path)
	if in, ok := errors.AsType[*fs.PathError](err); ok {
		err = &Error{File: path, Err: in.Err}
	}
	if err != nil {
		return nil, err
	}
	d := newDecoder(ctx, files)
	d.most, d.alone, d.outputs = maxKept, true, !o.NoKeys
	f, err := d.load(&source{name: path, dir: filepath.Dir(path)}, data, o)
	if f == nil {
		return nil, err
	}
	return f.Warnings(), err
}

// standInSecret takes the place of a secret at a path: it is like one, and no
// other path has the same.
func standInSecret(path string) string {
	sum := sha256.Sum256([]byte(path))
	return base64.StdEncoding.EncodeToString(sum[:])
}

const (
	lookUpTime   = 10 * time.Second
	lookUpAtOnce = 16
)

// lookUp looks up the host names of servers and discoveries, and returns a
// warning for each that is not found.
func (b *builder) lookUp() []*Error {
	var found report
	var mu sync.Mutex // guards found
	var all sync.WaitGroup
	slots := make(chan struct{}, lookUpAtOnce)
	for i, cfg := range b.pools {
		for j, discovery := range cfg.Discoveries {
			finder, ok := discovery.Finder.(*lbpool.DNSFinder)
			if !ok {
				continue
			}
			path := fielderr.Join(fielderr.Join(b.prefix, b.at("pools", i)), b.moved[i].path(fielderr.Index("discoveries", j)+".finder.name"))
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				ctx, cancel := context.WithTimeout(b.ctx, lookUpTime)
				defer cancel()
				if _, err := finder.Find(ctx); err != nil {
					at, _ := b.file.nearest(path)
					mu.Lock()
					defer mu.Unlock()
					found.add(&fault{place: at.place, path: b.file.shown(path), err: err})
				}
			})
		}
	}
	all.Wait()
	found.most = maxKept
	return found.errors(b.file.hidden)
}
