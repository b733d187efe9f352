package persistence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/limpetlb/limpet/internal/filewatch"
)

// SaveFile writes a snapshot of the store to a file, like [Store.WriteTo].
// Whenever the program or the machine stops, the path has either the old file
// or the complete new one: SaveFile writes the snapshot to a file named path
// and ".tmp", flushes it to the disk, renames it, and flushes the directory.
//
// After an error the old file is unchanged, unless flushing the directory
// failed. Only its owner can read the file, because it contains keys and values
// in clear text. Calls for one store wait for one another; do not save two
// stores to one path.
func (s *Store) SaveFile(path string) error {
	_, err := s.saveFile(diskFiles{}, path)
	return err
}

// LoadFile restores the snapshot in a file, like [Store.ReadFrom]. If the file
// does not exist, the error is [io/fs.ErrNotExist], which a program should
// expect at its first start.
func (s *Store) LoadFile(path string) error {
	return s.loadFile(diskFiles{}, path)
}

// files are the file operations of snapshots, so that tests can make them fail.
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

// saveFile returns how many bytes it has written.
func (s *Store) saveFile(f files, path string) (n int64, err error) {
	s.saving.Lock()
	defer s.saving.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("persistence: saving %q: %w", path, err)
		}
	}()
	temporary := path + ".tmp"
	// A killed program may have left one. It is removed, not reused: it might
	// be a link.
	if err := f.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	out, err := f.Create(temporary)
	if err != nil {
		return 0, err
	}
	n, err = s.WriteTo(out)
	if err == nil {
		err = out.Sync()
	}
	err = errors.Join(err, out.Close())
	if err == nil {
		err = f.Rename(temporary, path)
	}
	if err != nil {
		return 0, errors.Join(err, f.Remove(temporary))
	}
	return n, f.SyncDirectory(filepath.Dir(path))
}

func (s *Store) loadFile(f files, path string) error {
	in, err := f.Open(path)
	if err != nil {
		return fmt.Errorf("persistence: loading: %w", err) // names the path
	}
	defer in.Close() // read only
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

func (diskFiles) Open(name string) (io.ReadCloser, error) { return filewatch.Open(name) }
func (diskFiles) Rename(from, to string) error            { return os.Rename(from, to) }
func (diskFiles) Remove(name string) error                { return os.Remove(name) }

func (diskFiles) SyncDirectory(name string) error {
	if runtime.GOOS == "windows" {
		return nil // which cannot flush a directory and does not need to
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
