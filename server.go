package limpet

import (
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/limpetlb/limpet/internal/httpfield"
	"github.com/limpetlb/limpet/internal/idletimer"
	"github.com/limpetlb/limpet/lbpool"
)

// The settings of [NewServer].
const (
	serverHeaderTimeout = 10 * time.Second
	serverIdleTimeout   = 60 * time.Second
	serverBodyTimeout   = 60 * time.Second
	serverHeaderBytes   = 64 << 10
	serverStreams       = 250
)

// NewServer returns a server for h, with the timeouts and limits that net/http
// leaves off. h is a [VirtualService], the result of its Wrap, or a handler
// around one. The program may change the server before using it. A program that
// sets another Handler must put [LimitBodies] around it to keep the limits for
// bodies; the limit for waits outside handlers is lost in any case.
//
// A request's header may take 10 s and 64 KiB, and a connection may be idle for
// 60 s. Each part of a request's body may take 60 s
// ([ConnectionLimits].BodyTimeout); if ReadTimeout is set, it applies instead.
// Calls of gRPC to a virtual service with a pool of HTTP/2 have no limit for
// parts: their clients send the next message when they like. An HTTP/2
// connection may have 250 streams, take nothing for 60 s and not answer for 45
// s; each of its streams may take 60 s for 64 KiB of a response, and for the
// rest. Whole requests and responses have no limit, since they may be streams.
//
// On connections from [VirtualService.Listener],
// [ConnectionLimits].WriteTimeout bounds writes, and takes the place of the 60
// s for a stream. Such a connection is also closed if net/http waits for the
// client while no handler runs, for instance for the body of a request with an
// unknown Expect: after 60 to 90 s, or later if another of the server's
// timeouts for reading is longer.
//
// Requests "OPTIONS *" go to h, too; net/http would answer them itself.
//
// If h is a [VirtualService] or the result of its Wrap, or has a method
// VirtualService that returns the one that answers, the server's error log
// goes to [Config].Logger, and [Stats] counts two kinds of failures: failed TLS
// handshakes, and connections from [VirtualService.Listener] whose first
// request net/http refuses or whose header never becomes complete. For these
// two kinds, and for HTTP/2 connections that fail, there is one line a second;
// for all other errors there are ten. Each line says how many others it stands
// for. Without a Logger, the lines of other kinds go to the standard logger of
// package log, at the same rates. With any other h, all lines of net/http do. A
// program that sets ErrorLog or ConnState itself has no such counts and limits.
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
	vs := serviceOf(h)
	if vs == nil {
		srv.ErrorLog = log.New(new(plainLog), "", 0)
		return srv
	}
	o := &serverObserver{vs: vs, server: srv, next: srv.Handler}
	srv.Handler, srv.ConnState, srv.ErrorLog = o, o.connState, log.New(o, "", 0)
	return srv
}

// serviceOf returns the virtual service that h belongs to; nil if there is
// none.
func serviceOf(h http.Handler) *VirtualService {
	switch h := h.(type) {
	case *VirtualService:
		return h
	case *wrapped:
		return h.vs
	case interface{ VirtualService() *VirtualService }:
		return h.VirtualService()
	}
	return nil
}

// LimitBodies returns a handler that calls h with limits: each part of a
// request's body has 60 s to arrive, and the client of an HTTP/2 stream has 60
// s to take each 64 KiB of the response. [NewServer] puts it around its
// handler; use it if you set another [net/http.Server].Handler later. If the
// server has a ReadTimeout, that applies to requests instead, and a
// WriteTimeout to responses. If h is a [VirtualService] or the result of its
// Wrap, [ConnectionLimits].BodyTimeout takes the place of the 60 s for bodies,
// [ConnectionLimits].WriteTimeout applies to the responses on connections from
// [VirtualService.Listener], and calls of gRPC have no limit for the parts of
// their bodies if one of its pools speaks HTTP/2. So it is if a pool of the
// virtual service that a call goes to does, behind an [http.ServeMux] or
// another handler with its method Handler.
//
// A read that takes longer fails with an error that matches
// [os.ErrDeadlineExceeded]. The connection ends with the request; in HTTP/2
// only the stream ends. A write that takes longer fails, and the stream is
// reset.
func LimitBodies(h http.Handler) http.Handler {
	vs := serviceOf(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
		if srv == nil {
			h.ServeHTTP(w, r)
			return
		}
		if r.Body != nil && r.Body != http.NoBody && srv.ReadTimeout <= 0 && !calls(h, r) {
			limited := *r
			server := http.NewResponseController(w)
			if r.ProtoMajor == 1 {
				body := &promptBody{ReadCloser: r.Body, server: server, limit: vs.bodyTimeout()}
				defer body.leave()
				body.wait()
				limited.Body = body
			} else {
				body := &promptStream{ReadCloser: r.Body, streamTimer: streamTimer{limit: vs.bodyTimeout(), setDeadline: server.SetReadDeadline}}
				defer body.leave()
				limited.Body = body
			}
			r = &limited
		}
		limit := vs.streamTimeout(r, srv)
		if limit <= 0 {
			h.ServeHTTP(w, r)
			return
		}
		server := http.NewResponseController(w)
		prompt := &promptWriter{ResponseWriter: w, server: server, streamTimer: streamTimer{limit: limit, setDeadline: server.SetWriteDeadline}}
		defer prompt.leave()
		h.ServeHTTP(prompt, r)
		if prompt.unsent.Load() {
			prompt.Flush()
		}
	})
}

// A router is a handler that hands requests over to others. It says to which
// one, as [http.ServeMux] does.
type router interface {
	Handler(r *http.Request) (h http.Handler, pattern string)
}

// calls reports whether a request is a call of gRPC that may go through h to a
// server of HTTP/2. Every client can claim that; where there is no such server
// the claim means nothing.
func calls(h http.Handler, r *http.Request) bool {
	if r.ProtoMajor == 1 || !httpfield.IsGRPC(r.Header) {
		return false
	}
	for range maxRouters {
		switch next := h.(type) {
		case *wrapped:
			if next.vs.hasHTTP2() {
				return true
			}
			h = next.next
		case router:
			h, _ = next.Handler(r)
		default:
			vs := serviceOf(next)
			return vs != nil && vs.hasHTTP2()
		}
	}
	return false
}

// maxRouters is how many handlers, one behind the other, calls looks at.
const maxRouters = 16

// hasHTTP2 reports whether a pool speaks HTTP/2 to its servers.
func (vs *VirtualService) hasHTTP2() bool {
	return slices.ContainsFunc(vs.current.Load().Pools, func(p *lbpool.Pool) bool { return p.Protocol() != lbpool.ProtocolHTTP1 })
}

// streamTimeout returns how long a client may take for each part of a response
// on its stream; 0 if a limit of the connection applies, or no limit. vs may be
// nil.
func (vs *VirtualService) streamTimeout(r *http.Request, srv *http.Server) time.Duration {
	if r.ProtoMajor == 1 || srv.WriteTimeout > 0 {
		return 0
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if c := vs.connOf(r, local); c != nil {
		return c.Stall()
	}
	return ConnectionLimits{}.writeTimeout()
}

// A streamTimer ends an HTTP/2 stream when a read or a write of it lasts too
// long. The connection may be in use meanwhile, so that no deadline of its own
// passes. Once a deadline of a stream has passed, the stream is lost, even if
// nobody was waiting. So a streamTimer sets none in advance, only one in the
// past when the time is over.
type streamTimer struct {
	limit       time.Duration
	setDeadline func(time.Time) error

	mu    sync.Mutex
	left  bool // the handler has returned, and the stream is not ours any more
	timer *idletimer.Timer
}

// begin notes that a read or a write begins.
func (t *streamTimer) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.left:
	case t.timer == nil:
		t.timer = idletimer.New(t.limit, t.expire)
	default:
		t.timer.Begin()
	}
}

// end notes that it has ended.
func (t *streamTimer) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer.End()
}

// leave notes that the stream is not ours any more.
func (t *streamTimer) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = true
	t.timer.Stop()
}

func (t *streamTimer) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.left {
		_ = t.setDeadline(time.Unix(1, 0)) // which has passed
	}
}

// A promptWriter resets an HTTP/2 stream if a write takes too long because the
// client has opened no window for it. LimitBodies flushes the rest when the
// handler returns, since net/http would send it without limit.
type promptWriter struct {
	http.ResponseWriter
	server *http.ResponseController
	unsent atomic.Bool // something was written since the last flush
	streamTimer
}

// streamChunk is how much is written under one limit. A client that takes it in
// time is slow, but alive.
const streamChunk = 64 << 10

// Write implements http.ResponseWriter.
func (w *promptWriter) Write(p []byte) (n int, err error) {
	w.unsent.Store(true)
	for {
		w.begin()
		m, err := w.ResponseWriter.Write(p[:min(len(p), streamChunk)])
		w.end()
		n, p = n+m, p[m:]
		if err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// WriteString implements io.StringWriter.
func (w *promptWriter) WriteString(s string) (int, error) {
	if len(s) > streamChunk {
		return w.Write([]byte(s))
	}
	w.unsent.Store(true)
	w.begin()
	defer w.end()
	return io.WriteString(w.ResponseWriter, s)
}

// Flush implements http.Flusher.
func (w *promptWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls for Flush.
func (w *promptWriter) FlushError() error {
	w.unsent.Store(false)
	w.begin()
	defer w.end()
	return w.server.Flush()
}

// Push implements http.Pusher.
func (w *promptWriter) Push(target string, opts *http.PushOptions) error {
	if p, ok := w.ResponseWriter.(http.Pusher); ok {
		return p.Push(target, opts)
	}
	return http.ErrNotSupported
}

// Unwrap is how http.ResponseController finds the server's writer.
func (w *promptWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A promptBody closes an HTTP/1 connection if the next part of the body does
// not arrive in time, for the handler or for net/http, which reads the rest
// that a handler leaves.
type promptBody struct {
	io.ReadCloser
	server *http.ResponseController
	limit  time.Duration

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

func (b *promptBody) wait() { b.setDeadline(time.Now().Add(b.limit)) }

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
// long. There is no limit while the handler is busy elsewhere, with a slow
// server for instance.
type promptStream struct {
	io.ReadCloser
	streamTimer
}

// Read reads the next part of the body.
func (b *promptStream) Read(p []byte) (int, error) {
	b.begin()
	defer b.end()
	return b.ReadCloser.Read(p)
}
