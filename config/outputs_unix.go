//go:build unix

package config

import (
	"io/fs"
	"syscall"
)

// mayWrite reports whether the process may write to a file, or make files in a
// directory.
func mayWrite(path string, info fs.FileInfo) error {
	const write, search = 2, 1
	if info.IsDir() {
		return syscall.Access(path, write|search)
	}
	return syscall.Access(path, write)
}
