//go:build !unix

package config

import (
	"io/fs"
	"os"
)

// mayWrite reports whether the process may write to a file. What it may make in
// a directory is not known without making it.
func mayWrite(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		err = f.Close()
	}
	return err
}
