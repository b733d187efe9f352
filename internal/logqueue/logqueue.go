// Package logqueue keeps log lines until a goroutine has written them, and
// never delays those who log.
package logqueue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"
)

// What a queue stores unless Limit says otherwise, and the least that it can be
// set to.
const (
	DefaultLines = 65_536            // lines
	DefaultBytes = 16 << 20          // bytes
	MinLines     = 2 * reservedLines // lines
	MinBytes     = batchBytes        // bytes
)

const (
	reservedLines = 256      // of the lines, for errors
	reservedShare = 16       // one part in so many of the bytes, for errors
	batchBytes    = 64 << 10 // of one write, unless a line is longer
	keptBytes     = 1 << 20  // of a buffer that is used again
)

// ErrClosed is the error of Write after Close.
var ErrClosed = errors.New("the log queue is closed")

// A Queue is an [io.Writer] for log lines that never blocks. A goroutine, from
// Start on, writes the lines to an output, many at once if they come fast.
// While the output stands still, or the goroutine has not been started, lines
// beyond the limits are dropped, the newest first. When it goes on, one line at
// WARN says how many were dropped.
//
// Each call of Write must have one whole line, or several. A Queue is safe for
// concurrent use and must not be copied.
type Queue struct {
	output io.Writer

	mu       sync.Mutex
	filling  []byte // lines that the goroutine has not taken
	lines    int    // in filling and with the goroutine
	bytes    int    // likewise
	maxLines int
	maxBytes int
	missing  uint64                       // dropped since the last line about dropped ones
	total    uint64                       // dropped in all
	closed   bool                         // takes no more lines
	stopping bool                         // the goroutine ends when it has written the lines
	given    bool                         // up: Close or Stop had no more time
	handler  func(io.Writer) slog.Handler // makes the line about dropped ones
	done     chan struct{}                // is closed when the goroutine has ended; nil if there is none

	wake   chan struct{} // something to do: one place
	broken bool          // a write ended within a line; used by the goroutine alone
}

// New returns a queue that will write to output, never two writes at a time.
func New(output io.Writer) *Queue {
	return &Queue{
		output: output, maxLines: DefaultLines, maxBytes: DefaultBytes,
		handler: func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		wake:    make(chan struct{}, 1),
	}
}

// Start starts the goroutine, unless it is running. It runs until Stop or
// Close.
func (q *Queue) Start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.startLocked()
}

func (q *Queue) startLocked() {
	if q.done == nil && !q.given {
		q.done = make(chan struct{})
		go q.run(q.done)
		q.signal()
	}
}

// Limit sets how much the queue stores: lines (at least 512) and bytes (at
// least 64 KiB). Values that are too small are raised. The default is 65,536
// lines and 16 MiB.
func (q *Queue) Limit(lines, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxLines, q.maxBytes = max(lines, MinLines), max(bytes, MinBytes)
}

// Handler returns a handler that writes to the queue with the handlers that
// format makes. The queue reserves 256 lines and a sixteenth of its bytes for
// records at [slog.LevelError] and above. The line about dropped ones has the
// format, too; see Told.
func (q *Queue) Handler(format func(io.Writer) slog.Handler) slog.Handler {
	q.Told(format)
	return &queueHandler{normal: format(q), urgent: format(urgentLines{q})}
}

// Told sets what formats the line about dropped ones. If the handler that
// format makes writes nothing to its argument, it has reported it elsewhere.
func (q *Queue) Told(format func(io.Writer) slog.Handler) {
	q.mu.Lock()
	q.handler = format
	q.mu.Unlock()
}

// Put is Write for a line that may use what is reserved for errors, if it is
// urgent.
func (q *Queue) Put(line []byte, urgent bool) error {
	_, err := q.put(line, urgent)
	return err
}

// Write copies line into the queue and adds a missing line feed at its end. It
// never waits for the output. A dropped line is not an error: Dropped counts
// it. After Close, Write returns an error.
func (q *Queue) Write(line []byte) (int, error) { return q.put(line, false) }

// Dropped returns how many lines were lost: dropped because the queue was full,
// not written because the output failed, or not known to be written when the
// context of Close ended.
func (q *Queue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.total
}

// Close writes the lines in the queue and ends its goroutine. If ctx ends
// first, Close returns its error, and the lines that are not written by then
// are lost; Close does not stop a write that hangs in the output. Closing again
// does the same.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.Stop(ctx)
}

// Stop is Close for a queue that takes further lines, to write them when it is
// started again. If ctx ends first, the queue is closed.
func (q *Queue) Stop(ctx context.Context) error {
	q.mu.Lock()
	q.startLocked()
	done := q.done
	q.stopping = true
	q.mu.Unlock()
	q.signal()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select { // both: the lines are written
	case <-done:
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

// put appends line if there is space for it: without the reserve, unless it is
// urgent.
func (q *Queue) put(line []byte, urgent bool) (int, error) {
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
	case q.closed, q.given:
		q.mu.Unlock()
		return 0, ErrClosed
	case lines > roomLines, size > roomBytes:
		q.lose(lines)
		idle := q.lines == 0
		q.mu.Unlock()
		if idle {
			q.signal() // nothing else would report it
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

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run writes until the queue is to stop and is empty.
func (q *Queue) run(done chan<- struct{}) {
	defer close(done)
	var spare []byte
	for range q.wake {
		for more := true; more; {
			q.mu.Lock()
			if q.given {
				q.mu.Unlock()
				return
			}
			taken, missing, format := q.filling, q.missing, q.handler
			if len(taken) == 0 {
				q.missing = 0
				q.mu.Unlock()
				if missing > 0 {
					q.report(missing, format)
				}
				q.mu.Lock()
				more = len(q.filling) > 0
				over := !more && (q.closed || q.stopping) && !q.given
				if over {
					q.stopping, q.done = false, nil
				}
				q.mu.Unlock()
				if over {
					return
				}
				continue
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
func (q *Queue) write(lines []byte) {
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
		if q.gaveUp() {
			return
		}
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
			q.report(missing, format)
		}
	}
}

// gaveUp reports whether Close or Stop had no more time.
func (q *Queue) gaveUp() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.given
}

// send writes a batch and returns how many of its lines were not written. An
// output that panics has written none: there is nobody to whom the panic could
// go.
func (q *Queue) send(batch []byte) (lost int) {
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

// report writes the line about missing lines.
func (q *Queue) report(missing uint64, format func(io.Writer) slog.Handler) {
	defer func() { _ = recover() }() // of a format
	var line bytes.Buffer
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped", 0)
	r.AddAttrs(slog.Uint64("n", missing))
	h := format(&line)
	if !h.Enabled(context.Background(), slog.LevelWarn) || h.Handle(context.Background(), r) != nil {
		return
	}
	if line.Len() > 0 && q.send(line.Bytes()) > 0 {
		q.mu.Lock()
		q.missing += missing
		q.mu.Unlock()
	}
}

// lose counts lines that were not written. The caller has locked mu.
func (q *Queue) lose(n int) {
	q.missing += uint64(n)
	q.total += uint64(n)
}

func countLines(lines []byte) int { return bytes.Count(lines, []byte{'\n'}) }

// urgentLines writes lines that may use the reserve.
type urgentLines struct{ q *Queue }

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
