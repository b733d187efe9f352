package transparency

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// endingCases are about exchanges that end too early.
var endingCases = []testCase{
	{"client leaves before the answer", either, both, leaveBefore},
	{"client leaves the download", either, both, leaveDownload},
	{"client leaves the upload", either, both, leaveUpload},
	{"cut off", either, every, cutOff},
	{"short body", either, every, shortBody},
	{"nothing at all", either, both, nothing},
}

// A target has promptly to pass on that the client has left. On a busy machine
// the best of several times counts.
const (
	promptly = 50 * time.Millisecond
	leavings = 20
)

// leave makes a client leave and measures until the handler knows. exchange
// starts an exchange; it returns how to leave it, and where the handler tells
// that it knows.
func (p *probe) leave(exchange func() (leave func(), left <-chan error)) {
	best := p.limit
	for range leavings {
		leave, left := exchange()
		start := time.Now()
		leave()
		if err := await(p, left, "the handler to see its client leave"); err == nil {
			p.errorf("the handler saw no error, but a normal end")
		}
		if best = min(best, time.Since(start)); best < promptly {
			return
		}
	}
	p.errorf("the handler knows after %v at best, want less than %v", best, promptly)
}

// gone waits for the end of the request's context, or of the case, and returns
// the error of the former.
func (p *probe) gone(r *http.Request) error {
	select {
	case <-r.Context().Done():
	case <-p.ctx.Done():
	}
	return r.Context().Err()
}

func leaveBefore(p *probe) {
	started, left := make(chan bool, 1), make(chan error, leavings)
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		started <- true
		left <- p.gone(r)
	})
	p.leave(func() (func(), <-chan error) {
		ctx, cancel := context.WithCancel(s.ctx)
		p.clients.Go(func() {
			if _, _, err := s.try(s.request("GET", "/", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
				p.errorf("the client got %v", err)
			}
		})
		await(p, started, "the handler")
		return cancel, left
	})
}

func leaveDownload(p *probe) {
	left := make(chan error, leavings)
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil && p.ctx.Err() == nil {
			if _, err := w.Write(make([]byte, 16<<10)); err != nil {
				break
			}
			_ = http.NewResponseController(w).Flush()
		}
		left <- p.gone(r)
	})
	p.leave(func() (func(), <-chan error) {
		ctx, cancel := context.WithCancel(s.ctx)
		res := s.open(s.request("GET", "/", nil).WithContext(ctx))
		if _, err := io.ReadFull(res.Body, make([]byte, 1000)); err != nil {
			p.errorf("%v", err)
		}
		return cancel, left
	})
}

func leaveUpload(p *probe) {
	started, left := make(chan bool, 1), make(chan error, leavings)
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadFull(r.Body, make([]byte, 10)); err != nil {
			p.errorf("%v", err)
		}
		started <- true
		_, err := io.Copy(io.Discard, r.Body)
		left <- err
	})
	p.leave(func() (func(), <-chan error) {
		body, upload := p.pipe()
		ctx, cancel := context.WithCancel(s.ctx)
		p.clients.Go(func() { _, _, _ = s.try(s.request("POST", "/", body).WithContext(ctx)) })
		if _, err := upload.Write(make([]byte, 100)); err != nil {
			p.fatalf("%v", err)
		}
		await(p, started, "the handler")
		return func() {
			cancel()
			body.CloseWithError(context.Canceled)
		}, left
	})
}

// A response that the handler cuts off is cut off for the client.
func cutOff(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "some of it")
		p.flush(w)
		panic(http.ErrAbortHandler)
	})
	_, body, err := s.try(s.request("GET", "/", nil))
	if err == nil || body != "some of it" && body != "" {
		p.errorf("the client got %q, %v", body, err)
	}
}

// A body that is shorter than announced is an error for the client.
func shortBody(p *probe) {
	s := p.start(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "some of it")
		if r.URL.Path == "/flushed" {
			p.flush(w)
		}
	})
	for _, path := range []string{"/", "/flushed"} {
		res, body, err := s.try(s.request("GET", path, nil))
		if err == nil && res.StatusCode < 500 {
			p.errorf("%s: the client got %s with %q, and no error", path, res.Status, body)
		}
	}
}

// A handler that aborts before it has answered gives no success.
func nothing(p *probe) {
	s := p.start(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	res, body, err := s.try(s.request("POST", "/", nil))
	if err == nil && res.StatusCode < 500 {
		p.errorf("the client got %s with %q", res.Status, body)
	}
}
