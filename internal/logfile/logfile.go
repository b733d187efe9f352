// Package logfile appends to the file of a log, and follows its name: when
// another program has renamed or removed the file, as logrotate does, what
// comes next goes to a new one.
package logfile

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Mode is that of a file that is made, before the umask.
const Mode = 0o640

// checkEvery is how often writes look whether the name shows another file.
const checkEvery = time.Second

// A File is an [io.Writer] that appends to the file of a name. One goroutine
// may write at a time, while others reopen and close it.
type File struct {
	path    string
	checked time.Time // used by Write alone

	mu   sync.Mutex
	file *os.File    // nil if it is closed
	info fs.FileInfo // of file
}

// Open opens the file, and makes it if there is none. A named pipe is opened
// whether or not somebody reads it.
func Open(path string) (*File, error) {
	f := &File{path: path}
	if err := f.open(false); err != nil {
		return nil, err
	}
	return f, nil
}

// Reopen opens the file of the name anew, and closes the one before. If it
// cannot be opened, the one before stays. A file that is closed stays so.
func (f *File) Reopen() error { return f.open(true) }

// open opens the file. If it is to be opened again, and is closed, that does
// nothing.
func (f *File) open(again bool) error {
	flags := os.O_WRONLY
	info, err := os.Stat(f.path)
	switch {
	case err == nil && info.IsDir():
		return &fs.PathError{Op: "open", Path: f.path, Err: errors.New("is a directory")}
	case err == nil && info.Mode().Type() == fs.ModeNamedPipe:
		flags = pipeFlags
	}
	file, err := os.OpenFile(f.path, flags|os.O_APPEND|os.O_CREATE|doNotBlock, Mode)
	if err != nil {
		return err
	}
	if info, err = file.Stat(); err != nil {
		_ = file.Close()
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if again && f.file == nil {
		return file.Close()
	}
	if f.file != nil {
		_ = f.file.Close() // which lets a write in it end
	}
	f.file, f.info = file, info
	return nil
}

// Write appends p. It opens the file if it is closed.
func (f *File) Write(p []byte) (int, error) { return f.write(p, time.Now()) }

func (f *File) write(p []byte, now time.Time) (int, error) {
	file, info := f.current()
	if file == nil {
		if err := f.open(false); err != nil {
			return 0, err
		}
		f.checked = now
		file, info = f.current()
	}
	if since := now.Sub(f.checked); since >= checkEvery || since < 0 {
		f.checked = now
		if shown, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(shown, info) {
			_ = f.open(true) // else the one before is better than none
			file, _ = f.current()
		}
	}
	return file.Write(p) // which fails if it was closed meanwhile, also for nil
}

func (f *File) current() (*os.File, fs.FileInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file, f.info
}

// Close closes the file. A write that hangs in a named pipe ends.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file, f.info = nil, nil
	return err
}
