package persistence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// SaveFile writes a snapshot of the store to a file, as [Store.WriteTo] does, in a way that leaves
// either the old file or the whole new one under the name, whenever the program or the machine
// stops: the snapshot is written to a file beside it, named path and ".tmp", flushed to the disk,
// and renamed; then the directory is flushed.
//
// On an error the old file is as it was, unless it was the directory that could not be flushed. The
// file can be read by its owner alone: it holds keys and values in clear. Calls for one store wait
// for one another; two stores must not be saved to one path.
func (s *Store) SaveFile(path string) error {
	return s.saveFile(diskFiles{}, path)
}

// LoadFile restores the snapshot in a file, as [Store.ReadFrom] does. A file that does not exist is
// an error that is [io/fs.ErrNotExist], which a program may expect when it starts for the first
// time.
func (s *Store) LoadFile(path string) error {
	return s.loadFile(diskFiles{}, path)
}

// files are the operations on files that snapshots need, so that tests can make them fail.
type files interface {
	Create(name string) (file, error) // exclusively, for the owner alone
	Open(name string) (io.ReadCloser, error)
	Rename(from, to string) error
	Remove(name string) error
	SyncDirectory(name string) error
}

type file interface {
	io.WriteCloser
	Sync() error
}

func (s *Store) saveFile(f files, path string) (err error) {
	s.saving.Lock()
	defer s.saving.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("persistence: saving %q: %w", path, err)
		}
	}()
	temporary := path + ".tmp"
	// What a program that was killed has left. Removed, not reused: it might be a link.
	if err := f.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := f.Create(temporary)
	if err != nil {
		return err
	}
	_, err = s.WriteTo(out)
	if err == nil {
		err = out.Sync()
	}
	err = errors.Join(err, out.Close())
	if err == nil {
		err = f.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, f.Remove(temporary))
	}
	return f.SyncDirectory(filepath.Dir(path))
}

func (s *Store) loadFile(f files, path string) error {
	in, err := f.Open(path)
	if err != nil {
		return fmt.Errorf("persistence: loading: %w", err) // names the path
	}
	defer in.Close() // nothing was written
	if _, err := s.ReadFrom(in); err != nil {
		return fmt.Errorf("persistence: loading %q: %w", path, err)
	}
	return nil
}

// diskFiles are the files of the operating system.
type diskFiles struct{}

func (diskFiles) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (diskFiles) Open(name string) (io.ReadCloser, error) { return os.Open(name) }
func (diskFiles) Rename(from, to string) error            { return os.Rename(from, to) }
func (diskFiles) Remove(name string) error                { return os.Remove(name) }

func (diskFiles) SyncDirectory(name string) error {
	if runtime.GOOS == "windows" {
		return nil // it cannot flush a directory, and needs not
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
