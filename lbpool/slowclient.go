package lbpool

import (
	"sync"
	"time"
)

// slowClient is for how long a client may keep an exchange waiting before a
// connection that breaks next is not a failure of the server. Servers break
// connections on which a request does not come, or a response is not taken, in
// the time that they allow; few allow less.
const slowClient = 2 * time.Second

// After a long wait a connection may be broken although there is more to read
// from buffers, or more can be written to them: not more than this.
const (
	maxBuffered = 16 << 20 // of a response
	maxUnsent   = 64 << 10 // of a request
)

const (
	// minMoved is how many bytes end a wait that is not long. A client that
	// moves one byte each second keeps the server waiting.
	minMoved = 2 << 10
	// minHeard is for how long, in all, reads must have waited for what they
	// got before it is certain that it does not come from buffers.
	minHeard = 100 * time.Millisecond
)

// A clientWait is the latest wait of an exchange for its client. Waits with few
// bytes between them are one. They must not overlap. The zero value has not
// waited. It is safe for concurrent use.
type clientWait struct {
	mu    sync.Mutex
	past  time.Duration // of the wait up to ended
	since time.Time     // when it went on; zero: it does not
	ended time.Time     // when it last paused
	bytes int64         // moved since it began, or became long
	heard time.Duration // for how long the server was waited for
}

// begin begins to wait.
func (w *clientWait) begin() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = now
}

// end ends a wait, if there is one.
func (w *clientWait) end() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		long, last := w.past >= slowClient, now.Sub(w.since)
		w.past += last
		w.since = time.Time{}
		if last >= slowClient || !long && w.past >= slowClient {
			w.bytes, w.heard = 0, 0
		}
	}
	w.ended = now
}

// moved notes that the client has sent or taken n bytes. After a long wait they
// may not have left or come from buffers of up to most.
func (w *clientWait) moved(n int, most int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.movedLocked(n, most)
}

func (w *clientWait) movedLocked(n int, most int64) {
	if w.past < slowClient {
		most = minMoved
	}
	if w.bytes += int64(n); w.bytes >= most {
		w.past, w.bytes, w.heard = 0, 0, 0
	}
}

// beginAfter begins to wait after the server was waited for since the end of
// the last wait, and n bytes came. It reports whether they show that the server
// still waits.
func (w *clientWait) beginAfter(n int, most int64) bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = now
	w.heard += now.Sub(w.ended)
	if n > 0 && w.heard >= minHeard {
		w.past, w.bytes, w.heard = 0, 0, 0
		return true
	}
	w.movedLocked(n, most)
	return false
}

// restart forgets the waits up to now.
func (w *clientWait) restart() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.past, w.bytes, w.heard = 0, 0, 0
	if !w.since.IsZero() {
		w.since = now
	}
}

// slow reports whether a server may have stopped waiting for the client: the
// latest wait is long, and not over for as long as it took.
func (w *clientWait) slow() bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		return w.past+now.Sub(w.since) >= slowClient
	}
	return w.past >= slowClient && now.Sub(w.ended) < w.past
}
