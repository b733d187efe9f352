package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// checkOutputs notes the files of logs that openLogs could not open. It makes
// nothing.
func (b *builder) checkOutputs(a *assembly) {
	for output, path := range a.logs.paths {
		if output == toStderr || output == toStdout || !a.logs.uses(output) {
			continue
		}
		if err := canAppend(output); err != nil {
			b.located(path, nil, err, false)
		}
	}
}

// maxLinks is how many symbolic links lead to a file, as systems bound it.
const maxLinks = 40

// targetOf returns where a path leads, which may not be there yet.
func targetOf(path string) string {
	for range maxLinks {
		next, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(path), next)
		}
		path = next
	}
	return path
}

// canAppend reports whether a file can be opened to append to it, or made.
func canAppend(path string) error {
	target := targetOf(path)
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return canCreateIn(filepath.Dir(target), path)
	case err == nil && info.IsDir():
		err = errors.New("is a directory")
	case err == nil:
		err = mayWrite(target, info)
	}
	return cannotOpen(path, err)
}

// canCreateIn reports whether a file can be made in a directory.
func canCreateIn(dir, path string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
	case !info.IsDir():
		err = errors.New("not a directory")
	default:
		err = mayWrite(dir, info)
	}
	return cannotOpen(path, err)
}

// cannotOpen is the error that opening the file would give.
func cannotOpen(path string, err error) error {
	if err == nil {
		return nil
	}
	if in, ok := errors.AsType[*fs.PathError](err); ok {
		err = in.Err
	}
	return &fs.PathError{Op: "open", Path: path, Err: err}
}
