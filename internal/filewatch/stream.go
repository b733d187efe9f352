package filewatch

import (
	"bytes"
	"context"
	"os"

	"github.com/limpetlb/limpet/internal/interrupt"
)

// ReadStream returns the content of the file at path, which may also be a pipe
// or a device: a shell makes a pipe of <(command). It is for files that a user
// names on a command line, and reads them once; for all others, [ReadFile] is
// right. ReadStream waits until all is written. If ctx ends before, the error
// is the cause, at once. A content of more than limit bytes is [ErrTooLarge],
// unless limit is negative. Other errors are of type [*io/fs.PathError].
func ReadStream(ctx context.Context, path string, limit int64) ([]byte, error) {
	return interrupt.Wait(ctx, func() ([]byte, error) {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		// The end of the wait ends the reading of a pipe as well.
		stop := context.AfterFunc(ctx, func() { file.Close() })
		defer stop()
		var content bytes.Buffer
		if _, err := limited(&content, file, limit); err != nil {
			return nil, err
		}
		return content.Bytes(), nil
	})
}
