package limpet

import (
	"io"
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

// NewServer returns a server for h, a [VirtualService] or a handler around one,
// with limits that net/http leaves open. The program may change it before it
// is used.
//
// A request's header may take 10 s and 64 KiB, a connection may be idle for
// 60 s, each part of a request's body may be 60 s late in HTTP/1, and an
// HTTP/2 connection may have 250 streams, take nothing for 60 s, and not answer
// for 45 s. Whole requests and responses may take as long as they like, since
// they may be streams; if ReadTimeout is set, it takes the place of the limit
// for parts of bodies. What the server writes in HTTP/1 is bounded by
// [ConnectionLimits].WriteTimeout if it serves from
// [VirtualService.Listener].
func NewServer(h http.Handler) *http.Server {
	srv := &http.Server{
		ReadHeaderTimeout: serverHeaderTimeout,
		IdleTimeout:       serverIdleTimeout,
		MaxHeaderBytes:    serverHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: serverStreams,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     60 * time.Second,
		},
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Body == http.NoBody || srv.ReadTimeout > 0 {
			h.ServeHTTP(w, r)
			return
		}
		body := &promptBody{ReadCloser: r.Body, server: http.NewResponseController(w)}
		defer body.leave()
		body.wait()
		prompt := *r
		prompt.Body = body
		h.ServeHTTP(w, &prompt)
	})
	return srv
}

// A promptBody breaks the connection if the next part of the body is waited
// for in vain, be it by the handler or by net/http, which reads what a handler
// has left over.
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
