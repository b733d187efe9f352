//go:build unix

package filewatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testwait"
)

var errCause = errors.New("cause")

// A stream that does not come is not waited for when the context has ended: a
// pipe that nobody has opened to write, and one to which nobody writes.
func TestReadStreamEnds(t *testing.T) {
	for name, writes := range map[string]bool{"nobody writes": false, "a writer that does nothing": true} {
		t.Run(name, func(t *testing.T) {
			path := testfiles.Pipe(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			errs := make(chan error, 1)
			go func() {
				_, err := ReadStream(ctx, path, 100)
				errs <- err
			}()
			if writes {
				w, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for the reader
				must(t, err)
				defer w.Close()
			}
			cancel(errCause)
			if err := testwait.Receive(t, errs, "end"); !errors.Is(err, errCause) {
				t.Error(err)
			}
		})
	}
}

// What comes through a pipe is read to its end, and no further than the limit.
func TestReadStream(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int64
		want  error
	}{{"text", 4, nil}, {strings.Repeat("text", 1000), -1, nil}, {"text", 3, ErrTooLarge}} {
		r, w, err := os.Pipe()
		must(t, err)
		defer r.Close()
		_, err = w.WriteString(c.text)
		must(t, errors.Join(err, w.Close()))
		path := fmt.Sprintf("/dev/fd/%d", r.Fd())
		got, err := ReadStream(t.Context(), path, c.limit)
		if !errors.Is(err, c.want) || err == nil && string(got) != c.text {
			t.Errorf("limit %d: %d bytes, %v", c.limit, len(got), err)
		}
	}
	if _, err := ReadStream(t.Context(), t.TempDir(), -1); err == nil {
		t.Error("a directory")
	}
}
