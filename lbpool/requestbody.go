package lbpool

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

var errBodySpent = errors.New("connection lost after the request body was read, so that it cannot be sent again")

// A guardedBody lends a request body to one attempt after the other. A RoundTripper closes the body it was given even
// when it could not connect; the guard keeps the real body open while another attempt may follow, and knows whether
// that is possible, namely while nothing was read. It also tells the client's failures from the server's.
//
// A nil *guardedBody stands for a request without a body.
type guardedBody struct {
	body io.ReadCloser

	mu      sync.Mutex
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

// attach gives req a view of the body. The view can be had again through GetBody, which is what lets an http.Transport
// send a request anew, whatever its method, when an idle connection turns out to be dead before anything was written.
func (g *guardedBody) attach(req *http.Request) {
	if g == nil {
		return
	}
	req.Body = g.open()
	req.GetBody = func() (io.ReadCloser, error) {
		if g.touched() {
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

// touched reports whether anything was read, so that no other attempt is possible.
func (g *guardedBody) touched() bool { return g.ask(func() bool { return g.read }) }

// failed reports whether the real body failed.
func (g *guardedBody) failed() bool { return g.ask(func() bool { return g.err != nil }) }

// unfinished reports whether there was more to read.
func (g *guardedBody) unfinished() bool { return g.ask(func() bool { return !g.eof }) }

func (g *guardedBody) ask(question func() bool) bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return question()
}

// settle says that no attempt will follow: the real body is closed now if the last attempt has closed its view or
// there was none, and otherwise when it does.
func (g *guardedBody) settle() {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.settled = true
	g.mu.Unlock()
	g.closeIfDone()
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
}

func (v *bodyView) Read(p []byte) (int, error) {
	g := v.guard
	g.mu.Lock()
	dead := v.closed || g.view != v
	g.read = g.read || !dead
	g.mu.Unlock()
	if dead {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := g.body.Read(p)
	if err != nil {
		g.mu.Lock()
		if err == io.EOF {
			g.eof = true
		} else if !v.closed { // else reading was cut off from our side
			g.err = err
		}
		g.mu.Unlock()
	}
	return n, err
}

func (v *bodyView) Close() error {
	g := v.guard
	g.mu.Lock()
	v.closed = true
	g.mu.Unlock()
	return g.closeIfDone()
}
