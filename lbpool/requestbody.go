package lbpool

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// spareReplay is how much of a request body is kept for an HTTP/2 server that
// refuses the stream or ends the connection: as much as a server takes of a
// stream before it has opened a window for it (RFC 9113, section 6.9.2).
const spareReplay = 64 << 10

var errBodySpent = errors.New("connection lost after the request body was read, so that it cannot be sent again")

// A guardedBody gives a request body to one attempt after the other. A
// RoundTripper closes the body it was given even when it could not connect.
// guardedBody keeps the real body open while another attempt may follow, and
// knows whether that is possible: while nothing was read, or everything read is
// kept. It also distinguishes the client's failures from the server's.
//
// An attempt that has ended may still be reading. Reads of the real body are
// therefore serialised, and what an earlier attempt reads is kept for the next
// one.
//
// A nil *guardedBody stands for a request without a body.
type guardedBody struct {
	body io.ReadCloser

	reading sync.Mutex // held to read the real body
	waited  clientWait // for the real body

	mu      sync.Mutex
	limit   int       // of kept for any other attempt; fixed once attached
	spare   int       // of kept for one after the server has done nothing; fixed once attached
	kept    []byte    // the beginning of the body, up to and a little over the greater of them
	spent   bool      // more was read than is kept
	view    *bodyView // of the current attempt; older ones are dead
	read    bool      // something was asked for
	eof     bool
	err     error // of the real body
	settled bool  // no attempt will follow
	closed  bool  // the real body is closed
}

func newGuardedBody(body io.ReadCloser) *guardedBody {
	if body == nil || body == http.NoBody {
		return nil
	}
	return &guardedBody{body: body}
}

// attach gives req a view of the body. The view is available again through
// GetBody, which is what lets an http.Transport send a request anew, whatever
// its method, when an idle connection turns out to be dead before anything was
// written.
func (g *guardedBody) attach(req *http.Request) {
	if g == nil {
		return
	}
	req.Body = g.open()
	req.GetBody = func() (io.ReadCloser, error) {
		if g.touched() && !g.restorable() {
			return nil, errBodySpent
		}
		return g.open(), nil
	}
}

func (g *guardedBody) open() *bodyView {
	v := &bodyView{guard: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.view = v
	return v
}

// keep makes the guard keep up to n bytes of what is read, so that they can be
// had again, and up to spare bytes for an attempt after the server has done
// nothing. It must be called before the first attempt; a backup pool's attempt
// may ask again as long as nothing was read.
func (g *guardedBody) keep(n, spare int) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, g.spare = n, spare
}

// replayable reports whether another attempt can have the whole body.
func (g *guardedBody) replayable() bool {
	return g == nil || g.ask(func() bool { return g.hasLocked(g.limit) })
}

// restorable reports the same for an attempt after the server has done nothing.
func (g *guardedBody) restorable() bool {
	return g == nil || g.ask(func() bool { return g.hasLocked(max(g.limit, g.spare)) })
}

func (g *guardedBody) hasLocked(limit int) bool {
	return (!g.read || limit > 0) && len(g.kept) <= limit && !g.spent && g.err == nil
}

// touched reports whether anything was read, so that no other attempt is
// possible.
func (g *guardedBody) touched() bool { return g.ask(func() bool { return g.read }) }

// failed reports whether the real body failed.
func (g *guardedBody) failed() bool { return g.ask(func() bool { return g.err != nil }) }

// unfinished reports whether there was more to read.
func (g *guardedBody) unfinished() bool { return g.ask(func() bool { return !g.eof }) }

// slow reports whether the server may have stopped waiting for the client.
func (g *guardedBody) slow() bool { return g != nil && g.waited.slow() }

// answered notes that the server has sent something, and so has not lost it.
func (g *guardedBody) answered() {
	if g != nil {
		g.waited.restart()
	}
}

func (g *guardedBody) ask(question func() bool) bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return question()
}

// settle notes that no attempt will follow: the real body is closed now if the
// last attempt has closed its view or there was none, and otherwise when it
// does.
func (g *guardedBody) settle() {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.settled = true
	g.forgetLocked()
	g.mu.Unlock()
	g.closeIfDone()
}

// forgetLocked drops what is kept if nobody needs it any more: a stream may go
// on for long.
func (g *guardedBody) forgetLocked() {
	if g.settled && (g.view == nil || g.view.at >= len(g.kept)) {
		g.kept, g.spent = nil, true
	}
}

func (g *guardedBody) closeIfDone() error {
	g.mu.Lock()
	done := g.settled && !g.closed && (g.view == nil || g.view.closed)
	g.closed = g.closed || done
	g.mu.Unlock()
	if !done {
		return nil
	}
	return g.body.Close()
}

// bodyView is what one attempt sees of the body.
type bodyView struct {
	guard  *guardedBody
	closed bool // guarded by guard.mu
	at     int  // bytes of guard.kept that were given; guarded by guard.mu
}

func (v *bodyView) Read(p []byte) (int, error) {
	if n, err, ok := v.again(p); ok {
		return n, err
	}
	g := v.guard
	g.reading.Lock()
	defer g.reading.Unlock()
	if n, err, ok := v.again(p); ok { // an earlier attempt has read in the meantime
		return n, err
	}
	g.waited.begin()
	n, err := g.body.Read(p)
	g.waited.end()
	g.waited.moved(n, maxUnsent)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keepLocked(p[:n])
	if g.view == v {
		v.at += n
	}
	if err == io.EOF {
		g.eof = true
	} else if err != nil && !(v.closed && g.view == v) { // else reading was cut off from our side
		g.err = err
	}
	return n, err
}

// again reads what is there without the real body: what was read before, its
// end, or that there is nothing for a view that is closed or not the latest.
// Otherwise ok is false, and the real body is about to be read.
func (v *bodyView) again(p []byte) (n int, err error, ok bool) {
	g := v.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case v.closed || g.view != v:
		return 0, http.ErrBodyReadAfterClose, true
	case v.at < len(g.kept):
		n = copy(p, g.kept[v.at:])
		v.at += n
		g.forgetLocked()
		return n, nil, true
	case g.eof:
		return 0, io.EOF, true
	case g.err != nil:
		return 0, g.err, true
	}
	g.read = true
	return 0, nil, false
}

// Buffered returns how many bytes can be read without waiting, if that is
// known: what an earlier attempt has read, and what the real body says of
// itself in the same way. NewHTTP1's transports ask before they wait for 100
// (Continue).
func (v *bodyView) Buffered() (n int, known bool) {
	g := v.guard
	g.mu.Lock()
	n = len(g.kept) - v.at
	usable := !v.closed && g.view == v && g.err == nil
	g.mu.Unlock()
	if n > 0 || !usable {
		return max(n, 0), usable
	}
	switch body := g.body.(type) {
	case interface{ Buffered() (n int, known bool) }:
		return body.Buffered()
	case interface{ Len() int }:
		return body.Len(), true
	}
	return 0, false
}

// keepLocked keeps what was just read. It exceeds the limit once, so that an
// attempt that is about to begin has what the one before has read; after that
// there is no other attempt.
func (g *guardedBody) keepLocked(p []byte) {
	if len(p) == 0 || g.spent {
		return
	}
	limit := max(g.limit, g.spare)
	if limit == 0 {
		g.spent = true
		return
	}
	g.kept = append(g.kept, p...)
	g.spent = len(g.kept) > limit
}

func (v *bodyView) Close() error {
	g := v.guard
	g.mu.Lock()
	v.closed = true
	g.mu.Unlock()
	return g.closeIfDone()
}
