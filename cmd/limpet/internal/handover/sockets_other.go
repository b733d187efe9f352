//go:build !linux && !darwin

package handover

import (
	"errors"
	"net"
	"os"
	"runtime"
)

func supported() error {
	return errors.New("not supported on " + runtime.GOOS + ": stop this process and start another")
}

func pair() (net.Conn, *os.File, error) { return nil, nil, supported() }

func inherited(int) (net.Conn, error) { return nil, supported() }

func inheritedFile(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
