package limpet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Limits of what a queue holds, and of one write to its output.
const (
	queueLines = 65_536
	queueBytes = 16 << 20

	reservedLines = 256      // of the lines, for errors
	reservedShare = 16       // one part in so many of the bytes, for errors
	batchBytes    = 64 << 10 // of one write, unless a line is longer
	keptBytes     = 1 << 20  // of a buffer that is used again
)

var errQueueClosed = errors.New("the log queue is closed")

// A LogQueue is an [io.Writer] for log lines that never blocks, so that no
// request waits for a disk that is full or a pipe that nobody reads. A
// goroutine writes the lines to an output, many at once if they come fast.
// While the output stands still, lines beyond 65,536 or 16 MiB are dropped, the
// newest first. When it goes on, one line at WARN says how many were dropped.
//
// Each call of Write must have one whole line, as those of log/slog do, or
// several. A LogQueue is safe for concurrent use and must not be copied.
// [NewLogQueue] makes one; Close ends its goroutine.
type LogQueue struct {
	output io.Writer

	mu       sync.Mutex
	filling  []byte // lines that the goroutine has not taken
	lines    int    // in filling and with the goroutine
	bytes    int    // likewise
	maxLines int
	maxBytes int
	missing  uint64 // dropped since the last line about dropped ones
	total    uint64 // dropped in all
	closed   bool
	given    bool                         // up: Close had no more time
	handler  func(io.Writer) slog.Handler // makes the line about dropped ones

	wake   chan struct{} // something to do: one place
	done   chan struct{} // the goroutine has ended
	broken bool          // a write ended within a line; used by the goroutine alone
}

// NewLogQueue returns a queue that writes to output. Its goroutine runs until
// Close, and never makes two writes to output at a time.
func NewLogQueue(output io.Writer) *LogQueue {
	q := newLogQueue(output)
	go q.run()
	return q
}

func newLogQueue(output io.Writer) *LogQueue {
	return &LogQueue{
		output: output, maxLines: queueLines, maxBytes: queueBytes,
		handler: func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		wake:    make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Limit sets how much the queue holds: lines (at least 512) and bytes (at least
// 64 KiB). Values that are too small are raised. The default is 65,536 lines
// and 16 MiB.
func (q *LogQueue) Limit(lines, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxLines, q.maxBytes = max(lines, 2*reservedLines), max(bytes, batchBytes)
}

// Handler returns a handler that writes to the queue with the handlers that
// format makes. The queue reserves 256 lines and a sixteenth of its bytes for
// records at [slog.LevelError] and above. The line about dropped ones has the
// format, too. For example:
//
//	slog.New(q.Handler(func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }))
func (q *LogQueue) Handler(format func(io.Writer) slog.Handler) slog.Handler {
	q.mu.Lock()
	q.handler = format
	q.mu.Unlock()
	return &queueHandler{normal: format(q), urgent: format(urgentLines{q})}
}

// Write copies line into the queue and adds a missing line feed at its end. It
// never waits for the output. A dropped line is not an error: Dropped counts
// it. After Close, Write returns an error.
func (q *LogQueue) Write(line []byte) (int, error) { return q.put(line, false) }

// Dropped returns how many lines were lost: dropped because the queue was full,
// not written because the output failed, or not known to be written when the
// context of Close ended.
func (q *LogQueue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// Close writes the lines in the queue and ends its goroutine. If ctx ends
// first, Close returns its error, and the lines that are not written by then
// are lost; Close does not stop a write that hangs in the output. Closing again
// does the same.
func (q *LogQueue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
	}
	select { // both: the lines are written
	case <-q.done:
		return nil
	default:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.given {
		q.given = true
		q.lose(q.lines)
		q.filling = nil
	}
	return ctx.Err()
}

// put appends line if there is room for it: without the reserve, unless it is
// urgent.
func (q *LogQueue) put(line []byte, urgent bool) (int, error) {
	if len(line) == 0 {
		return 0, nil
	}
	n := len(line)
	whole := line[n-1] == '\n'
	lines, size := countLines(line), n
	if !whole {
		lines, size = lines+1, size+1
	}
	q.mu.Lock()
	roomLines, roomBytes := q.maxLines-q.lines, q.maxBytes-q.bytes
	if !urgent {
		roomLines, roomBytes = roomLines-reservedLines, roomBytes-q.maxBytes/reservedShare
	}
	switch {
	case q.closed:
		q.mu.Unlock()
		return 0, errQueueClosed
	case lines > roomLines, size > roomBytes:
		q.lose(lines)
		idle := q.lines == 0
		q.mu.Unlock()
		if idle {
			q.signal() // nothing else would have it told
		}
		return n, nil
	}
	idle := len(q.filling) == 0
	q.filling = append(q.filling, line...)
	if !whole {
		q.filling = append(q.filling, '\n')
	}
	q.lines += lines
	q.bytes += size
	q.mu.Unlock()
	if idle {
		q.signal()
	}
	return n, nil
}

func (q *LogQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run writes until the queue is closed and empty.
func (q *LogQueue) run() {
	defer close(q.done)
	var spare []byte
	for range q.wake {
		for {
			q.mu.Lock()
			if q.given {
				q.mu.Unlock()
				return
			}
			taken, closed := q.filling, q.closed
			missing, format := q.missing, q.handler
			if len(taken) == 0 {
				q.missing = 0
				q.mu.Unlock()
				if missing > 0 {
					q.tell(missing, format)
				}
				if closed {
					return
				}
				break
			}
			q.filling = spare[:0]
			q.mu.Unlock()
			q.write(taken)
			if spare = taken; cap(spare) > keptBytes {
				spare = nil
			}
		}
	}
}

// write writes lines in batches, and after each one reports how many are
// missing.
func (q *LogQueue) write(lines []byte) {
	for len(lines) > 0 {
		batch := lines
		if len(batch) > batchBytes {
			end := bytes.LastIndexByte(batch[:batchBytes], '\n') + 1
			if end == 0 {
				end = bytes.IndexByte(batch, '\n') + 1
			}
			batch = batch[:end]
		}
		lines = lines[len(batch):]
		lost := q.send(batch)

		q.mu.Lock()
		if q.given {
			q.mu.Unlock()
			return
		}
		q.lines -= countLines(batch)
		q.bytes -= len(batch)
		q.lose(lost)
		missing, format := q.missing, q.handler
		if lost == 0 {
			q.missing = 0
		}
		q.mu.Unlock()
		if missing > 0 && lost == 0 {
			q.tell(missing, format)
		}
	}
}

// send writes a batch and returns how many of its lines were not written. An
// output that panics has written none: there is nobody to whom the panic could
// go.
func (q *LogQueue) send(batch []byte) (lost int) {
	defer func() {
		if recover() != nil {
			lost = countLines(batch)
		}
	}()
	if q.broken { // the next line must not continue half a line
		if _, err := q.output.Write([]byte{'\n'}); err != nil {
			return countLines(batch)
		}
		q.broken = false
	}
	n, err := q.output.Write(batch)
	if err == nil && n >= len(batch) {
		return 0
	}
	n = min(max(n, 0), len(batch))
	q.broken = n > 0 && batch[n-1] != '\n'
	return countLines(batch[n:])
}

// tell writes the line about missing lines.
func (q *LogQueue) tell(missing uint64, format func(io.Writer) slog.Handler) {
	defer func() { _ = recover() }() // of a format
	var line bytes.Buffer
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped", 0)
	r.AddAttrs(slog.Uint64("n", missing))
	h := format(&line)
	if !h.Enabled(context.Background(), slog.LevelWarn) || h.Handle(context.Background(), r) != nil {
		return
	}
	if q.send(line.Bytes()) > 0 {
		q.mu.Lock()
		q.missing += missing
		q.mu.Unlock()
	}
}

// lose counts lines that were not written. The caller holds mu.
func (q *LogQueue) lose(n int) {
	q.missing += uint64(n)
	q.total += uint64(n)
}

func countLines(lines []byte) int { return bytes.Count(lines, []byte{'\n'}) }

// urgentLines writes lines that may use the reserve.
type urgentLines struct{ q *LogQueue }

func (u urgentLines) Write(line []byte) (int, error) { return u.q.put(line, true) }

// A queueHandler lets errors use the reserve.
type queueHandler struct{ normal, urgent slog.Handler }

func (h *queueHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.normal.Enabled(ctx, level)
}

func (h *queueHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		return h.urgent.Handle(ctx, r)
	}
	return h.normal.Handle(ctx, r)
}

func (h *queueHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &queueHandler{h.normal.WithAttrs(attrs), h.urgent.WithAttrs(attrs)}
}

func (h *queueHandler) WithGroup(name string) slog.Handler {
	return &queueHandler{h.normal.WithGroup(name), h.urgent.WithGroup(name)}
}
