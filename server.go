package limpet

import (
	"io"
	"log"
	"net/http"
	"sync"
	"time"
)

// What [NewServer] sets.
const (
	serverHeaderTimeout = 10 * time.Second
	serverIdleTimeout   = 60 * time.Second
	serverBodyTimeout   = 60 * time.Second
	serverHeaderBytes   = 64 << 10
	serverStreams       = 250
)

// NewServer returns a server for h, a [VirtualService], what its Wrap returns,
// or a handler around one, with limits that net/http leaves open. The program
// may change it before it is used. A Handler that takes the place of the
// server's own needs [LimitBodies], or the limit for parts of bodies is lost;
// the limit for waits outside handlers is lost in any case.
//
// A request's header may take 10 s and 64 KiB, a connection may be idle for
// 60 s, each part of a request's body may be 60 s late, and an HTTP/2
// connection may have 250 streams, take nothing for 60 s, and not answer for
// 45 s. A connection from [VirtualService.Listener] on which net/http waits for
// the client while no handler is at work, as for the body of a request with an
// unknown Expect, is closed after 60 to 90 s, or as long as the longest of the
// server's other timeouts for reading. Whole requests and responses may take as long as they like, since they
// may be streams; if ReadTimeout is set, it takes the place of the limit for
// parts of bodies. What the server writes in HTTP/1 is bounded by
// [ConnectionLimits].WriteTimeout if it serves from
// [VirtualService.Listener].
//
// Requests "OPTIONS *" go to h, too, where net/http would answer them itself.
//
// If h is a [VirtualService] or what its Wrap returns, the server's own
// complaints go to [Config].Logger, and two kinds are counted in [Stats]:
// failed TLS handshakes, and connections from [VirtualService.Listener] whose
// first request net/http refuses or whose header never becomes whole. Of these
// two kinds, and of HTTP/2 connections that fail, there is one line a second,
// of all other complaints there are ten; each says for how many others it
// stands. Without a Logger, and with any other h, they go to the standard
// logger of package log at the same rates, but for what is counted, which needs
// a Logger. The program may set ErrorLog and ConnState itself: then there is no
// such count and no such limit.
func NewServer(h http.Handler) *http.Server {
	srv := &http.Server{
		Handler:                      LimitBodies(h),
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            serverHeaderTimeout,
		IdleTimeout:                  serverIdleTimeout,
		MaxHeaderBytes:               serverHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: serverStreams,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     60 * time.Second,
		},
	}
	var vs *VirtualService
	switch h := h.(type) {
	case *VirtualService:
		vs = h
	case *wrapped:
		vs = h.vs
	default:
		srv.ErrorLog = log.New(new(plainLog), "", 0)
		return srv
	}
	o := &serverObserver{vs: vs, server: srv, next: srv.Handler}
	srv.Handler, srv.ConnState, srv.ErrorLog = o, o.connState, log.New(o, "", 0)
	return srv
}

// LimitBodies returns a handler that gives each part of a request's body 60 s
// to arrive and calls h. It is what [NewServer] puts around its handler, for
// programs that set another [net/http.Server].Handler later. If the server has
// a ReadTimeout, that applies in its place.
//
// A read that takes longer fails with an error that matches
// [os.ErrDeadlineExceeded]. In HTTP/1 the connection ends with the request, in
// HTTP/2 the stream.
func LimitBodies(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
		if r.Body == nil || r.Body == http.NoBody || srv == nil || srv.ReadTimeout > 0 {
			h.ServeHTTP(w, r)
			return
		}
		limited := *r
		server := http.NewResponseController(w)
		if r.ProtoMajor == 1 {
			body := &promptBody{ReadCloser: r.Body, server: server}
			defer body.leave()
			body.wait()
			limited.Body = body
		} else {
			body := &promptStream{ReadCloser: r.Body, server: server}
			defer body.leave()
			limited.Body = body
		}
		h.ServeHTTP(w, &limited)
	})
}

// A promptBody breaks the connection of HTTP/1 if the next part of the body
// does not come in time, be it for the handler or for net/http, which reads
// what a handler has left over.
type promptBody struct {
	io.ReadCloser
	server *http.ResponseController

	mu   sync.Mutex
	left bool // the connection is not ours any more: transports read on
}

// Read reads the next part of the body.
func (b *promptBody) Read(p []byte) (int, error) {
	b.wait()
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		// Now net/http reads, to see whether the client goes away.
		b.setDeadline(time.Time{})
	}
	return n, err
}

func (b *promptBody) wait() { b.setDeadline(time.Now().Add(serverBodyTimeout)) }

func (b *promptBody) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.left {
		_ = b.server.SetReadDeadline(t)
	}
}

func (b *promptBody) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = true
}

// A promptStream ends the body of an HTTP/2 stream if a read of it takes too
// long. Unlike that of a connection, a deadline of a stream that has passed is
// final, even if nobody was reading. So there is none while the handler is busy
// elsewhere, with a slow server for instance.
type promptStream struct {
	io.ReadCloser
	server *http.ResponseController

	mu    sync.Mutex
	left  bool
	timer *time.Timer // runs while somebody reads
}

// Read reads the next part of the body.
func (b *promptStream) Read(p []byte) (int, error) {
	b.mu.Lock()
	switch {
	case b.left:
	case b.timer == nil:
		b.timer = time.AfterFunc(serverBodyTimeout, b.expire)
	default:
		b.timer.Reset(serverBodyTimeout)
	}
	b.mu.Unlock()
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	if b.timer != nil {
		b.timer.Stop()
	}
	b.mu.Unlock()
	return n, err
}

func (b *promptStream) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.left {
		_ = b.server.SetReadDeadline(time.Unix(1, 0)) // which has passed
	}
}

func (b *promptStream) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = true
	if b.timer != nil {
		b.timer.Stop()
	}
}
