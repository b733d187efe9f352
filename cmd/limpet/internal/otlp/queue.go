package otlp

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// queueSize is how many spans may wait.
const queueSize = 4096

// A queue keeps spans until they are exported. It neither waits nor grows: when
// it is full it drops spans, and counts them, which the queue of the SDK within
// does not report: it counts what goes in there and, by its outlet, what comes
// out.
type queue struct {
	sdk.SpanProcessor // of the SDK
	to                atomic.Pointer[target]
	waiting           atomic.Int64
	dropped           atomic.Uint64
	log               atomic.Pointer[slog.Logger]
	complaints        complaints
}

// OnEnd implements [sdk.SpanProcessor].
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.waiting.Add(1) > queueSize {
		q.waiting.Add(-1)
		q.complain(1, nil)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// A target is where spans go.
type target struct {
	mu sync.Mutex // during an export
	sdk.SpanExporter
}

// turn makes spans go to another exporter. The one before ends when it has
// exported what it has.
func (q *queue) turn(to sdk.SpanExporter) {
	if before := q.to.Swap(&target{SpanExporter: to}); before != nil {
		go func() {
			before.mu.Lock()
			defer before.mu.Unlock()
			_ = before.SpanExporter.Shutdown(context.Background()) // has nothing to do
		}()
	}
}

// An outlet is the exporter of the queue within.
type outlet struct{ *queue }

// ExportSpans implements [sdk.SpanExporter]. It reports errors itself.
func (q outlet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	defer q.waiting.Add(-int64(len(spans)))
	for {
		to := q.to.Load()
		to.mu.Lock()
		if q.to.Load() != to { // it may have ended
			to.mu.Unlock()
			continue
		}
		err := to.SpanExporter.ExportSpans(ctx, spans)
		to.mu.Unlock()
		if err != nil {
			q.complain(len(spans), err)
		}
		return nil
	}
}

// Shutdown implements [sdk.SpanExporter].
func (q outlet) Shutdown(ctx context.Context) error { return q.to.Load().SpanExporter.Shutdown(ctx) }

// complaints are what is not logged yet.
type complaints struct {
	mu    sync.Mutex
	last  time.Time // when something was logged
	spans int
	err   error
}

// complaintInterval is the least time between two lines of the log.
const complaintInterval = 10 * time.Second

// complain counts spans that are lost, and logs that soon. err says why; nil
// means that the queue is full.
func (q *queue) complain(lost int, err error) {
	q.dropped.Add(uint64(lost))
	c := &q.complaints
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans += lost
	if err != nil {
		c.err = err
	}
	if now := time.Now(); now.Sub(c.last) >= complaintInterval {
		c.last = now
		q.write()
	}
}

// lastWords logs what is not logged yet.
func (q *queue) lastWords() {
	q.complaints.mu.Lock()
	defer q.complaints.mu.Unlock()
	q.write()
}

// write logs the complaints, which the caller has locked.
func (q *queue) write() {
	c := &q.complaints
	if c.spans == 0 && c.err == nil {
		return
	}
	attrs := []slog.Attr{slog.Int("dropped", c.spans)}
	if c.err != nil {
		attrs = append(attrs, slog.String("error", c.err.Error()))
	}
	q.log.Load().LogAttrs(context.Background(), slog.LevelWarn, "spans not exported", attrs...)
	c.spans, c.err = 0, nil
}
