//go:build unix

package logfile

import (
	"bufio"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/limpetlb/limpet/internal/testwait"
)

// A named pipe that nobody reads can be opened. A write that hangs in it ends
// when the file is closed or opened anew.
func TestNamedPipe(t *testing.T) {
	for name, end := range map[string]func(*File) error{"closed": (*File).Close, "reopened": (*File).Reopen} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pipe")
			must(t, syscall.Mkfifo(path, 0o600))
			f, err := Open(path)
			must(t, err)
			_, err = f.Write([]byte("first\n"))
			must(t, err)
			r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			must(t, err)
			if line, err := bufio.NewReaderSize(r, 16).ReadString('\n'); line != "first\n" {
				t.Errorf("read %q, %v", line, err)
			}
			must(t, r.Close())
			began, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				for first := true; ; first = false {
					n, err := f.Write(make([]byte, 1<<12))
					if first {
						close(began)
					}
					if err != nil || n == 0 {
						ended <- err
						break
					}
				}
			}()
			testwait.Receive(t, began, "first write")
			// A write between two ends goes to a new pipe, which fills as well.
			testwait.Until(t, "the write ends", func() bool {
				must(t, end(f))
				select {
				case err = <-ended:
					return true
				default:
					return false
				}
			})
			if err == nil {
				t.Error("no error")
			}
			must(t, f.Close())
		})
	}
}
