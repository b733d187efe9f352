//go:build unix

package accept

import (
	"errors"
	"syscall"
)

// IsExhausted reports whether a connection could not be made for lack of file
// descriptors, memory or local ports.
func IsExhausted(err error) bool {
	for _, errno := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// fileLimit is how many file descriptors the process may have, or 0 if that is
// not known or not limited.
func fileLimit() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	if limit.Cur > 1<<30 {
		return 0
	}
	return uint64(limit.Cur) //nolint:unconvert // it is signed on some systems
}
