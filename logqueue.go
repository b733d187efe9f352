package limpet

import (
	"context"
	"io"
	"log/slog"

	"github.com/limpetlb/limpet/internal/logqueue"
)

// A LogQueue is an [io.Writer] for log lines that never blocks, so that no
// request waits for a disk that is full or a pipe that nobody reads. A
// goroutine writes the lines to an output, many at once if they come fast.
// While the output stands still, lines beyond 65,536 or 16 MiB are dropped, the
// newest first. When it goes on, one line at WARN says how many were dropped.
//
// Each call of Write must have one whole line, as those of log/slog do, or
// several. A LogQueue is safe for concurrent use and must not be copied.
// [NewLogQueue] makes one; Close ends its goroutine.
type LogQueue struct{ queue *logqueue.Queue }

// NewLogQueue returns a queue that writes to output. Its goroutine runs until
// Close, and never makes two writes to output at a time.
func NewLogQueue(output io.Writer) *LogQueue {
	q := &LogQueue{logqueue.New(output)}
	q.queue.Start()
	return q
}

// Limit sets how much the queue stores: lines (at least 512) and bytes (at
// least 64 KiB). Values that are too small are raised. The default is 65,536
// lines and 16 MiB.
func (q *LogQueue) Limit(lines, bytes int) { q.queue.Limit(lines, bytes) }

// Handler returns a handler that writes to the queue with the handlers that
// format makes. The queue reserves 256 lines and a sixteenth of its bytes for
// records at [slog.LevelError] and above. The line about dropped ones has the
// format, too. For example:
//
//	slog.New(q.Handler(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }))
func (q *LogQueue) Handler(format func(io.Writer) slog.Handler) slog.Handler {
	return q.queue.Handler(format)
}

// Write copies line into the queue and adds a missing line feed at its end. It
// never waits for the output. A dropped line is not an error: Dropped counts
// it. After Close, Write returns an error.
func (q *LogQueue) Write(line []byte) (int, error) { return q.queue.Write(line) }

// Dropped returns how many lines were lost: dropped because the queue was full,
// not written because the output failed, or not known to be written when the
// context of Close ended.
func (q *LogQueue) Dropped() uint64 { return q.queue.Dropped() }

// Close writes the lines in the queue and ends its goroutine. If ctx ends
// first, Close returns its error, and the lines that are not written by then
// are lost; Close does not stop a write that hangs in the output. Closing again
// does the same.
func (q *LogQueue) Close(ctx context.Context) error { return q.queue.Close(ctx) }
